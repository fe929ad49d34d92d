package redisstore

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// A query is a call of a script about one account.
type query struct {
	script *redis.Script
	user   string
	// plans are those that may apply to the user. If they are zero, neither the plan nor any
	// count matters.
	plans quota.PlanChoice
	// periods returns those whose windows must run, for a query that wants no counts; nil: the
	// counts of the plan are wanted.
	periods func(*quota.Plan) []quota.Period
	// at is the time whose counts are wanted; zero: now.
	at time.Time
	// keepsTerms: the account's terms are brought up to date in Redis. Otherwise the query only
	// takes for granted that they were.
	keepsTerms bool
	// holds is the endpoint of the request that a query holds; empty: it holds none.
	holds string
	// weighted: that request holds more than one unit.
	weighted bool
	// settlesOne is script.SettleArgs.PlainOne of a query that settles. generally: only a function settles it in a plain way.
	settlesOne *quota.Reservation
	generally  bool
	// settles: the query settles reservations, those of a member in the pool as well.
	settles, settlesRest bool
	// appendArgs appends the script's own arguments; nil: it has none. It is called again
	// when an assumption was wrong. Windows are those that are assumed to run.
	appendArgs func(args *resp.Args, p *quota.Plan, l *layout)
	// appendPlain appends what the function of script.Library is told for this query alone, and returns the terms. It
	// returns nil if the query is not plain. If appendPlain itself is nil, the query never is.
	appendPlain func(own *resp.Args, p *quota.Plan, l *layout) (terms *resp.Args)
	// beforeRepeat is called before it is sent again; nil: nothing need be done.
	beforeRepeat func()
	try          int // how often it was sent before
}

// poolAccount returns the account of the pool that the query is about as well; empty: none is. The pool
// of a member has a part in all that depends on the plan: its override decides about that.
func (q *query) poolAccount() string {
	if q.plans.Claimed == nil && !q.settles {
		return ""
	}
	return quota.PoolOf(q.user)
}

// An outcome is what a script returned, together with what it was asked by. Plan and windows
// are there even if the script did not reply.
type outcome struct {
	reply       script.Reply
	plan        *quota.Plan // nil if the query has no plans
	account     assumed
	pool        assumed // zero unless the account is a member
	windows     []quota.Window
	poolWindows []quota.Window
	date        quota.Date     // that is assumed; 0: no history is kept
	hour        quota.BillHour // likewise; 0: nothing is kept for bills
	at          time.Time      // Redis's time, in the zone of the calendar
	counts      []quota.Count  // one for each counter of the plan
	// recorded are the accounts of which the query has recorded a crossing.
	recorded []string
	// departing is that of places before Redis was asked for one.
	departing <-chan struct{}
}

// outcomes holds outcomes to use again. On the stack, one would be in the way of the call of Redis: there the stack of a
// request is deepest, and it keeps its size while the request waits for its upstream. Up to 7,264 bytes it takes 8 KiB,
// beyond that 16. That is also why some functions here are not inlined: what they need would lie there as well.
var outcomes = sync.Pool{New: func() any { return new(outcome) }}

// free gives o back to outcomes.
func (o *outcome) free() {
	*o = outcome{}
	outcomes.Put(o)
}

// assumed is what a gateway assumes of an account.
type assumed struct {
	account string
	// text is the override and the terms, see script.CommonArgs. That of a pool whose terms do not matter
	// to the query has none.
	text     string
	override quota.Override
	terms    quota.Terms // zero if the query's plans have no Terms
	// termsText is terms as a text. It differs from that in text if the terms need a change that the
	// query does not keep.
	termsText string
}

// fill lays the counts out. If it were inlined, its temporary Snapshot would be on the stack
// while Redis is called, where the stack of a request is deepest.
//
//go:noinline
func (o *outcome) fill(s *quota.Snapshot) {
	*s = o.plan.NewSnapshot(o.at, o.counts)
	s.Override, s.Terms = o.account.override.Or(o.pool.override), o.account.terms
	if o.pool.account != "" {
		s.Pool = &quota.Pool{Override: o.pool.override, Terms: o.pool.terms}
	}
}

// layout returns what a query needs of the plan of an outcome, which may be nil.
func (s *Store) layout(q *query, o *outcome, at time.Time) *layout {
	if o.plan != nil && q.periods == nil && q.at.IsZero() {
		return s.layouts.forPlan(o, q.plainRequests(), at, s.calendar, s.history > 0, s.billing > 0)
	}
	return s.layoutApart(q, o, at)
}

// layoutApart is layout for a query that wants no counts, or those of the past. It is not inlined: see outcomes.
//
//go:noinline
func (s *Store) layoutApart(q *query, o *outcome, at time.Time) *layout {
	switch {
	case q.periods != nil:
		running := laidOut{windows: o.account.terms.WindowsAt(s.calendar, q.periods(o.plan), at)}
		if s.history > 0 {
			running.onDayOf(at, s.calendar)
		}
		return newLayout(running, nil, laidOut{}, plainRequests{})
	case o.plan == nil:
		return newLayout(laidOut{}, nil, laidOut{}, plainRequests{})
	}
	// In the past, no window has to run.
	return newLayout(laidOut{}, o.plan, layOut(o, s.calendar, q.at), plainRequests{})
}

// plainRequests returns what the request that a query holds is, or the only one that it settles; zero for other queries.
func (q *query) plainRequests() plainRequests {
	if q.settlesOne != nil {
		return plainRequests{q.settlesOne.Endpoint, q.settlesOne.HeldUnits() > 1}
	}
	return plainRequests{q.holds, q.weighted}
}

// reading returns what a query reads of a layout.
func (q *query) reading(l *layout) *script.Reading {
	if q.holds != "" {
		return l.hold
	}
	if q.generally {
		return l.read
	}
	return l.readingToSettle(q.settlesOne)
}

// askTries is how often a query is sent: once, and again while an assumption is wrong. The terms of a pool
// may change several times while its first members come at once.
const askTries = 10

// ask runs a query. It assumes the windows of Redis's time, the account's override and its terms, all
// as last seen, and those of a member's pool. If the script says that an assumption is wrong, ask
// corrects it and asks again. It fills o; plan and windows also with an error.
func (s *Store) ask(ctx context.Context, q *query, o *outcome) error {
	at := s.Now()
	s.assume(q, q.user, &o.account)
	s.assume(q, q.poolAccount(), &o.pool)
	for q.try = range askTries {
		if q.try > 0 && q.beforeRepeat != nil {
			q.beforeRepeat()
		}
		var unknown error // the terms could not be read
		if q.plans.Claimed != nil {
			unknown = s.choosePlan(ctx, q, o, at)
		}
		l := s.layout(q, o, at)
		o.windows, o.poolWindows, o.date, o.hour = l.windows, l.poolWindows, l.date, l.hour
		if unknown != nil {
			return unknown
		}
		if q.script == script.Reserve && o.plan.ConcurrencyLimit().Requests > 0 {
			o.departing = s.places.departing(q.user)
		}
		received, called, rest, err := s.callPlain(ctx, q, o, l)
		if !called && err == nil {
			received, err = s.call(rest, q.script, o, l, q.reading(l), func(args *resp.Args) {
				if q.appendArgs != nil {
					q.appendArgs(args, o.plan, l)
				}
				if o.pool.account != "" {
					q.appendPool(args, o, l)
				}
			})
		}
		if err != nil {
			return err
		}
		at = received
		reply := &o.reply
		if q.appendPlain != nil && o.plan != nil && !called {
			s.plain.note(q.user, l, reply)
		}
		if reply.Recorded {
			o.recorded = append(o.recorded, o.account.account)
		}
		if reply.RecordedInPool {
			o.recorded = append(o.recorded, o.pool.account)
		}
		if reply.Code == script.Outdated {
			if q.plans.Claimed != nil {
				s.learn(&o.account, reply.Assumed)
				s.learn(&o.pool, reply.PoolAssumed)
			}
			continue
		}
		o.at = at
		o.counts = l.countsOf(reply.Numbers)
		return nil
	}
	return quota.ErrContended
}

// appendPool appends what a script is told of the pool. It is not inlined: see outcomes.
//
//go:noinline
func (q *query) appendPool(args *resp.Args, o *outcome, l *layout) {
	block := script.PoolBlock{Account: o.pool.account, Assumed: o.pool.text, Counters: l.inRedis}
	if q.holds != "" {
		block.Endpoint, block.Windows = q.holds, l.poolWindows
	}
	block.AppendTo(args)
}

// assume sets a to what was last seen of an account, as far as it matters to a query. An empty account is
// no account.
func (s *Store) assume(q *query, account string, a *assumed) {
	*a = assumed{account: account, text: script.AnyOverride}
	if q.plans.Claimed != nil && account != "" {
		a.text = s.overrides.lastSeen(account, q.plans.Terms)
	}
}

// learn corrects what was assumed of an account.
func (s *Store) learn(a *assumed, text string) {
	if a.account != "" {
		a.text = text
		s.overrides.see(a.account, text)
	}
}

// choosePlan fills in the plan and the terms by what is assumed.
func (s *Store) choosePlan(ctx context.Context, q *query, o *outcome, at time.Time) (err error) {
	if q.plans.Terms {
		err = s.prepareTerms(ctx, q, o, at)
	}
	o.account.override, o.pool.override = overrideIn(o.account.text), overrideIn(o.pool.text)
	o.plan = q.plans.Effective(o.account.override.Or(o.pool.override))
	return err
}

// overrideIn returns the override of what is assumed of an account.
func overrideIn(text string) quota.Override {
	return parseOverride(script.ParseAssumption(text).Override)
}

// call sends a script once, about the account and the pool of an outcome, whose reply it fills in. It returns the
// reply's time, in the calendar's zone.
func (s *Store) call(ctx context.Context, sc *redis.Script, o *outcome, l *layout, reading *script.Reading, appendArgs func(*resp.Args)) (time.Time, error) {
	poolKey := ""
	if o.pool.account != "" {
		poolKey = script.Key(s.prefix, o.pool.account)
	}
	common := script.CommonArgs{Offset: s.offset(), ID: o.account.account, Assumed: o.account.text}
	return s.callKeys(ctx, sc, script.Key(s.prefix, o.account.account), poolKey, common, l, reading, &o.reply, appendArgs)
}

// callKeys is call for a key, and for a second one unless that is empty.
func (s *Store) callKeys(ctx context.Context, sc *redis.Script, key, poolKey string, common script.CommonArgs, l *layout, reading *script.Reading, reply *script.Reply, appendArgs func(*resp.Args)) (time.Time, error) {
	b := runBuffers.Get().(*runBuffer)
	defer runBuffers.Put(b)
	args := &b.args
	args.Reset()
	common.AppendTo(args)
	args.AddAll(&reading.Args)
	appendArgs(args)
	if err := s.client.Run(ctx, sc, key, poolKey, args, &b.reply); err != nil {
		return time.Time{}, s.explain(err)
	}
	return s.readReply(&b.reply, l, reply)
}

// readReply reads what Redis replied. It is not inlined: see outcomes.
//
//go:noinline
func (s *Store) readReply(raw *redisclient.Reply, l *layout, reply *script.Reply) (time.Time, error) {
	read, err := script.ParseReply(&raw.Reply, l.numbers, l.limits)
	if err != nil {
		return time.Time{}, err
	}
	*reply = read
	s.expired.Add(read.Expired)
	s.redisAhead.Store(int64(read.Time.Sub(raw.Sent.Add(raw.Received.Sub(raw.Sent) / 2))))
	return read.Time.In(s.calendar.Location()), nil
}

// callAlone is call for an account alone, also if it is a member. It returns the reply as well.
func (s *Store) callAlone(ctx context.Context, sc *redis.Script, account, text string, l *layout, appendArgs func(*resp.Args)) (script.Reply, time.Time, error) {
	o := outcome{account: assumed{account: account, text: text}}
	at, err := s.call(ctx, sc, &o, l, l.read, appendArgs)
	return o.reply, at, err
}

// A runBuffer has the arguments and the reply of a script. On the stack, they would be in the way: see outcomes.
type runBuffer struct {
	args  resp.Args
	reply redisclient.Reply
}

// runBuffers holds buffers to use again.
var runBuffers = sync.Pool{New: func() any { return new(runBuffer) }}
