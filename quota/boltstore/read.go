package boltstore

import (
	"context"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
)

// Read returns the user's present state, see quota.Store. Errors are ErrClosed and those of
// ctx and of the disk.
func (s *Store) Read(ctx context.Context, user string, plans quota.PlanChoice) (quota.Snapshot, error) {
	return s.readAt(ctx, user, plans, time.Time{})
}

// ReadAt returns the user's state in the windows that contain at, see quota.Store.
func (s *Store) ReadAt(ctx context.Context, user string, plans quota.PlanChoice, at time.Time) (quota.Snapshot, error) {
	snapshot, err := s.readAt(ctx, user, plans, at)
	if err == nil && !s.isKept(snapshot.Total.Window, snapshot.At) {
		return quota.Snapshot{}, quota.ErrNotKept
	}
	return snapshot, err
}

// readAt reads the windows that contain at; the zero time means now.
func (s *Store) readAt(ctx context.Context, user string, plans quota.PlanChoice, at time.Time) (quota.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return quota.Snapshot{}, err
	}
	sh, now, err := s.lockUser(user)
	if err != nil {
		return quota.Snapshot{}, err
	}
	defer sh.mu.Unlock()
	if at.IsZero() {
		at = now
	}
	return s.snapshot(sh, user, plans, now, at, onlyReading)
}

// snapshot reads the state of a user as of now, in the windows that contain at. The user's
// shard sh must be locked.
func (s *Store) snapshot(sh *shard, user string, plans quota.PlanChoice, now, at time.Time, purpose purpose) (quota.Snapshot, error) {
	var p *quota.Plan
	var terms quota.Terms
	var override quota.Override
	var counters []quota.Counter
	var counts []quota.Count
	var write int64
	err := s.dbView(func(tx *bolt.Tx) error {
		write = s.db.Number(tx)
		key := append(make([]byte, 0, 128), user...)
		if s.hasOverrides.Load() {
			override = readOverride(tx.Bucket(plansBucket), key).ActiveAt(now)
		}
		p = plans.Effective(override)
		if plans.Terms {
			var err error
			account := accountTx{s, tx, sh, user, now}
			if terms, err = account.stored(); err != nil {
				return err
			}
			if at.Equal(now) {
				terms = account.upToDate(terms, plans, p, purpose)
			}
		}
		counters = p.Counters()
		counts = make([]quota.Count, len(counters))
		used := tx.Bucket(usedBucket)
		var grants *bolt.Bucket
		if s.hasGrants.Load() {
			grants = tx.Bucket(grantsBucket)
		}
		for i, c := range counters {
			w := terms.WindowAt(s.calendar, c.Period, at)
			key = appendKey(key[:0], user, w.ID, c.Endpoint)
			counts[i] = quota.Count{Window: w, Used: decodeAmounts(used.Get(key)).used(c.Quantity)}
			if grants != nil && i < len(p.Limits()) {
				counts[i].Granted = decodeAmounts(grants.Get(key)).granted(c.Quantity)
			}
			if plans.Terms && i < len(p.Limits()) {
				counts[i].Carried, _ = terms.Carried(w.ID, p.Limits()[i])
			}
		}
		return nil
	})
	if err != nil {
		return quota.Snapshot{}, fmt.Errorf("reading usage: %w", err)
	}
	// The holds must be read after the file, see hold.
	for _, h := range sh.holds[user] {
		if !h.isHeldAfter(write, now) {
			continue
		}
		for i, c := range counters {
			counts[i].Held += h.heldIn(c, counts[i].Window)
		}
	}
	snapshot := p.NewSnapshot(now.In(s.calendar.Location()), counts)
	snapshot.Override, snapshot.Terms = override, terms
	return snapshot, nil
}

// isKept reports whether the counts of a window are kept at now: the window has begun, and it
// is not past RetainedUntil.
func (s *Store) isKept(w quota.Window, now time.Time) bool {
	return !now.Before(w.Start) && now.Before(w.RetainedUntil(s.keep))
}

// ClaimedPlan returns the name of the plan that the user's token claimed when they were last
// counted; empty if the store knows none.
func (s *Store) ClaimedPlan(ctx context.Context, user string) (plan string, err error) {
	if err := ctx.Err(); err != nil {
		return "", err
	}
	sh, _, err := s.lockUser(user)
	if err != nil {
		return "", err
	}
	defer sh.mu.Unlock()
	err = s.dbView(func(tx *bolt.Tx) error {
		plan = string(tx.Bucket(claimedBucket).Get([]byte(user)))
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("reading the claimed plan: %w", err)
	}
	return plan, nil
}
