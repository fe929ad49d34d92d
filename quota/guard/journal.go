package guard

import (
	"bytes"
	"errors"
	"fmt"
	"sync"

	bolt "go.etcd.io/bbolt"

	"metergate/quota/internal/boltfile"
	"metergate/quota/internal/queue"
)

// ErrInUse: another process has the journal open.
var ErrInUse = errors.New("in use by another process")

var errClosed = errors.New("the journal is closed")

// A Journal has, on disk, the commits that wait for the store. It is safe for concurrent
// use.
type Journal struct {
	db     *boltfile.File
	queue  queue.Queue[*journalWrite]
	writer sync.WaitGroup

	mu sync.RWMutex
	// beside: the file has another name than it should, because another process has that one open.
	beside bool
	// removing has the keys of entries that are removed but may still be in the file.
	removing map[journalKey]struct{}
}

// A journalKey says which entry is meant.
type journalKey struct {
	key    string // see entryKey
	isRest bool
}

func (w *settlement) journalKey() journalKey {
	return journalKey{string(entryKey(w.User, w.ID)), w.isRest}
}

// bucket is the one that the entry is in.
func (k journalKey) bucket() []byte {
	if k.isRest {
		return restsBucket
	}
	return entriesBucket
}

// A journalWrite adds an entry to the file, or removes some.
type journalWrite struct {
	key     journalKey // of the entry to add
	value   []byte     // nil: there is none
	removed []journalKey
	done    chan error // capacity 1: gets the result once it is on disk or has failed
}

// OpenJournal opens the journal in the folder dir, a file journal.db, and creates both if
// they do not exist. It returns ErrInUse at once if another process has it open, and an
// error if the folder cannot be written or the file is not a journal of a known format.
func OpenJournal(dir string) (*Journal, error) {
	db, err := openJournalFile(dir, journalFile)
	if err == nil {
		err = addLeftBehind(db)
	}
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	return newJournal(db), nil
}

func newJournal(db *boltfile.File) *Journal {
	j := &Journal{db: db, removing: map[journalKey]struct{}{}}
	j.writer.Go(j.runWriter)
	return j
}

// Close waits for the writes under way and closes the file. A Store closes its journal itself.
func (j *Journal) Close() error {
	j.queue.Close()
	j.writer.Wait()
	return j.db.Close()
}

// add adds an entry and returns when it is on disk. Adding it again changes nothing.
func (j *Journal) add(s *settlement) error {
	w, err := j.startAdd(s)
	if err != nil {
		return err
	}
	return j.wait(w)
}

// startAdd begins to add an entry, for which the caller has to wait.
func (j *Journal) startAdd(s *settlement) (*journalWrite, error) {
	value, err := encodeEntry(s)
	if err != nil {
		return nil, err
	}
	w := &journalWrite{key: s.journalKey(), value: value, done: make(chan error, 1)}
	if !j.queue.Add(w) {
		return nil, errClosed
	}
	return w, nil
}

// wait waits until an entry is on disk.
func (j *Journal) wait(w *journalWrite) error {
	err := <-w.done
	if err != nil {
		// A failed write may be visible to this process nevertheless. The caller keeps
		// the entry elsewhere.
		j.mu.Lock()
		j.removing[w.key] = struct{}{}
		j.mu.Unlock()
	}
	return err
}

// addAll adds entries of which earlier tries to add them may have failed.
func (j *Journal) addAll(ss []settlement) error {
	var writes []*journalWrite
	var errs []error
	for i := range ss {
		w, err := j.startAdd(&ss[i])
		if err != nil {
			errs = append(errs, err)
			break
		}
		writes = append(writes, w)
	}
	for _, w := range writes {
		if err := j.wait(w); err != nil {
			errs = append(errs, err)
		}
	}
	if len(errs) > 0 {
		return errs[0]
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	for _, w := range writes {
		delete(j.removing, w.key)
	}
	return nil
}

// tryWrite writes nothing, to see whether the file can be written.
func (j *Journal) tryWrite() error {
	w := &journalWrite{done: make(chan error, 1)}
	if !j.queue.Add(w) {
		return errClosed
	}
	return <-w.done
}

// remove removes entries that have been counted: for this process at once, on disk soon. If
// the process dies before that, the next one sends them again, and the store recognises them.
func (j *Journal) remove(ss []settlement) {
	w := &journalWrite{done: make(chan error, 1)}
	j.mu.Lock()
	for i := range ss {
		key := ss[i].journalKey()
		w.removed = append(w.removed, key)
		j.removing[key] = struct{}{}
	}
	j.mu.Unlock()
	j.queue.Add(w)
}

// isRemoved reports whether the removal of an entry is on disk.
func (j *Journal) isRemoved(s *settlement) bool {
	j.mu.RLock()
	defer j.mu.RUnlock()
	_, pending := j.removing[s.journalKey()]
	return !pending
}

// userEntries returns up to limit entries of a user: first requests, then rests.
func (j *Journal) userEntries(user string, limit int) (ss []settlement, err error) {
	// The lock keeps the file's state from being older than removing.
	j.mu.RLock()
	defer j.mu.RUnlock()
	err = j.db.View(func(tx *bolt.Tx) error {
		for _, isRest := range []bool{false, true} {
			c, prefix := tx.Bucket(journalKey{isRest: isRest}.bucket()).Cursor(), entryKey(user, "")
			for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix) && len(ss) < limit; k, v = c.Next() {
				if _, removed := j.removing[journalKey{string(k), isRest}]; removed {
					continue
				}
				if s, ok := decodeEntry(k, v, isRest); ok {
					ss = append(ss, s)
				}
			}
		}
		return nil
	})
	return ss, err
}

// forEach calls f with every entry.
func (j *Journal) forEach(f func(*settlement)) error {
	return j.db.View(func(tx *bolt.Tx) error {
		for _, isRest := range []bool{false, true} {
			err := boltfile.ForEach(tx.Bucket(journalKey{isRest: isRest}.bucket()), func(k, v []byte) error {
				if s, ok := decodeEntry(k, v, isRest); ok {
					f(&s)
				}
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// notePrefix is the first part of the keys of notes in metaBucket.
const notePrefix = "note/"

// LoadNote returns what SaveNote has saved under a name; nil if that is nothing.
func (j *Journal) LoadNote(name string) (note []byte, err error) {
	err = j.db.View(func(tx *bolt.Tx) error {
		note = bytes.Clone(tx.Bucket(metaBucket).Get([]byte(notePrefix + name)))
		return nil
	})
	return note, err
}

// SaveNote saves a note for the next process, in place of the last one with this name.
func (j *Journal) SaveNote(name string, note []byte) error {
	return j.db.Update(func(tx boltfile.Tx) error {
		return tx.Bucket(metaBucket).Put([]byte(notePrefix+name), note)
	})
}

// runWriter carries out what is queued until the queue is closed. Writes that arrive while
// the disk is busy share one transaction.
func (j *Journal) runWriter() {
	for {
		batch := j.queue.TakeAll()
		if len(batch) == 0 {
			return
		}
		err := j.db.Update(func(tx boltfile.Tx) error { return applyWrites(tx, batch) })
		if err == nil {
			j.mu.Lock()
			for _, w := range batch {
				for _, key := range w.removed {
					delete(j.removing, key)
				}
			}
			j.mu.Unlock()
		}
		for _, w := range batch {
			w.done <- err
		}
	}
}

func applyWrites(tx boltfile.Tx, batch []*journalWrite) error {
	rests := false // they have changed
	for _, w := range batch {
		if w.value != nil {
			rests = rests || w.key.isRest
			if err := tx.Bucket(w.key.bucket()).Put([]byte(w.key.key), w.value); err != nil {
				return err
			}
		}
		for _, k := range w.removed {
			rests = rests || k.isRest
			if err := tx.Bucket(k.bucket()).Delete([]byte(k.key)); err != nil {
				return err
			}
		}
	}
	if rests {
		return putFormat(tx.Tx)
	}
	return nil
}
