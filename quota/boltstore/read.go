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
	pool := quota.PoolOf(user)
	var p *quota.Plan
	var terms, poolTerms quota.Terms
	var override, poolOverride quota.Override
	var counts []quota.Count
	var write int64
	err := s.dbView(func(tx *bolt.Tx) (err error) {
		write = s.db.Number(tx)
		if s.hasOverrides.Load() {
			override, poolOverride = readOverrides(tx.Bucket(plansBucket), user, now)
		}
		p = plans.Effective(override.Or(poolOverride))
		if plans.Terms {
			isNow := at.Equal(now)
			if terms, err = s.termsIn(tx, sh, user, plans, termsPlan(p, user, user), now, isNow, purpose); err != nil {
				return err
			}
			if ofPool := termsPlan(p, pool, user); pool != "" && ofPool != nil {
				if poolTerms, err = s.termsIn(tx, sh, pool, plans, ofPool, now, isNow, purpose); err != nil {
					return err
				}
			}
		}
		counts = s.countsIn(tx, p, user, pool, &terms, &poolTerms, at)
		return nil
	})
	if err != nil {
		return quota.Snapshot{}, fmt.Errorf("reading usage: %w", err)
	}
	// The holds must be read after the file, see hold.
	sh.addHolds(p, user, false, counts, write, now)
	if len(p.PoolPeriods()) > 0 {
		sh.addHolds(p, pool, true, counts, write, now)
	}
	snapshot := p.NewSnapshot(now.In(s.calendar.Location()), counts)
	snapshot.Override, snapshot.Terms = override.Or(poolOverride), terms
	if pool != "" {
		snapshot.Pool = &quota.Pool{Override: poolOverride, Terms: poolTerms}
	}
	return snapshot, nil
}

// termsIn returns the terms of an account, up to date under the plan p if its running windows are wanted.
func (s *Store) termsIn(tx *bolt.Tx, sh *shard, account string, plans quota.PlanChoice, p *quota.Plan, now time.Time, isNow bool, purpose purpose) (quota.Terms, error) {
	a := accountTx{s, tx, sh, account, now}
	terms, err := a.stored()
	if err != nil || !isNow {
		return terms, err
	}
	after, changed := a.upToDate(terms, plans, p, purpose)
	if purpose == reserving && changed && after.String() != terms.String() {
		return terms, errTermsChanged
	}
	return after, nil
}

// countsIn returns what the file has for the counters of a plan, in the windows that contain at.
func (s *Store) countsIn(tx *bolt.Tx, p *quota.Plan, user, pool string, terms, poolTerms *quota.Terms, at time.Time) []quota.Count {
	counts := make([]quota.Count, len(p.Counters()))
	used := tx.Bucket(usedBucket)
	var grants *bolt.Bucket
	if s.hasGrants.Load() {
		grants = tx.Bucket(grantsBucket)
	}
	key := make([]byte, 0, 128)
	for i, c := range p.Counters() {
		account, terms := user, terms
		if c.Shared {
			account, terms = pool, poolTerms
		}
		w := terms.WindowAt(s.calendar, c.Period, at)
		key = appendKey(key[:0], account, w.ID, c.Endpoint)
		counts[i] = quota.Count{Window: w, Used: decodeAmounts(used.Get(key)).used(c.Quantity)}
		if i >= len(p.Limits()) {
			continue
		}
		if grants != nil {
			counts[i].Granted = decodeAmounts(grants.Get(key)).granted(c.Quantity)
		}
		counts[i].Carried, _ = terms.Carried(w.ID, p.Limits()[i])
	}
	return counts
}

// addHolds adds what is held of an account to the counts of its counters: those that are shared, or those
// that are not.
func (sh *shard) addHolds(p *quota.Plan, account string, shared bool, counts []quota.Count, write int64, now time.Time) {
	for _, h := range sh.holds[account] {
		held := h.heldAfter(write, now)
		if held == (amounts{}) {
			continue
		}
		for i, c := range p.Counters() {
			if c.Shared == shared && h.countsIn(account, c, counts[i].Window) {
				counts[i].Held += held.used(c.Quantity)
			}
		}
	}
}

// isKept reports whether the counts of a window are kept at now: the window has begun, and it
// is not past RetainedUntil.
func (s *Store) isKept(w quota.Window, now time.Time) bool {
	return !now.Before(w.Start) && now.Before(w.RetainedUntil(s.keep))
}

// Running returns how many requests of an account have a place, see quota.Store.
func (s *Store) Running(ctx context.Context, account string) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	sh, _, err := s.lockUser(account)
	if err != nil {
		return 0, err
	}
	defer sh.mu.Unlock()
	return int64(len(sh.places[account])), nil
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
