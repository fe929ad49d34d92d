package redisstore

import (
	"context"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
)

// Reserve implements quota.Store. With an error of Redis, the windows of the Reservation are
// those that the gateway assumes to run.
func (s *Store) Reserve(ctx context.Context, request quota.Request) (*quota.Decision, error) {
	d := &quota.Decision{Reservation: quota.Reservation{Request: request}}
	r := &d.Reservation
	o := outcomes.Get().(*outcome)
	defer o.free()
	q := query{script: script.Reserve, user: r.User, plans: r.Plans, keepsTerms: true, holds: r.Endpoint, weighted: r.HeldUnits() > 1}
	q.appendArgs = func(args *resp.Args, p *quota.Plan, l *layout) {
		own := reserveArgs(r, p, l)
		own.AppendTo(args)
	}
	q.appendPlain = func(own *resp.Args, p *quota.Plan, l *layout) *resp.Args {
		script.AppendPlain(own, r.ID)
		return l.termsToHold(r, p)
	}
	err := s.ask(ctx, &q, o)
	if err == nil && o.reply.Code == script.Crowded && s.awaitDeparture(ctx, o.departing) {
		// A client that has its response finds the place of that request free.
		r.Waited = true // it has taken its token
		err = s.ask(ctx, &q, o)
	}
	r.Plan, r.Windows, r.PoolWindows, r.Date, r.BillHour = o.plan, o.windows, o.poolWindows, o.date, o.hour
	if err != nil {
		return d, err
	}
	if o.reply.Code == script.Held {
		s.fillHeld(r, o)
	}
	if o.reply.Admitted() && o.plan.ConcurrencyLimit().Requests > 0 {
		s.places.add(r.User, r.ID)
	}
	if err := o.decide(d); err != nil {
		return d, err
	}
	if d.Admitted && len(o.plan.NotifyAt()) > 0 {
		s.expectCrossings(ctx, d, o.reply.Code == script.Held)
	}
	return d, nil
}

// reserveArgs returns what reserve.lua is told of a request, by a plan and its layout.
func reserveArgs(r *quota.Reservation, p *quota.Plan, l *layout) (own script.ReserveArgs) {
	own = script.ReserveArgs{
		ID: r.ID, Endpoint: r.Endpoint, Lease: r.Lease, Windows: l.windows,
		Observed: r.InObserveMode(p), Claimed: r.Plans.Claimed.Name(), Units: r.HeldUnits(),
		Concurrent: p.ConcurrencyLimit(), Limits: p.Limits(), Allowed: l.allowed, RequestsOf: l.requests, Indexes: l.hold.Indexes,
	}
	if !r.Waited {
		own.Attempts = p.AttemptLimit()
	}
	return own
}

// decide fills in what the script said about a request. Error: quota.ErrSettled.
func (o *outcome) decide(d *quota.Decision) error {
	r := &d.Reservation
	if o.reply.NewlyHeld() {
		for i, c := range o.plan.Counters() {
			if c.Endpoint == "" || c.Endpoint == r.Endpoint {
				o.counts[i].Held += r.HeldIn(c.Quantity)
			}
		}
	}
	o.fill(&d.Snapshot)
	switch {
	case o.reply.Admitted():
		d.Admitted = true
		d.ReportWouldBlock(o.reply.Code == script.Exhausted, o.reply.Code == script.Overfull)
	case o.reply.Code == script.Crowded:
		d.NoPlace = true
	case o.reply.Code == script.Throttled:
		d.AttemptWait = o.reply.AttemptWait
	case o.reply.Code == script.Settled:
		return quota.ErrSettled
	}
	return nil
}

// fillHeld fills in the windows, the date and the hour of a request that is held already. Others may run
// now, and another plan may apply.
func (s *Store) fillHeld(r *quota.Reservation, o *outcome) {
	ends, held := script.ParseLease(o.reply.Lease)
	_, heldInPool := script.ParseLease(o.reply.PoolLease)
	r.Windows = s.windowsByID(o.account.terms, held)
	r.PoolWindows = s.windowsByID(o.pool.terms, heldInPool)
	began := ends.Add(-r.Lease.Truncate(time.Millisecond))
	if r.Date != 0 {
		r.Date = s.calendar.DateAt(began)
	}
	if r.BillHour != 0 {
		r.BillHour = quota.BillHourAt(began)
	}
}

// windowsByID returns the windows of a lease. Hours and minutes of another time zone are left out: here
// they limit nothing.
func (s *Store) windowsByID(terms quota.Terms, ids []string) (windows []quota.Window) {
	for _, id := range ids {
		if w, err := terms.WindowByID(s.calendar, id); err == nil {
			windows = append(windows, w)
		}
	}
	return windows
}
