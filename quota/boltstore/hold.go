package boltstore

import (
	"context"
	"sync/atomic"
	"time"

	"metergate/quota"
)

// A hold is a request that is reserved, or is being counted, or both.
//
// To count it, the writer gives it the number of its write, makes the write visible, and then
// removes the hold. The writer does this without locking the user's shard. The file numbers its
// writes, and each reader learns the number of the last write that it sees. A reader that
// reads the file first and the holds second, both with the user's shard locked, therefore
// sees each unit in exactly one of the two places:
//
//	the reader sees write 7    the hold has no number    it is held
//	                           8                         it is held: write 7 has not counted it
//	                           7                         it is used, and no longer held
//
// A request that is settled in two steps leaves a rest: a hold of its own, of units alone. What a
// hold leaves is held from the write on that counts it.
type hold struct {
	user, id string // of a rest, see restID
	pool     string // of the user's organisation; empty: nothing is held there
	// The following fields change only with the user's shard locked, and not at all while
	// commit is set.
	endpoint    string
	isRest      bool
	units       int64          // the most that it may cost, 0 or more
	charged     int64          // what it costs, 0 to units; only if commit is set
	rest        int64          // the units that it leaves held, 0 to units-charged; likewise
	date        quota.Date     // the day on which it counts; 0: there is no history
	hour        quota.BillHour // likewise for bills; 0: nothing is kept for them
	windows     []quota.Window
	poolWindows []quota.Window // those of the pool
	claimedPlan string         // the plan that the user's token claims; empty: not known
	// notifies are the plans that may apply; nil: none of them has thresholds.
	notifies *quota.PlanChoice
	leaseEnd time.Time      // zero: it was not reserved here
	commit   *pendingCommit // the commit under way, or nil
	// writeNumber is the number of the write that counts it; 0: none does. It stays if that
	// write failed but can be seen nevertheless, see Store.writeBatch.
	writeNumber atomic.Int64
}

// isCommitting reports whether h is being counted, or was counted by a write that failed but
// can be seen.
func (h *hold) isCommitting() bool { return h.commit != nil || h.writeNumber.Load() != 0 }

// heldAfter is what h holds at now that is not among the counts that a reader of the write with this
// number sees.
func (h *hold) heldAfter(write int64, now time.Time) amounts {
	switch n := h.writeNumber.Load(); {
	case n != 0 && n <= write:
		return amounts{extra: h.rest}
	case h.isRest:
		return amounts{extra: h.units}
	case n == 0 && h.commit == nil && !now.Before(h.leaseEnd):
		// A hold that is about to be counted keeps its unit when the lease runs out. Otherwise
		// the unit would be given to another request, and then be counted as well.
		return amounts{}
	}
	return amounts{requests: 1, extra: h.units - 1}
}

// restID is the ID under which a shard has the rest of a reservation, and that it was settled.
func restID(id string) string { return id + "\x00rest" }

// newRest is the rest of a request.
func newRest(request *hold, units int64) *hold {
	return &hold{
		user: request.user, pool: request.pool, id: restID(request.id), isRest: true, units: units, endpoint: request.endpoint,
		date: request.date, hour: request.hour, windows: request.windows, poolWindows: request.poolWindows,
		notifies: request.notifies,
	}
}

// setPlans sets the plans by whose thresholds h is counted.
func (h *hold) setPlans(plans quota.PlanChoice) {
	if h.notifies = nil; plans.Notifies() {
		kept := plans // so that the argument is not allocated where nothing is notified
		h.notifies = &kept
	}
}

// countsIn reports whether h counts towards an account's counter in the window w. The account is its
// user or its pool.
func (h *hold) countsIn(account string, c quota.Counter, w quota.Window) bool {
	windows := h.windows
	if account == h.pool {
		windows = h.poolWindows
	}
	if c.Endpoint != "" && c.Endpoint != h.endpoint {
		return false
	}
	for i := range windows {
		if windows[i].ID == w.ID {
			return true
		}
	}
	return false
}

// A pendingCommit is what callers wait for when a hold is being counted.
type pendingCommit struct {
	done chan struct{} // closed when err is final
	err  error
}

// wait waits for the end of the commit or of ctx, which does not cancel the commit. A nil
// pendingCommit has succeeded.
func (c *pendingCommit) wait(ctx context.Context) error {
	if c == nil {
		return nil
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}
