package boltstore

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
)

// usersPerRead bounds how many users one read transaction looks at. While it is open, bbolt
// cannot reuse the space of what is deleted.
const usersPerRead = 500

// ScanUsers calls yield for each user who has something counted in some windows, see quota.Store,
// in the order of their IDs. It reads the file in steps of some hundred users. Errors are
// quota.ErrNotKept, ErrClosed, and those of yield, of ctx and of the disk.
func (s *Store) ScanUsers(ctx context.Context, windows quota.WindowQuery, yield func(quota.UserUsage) error) error {
	return s.scan(ctx, "", windows, yield)
}

// ScanMembers is ScanUsers for the members of one organisation, see quota.Store.
func (s *Store) ScanMembers(ctx context.Context, org string, windows quota.WindowQuery, yield func(quota.UserUsage) error) error {
	return s.scan(ctx, quota.PoolAccount(org), windows, yield)
}

// scan calls yield for each user of a window whose account has a prefix.
func (s *Store) scan(ctx context.Context, prefix string, windows quota.WindowQuery, yield func(quota.UserUsage) error) error {
	for from := []byte(prefix); from != nil; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var users []quota.UserUsage
		var err error
		if users, from, err = s.usersFrom(from, prefix, windows); err != nil {
			return err
		}
		for _, u := range users {
			if err := yield(u); err != nil {
				return err
			}
		}
	}
	return nil
}

// usersFrom returns users of a window whose accounts have a prefix, from the key of used on, and the
// key to continue from; nil if there are no more users.
func (s *Store) usersFrom(from []byte, prefix string, windows quota.WindowQuery) (users []quota.UserUsage, next []byte, err error) {
	now, err := s.beginCall()
	if err != nil {
		return nil, nil, err
	}
	defer s.calls.Done()
	if !s.isKept(s.calendar.WindowAt(windows.Period, windows.At), now) {
		return nil, nil, quota.ErrNotKept
	}
	err = s.dbScan(func(tx *bolt.Tx) error {
		cursor, plans, claimed := tx.Bucket(usedBucket).Cursor(), tx.Bucket(plansBucket), tx.Bucket(claimedBucket)
		k, _ := cursor.Seek(from)
		for n := 0; k != nil && n < usersPerRead; n++ {
			account, _, _ := bytes.Cut(k, []byte{0})
			if !bytes.HasPrefix(account, []byte(prefix)) {
				k = nil
				break
			}
			terms, err := quota.ParseTerms(string(tx.Bucket(termsBucket).Get(account)))
			if err != nil {
				return err
			}
			for _, w := range windows.WindowsOf(terms, s.calendar) {
				u := quota.UserUsage{Window: w, ClaimedPlan: string(claimed.Get(account)), Override: readOverride(plans, account).ActiveAt(now)}
				u.Org, u.User = quota.SplitAccount(string(account))
				readEndpoints(cursor, &u, appendKey(nil, string(account), w.ID, ""))
				if u.Used > 0 && u.User != "" {
					users = append(users, u)
				}
			}
			k, _ = cursor.Seek(append(bytes.Clone(account), 1)) // after all keys of this account
		}
		next = bytes.Clone(k)
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reading users: %w", err)
	}
	return users, next, nil
}

// readEndpoints adds to u what is counted for each endpoint, under keys of a prefix.
func readEndpoints(cursor *bolt.Cursor, u *quota.UserUsage, prefix []byte) {
	u.Endpoints = map[string]int64{}
	for k, v := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = cursor.Next() {
		endpoint := string(k[len(prefix):])
		if endpoint == "" {
			continue
		}
		n := decodeAmounts(v)
		u.Endpoints[endpoint] = n.requests
		u.Used += n.requests
		if n.extra != 0 {
			if u.Extra == nil {
				u.Extra = map[string]int64{}
			}
			u.Extra[endpoint] = n.extra
		}
	}
}

// ScanSnapshots calls yield for each user of whom something is kept, see quota.Store, in the order of
// their accounts. It finds them in steps of some hundred, and then reads each like Read.
func (s *Store) ScanSnapshots(ctx context.Context, query quota.SnapshotQuery, yield func(quota.UserSnapshot) error) error {
	prefix := ""
	if query.Org != "" {
		prefix = quota.PoolAccount(query.Org)
	}
	for from := []byte(prefix); from != nil; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var found []quota.UserSnapshot
		var err error
		if found, from, err = s.accountsFrom(from, prefix, &query); err != nil {
			return err
		}
		for _, u := range found {
			if u.Snapshot, err = s.Read(ctx, u.Account, query.PlansOf(u.Account, u.ClaimedPlan)); err != nil {
				return err
			}
			if err := yield(u); err != nil {
				return err
			}
		}
	}
	return nil
}

// accountsFrom returns wanted accounts with a prefix, from the key of used on and without their snapshots,
// and the key to continue from; nil if there are no more.
func (s *Store) accountsFrom(from []byte, prefix string, query *quota.SnapshotQuery) (found []quota.UserSnapshot, next []byte, err error) {
	if _, err := s.beginCall(); err != nil {
		return nil, nil, err
	}
	defer s.calls.Done()
	err = s.dbScan(func(tx *bolt.Tx) error {
		var cursors []*bolt.Cursor
		for _, name := range [][]byte{usedBucket, grantsBucket, plansBucket} {
			cursors = append(cursors, tx.Bucket(name).Cursor())
		}
		next = from
		for range usersPerRead {
			account, ok := firstAccount(cursors, next)
			if !ok || !strings.HasPrefix(account, prefix) {
				next = nil
				return nil
			}
			if _, user := quota.SplitAccount(account); user != "" && query.Wants(account) {
				found = append(found, quota.UserSnapshot{Account: account, ClaimedPlan: string(tx.Bucket(claimedBucket).Get([]byte(account)))})
			}
			next = append([]byte(account), 1) // after all keys of this account
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reading users: %w", err)
	}
	return found, next, nil
}

// firstAccount returns the first account, from a key on, of those with which the keys of some buckets begin.
func firstAccount(cursors []*bolt.Cursor, from []byte) (account string, ok bool) {
	for _, c := range cursors {
		k, _ := c.Seek(from)
		if k == nil {
			continue
		}
		k, _, _ = bytes.Cut(k, []byte{0})
		if !ok || string(k) < account {
			account, ok = string(k), true
		}
	}
	return account, ok
}
