package proxy

import (
	"net/http"
	"time"

	"metergate/proxy/tracing"
	"metergate/quota"
)

// leaseMargin is how much longer a unit is held than its request can take. It covers
// the time to settle, and clocks that differ.
const leaseMargin = 10 * time.Second

// A releaseReason says why a reservation was given back, as metergate_released_total
// reports it.
type releaseReason string

const (
	released3xx         releaseReason = "status_3xx"
	released4xx         releaseReason = "status_4xx"
	released5xx         releaseReason = "status_5xx"
	releasedTimeout     releaseReason = "timeout"
	releasedUnreachable releaseReason = "unreachable" // the upstream sent no response
	releasedClientGone  releaseReason = "client_gone"
	releasedBody        releaseReason = "body" // the request's body was too large or incomplete
	releasedOther       releaseReason = "other"
)

var releaseReasons = []releaseReason{released3xx, released4xx, released5xx, releasedTimeout, releasedUnreachable, releasedClientGone, releasedBody, releasedOther}

// reserve holds what the request may cost of the user's quota. Errors:
//
//   - *limitError: a limit has no room for it;
//   - *concurrencyError: the user has too many requests running;
//   - *attemptsError: the user has made too many attempts;
//   - *storeError: the store does not let the request pass;
//   - errBodyIncomplete: the body of a request that waited is malformed;
//   - errClientGone: nobody waits for the answer any more. Clients that open and reset
//     requests in a loop (CVE-2023-44487) do not cost the store any work.
func (x *exchange) reserve() error {
	defer stopwatch(&x.record.reserve)()
	defer x.endReserve(x.span.Start("reserve"))
	if x.in.Context().Err() != nil {
		return errClientGone
	}
	d, err := x.reserveInTurn(&quota.Request{
		ID:       quota.NewID(),
		User:     x.account,
		Endpoint: x.route.Endpoint,
		Units:    x.route.Cost.MaxUnits(),
		Plans:    x.plans,
		Lease:    x.route.Timeout + leaseMargin,
		Observe:  x.route.Observe,
	})
	if d.Reservation.Plan != nil {
		x.plan = d.Reservation.Plan
	}
	switch {
	case err == errClientGone || err != nil && x.in.Context().Err() != nil:
		return errClientGone
	case err == errBodyIncomplete:
		return err
	case err != nil:
		x.record.decision = "error"
		return &storeError{err}
	case d.AttemptWait > 0:
		x.record.decision = "throttled"
		return &attemptsError{x.route.Endpoint, x.account, d.AttemptWait, &d.Snapshot}
	case d.NoPlace:
		x.record.decision = "crowded"
		return &concurrencyError{x.route.Endpoint, x.account, &d.Snapshot}
	case !d.Admitted:
		x.record.decision = "refused"
		return &limitError{x.route.Endpoint, x.account, x.route.Cost.MaxUnits(), &d.Snapshot}
	case d.Reservation.Unchecked: // above a limit or not
		x.record.decision = "unchecked"
	case len(d.WouldBlock) > 0:
		x.record.decision = "observed"
	default:
		x.record.decision = "admitted"
	}
	if len(d.WouldBlock) > 0 {
		x.setWouldBlock(d.WouldBlock)
	}
	// A copy, so that the rest of the Decision does not stay in memory while the request
	// waits for its upstream.
	x.reservation, x.reserved = d.Reservation, true
	x.running = d.Reservation.Plan != nil && d.Reservation.Plan.ConcurrencyLimit().Requests > 0
	return nil
}

// settle commits the reservation of a request that was answered with a 2xx status, and
// releases any other. If the body of the response reports the cost, a part stays held, see
// costbody.go. It returns the user's state afterwards, or nil as commit does.
func (x *exchange) settle(res *http.Response) *quota.Snapshot {
	switch res.StatusCode / 100 {
	case 2:
		x.charge(res)
		return x.commit()
	case 3:
		return x.release(released3xx)
	case 4:
		return x.release(released4xx)
	case 5:
		return x.release(released5xx)
	}
	return x.release(releasedOther)
}

// commit counts the reservation. It returns the user's state afterwards; nil after an
// error, and if there is nothing to settle.
func (x *exchange) commit() *quota.Snapshot {
	if !x.reserved {
		return nil
	}
	defer stopwatch(&x.record.settle)()
	span := x.span.Start("settle")
	defer span.End()
	s, err := x.g.store.Commit(x.settleContext(), &x.reservation)
	if x.restHeld = x.reservation.RestUnits() > 0; x.restHeld {
		x.g.inFlight.unknownCosts.Add(1)
	}
	if !x.endReservation(span, s, err, true) {
		return nil
	}
	x.g.metrics.counted.WithLabelValues(x.route.Endpoint).Inc()
	x.addCharged(x.reservation.ChargedUnits())
	return s
}

// commitRest counts what commit has left held, as far as it is charged. It does nothing if there is
// nothing left.
func (x *exchange) commitRest() {
	if !x.restHeld {
		return
	}
	start := time.Now()
	span := x.span.Start("settle rest")
	defer span.End()
	s, err := x.g.store.CommitRest(x.settleContext(), &x.reservation)
	x.restHeld = false
	defer x.g.inFlight.unknownCosts.Add(-1)
	x.record.settle += time.Since(start)
	if x.endReservation(span, s, err, true) {
		x.record.usage = s
		x.addCharged(x.reservation.ChargedRest())
	}
}

// addCharged records units that the request was charged.
func (x *exchange) addCharged(units int64) {
	x.record.charged += units
	if x.g.reportsCost {
		x.g.metrics.units.WithLabelValues(x.route.Endpoint).Add(float64(units))
	}
}

// release gives the reservation back. It returns the user's state afterwards; nil
// after an error, and if there is nothing to settle.
func (x *exchange) release(reason releaseReason) *quota.Snapshot {
	if !x.reserved {
		return nil
	}
	defer stopwatch(&x.record.settle)()
	span := x.span.Start("settle")
	defer span.End()
	s, err := x.g.store.Release(x.settleContext(), &x.reservation)
	span.Text("metergate.released", string(reason))
	if !x.endReservation(span, s, err, false) {
		return nil
	}
	x.g.metrics.released.WithLabelValues(string(reason)).Inc()
	return s
}

// endReservation takes note of the store's answer to a Commit, CommitRest or Release, and reports
// whether it was good. It is called only after the store's call: if that panics, the
// reservation still has to be settled.
func (x *exchange) endReservation(span *tracing.Span, s *quota.Snapshot, err error, succeeded bool) bool {
	x.reserved = false
	r := &x.reservation
	if span != nil {
		describeSettlement(span, r, s, err, succeeded)
	}
	if err != nil {
		x.unanswered = true
		x.g.metrics.unsettled.Inc()
		x.g.unsettled.Log("request_id", x.id, "reservation", r.ID, "endpoint", r.Endpoint, "succeeded", succeeded, "error", err)
		return false
	}
	x.unanswered = x.unanswered || r.Unchecked || s.Stale
	if !x.unanswered && !x.restHeld {
		// The store has answered all calls: no copy of them is still on its way.
		x.g.store.Forget(r)
	}
	return true
}
