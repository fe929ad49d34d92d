package quotatest

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"metergate/quota"
)

// A model is what the rules say of one user: it is a store without concurrency, durability or
// economy.
type model struct {
	used         map[string]map[string]int64          // requests, by window ID and endpoint
	units        map[string]map[string]int64          // what they cost, likewise
	granted      map[string]map[string]int64          // requests, likewise; an empty endpoint: all
	grantedUnits map[string]map[string]int64          // likewise
	holds        map[string]*modelHold                // by reservation ID
	bucketFullAt map[quota.AttemptLimit]time.Time     // when the bucket of a limit is full
	days         map[quota.Date]map[string]quota.Used // of the history, by endpoint
	override     quota.Override
	isPool       bool
	pool         *model             // of a member's organisation; nil: the model is not of a member
	changes      []quota.AuditEntry // newest last
}

func newModel() *model {
	return &model{
		used:         map[string]map[string]int64{},
		units:        map[string]map[string]int64{},
		granted:      map[string]map[string]int64{},
		grantedUnits: map[string]map[string]int64{},
		holds:        map[string]*modelHold{},
		bucketFullAt: map[quota.AttemptLimit]time.Time{},
		days:         map[quota.Date]map[string]quota.Used{},
	}
}

type modelHold struct {
	reservation quota.Reservation
	expires     time.Time
	settled     time.Time  // zero: not yet
	committed   bool       // settled as a count: its rest is held until it is settled
	restEnds    time.Time  // when a store may end the rest, if its gateway does not renew it
	restSettled time.Time  // zero: not yet
	inPool      *modelHold // the same in the pool, with its windows; nil: nothing
}

// settle ends the hold, also in the pool.
func (h *modelHold) settle(now time.Time, committed bool) {
	h.settled, h.committed, h.restEnds = now, committed, now.Add(h.reservation.Lease)
	if h.inPool != nil {
		h.inPool.settle(now, committed)
	}
}

// settleRest ends the rest, also in the pool.
func (h *modelHold) settleRest(now time.Time) {
	h.restSettled = now
	if h.inPool != nil {
		h.inPool.settleRest(now)
	}
}

// hasOpenRest reports whether the request is counted, and its rest is not settled.
func (h *modelHold) hasOpenRest() bool {
	return h.committed && h.reservation.Rest > 0 && h.restSettled.IsZero()
}

// held is what is held at now.
func (h *modelHold) held(now time.Time) (requests, units int64) {
	switch {
	case h.hasOpenRest():
		return 0, h.reservation.Rest
	case !h.isLive(now):
		return 0, 0
	case !h.restSettled.IsZero():
		return 1, max(1, h.reservation.Units) - h.reservation.Rest
	}
	return 1, max(1, h.reservation.Units)
}

// hold adds a hold, also in the pool.
func (m *model) hold(r quota.Reservation, expires time.Time) {
	h := &modelHold{reservation: r, expires: expires}
	m.holds[r.ID] = h
	if len(r.PoolWindows) > 0 {
		r.Windows = r.PoolWindows
		h.inPool = &modelHold{reservation: r, expires: expires}
		m.pool.holds[r.ID] = h.inPool
	}
}

// limitsReached names what refuses a request to endpoint that may cost so many units, and the soft
// limits that it exceeds: s is the state before it, and wait is the time until there is an attempt.
func limitsReached(s quota.Snapshot, endpoint string, units int64, wait time.Duration) (hard, all []string) {
	for i, l := range s.Plan.Limits() {
		more := int64(1)
		if l.Quantity == quota.Units {
			more = units
		}
		if c := s.Limits[i]; l.AppliesTo(endpoint) && c.Used+c.Held+more > l.Amount+c.Granted {
			all = append(all, l.Name())
			if !l.Soft {
				hard = append(hard, l.Name())
			}
		}
	}
	if wait > 0 {
		hard, all = append(hard, "attempts"), append(all, "attempts")
	}
	return hard, all
}

// isLive reports whether the unit is held at now.
func (h *modelHold) isLive(now time.Time) bool { return h.settled.IsZero() && now.Before(h.expires) }

// repeatLimit is how long after a reservation was settled the check repeats calls for it. Stores
// remember it for at least ten minutes.
const repeatLimit = 9 * time.Minute

// snapshot is the user's state at now. It must not use PlanChoice.Effective or Snapshot.Admits,
// which the stores use.
func (m *model) snapshot(choice quota.PlanChoice, cal *quota.Calendar, now time.Time) quota.Snapshot {
	p := choice.Claimed
	override := m.overrideAt(now)
	if m.pool != nil && override == "" {
		override = m.pool.overrideAt(now)
	}
	if named := choice.ByName[override]; named != nil {
		p = named
	}
	p = p.ForScope(choice.Scope)
	var counts []quota.Count
	for i, c := range p.Counters() {
		count := quota.Count{Window: cal.WindowAt(c.Period, now)}
		m := m
		if c.Shared {
			m = m.pool
		}
		used, granted := m.used, m.granted
		if c.Quantity == quota.Units {
			used, granted = m.units, m.grantedUnits
		}
		if i < len(p.Limits()) {
			count.Granted = granted[count.Window.ID][c.Endpoint]
		}
		for endpoint, n := range used[count.Window.ID] {
			if c.Endpoint == "" || c.Endpoint == endpoint {
				count.Used += n
			}
		}
		for _, h := range m.holds {
			for _, w := range h.reservation.Windows {
				if w.ID == count.Window.ID && (c.Endpoint == "" || c.Endpoint == h.reservation.Endpoint) {
					requests, units := h.held(now)
					if c.Quantity == quota.Units {
						requests = units
					}
					count.Held += requests
				}
			}
		}
		counts = append(counts, count)
	}
	return p.NewSnapshot(now, counts)
}

// overrideAt is the name of the plan that was set for the account itself; empty: none.
func (m *model) overrideAt(now time.Time) string {
	if !m.override.Until.IsZero() && !now.Before(m.override.Until) {
		return ""
	}
	return m.override.Plan
}

// takeToken makes an attempt. If there is no token, it returns the time until there is one. If it
// returns sure as false, a store whose clock is slightly ahead may decide otherwise, and no
// attempt was made.
func (m *model) takeToken(a quota.AttemptLimit, now time.Time) (wait time.Duration, sure bool) {
	full, wait := a.TakeToken(m.bucketFullAt[a], now)
	_, ahead := a.TakeToken(m.bucketFullAt[a], now.Add(5*time.Second))
	_, behind := a.TakeToken(m.bucketFullAt[a].Add(5*time.Second), now)
	if sure = (wait > 0) == (ahead > 0) && (wait > 0) == (behind > 0); sure && wait == 0 && a.Requests > 0 {
		m.bucketFullAt[a] = full
	}
	return wait, sure
}

// applyChange makes a change and returns the error that a store must return.
func (m *model) applyChange(c quota.Change, choice quota.PlanChoice, cal *quota.Calendar, now time.Time) error {
	for _, e := range m.changes {
		if c.ID == "" || e.ID != c.ID || !now.Before(e.At.Add(quota.ChangeIDLife)) {
			continue
		}
		if e.Action == c.Action && e.Requests == c.Requests && e.Units == c.Units && maps.Equal(e.CountUnits, c.CountUnits) && e.Endpoint == c.Endpoint && e.Period == c.Period &&
			e.Plan == c.Plan && e.Until.Equal(c.Until) && maps.Equal(e.Counts, c.Counts) {
			return nil
		}
		return quota.ErrIDConflict
	}
	numbersIn := func(all map[string]map[string]int64, period quota.Period) map[string]int64 {
		id := cal.WindowAt(period, now).ID
		if all[id] == nil {
			all[id] = map[string]int64{}
		}
		return all[id]
	}
	switch c.Action {
	case quota.ActionGrant:
		p := m.snapshot(choice, cal, now).Plan
		granted, quantity := m.granted, quota.Requests
		if c.Units > 0 {
			granted, quantity = m.grantedUnits, quota.Units
		}
		i := -1
		for j, l := range slices.Backward(p.Limits()) { // of several, the first, and a hard one before a soft one
			fits := (m.pool == nil || !l.Shared) && l.Endpoint == c.Endpoint && l.Quantity == quantity && (l.Period == c.Period || c.Period == 0)
			if fits && (i < 0 || !l.Soft || p.Limits()[i].Soft) {
				i = j
			}
		}
		if i < 0 {
			return quota.ErrNoSuchLimit
		}
		l := p.Limits()[i]
		numbersIn(granted, l.Period)[l.Endpoint] += c.Requests + c.Units
	case quota.ActionReset:
		for _, period := range quota.Periods() {
			clear(numbersIn(m.used, period))
			clear(numbersIn(m.units, period))
		}
		clear(m.days[cal.DateAt(now)])
	case quota.ActionSetPlan:
		m.override = quota.Override{Plan: c.Plan, Until: c.Until}
	case quota.ActionClearPlan:
		m.override = quota.Override{}
	case quota.ActionSetCounts:
		maps.Copy(numbersIn(m.used, c.Period), c.Counts)
		maps.Copy(numbersIn(m.units, c.Period), c.Counts)
		maps.Copy(numbersIn(m.units, c.Period), c.CountUnits)
		for endpoint, n := range c.Counts {
			if c.Period == quota.Day && !m.isPool {
				m.setDay(cal.DateAt(now), endpoint, quota.Used{Requests: n, Units: numbersIn(m.units, c.Period)[endpoint]})
			}
		}
	}
	m.changes = append(m.changes, quota.AuditEntry{At: now, Change: c})
	return nil
}

// commit counts r in its windows that are still kept, also in the pool.
func (m *model) commit(r quota.Reservation, now time.Time) {
	m.count(r, 1, max(1, r.Units)-r.Unused, now)
}

// count counts requests and units likewise.
func (m *model) count(r quota.Reservation, requests, units int64, now time.Time) {
	if m.pool != nil {
		inPool := r
		inPool.Windows, inPool.PoolWindows, inPool.Date = r.PoolWindows, nil, 0
		m.pool.count(inPool, requests, units, now)
	}
	m.countDay(r, requests, units, now)
	for _, w := range r.Windows {
		if !w.RetainedUntil(keep).After(now) {
			continue
		}
		if m.used[w.ID] == nil {
			m.used[w.ID] = map[string]int64{}
		}
		m.used[w.ID][r.Endpoint] += requests
		if m.units[w.ID] == nil {
			m.units[w.ID] = map[string]int64{}
		}
		m.units[w.ID][r.Endpoint] += units
	}
}

// auditText shows an audit log.
func auditText(entries []quota.AuditEntry) (text string) {
	for _, e := range entries {
		text += fmt.Sprint(" ", e.Action, e.Requests, e.Units, e.Endpoint, e.Plan, e.Counts, e.CountUnits)
	}
	return text
}
