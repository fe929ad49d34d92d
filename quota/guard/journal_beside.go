package guard

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota/internal/boltfile"
)

// A process that takes over from another one, on the same folder, needs a journal while the other one still
// has journal.db open. It writes to a second file, besideFile, and has the first one's place as soon as it is
// free: it adds what the other process has left there to its own file, which it then renames to journal.db.
//
// Either process may be killed at any time. An entry is in one of the files, or in both between the two
// steps. So whoever opens journal.db, or has it open, adds what it finds in a besideFile that nobody has open,
// and removes that one. An entry that was in both is the same entry afterwards, and one that was sent
// meanwhile is recognised by the store.
const besideFile = journalFile + ".next"

// besideTimeout bounds how long OpenJournalBeside waits for another process that looks into the file.
const besideTimeout = 5 * time.Second

// OpenJournalBeside is OpenJournal for a process that takes over from one that may have the journal open. It
// begins with the notes of that journal.
func OpenJournalBeside(dir string, notes map[string][]byte) (*Journal, error) {
	j, err := OpenJournal(dir)
	if !errors.Is(err, ErrInUse) {
		return j, err
	}
	var db *boltfile.File
	for start := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		db, err = openJournalFile(dir, besideFile)
		if !errors.Is(err, ErrInUse) || time.Since(start) > besideTimeout {
			break
		}
	}
	if err != nil {
		return nil, fmt.Errorf("opening a second journal: %w", err)
	}
	j = newJournal(db)
	j.beside = true
	for name, note := range notes {
		if err := j.SaveNote(name, note); err != nil {
			return nil, errors.Join(err, j.Close())
		}
	}
	return j, nil
}

// Notes returns all notes, for OpenJournalBeside.
func (j *Journal) Notes() (map[string][]byte, error) {
	notes := map[string][]byte{}
	err := j.db.View(func(tx *bolt.Tx) error {
		return boltfile.ForEach(tx.Bucket(metaBucket), func(k, v []byte) error {
			if name, ok := bytes.CutPrefix(k, []byte(notePrefix)); ok {
				notes[string(name)] = bytes.Clone(v)
			}
			return nil
		})
	})
	return notes, err
}

// takeOver adds what another process has left in its journal, once that process has ended, and returns it. It
// returns ErrInUse while the process runs, and nothing if there is no other journal.
func (j *Journal) takeOver() (added []settlement, err error) {
	dir := filepath.Dir(j.db.Path())
	if !j.beside {
		if _, err := os.Lstat(filepath.Join(dir, besideFile)); err != nil {
			return nil, nil
		}
		return takeFile(dir, besideFile, j.db, (*boltfile.File).Remove)
	}
	added, err = takeFile(dir, journalFile, j.db, j.db.TakePlace)
	if err == nil {
		j.beside = false
	}
	return added, err
}

// addLeftBehind adds to journal.db, which was just opened, what a process has left in its besideFile. With an
// error, the file is closed. A process that has a besideFile open is about to take the place of this one.
func addLeftBehind(db *boltfile.File) error {
	dir := filepath.Dir(db.Path())
	if _, err := os.Lstat(filepath.Join(dir, besideFile)); err != nil {
		return nil
	}
	_, err := takeFile(dir, besideFile, db, func(other *boltfile.File) error {
		// Its process was the last to see the store.
		err := db.Update(func(to boltfile.Tx) error {
			return other.View(func(from *bolt.Tx) error { return copyNotes(to, from) })
		})
		if err != nil {
			return errors.Join(err, other.Close())
		}
		return other.Remove()
	})
	if err != nil {
		return errors.Join(err, db.Close())
	}
	return nil
}

// takeFile adds the entries of another file to db, and then calls finish, which closes that file.
func takeFile(dir, name string, db *boltfile.File, finish func(other *boltfile.File) error) (added []settlement, err error) {
	other, err := openJournalFile(dir, name)
	if err != nil {
		return nil, err
	}
	err = db.Update(func(to boltfile.Tx) error {
		added = nil
		return other.View(func(from *bolt.Tx) (err error) { added, err = copyEntries(to, from); return err })
	})
	if err != nil {
		return nil, errors.Join(err, other.Close())
	}
	return added, finish(other)
}

// copyEntries copies all entries, and returns those that were not there.
func copyEntries(to boltfile.Tx, from *bolt.Tx) (added []settlement, err error) {
	for _, isRest := range []bool{false, true} {
		bucket := journalKey{isRest: isRest}.bucket()
		err := boltfile.ForEach(from.Bucket(bucket), func(k, v []byte) error {
			if to.Bucket(bucket).Get(k) != nil {
				return nil
			}
			if s, ok := decodeEntry(k, v, isRest); ok {
				added = append(added, s)
			}
			return to.Bucket(bucket).Put(bytes.Clone(k), bytes.Clone(v))
		})
		if err != nil {
			return nil, err
		}
	}
	return added, putFormat(to.Tx)
}

// copyNotes copies all notes.
func copyNotes(to boltfile.Tx, from *bolt.Tx) error {
	return boltfile.ForEach(from.Bucket(metaBucket), func(k, v []byte) error {
		if !bytes.HasPrefix(k, []byte(notePrefix)) {
			return nil
		}
		return to.Bucket(metaBucket).Put(bytes.Clone(k), bytes.Clone(v))
	})
}
