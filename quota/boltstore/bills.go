package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

const (
	secondsPerHour = 60 * 60
	// revisionLife is how long the last revision of an account is kept: longer than counts can still reach an
	// hour that has a bill, however long hours are kept by then.
	revisionLife = (quota.MaxBillingHours + 48) * time.Hour
	// billsPerWrite is about how many bills one write makes: requests wait for it.
	billsPerWrite = 1000
)

// keepsHour reports whether what is counted in an hour is kept for billing at now.
func (k retention) keepsHour(hour quota.BillHour, now time.Time) bool {
	return hour.IsKept(k.billing, quota.BillHourAt(now))
}

// keepsBills reports whether what the file has of an hour stays there at now. While nothing is counted for
// billing, it stays as long as it may be kept for that.
func (k retention) keepsBills(hour quota.BillHour, now time.Time) bool {
	if k.billing == 0 {
		k.billing = quota.MaxBillingHours
	}
	return k.keepsHour(hour, now)
}

// appendHourKey appends the part of a key of bills that comes before the revision.
func appendHourKey(b []byte, account string, hour quota.BillHour) []byte {
	return binary.BigEndian.AppendUint32(append(append(b, account...), 0), uint32(hour))
}

// billKey is a key of bills. With revision 0 it has what is in no bill yet.
func billKey(account string, b quota.Bill) []byte {
	return append(binary.BigEndian.AppendUint64(appendHourKey(nil, account, b.Hour), uint64(b.Revision)), b.Endpoint...)
}

// readBill reads a key and a value of bills. The key is without the account and the 0x00 after it.
func readBill(key, value []byte) quota.Bill {
	n := decodeAmounts(value)
	return quota.Bill{
		Hour: quota.BillHour(binary.BigEndian.Uint32(key)), Revision: int64(binary.BigEndian.Uint64(key[4:])), Endpoint: string(key[12:]),
		Used: quota.Used{Requests: n.requests, Units: n.used(quota.Units)},
	}
}

// billEndsKey is the key in ends for a key of bills.
func billEndsKey(hour quota.BillHour, key []byte) []byte {
	return endsKey(hourKind, int64(hour)*secondsPerHour, key)
}

// countHour counts h in its hour, if that is kept at now. It returns how many keys it has created.
func countHour(tx boltfile.Tx, h *hold, now time.Time, k retention) (created int, err error) {
	if !k.keepsHour(h.hour, now) {
		return 0, nil
	}
	bills, key := tx.Bucket(billsBucket), billKey(h.user, quota.Bill{Endpoint: h.endpoint, Hour: h.hour})
	n := decodeAmounts(bills.Get(key))
	if n == (amounts{}) {
		created++
		if err := tx.Bucket(endsBucket).Put(billEndsKey(h.hour, key), nil); err != nil {
			return created, err
		}
	}
	return created, putAmounts(tx, bills, key, n.with(h))
}

// ScanBills makes bills and calls yield for each account that has some, see quota.Store, in the order of
// their names. It reads the file, and writes to it, in steps of some hundred accounts. Errors are
// quota.ErrNotKept, ErrClosed, and those of yield, of ctx and of the disk.
func (s *Store) ScanBills(ctx context.Context, q quota.BillQuery, yield func(quota.AccountBills) error) error {
	if s.billing == 0 {
		return quota.ErrNotKept
	}
	total := int64(0)
	if q.Progress != nil {
		var err error
		if total, err = s.countBilled(ctx); err != nil {
			return err
		}
		q.Progress(0, total)
	}
	done := int64(0)
	for from := []byte{}; from != nil; {
		if err := ctx.Err(); err != nil {
			return err
		}
		step, err := s.billsFrom(from, q)
		if err != nil {
			return err
		}
		for _, account := range step.bills {
			if err := yield(account); err != nil {
				return err
			}
		}
		from = step.next
		if done, total = done+step.accounts, max(done+step.accounts, total); from == nil {
			total = done // fewer are there by now
		}
		if q.Progress != nil {
			q.Progress(done, total)
		}
	}
	return nil
}

// countBilled returns how many accounts have something in bills.
func (s *Store) countBilled(ctx context.Context) (total int64, err error) {
	for from := []byte{}; from != nil; {
		if err := ctx.Err(); err != nil {
			return 0, err
		}
		err := s.readFile(func(tx *bolt.Tx, _ time.Time) error {
			n := int64(0)
			from = eachBilled(tx, from, func(string) bool { n++; return n < usersPerRead })
			total += n
			return nil
		})
		if err != nil {
			return 0, err
		}
	}
	return total, nil
}

// readFile reads the file. Errors are ErrClosed and those of the disk.
func (s *Store) readFile(read func(tx *bolt.Tx, now time.Time) error) error {
	now, err := s.beginCall()
	if err != nil {
		return err
	}
	defer s.calls.Done()
	if err := s.dbScan(func(tx *bolt.Tx) error { return read(tx, now) }); err != nil {
		return fmt.Errorf("reading %s: %w", s.db.Path(), err)
	}
	return nil
}

// eachBilled calls visit for each account that has something in bills, from a key on, until it returns
// false. It returns the key to continue from; nil if there are no more accounts.
func eachBilled(tx *bolt.Tx, from []byte, visit func(account string) (more bool)) (next []byte) {
	cursor := tx.Bucket(billsBucket).Cursor()
	k, _ := cursor.Seek(from)
	for more := true; k != nil && more; {
		account, _, _ := bytes.Cut(k, []byte{0})
		after := append(bytes.Clone(account), 1) // after all keys of this account
		more = visit(string(account))
		k, _ = cursor.Seek(after)
	}
	return bytes.Clone(k)
}

// eachBill calls visit for each key of bills that an account has and a query is about.
func eachBill(tx *bolt.Tx, account string, q quota.BillQuery, hours int, now time.Time, visit func(key []byte, b quota.Bill)) {
	prefix, cursor := append([]byte(account), 0), tx.Bucket(billsBucket).Cursor()
	k, v := cursor.Seek(appendHourKey(nil, account, max(0, q.Since)))
	for ; bytes.HasPrefix(k, prefix); k, v = cursor.Next() {
		b := readBill(k[len(prefix):], v)
		if b.Hour >= q.Before {
			return
		}
		if q.Wants(b.Hour, hours, quota.BillHourAt(now)) {
			visit(k, b)
		}
	}
}

// A billStep is a step of ScanBills.
type billStep struct {
	bills    []quota.AccountBills
	accounts int64  // that it has looked at
	next     []byte // the key to continue from; nil: there are no more accounts
}

// billsFrom makes a step of ScanBills, from a key of bills on.
func (s *Store) billsFrom(from []byte, q quota.BillQuery) (step billStep, err error) {
	var found, unbilled []string // accounts that have something, and those that have something in no bill yet
	err = s.readFile(func(tx *bolt.Tx, now time.Time) error {
		counted := 0
		step.next = eachBilled(tx, from, func(account string) bool {
			before, n := counted, 0
			eachBill(tx, account, q, s.billing, now, func(_ []byte, b quota.Bill) {
				if n++; b.Revision == 0 {
					counted++
				}
			})
			if n > 0 {
				found = append(found, account)
			}
			if counted > before {
				unbilled = append(unbilled, account)
			}
			step.accounts++
			return step.accounts < usersPerRead && counted < billsPerWrite
		})
		return nil
	})
	switch last := s.lastWrite.Load(); {
	case err != nil || q.DryRun:
	case len(unbilled) > 0:
		err = s.write(func(tx boltfile.Tx, now time.Time) (created int, err error) {
			for _, account := range unbilled {
				if err := makeBills(tx, account, q, s.billing, now); err != nil {
					return created, err
				}
				created++
			}
			return created, nil
		})
	case len(found) > 0 && last != nil && *last != nil:
		err = s.tryWrite() // brings to disk what a failed write may have left: bills that are yielded stay
	}
	if err != nil || len(found) == 0 {
		return step, err
	}
	err = s.readFile(func(tx *bolt.Tx, now time.Time) error {
		for _, account := range found {
			bills := quota.AccountBills{Account: account}
			eachBill(tx, account, q, s.billing, now, func(_ []byte, b quota.Bill) {
				if b.Revision == 0 && !q.DryRun {
					return // it was counted since
				}
				if b.Revision == 0 {
					b.Revision = lastRevision(tx, account) + 1
				}
				bills.Bills = append(bills.Bills, b)
			})
			if len(bills.Bills) > 0 {
				step.bills = append(step.bills, bills)
			}
		}
		return nil
	})
	return step, err
}

// lastRevision returns the last revision of the bills of an account; 0: it has had none.
func lastRevision(tx *bolt.Tx, account string) int64 {
	return decodeNumber(tx.Bucket(revisionsBucket).Get([]byte(account)))
}

// makeBills makes bills of what an account has counted in the hours of a query.
func makeBills(tx boltfile.Tx, account string, q quota.BillQuery, hours int, now time.Time) error {
	var made []quota.Bill
	var keys [][]byte
	eachBill(tx.Tx, account, q, hours, now, func(key []byte, b quota.Bill) {
		if b.Revision == 0 {
			made, keys = append(made, b), append(keys, bytes.Clone(key))
		}
	})
	if len(made) == 0 {
		return nil
	}
	revision := lastRevision(tx.Tx, account) + 1
	bills, ends := tx.Bucket(billsBucket), tx.Bucket(endsBucket)
	for i, b := range made {
		value := bytes.Clone(bills.Get(keys[i]))
		if err := deleteBill(tx, b.Hour, keys[i]); err != nil {
			return err
		}
		b.Revision = revision
		key := billKey(account, b)
		if err := bills.Put(key, value); err != nil {
			return err
		}
		if err := ends.Put(billEndsKey(b.Hour, key), nil); err != nil {
			return err
		}
	}
	return putRevision(tx, account, revision, now)
}

// putRevision sets the last revision of an account, and when it ends.
func putRevision(tx boltfile.Tx, account string, revision int64, now time.Time) error {
	revisions, ends, key := tx.Bucket(revisionsBucket), tx.Bucket(endsBucket), []byte(account)
	if before := revisions.Get(key); before != nil {
		if err := ends.Delete(endsKey(revisionKind, decodeNumber(before[8:]), key)); err != nil {
			return err
		}
	}
	value := binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(nil, uint64(revision)), uint64(now.Unix()))
	if err := revisions.Put(key, value); err != nil {
		return err
	}
	return ends.Put(endsKey(revisionKind, now.Unix(), key), nil)
}

// deleteBill deletes a key of bills, and its key in ends.
func deleteBill(tx boltfile.Tx, hour quota.BillHour, key []byte) error {
	if err := tx.Bucket(endsBucket).Delete(billEndsKey(hour, key)); err != nil {
		return err
	}
	return tx.Bucket(billsBucket).Delete(key)
}

// EndBills drops bills of an account, see quota.Store. It returns when that is on disk. Errors are
// quota.ErrNotKept, ErrClosed, and those of ctx and of the disk.
func (s *Store) EndBills(ctx context.Context, account string, bills []quota.Bill) error {
	if s.billing == 0 {
		return quota.ErrNotKept
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.write(func(tx boltfile.Tx, _ time.Time) (created int, err error) {
		for _, b := range bills {
			if b.Revision < 1 {
				continue // it is no bill, but may be what is counted
			}
			if err := deleteBill(tx, b.Hour, billKey(account, b)); err != nil {
				return 0, err
			}
		}
		return 0, nil
	})
}
