package boltfile

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// A changeList has changes of keys, one after the other: the kind, the bucket, the key and the value.
type changeList struct {
	bytes    []byte
	unlogged bool // there was a change that the list cannot have
}

const (
	putKind byte = 'p'
	// deleteKind has no value.
	deleteKind byte = 'd'
	// sequenceKind has no key; the value is the sequence of the bucket.
	sequenceKind byte = 's'
)

func (l *changeList) add(kind byte, bucket, key, value []byte) {
	if l == nil {
		return
	}
	l.bytes = append(l.bytes, kind)
	for _, part := range [][]byte{bucket, key, value} {
		l.bytes = append(binary.AppendUvarint(l.bytes, uint64(len(part))), part...)
	}
}

var errChange = errors.New("it has an unknown change; a later release may have written it")

// eachChange calls visit for each change, in their order, until it returns an error. What a kind does not have is empty.
func eachChange(changes []byte, visit func(kind byte, bucket, key, value []byte) error) error {
	for len(changes) > 0 {
		kind := changes[0]
		changes = changes[1:]
		var parts [3][]byte
		for i := range parts {
			n, size := binary.Uvarint(changes)
			if size <= 0 || n > uint64(len(changes)-size) {
				return errChange
			}
			parts[i] = changes[size : size+int(n)]
			changes = changes[size+int(n):]
		}
		if err := visit(kind, parts[0], parts[1], parts[2]); err != nil {
			return err
		}
	}
	return nil
}

// applyChanges makes changes.
func applyChanges(tx *bolt.Tx, changes []byte) error {
	var bucket *bolt.Bucket
	var name []byte
	return eachChange(changes, func(kind byte, in, key, value []byte) error {
		if bucket == nil || !bytes.Equal(name, in) {
			if name, bucket = in, tx.Bucket(in); bucket == nil {
				return fmt.Errorf("the file has no bucket %q", name)
			}
		}
		switch kind {
		case putKind:
			return bucket.Put(key, value)
		case deleteKind:
			return bucket.Delete(key)
		case sequenceKind:
			if len(value) == 8 {
				return bucket.SetSequence(binary.BigEndian.Uint64(value))
			}
		}
		return errChange
	})
}
