package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"metergate/quota"
	"metergate/quota/internal/queue"
)

// ErrInUse: another process has the journal open.
var ErrInUse = errors.New("in use by another process; each gateway needs a journal folder of its own")

const journalFile = "journal.db"

// The file has two buckets.
//
//	meta     "format" -> "1"
//	entries  user 0x00 reservation -> the rest of the reservation, as JSON
//
// A user's id has no control characters, so that 0x00 ends it.
var (
	metaBucket    = []byte("meta")
	entriesBucket = []byte("entries")
	formatKey     = []byte("format")
)

const format = "1"

// A Journal has, on disk, what is to be counted when the store answers again.
// It is safe for concurrent use.
type Journal struct {
	db      *bolt.DB
	changes queue.Queue[*change]
	writer  sync.WaitGroup

	mu sync.RWMutex
	// gone has the keys of entries that are removed, but perhaps not yet on disk.
	gone map[string]struct{}
}

// A change adds an entry to the file, or removes some.
type change struct {
	key    []byte // of the entry to add; nil: none
	value  []byte
	remove [][]byte
	done   chan error // gets one value when the change is on disk or has failed
}

// record is an entry's value.
type record struct {
	Endpoint string         `json:"endpoint"`
	Windows  []recordWindow `json:"windows"`
}

type recordWindow struct {
	Per   quota.Period `json:"per"`
	ID    string       `json:"id"`
	Start time.Time    `json:"start"`
	End   time.Time    `json:"end"`
}

// OpenJournal opens the journal in the folder dir, journal.db in it, and makes
// both when they are not there. Errors: ErrInUse, at once; a folder that cannot be
// written; a file that is not a journal.
func OpenJournal(dir string) (*Journal, error) {
	db, err := openJournalFile(dir)
	if err != nil {
		return nil, fmt.Errorf("opening the journal: %w", err)
	}
	j := &Journal{db: db, gone: map[string]struct{}{}}
	j.writer.Go(j.write)
	return j, nil
}

func openJournalFile(dir string) (*bolt.DB, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	path := filepath.Join(dir, journalFile)
	db, err := bolt.Open(path, 0o600, &bolt.Options{
		Timeout:      1, // not 0, which waits for ever: try the lock once
		FreelistType: bolt.FreelistMapType,
		NoStatistics: true,
	})
	switch {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s is %w", path, ErrInUse)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	// This writes, and so shows that the folder takes it.
	err = db.Update(func(tx *bolt.Tx) error {
		meta, err := tx.CreateBucketIfNotExists(metaBucket)
		if err != nil {
			return err
		}
		if got := meta.Get(formatKey); got != nil && string(got) != format {
			return fmt.Errorf("the journal has format %q, this version of the program knows only %q", got, format)
		}
		if _, err := tx.CreateBucketIfNotExists(entriesBucket); err != nil {
			return err
		}
		return meta.Put(formatKey, []byte(format))
	})
	if err != nil {
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

// close waits for the changes under way.
func (j *Journal) close() error {
	j.changes.Close()
	j.writer.Wait()
	return j.db.Close()
}

func entryKey(user, id string) []byte {
	return append(append([]byte(user), 0), id...)
}

// add returns when r is on disk. To add it again changes nothing.
func (j *Journal) add(r *quota.Reservation) error {
	rec := record{Endpoint: r.Endpoint}
	for _, w := range r.Windows {
		rec.Windows = append(rec.Windows, recordWindow{w.Period, w.ID, w.Start, w.End})
	}
	value, err := json.Marshal(rec)
	if err != nil {
		return err
	}
	c := &change{key: entryKey(r.User, r.ID), value: value, done: make(chan error, 1)}
	if !j.changes.Add(c) {
		return errors.New("the journal is closed")
	}
	if err = <-c.done; err != nil {
		// It may be in the file all the same, as far as this process can see. The
		// caller keeps it elsewhere.
		j.mu.Lock()
		j.gone[string(c.key)] = struct{}{}
		j.mu.Unlock()
	}
	return err
}

// removed reports whether the removal of r is on disk.
func (j *Journal) removed(r *quota.Reservation) bool {
	j.mu.RLock()
	defer j.mu.RUnlock()
	_, gone := j.gone[string(entryKey(r.User, r.ID))]
	return !gone
}

// remove removes entries that have been counted: for this process at once, on disk
// some time soon. If it dies before, they are counted once more, which does no
// harm.
func (j *Journal) remove(rs []quota.Reservation) {
	c := &change{done: make(chan error, 1)}
	j.mu.Lock()
	for _, r := range rs {
		key := entryKey(r.User, r.ID)
		c.remove = append(c.remove, key)
		j.gone[string(key)] = struct{}{}
	}
	j.mu.Unlock()
	j.changes.Add(c)
}

// write makes changes until the queue is closed: those that come while the disk is
// busy in one write.
func (j *Journal) write() {
	for {
		batch := j.changes.TakeAll()
		if len(batch) == 0 {
			return
		}
		err := j.db.Update(func(tx *bolt.Tx) error {
			entries := tx.Bucket(entriesBucket)
			for _, c := range batch {
				if c.key != nil {
					if err := entries.Put(c.key, c.value); err != nil {
						return err
					}
				}
				for _, key := range c.remove {
					if err := entries.Delete(key); err != nil {
						return err
					}
				}
			}
			return nil
		})
		if err == nil {
			j.mu.Lock()
			for _, c := range batch {
				for _, key := range c.remove {
					delete(j.gone, string(key))
				}
			}
			j.mu.Unlock()
		}
		for _, c := range batch {
			c.done <- err
		}
	}
}

// of returns up to limit entries of a user.
func (j *Journal) of(user string, limit int) (rs []quota.Reservation, err error) {
	// What is looked at must not be older than gone.
	j.mu.RLock()
	defer j.mu.RUnlock()
	err = j.db.View(func(tx *bolt.Tx) error {
		c, prefix := tx.Bucket(entriesBucket).Cursor(), entryKey(user, "")
		for k, v := c.Seek(prefix); bytes.HasPrefix(k, prefix) && len(rs) < limit; k, v = c.Next() {
			if _, gone := j.gone[string(k)]; gone {
				continue
			}
			if r, ok := decode(k, v); ok {
				rs = append(rs, r)
			}
		}
		return nil
	})
	return rs, err
}

// each calls f with every entry.
func (j *Journal) each(f func(*quota.Reservation)) error {
	return j.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(entriesBucket).ForEach(func(k, v []byte) error {
			if r, ok := decode(k, v); ok {
				f(&r)
			}
			return nil
		})
	})
}

// decode reads an entry. Not ok: this program did not write it.
func decode(key, value []byte) (r quota.Reservation, ok bool) {
	user, id, ok := bytes.Cut(key, []byte{0})
	var rec record
	if !ok || json.Unmarshal(value, &rec) != nil {
		return r, false
	}
	r.User, r.ID, r.Endpoint = string(user), string(id), rec.Endpoint
	for _, w := range rec.Windows {
		r.Windows = append(r.Windows, quota.Window{Period: w.Per, ID: w.ID, Start: w.Start, End: w.End})
	}
	return r, true
}
