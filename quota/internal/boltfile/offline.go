package boltfile

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	bolt "go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"
)

// compactTxBytes bounds what one transaction of CompactFile writes.
const compactTxBytes = 8 << 20

// CompactFile writes a file again that nobody has open, without the pages that are free, and returns its size before and after. The new
// file has the owner and the mode of the old one, and takes its place when all keys and values in it were found to be equal, and it is on
// disk; before that, and after an error, the old one is as it was. The caller has examined it. Errors are inUse, ErrNoSpace, that
// this user may not set the owner, and those of the disk.
func CompactFile(path string, inUse error) (before, after int64, err error) {
	from, err := bolt.Open(path, 0o600, &bolt.Options{Timeout: 1, ReadOnly: true})
	if errors.Is(err, bolterrors.ErrTimeout) {
		return 0, 0, fmt.Errorf("%s is %w", path, inUse)
	}
	if err != nil {
		return 0, 0, err
	}
	defer from.Close() // until then nobody else can open the old file to write to it
	info, err := os.Stat(path)
	if err != nil {
		return 0, 0, err
	}
	before = info.Size()
	if free, ok := freeSpace(path); ok && free < before {
		return before, 0, fmt.Errorf("%w: it takes up to %d bytes beside %s, and there are %d", ErrNoSpace, before, path, free)
	}
	copied := path + ".compact"
	if err := os.Remove(copied); err != nil && !errors.Is(err, os.ErrNotExist) {
		return before, 0, err
	}
	defer func() {
		if err != nil {
			os.Remove(copied)
		}
	}()
	to, err := openCopy(copied)
	if err != nil {
		return before, 0, err
	}
	err = func() (err error) {
		defer recoverTo(&err)
		if err := giveOwner(to.file, info); err != nil {
			return fmt.Errorf("the new file would not belong to the same user: %w; run it as the user of the gateway", err)
		}
		if err := to.file.Chmod(info.Mode().Perm()); err != nil {
			return err
		}
		if err := bolt.Compact(to.db, from, compactTxBytes); err != nil {
			return err
		}
		if err := sameContent(from, to.db); err != nil {
			return err
		}
		return to.file.Sync() // the owner as well
	}()
	err = errors.Join(err, to.db.Close())
	if err == nil {
		info, err = os.Stat(copied)
	}
	if err == nil {
		err = os.Rename(copied, path)
	}
	if err != nil {
		return before, 0, fmt.Errorf("compacting %s: %w", path, err)
	}
	syncFolder(filepath.Dir(path))
	return before, info.Size(), nil
}

// sameContent returns an error unless two databases have the same keys and values, and would number new ones alike.
func sameContent(from, to *bolt.DB) error {
	return from.View(func(a *bolt.Tx) error {
		return to.View(func(b *bolt.Tx) error {
			return a.ForEach(func(name []byte, bucket *bolt.Bucket) error {
				other := b.Bucket(name)
				if other == nil || other.Sequence() != bucket.Sequence() {
					return fmt.Errorf("the copy has another bucket %q", name)
				}
				c := other.Cursor()
				k, v := c.Seek(nil)
				err := ForEach(bucket, func(key, value []byte) error {
					if !bytes.Equal(k, key) || !bytes.Equal(v, value) {
						return fmt.Errorf("the copy differs in the bucket %q", name)
					}
					k, v = c.Next()
					return nil
				})
				if err == nil && k != nil {
					err = fmt.Errorf("the copy has more keys in the bucket %q", name)
				}
				return err
			})
		})
	})
}
