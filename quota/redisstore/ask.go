package redisstore

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// A query is a call of a script about one user.
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
	// appendArgs appends the script's own arguments; nil: it has none. It is called again
	// when an assumption was wrong. Windows are those that are assumed to run.
	appendArgs func(args *resp.Args, p *quota.Plan, l *layout)
}

// An outcome is what a script returned, together with what it was asked by. Plan and windows
// are there even if the script did not reply.
type outcome struct {
	reply    script.Reply
	plan     *quota.Plan // nil if the query has no plans
	override quota.Override
	terms    quota.Terms // zero if the query's plans have no Terms
	windows  []quota.Window
	at       time.Time     // Redis's time, in the zone of the calendar
	counts   []quota.Count // one for each counter of the plan
}

// fill lays the counts out. If it were inlined, its temporary Snapshot would be on the stack
// while Redis is called, where the stack of a request is deepest.
//
//go:noinline
func (o *outcome) fill(s *quota.Snapshot) {
	*s = o.plan.NewSnapshot(o.at, o.counts)
	s.Override, s.Terms = o.override, o.terms
}

// layout returns what a query needs of a plan, which may be nil, for an account with these terms,
// also as a text.
func (s *Store) layout(q *query, p *quota.Plan, terms quota.Terms, text string, at time.Time) *layout {
	switch {
	case q.periods != nil:
		return newLayout(terms.WindowsAt(s.calendar, q.periods(p), at), nil, nil, terms)
	case p == nil:
		return newLayout(nil, nil, nil, terms)
	case q.at.IsZero():
		return s.layouts.forPlan(p, terms, text, at, s.calendar)
	}
	return newLayout(nil, p, terms.WindowsAt(s.calendar, p.Periods(), q.at), terms) // in the past, no window has to run
}

// askTries is how often a query is sent: once, and again for each assumption that may be wrong.
const askTries = 3

// ask runs a query. It assumes the windows of Redis's time, the account's override and its terms, all
// as last seen. If the script says that an assumption is wrong, ask corrects it and asks again.
// It fills o; plan and windows also with an error.
func (s *Store) ask(ctx context.Context, q *query, o *outcome) error {
	at, assumed := s.Now(), script.AnyOverride
	if q.plans.Claimed != nil {
		assumed = s.overrides.lastSeen(q.user, q.plans.Terms)
	}
	for range askTries {
		text := ""
		if q.plans.Claimed != nil {
			assumption := script.ParseAssumption(assumed)
			if q.plans.Terms {
				var err error
				if assumption, text, err = s.prepareTerms(ctx, q, o, assumption, at); err != nil {
					return err
				}
				assumed = assumption.String()
			}
			o.override = parseOverride(assumption.Override)
			o.plan = q.plans.Effective(o.override)
		}
		l := s.layout(q, o.plan, o.terms, text, at)
		o.windows = l.windows
		reply, received, err := s.call(ctx, q.script, q.user, assumed, l, func(args *resp.Args) {
			if q.appendArgs != nil {
				q.appendArgs(args, o.plan, l)
			}
		})
		if err != nil {
			return err
		}
		at = received
		if reply.Code == script.Outdated {
			if assumed != script.AnyOverride {
				assumed = reply.Assumed
				s.overrides.see(q.user, assumed)
			}
			continue
		}
		o.reply, o.at = reply, at
		o.counts = l.countsOf(reply.Numbers)
		return nil
	}
	return errChanged
}

// errChanged: each time that a call was made, something else was different.
var errChanged = errors.New("the store's clock, the user's plan or its terms changed again and again during one call")

// call sends a script once, with what is assumed of an account. It returns the reply and its time, in
// the calendar's zone.
func (s *Store) call(ctx context.Context, sc *redis.Script, user, assumed string, l *layout, appendArgs func(*resp.Args)) (script.Reply, time.Time, error) {
	args := argsPool.Get().(*resp.Args)
	defer argsPool.Put(args)
	args.Reset()
	common := script.CommonArgs{Offset: s.offset(), ID: user, Assumed: assumed}
	common.AppendTo(args)
	args.AddAll(&l.args)
	appendArgs(args)
	raw, err := s.client.Run(ctx, sc, script.Key(s.prefix, user), args)
	if err != nil {
		return script.Reply{}, time.Time{}, s.explain(err)
	}
	reply, err := script.ParseReply(&raw.Reply, l.counters, l.limits)
	if err != nil {
		return script.Reply{}, time.Time{}, err
	}
	s.expired.Add(reply.Expired)
	s.redisAhead.Store(int64(reply.Time.Sub(raw.Sent.Add(raw.Received.Sub(raw.Sent) / 2))))
	return reply, reply.Time.In(s.calendar.Location()), nil
}

// argsPool holds arguments to use again.
var argsPool = sync.Pool{New: func() any { return new(resp.Args) }}
