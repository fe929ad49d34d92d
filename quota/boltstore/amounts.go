package boltstore

import (
	"encoding/binary"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// amounts is a value of used, history, bills or grants: 8 bytes, or 16 if the second number is not 0. It is also what
// a hold holds.
type amounts struct {
	requests int64
	// extra is, in used, in history, in bills and of a hold, by how much the units of the requests exceed their number; it
	// can be negative. In grants it is the units granted.
	extra int64
}

// decodeAmounts reads a value; one that is missing is zero.
func decodeAmounts(value []byte) (a amounts) {
	if value == nil {
		return a
	}
	a.requests = int64(binary.BigEndian.Uint64(value[:8]))
	if len(value) >= 16 {
		a.extra = int64(binary.BigEndian.Uint64(value[8:16]))
	}
	return a
}

// used is what was used of a quantity, if a is from used, history or bills, or what is held.
func (a amounts) used(q quota.Quantity) int64 {
	if q == quota.Units {
		return a.requests + a.extra
	}
	return a.requests
}

// with is what is used once h is counted as well.
func (a amounts) with(h *hold) amounts {
	a.extra += h.charged
	if !h.isRest {
		a.requests++
		a.extra--
	}
	return a
}

// granted is what was granted of a quantity, if a is from grants.
func (a amounts) granted(q quota.Quantity) int64 {
	if q == quota.Units {
		return a.extra
	}
	return a.requests
}

// putAmounts sets a value of used, history, bills or grants. The first one with two numbers changes the format of
// the file, so that a release that knows only one refuses it.
func putAmounts(tx boltfile.Tx, bucket boltfile.Bucket, key []byte, a amounts) error {
	value := binary.BigEndian.AppendUint64(make([]byte, 0, 16), uint64(a.requests))
	if a.extra != 0 {
		value = binary.BigEndian.AppendUint64(value, uint64(a.extra))
		if meta := tx.Bucket(metaBucket); string(meta.Get(formatKey)) != formatUnits {
			if err := meta.Put(formatKey, []byte(formatUnits)); err != nil {
				return err
			}
		}
	}
	return bucket.Put(key, value)
}
