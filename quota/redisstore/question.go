package redisstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
)

// The codes of a script's answer, see common.lua and change.lua.
const (
	codeOK int64 = iota
	codeRefused
	codeOutdated
	codeSettled
	codeUnheld
	codeThrottled
	codeExhausted
	codeHeld
)

const (
	codeConflict int64 = iota + 10
	codeIDs
	codeNoLimit
	codeTooMany
)

// A question is one about a user, put to a script together with the gateway's view of
// him.
type question struct {
	script *redis.Script
	user   string
	// terms are his; zero: neither the plan nor any number matters.
	terms quota.PlanChoice
	// silent: no numbers are asked for, and the windows that have to hold are of kinds.
	silent bool
	kinds  func(*quota.Plan) []quota.Period // nil: none
	// at is when to look at the numbers; zero: now.
	at time.Time
	// own appends the script's own arguments; nil: there are none. It is called again
	// when the view was not right.
	own func(*args, *quota.Plan, []quota.Window)
}

// An answer is what a script said: the time and one count for each counter of the
// plan. Plan and windows are those that it was asked about; they are there also when
// it did not answer.
type answer struct {
	code     int64
	plan     *quota.Plan
	override quota.Override
	windows  []quota.Window
	at       time.Time
	counts   []quota.Count
	wait     time.Duration // for an attempt; only with codeThrottled
}

// fill lays the numbers out. Inlined, its temporary Snapshot would be on the stack during
// the call of Redis, too, which is the deepest of a request.
//
//go:noinline
func (a *answer) fill(s *quota.Snapshot) {
	*s = a.plan.NewSnapshot(a.at, a.counts)
	s.Override = a.override
}

// view lays out what a question needs of a plan, nil if it needs none.
func (s *Store) view(q *question, p *quota.Plan, at time.Time) *view {
	switch {
	case p != nil && !q.silent && q.at.IsZero():
		return s.views.of(p, at, s.calendar)
	case p != nil && !q.silent: // in the past nothing has to hold
		return newView(nil, p, s.calendar.WindowsAt(p.Periods(), q.at))
	}
	var kinds []quota.Period
	if q.kinds != nil {
		kinds = q.kinds(p)
	}
	return newView(s.calendar.WindowsAt(kinds, at), nil, nil)
}

// ask puts a question with the windows of Redis's time and the user's override, both
// as last seen, and once or twice more when they do not hold. It fills a; plan
// and windows also with an error.
func (s *Store) ask(ctx context.Context, q *question, a *answer) error {
	key := s.key(q.user)
	at, believed := s.Now(), "*"
	if q.terms.Claimed != nil {
		believed = s.overrides.of(q.user)
	}
	sent := buffers.Get().(*args)
	defer buffers.Put(sent)
	for range 3 {
		if q.terms.Claimed != nil {
			a.override = parseOverride(believed)
			a.plan = q.terms.Effective(a.override)
		}
		v := s.view(q, a.plan, at)
		a.windows = v.windows
		sent.clear()
		sent.number(s.offset().Milliseconds())
		sent.text(q.user)
		sent.text(believed)
		sent.add(v.args)
		if q.own != nil {
			q.own(sent, a.plan, a.windows)
		}
		res, err := s.script(ctx, q.script, key, sent)
		if err != nil {
			return err
		}
		r, err := parseReply(res, 2*v.pairs, v.limits)
		if err != nil {
			return err
		}
		s.expired.Add(r.expired)
		at = r.at.In(s.calendar.Location())
		s.ahead.Store(int64(at.Sub(res.sent.Add(res.received.Sub(res.sent) / 2))))
		if r.code == codeOutdated {
			if believed != "*" {
				believed = r.override
				s.overrides.note(q.user, believed)
			}
			continue
		}
		a.code, a.at, a.wait = r.code, at, r.wait
		a.counts = v.filled(r.numbers)
		return nil
	}
	return errors.New("the store's clock or the user's plan changed three times during one call")
}

// buffers are for the arguments of calls under way.
var buffers = sync.Pool{New: func() any { return new(args) }}

// A reply is what the result of a script means.
type reply struct {
	code     int64
	at       time.Time
	expired  int64         // leases that were found to have run out
	override string        // with codeOutdated
	wait     time.Duration // with codeThrottled
	numbers  []int64
}

// parseReply reads a result of code, time, expired leases, so many numbers and perhaps
// so many grants, or one that says that the view is outdated.
func parseReply(res result, numbers, grants int) (r reply, err error) {
	n := res.numbers
	if len(n) > 3 && n[0] == codeThrottled {
		r.wait = time.Duration(n[len(n)-1]) * time.Microsecond
		n = n[:len(n)-1]
	}
	if len(n) < 3 || n[0] != codeOutdated && len(n) != 3+numbers && len(n) != 3+numbers+grants {
		return r, fmt.Errorf("a script of the store answered %d values, want %d", len(res.numbers), 3+numbers)
	}
	r.code, r.at, r.expired, r.override, r.numbers = n[0], time.UnixMilli(n[1]), n[2], res.text, n[3:]
	return r, nil
}
