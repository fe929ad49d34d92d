package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"

	"metergate/quota/internal/boltfile"
)

// JournalName is the name of a journal's file in its folder.
const JournalName = journalFile

// IsJournal reports whether a file is a journal by what is in it, whatever its name is. It is false for one that cannot be read.
func IsJournal(path string) (is bool) {
	_, _ = boltfile.Examine(path, ErrInUse, func(tx *bolt.Tx, _ func(boltfile.Fault)) { is = tx.Bucket(entriesBucket) != nil })
	return is
}

// ExamineJournal looks for faults in the journal's file at a path, and changes nothing. entries is how many counts wait in it. Errors are
// ErrInUse and those of the disk.
func ExamineJournal(path string) (faults []boltfile.Fault, entries int, err error) {
	faults, err = boltfile.Examine(path, ErrInUse, func(tx *bolt.Tx, report func(boltfile.Fault)) {
		meta := tx.Bucket(metaBucket)
		if meta == nil || tx.Bucket(entriesBucket) == nil {
			report(boltfile.Fault{Place: "file", What: "it is another program's database, or no journal"})
			return
		}
		if got := string(meta.Get(formatKey)); got != format && got != formatRests {
			report(boltfile.Fault{Place: "meta format", What: fmt.Sprintf("it is %q; this version of the program reads only %q and %q", got, format, formatRests)})
			return
		}
		_ = tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			switch string(name) {
			case string(metaBucket):
				return nil
			case string(entriesBucket), string(restsBucket):
			default:
				report(boltfile.Fault{Place: "bucket " + string(name), What: "it is unknown; a later release may have written it"})
				return nil
			}
			return boltfile.ForEach(b, func(k, v []byte) error {
				entries++
				if err := examineEntry(k, v); err != nil {
					report(boltfile.Fault{Place: fmt.Sprintf("%s %q", name, bytes.ReplaceAll(k, []byte{0}, []byte(" "))), What: err.Error()})
				}
				return nil
			})
		})
	})
	return faults, entries, err
}

func examineEntry(k, v []byte) error {
	account, id, found := bytes.Cut(k, []byte{0})
	if !found || len(account) == 0 || len(id) == 0 {
		return errors.New("the key names no reservation")
	}
	var value entryValue
	if err := json.Unmarshal(v, &value); err != nil {
		return err
	}
	if value.Endpoint == "" {
		return errors.New("it names no endpoint")
	}
	return nil
}
