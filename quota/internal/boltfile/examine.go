package boltfile

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// A Fault is something that is wrong in a file.
type Fault struct {
	Place string // such as "page 17" or "used u-17 2026-11 analyze"
	What  string
}

func (f Fault) String() string { return f.Place + ": " + f.What }

// ExamineLog reports a log beside a file that does not belong to it or is damaged, and one that is missing.
func ExamineLog(tx *bolt.Tx, o LogOptions, path string, report func(Fault)) {
	if _, _, err := readLog(tx, o, path); err != nil {
		report(Fault{"log", err.Error()})
	}
}

// maxFaults bounds the faults of one file that Examine returns.
const maxFaults = 1000

// Examine looks for faults in a file that nobody has open, and changes nothing. It checks the pages as bbolt
// does, and then calls examine, which reports faults of what is in them. A file that is damaged so that bbolt cannot read
// it is a fault. Errors are inUse and those of the disk.
func Examine(path string, inUse error, examine func(tx *bolt.Tx, report func(Fault))) (faults []Fault, err error) {
	report := func(f Fault) {
		if len(faults) < maxFaults {
			faults = append(faults, f)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a file", path)
	}
	if info.Size() == 0 {
		return []Fault{{"file", "it is empty"}}, nil
	}
	defer func(before bool) {
		debug.SetPanicOnFault(before)
		switch cause := recover().(type) {
		case nil:
		case interface{ Addr() uintptr }: // a runtime.Error
			report(Fault{"file", "it is shorter than it was, or the disk cannot read it"})
		default:
			report(Fault{"file", fmt.Sprint(cause)})
		}
	}(debug.SetPanicOnFault(true))
	db, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 1, ReadOnly: true, PreLoadFreelist: true})
	switch system := new(os.PathError); {
	case errors.Is(err, bolterrors.ErrTimeout):
		return nil, fmt.Errorf("%s is %w", path, inUse)
	case errors.As(err, &system):
		return nil, err
	case err != nil:
		report(Fault{"file", "it is not a database, or its first pages are damaged (" + err.Error() + ")"})
		return faults, nil
	}
	defer func() {
		defer func() { recover() }() // of bbolt, see the package comment
		db.Close()
	}()
	err = db.View(func(tx *bolt.Tx) error {
		if tx.Size() > info.Size() {
			report(Fault{"file", fmt.Sprintf("it was cut: it has %d bytes of %d", info.Size(), tx.Size())})
			return nil
		}
		// What follows reads pages in another goroutine, where a fault of memory could not be caught.
		if err := readAll(tx); err != nil {
			return err
		}
		for err := range tx.Check() {
			report(Fault{"pages", err.Error()})
		}
		if len(faults) == 0 {
			examine(tx, report)
		}
		return nil
	})
	return faults, err
}
