package boltfile

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"sync"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"metergate/quota/blocking"
)

const (
	// checkEvery is how often Watch looks at the file, and how often it is tried at most to
	// write it again.
	checkEvery = time.Second
	// reportFor is how long Fault reports that a file was replaced.
	reportFor = time.Hour
)

// identity is what a File knows about the file at its path.
type identity struct {
	untold      bool           // the file system does not tell files apart
	retryAt     time.Time      // no try to write the file again before then; guarded by writing
	superseding sync.WaitGroup // old files that are being closed

	mu       sync.Mutex
	fault    error          // why the last write, or the last look at the path, failed
	replaced *ReplacedError // the last one
	times    int64          // that the file was replaced
}

// A ReplacedError reports that a file was deleted or replaced while it was open, and was written
// again. Nothing that was in it is lost.
type ReplacedError struct {
	Path string
	// Aside is where the file is that was found in its place; empty: there was none.
	Aside string
	At    time.Time
}

func (e *ReplacedError) Error() string {
	what := "deleted"
	if e.Aside != "" {
		what = "replaced by another file, which is now " + e.Aside + ","
	}
	return fmt.Sprintf("%s was %s at %s while the gateway had it open; it was written again with all that was in it; find out what did this, and stop the gateway before you touch its files",
		e.Path, what, e.At.UTC().Format(time.RFC3339))
}

// Check looks whether the path leads to the open file. If the file was deleted or replaced, or
// its folder was renamed, Check writes it again from the one that is still open. A file that is
// found in its place is moved aside, unless another process has it open. Check also commits what is only
// in the log. It returns why the path does not lead to the file, or else why the last write failed: what is
// written now may be gone with the process.
func (f *File) Check() error {
	f.writing.Lock()
	defer f.writing.Unlock()
	err := f.checkPath(nil)
	if err == nil {
		err = f.commitAppended()
	}
	if err != nil {
		f.setFault(err)
	}
	return f.currentFault()
}

// looks returns looks at the paths of the file and of its log, if it has one. The caller holds f.writing.
func (f *File) looks() []blocking.Look {
	looks := []blocking.Look{{Path: f.Path(), File: f.current.Load().info}}
	if f.log != nil {
		looks = append(looks, f.log.Look(f.logPath()))
	}
	return looks
}

// checkPath looks at the path, as Check does, unless there are looks that were taken after the last write. The caller holds
// f.writing.
func (f *File) checkPath(taken []blocking.Look) error {
	if d := f.damage.Load(); d != nil {
		return d
	}
	if f.untold {
		return nil
	}
	if taken == nil {
		taken = f.looks()
		blocking.LookAt(taken)
	}
	own, err := taken[0], taken[0].Err
	switch {
	case own.Leads:
		return errors.Join(f.checkSize(f.current.Load(), own.Size), f.checkLog(taken[1:]))
	case err == nil:
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
	default:
		return nil // it cannot be seen; it is still there, for all that is known
	}
	if time.Now().Before(f.retryAt) {
		return f.currentFault()
	}
	if err := f.writeAgain(err == nil); err != nil {
		f.retryAt = time.Now().Add(checkEvery)
		return fmt.Errorf("%s was deleted or replaced while the gateway had it open, and cannot be written again: %w", f.Path(), err)
	}
	return nil
}

// writeAgain writes the file at the path from the open one, and goes on with it. occupied: there
// is another file at the path.
func (f *File) writeAgain(occupied bool) (err error) {
	defer f.catch(debug.SetPanicOnFault(true), &err)
	if err := f.commitAll(); err != nil { // the new file has no log yet
		return err
	}
	if err := os.MkdirAll(filepath.Dir(f.Path()), 0o700); err != nil {
		return err
	}
	r := &ReplacedError{Path: f.Path(), At: time.Now()}
	if occupied {
		if isLocked(f.Path()) {
			return f.InUse
		}
		r.Aside = fmt.Sprintf("%s.replaced-%s", f.Path(), r.At.UTC().Format("20060102T150405Z"))
	}
	copied, old := f.Path()+".new", f.current.Load()
	if err := copyTo(copied, old.db); err != nil {
		os.Remove(copied)
		return err
	}
	h, err := f.open(copied) // it is locked before anybody can find it
	if err == nil && occupied {
		err = os.Rename(f.Path(), r.Aside)
	}
	if err == nil {
		err = os.Rename(copied, f.Path())
	}
	if err != nil {
		if h.db != nil {
			h.db.Close()
		}
		os.Remove(copied)
		return err
	}
	syncFolder(filepath.Dir(f.Path()))
	_ = f.closeLog() // its folder may have another name
	f.current.Store(h)
	f.superseding.Go(func() { // it waits for readers
		f.supersede(old.db)
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	f.replaced = r
	f.times++
	return nil
}

// isLocked reports whether another process has a file of bbolt's open.
func isLocked(path string) bool {
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 1, ReadOnly: true})
	if err == nil {
		db.Close()
	}
	return errors.Is(err, bolterrors.ErrTimeout)
}

// copyTo writes a database to a new file.
func copyTo(path string, db *bolt.DB) error {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	defer file.Close()
	if err := db.View(func(tx *bolt.Tx) error { _, err := tx.WriteTo(file); return err }); err != nil {
		return err
	}
	return file.Sync()
}

// supersede closes a file that was written again. Errors do not matter any more.
func (f *File) supersede(old *bolt.DB) {
	before := debug.SetPanicOnFault(true)
	defer func() {
		recover() // of bbolt, see the package comment
		debug.SetPanicOnFault(before)
	}()
	if f.Supersede != nil {
		_ = old.Update(f.Supersede)
	}
	old.Close()
}

func (f *File) setFault(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.fault = err
}

func (f *File) currentFault() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.fault
}

// Fault returns why the file could not be written when that was last tried, or else, for an hour,
// a *ReplacedError; nil: all is well.
func (f *File) Fault() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.fault == nil && f.replaced != nil && time.Since(f.replaced.At) < reportFor {
		return f.replaced
	}
	return f.fault
}

// TimesReplaced is how often the file was deleted or replaced since Open.
func (f *File) TimesReplaced() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.times
}

// Watch calls Check once a second until done is closed, and compacts the file when that is worth
// it. It logs when the file was written again, when it cannot be written any more, and when it can
// be. While it cannot, Watch calls write, which has to call Update. After each look it calls
// checked.
func (f *File) Watch(done <-chan struct{}, log *slog.Logger, write func() error, checked func(error)) {
	tick := time.NewTicker(checkEvery)
	defer tick.Stop()
	times, failed := int64(0), false
	for {
		select {
		case <-tick.C:
		case <-done:
			return
		}
		err := f.Check()
		if err != nil {
			err = write()
		}
		f.mu.Lock()
		replaced, again := f.replaced, f.times > times
		times = f.times
		f.mu.Unlock()
		if again {
			log.Error("a file of the gateway was deleted or replaced", "error", replaced)
		}
		switch {
		case err != nil && !failed:
			log.Error("a file cannot be written: what it should keep is only in memory, and lost with the process", "error", err)
		case err == nil && failed:
			log.Info("the file can be written again", "file", f.Path())
		}
		failed = err != nil
		checked(err)
		if !failed {
			f.compactIfWorth(log)
		}
	}
}

// TakePlace gives the file the name of another one in the same folder, which is closed, and is gone then. It
// is for a file that has all that the other one has. With an error, both are as before.
func (f *File) TakePlace(other *File) error {
	f.running.Lock() // not while it is compacted
	defer f.running.Unlock()
	f.writing.Lock()
	defer f.writing.Unlock()
	if err := f.checkPath(nil); err != nil {
		return err
	}
	path := other.Path()
	if err := os.Rename(f.Path(), path); err != nil {
		return err
	}
	syncFolder(filepath.Dir(path))
	f.path.Store(&path)
	return other.closeUnnamed()
}

// Remove removes the file, and closes it.
func (f *File) Remove() error { return errors.Join(os.Remove(f.Path()), f.closeUnnamed()) }

// closeUnnamed closes the file without a look at what its path leads to now.
func (f *File) closeUnnamed() error {
	f.writing.Lock()
	f.untold = true
	f.writing.Unlock()
	return f.Close()
}
