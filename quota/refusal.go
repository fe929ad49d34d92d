package quota

import "math"

// A Refusal says why a request was not admitted.
type Refusal struct {
	// Violated has the indices of the plan's limits that have no room for the request.
	Violated []int
	// Binding is the one among them that keeps the request out the longest, as an index
	// into the plan's limits.
	Binding int
	// OnlyHeld: the request would fit if no other one were in flight.
	OnlyHeld bool
	// NotInPlan: one of them allows nothing at all in any window, and nothing was granted.
	// Waiting does not help.
	NotInPlan bool
	// RetryAfter is when it is worth asking again, in seconds: when the binding limit
	// renews, or 1 if OnlyHeld. It is 0 if the binding limit never renews.
	RetryAfter int64
}

// Refusal says why s does not admit a request to endpoint that may cost so many units. It is the zero Refusal if
// s admits it.
func (s Snapshot) Refusal(endpoint string, units int64) Refusal {
	var r Refusal
	for i, l := range s.Plan.limits {
		if !s.refuses(i, endpoint, units) {
			continue
		}
		wait, onlyHeld := int64(1), s.Limits[i].Used+l.amountOf(units) <= s.Allowance(i)
		if !onlyHeld {
			wait = max(1, s.Limits[i].Window.SecondsLeft(s.At))
		}
		r.OnlyHeld = onlyHeld && (r.OnlyHeld || len(r.Violated) == 0)
		r.NotInPlan = r.NotInPlan || l.Amount == 0 && s.Allowance(i) == 0
		r.Violated = append(r.Violated, i)
		if wait > r.RetryAfter {
			r.Binding, r.RetryAfter = i, wait
		}
	}
	if r.RetryAfter == math.MaxInt64 {
		r.RetryAfter = 0
	}
	return r
}
