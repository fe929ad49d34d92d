package boltstore

import (
	"context"
	"errors"
	"time"

	"metergate/quota"
)

// Reserve holds r, see quota.Store. Nothing is written to disk, except for terms that have changed. Errors are
// quota.ErrSettled, ErrClosed, those of ctx and of the disk, and context.DeadlineExceeded, see Options.Timeout; the
// request then holds nothing more than before.
func (s *Store) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	if err := ctx.Err(); err != nil {
		return &quota.Decision{Reservation: s.newReservation(r, r.Plans.Effective(quota.Override{}), s.now())}, err
	}
	d := new(quota.Decision)
	sh, now, err := s.lockToReserve(ctx, r, &d.Snapshot)
	d.Reservation = s.newReservation(r, r.Plans.Effective(quota.Override{}), now)
	if err != nil {
		return d, err
	}
	defer sh.mu.Unlock()
	h := sh.holds[r.User][r.ID]
	if sh.isSettled(r.User, r.ID) || h != nil && h.isCommitting() {
		return d, quota.ErrSettled
	}
	p := d.Snapshot.Plan
	if p != d.Reservation.Plan || r.Plans.Terms {
		d.Reservation = s.newReservation(r, p, now)
		d.Reservation.Windows = d.Snapshot.Terms.WindowsAt(s.calendar, p.Periods(), now)
		if pool := d.Snapshot.Pool; pool != nil {
			d.Reservation.PoolWindows = pool.Terms.WindowsAt(s.calendar, p.PoolPeriods(), now)
		}
	}
	if h != nil && now.Before(h.leaseEnd) {
		d.Admitted = true
		d.Reservation.Date, d.Reservation.BillHour = h.date, h.hour
		d.Reservation.Windows, d.Reservation.PoolWindows = h.windows, h.poolWindows
		d.ReportWouldBlock(false, false)
		return d, nil
	}
	var wait time.Duration
	if !r.Waited {
		wait = sh.attempts.TakeToken(r.User, p.AttemptLimit(), now)
	}
	observed, crowded := r.InObserveMode(p), sh.isCrowded(r.User, p.ConcurrencyLimit())
	if !observed {
		d.AttemptWait = wait
		if wait > 0 || !d.Snapshot.Admits(r.Endpoint, r.HeldUnits()) {
			return d, nil
		}
		if d.NoPlace = crowded; crowded {
			return d, nil
		}
	}
	d.Admitted = true
	held := &hold{
		user: r.User, id: r.ID, endpoint: r.Endpoint, units: r.HeldUnits(),
		date: d.Reservation.Date, hour: d.Reservation.BillHour, windows: d.Reservation.Windows, poolWindows: d.Reservation.PoolWindows, leaseEnd: now.Add(r.Lease),
	}
	if len(held.poolWindows) > 0 {
		held.pool = quota.PoolOf(r.User)
	}
	sh.addHold(held)
	if p.ConcurrencyLimit().Requests > 0 {
		sh.addPlace(r.User, r.ID)
	}
	for i, l := range p.Limits() {
		if l.AppliesTo(r.Endpoint) {
			d.Snapshot.Limits[i].Held += r.HeldIn(l.Quantity)
		}
	}
	d.Snapshot.Total.Held += r.HeldIn(p.HeadlineQuantity())
	d.ReportWouldBlock(wait > 0, crowded)
	s.notify(r.User, held.pool)
	return d, nil
}

// lockToReserve locks the shard of the user of r, and reads their state by terms that are in the file. It
// leaves the shard unlocked with an error.
func (s *Store) lockToReserve(ctx context.Context, r quota.Request, snapshot *quota.Snapshot) (*shard, time.Time, error) {
	pool, wait := quota.PoolOf(r.User), termsWait{ctx: ctx, timeout: s.timeout}
	for range termsTries {
		if err := s.keepTerms(&wait, r.User, r.Plans, reserving); err != nil {
			return nil, s.now(), err
		}
		sh, now, err := s.lockUser(r.User)
		if err != nil {
			return nil, now, err
		}
		if write := sh.termsWrite(r.User, pool); write != nil {
			sh.mu.Unlock()
			if err := wait.until(write); err != nil {
				return nil, now, err
			}
			continue
		}
		*snapshot, err = s.snapshot(sh, r.User, r.Plans, now, now, reserving)
		if err == nil {
			return sh, now, nil
		}
		sh.mu.Unlock()
		if !errors.Is(err, errTermsChanged) {
			return nil, now, err
		}
	}
	return nil, s.now(), quota.ErrContended
}

// Occupy takes a place for a request that was admitted although its Reserve has failed.
func (s *Store) Occupy(r *quota.Reservation) {
	sh := s.userShard(r.User)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.addPlace(r.User, r.ID)
}

// Leave gives back the place of a request, see quota.Store.
func (s *Store) Leave(r *quota.Reservation) {
	sh := s.userShard(r.User)
	sh.mu.Lock()
	left := sh.removePlace(r.User, r.ID)
	sh.mu.Unlock()
	if left {
		s.watchers.Notify(r.User)
	}
}

// newReservation is a reservation for r under the plan p at now.
func (s *Store) newReservation(r quota.Request, p *quota.Plan, now time.Time) quota.Reservation {
	reservation := quota.Reservation{
		Request: r, Plan: p, Windows: s.calendar.WindowsAt(p.Periods(), now), PoolWindows: s.calendar.WindowsAt(p.PoolPeriods(), now),
	}
	if s.history > 0 {
		reservation.Date = s.calendar.DateAt(now)
	}
	if s.billing > 0 {
		reservation.BillHour = quota.BillHourAt(now)
	}
	return reservation
}
