package boltfile

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"
)

// A file of bbolt's does not become smaller when keys are deleted: it keeps the free pages for
// later. To compact it, Watch writes what is in use to a new file, which then takes its place:
//
//  1. The keys are copied in their order, some at a time, while others go on reading and
//     writing. No transaction stays open: bbolt lets a writer that needs more room wait for all
//     readers.
//  2. Each write notes the keys that it changes (see Tx). They are copied again, until there
//     are few.
//  3. While writers wait, the last of them are copied. The new file is on disk by now. It is
//     renamed, and the folder is brought to disk as well. Until then the old file has everything,
//     from then on the new one has.
const (
	// copyBytes is about how much is copied at a time.
	copyBytes = 1 << 20
	// lastKeys is how many keys may be left for the time in which writers wait.
	lastKeys = 2000
	// copyRounds bounds the tries to have no more left than that.
	copyRounds = 200
	// compactRetry is the time after which a compaction that failed is tried again.
	compactRetry = 10 * time.Minute
	// compactFrom is the default of Options.CompactFrom.
	compactFrom = 16 << 20
)

// compaction is what a File knows about being compacted.
type compaction struct {
	changed keySet // since they were last copied; guarded by writing; nil: there is no compaction

	running   sync.Mutex    // held while the file is copied
	closing   chan struct{} // closed by Close
	tasks     sync.WaitGroup
	compactAt atomic.Int64 // not before then, in seconds since 1970
	size      atomic.Int64 // of the file, in bytes, when it was last looked at
	free      atomic.Int64 // of it
	compacted atomic.Int64 // times
}

var (
	errClosing = errors.New("the file is being closed")
	errBusy    = errors.New("it is written to faster than it can be copied")
)

// Space returns how large the file is, in bytes, and how much of that is free for later keys.
func (f *File) Space() (size, free int64) {
	if f.writing.TryLock() { // else, what it was before the write under way
		f.measure()
		f.writing.Unlock()
	}
	return f.size.Load(), f.free.Load()
}

// measure looks at the file. The caller holds f.writing.
func (f *File) measure() {
	h := f.current.Load()
	info, err := h.file.Stat()
	if err != nil || f.damage.Load() != nil {
		return
	}
	f.txMu.Lock() // a transaction that begins changes the list
	defer f.txMu.Unlock()
	pages, ok := freelistOf(h.db)
	if !ok {
		return
	}
	f.size.Store(info.Size())
	f.free.Store(int64(pages.FreeCount()+pages.PendingCount()) * int64(h.db.Info().PageSize))
}

// freelist is what bbolt's list of free pages can be asked.
type freelist interface {
	FreeCount() int
	PendingCount() int // of pages that readers may still see
}

// freelistOf returns bbolt's list of free pages, which has no other name: its statistics have the
// numbers, but cost every reader a shared lock. A test notices when it is gone.
func freelistOf(db *bolt.DB) (freelist, bool) {
	v := reflect.ValueOf(db).Elem().FieldByName("freelist")
	pages, ok := reflect.NewAt(v.Type(), v.Addr().UnsafePointer()).Elem().Interface().(freelist)
	return pages, ok
}

// compactIfWorth begins to compact the file if a quarter of it is free, and at least
// Options.CompactFrom bytes. With more free pages writes become slow: bbolt sorts and writes the
// list of all of them each time.
func (f *File) compactIfWorth(log *slog.Logger) {
	size, free := f.Space()
	if free < f.CompactFrom || 4*free < size || time.Now().Unix() < f.compactAt.Load() || !f.running.TryLock() {
		return
	}
	f.tasks.Go(func() {
		defer f.running.Unlock()
		start := time.Now()
		waited, err := f.compact()
		after, _ := f.Space()
		switch {
		case errors.Is(err, errClosing):
		case err != nil:
			f.compactAt.Store(time.Now().Add(compactRetry).Unix())
			log.Warn("a file could not be compacted; it is tried again in "+compactRetry.String(), "file", f.Path(), "bytes", size, "free", free, "error", err)
		default:
			log.Info("a file was compacted", "file", f.Path(), "bytes_before", size, "bytes", after,
				"took", time.Since(start).Round(time.Millisecond).String(), "writers_waited", waited.Round(time.Millisecond).String())
		}
	})
}

// compact compacts the file. It returns for how long writers had to wait.
func (f *File) compact() (waited time.Duration, err error) {
	path := f.Path() + ".compact"
	err = f.copyWhole(context.Background(), path, func(to *handle) error {
		waited, err = f.changeOver(to, path)
		return err
	})
	return waited, err
}

// copyWhole writes all keys to a new file, in place of one that is there, while others read and write. When few
// are left that were changed since, it calls finish, which copies those while writers wait. After an error the
// new file is gone. The caller holds f.running.
func (f *File) copyWhole(ctx context.Context, path string, finish func(to *handle) error) (err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	to, err := openCopy(path)
	if err != nil {
		return err
	}
	f.writing.Lock()
	f.changed = keySet{}
	f.writing.Unlock()
	defer func() {
		f.writing.Lock()
		f.changed = nil
		f.writing.Unlock()
		if err != nil {
			to.close()
			os.Remove(path)
		}
	}()
	if err := f.copyBuckets(ctx, to); err != nil {
		return err
	}
	for range copyRounds {
		changed, err := f.takeChanged()
		if err != nil {
			return err
		}
		if err := f.copyKeys(to, changed); err != nil {
			return err
		}
		if changed.len() <= lastKeys {
			return finish(to)
		}
		if err := f.stopCause(ctx); err != nil {
			return err
		}
	}
	return errBusy
}

// stopCause is why a copy is to stop: the file is being closed, or the context has ended; nil: it goes on.
func (f *File) stopCause(ctx context.Context) error {
	if f.isClosing() {
		return errClosing
	}
	return ctx.Err()
}

// takeChanged returns the keys that were changed since they were last taken. All writes that
// changed them can be seen.
func (f *File) takeChanged() (keySet, error) {
	f.writing.Lock()
	defer f.writing.Unlock()
	if err := f.commitAppended(); err != nil {
		return nil, err
	}
	changed := f.changed
	f.changed = keySet{}
	return changed, nil
}

func (f *File) isClosing() bool {
	select {
	case <-f.closing:
		return true
	default:
		return false
	}
}

// An entry is a key and its value, or the lack of one, on the way to the copy.
type entry struct{ bucket, key, value []byte }

// copyBuckets copies all keys. It pauses for as long as it works, so that it takes no more than
// half of what the disk can do.
func (f *File) copyBuckets(ctx context.Context, to *handle) error {
	var names [][]byte
	err := f.View(func(tx *bolt.Tx) error {
		return tx.ForEach(func(name []byte, _ *bolt.Bucket) error { names = append(names, bytes.Clone(name)); return nil })
	})
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := to.write(func(tx *bolt.Tx) error { _, err := tx.CreateBucket(name); return err }); err != nil {
			return err
		}
	}
	copied := map[string]bool{} // buckets
	for _, name := range names {
		for from := []byte{}; from != nil; {
			start := time.Now()
			// What follows in this bucket, and the buckets that follow, will be copied as
			// they are by then.
			changed, err := f.takeChanged()
			if err != nil {
				return err
			}
			for bucket, keys := range changed {
				for key := range keys {
					if !copied[bucket] && (bucket != string(name) || key >= string(from)) {
						delete(keys, key)
					}
				}
			}
			if err := f.copyKeys(to, changed); err != nil {
				return err
			}
			var entries []entry
			if entries, from, err = f.entriesFrom(name, from); err != nil {
				return err
			}
			if err := to.put(entries); err != nil {
				return err
			}
			select {
			case <-time.After(time.Since(start)):
			case <-f.closing:
				return errClosing
			case <-ctx.Done():
				return ctx.Err()
			}
		}
		copied[string(name)] = true
	}
	return nil
}

// entriesFrom reads entries of a bucket, and the key to continue from; nil if that was all.
func (f *File) entriesFrom(name, from []byte) (entries []entry, next []byte, err error) {
	size := 0
	err = f.View(func(tx *bolt.Tx) error {
		c := tx.Bucket(name).Cursor()
		k, v := c.Seek(from)
		for ; k != nil && size < copyBytes; k, v = c.Next() {
			entries = append(entries, entry{name, bytes.Clone(k), append([]byte{}, v...)})
			size += len(k) + len(v)
		}
		next = bytes.Clone(k)
		return nil
	})
	return entries, next, err
}

// copyKeys copies keys, or that they are gone.
func (f *File) copyKeys(to *handle, keys keySet) error {
	var entries []entry
	err := f.View(func(tx *bolt.Tx) error {
		for name, keys := range keys {
			b := tx.Bucket([]byte(name))
			for key := range keys {
				e := entry{bucket: []byte(name), key: []byte(key)}
				if v := b.Get(e.key); v != nil {
					e.value = append([]byte{}, v...)
				}
				entries = append(entries, e)
			}
		}
		return nil
	})
	if err != nil || len(entries) == 0 {
		return err
	}
	return to.put(entries)
}

// changeOver copies what is left, and has the copy take the place of the file.
func (f *File) changeOver(to *handle, path string) (waited time.Duration, err error) {
	f.writing.Lock()
	defer f.writing.Unlock()
	start := time.Now()
	if err := f.copyRest(to); err != nil {
		return 0, err
	}
	from := f.current.Load()
	if f.isClosing() {
		return 0, errClosing
	}
	if err := os.Rename(path, f.Path()); err != nil {
		return 0, err
	}
	syncFolder(filepath.Dir(f.Path()))
	f.current.Store(to)
	f.compacted.Add(1)
	f.measure()
	f.tasks.Go(func() { // it waits for readers
		from.close()
	})
	return time.Since(start), nil
}

// copyRest copies what is left: then the copy is equal. The caller holds f.writing.
func (f *File) copyRest(to *handle) error {
	if err := errors.Join(f.checkPath(nil), f.commitAppended()); err != nil {
		return err
	}
	if err := f.copyKeys(to, f.changed); err != nil {
		return err
	}
	return f.View(func(tx *bolt.Tx) error {
		return to.write(func(copied *bolt.Tx) error {
			return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
				to, err := copied.CreateBucketIfNotExists(name)
				if err != nil {
					return err
				}
				return to.SetSequence(b.Sequence())
			})
		})
	})
}

// openCopy opens a new file for a copy. Its faults say nothing about the file that is copied.
func openCopy(path string) (h *handle, err error) {
	h = &handle{}
	defer recoverTo(&err)
	h.db, err = bolt.Open(path, 0o600, h.options())
	return h, err
}

// recoverTo is deferred. It turns a panic of bbolt's into an error.
func recoverTo(err *error) {
	if cause := recover(); cause != nil {
		*err = fmt.Errorf("bbolt: %v", cause)
	}
}

// write makes a write to a copy.
func (h *handle) write(fn func(*bolt.Tx) error) (err error) {
	defer recoverTo(&err)
	return h.db.Update(fn)
}

// put writes entries to a copy.
func (h *handle) put(entries []entry) error {
	return h.write(func(tx *bolt.Tx) error {
		for _, e := range entries {
			b, err := tx.CreateBucketIfNotExists(e.bucket) // it may be new
			if err != nil {
				return err
			}
			b.FillPercent = 0.9 // most keys come in their order
			if e.value == nil {
				err = b.Delete(e.key)
			} else {
				err = b.Put(e.key, e.value)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// close closes a file that is not used any more.
func (h *handle) close() {
	defer func() { recover() }() // of bbolt, see the package comment
	h.db.Close()
}
