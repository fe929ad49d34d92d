package guard

import (
	"time"

	"metergate/quota"
)

// decide decides about d.Reservation without the store, and records the request if it is
// admitted.
func (l *ledger) decide(d *quota.Decision, now time.Time) {
	r := &d.Reservation
	sh := l.lockShard(r.User)
	defer sh.mu.Unlock()
	before := sh.estimate(l.calendar, r.User, r.Plans, now)
	var wait time.Duration
	if !r.Waited {
		wait = sh.attempts.TakeToken(r.User, before.Plan.AttemptLimit(), now)
	}
	limit := r.Plan.ConcurrencyLimit() // whoever has the reservation calls Leave by this plan
	observed, crowded := r.InObserveMode(before.Plan), sh.isCrowded(r.User, limit)
	switch {
	case observed:
		d.Admitted = true
	case wait > 0:
		d.AttemptWait = wait
	case before.Admits(r.Endpoint, r.HeldUnits()):
		d.Admitted, d.NoPlace = !crowded, crowded
	}
	if d.Admitted {
		sh.addRunning(r, now, limit)
	}
	d.Snapshot = sh.estimate(l.calendar, r.User, r.Plans, now)
	if d.Admitted {
		d.ReportWouldBlock(wait > 0, crowded)
	}
}

// estimate is the state of a user at now, as far as it is known without the store. It returns
// false if nothing is known.
func (l *ledger) estimate(user string, plans quota.PlanChoice, now time.Time) (s quota.Snapshot, ok bool) {
	sh := l.lockShard(user)
	defer sh.mu.Unlock()
	return sh.estimate(l.calendar, user, plans, now), sh.known.get(user) != nil || sh.local[user] != nil
}

// estimate is the state of a user at now: the last known usage, what was counted since, and
// the requests in flight here; of a member also those of the other members here. A counter of which
// nothing is known starts at 0. The shard must be locked.
func (sh *ledgerShard) estimate(calendar *quota.Calendar, user string, plans quota.PlanChoice, now time.Time) quota.Snapshot {
	pool := quota.PoolOf(user)
	override := sh.known.override(user, now)
	p := plans.Effective(override)
	terms := sh.known.terms(user, plans, p, calendar, now)
	var poolTerms quota.Terms
	if pool != "" {
		poolTerms = sh.known.terms(pool, plans, p, calendar, now)
	}
	counts := make([]quota.Count, len(p.Counters()))
	for i, c := range p.Counters() {
		account, terms := user, &terms
		if c.Shared {
			account, terms = pool, &poolTerms
		}
		isLimit := i < len(p.Limits())
		n := &counts[i]
		n.Window = terms.WindowAt(calendar, c.Period, now)
		if plans.Terms && isLimit {
			n.Carried, _ = terms.Carried(n.Window.ID, p.Limits()[i])
		}
		if known := sh.known.get(account); known != nil {
			n.Used = known.used(n.Window.ID, c)
			if isLimit {
				n.Granted = known.granted(n.Window.ID, c)
			}
		}
		sh.local[account].addTo(n, c, now)
	}
	s := p.NewSnapshot(now.In(calendar.Location()), counts)
	s.Override, s.Terms, s.Stale = override, terms, true
	if pool != "" {
		if s.Pool = sh.known.pool(pool); s.Pool == nil {
			s.Pool = &quota.Pool{Terms: poolTerms}
		}
	}
	return s
}

// addTo adds what this gateway has of an account, which may be nothing, to a count of a counter.
func (u *localUsage) addTo(n *quota.Count, c quota.Counter, now time.Time) {
	if u == nil {
		return
	}
	n.Used += u.unsent[tallyKey{windowID: n.Window.ID, endpoint: c.Endpoint}].used(c.Quantity)
	for _, r := range u.running {
		if now.Before(r.leaseEnd) && r.CountsIn(c.Endpoint, n.Window.ID) {
			n.Held += r.HeldIn(c.Quantity)
		}
	}
	for _, r := range u.rests {
		if c.Quantity == quota.Units && r.CountsIn(c.Endpoint, n.Window.ID) {
			n.Held += r.RestUnits()
		}
	}
}
