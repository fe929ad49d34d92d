package quota

import (
	"slices"
	"time"
)

// A Count is what one user has used, and holds, in one window.
type Count struct {
	Window Window
	Used   int64 // counted requests
	Held   int64 // units of requests in flight
	// Granted are the units that an administrator has added to a limit for this
	// window, 0 to MaxRequests; 0 where there is no limit.
	Granted int64
}

// A Snapshot is what a store knew of one user at one instant, laid out by a plan.
type Snapshot struct {
	Plan *Plan
	// Override is an administrator's choice of the plan. Plan is another one where the
	// PlanChoice does not have it.
	Override Override
	At       time.Time // by the store's clock
	// Stale: the store did not answer. The numbers are the last known ones and what
	// has been counted here since.
	Stale bool
	// Limits has one count for each of the plan's limits, in their order.
	Limits []Count
	// Total counts all endpoints over the plan's period.
	Total Count
	// Endpoints has what was used of each endpoint over the period, in the order
	// of their names.
	Endpoints []int64
}

// NewSnapshot lays out the numbers that a store read for p.Counters: counts has
// one Count for each of them, in their order. In a window that is over nothing is held
// any more, whatever they say.
func (p *Plan) NewSnapshot(at time.Time, counts []Count) Snapshot {
	n := len(p.limits)
	for i := range counts {
		if !at.Before(counts[i].Window.End) {
			counts[i].Held = 0
		}
	}
	s := Snapshot{Plan: p, At: at, Limits: counts[:n:n], Total: counts[n]}
	s.Endpoints = make([]int64, len(p.endpoints))
	for i, c := range counts[n+1:] {
		s.Endpoints[i] = c.Used
	}
	return s
}

// GrantedIn looks up what was granted to the limit on endpoint, or on all when that is
// empty, in the window with this id. False: s does not say.
func (s Snapshot) GrantedIn(window, endpoint string) (granted int64, ok bool) {
	for i, l := range s.Plan.limits {
		if l.Endpoint == endpoint && s.Limits[i].Window.ID == window {
			return s.Limits[i].Granted, true
		}
	}
	return 0, false
}

// UsedIn looks up what was used of endpoint, or of all when that is empty, in the
// window with this id. False: s does not say.
func (s Snapshot) UsedIn(window, endpoint string) (used int64, ok bool) {
	for i, l := range s.Plan.limits {
		if l.Endpoint == endpoint && s.Limits[i].Window.ID == window {
			return s.Limits[i].Used, true
		}
	}
	if s.Total.Window.ID != window {
		return 0, false
	}
	if endpoint == "" {
		return s.Total.Used, true
	}
	if i, found := slices.BinarySearch(s.Plan.endpoints, endpoint); found {
		return s.Endpoints[i], true
	}
	return 0, false
}

// Allowance is what limit i of the plan allows in its window, grants included: 0 to
// twice MaxRequests.
func (s Snapshot) Allowance(i int) int64 { return s.Plan.limits[i].Requests + s.Limits[i].Granted }

// hasRoom reports whether limit i has a unit left.
func (s Snapshot) hasRoom(i int) bool {
	return s.Limits[i].Used+s.Limits[i].Held < s.Allowance(i)
}

// Admits reports whether one more request to endpoint fits into every limit that
// applies to it. It is the rule by which stores admit what is not observed.
func (s Snapshot) Admits(endpoint string) bool {
	for i, l := range s.Plan.limits {
		if l.AppliesTo(endpoint) && !s.hasRoom(i) {
			return false
		}
	}
	return true
}

// A Refusal says why a request was not admitted.
type Refusal struct {
	// Violated holds the indices of the limits that are reached.
	Violated []int
	// Binding is the one of them that keeps the request out the longest, as an
	// index into the plan's limits.
	Binding int
	// RetryAfter is when it is worth asking again, in seconds: when the binding
	// limit renews, or 1 when only requests still in flight hold its last units.
	RetryAfter int64
}

// Refusal explains why s admits no request to endpoint. Its zero value is
// returned when it does.
func (s Snapshot) Refusal(endpoint string) Refusal {
	var r Refusal
	for i, l := range s.Plan.limits {
		if !l.AppliesTo(endpoint) || s.hasRoom(i) {
			continue
		}
		r.Violated = append(r.Violated, i)
		wait := int64(1)
		if s.Limits[i].Used >= s.Allowance(i) {
			wait = max(1, s.Limits[i].Window.SecondsLeft(s.At))
		}
		if wait > r.RetryAfter {
			r.Binding, r.RetryAfter = i, wait
		}
	}
	return r
}
