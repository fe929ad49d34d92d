package boltstore

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"metergate/quota"
)

// The file has these buckets. Numbers are 8 bytes, big-endian; times are milliseconds
// since 1970 where it does not say seconds.
//
//	meta    "format" -> "2"
//	used    user 0x00 window 0x00 endpoint -> number of requests counted;
//	        an empty endpoint: all of them together
//	grants  as used -> number of units granted to the limit on endpoint, or on all
//	claimed user -> the plan by his token when he was last counted
//	plans   user -> when his override of the plan ends, 0: never; the plan's name
//	audit   user 0x00 time, number -> a quota.Change as JSON
//	once    user 0x00 id of a change -> until when it is known; its fingerprint
//	ends    kind (1 byte), time in seconds, key -> nothing
//
// No user, window, endpoint or id has a control character, so that 0x00 ends it. ends
// finds what is to be deleted. Its kind is a quota.Period, and then the time is a window's
// end and the key one of used, of grants, or of both; or one of the kinds below. For
// each key in used, grants, audit, once and claimed there is one, for a plan when it has
// an end.
//
// Format "1" had meta, used and ends.
var (
	metaBucket    = []byte("meta")
	usedBucket    = []byte("used")
	grantsBucket  = []byte("grants")
	plansBucket   = []byte("plans")
	claimedBucket = []byte("claimed")
	auditBucket   = []byte("audit")
	onceBucket    = []byte("once")
	endsBucket    = []byte("ends")
	formatKey     = []byte("format")
)

// Kinds of keys in ends besides those of quota.Period.
const (
	auditEnds byte = 'a' // the time is that of the entry
	onceEnds  byte = 'o' // the time is that until which the id is known, rounded up
	planEnds  byte = 'p' // the time is the end of the override, rounded up
	// claimedEnds: the time is the end of the longest window in which the user was
	// counted when the key was made.
	claimedEnds byte = 'c'
)

const (
	fileName = "usage.db"
	// format changes with the meaning of the buckets.
	format = "2"
)

// openFile opens or makes the file in dir and its buckets.
func openFile(dir string) (*bolt.DB, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, fileName)
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout:      1, // not 0, which waits for ever: try the lock once
		FreelistType: bolt.FreelistMapType,
		NoStatistics: true, // they cost each reader a lock that all share
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s is %w", path, ErrInUse)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := db.Update(makeBuckets); err != nil {
		db.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// A new file is safe when its folder's entry is on disk, too. What cannot sync
	// folders does without: some file systems, Windows.
	if folder, err := os.Open(dir); err == nil {
		folder.Sync()
		folder.Close()
	}
	return db, nil
}

// makeBuckets makes what a new file needs and refuses what it does not know.
func makeBuckets(tx *bolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil {
		if first, _ := tx.Cursor().First(); first != nil {
			return errors.New("this is a database of another program")
		}
		for _, name := range [][]byte{metaBucket, usedBucket, endsBucket} {
			if _, err := tx.CreateBucket(name); err != nil {
				return err
			}
		}
		return upgrade(tx)
	}
	switch got := meta.Get(formatKey); string(got) {
	case format:
		_, err := tx.CreateBucketIfNotExists(claimedBucket) // the first files of this format had none
		return err
	case "1":
		return upgrade(tx)
	default:
		return fmt.Errorf("the file has format %q, this version of the program knows only \"1\" and %q", got, format)
	}
}

// upgrade makes what format 2 has besides that of format 1.
func upgrade(tx *bolt.Tx) error {
	for _, name := range [][]byte{grantsBucket, plansBucket, claimedBucket, auditBucket, onceBucket} {
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	return tx.Bucket(metaBucket).Put(formatKey, []byte(format))
}

// appendKey appends a key in used and grants to b.
func appendKey(b []byte, user, window, endpoint string) []byte {
	b = append(append(b, user...), 0)
	b = append(append(b, window...), 0)
	return append(b, endpoint...)
}

// number reads a value of used or grants; 0 for one that is not there.
func number(value []byte) int64 {
	if value == nil {
		return 0
	}
	return int64(binary.BigEndian.Uint64(value[:8]))
}

// countUp counts h in each of its windows that is still kept at now. It returns
// how many keys it has made.
func countUp(tx *bolt.Tx, h *hold, now time.Time, keep time.Duration) (created int, err error) {
	used, ends, counted := tx.Bucket(usedBucket), tx.Bucket(endsBucket), false
	for _, w := range h.windows {
		if !now.Before(w.RetainedUntil(keep)) {
			continue
		}
		counted = true
		for _, endpoint := range []string{"", h.endpoint} {
			key := appendKey(nil, h.user, w.ID, endpoint)
			n := number(used.Get(key))
			if n == 0 {
				created++
				if err := ends.Put(endKey(w, key), nil); err != nil {
					return created, err
				}
			}
			if err := used.Put(key, binary.BigEndian.AppendUint64(nil, uint64(n+1))); err != nil {
				return created, err
			}
		}
	}
	if h.claimed == "" || !counted {
		return created, nil
	}
	made, err := claim(tx, h)
	return created + made, err
}

// claim notes the plan by the token of a user who is counted, and returns how many keys
// it has made.
func claim(tx *bolt.Tx, h *hold) (created int, err error) {
	claimed, user := tx.Bucket(claimedBucket), []byte(h.user)
	known := claimed.Get(user)
	if string(known) == h.claimed {
		return 0, nil
	}
	if known == nil {
		created++
		last := h.windows[0].End
		for _, w := range h.windows {
			if w.End.After(last) {
				last = w.End
			}
		}
		if err := tx.Bucket(endsBucket).Put(endKeyOf(claimedEnds, last.Unix(), user), nil); err != nil {
			return created, err
		}
	}
	return created, claimed.Put(user, []byte(h.claimed))
}

// endKey is the key in ends for a key in used or grants.
func endKey(w quota.Window, key []byte) []byte { return endKeyOf(byte(w.Period), w.End.Unix(), key) }

func endKeyOf(kind byte, seconds int64, key []byte) []byte {
	return append(binary.BigEndian.AppendUint64([]byte{kind}, uint64(seconds)), key...)
}

// prune deletes up to limit things that are not kept any more at now.
func prune(tx *bolt.Tx, now time.Time, keep time.Duration, limit int) error {
	ends := tx.Bucket(endsBucket)
	cursor := ends.Cursor()
	for _, kind := range [...]byte{byte(quota.Minute), byte(quota.Hour), byte(quota.Day), byte(quota.Week), byte(quota.Month), byte(quota.Year),
		auditEnds, onceEnds, planEnds, claimedEnds} {
		for ; limit > 0; limit-- {
			// Once more from the start: a deletion moves the cursor.
			k, _ := cursor.Seek([]byte{kind})
			if k == nil || k[0] != kind {
				break
			}
			end := time.Unix(int64(binary.BigEndian.Uint64(k[1:9])), 0)
			switch kind {
			case auditEnds, claimedEnds:
				end = end.Add(keep)
			case onceEnds, planEnds:
			default:
				end = quota.Window{Period: quota.Period(kind), End: end}.RetainedUntil(keep)
			}
			if now.Before(end) {
				break
			}
			if err := remove(tx, kind, k[9:], now); err != nil {
				return err
			}
			if err := ends.Delete(k); err != nil {
				return err
			}
		}
	}
	return nil
}

// remove deletes what a key in ends stands for.
func remove(tx *bolt.Tx, kind byte, key []byte, now time.Time) error {
	switch kind {
	case auditEnds:
		return tx.Bucket(auditBucket).Delete(key)
	case onceEnds:
		// It may have come again, and have another end, and so may an override.
		if once := tx.Bucket(onceBucket); number(once.Get(key)) <= now.UnixMilli() {
			return once.Delete(key)
		}
		return nil
	case planEnds:
		if plans := tx.Bucket(plansBucket); overrideIn(plans, key).ActiveAt(now) == (quota.Override{}) {
			return plans.Delete(key)
		}
		return nil
	case claimedEnds:
		// As long as anything is counted of the user, it is looked at again.
		prefix := append(slices.Clone(key), 0)
		if k, _ := tx.Bucket(usedBucket).Cursor().Seek(prefix); bytes.HasPrefix(k, prefix) {
			return tx.Bucket(endsBucket).Put(endKeyOf(claimedEnds, now.Unix(), key), nil)
		}
		return tx.Bucket(claimedBucket).Delete(key)
	}
	if err := tx.Bucket(usedBucket).Delete(key); err != nil {
		return err
	}
	return tx.Bucket(grantsBucket).Delete(key)
}

// overrideIn reads a user's override, also one that has ended.
func overrideIn(plans *bolt.Bucket, user []byte) (o quota.Override) {
	value := plans.Get(user)
	if len(value) < 8 {
		return o
	}
	o.Plan = string(value[8:])
	if ms := number(value); ms != 0 {
		o.Until = time.UnixMilli(ms).UTC()
	}
	return o
}

// secondsAfter is t in seconds, rounded up.
func secondsAfter(t time.Time) int64 { return t.Add(time.Second - 1).Unix() }
