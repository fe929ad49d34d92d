package boltfile

import (
	"encoding/binary"

	bolt "go.etcd.io/bbolt"
)

// A Tx is a write transaction. It notes the keys that it changes while the file is compacted, and for the log.
type Tx struct {
	*bolt.Tx
	changed keySet      // nil: the file is not being compacted
	changes *changeList // nil: the write is not appended to the log
	file    *File
}

// IfItFails has fn called if the write fails, before anything else is written or committed. seen is the number of the last write
// that readers see then: they may see this one all the same.
func (tx Tx) IfItFails(fn func(seen int64)) { tx.file.ifItFails = fn }

// A Bucket is a bucket of a Tx. It is changed with Put, Delete and NextSequence alone.
type Bucket struct {
	*bolt.Bucket
	name    []byte
	changed keySet
	changes *changeList
}

// A keySet has keys by bucket.
type keySet map[string]map[string]struct{}

// Reader reads what the transaction has written so far. It has no Number.
func (tx Tx) Reader() Reader { return Reader{tx: tx.Tx} }

// Bucket returns a bucket, which must exist.
func (tx Tx) Bucket(name []byte) Bucket {
	return Bucket{tx.Tx.Bucket(name), name, tx.changed, tx.changes}
}

// CreateBucketIfNotExists is bolt.Tx.CreateBucketIfNotExists. The log cannot have it, so the write is committed.
func (tx Tx) CreateBucketIfNotExists(name []byte) (*bolt.Bucket, error) {
	if tx.changes != nil {
		tx.changes.unlogged = true
	}
	return tx.Tx.CreateBucketIfNotExists(name)
}

// Put is bolt.Bucket.Put.
func (b Bucket) Put(key, value []byte) error {
	b.changed.add(b.name, key)
	b.changes.add(putKind, b.name, key, value)
	return b.Bucket.Put(key, value)
}

// Delete is bolt.Bucket.Delete.
func (b Bucket) Delete(key []byte) error {
	b.changed.add(b.name, key)
	b.changes.add(deleteKind, b.name, key, nil)
	return b.Bucket.Delete(key)
}

// NextSequence is bolt.Bucket.NextSequence.
func (b Bucket) NextSequence() (uint64, error) {
	n, err := b.Bucket.NextSequence()
	if b.changes != nil {
		b.changes.add(sequenceKind, b.name, nil, binary.BigEndian.AppendUint64(nil, n))
	}
	return n, err
}

func (s keySet) add(bucket, key []byte) {
	if s == nil {
		return
	}
	if s[string(bucket)] == nil {
		s[string(bucket)] = map[string]struct{}{}
	}
	s[string(bucket)][string(key)] = struct{}{}
}

func (s keySet) len() (n int) {
	for _, keys := range s {
		n += len(keys)
	}
	return n
}

// Number is the number of the write that a transaction makes, or of the last one that a reader
// sees. The file has a log.
func (f *File) Number(tx *bolt.Tx) int64 {
	if tx.Writable() {
		return f.stamp.number
	}
	return f.stampOf(tx).number
}
