package boltstore

import (
	"bytes"
	"context"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
)

// usersPerRead bounds how many users one read of the file looks at. What is written
// meanwhile cannot use the room of what is deleted.
const usersPerRead = 500

// ScanUsers calls yield with each user who has something counted in the window of kind per
// that an instant lies in, in the order of their ids. It looks at all users of the file,
// some hundreds at a time, so that it is no snapshot: of a running window, each user's
// numbers are those of when he is reached. An error of yield ends it and is returned.
// Other errors: quota.ErrNotKept, ErrClosed, ctx's and those of the disk.
func (s *Store) ScanUsers(ctx context.Context, per quota.Period, at time.Time, yield func(quota.UserUsage) error) error {
	for from := []byte{}; from != nil; {
		if err := ctx.Err(); err != nil {
			return err
		}
		var users []quota.UserUsage
		var err error
		if users, from, err = s.usersFrom(from, per, at); err != nil {
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

// usersFrom returns users of a window, looking at those whose keys in used do not come
// before from, and where to go on; nil: there are no more.
func (s *Store) usersFrom(from []byte, per quota.Period, at time.Time) (users []quota.UserUsage, next []byte, err error) {
	sh, now, err := s.enter("") // for ErrClosed
	if err != nil {
		return nil, nil, err
	}
	s.commits.Add(1) // Close waits
	defer s.commits.Done()
	sh.mu.Unlock()
	w := s.calendar.WindowAt(per, at)
	if !s.kept(w, now) {
		return nil, nil, quota.ErrNotKept
	}
	err = s.view(func(tx *bolt.Tx) error {
		cursor, plans, claimed := tx.Bucket(usedBucket).Cursor(), tx.Bucket(plansBucket), tx.Bucket(claimedBucket)
		k, _ := cursor.Seek(from)
		for n := 0; k != nil && n < usersPerRead; n++ {
			user, _, _ := bytes.Cut(k, []byte{0})
			u := quota.UserUsage{User: string(user), ClaimedPlan: string(claimed.Get(user)), Endpoints: map[string]int64{}, Override: overrideIn(plans, user).ActiveAt(now)}
			prefix := appendKey(nil, u.User, w.ID, "")
			for k, v := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = cursor.Next() {
				if endpoint := string(k[len(prefix):]); endpoint != "" {
					u.Endpoints[endpoint] = number(v)
					u.Used += number(v)
				}
			}
			if u.Used > 0 {
				users = append(users, u)
			}
			k, _ = cursor.Seek(append([]byte(u.User), 1)) // after all that is his
		}
		next = bytes.Clone(k)
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("reading users: %w", err)
	}
	return users, next, nil
}
