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
	s.Override = o.override
}

// layout returns what a query needs of a plan, which may be nil.
func (s *Store) layout(q *query, p *quota.Plan, at time.Time) *layout {
	switch {
	case q.periods != nil:
		return newLayout(s.calendar.WindowsAt(q.periods(p), at), nil, nil)
	case p == nil:
		return newLayout(nil, nil, nil)
	case q.at.IsZero():
		return s.layouts.forPlan(p, at, s.calendar)
	}
	return newLayout(nil, p, s.calendar.WindowsAt(p.Periods(), q.at)) // in the past, no window has to run
}

// ask runs a query. It assumes the windows of Redis's time and the user's override, both as
// last seen. If the script says that an assumption is wrong, ask corrects it and asks again,
// up to three times in all. It fills o; plan and windows also with an error.
func (s *Store) ask(ctx context.Context, q *query, o *outcome) error {
	key := script.Key(s.prefix, q.user)
	at, override := s.Now(), script.AnyOverride
	if q.plans.Claimed != nil {
		override = s.overrides.lastSeen(q.user)
	}
	args := argsPool.Get().(*resp.Args)
	defer argsPool.Put(args)
	for range 3 {
		if q.plans.Claimed != nil {
			o.override = parseOverride(override)
			o.plan = q.plans.Effective(o.override)
		}
		l := s.layout(q, o.plan, at)
		o.windows = l.windows
		args.Reset()
		common := script.CommonArgs{Offset: s.offset(), ID: q.user, Override: override}
		common.AppendTo(args)
		args.AddAll(&l.args)
		if q.appendArgs != nil {
			q.appendArgs(args, o.plan, l)
		}
		raw, err := s.client.Run(ctx, q.script, key, args)
		if err != nil {
			return s.explain(err)
		}
		reply, err := script.ParseReply(&raw.Reply, l.counters, l.limits)
		if err != nil {
			return err
		}
		s.expired.Add(reply.Expired)
		at = reply.Time.In(s.calendar.Location())
		s.redisAhead.Store(int64(at.Sub(raw.Sent.Add(raw.Received.Sub(raw.Sent) / 2))))
		if reply.Code == script.Outdated {
			if override != script.AnyOverride {
				override = reply.Override
				s.overrides.see(q.user, override)
			}
			continue
		}
		o.reply, o.at = reply, at
		o.counts = l.countsOf(reply.Numbers)
		return nil
	}
	return errors.New("the store's clock or the user's plan changed three times during one call")
}

// argsPool holds arguments to use again.
var argsPool = sync.Pool{New: func() any { return new(resp.Args) }}
