package boltstore

import (
	"context"
	"time"

	"metergate/quota"
)

// Reserve holds one unit for r, see quota.Store. Nothing is written to disk. Errors are
// quota.ErrSettled, ErrClosed, and those of ctx and of the disk; the request then holds
// nothing more than before.
func (s *Store) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	if err := ctx.Err(); err != nil {
		return &quota.Decision{Reservation: s.newReservation(r, r.Plans.Claimed, s.now())}, err
	}
	sh, now, err := s.lockUser(r.User)
	d := &quota.Decision{Reservation: s.newReservation(r, r.Plans.Claimed, now)}
	if err != nil {
		return d, err
	}
	defer sh.mu.Unlock()
	h := sh.holds[r.User][r.ID]
	if sh.isSettled(r.User, r.ID) || h != nil && h.isCommitting() {
		return d, quota.ErrSettled
	}
	if d.Snapshot, err = s.snapshot(sh, r.User, r.Plans, now, now); err != nil {
		return d, err
	}
	p := d.Snapshot.Plan
	if p != d.Reservation.Plan {
		d.Reservation = s.newReservation(r, p, now)
	}
	if h != nil && now.Before(h.leaseEnd) {
		d.Admitted = true
		d.Reservation.Windows = h.windows
		if r.InObserveMode(p) {
			d.WouldBlock = d.Snapshot.WouldBlock(r.Endpoint, false)
		}
		return d, nil
	}
	wait, observed := sh.attempts.TakeToken(r.User, p.AttemptLimit(), now), r.InObserveMode(p)
	if !observed {
		d.AttemptWait = wait
	}
	if observed || wait == 0 && d.Snapshot.Admits(r.Endpoint) {
		d.Admitted = true
		sh.addHold(&hold{
			user: r.User, id: r.ID, endpoint: r.Endpoint,
			windows: d.Reservation.Windows, leaseEnd: now.Add(r.Lease),
		})
		for i, l := range p.Limits() {
			if l.AppliesTo(r.Endpoint) {
				d.Snapshot.Limits[i].Held++
			}
		}
		d.Snapshot.Total.Held++
		if observed {
			d.WouldBlock = d.Snapshot.WouldBlock(r.Endpoint, wait > 0)
		}
		s.watchers.Notify(r.User)
	}
	return d, nil
}

// newReservation is a reservation for r under the plan p at now.
func (s *Store) newReservation(r quota.Request, p *quota.Plan, now time.Time) quota.Reservation {
	return quota.Reservation{Request: r, Plan: p, Windows: s.calendar.WindowsAt(p.Periods(), now)}
}
