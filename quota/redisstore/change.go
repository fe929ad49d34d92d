package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// ApplyChange implements quota.Store, and announces the change to the gateways. The snapshot is
// read after it, in a second call.
func (s *Store) ApplyChange(ctx context.Context, user string, plans quota.PlanChoice, c quota.Change) (quota.Snapshot, error) {
	if err := c.Validate(user); err != nil {
		return quota.Snapshot{}, err
	}
	if a, ok := c.SetsAnchor(s.calendar.Location()); ok {
		if err := s.changeAnchor(ctx, user, a, c); err != nil {
			return quota.Snapshot{}, err
		}
		return s.Read(ctx, user, plans)
	}
	q := query{script: script.Change, user: user}
	alerts := changesAlerts(c) && plans.Notifies()
	var o outcome
	if plans.Terms || alerts { // the windows, or the thresholds, depend on the account
		q.plans = plans
		q.plans.Anchor = nil
		q.periods = func(*quota.Plan) []quota.Period { return nil } // the script returns no counts
	}
	switch c.Action {
	case quota.ActionGrant:
		q.plans = plans // the limit depends on the plan
		q.periods = func(p *quota.Plan) []quota.Period {
			if i, ok := c.LimitIndex(p); ok {
				return []quota.Period{p.Limits()[i].Period}
			}
			return nil
		}
	case quota.ActionReset:
		q.periods = allPeriods
	case quota.ActionSetPlan, quota.ActionClearPlan:
		if alerts {
			q.periods = allPeriods
		}
	case quota.ActionSetCounts:
		q.periods = func(*quota.Plan) []quota.Period { return []quota.Period{c.Period} }
	}
	// A pool has no history.
	changesToday := quota.ScopeOf(user) != quota.PoolScope && (c.Action == quota.ActionReset || c.Action == quota.ActionSetCounts && c.Period == quota.Day)
	q.appendArgs = func(args *resp.Args, p *quota.Plan, l *layout) {
		own := script.ChangeArgs{Change: c, Entry: c, Windows: l.windows, Keep: s.keep}
		if changesToday && l.date != 0 {
			own.Date, own.HistoryDays = l.date, s.history
		}
		if c.Action == quota.ActionGrant {
			if i, ok := c.LimitIndex(p); ok {
				limit := p.Limits()[i]
				own.GrantField = script.GrantField(script.CounterName(l.windows[0].ID, limit.Endpoint), limit.Quantity)
				own.Entry.Period = limit.Period
			}
		}
		if alerts && setsPlan(c) {
			if after := s.planAfter(p, plans, c, &o); after.Name() == p.Name() || len(p.NotifyAt())+len(after.NotifyAt()) == 0 {
				own.Windows = nil
			}
		}
		own.AppendTo(args)
	}
	if alerts {
		s.addChangeAlerts(ctx, &q, plans, c, &o)
	}
	err := s.ask(ctx, &q, &o)
	s.index.noteRecorded(o.recorded)
	if err != nil {
		return quota.Snapshot{}, err
	}
	if err := o.reply.ChangeError(); err != nil {
		return quota.Snapshot{}, err
	}
	return s.Read(ctx, user, plans)
}

func allPeriods(*quota.Plan) []quota.Period {
	all := quota.Periods()
	return all[:]
}

func setsPlan(c quota.Change) bool {
	return c.Action == quota.ActionSetPlan || c.Action == quota.ActionClearPlan
}

// planAfter is the plan that applies after a change, if p applies before it.
func (s *Store) planAfter(p *quota.Plan, plans quota.PlanChoice, c quota.Change, o *outcome) *quota.Plan {
	if !setsPlan(c) {
		return p
	}
	override := quota.Override{Plan: c.Plan, Until: c.Until}.ActiveAt(s.Now())
	return plans.Effective(override.Or(o.pool.override))
}

// changesAlerts reports whether a change may take a count to a threshold, or below one.
func changesAlerts(c quota.Change) bool {
	switch c.Action {
	case quota.ActionReset, quota.ActionSetCounts, quota.ActionSetPlan, quota.ActionClearPlan:
		return true
	}
	return false
}

// addChangeAlerts has the query of a change record crossings, of the account's own limits.
func (s *Store) addChangeAlerts(ctx context.Context, q *query, plans quota.PlanChoice, c quota.Change, o *outcome) {
	q.script = script.ChangeAlerting
	appendArgs := q.appendArgs
	if c.Action != quota.ActionReset {
		s.index.expect(ctx, q.user)
	}
	q.appendArgs = func(args *resp.Args, p *quota.Plan, l *layout) {
		appendArgs(args, p, l)
		at, after := s.Now(), s.planAfter(p, plans, c, o)
		script.AppendAlerts(args, script.SettleIfRight, after.NotifyAt(), func() {
			for i, limit := range after.Limits() {
				if c.Action == quota.ActionReset || c.Action == quota.ActionSetCounts && limit.Period != c.Period || after.Counters()[i].Shared {
					continue
				}
				w := o.account.terms.WindowAt(s.calendar, limit.Period, at)
				if c.Action == quota.ActionSetCounts {
					w = l.windows[0]
				}
				allows := func(limit quota.Limit) int64 {
					carried, _ := o.account.terms.Carried(w.ID, limit)
					return limit.AllowedIn(w) + carried
				}
				alert := script.Alert{Plan: after, Limit: i, Window: w, Allowed: allows(limit), Changes: setsPlan(c), Before: -1}
				for j, before := range p.Limits() {
					if before.Name() == limit.Name() && !p.Counters()[j].Shared {
						alert.Before = allows(before)
					}
				}
				alert.AppendTo(args)
			}
		})
	}
}

// changeAnchor sets the anchor of an account, or clears it.
func (s *Store) changeAnchor(ctx context.Context, user string, a *quota.Anchor, c quota.Change) error {
	for range termsTries {
		found, at, err := s.look(ctx, user)
		if err != nil {
			return err
		}
		before, err := quota.ParseTerms(found.Terms)
		if err != nil {
			return err
		}
		after := before.SetAnchor(a, s.calendar, at, found.Activity())
		own := script.ChangeArgs{Change: c, Entry: c, Keep: s.keep, Terms: after.String()}
		if before.MovesRunning(after, s.calendar, at) {
			own.Idle = &found
		}
		l := newLayout(laidOut{windows: before.WindowsAt(s.calendar, []quota.Period{quota.Month, quota.Year}, at)}, nil, laidOut{}, plainRequests{})
		reply, _, err := s.callAlone(ctx, script.Change, user, found.Assumption.String(), l, own.AppendTo)
		if err != nil {
			return err
		}
		if reply.Code != script.Outdated {
			return reply.ChangeError()
		}
	}
	return quota.ErrContended
}

// AuditLog implements quota.Store.
func (s *Store) AuditLog(ctx context.Context, user string) ([]quota.AuditEntry, error) {
	text, err := s.readField(ctx, user, script.FieldAudit)
	if err != nil {
		return nil, err
	}
	_, list, _ := strings.Cut(text, "\n")
	oldest := s.Now().Add(-s.keep)
	var entries []quota.AuditEntry
	for line := range strings.Lines(list) {
		at, change, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
		ms, err := strconv.ParseInt(at, 10, 64)
		if err != nil {
			return nil, fmt.Errorf("reading the audit log: %w", err)
		}
		e, err := quota.DecodeAuditEntry(time.UnixMilli(ms).In(s.calendar.Location()), []byte(change))
		if err != nil {
			return nil, fmt.Errorf("reading the audit log: %w", err)
		}
		if e.At.After(oldest) {
			entries = append(entries, e)
		}
	}
	return entries, nil
}
