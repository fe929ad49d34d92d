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

// The file has three buckets.
//
//	meta     "format" -> "1" or "2"; "note/" name -> a note, see SaveNote
//	entries  account 0x00 reservation ID -> what else the commit of a request says, as JSON
//	rests    the same of commits of rests
//
// No account has the byte 0x00, which ends it.
var (
	metaBucket    = []byte("meta")
	entriesBucket = []byte("entries")
	restsBucket   = []byte("rests")
	formatKey     = []byte("format")
)

const (
	// format is the version of the file's format. It changes with the meaning of the buckets.
	format = "1"
	// formatRests is that of a file while there is something in rests, which a release that does not
	// know them would leave.
	formatRests = "2"
)

// entryValue is the value of an entry.
type entryValue struct {
	Endpoint string `json:"endpoint"`
	Units    *int64 `json:"units,omitempty"` // charged; absent: 1
	Rest     int64  `json:"rest,omitempty"`  // of a rest: what was left
	// Date is the day of the history; absent: there is none. A release that does not know it leaves
	// the count out of the history.
	Date quota.Date `json:"date,omitempty"`
	// Hour is likewise that of the bills.
	Hour quota.BillHour `json:"hour,omitempty"`
	// Plan is the one that the user's token claims, where plans have thresholds. A release that does not know it
	// asks the store.
	Plan    string        `json:"plan,omitempty"`
	Windows []entryWindow `json:"windows"`
	Pool    []entryWindow `json:"pool,omitempty"` // those of the pool of a member's organisation
}

type entryWindow struct {
	Period quota.Period `json:"per"`
	ID     string       `json:"id"`
	Start  time.Time    `json:"start"`
	End    time.Time    `json:"end"`
}

// cure is what the operator can do about a damaged file.
const cure = "move it away, and the gateway starts with an empty journal; the counts in it that Redis does not have yet are lost"

// openJournalFile opens or creates a file in dir, and its buckets. It writes in any case, and
// so shows that the folder can be written.
func openJournalFile(dir, name string) (*boltfile.File, error) {
	return boltfile.Open(dir, name, boltfile.Options{InUse: ErrInUse, Cure: cure, Supersede: removeEntries}, createBuckets)
}

// removeEntries empties a journal that was written again, in another file: if its folder was
// renamed, and a gateway started on it, the entries would be counted twice.
func removeEntries(tx *bolt.Tx) error {
	for _, name := range [][]byte{entriesBucket, restsBucket} {
		if err := tx.DeleteBucket(name); err != nil {
			return err
		}
		if _, err := tx.CreateBucket(name); err != nil {
			return err
		}
	}
	return putFormat(tx)
}

// putFormat notes the format that the file has.
func putFormat(tx *bolt.Tx) error {
	is := format
	if first, _ := tx.Bucket(restsBucket).Cursor().Seek(nil); first != nil {
		is = formatRests
	}
	return tx.Bucket(metaBucket).Put(formatKey, []byte(is))
}

// createBuckets creates what is missing, and refuses an unknown format.
func createBuckets(tx *bolt.Tx) error {
	meta, err := tx.CreateBucketIfNotExists(metaBucket)
	if err != nil {
		return err
	}
	if got := meta.Get(formatKey); got != nil && string(got) != format && string(got) != formatRests {
		return fmt.Errorf("the journal has format %q; this version of the program reads only %q and %q", got, format, formatRests)
	}
	for _, name := range [][]byte{entriesBucket, restsBucket} {
		if _, err := tx.CreateBucketIfNotExists(name); err != nil {
			return err
		}
	}
	return putFormat(tx)
}

// entryKey is the key of an entry; with an empty ID, the prefix of a user's keys.
func entryKey(user, id string) []byte {
	return append(append([]byte(user), 0), id...)
}

// encodeEntry returns the value of the entry for s. What a request has left held is not in it: nothing
// is, once its process has died.
func encodeEntry(s *settlement) ([]byte, error) {
	value := entryValue{Endpoint: s.Endpoint, Date: s.Date, Hour: s.BillHour}
	if s.Plans.Notifies() {
		value.Plan = s.Plans.Claimed.Name()
	}
	units := s.ChargedUnits()
	if s.isRest {
		units, value.Rest = s.ChargedRest(), s.RestUnits()
	}
	if units != 1 {
		value.Units = &units
	}
	value.Windows, value.Pool = entryWindows(s.Windows), entryWindows(s.PoolWindows)
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
func decodeEntry(key, text []byte, isRest bool) (s settlement, ok bool) {
	user, id, ok := bytes.Cut(key, []byte{0})
	var value entryValue
	if !ok || json.Unmarshal(text, &value) != nil {
		return s, false
	}
	units := int64(1)
	if value.Units != nil {
		units = *value.Units
	}
	switch {
	case units < 0 || units > quota.MaxCost, isRest && (units > value.Rest || value.Rest > quota.MaxCost):
		return s, false
	case isRest:
		s.Units, s.Unused, s.Rest, s.RestCharged = value.Rest, value.Rest, value.Rest, units
	case value.Units != nil:
		s.Units = units
		if units == 0 {
			s.Unused = 1
		}
	}
	s.User, s.ID, s.Endpoint, s.isRest = string(user), string(id), value.Endpoint, isRest
	s.Date, s.BillHour, s.claimed = value.Date, value.Hour, value.Plan
	s.Windows, s.PoolWindows = decodeWindows(value.Windows), decodeWindows(value.Pool)
	return s, true
}
