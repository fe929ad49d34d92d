package quota

// A Refusal says why a request was not admitted.
type Refusal struct {
	// Violated has the indices of the plan's limits that are reached.
	Violated []int
	// Binding is the one among them that keeps the request out the longest, as an index
	// into the plan's limits.
	Binding int
	// RetryAfter is when it is worth asking again, in seconds: when the binding limit
	// renews, or 1 if only requests in flight hold its last units.
	RetryAfter int64
}

// Refusal says why s admits no request to endpoint. It is the zero Refusal if s admits one.
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
