package quota

// To observe is to block nothing: a request that a limit or the attempts would have
// refused is admitted, held and counted like any other, and the Decision says what would
// have refused it. So a plan can be tried out in front of an API that is in use.
//
// What is counted is what passed. Under several limits the longer windows therefore fill
// faster than they would if the shorter ones were enforced.

// AttemptsName stands for the plan's Attempts among the names of limits. No limit is
// called so.
const AttemptsName = "attempts"

// InObserveMode reports whether nothing blocks r under the plan p: p observes, or r asks for it.
// p may be nil, and then says nothing.
func (r Request) InObserveMode(p *Plan) bool { return r.Observe || p != nil && p.observe }

// WouldBlock returns what would have refused a request to endpoint that was admitted all
// the same, and whose unit s has as held: the names of the limits that have more used and
// held than they allow, in the plan's order, and then AttemptsName if exhausted, there
// was no attempt left. nil: nothing.
func (s Snapshot) WouldBlock(endpoint string, exhausted bool) (names []string) {
	for i, l := range s.Plan.limits {
		if l.AppliesTo(endpoint) && s.Limits[i].Used+s.Limits[i].Held > s.Allowance(i) {
			names = append(names, l.Name())
		}
	}
	if exhausted {
		names = append(names, AttemptsName)
	}
	return names
}
