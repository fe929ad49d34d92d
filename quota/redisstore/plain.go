package redisstore

import (
	"context"
	"hash/maphash"
	"sync/atomic"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// plainUsers tells whose requests are probably plain. A function of Redis serves those, see library.lua, and a script serves
// the others. The outcome is the same, but to call a function for a request that is not plain is a call in vain. Most of
// these are known before: the first request of a user, and those that have a script delete what has ended. Several users
// share a slot, so it may be wrong.
type plainUsers struct {
	all   bool // all are, for tests
	seed  maphash.Seed
	slots [1 << 13]plainSlot
}

type plainSlot struct {
	since atomic.Int64 // when a script has served a user and found something counted, in ms since 1970; 0: never
	// vain counts calls in a row that were in vain: to reserve, to settle, and to settle a rest. From mostVain on, only one in
	// tryEvery is made, and vain also counts those that are not.
	vain [3]atomic.Int32
}

const mostVain, tryEvery = 2, 32

// overdue is OVERDUE of library.lua.
const overdue = time.Hour

func (p *plainUsers) slot(user string) *plainSlot {
	return &p.slots[maphash.String(p.seed, user)%uint64(len(p.slots))]
}

// isProbablyPlain reports whether a function should be tried first: a script has found something counted, so short a time ago
// that a function need not leave it to a script to delete what has ended since.
func (p *plainUsers) isProbablyPlain(user string, now time.Time, vain int) bool {
	slot := p.slot(user)
	age := now.UnixMilli() - slot.since.Load()
	switch {
	case p.all:
		return true
	case age < 0 || age >= overdue.Milliseconds():
		return false
	case slot.vain[vain].Load() < mostVain:
		return true
	}
	return slot.vain[vain].Add(1)%tryEvery == 0
}

// learn notes whether a call was in vain.
func (p *plainUsers) learn(user string, vain int, wasInVain bool) {
	v := &p.slot(user).vain[vain]
	switch n := v.Load(); {
	case !wasInVain && n > 0:
		v.Store(0)
	case wasInVain && n < mostVain:
		v.Add(1)
	}
}

// note notes what a script has found that has held a request of a user or counted one.
func (p *plainUsers) note(user string, l *layout, reply *script.Reply) {
	since := reply.Time.UnixMilli()
	if reply.Code != script.OK || len(reply.Numbers) != l.numbers || !l.isCounted(reply.Numbers) {
		since = 0
	}
	p.slot(user).since.Store(since)
}

// isCounted reports whether numbers that a script has returned say that something is counted in a window of a limit or, without
// limits, in that of the total.
func (l *layout) isCounted(numbers []int64) bool {
	for _, requests := range l.requests[:max(1, l.limits)] {
		if numbers[2*requests] != 0 {
			return true
		}
	}
	return false
}

// callPlain has a function serve a query, as call has a script do. Not called: the query is not plain, as far as is known, or
// Redis has no such function. Then nothing was done, and the script must be called, with the context rest.
func (s *Store) callPlain(ctx context.Context, q *query, o *outcome, l *layout) (at time.Time, called bool, rest context.Context, err error) {
	vain := 0
	switch {
	case q.settlesRest:
		vain = 2
	case q.settles:
		vain = 1
	}
	if q.appendPlain == nil || !s.plain.isProbablyPlain(q.user, s.Now(), vain) {
		return at, false, ctx, nil
	}
	b := runBuffers.Get().(*runBuffer)
	defer runBuffers.Put(b)
	b.args.Reset()
	terms := q.appendPlain(&b.args, o.plan, l)
	if terms == nil {
		return at, false, ctx, nil
	}
	called, err = s.client.Call(ctx, script.Key(s.prefix, q.user), s.offset().Milliseconds(), terms, &b.args, &b.reply)
	switch {
	case err != nil:
		return at, true, nil, s.explain(err)
	case !called:
		return at, false, redisclient.Instead(ctx, &b.reply), nil
	case script.IsRare(&b.reply.Reply):
		s.plain.learn(q.user, vain, true)
		return at, false, redisclient.Instead(ctx, &b.reply), nil
	}
	s.plain.learn(q.user, vain, false)
	at, err = s.readReply(&b.reply, l, &o.reply)
	return at, true, nil, err
}

// heldTerms are what a function is told of a request to hold that is the same for all requests with the same layout, lease, units
// and waited. The plan that a token claims is one of them: only users without an override have plain requests, so it is the
// plan of the layout.
type heldTerms struct {
	lease  time.Duration
	units  int64
	waited bool
	text   *resp.Args // nil: such requests are not plain
}

// termsToHold returns what a function is told of a request to hold. nil: it is not plain.
func (l *layout) termsToHold(r *quota.Reservation, p *quota.Plan) *resp.Args {
	if r.InObserveMode(p) {
		return nil
	}
	kept := l.heldTerms.Load()
	if kept == nil || kept.lease != r.Lease || kept.units != r.HeldUnits() || kept.waited != r.Waited {
		kept = l.makeTermsToHold(r, p)
	}
	return kept.text
}

// makeTermsToHold is not inlined: see outcomes.
//
//go:noinline
func (l *layout) makeTermsToHold(r *quota.Reservation, p *quota.Plan) *heldTerms {
	own := reserveArgs(r, p, l)
	made := &heldTerms{lease: r.Lease, units: r.HeldUnits(), waited: r.Waited, text: own.PlainTerms(&l.hold.Args)}
	l.heldTerms.Store(made)
	return made
}

// termsToSettle returns what a function is told that is the same for all plain settlements of one reservation
// with this layout, or of one rest. nil: this settlement is another one.
func (l *layout) termsToSettle(own *script.SettleArgs, p *quota.Plan) *resp.Args {
	if l.readingToSettle(own.PlainOne()).Indexes == "" {
		return nil
	}
	terms := &l.settledTerms[len(own.Rests)]
	if kept := terms.Load(); kept != nil {
		return kept
	}
	made := l.makeTermsToSettle(own, p)
	terms.Store(made)
	return made
}

// makeTermsToSettle is not inlined: see outcomes.
//
//go:noinline
func (l *layout) makeTermsToSettle(own *script.SettleArgs, p *quota.Plan) *resp.Args {
	crossings, ok := l.crossingsOf(own.PlainOne(), p)
	if !ok {
		return nil
	}
	own.Indexes = l.settle.Indexes
	return own.PlainTerms(&l.settle.Args, crossings)
}
