package quota

// In observe mode nothing is refused. A request that a limit, the attempt limit or the
// concurrency limit would have refused is admitted, held and counted like any other, and the Decision says what
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

// ReportWouldBlock sets d.WouldBlock: what would have refused the request, which was admitted,
// if it were not in observe mode, and the soft limits that it exceeds. d.Snapshot is the state
// after its units were held.
func (d *Decision) ReportWouldBlock(noAttemptLeft, noPlaceLeft bool) {
	s, r := &d.Snapshot, &d.Reservation
	observed := r.InObserveMode(s.Plan)
	d.WouldBlock = nil
	if !observed && !s.Plan.soft {
		return
	}
	for i, l := range s.Plan.limits {
		if (observed || l.Soft) && l.AppliesTo(r.Endpoint) && s.Limits[i].Used+s.Limits[i].Held > s.Allowance(i) {
			d.WouldBlock = append(d.WouldBlock, l.Name())
		}
	}
	if observed && noAttemptLeft {
		d.WouldBlock = append(d.WouldBlock, AttemptsName)
	}
	if observed && noPlaceLeft {
		d.WouldBlock = append(d.WouldBlock, ConcurrencyName)
	}
}
