// Package boltfile opens a bbolt database for packages boltstore and guard, and turns what
// bbolt panics on into errors.
//
// bbolt trusts its file. A page that a disk, a copy or an editor has damaged makes it panic,
// and one that is missing, because the file was cut, is a fault of memory (SIGBUS): bbolt maps
// the file. Either would end the process. Here the File is damaged from then on, and all its
// methods return a *DamagedError. The file is not touched any more, because a panic may have
// left bbolt's locks locked, and a damaged file should not be written to.
package boltfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// Options say how to open a file. All fields are required.
type Options struct {
	// InUse is the error if another process, or this one, has the file open.
	InUse error
	// Cure says what the operator can do about a damaged file.
	Cure string
}

// A File is a bbolt database. It is safe for concurrent use. Open makes one.
type File struct {
	path string
	cure string
	db   *bolt.DB
	file *os.File // that db has open
	// writing is held during a write. bbolt has such a lock as well, but may keep it locked
	// after a panic, and the next writer would wait for ever.
	writing sync.Mutex
	damage  atomic.Pointer[DamagedError]
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

// Open opens or creates a file in dir, and dir, with permissions for this user alone. It calls
// prepare in the first write transaction, which is always made, and reads the whole file once,
// so that damage shows at the start. Errors name the file; one of them is a *DamagedError.
func Open(dir, name string, o Options, prepare func(*bolt.Tx) error) (*File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f := &File{path: filepath.Join(dir, name), cure: o.Cure}
	err := f.open()
	if errors.Is(err, bolterrors.ErrTimeout) { // the file is closed already
		return nil, fmt.Errorf("%s is %w", f.path, o.InUse)
	}
	if err == nil {
		err = f.Update(prepare)
	}
	if err == nil {
		err = f.View(readAll)
	}
	if err != nil {
		_ = f.Close()
		if f.damage.Load() == nil {
			err = fmt.Errorf("%s: %w", f.path, err)
		}
		return nil, err
	}
	// A new file is durable once its folder's entry is on disk as well. Some file systems,
	// and Windows, cannot sync folders; there it is left to the system.
	if folder, err := os.Open(dir); err == nil {
		folder.Sync()
		folder.Close()
	}
	return f, nil
}

func (f *File) open() (err error) {
	defer f.catch(debug.SetPanicOnFault(true), &err)
	f.db, err = bolt.Open(f.path, 0o600, &bolt.Options{
		Timeout:      1, // 0 would wait for ever; 1 ns tries the lock once
		FreelistType: bolt.FreelistMapType,
		NoStatistics: true, // they cost every reader a shared lock
		OpenFile: func(name string, flag int, mode os.FileMode) (*os.File, error) {
			file, err := os.OpenFile(name, flag, mode)
			f.file = file
			return file, err
		},
	})
	if err == nil || errors.Is(err, bolterrors.ErrTimeout) {
		return err
	}
	f.db, f.file = nil, nil // it is closed
	if system := syscall.Errno(0); errors.As(err, &system) || errors.Is(err, bolterrors.ErrVersionMismatch) {
		return err
	}
	return f.damaged(err)
}

// readAll reads every page that is in use, and panics, as bbolt does, if keys are not in order.
func readAll(tx *bolt.Tx) error {
	return tx.ForEach(func(name []byte, b *bolt.Bucket) error {
		var previous []byte
		return b.ForEach(func(k, _ []byte) error {
			if bytes.Compare(k, previous) <= 0 {
				panic(fmt.Sprintf("the keys of %q are out of order", name))
			}
			previous = k
			return nil
		})
	})
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
	f.damage.CompareAndSwap(nil, &DamagedError{Path: f.path, Cause: fmt.Sprint(cause), Cure: f.cure})
	return f.damage.Load()
}

// Update is bolt.DB.Update.
func (f *File) Update(fn func(*bolt.Tx) error) (err error) {
	f.writing.Lock()
	defer f.writing.Unlock()
	if d := f.damage.Load(); d != nil {
		return d
	}
	defer f.catch(debug.SetPanicOnFault(true), &err)
	return f.db.Update(fn)
}

// View is bolt.DB.View.
func (f *File) View(fn func(*bolt.Tx) error) (err error) {
	if d := f.damage.Load(); d != nil {
		return d
	}
	defer f.catch(debug.SetPanicOnFault(true), &err)
	tx, err := f.begin()
	if err != nil {
		return err
	}
	defer tx.Rollback() // a writer may wait for the end of all readers
	return fn(tx)
}

// begin begins to read. It panics as bbolt does if neither page of meta data is good. bbolt then
// leaves two locks locked, for which readers and writers under way would wait for ever.
func (f *File) begin() (tx *bolt.Tx, err error) {
	defer func() {
		if tx == nil && err == nil {
			lockOf[sync.RWMutex](f.db, "mmaplock").RUnlock()
			lockOf[sync.Mutex](f.db, "metalock").Unlock()
		}
	}()
	return f.db.Begin(false)
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
func (f *File) Path() string { return f.path }

// Close closes the file, after the transactions under way. It must be called once. Of a damaged
// file it returns the error and does not wait; such a file counts as in use until the process
// ends, since its memory stays mapped.
func (f *File) Close() error {
	d := f.damage.Load()
	switch {
	case d == nil && f.db != nil:
		return f.db.Close()
	case f.file != nil:
		f.file.Close()
	}
	if d == nil {
		return nil
	}
	return d
}
