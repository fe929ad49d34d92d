package boltstore

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"metergate/quota"
)

// The file has three buckets. Numbers are 8 bytes, big-endian.
//
//	meta   "format" -> "1"
//	used   user 0x00 window 0x00 endpoint -> number of requests counted;
//	       an empty endpoint: all of them together
//	ends   kind of window (1 byte, a quota.Per), its end (seconds since 1970),
//	       key in used -> nothing
//
// No part of a key has a control character, so that 0x00 ends it. ends finds what
// is to be deleted: for each key in used there is one.
var (
	metaBucket = []byte("meta")
	usedBucket = []byte("used")
	endsBucket = []byte("ends")
	formatKey  = []byte("format")
)

const (
	fileName = "usage.db"
	// format changes with the meaning of the buckets.
	format = "1"
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
		return tx.Bucket(metaBucket).Put(formatKey, []byte(format))
	}
	if got := meta.Get(formatKey); string(got) != format {
		return fmt.Errorf("the file has format %q, this version of the program knows only %q", got, format)
	}
	return nil
}

// appendKey appends a key in used to b.
func appendKey(b []byte, user, window, endpoint string) []byte {
	b = append(append(b, user...), 0)
	b = append(append(b, window...), 0)
	return append(b, endpoint...)
}

// number reads a value of used; 0 for one that is not there.
func number(value []byte) int64 {
	if value == nil {
		return 0
	}
	return int64(binary.BigEndian.Uint64(value))
}

// countUp counts h in each of its windows that is still kept at now. It returns
// how many keys it has made.
func countUp(tx *bolt.Tx, h *hold, now time.Time, keep time.Duration) (created int, err error) {
	used, ends := tx.Bucket(usedBucket), tx.Bucket(endsBucket)
	for _, w := range h.windows {
		if !now.Before(w.Retain(keep)) {
			continue
		}
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
	return created, nil
}

// endKey is the key in ends for a key in used.
func endKey(w quota.Window, key []byte) []byte {
	b := binary.BigEndian.AppendUint64([]byte{byte(w.Per)}, uint64(w.End.Unix()))
	return append(b, key...)
}

// prune deletes up to limit counts that are not kept any more at now.
func prune(tx *bolt.Tx, now time.Time, keep time.Duration, limit int) error {
	used, ends := tx.Bucket(usedBucket), tx.Bucket(endsBucket)
	cursor := ends.Cursor()
	for per := quota.Minute; per <= quota.Year; per++ {
		for ; limit > 0; limit-- {
			// Once more from the start: a deletion moves the cursor.
			k, _ := cursor.Seek([]byte{byte(per)})
			if k == nil || k[0] != byte(per) {
				break
			}
			end := time.Unix(int64(binary.BigEndian.Uint64(k[1:9])), 0)
			if now.Before(quota.Window{Per: per, End: end}.Retain(keep)) {
				break
			}
			if err := used.Delete(k[9:]); err != nil {
				return err
			}
			if err := ends.Delete(k); err != nil {
				return err
			}
		}
	}
	return nil
}
