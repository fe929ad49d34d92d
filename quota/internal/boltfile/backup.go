package boltfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	bolt "go.etcd.io/bbolt"
)

// spareSpace is how much of the disk a backup leaves free, in bytes. A full disk would stop the writes to
// the file itself.
const spareSpace = 64 << 20

// ErrNoSpace: the disk has too little room for a copy of the file.
var ErrNoSpace = errors.New("the disk has too little room for a copy")

// Backup returns a copy of the file in one state, the one that it is in shortly before Backup returns. Writers
// wait only while the last few keys are copied; readers never wait. The copy is written beside the file, and
// is gone when the result is closed. It is compact.
//
// A compaction that is under way ends first, and so does another backup. Errors are ErrNoSpace, those of ctx and of the disk, and
// a *DamagedError.
func (f *File) Backup(ctx context.Context) (*os.File, error) {
	for !f.running.TryLock() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-f.closing:
			return nil, errClosing
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	defer f.running.Unlock()
	size, unused := f.Space()
	if free, ok := freeSpace(f.Path()); ok && free < size-unused+spareSpace {
		return nil, fmt.Errorf("%w: it takes up to %d bytes beside %s, and %d must stay free; there are %d", ErrNoSpace, size-unused, f.Path(), spareSpace, free)
	}
	path := f.Path() + ".backup"
	err := f.copyWhole(ctx, path, func(to *handle) error {
		f.writing.Lock()
		err := f.copyRest(to)
		f.writing.Unlock()
		if err == nil && f.Log != nil {
			err = to.write(f.withoutLog)
		}
		if err == nil {
			err = to.db.Close()
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("copying %s: %w", f.Path(), err)
	}
	copied, err := os.Open(path)
	// From now on only the open file keeps it. A system that cannot delete it yet does so at the next Open.
	_ = os.Remove(path)
	return copied, err
}

// withoutLog makes a copy look like a file that has never had a log: the log of the file it was copied from is not its own.
func (f *File) withoutLog(tx *bolt.Tx) error {
	return errors.Join(f.Log.Mark(Tx{Tx: tx}, false), tx.Bucket(f.Log.Bucket).Delete(stampKey))
}
