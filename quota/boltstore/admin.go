package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
)

// Change makes a change, in one write together with its entry in the audit list, and
// returns when that is on disk. Errors: quota.ErrInvalidChange, ErrNoSuchLimit, ErrTooLarge,
// ErrIDConflict and ErrTooManyIDs, ErrClosed, ctx's, when nothing has changed; those of
// the disk, when it may have: a change with an ID can be made again.
func (s *Store) ApplyChange(ctx context.Context, user string, t quota.PlanChoice, c quota.Change) (quota.Snapshot, error) {
	if err := c.Validate(user); err != nil {
		return quota.Snapshot{}, err
	}
	if err := ctx.Err(); err != nil {
		return quota.Snapshot{}, err
	}
	sh, _, err := s.enter(user)
	if err != nil {
		return quota.Snapshot{}, err
	}
	s.commits.Add(1)
	sh.mu.Unlock()
	defer s.commits.Done()
	// Before anybody can see them.
	switch c.Action {
	case quota.ActionGrant:
		s.granted.Store(true)
	case quota.ActionSetPlan:
		s.overridden.Store(true)
	}
	s.writes.Lock()
	err = s.update(func(tx *bolt.Tx) error {
		ch := change{Change: c, fingerprint: c.Fingerprint(), tx: tx, calendar: s.calendar, user: user, terms: t, now: s.now()}
		if err := ch.make(); err != nil {
			return err
		}
		return prune(tx, ch.now, s.keep, 100)
	})
	s.writes.Unlock()
	if err != nil && quota.StoreResponded(err) {
		return quota.Snapshot{}, err
	}
	if err != nil {
		err = fmt.Errorf("writing a change to %s: %w", s.db.Path(), err)
	}
	s.lastWrite.Store(&err)
	if err != nil {
		return quota.Snapshot{}, err
	}
	s.watchers.Notify(user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now := s.now()
	return s.snapshot(sh, user, t, now, now)
}

// lookForChanges finds out whether there are grants and overrides in the file.
func (s *Store) lookForChanges() error {
	return s.view(func(tx *bolt.Tx) error {
		grant, _ := tx.Bucket(grantsBucket).Cursor().First()
		plan, _ := tx.Bucket(plansBucket).Cursor().First()
		s.granted.Store(grant != nil)
		s.overridden.Store(plan != nil)
		return nil
	})
}

// A change is a quota.Change that is being made.
type change struct {
	quota.Change
	fingerprint string
	tx          *bolt.Tx
	calendar    *quota.Calendar
	user        string
	terms       quota.PlanChoice
	now         time.Time
}

func (c *change) make() error {
	if c.ID != "" {
		if known, err := c.known(); known || err != nil {
			return err // a write all the same: it brings to disk what one that failed has left
		}
	}
	var err error
	switch c.Action {
	case quota.ActionGrant:
		err = c.grant()
	case quota.ActionReset:
		err = c.reset()
	case quota.ActionSetPlan:
		err = c.setPlan()
	case quota.ActionClearPlan:
		err = c.tx.Bucket(plansBucket).Delete([]byte(c.user))
	case quota.ActionSetCounts:
		err = c.setCounts()
	}
	if err != nil {
		return err
	}
	return c.remember()
}

// known reports whether the change was made before. Errors: quota.ErrIDConflict,
// quota.ErrTooManyIDs.
func (c *change) known() (bool, error) {
	once, key := c.tx.Bucket(onceBucket), idKey(c.user, c.ID)
	lives := func(value []byte) bool { return len(value) > 8 && c.now.UnixMilli() < number(value) }
	if value := once.Get(key); lives(value) {
		if string(value[8:]) != c.fingerprint {
			return false, quota.ErrIDConflict
		}
		return true, nil
	}
	ids, prefix, cursor := 0, idKey(c.user, ""), once.Cursor()
	for k, v := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = cursor.Next() {
		if lives(v) {
			ids++
		}
	}
	if ids >= quota.MaxChangeIDs {
		return false, quota.ErrTooManyIDs
	}
	return false, nil
}

func (c *change) grant() error {
	p := c.terms.Effective(overrideIn(c.tx.Bucket(plansBucket), []byte(c.user)).ActiveAt(c.now))
	i, ok := c.LimitIndex(p)
	if !ok {
		return quota.ErrNoSuchLimit
	}
	l := p.Limits()[i]
	c.Period = l.Period // for the audit list, where it has not been named
	w := c.calendar.WindowAt(l.Period, c.now)
	key, grants := appendKey(nil, c.user, w.ID, l.Endpoint), c.tx.Bucket(grantsBucket)
	granted := number(grants.Get(key)) + c.Requests
	if granted > quota.MaxRequests {
		return quota.ErrTooLarge
	}
	return c.put(grants, key, granted, w)
}

func (c *change) reset() error {
	used := c.tx.Bucket(usedBucket)
	for per := quota.Minute; per <= quota.Year; per++ {
		prefix := appendKey(nil, c.user, c.calendar.WindowAt(per, c.now).ID, "")
		for _, key := range keysIn(used, prefix) {
			if err := used.Delete(key); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *change) setPlan() error {
	plans, key := c.tx.Bucket(plansBucket), []byte(c.user)
	if c.Until.IsZero() {
		return plans.Put(key, append(make([]byte, 8), c.Plan...))
	}
	until := c.Until.UnixMilli()
	if until <= c.now.UnixMilli() {
		return plans.Delete(key)
	}
	if err := plans.Put(key, append(binary.BigEndian.AppendUint64(nil, uint64(until)), c.Plan...)); err != nil {
		return err
	}
	return c.tx.Bucket(endsBucket).Put(endKeyOf(planEnds, secondsAfter(c.Until), key), nil)
}

func (c *change) setCounts() error {
	used, w := c.tx.Bucket(usedBucket), c.calendar.WindowAt(c.Period, c.now)
	totalKey := appendKey(nil, c.user, w.ID, "")
	total := number(used.Get(totalKey))
	for endpoint, n := range c.Counts {
		key := appendKey(nil, c.user, w.ID, endpoint)
		total += n - number(used.Get(key))
		if err := c.put(used, key, n, w); err != nil {
			return err
		}
	}
	if total > quota.MaxRequests {
		return quota.ErrTooLarge
	}
	return c.put(used, totalKey, total, w)
}

// put sets a number of a window; what is 0 takes no room.
func (c *change) put(bucket *bolt.Bucket, key []byte, n int64, w quota.Window) error {
	if n == 0 {
		return bucket.Delete(key)
	}
	if err := c.tx.Bucket(endsBucket).Put(endKey(w, key), nil); err != nil {
		return err
	}
	return bucket.Put(key, binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// remember writes the change into the audit list, and its id where it is known by.
func (c *change) remember() error {
	audit, ends := c.tx.Bucket(auditBucket), c.tx.Bucket(endsBucket)
	number, err := audit.NextSequence()
	if err != nil {
		return err
	}
	key := binary.BigEndian.AppendUint64(idKey(c.user, ""), number)
	key = binary.BigEndian.AppendUint64(key, uint64(c.now.UnixMilli()))
	if err := audit.Put(key, c.Encode()); err != nil {
		return err
	}
	if err := ends.Put(endKeyOf(auditEnds, c.now.Unix(), key), nil); err != nil {
		return err
	}
	entries := keysIn(audit, idKey(c.user, ""))
	for _, k := range entries[:max(0, len(entries)-quota.MaxAuditEntries)] {
		if err := audit.Delete(k); err != nil {
			return err
		}
		if err := ends.Delete(endKeyOf(auditEnds, auditTime(k).Unix(), k)); err != nil {
			return err
		}
	}
	if c.ID == "" {
		return nil
	}
	until, key := c.now.Add(quota.ChangeIDLife), idKey(c.user, c.ID)
	value := binary.BigEndian.AppendUint64(nil, uint64(until.UnixMilli()))
	if err := c.tx.Bucket(onceBucket).Put(key, append(value, c.fingerprint...)); err != nil {
		return err
	}
	return ends.Put(endKeyOf(onceEnds, secondsAfter(until), key), nil)
}

// idKey is a user's key in once, and the beginning of all of his with an empty id.
func idKey(user, id string) []byte { return append(append([]byte(user), 0), id...) }

// auditTime is when the entry of a key in audit was made.
func auditTime(key []byte) time.Time { return time.UnixMilli(number(key[len(key)-8:])) }

// keysIn returns copies of the keys that begin with prefix: a deletion moves a cursor.
func keysIn(bucket *bolt.Bucket, prefix []byte) (keys [][]byte) {
	cursor := bucket.Cursor()
	for k, _ := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, _ = cursor.Next() {
		keys = append(keys, bytes.Clone(k))
	}
	return keys
}

// ReadAt is Read for the windows that an instant lies in. In those that are over
// nothing is held any more. Error: quota.ErrNotKept, when the period has not begun at
// the instant, or its counts are not kept any more.
func (s *Store) ReadAt(ctx context.Context, user string, t quota.PlanChoice, at time.Time) (quota.Snapshot, error) {
	snapshot, err := s.readAt(ctx, user, t, at)
	if err == nil && !s.kept(snapshot.Total.Window, snapshot.At) {
		return quota.Snapshot{}, quota.ErrNotKept
	}
	return snapshot, err
}

// kept reports whether there are counts of a window at now.
func (s *Store) kept(w quota.Window, now time.Time) bool {
	return !now.Before(w.Start) && now.Before(w.RetainedUntil(s.keep))
}

// AuditLog returns a user's audit list, the newest entry first.
func (s *Store) AuditLog(ctx context.Context, user string) (entries []quota.AuditEntry, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	sh, now, err := s.enter(user)
	if err != nil {
		return nil, err
	}
	defer sh.mu.Unlock()
	err = s.view(func(tx *bolt.Tx) error {
		cursor, prefix := tx.Bucket(auditBucket).Cursor(), idKey(user, "")
		for k, v := cursor.Seek(prefix); bytes.HasPrefix(k, prefix); k, v = cursor.Next() {
			at := auditTime(k)
			if !now.Before(at.Add(s.keep)) {
				continue
			}
			e, err := quota.DecodeAuditEntry(at.In(s.calendar.Location()), v)
			if err != nil {
				return err
			}
			entries = append(entries, e)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("reading the audit list: %w", err)
	}
	slices.Reverse(entries)
	return entries, nil
}

// ClaimedPlan returns the name of the plan that the user's token gave him when he was last
// counted; empty: the store knows none.
func (s *Store) ClaimedPlan(ctx context.Context, user string) (plan string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	sh, _, err := s.enter(user)
	if err != nil {
		return "", err
	}
	defer sh.mu.Unlock()
	err = s.view(func(tx *bolt.Tx) error {
		plan = string(tx.Bucket(claimedBucket).Get([]byte(user)))
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("reading the plan: %w", err)
	}
	return plan, nil
}
