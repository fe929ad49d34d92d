package boltstore

import (
	"bytes"
	"encoding/binary"
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
	cursor := used.Cursor() // Get would make one for each key
	var key []byte          // bbolt copies it
	for _, w := range windows {
		if !now.Before(w.RetainedUntil(keep)) {
			continue
		}
		counted = true
		for _, endpoint := range []string{"", h.endpoint} {
			key = appendKey(key[:0], account, w.ID, endpoint)
			n := amounts{}
			if k, value := cursor.Seek(key); bytes.Equal(k, key) {
				n = decodeAmounts(value)
			}
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

// amounts is a value of used, history, bills or grants: 8 bytes, or 16 if the second number is not 0. It is also what
// a hold holds.
type amounts struct {
	requests int64
	// extra is, in used, in history, in bills and of a hold, by how much the units of the requests exceed their number; it
	// can be negative. In grants it is the units granted.
	extra int64
}

// decodeAmounts reads a value; one that is missing is zero.
func decodeAmounts(value []byte) (a amounts) {
	if value == nil {
		return a
	}
	a.requests = int64(binary.BigEndian.Uint64(value[:8]))
	if len(value) >= 16 {
		a.extra = int64(binary.BigEndian.Uint64(value[8:16]))
	}
	return a
}

// used is what was used of a quantity, if a is from used, history or bills, or what is held.
func (a amounts) used(q quota.Quantity) int64 {
	if q == quota.Units {
		return a.requests + a.extra
	}
	return a.requests
}

// with is what is used once h is counted as well.
func (a amounts) with(h *hold) amounts {
	a.extra += h.charged
	if !h.isRest {
		a.requests++
		a.extra--
	}
	return a
}

// granted is what was granted of a quantity, if a is from grants.
func (a amounts) granted(q quota.Quantity) int64 {
	if q == quota.Units {
		return a.extra
	}
	return a.requests
}

// putAmounts sets a value of used, history, bills or grants. The first one with two numbers changes the format of
// the file, so that a release that knows only one refuses it.
func putAmounts(tx boltfile.Tx, bucket boltfile.Bucket, key []byte, a amounts) error {
	value := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(a.requests))
	if a.extra != 0 {
		value = binary.BigEndian.AppendUint64(value, uint64(a.extra))
		meta := tx.Bucket(metaBucket)
		if got := meta.Get(formatKey); plainFormat(got) != formatUnits {
			if err := meta.Put(formatKey, bytes.Replace(got, []byte(format), []byte(formatUnits), 1)); err != nil {
				return err
			}
		}
	}
	return bucket.Put(key, value)
}
