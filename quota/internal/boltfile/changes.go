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

// applyChanges makes changes.
func applyChanges(tx *bolt.Tx, changes []byte) error {
	var bucket *bolt.Bucket
	var name []byte
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
		if bucket == nil || !bytes.Equal(name, parts[0]) {
			if name, bucket = parts[0], tx.Bucket(parts[0]); bucket == nil {
				return fmt.Errorf("the file has no bucket %q", name)
			}
		}
		var err error
		switch kind {
		case putKind:
			err = bucket.Put(parts[1], parts[2])
		case deleteKind:
			err = bucket.Delete(parts[1])
		case sequenceKind:
			if len(parts[2]) != 8 {
				return errChange
			}
			err = bucket.SetSequence(binary.BigEndian.Uint64(parts[2]))
		default:
			err = errChange
		}
		if err != nil {
			return err
		}
	}
	return nil
}
