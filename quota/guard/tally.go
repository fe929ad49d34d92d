package guard

import "metergate/quota"

// A tally has numbers of one user by window and endpoint; an empty endpoint is the total. It also has
// those of days by endpoint, with a date in place of a window. nil has none.
type tally map[tallyKey]amounts

type tallyKey struct {
	windowID, endpoint string
	date               quota.Date
}

// amounts are requests, and by how much their units exceed their number.
type amounts struct{ requests, extra int64 }

func (a amounts) used(q quota.Quantity) int64 {
	if q == quota.Units {
		return a.requests + a.extra
	}
	return a.requests
}

func (a amounts) asUsed() quota.Used {
	return quota.Used{Requests: a.requests, Units: a.used(quota.Units)}
}

// A settlement is a commit of a request or of its rest.
type settlement struct {
	quota.Reservation
	isRest bool
	// claimed is the name of the plan that the user's token claimed, if it comes from the journal; empty: it
	// is not known. Then the Reservation has no Plans.
	claimed string
}

// counted is what the settlement counts.
func (w *settlement) counted() amounts {
	if w.isRest {
		return amounts{extra: w.ChargedRest()}
	}
	return amounts{requests: 1, extra: w.ChargedUnits() - 1}
}

// inPool returns what a settlement of a member is in the pool of the organisation; false: nothing.
func (w *settlement) inPool() (settlement, bool) {
	shared, ok := inPool(&w.Reservation)
	return settlement{Reservation: shared, isRest: w.isRest}, ok
}

// inPool returns what a reservation of a member is in the pool of the organisation; false: nothing.
func inPool(r *quota.Reservation) (quota.Reservation, bool) {
	if len(r.PoolWindows) == 0 {
		return quota.Reservation{}, false
	}
	shared := *r
	shared.User, shared.Windows, shared.PoolWindows = quota.PoolOf(r.User), r.PoolWindows, nil
	shared.Date = 0 // pools have no history
	return shared, true
}

// add adds what w counts, n times, to every number that it counts in.
func (t *tally) add(w *settlement, n int64) {
	if *t == nil {
		*t = tally{}
	}
	counted := w.counted()
	for _, window := range w.Windows {
		t.addTo(tallyKey{windowID: window.ID}, counted, n)
		t.addTo(tallyKey{windowID: window.ID, endpoint: w.Endpoint}, counted, n)
	}
	if w.Date != 0 {
		t.addTo(tallyKey{date: w.Date, endpoint: w.Endpoint}, counted, n)
	}
}

func (t tally) addTo(key tallyKey, counted amounts, n int64) {
	a := t[key]
	a.requests += n * counted.requests
	a.extra += n * counted.extra
	if t[key] = a; a == (amounts{}) {
		delete(t, key)
	}
}
