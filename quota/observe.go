package quota

// In observe mode nothing is refused. A request that a limit or the attempt limit would
// have refused is admitted, held and counted like any other, and the Decision says what
// would have refused it. A plan can thus be tried out in front of an API that is in use.
//
// Everything that passes is counted. Under several limits, the longer windows therefore
// fill faster than they would if the shorter ones were enforced.

// AttemptsName stands for the plan's AttemptLimit among the names of limits. No limit has
// this name.
const AttemptsName = "attempts"

// InObserveMode reports whether nothing refuses r under the plan p: either p or r asks for
// observe mode. p may be nil; then only r decides.
func (r Request) InObserveMode(p *Plan) bool { return r.Observe || p != nil && p.observe }

// WouldBlock returns what would have refused a request to endpoint that was admitted in
// observe mode; s is the state after its unit was held. It has the names of the limits
// with more used and held than they allow, in the plan's order, followed by AttemptsName if
// noAttemptLeft. nil: nothing would have refused it.
func (s Snapshot) WouldBlock(endpoint string, noAttemptLeft bool) (names []string) {
	for i, l := range s.Plan.limits {
		if l.AppliesTo(endpoint) && s.Limits[i].Used+s.Limits[i].Held > s.Allowance(i) {
			names = append(names, l.Name())
		}
	}
	if noAttemptLeft {
		names = append(names, AttemptsName)
	}
	return names
}
