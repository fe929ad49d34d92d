package quota

import (
	"crypto/rand"
	"slices"
	"time"
)

// A Request asks for one unit of a user's quota.
type Request struct {
	// ID is unique for each request, see NewID. A store recognises by it what it
	// has done already, so that every call is safe to send twice.
	ID       string
	User     string // 1 to 256 bytes of UTF-8 without control characters
	Endpoint string // never empty
	Plans    PlanChoice
	// Lease is how long the unit is held when nobody settles it: longer than the
	// request can take.
	Lease time.Duration
	// Observe: nothing blocks the request, whatever its plan says, see InObserveMode. False: as
	// the plan says.
	Observe bool
}

// NewID returns 26 letters and digits with 130 bits of chance.
func NewID() string { return rand.Text() }

// A Reservation is a Request with the windows in which it was admitted, one for
// each of the plan's kinds. It counts in these, whenever it is settled.
type Reservation struct {
	Request
	// Plan is the one that applied; nil when it is not known any more.
	Plan    *Plan
	Windows []Window
	// Unchecked: the store did not answer, and the request was let through all the
	// same. Whether a unit is held is not known.
	Unchecked bool
}

// CountsIn reports whether r counts towards endpoint, or all when that is empty, in the
// window with this id.
func (r Reservation) CountsIn(endpoint, window string) bool {
	return (endpoint == "" || endpoint == r.Endpoint) &&
		slices.ContainsFunc(r.Windows, func(w Window) bool { return w.ID == window })
}

// A Decision is a store's answer to a Request.
type Decision struct {
	// Admitted: one unit is held in every limit that applies, or the Reservation is
	// Unchecked. Otherwise no count and no hold has changed.
	Admitted bool
	// WouldBlock names what would have refused the request if it were not observed, see
	// Snapshot.WouldBlock; nil: nothing, or it is not observed. A Reserve that is sent twice
	// says the second time what exceeds its limit by then.
	WouldBlock []string
	// AttemptWait is how long until the user has an attempt again, when it was the
	// plan's Attempts that refused the request; 0: it was not.
	AttemptWait time.Duration
	// Reservation is what to commit or release. A store that failed fills it all
	// the same, with the windows that it believes in, so that a request that is
	// let through without an answer can still be counted.
	Reservation Reservation
	// Snapshot is the state after the decision.
	Snapshot Snapshot
}
