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
