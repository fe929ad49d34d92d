package quota

import (
	"crypto/rand"
	"slices"
	"time"
)

// A Request asks for a part of a user's quota: for one request, and for the units that it may
// cost.
type Request struct {
	// ID is unique for each request, see NewID. A store recognises repeated calls by it,
	// so that every call can safely be sent twice.
	ID       string
	User     string // the account: of a user or a member, see MemberAccount
	Endpoint string // never empty
	// Units is the most that the request may cost, up to MaxCost; 0 stands for 1.
	Units int64
	// Plans has the plans that may apply to the user.
	Plans PlanChoice
	// Lease is how long the units are held if nobody settles it. It must be longer than the
	// request can take.
	Lease time.Duration
	// Observe puts the request in observe mode, whatever its plan says. False: the plan
	// decides, see InObserveMode.
	Observe bool
	// Waited: the request was refused before and has waited. It takes no token of the
	// AttemptLimit again.
	Waited bool
}

// HeldUnits is what the request holds of a limit on units, 1 to MaxCost.
func (r *Request) HeldUnits() int64 { return max(1, r.Units) }

// NewID returns 26 letters and digits that carry 130 random bits.
func NewID() string { return rand.Text() }

// A Reservation is a Request with the windows in which it was admitted, one for each of
// the plan's periods. It counts in these windows, however late it is settled.
type Reservation struct {
	Request
	// Plan is the plan that applied; nil if it is no longer known.
	Plan    *Plan
	Windows []Window
	// PoolWindows are likewise those of the organisation's pool, one for each of the plan's
	// PoolPeriods.
	PoolWindows []Window
	// Date is the day of the History on which the request counts, that of its admission; 0: there
	// is no history.
	Date Date
	// BillHour is likewise the hour in which the request counts for the Bills; 0: nothing is kept for them.
	BillHour BillHour
	// Unchecked: the store did not answer, and the request was admitted nevertheless.
	// Whether a unit is held is unknown.
	Unchecked bool
	// Unused is how many of the HeldUnits Commit does not charge, 0 to all of them. Whoever
	// calls Commit sets it; every call for one reservation must have the same.
	Unused int64
	// Rest is how many of the Unused units stay held after Commit, until CommitRest: the body of the
	// response tells what the request cost. 0 to Unused; set and kept like Unused.
	Rest int64
	// RestCharged is how many of the Rest units CommitRest charges, 0 to Rest. Whoever calls
	// CommitRest sets it; every call for one reservation must have the same.
	RestCharged int64
}

// ChargedUnits is what Commit charges, 0 to HeldUnits.
func (r *Reservation) ChargedUnits() int64 {
	return r.HeldUnits() - min(max(0, r.Unused), r.HeldUnits())
}

// RestUnits is what stays held after Commit, 0 to the units that Commit does not charge.
func (r *Reservation) RestUnits() int64 {
	return min(max(0, r.Rest), r.HeldUnits()-r.ChargedUnits())
}

// ChargedRest is what CommitRest charges, 0 to RestUnits.
func (r *Reservation) ChargedRest() int64 { return min(max(0, r.RestCharged), r.RestUnits()) }

// CountsIn reports whether r counts towards endpoint, or towards the total if that is
// empty, in the window with this ID.
func (r Reservation) CountsIn(endpoint, windowID string) bool {
	return (endpoint == "" || endpoint == r.Endpoint) &&
		slices.ContainsFunc(r.Windows, func(w Window) bool { return w.ID == windowID })
}

// A Decision is what a store decided about a Request.
type Decision struct {
	// Admitted: the request is held in every limit that applies, or the Reservation is
	// Unchecked. Otherwise no count and no hold has changed.
	Admitted bool
	// WouldBlock names what would have refused the request if it were not in observe mode, and
	// the soft limits that it exceeds; nil: nothing. When a Reserve is repeated, it names the
	// limits that are exceeded by then.
	WouldBlock []string
	// NoPlace: the plan's ConcurrencyLimit refused the request, and nothing else.
	NoPlace bool
	// AttemptWait is the time until the user has another attempt, if the plan's
	// AttemptLimit refused the request; 0: it did not.
	AttemptWait time.Duration
	// Reservation is what to commit or release. A store that failed fills it as well, with
	// the windows that it assumes, so that a request that is admitted without an answer
	// can still be counted.
	Reservation Reservation
	// Snapshot is the state after the decision.
	Snapshot Snapshot
}

// HeldIn is what the request holds of a limit on a quantity.
func (r *Request) HeldIn(q Quantity) int64 {
	if q == Units {
		return r.HeldUnits()
	}
	return 1
}
