package guard

import (
	"bytes"
	"encoding/json"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

const journalFile = "journal.db"

// The file has two buckets.
//
//	meta     "format" -> "1"; "note/" name -> a note, see SaveNote
//	entries  account 0x00 reservation ID -> the rest of the reservation, as JSON
//
// No account has the byte 0x00, which ends it.
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
	Units    *int64        `json:"units,omitempty"` // charged; absent: 1
	Windows  []entryWindow `json:"windows"`
	Pool     []entryWindow `json:"pool,omitempty"` // those of the pool of a member's organisation
}

type entryWindow struct {
	Period quota.Period `json:"per"`
	ID     string       `json:"id"`
	Start  time.Time    `json:"start"`
	End    time.Time    `json:"end"`
}

// cure is what the operator can do about a damaged file.
const cure = "move it away, and the gateway starts with an empty journal; the counts in it that Redis does not have yet are lost"

// openJournalFile opens or creates the file in dir, and its buckets. It writes in any case, and
// so shows that the folder can be written.
func openJournalFile(dir string) (*boltfile.File, error) {
	return boltfile.Open(dir, journalFile, boltfile.Options{InUse: ErrInUse, Cure: cure, Supersede: removeEntries}, createBuckets)
}

// removeEntries empties a journal that was written again, in another file: if its folder was
// renamed, and a gateway started on it, the entries would be counted twice.
func removeEntries(tx *bolt.Tx) error {
	if err := tx.DeleteBucket(entriesBucket); err != nil {
		return err
	}
	_, err := tx.CreateBucket(entriesBucket)
	return err
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
	if units := r.ChargedUnits(); units != 1 {
		value.Units = &units
	}
	value.Windows, value.Pool = entryWindows(r.Windows), entryWindows(r.PoolWindows)
	return json.Marshal(value)
}

func entryWindows(windows []quota.Window) (entries []entryWindow) {
	for _, w := range windows {
		entries = append(entries, entryWindow{w.Period, w.ID, w.Start, w.End})
	}
	return entries
}

func decodeWindows(entries []entryWindow) (windows []quota.Window) {
	for _, w := range entries {
		windows = append(windows, quota.Window{Period: w.Period, ID: w.ID, Start: w.Start, End: w.End})
	}
	return windows
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
	if value.Units != nil {
		units := *value.Units
		if units < 0 || units > quota.MaxCost {
			return quota.Reservation{}, false
		}
		r.Units, r.Unused = units, 0
		if units == 0 {
			r.Unused = 1
		}
	}
	r.Windows, r.PoolWindows = decodeWindows(value.Windows), decodeWindows(value.Pool)
	return r, true
}
