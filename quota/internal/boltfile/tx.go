package boltfile

import bolt "go.etcd.io/bbolt"

// A Tx is a write transaction. While the file is compacted, it notes the keys that it changes.
type Tx struct {
	*bolt.Tx
	changed keySet // nil: the file is not being compacted
}

// A Bucket is a bucket of a Tx. Keys are changed with Put and Delete alone.
type Bucket struct {
	*bolt.Bucket
	name    []byte
	changed keySet
}

// A keySet has keys by bucket.
type keySet map[string]map[string]struct{}

// Bucket returns a bucket, which must exist.
func (tx Tx) Bucket(name []byte) Bucket {
	return Bucket{tx.Tx.Bucket(name), name, tx.changed}
}

// Put is bolt.Bucket.Put.
func (b Bucket) Put(key, value []byte) error {
	b.changed.add(b.name, key)
	return b.Bucket.Put(key, value)
}

// Delete is bolt.Bucket.Delete.
func (b Bucket) Delete(key []byte) error {
	b.changed.add(b.name, key)
	return b.Bucket.Delete(key)
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
// sees. Unlike bbolt's own number it grows when the file is compacted as well.
func (f *File) Number(tx *bolt.Tx) int64 {
	h := f.current.Load()
	earlier := h.earlier
	if tx.DB() != h.db { // it began to read before the file was compacted or written again
		v, _ := f.superseded.Load(tx.DB())
		earlier = v.(int64)
	}
	return int64(tx.ID()) + earlier
}
