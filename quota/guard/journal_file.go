package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"metergate/quota"
)

const journalFile = "journal.db"

// The file has two buckets.
//
//	meta     "format" -> "1"
//	entries  user 0x00 reservation ID -> the rest of the reservation, as JSON
//
// A user's ID has no control characters, so 0x00 ends it.
var (
	metaBucket    = []byte("meta")
	entriesBucket = []byte("entries")
	formatKey     = []byte("format")
)

// format is the version of the file's format. It changes with the meaning of the buckets.
const format = "1"

// entryValue is the value of an entry.
type entryValue struct {
	Endpoint string        `json:"endpoint"`
	Windows  []entryWindow `json:"windows"`
}

type entryWindow struct {
	Period quota.Period `json:"per"`
	ID     string       `json:"id"`
	Start  time.Time    `json:"start"`
	End    time.Time    `json:"end"`
}

// openJournalFile opens or creates the file in dir, and its buckets.
func openJournalFile(dir string) (*bolt.DB, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, journalFile)
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout:      1, // 0 would wait for ever; 1 ns tries the lock once
		FreelistType: bolt.FreelistMapType,
		NoStatistics: true,
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s is %w", path, ErrInUse)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// This writes in any case, and so shows that the folder can be written.
	if err := db.Update(createBuckets); err != nil {
		db.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// A new file is durable once its folder's entry is on disk as well. Some file systems,
	// and Windows, cannot sync folders; there it is left to the system.
	if folder, err := os.Open(dir); err == nil {
		folder.Sync()
		folder.Close()
	}
	return db, nil
}

// createBuckets creates what is missing, and refuses an unknown format.
func createBuckets(tx *bolt.Tx) error {
	meta, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	if got := meta.Get(formatKey); got != nil && string(got) != format {
		return fmt.Errorf("the journal has format %q; this version of the program reads only %q", got, format)
	}
	if _, err := tx.CreateBucketIfNotExists(entriesBucket); err != nil {
		return err
	}
	return meta.Put(formatKey, []byte(format))
}

// entryKey is the key of an entry; with an empty ID, the prefix of a user's keys.
func entryKey(user, id string) []byte {
	return append(append([]byte(user), 0), id...)
}

// encodeEntry returns the value of the entry for r.
func encodeEntry(r *quota.Reservation) ([]byte, error) {
	value := entryValue{Endpoint: r.Endpoint}
	for _, w := range r.Windows {
		value.Windows = append(value.Windows, entryWindow{w.Period, w.ID, w.Start, w.End})
	}
	return json.Marshal(value)
}

// decodeEntry reads an entry. It returns false if the entry is not one that encodeEntry
// made.
func decodeEntry(key, text []byte) (r quota.Reservation, ok bool) {
	user, id, ok := bytes.Cut(key, []byte{0})
	var value entryValue
	if !ok || json.Unmarshal(text, &value) != nil {
		return r, false
	}
	r.User, r.ID, r.Endpoint = string(user), string(id), value.Endpoint
	for _, w := range value.Windows {
		r.Windows = append(r.Windows, quota.Window{Period: w.Period, ID: w.ID, Start: w.Start, End: w.End})
	}
	return r, true
}
