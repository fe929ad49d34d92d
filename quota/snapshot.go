package quota

import (
	"slices"
	"time"
)

// A Count is what one user has used, and holds, in one window.
type Count struct {
	Window Window
	Used   int64 // requests that were counted
	Held   int64 // units held by requests in flight
	// Granted is what an administrator has added to a limit for this window, 0 to
	// MaxRequests. It is 0 where there is no limit.
	Granted int64
}

// A Snapshot is the state of one user at one instant, as a store knew it, laid out by the
// plan that applied.
type Snapshot struct {
	// Plan is the plan that applied, see PlanChoice.Effective.
	Plan *Plan
	// Override is the plan that an administrator has set, even if the PlanChoice does not
	// have it.
	Override Override
	At       time.Time // by the store's clock
	// Stale: the store did not answer. The numbers are the last known ones, plus what was
	// counted here since.
	Stale bool
	// Limits has one count for each of the plan's limits, in their order.
	Limits []Count
	// Total counts all endpoints over the plan's report period.
	Total Count
	// Endpoints has what was used of each of the plan's endpoints over the report period,
	// in their order.
	Endpoints []int64
}

// NewSnapshot lays out the numbers that a store read for p.Counters: counts has one Count
// for each of them, in their order. Nothing is held in a window that is over at that
// instant, whatever Held says. The Snapshot keeps counts.
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

// GrantedIn returns what was granted in a window to the limit on endpoint, or to the limit
// on all endpoints if that is empty. It returns false if s does not know.
func (s Snapshot) GrantedIn(windowID, endpoint string) (granted int64, ok bool) {
	for i, l := range s.Plan.limits {
		if l.Endpoint == endpoint && s.Limits[i].Window.ID == windowID {
			return s.Limits[i].Granted, true
		}
	}
	return 0, false
}

// UsedIn returns what was used in a window of endpoint, or of all endpoints if that is
// empty. It returns false if s does not know.
func (s Snapshot) UsedIn(windowID, endpoint string) (used int64, ok bool) {
	for i, l := range s.Plan.limits {
		if l.Endpoint == endpoint && s.Limits[i].Window.ID == windowID {
			return s.Limits[i].Used, true
		}
	}
	if s.Total.Window.ID != windowID {
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

// Allowance is what limit i of the plan allows in its window, grants included: 0 to twice
// MaxRequests.
func (s Snapshot) Allowance(i int) int64 { return s.Plan.limits[i].Requests + s.Limits[i].Granted }

// hasRoom reports whether limit i has a unit left.
func (s Snapshot) hasRoom(i int) bool {
	return s.Limits[i].Used+s.Limits[i].Held < s.Allowance(i)
}

// Admits reports whether one more request to endpoint fits into every limit that applies
// to it. Stores admit requests by this rule, except those in observe mode.
func (s Snapshot) Admits(endpoint string) bool {
	for i, l := range s.Plan.limits {
		if l.AppliesTo(endpoint) && !s.hasRoom(i) {
			return false
		}
	}
	return true
}
