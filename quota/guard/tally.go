package guard

import "metergate/quota"

// A tally has numbers of one user by window and endpoint; an empty endpoint is the total.
type tally map[tallyKey]amounts

type tallyKey struct{ windowID, endpoint string }

// amounts are requests, and by how much their units exceed their number.
type amounts struct{ requests, extra int64 }

func (a amounts) used(q quota.Quantity) int64 {
	if q == quota.Units {
		return a.requests + a.extra
	}
	return a.requests
}

// inPool returns what a reservation of a member is in the pool of the organisation; false: nothing.
func inPool(r *quota.Reservation) (quota.Reservation, bool) {
	if len(r.PoolWindows) == 0 {
		return quota.Reservation{}, false
	}
	shared := *r
	shared.User, shared.Windows, shared.PoolWindows = quota.PoolOf(r.User), r.PoolWindows, nil
	return shared, true
}

// add adds r, n times, to every number that it counts in.
func (t tally) add(r *quota.Reservation, n int64) {
	for _, w := range r.Windows {
		for _, key := range [...]tallyKey{{w.ID, ""}, {w.ID, r.Endpoint}} {
			a := t[key]
			a.requests += n
			a.extra += n * (r.ChargedUnits() - 1)
			if t[key] = a; a == (amounts{}) {
				delete(t, key)
			}
		}
	}
}
