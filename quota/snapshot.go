package quota

import (
	"slices"
	"time"
)

// A Count is what one user has used, and holds, in one window, in the quantity of a Counter.
type Count struct {
	Window Window
	Used   int64 // of requests that were counted
	Held   int64 // by requests in flight: as requests, 1 each; as units, the most that they may cost
	// Granted is what an administrator has added to a limit for this window, 0 to
	// MaxAmount. It is 0 where there is no limit.
	Granted int64
	// Carried is what was left of the window before, see Limit.Carry. It is 0 where there is no
	// limit.
	Carried int64
}

// A Snapshot is the state of one user at one instant, as a store knew it, laid out by the
// plan that applied.
type Snapshot struct {
	// Plan is the plan that applied, see PlanChoice.Effective.
	Plan *Plan
	// Override is the plan that an administrator has set, even if the PlanChoice does not
	// have it. A member's own override goes before that of their organisation.
	Override Override
	// Terms are those by which the windows were chosen; zero if the PlanChoice has no Terms.
	Terms Terms
	// Pool has what a store keeps of a member's organisation; nil if the account is not a member.
	Pool *Pool
	At   time.Time // by the store's clock
	// Stale: the store did not answer. The numbers are the last known ones, plus what was
	// counted here since.
	Stale bool
	// Limits has one count for each of the plan's limits, in their order.
	Limits []Count
	// Total counts all endpoints over the plan's report period, in the quantity and the scope of
	// the headline limit.
	Total Count
	// Endpoints has the requests to each of the plan's endpoints over the report period, in
	// their order.
	Endpoints []int64
	// EndpointUnits has what these cost; nil unless the plan ReportsUnits.
	EndpointUnits []int64
}

// A Pool is what a store keeps of an organisation beside the counts of its pool.
type Pool struct {
	Override Override
	Terms    Terms // of the shared limits' windows; zero if the PlanChoice has no Terms
}

// NewSnapshot lays out the numbers that a store read for p.Counters: counts has one Count
// for each of them, in their order. Nothing is held in a window that is over at that
// instant, whatever Held says. What was granted raises a soft limit only if no hard limit has
// its counter. The Snapshot keeps counts.
func (p *Plan) NewSnapshot(at time.Time, counts []Count) Snapshot {
	n := len(p.limits)
	for i := range counts {
		if !at.Before(counts[i].Window.End) {
			counts[i].Held = 0
		}
		if p.soft && i < n && !p.GrantsRaise(i) {
			counts[i].Granted = 0
		}
	}
	s := Snapshot{Plan: p, At: at, Limits: counts[:n:n], Total: counts[n]}
	used := make([]int64, len(counts)-n-1)
	for i, c := range counts[n+1:] {
		used[i] = c.Used
	}
	e := len(p.endpoints)
	s.Endpoints = used[:e:e]
	if p.ReportsUnits() {
		s.EndpointUnits = used[e:]
	}
	return s
}

// GrantsRaise reports whether what was granted raises limit i of the plan: it raises a soft limit only if no hard
// limit has its counter.
func (p *Plan) GrantsRaise(i int) bool {
	if !p.limits[i].Soft {
		return true
	}
	for j, l := range p.limits {
		if !l.Soft && p.counters[j] == p.counters[i] {
			return false
		}
	}
	return true
}

// GrantedIn returns what was granted in a window to the limit on a counter. It returns false
// if s does not know. The counter's period is that of the window.
func (s Snapshot) GrantedIn(windowID string, c Counter) (granted int64, ok bool) {
	for i := range s.Plan.limits {
		if s.Plan.counters[i].isOf(c) && s.Limits[i].Window.ID == windowID {
			granted, ok = max(granted, s.Limits[i].Granted), true
		}
	}
	return granted, ok
}

// UsedIn returns what was used in a window of a counter. It returns false if s does not know.
// The counter's period is that of the window.
func (s Snapshot) UsedIn(windowID string, c Counter) (used int64, ok bool) {
	for i := range s.Plan.limits {
		if s.Plan.counters[i].isOf(c) && s.Limits[i].Window.ID == windowID {
			return s.Limits[i].Used, true
		}
	}
	total := s.Plan.counters[len(s.Plan.limits)]
	switch {
	case s.Total.Window.ID != windowID:
		return 0, false
	case c.Endpoint == "":
		return s.Total.Used, total.isOf(c)
	case c.Shared:
		return 0, false
	}
	numbers := s.Endpoints
	if c.Quantity == Units {
		numbers = s.EndpointUnits
	}
	if i, found := slices.BinarySearch(s.Plan.endpoints, c.Endpoint); found && i < len(numbers) {
		return numbers[i], true
	}
	return 0, false
}

// isOf reports whether c and other are the same but for the period.
func (c Counter) isOf(other Counter) bool {
	c.Period = other.Period
	return c == other
}

// Allowance is what limit i of the plan allows in its window, with what was granted and carried: 0
// to three times MaxAmount.
func (s Snapshot) Allowance(i int) int64 {
	return s.Plan.limits[i].AllowedIn(s.Limits[i].Window) + s.Limits[i].Granted + s.Limits[i].Carried
}

// Nearest returns the hard limit, as an index, of which the largest part is used, and that part in percent,
// rounded down. It is over 100 after a limit was lowered. It returns false if the plan has no hard limit.
func (s Snapshot) Nearest() (limit int, percent int64, ok bool) {
	for i, l := range s.Plan.limits {
		if of := Percent(s.Limits[i].Used, s.Allowance(i)); !l.Soft && (!ok || of > percent) {
			limit, percent, ok = i, of, true
		}
	}
	return limit, percent, ok
}

// StatusOf says how close the user is to limit i of the plan.
func (s Snapshot) StatusOf(i int) Status { return s.Plan.status(s.Limits[i].Used, s.Allowance(i)) }

// AllowedIn is what the limit allows in a window of its period, without grants and what is carried:
// its part of the amount, rounded down, if a change of anchor has made the window shorter.
func (l Limit) AllowedIn(w Window) int64 { return w.part(l.Amount) }

// amountOf is what a request that may cost so many units takes of a limit.
func (l Limit) amountOf(units int64) int64 {
	if l.Quantity == Units {
		return units
	}
	return 1
}

// hasRoom reports whether a request that may cost so many units fits into limit i.
func (s Snapshot) hasRoom(i int, units int64) bool {
	return s.Limits[i].Used+s.Limits[i].Held+s.Plan.limits[i].amountOf(units) <= s.Allowance(i)
}

// refuses reports whether limit i keeps a request to endpoint out that may cost so many units.
func (s Snapshot) refuses(i int, endpoint string, units int64) bool {
	l := s.Plan.limits[i]
	return !l.Soft && l.AppliesTo(endpoint) && !s.hasRoom(i, units)
}

// Admits reports whether one more request to endpoint, which may cost so many units, fits into
// every limit that applies to it. Stores admit requests by this rule, except those in observe
// mode.
func (s Snapshot) Admits(endpoint string, units int64) bool {
	for i := range s.Plan.limits {
		if s.refuses(i, endpoint, units) {
			return false
		}
	}
	return true
}
