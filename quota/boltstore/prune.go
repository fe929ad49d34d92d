package boltstore

import (
	"bytes"
	"encoding/binary"
	"slices"
	"time"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// endingKinds are the kinds of keys in endsBucket, in the order in which they are pruned:
// the windows of each period, the days and the hours first.
var endingKinds = func() (kinds []byte) {
	for _, period := range quota.Periods() {
		kinds = append(kinds, byte(period))
	}
	return append(kinds, dayKind, hourKind, revisionKind, auditKind, onceKind, planKind, claimedKind, termsKind, crossingKind)
}()

// prune deletes up to limit things that are no longer kept at now.
func prune(tx boltfile.Tx, now time.Time, keeps retention, limit int) error {
	ends := tx.Bucket(endsBucket)
	cursor := ends.Cursor()
	for _, kind := range endingKinds {
		for ; limit > 0; limit-- {
			// Seek again each time: a deletion moves the cursor.
			k, _ := cursor.Seek([]byte{kind})
			if k == nil || k[0] != kind {
				break
			}
			if keeps.keepsEnding(kind, int64(binary.BigEndian.Uint64(k[1:9])), now) {
				break
			}
			if err := removeExpired(tx, kind, k[9:], now); err != nil {
				return err
			}
			if err := ends.Delete(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// keepsEnding reports whether what a key in ends stands for is kept at now. The seconds are those of the key.
func (k retention) keepsEnding(kind byte, seconds int64, now time.Time) bool {
	end := time.Unix(seconds, 0)
	switch kind {
	case dayKind:
		return k.keepsInFile(quota.Date(seconds/secondsPerDay), now)
	case hourKind:
		return k.keepsBills(quota.BillHour(seconds/secondsPerHour), now)
	case revisionKind:
		end = end.Add(revisionLife)
	case auditKind, claimedKind, termsKind:
		end = end.Add(k.keep)
	case onceKind, planKind, crossingKind:
	default:
		end = quota.Window{Period: quota.Period(kind), End: end}.RetainedUntil(k.keep)
	}
	return now.Before(end)
}

// removeExpired deletes what a key in ends stands for.
func removeExpired(tx boltfile.Tx, kind byte, key []byte, now time.Time) error {
	switch kind {
	case dayKind:
		return tx.Bucket(historyBucket).Delete(key)
	case hourKind:
		return tx.Bucket(billsBucket).Delete(key)
	case revisionKind:
		return tx.Bucket(revisionsBucket).Delete(key)
	case auditKind:
		return tx.Bucket(auditBucket).Delete(key)
	case crossingKind:
		return tx.Bucket(crossingsBucket).Delete(key)
	case onceKind:
		// The ID may have been used again since and end later. The same goes for an override.
		if once := tx.Bucket(onceBucket); decodeNumber(once.Get(key)) <= now.UnixMilli() {
			return once.Delete(key)
		}
		return nil
	case planKind:
		if plans := tx.Bucket(plansBucket); readOverride(plans, key).ActiveAt(now) == (quota.Override{}) {
			return plans.Delete(key)
		}
		return nil
	case claimedKind, termsKind:
		// As long as the user has counts, it stays and is checked again later.
		prefix := append(slices.Clone(key), 0)
		if k, _ := tx.Bucket(usedBucket).Cursor().Seek(prefix); bytes.HasPrefix(k, prefix) {
			return tx.Bucket(endsBucket).Put(endsKey(kind, now.Unix(), key), nil)
		}
		if kind == termsKind {
			return tx.Bucket(termsBucket).Delete(key)
		}
		return tx.Bucket(claimedBucket).Delete(key)
	}
	for _, bucket := range [][]byte{usedBucket, grantsBucket, rearmedBucket} {
		if err := tx.Bucket(bucket).Delete(key); err != nil {
			return err
		}
	}
	return nil
}
