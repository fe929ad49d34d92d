package boltstore

import (
	"bytes"
	"context"
	"encoding/binary"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// ApplyChange makes a change, see quota.Store, in one write together with its entry in the
// audit log. It returns when that is on disk. Changes and commits that arrive while the disk is
// busy share a write. After ErrClosed, the error of ctx and those of package quota nothing has
// changed. After an error of the disk it may have changed; a change with an ID can be made
// again.
func (s *Store) ApplyChange(ctx context.Context, user string, plans quota.PlanChoice, c quota.Change) (quota.Snapshot, error) {
	if err := c.Validate(user); err != nil {
		return quota.Snapshot{}, err
	}
	if err := ctx.Err(); err != nil {
		return quota.Snapshot{}, err
	}
	w := &pendingChange{user: user, plans: plans, change: c, done: make(chan struct{})}
	sh, now, err := s.lockForTerms(&termsWait{ctx: ctx}, user)
	if err != nil {
		return quota.Snapshot{}, err
	}
	if plans.Notifies() {
		if w.carried, err = s.carriedTerms(sh, user, plans, now); err != nil {
			sh.mu.Unlock()
			return quota.Snapshot{}, err
		}
	}
	s.calls.Add(1)
	w.held = len(sh.holds[user]) > 0
	if _, ok := c.SetsAnchor(s.calendar.Location()); ok {
		sh.beginTermsWrite(user, w.done)
	}
	sh.mu.Unlock()
	defer s.calls.Done()
	// Set before the write becomes visible.
	switch c.Action {
	case quota.ActionGrant:
		s.hasGrants.Store(true)
	case quota.ActionSetPlan:
		s.hasOverrides.Store(true)
	}
	s.queue.Add(queuedWrite{change: w})
	<-w.done
	if w.err != nil {
		return quota.Snapshot{}, w.err
	}
	s.watchers.Notify(user)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	now = s.now()
	return s.snapshot(sh, user, plans, now, now, onlyReading)
}

// A pendingChange is a change that waits for the writer, and what its caller waits for.
type pendingChange struct {
	user   string
	plans  quota.PlanChoice
	change quota.Change
	held   bool // a request of the user is held
	// carried are the terms with what is carried into the running windows; zero unless plans have thresholds.
	carried quota.Terms
	done    chan struct{} // closed when err is final
	err     error
}

// apply makes the change in a transaction that it shares with others. It sets err and changes
// nothing if the change cannot be made; the transaction goes on without it. It returns the
// errors of the disk.
func (w *pendingChange) apply(crossings *crossingRecorder) error {
	tx := crossings.tx
	c := changeTx{Change: w.change, crossingRecorder: crossings, user: w.user, plans: w.plans, held: w.held, carried: w.carried}
	if w.plans.Terms || w.change.Action == quota.ActionSetAnchor || w.change.Action == quota.ActionClearAnchor {
		var err error
		if c.terms, err = quota.ParseTerms(string(tx.Bucket(termsBucket).Get([]byte(w.user)))); err != nil {
			w.err = err
			return nil
		}
	}
	if c.ID != "" {
		c.fingerprint = c.Fingerprint()
	}
	err := c.apply()
	if err != nil && quota.StoreResponded(err) {
		w.err = err
		return nil
	}
	return err
}

// detectChanges finds out whether the file has grants and overrides.
func (s *Store) detectChanges() error {
	return s.db.View(func(tx *bolt.Tx) error {
		grant, _ := tx.Bucket(grantsBucket).Cursor().Seek(nil)
		plan, _ := tx.Bucket(plansBucket).Cursor().Seek(nil)
		s.hasGrants.Store(grant != nil)
		s.hasOverrides.Store(plan != nil)
		return nil
	})
}

// A changeTx is a quota.Change that is being made in a transaction.
type changeTx struct {
	quota.Change
	*crossingRecorder
	fingerprint string // only if the change has an ID
	user        string
	plans       quota.PlanChoice
	terms       quota.Terms // zero if the plans have none
	held        bool        // a request of the user is held
	carried     quota.Terms // see pendingChange
}

// apply makes the change and records it, unless it was made before. After an error of package
// quota it has written nothing: others share the transaction.
func (c *changeTx) apply() error {
	if c.ID != "" {
		if known, err := c.wasApplied(); known || err != nil {
			return err // without one, the empty write brings to disk what a failed write has left
		}
	}
	before := c.limits()
	if err := c.change(); err != nil {
		return err
	}
	if err := c.rearmCounted(before.Plan); err != nil {
		return err
	}
	if err := c.recordReached(before); err != nil {
		return err
	}
	return c.record()
}

// change makes the change.
func (c *changeTx) change() error {
	switch c.Action {
	case quota.ActionGrant:
		return c.grant()
	case quota.ActionReset:
		return c.reset()
	case quota.ActionSetPlan:
		return c.setPlan()
	case quota.ActionClearPlan:
		return c.tx.Bucket(plansBucket).Delete([]byte(c.user))
	case quota.ActionSetAnchor, quota.ActionClearAnchor:
		return c.setAnchor()
	case quota.ActionSetCounts:
		return c.setCounts()
	}
	return nil
}

// plan is the one that applies to the account.
func (c *changeTx) plan() *quota.Plan {
	own, pool := readOverrides(c.tx.Bucket(plansBucket), c.user, c.now)
	return c.plans.Effective(own.Or(pool))
}

// wasApplied reports whether a change with this ID was made before. Errors are
// quota.ErrIDConflict and quota.ErrTooManyIDs.
func (c *changeTx) wasApplied() (bool, error) {
	once, key := c.tx.Bucket(onceBucket), userKey(c.user, c.ID)
	lives := func(value []byte) bool { return len(value) > 8 && c.now.UnixMilli() < decodeNumber(value) }
	if value := once.Get(key); lives(value) {
		if string(value[8:]) != c.fingerprint {
			return false, quota.ErrIDConflict
		}
		return true, nil
	}
	ids, prefix, cursor := 0, userKey(c.user, ""), once.Cursor()
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

func (c *changeTx) grant() error {
	p := c.plan()
	i, ok := c.LimitIndex(p)
	if !ok {
		return quota.ErrNoSuchLimit
	}
	l := p.Limits()[i]
	c.Period = l.Period // for the audit log, in case it was not given
	w := c.terms.WindowAt(c.calendar, l.Period, c.now)
	key, grants := appendKey(nil, c.user, w.ID, l.Endpoint), c.tx.Bucket(grantsBucket)
	granted := decodeAmounts(grants.Get(key))
	granted.requests += c.Requests
	granted.extra += c.Units
	if max(granted.requests, granted.extra) > quota.MaxAmount {
		return quota.ErrTooLarge
	}
	return c.putCounts(grants, key, granted, windowEndsKey(w, key))
}

func (c *changeTx) reset() error {
	used := c.tx.Bucket(usedBucket)
	for _, per := range quota.Periods() {
		w := c.terms.WindowAt(c.calendar, per, c.now)
		totalKey := appendKey(nil, c.user, w.ID, "")
		if decodeAmounts(used.Get(totalKey)) == (amounts{}) {
			continue
		}
		for _, key := range keysWithPrefix(used.Bucket, totalKey) {
			if err := used.Delete(key); err != nil {
				return err
			}
		}
		if err := c.putTotal(w, amounts{}); err != nil {
			return err
		}
		if err := c.rearm(w); err != nil {
			return err
		}
	}
	return c.resetToday()
}

func (c *changeTx) setPlan() error {
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
	return c.tx.Bucket(endsBucket).Put(endsKey(planKind, ceilSeconds(c.Until), key), nil)
}

func (c *changeTx) setCounts() error {
	used, w := c.tx.Bucket(usedBucket), c.terms.WindowAt(c.calendar, c.Period, c.now)
	totalKey := appendKey(nil, c.user, w.ID, "")
	total, lower := decodeAmounts(used.Get(totalKey)), false
	for endpoint, n := range c.Counts {
		before := decodeAmounts(used.Get(appendKey(nil, c.user, w.ID, endpoint)))
		total.requests += n - before.requests
		total.extra += c.Extra(endpoint) - before.extra
		lower = lower || n < before.requests || n+c.Extra(endpoint) < before.used(quota.Units)
	}
	if max(total.requests, total.requests+total.extra) > quota.MaxAmount {
		return quota.ErrTooLarge
	}
	for endpoint, n := range c.Counts {
		key := appendKey(nil, c.user, w.ID, endpoint)
		if err := c.putCounts(used, key, amounts{n, c.Extra(endpoint)}, windowEndsKey(w, key)); err != nil {
			return err
		}
	}
	if err := c.putTotal(w, total); err != nil {
		return err
	}
	if lower {
		if err := c.rearm(w); err != nil {
			return err
		}
	}
	return c.setToday()
}

// putTotal sets what all endpoints together have used in a window. A zero stays there: the account was counted in the
// window, so it is not new.
func (c *changeTx) putTotal(w quota.Window, total amounts) error {
	key := appendKey(nil, c.user, w.ID, "")
	if err := c.tx.Bucket(endsBucket).Put(windowEndsKey(w, key), nil); err != nil {
		return err
	}
	return putAmounts(c.tx, c.tx.Bucket(usedBucket), key, total)
}

// putCounts sets the numbers of a window or a day, and its key in ends. Zeros are deleted.
func (c *changeTx) putCounts(bucket boltfile.Bucket, key []byte, a amounts, ends []byte) error {
	if a == (amounts{}) {
		return bucket.Delete(key)
	}
	if err := c.tx.Bucket(endsBucket).Put(ends, nil); err != nil {
		return err
	}
	return putAmounts(c.tx, bucket, key, a)
}
