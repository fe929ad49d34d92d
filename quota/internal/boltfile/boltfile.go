// Package boltfile opens a bbolt database for packages boltstore and guard, and turns what
// bbolt panics on into errors.
//
// bbolt trusts its file. A page that a disk, a copy or an editor has damaged makes it panic,
// and one that is missing, because the file was cut, is a fault of memory (SIGBUS): bbolt maps
// the file. Either would end the process. Here the File is damaged from then on, and all its
// methods return a *DamagedError. The file is not touched any more, because a panic may have
// left bbolt's locks locked, and a damaged file should not be written to.
//
// A file can also be deleted, or replaced by another one, while it is open. bbolt would go on
// writing to a file that nobody finds again. The File looks for that after each write and writes
// the file again, see Check.
//
// Nor does bbolt make a file smaller. The File does when a quarter of it is free, see compact.go.
package boltfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"metergate/quota/blocking"
)

// Options say how to open a file. InUse and Cure are required.
type Options struct {
	// InUse is the error if another process, or this one, has the file open.
	InUse error
	// Cure says what the operator can do about a damaged file.
	Cure string
	// Supersede is called in the last write to a file that was written again: the old one may
	// still be found under another name. nil: it stays as it is.
	Supersede func(*bolt.Tx) error
	// CompactFrom is from how many free bytes on Watch compacts the file, if they are a quarter
	// of it; 0: 16 MiB.
	CompactFrom int64
	// Log says how the file has a log, see logged.go; nil: it has none, and each write is committed.
	Log *LogOptions
}

// A File is a bbolt database. It is safe for concurrent use. Open makes one.
type File struct {
	Options
	path    atomic.Pointer[string] // see TakePlace
	current atomic.Pointer[handle]
	// writing is held during a write. bbolt has such a lock as well, but may keep it locked
	// after a panic, and the next writer would wait for ever.
	writing   sync.Mutex
	ifItFails func(seen int64) // of the write under way, see Tx.IfItFails
	damage    atomic.Pointer[DamagedError]
	identity
	compaction
	logging
}

// A handle is an open file.
type handle struct {
	db   *bolt.DB    // nil: it could not be opened
	file *os.File    // that db has open
	info os.FileInfo // of file, when it was opened
	// written is the least size that the file has had since; guarded by File.writing.
	written int64
}

// A DamagedError reports a file in which bbolt found what must not be there.
type DamagedError struct {
	Path  string
	Cause string // what bbolt said
	Cure  string // what to do
}

func (e *DamagedError) Error() string {
	return fmt.Sprintf("%s is damaged (%s); %s", e.Path, e.Cause, e.Cure)
}

// Open opens or creates a file in dir, and dir, with permissions for this user alone (see openOrCreate). It calls
// prepare in the first write transaction, which is always made, and reads the whole file once,
// so that damage shows at the start. Errors name the file; one of them is a *DamagedError.
func Open(dir, name string, o Options, prepare func(*bolt.Tx) error) (*File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	if o.CompactFrom == 0 {
		o.CompactFrom = compactFrom
	}
	f := &File{Options: o, compaction: compaction{closing: make(chan struct{})}}
	path := filepath.Join(dir, name)
	f.path.Store(&path)
	h, err := f.open(f.Path())
	f.current.Store(h)
	if errors.Is(err, bolterrors.ErrTimeout) { // the file is closed already
		return nil, fmt.Errorf("%s is %w", f.Path(), o.InUse)
	}
	if err == nil {
		info, statErr := os.Stat(f.Path())
		f.untold = statErr == nil && !os.SameFile(info, h.info)
		err = f.Update(func(tx Tx) error {
			if err := prepare(tx.Tx); err != nil || f.Log == nil {
				return err
			}
			return f.recover(tx.Tx)
		})
	}
	if err == nil {
		err = f.View(readAll)
	}
	if err != nil {
		f.Log = nil // it stays as it is
		_ = f.Close()
		if f.damage.Load() == nil {
			err = fmt.Errorf("%s: %w", f.Path(), err)
		}
		return nil, err
	}
	syncFolder(dir)
	os.Remove(f.Path() + ".compact") // of a process that was killed
	os.Remove(f.Path() + ".backup")
	if f.Log != nil {
		f.mark = noMark
		os.Remove(f.logPath()) // the file has everything by now
	}
	return f, nil
}

// syncFolder makes a new file in a folder durable: it is once the folder's entry is on disk as
// well. Some file systems, and Windows, cannot sync folders; there it is left to the system.
func syncFolder(dir string) {
	if folder, err := os.Open(dir); err == nil {
		folder.Sync()
		folder.Close()
	}
}

// open opens the file at a path. The handle is never nil.
func (f *File) open(path string) (h *handle, err error) {
	h = &handle{}
	defer f.catch(debug.SetPanicOnFault(true), &err)
	h.db, err = bolt.Open(path, 0o600, h.options())
	if err == nil && h.info.Size() > 0 {
		err = h.db.View(func(tx *bolt.Tx) error { h.written = tx.Size(); return f.checkSize(h, h.info.Size()) })
	}
	if err == nil || f.damage.Load() != nil || errors.Is(err, bolterrors.ErrTimeout) {
		return h, err
	}
	h.db, h.file = nil, nil // it is closed
	if system := syscall.Errno(0); errors.As(err, &system) || errors.Is(err, bolterrors.ErrVersionMismatch) {
		return h, err
	}
	return h, f.damaged(err)
}

// checkSize returns a *DamagedError if a file with this size has less than was written to it. bbolt
// would notice that only when it reads what is missing.
func (f *File) checkSize(h *handle, size int64) error {
	if h.written > size {
		return f.damaged("it was cut")
	}
	return nil
}

// options are how all files are opened. The file that bbolt opens with them becomes that of h.
func (h *handle) options() *bolt.Options {
	return &bolt.Options{
		Timeout:      1, // 0 would wait for ever; 1 ns tries the lock once
		FreelistType: bolt.FreelistMapType,
		NoStatistics: true, // they cost every reader a shared lock
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			file, err := openOrCreate(name, flag, mode)
			h.file = file
			if err == nil {
				h.info, err = file.Stat()
			}
			return file, err
		},
	}
}

// openOrCreate is os.OpenFile. A file that root creates gets the owner of its folder, if possible: a command that
// an operator runs as root must not leave a file that the gateway's own user cannot open.
func openOrCreate(name string, flag int, mode os.FileMode) (*os.File, error) {
	if flag&os.O_CREATE == 0 || os.Geteuid() != 0 {
		return os.OpenFile(name, flag, mode)
	}
	file, err := os.OpenFile(name, flag|os.O_EXCL, mode)
	if errors.Is(err, fs.ErrExist) {
		return os.OpenFile(name, flag, mode)
	}
	if err != nil {
		return nil, err
	}
	if folder, err := os.Stat(filepath.Dir(name)); err == nil {
		_ = giveOwner(file, folder)
	}
	return file, nil
}

// readAll reads every page that is in use, and panics, as bbolt does, if keys are not in order.
func readAll(tx *bolt.Tx) error {
	return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
		var previous []byte
		return ForEach(b, func(k, _ []byte) error {
			if bytes.Compare(k, previous) <= 0 {
				panic(fmt.Sprintf("the keys of %q are out of order", name))
			}
			previous = k
			return nil
		})
	})
}

// ForEach is b.ForEach. That and Cursor.First take all memory if damage has zeroed a small bucket, which has no page of its own:
// they follow it to itself for ever. Cursor.Seek panics, see File.
func ForEach(b *bolt.Bucket, fn func(k, v []byte) error) error {
	c := b.Cursor()
	for k, v := c.Seek(nil); k != nil; k, v = c.Next() {
		if err := fn(k, v); err != nil {
			return err
		}
	}
	return nil
}

// catch is deferred. It turns a panic, or a fault of memory, into an error. Its first argument
// is what debug.SetPanicOnFault was before, for this goroutine.
func (f *File) catch(before bool, err *error) {
	debug.SetPanicOnFault(before)
	switch cause := recover().(type) {
	case nil:
	case interface{ Addr() uintptr }: // a runtime.Error
		*err = f.damaged("it is shorter than it was, or the disk cannot read it")
	default:
		*err = f.damaged(cause)
	}
}

// damaged notes that the file is damaged. The first cause stays.
func (f *File) damaged(cause any) error {
	f.damage.CompareAndSwap(nil, &DamagedError{Path: f.Path(), Cause: fmt.Sprint(cause), Cure: f.Cure})
	return f.damage.Load()
}

// Update is bolt.DB.Update. When it returns nil, the write is in the file that the path leads to.
func (f *File) Update(fn func(Tx) error) error { return f.write(fn, true) }

// write makes a write. If it must not be committed, it may be appended to the log.
func (f *File) write(fn func(Tx) error, commit bool) error {
	f.writing.Lock()
	defer f.writing.Unlock()
	f.ifItFails = nil
	var fnErr error
	noting := func(tx Tx) error {
		fnErr = fn(tx)
		return fnErr
	}
	var looks []blocking.Look
	var err error
	if f.Log != nil {
		looks, err = f.logWrite(noting, commit)
	} else {
		err = f.update(noting)
	}
	if err == nil || err != fnErr { // else it is the caller's own; nothing was written
		if err == nil {
			err = f.checkPath(looks)
		}
		f.setFault(err)
	}
	if err != nil && f.ifItFails != nil {
		seen := int64(0)
		f.Latest(func(r Reader) error { seen = r.Number; return nil })
		f.ifItFails(seen)
	}
	return err
}

// update makes a write to a file without a log. The caller holds f.writing.
func (f *File) update(fn func(Tx) error) (err error) {
	if d := f.damage.Load(); d != nil {
		return d
	}
	defer f.catch(debug.SetPanicOnFault(true), &err)
	h := f.current.Load()
	return h.db.Update(func(tx *bolt.Tx) error {
		h.written = tx.Size()
		return fn(Tx{Tx: tx, changed: f.changed, file: f})
	})
}

// View is bolt.DB.View. It does not see writes that are only in the log, see Latest.
func (f *File) View(fn func(*bolt.Tx) error) (err error) {
	if d := f.damage.Load(); d != nil {
		return d
	}
	defer f.catch(debug.SetPanicOnFault(true), &err)
	h := f.current.Load()
	tx, err := begin(h.db)
	for errors.Is(err, bolterrors.ErrDatabaseNotOpen) && h != f.current.Load() { // it was written again
		h = f.current.Load()
		tx, err = begin(h.db)
	}
	if err != nil {
		return err
	}
	defer tx.Rollback() // a writer may wait for the end of all readers
	return fn(tx)
}

// begin begins to read. It panics as bbolt does if neither page of meta data is good. bbolt then
// leaves two locks locked, for which readers and writers under way would wait for ever.
func begin(db *bolt.DB) (tx *bolt.Tx, err error) {
	defer func() {
		if tx == nil && err == nil {
			lockOf[sync.RWMutex](db, "mmaplock").RUnlock()
			lockOf[sync.Mutex](db, "metalock").Unlock()
		}
	}()
	return db.Begin(false)
}

// lockOf returns a lock of bbolt's that has no other name. A test notices when it is gone.
func lockOf[Lock any](db *bolt.DB, field string) *Lock {
	v := reflect.ValueOf(db).Elem().FieldByName(field)
	if v.Type() != reflect.TypeFor[Lock]() {
		panic("bbolt has another lock: " + v.Type().String())
	}
	return (*Lock)(v.Addr().UnsafePointer())
}

// Path is where the file is.
func (f *File) Path() string { return *f.path.Load() }

// Close closes the file, after the transactions under way. It must be called once. It returns an
// error if the path does not lead to the file, which then is gone. Of a damaged file it returns
// the error and does not wait; such a file counts as in use until the process ends, since its
// memory stays mapped.
func (f *File) Close() error {
	close(f.closing)
	f.tasks.Wait()
	d, h := f.damage.Load(), f.current.Load()
	switch {
	case d == nil && h.db != nil:
		f.writing.Lock()
		defer f.writing.Unlock()
		f.retryAt = time.Time{}
		err := f.checkPath(nil)
		f.superseding.Wait()
		return errors.Join(err, f.endLog(), f.current.Load().db.Close())
	case h.file != nil:
		h.file.Close()
	}
	if d == nil {
		return nil
	}
	return d
}
