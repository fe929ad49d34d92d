package guard

import "metergate/quota"

// A tally has numbers of one user by window and endpoint; an empty endpoint is the total.
type tally map[tallyKey]int64

type tallyKey struct{ windowID, endpoint string }

// add adds n to every number that r counts in.
func (t tally) add(r *quota.Reservation, n int64) {
	for _, w := range r.Windows {
		for _, key := range [...]tallyKey{{w.ID, ""}, {w.ID, r.Endpoint}} {
			if t[key] += n; t[key] == 0 {
				delete(t, key)
			}
		}
	}
}
