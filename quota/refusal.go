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
