package boltstore

import (
	"time"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// countUp counts h in each of its windows that is still kept at now, on its day and in its hour. It returns how
// many keys it has created.
func countUp(tx boltfile.Tx, h *hold, now time.Time, keeps retention) (created int, err error) {
	created, err = countIn(tx, h, h.user, h.windows, now, keeps.keep)
	if err != nil {
		return created, err
	}
	more, err := countDay(tx, h, now, keeps)
	created += more
	if err != nil {
		return created, err
	}
	more, err = countHour(tx, h, now, keeps)
	created += more
	if err != nil || h.pool == "" {
		return created, err
	}
	more, err = countIn(tx, h, h.pool, h.poolWindows, now, keeps.keep)
	return created + more, err
}

// countIn is countUp for one account.
func countIn(tx boltfile.Tx, h *hold, account string, windows []quota.Window, now time.Time, keep time.Duration) (created int, err error) {
	used, ends, counted := tx.Bucket(usedBucket), tx.Bucket(endsBucket), false
	for _, w := range windows {
		if !now.Before(w.RetainedUntil(keep)) {
			continue
		}
		counted = true
		for _, endpoint := range []string{"", h.endpoint} {
			key := appendKey(nil, account, w.ID, endpoint)
			n := decodeAmounts(used.Get(key))
			if n == (amounts{}) {
				created++
				if err := ends.Put(windowEndsKey(w, key), nil); err != nil {
					return created, err
				}
			}
			if err := putAmounts(tx, used, key, n.with(h)); err != nil {
				return created, err
			}
		}
	}
	if h.claimedPlan == "" || !counted {
		return created, nil
	}
	made, err := recordClaimedPlan(tx, account, windows, h.claimedPlan)
	return created + made, err
}

// recordClaimedPlan records the plan that the token of a counted user claims. It returns how many
// keys it has created.
func recordClaimedPlan(tx boltfile.Tx, account string, windows []quota.Window, plan string) (created int, err error) {
	claimed, user := tx.Bucket(claimedBucket), []byte(account)
	known := claimed.Get(user)
	if string(known) == plan {
		return 0, nil
	}
	if known == nil {
		created++
		last := windows[0].End
		for _, w := range windows {
			if w.End.After(last) {
				last = w.End
			}
		}
		if err := tx.Bucket(endsBucket).Put(endsKey(claimedKind, last.Unix(), user), nil); err != nil {
			return created, err
		}
	}
	return created, claimed.Put(user, []byte(plan))
}
