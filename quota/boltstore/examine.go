package boltstore

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// FileName is the name of a store's file in its folder.
const FileName = fileName

// A Fault is something that is wrong in a file.
type Fault = boltfile.Fault

// Examine looks for faults in the file at a path, usage.db or a backup of it, and in the log that a gateway that was
// killed has left beside it, and changes nothing. It reads the whole file. Errors are ErrInUse and those of the disk.
func Examine(path string) ([]Fault, error) {
	return boltfile.Examine(filepath.Clean(path), ErrInUse, func(tx *bolt.Tx, report func(Fault)) {
		meta := tx.Bucket(metaBucket)
		if meta == nil {
			report(Fault{Place: "file", What: "it is another program's database: it has no bucket meta"})
			return
		}
		switch got := meta.Get(formatKey); plainFormat(got) {
		case "1", format, formatUnits:
		default:
			report(Fault{Place: "meta format", What: fmt.Sprintf("it is %q; this version of the program reads only \"1\", %q and %q", got, format, formatUnits)})
			return
		}
		_ = tx.ForEach(func(name []byte, b *bolt.Bucket) error {
			examine := examiners[string(name)]
			if examine == nil {
				report(Fault{Place: "bucket " + string(name), What: "it is unknown; a later release may have written it"})
				return nil
			}
			return boltfile.ForEach(b, func(k, v []byte) error {
				if v == nil {
					report(Fault{Place: placeOf(name, k), What: "a bucket stands where a value should"})
				} else if err := examine(k, v); err != nil {
					report(Fault{Place: placeOf(name, k), What: err.Error()})
				}
				return nil
			})
		})
		if used := tx.Bucket(usedBucket); used != nil {
			examineSums(used, report)
		}
		boltfile.ExamineLog(tx, logOptions, path, report)
	})
}

// placeOf names a key for people.
func placeOf(bucket, key []byte) string {
	return fmt.Sprintf("%s %q", bucket, strings.ReplaceAll(string(key), "\x00", " "))
}

// examiners check a key and its value, by bucket.
var examiners = map[string]func(k, v []byte) error{
	string(metaBucket):   func(_, _ []byte) error { return nil },
	string(usedBucket):   examineCount,
	string(grantsBucket): examineCount,
	string(rearmedBucket): func(k, v []byte) error {
		return errors.Join(examineKey(k, 3, 0), examineLength(v, 8, 8))
	},
	string(historyBucket): func(k, v []byte) error {
		return errors.Join(examineKey(k, 2, 4), examineAmounts(v))
	},
	string(billsBucket): func(k, v []byte) error {
		return errors.Join(examineKey(k, 2, 12), examineAmounts(v))
	},
	string(revisionsBucket): func(k, v []byte) error { return errors.Join(examineKey(k, 1, 0), examineLength(v, 16, 16)) },
	string(plansBucket):     func(k, v []byte) error { return errors.Join(examineKey(k, 1, 0), examineLength(v, 9, 1<<16)) },
	string(claimedBucket):   func(k, _ []byte) error { return examineKey(k, 1, 0) },
	string(termsBucket): func(k, v []byte) error {
		_, err := quota.ParseTerms(string(v))
		return errors.Join(examineKey(k, 1, 0), err)
	},
	string(onceBucket): func(k, v []byte) error { return errors.Join(examineKey(k, 2, 0), examineLength(v, 8, 1<<16)) },
	string(auditBucket): func(k, v []byte) error {
		err := examineKey(k, 2, 16)
		if err == nil {
			_, err = quota.DecodeAuditEntry(auditKeyTime(k), v)
		}
		return err
	},
	string(crossingsBucket): func(k, v []byte) error {
		return errors.Join(examineKey(k, 2, 8), json.Unmarshal(v, new(quota.Crossing)))
	},
	string(endsBucket): func(k, v []byte) error {
		if len(k) < 10 || bytes.IndexByte(endingKinds, k[0]) < 0 {
			return errors.New("it is of no known kind")
		}
		return examineLength(v, 0, 0)
	},
}

// examineKey checks that a key has so many parts that 0x00 separates, of which the first is an account and the last
// begins with so many bytes.
func examineKey(k []byte, parts, fixed int) error {
	split := bytes.SplitN(k, []byte{0}, parts)
	if len(split) != parts || len(split[parts-1]) < fixed {
		return errors.New("the key is too short")
	}
	if _, err := quota.CheckedAccount(quota.SplitAccount(string(split[0]))); err != nil {
		return fmt.Errorf("the key names no user: %w", err)
	}
	return nil
}

func examineLength(v []byte, least, most int) error {
	if len(v) < least || len(v) > most {
		return fmt.Errorf("the value has %d bytes", len(v))
	}
	return nil
}

// examineCount checks what is counted, or granted, in a window.
func examineCount(k, v []byte) error { return errors.Join(examineKey(k, 3, 0), examineAmounts(v)) }

func examineAmounts(v []byte) error {
	if len(v) != 8 && len(v) != 16 {
		return fmt.Errorf("the value has %d bytes, a count has 8 or 16", len(v))
	}
	if n := decodeAmounts(v); n.requests < 0 || n.used(quota.Units) < 0 {
		return fmt.Errorf("the count is negative: %d requests, %d units", n.requests, n.used(quota.Units))
	}
	return nil
}

// examineSums checks that what all endpoints of a window have used is the sum of what each has.
func examineSums(used *bolt.Bucket, report func(Fault)) {
	var prefix []byte
	var total, sum amounts
	check := func() {
		if total != sum {
			report(Fault{Place: placeOf(usedBucket, prefix), What: fmt.Sprintf("the endpoints have used %d requests and %d units, all together %d and %d",
				sum.requests, sum.used(quota.Units), total.requests, total.used(quota.Units))})
		}
		total, sum = amounts{}, amounts{}
	}
	_ = boltfile.ForEach(used, func(k, v []byte) error {
		last := bytes.LastIndexByte(k, 0)
		if last < 0 || len(v) != 8 && len(v) != 16 {
			return nil // a fault already
		}
		if !bytes.Equal(prefix, k[:last]) {
			check()
			prefix = bytes.Clone(k[:last])
		}
		n := decodeAmounts(v)
		if last == len(k)-1 {
			total = n
			return nil
		}
		sum.requests += n.requests
		sum.extra += n.extra
		return nil
	})
	check()
}

// CompactFile writes the file at a path again, without the space that is free in it, and returns its size before and after. No gateway may
// have it open. With faults in it, it stays as it is. Errors are ErrInUse, quota.ErrNoSpace and those of the disk.
func CompactFile(path string) (before, after int64, err error) {
	faults, err := Examine(path)
	if err != nil {
		return 0, 0, err
	}
	if len(faults) > 0 {
		return 0, 0, fmt.Errorf("%s has %d faults, the first is: %v; it stays as it is; \"metergate check\" lists all", path, len(faults), faults[0])
	}
	before, after, err = boltfile.CompactFile(path, ErrInUse)
	if errors.Is(err, boltfile.ErrNoSpace) {
		err = fmt.Errorf("the file was not compacted: %w", err)
	}
	return before, after, err
}
