package boltfile

import (
	"bytes"
	"runtime/debug"
	"slices"
	"sync"

	bolt "go.etcd.io/bbolt"
)

// A Reader reads the file as of a write. While that is being committed, nobody can use its transaction. Then the Reader
// has the last commit and, over it, what was appended since.
type Reader struct {
	tx *bolt.Tx
	// Number is the number of the last write that the Reader sees, if the file has a log.
	Number int64
	over   *overlay // nil: the transaction has everything
}

// Latest reads all writes that were made. Writers wait for it, so it should be short. It does not wait for a commit that
// is under way, and so not for the disk; only while bbolt hands the page of meta data to the system, no read begins.
func (f *File) Latest(fn func(Reader) error) (err error) {
	if f.Log == nil || !f.pending.Load() {
		return f.viewUnder(nil, fn)
	}
	if d := f.damage.Load(); d != nil {
		return d
	}
	defer f.catch(debug.SetPanicOnFault(true), &err)
	f.txMu.Lock()
	if !f.pending.Load() || f.committing != nil { // it was committed meanwhile, or will be
		over := f.committing
		f.isShared = f.isShared || over != nil
		f.txMu.Unlock()
		return f.viewUnder(over, fn)
	}
	defer f.txMu.Unlock()
	if err := f.begin(); err != nil {
		return err
	}
	return fn(Reader{tx: f.tx, Number: f.stamp.number})
}

// viewUnder reads the last commit, with an overlay on top of it unless that is nil.
func (f *File) viewUnder(over *overlay, fn func(Reader) error) error {
	return f.View(func(tx *bolt.Tx) error {
		r := Reader{tx: tx}
		if f.Log != nil {
			r.Number = f.stampOf(tx).number
		}
		if over != nil && r.Number < over.number { // else, the commit can be seen already
			r.Number, r.over = over.number, over
		}
		return fn(r)
	})
}

// Scan is Latest for what takes longer. It commits what was appended, so that writers need not wait for it. If that fails,
// they wait: they would fail as well.
func (f *File) Scan(fn func(*bolt.Tx) error) error {
	f.writing.Lock()
	if err := f.commitAppended(); err != nil {
		defer f.writing.Unlock()
		return f.readOpen(fn)
	}
	f.writing.Unlock()
	return f.View(fn)
}

// readOpen reads the open transaction. The caller holds f.writing.
func (f *File) readOpen(fn func(*bolt.Tx) error) (err error) {
	if d := f.damage.Load(); d != nil {
		return d
	}
	defer f.catch(debug.SetPanicOnFault(true), &err)
	f.txMu.Lock()
	defer f.txMu.Unlock()
	if err := f.begin(); err != nil {
		return err
	}
	return fn(f.tx)
}

// Bucket returns a bucket, which must exist.
func (r Reader) Bucket(name []byte) ReadBucket {
	b := ReadBucket{bucket: r.tx.Bucket(name)}
	if r.over != nil {
		b.over = r.over.changesOf(name)
	}
	return b
}

// A ReadBucket is a bucket of a Reader.
type ReadBucket struct {
	bucket *bolt.Bucket
	over   []keyChange
}

// Get is bolt.Bucket.Get.
func (b ReadBucket) Get(key []byte) []byte {
	if i, ok := slices.BinarySearchFunc(b.over, key, keyChange.compare); ok {
		return b.over[i].value
	}
	return b.bucket.Get(key)
}

// Cursor is bolt.Bucket.Cursor.
func (b ReadBucket) Cursor() *ReadCursor { return &ReadCursor{base: b.bucket.Cursor(), over: b.over} }

// A ReadCursor is a cursor of a ReadBucket. The first call is that of Seek.
type ReadCursor struct {
	base *bolt.Cursor
	over []keyChange
	key  []byte // the last one that was returned
}

// Seek returns the first key that is not before the given one, and its value. After the last key, both are nil.
func (c *ReadCursor) Seek(key []byte) (k, v []byte) {
	k, v = c.base.Seek(key)
	i, _ := slices.BinarySearchFunc(c.over, key, keyChange.compare)
	for _, change := range c.over[i:] {
		order := -1
		if k != nil {
			order = bytes.Compare(change.key, k)
		}
		if order > 0 {
			break
		}
		if order == 0 {
			k, v = c.base.Next()
		}
		if change.value != nil {
			k, v = change.key, change.value
			break
		}
	}
	c.key = k
	return k, v
}

// Next returns the key after the last one that was returned, which is not nil.
func (c *ReadCursor) Next() (k, v []byte) {
	if len(c.over) > 0 {
		return c.Seek(append(bytes.Clone(c.key), 0))
	}
	return c.base.Next()
}

// An overlay has the appended writes while they are being committed.
type overlay struct {
	number  int64 // of the last one
	changes []byte

	sort     sync.Once
	byBucket map[string][]keyChange
}

// A keyChange is the last change of a key.
type keyChange struct{ key, value []byte } // a nil value: it was deleted

func (c keyChange) compare(key []byte) int { return bytes.Compare(c.key, key) }

// changesOf returns the changes of a bucket in the order of their keys.
func (o *overlay) changesOf(bucket []byte) []keyChange {
	o.sort.Do(func() {
		o.byBucket = map[string][]keyChange{}
		_ = eachChange(o.changes, func(kind byte, bucket, key, value []byte) error { // they were made here
			switch kind {
			case putKind:
				o.byBucket[string(bucket)] = append(o.byBucket[string(bucket)], keyChange{key, value})
			case deleteKind:
				o.byBucket[string(bucket)] = append(o.byBucket[string(bucket)], keyChange{key, nil})
			}
			return nil
		})
		for name, changes := range o.byBucket {
			slices.Reverse(changes) // the last change of a key comes first
			slices.SortStableFunc(changes, func(a, b keyChange) int { return bytes.Compare(a.key, b.key) })
			o.byBucket[name] = slices.CompactFunc(changes, func(a, b keyChange) bool { return bytes.Equal(a.key, b.key) })
		}
	})
	return o.byBucket[string(bucket)]
}
