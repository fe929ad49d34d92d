package boltstore

import (
	"context"
	"fmt"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
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

// snapshot reads the state of a user as of now, in the windows that contain at, and looks for damage. The user's
// shard sh must be locked.
func (s *Store) snapshot(sh *shard, user string, plans quota.PlanChoice, now, at time.Time, purpose purpose) (quota.Snapshot, error) {
	snapshot, isCached, err := s.readSnapshot(sh, user, plans, now, at, purpose)
	if err == nil && isCached {
		err = s.checkFile(user, snapshot.Total.Window.ID)
	}
	if err != nil {
		return quota.Snapshot{}, err
	}
	return snapshot, nil
}

// readSnapshot is snapshot. It does not look for damage where the cache has everything.
func (s *Store) readSnapshot(sh *shard, user string, plans quota.PlanChoice, now, at time.Time, purpose purpose) (snapshot quota.Snapshot, isCached bool, err error) {
	r := stateReader{store: s, shard: sh, user: user, pool: quota.PoolOf(user), plans: plans, now: now, at: at}
	sh.cache.renew(s.cacheGeneration.Load(), now)
	r.mayCache = !plans.Terms && at.Equal(now)
	if r.mayCache && r.choosePlan(&sh.cache) && r.count(&sh.cache) {
		return r.snapshot(0), true, nil
	}
	snapshot, err = r.readFile(purpose)
	if err != nil {
		return quota.Snapshot{}, false, fmt.Errorf("reading usage: %w", err)
	}
	return snapshot, false, nil
}

// checkFile looks one key of an account up in the file, so that damage to it is found by the next call, also if that
// needs nothing else of the file. Otherwise requests would be admitted that cannot be counted.
func (s *Store) checkFile(account, window string) error {
	var key [128]byte
	err := s.db.View(func(tx *bolt.Tx) error {
		tx.Bucket(usedBucket).Get(appendKey(key[:0], account, window, ""))
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading usage: %w", err)
	}
	return nil
}

// viewAccount is dbView for one account. The answer may come from writes that are in memory, so it looks for
// damage as checkFile does.
func (s *Store) viewAccount(account string, fn func(boltfile.Reader) error) error {
	if err := s.dbView(fn); err != nil {
		return err
	}
	return s.checkFile(account, "")
}

// A stateReader reads the state of a user. The fields in the second part are set by its methods.
type stateReader struct {
	store      *Store
	shard      *shard // of the user, locked
	user, pool string // the pool is empty unless the user is a member
	plans      quota.PlanChoice
	now, at    time.Time
	mayCache   bool // all that is read can be cached

	own, ofPool      quota.Override // that are in force
	plan             *quota.Plan
	terms, poolTerms quota.Terms
	counts           []quota.Count
}

// readFile reads all of it from the file. It has a copy of r, because the transaction would make every r escape to the
// heap, also where the cache answers.
func (r stateReader) readFile(purpose purpose) (quota.Snapshot, error) {
	write, file := int64(0), fileNumbers{}
	err := r.store.viewAccount(r.user, func(tx boltfile.Reader) error {
		write, file = tx.Number, r.store.fileNumbers(tx)
		if r.mayCache && purpose == reserving {
			file.read = make(map[string]*cachedAccount, 1)
		}
		r.choosePlan(&file)
		if err := r.readTerms(tx, purpose); err != nil {
			return err
		}
		r.count(&file)
		return nil
	})
	if err != nil {
		return quota.Snapshot{}, err
	}
	r.shard.cache.keep(&file, r.shard, write)
	return r.snapshot(write), nil
}

// choosePlan reads the overrides. It returns false if some numbers are missing.
func (r *stateReader) choosePlan(from numbers) bool {
	own, ok := from.override(r.user)
	r.own = own.ActiveAt(r.now)
	if ok && r.pool != "" {
		var ofPool quota.Override
		ofPool, ok = from.override(r.pool)
		r.ofPool = ofPool.ActiveAt(r.now)
	}
	r.plan = r.plans.Effective(r.own.Or(r.ofPool))
	return ok
}

// readTerms reads the terms, if the plans have some.
func (r *stateReader) readTerms(tx boltfile.Reader, purpose purpose) (err error) {
	if !r.plans.Terms {
		return nil
	}
	isNow := r.at.Equal(r.now)
	if r.terms, err = r.store.termsIn(tx, r.shard, r.user, r.plans, termsPlan(r.plan, r.user, r.user), r.now, isNow, purpose); err != nil {
		return err
	}
	if ofPool := termsPlan(r.plan, r.pool, r.user); r.pool != "" && ofPool != nil {
		r.poolTerms, err = r.store.termsIn(tx, r.shard, r.pool, r.plans, ofPool, r.now, isNow, purpose)
	}
	return err
}

// count reads the counters of the plan, in the windows that contain at. It returns false if some numbers are missing.
func (r *stateReader) count(from numbers) bool {
	p := r.plan
	r.counts = make([]quota.Count, len(p.Counters()))
	for i, c := range p.Counters() {
		account, terms := r.user, &r.terms
		if c.Shared {
			account, terms = r.pool, &r.poolTerms
		}
		w := terms.WindowAt(r.store.calendar, c.Period, r.at)
		used, granted, ok := from.counter(account, w.ID, c.Endpoint)
		if !ok {
			return false
		}
		r.counts[i] = quota.Count{Window: w, Used: used.used(c.Quantity)}
		if i < len(p.Limits()) {
			r.counts[i].Granted = granted.granted(c.Quantity)
			r.counts[i].Carried, _ = terms.Carried(w.ID, p.Limits()[i])
		}
	}
	return true
}

// snapshot is what was read, and what is held that this write has not counted. The holds must be read after the
// numbers, see hold.
func (r *stateReader) snapshot(write int64) quota.Snapshot {
	r.shard.addHolds(r.plan, r.user, false, r.counts, write, r.now)
	if len(r.plan.PoolPeriods()) > 0 {
		r.shard.addHolds(r.plan, r.pool, true, r.counts, write, r.now)
	}
	snapshot := r.plan.NewSnapshot(r.now.In(r.store.calendar.Location()), r.counts)
	snapshot.Override, snapshot.Terms = r.own.Or(r.ofPool), r.terms
	if r.pool != "" {
		snapshot.Pool = &quota.Pool{Override: r.ofPool, Terms: r.poolTerms}
	}
	return snapshot
}

// termsIn returns the terms of an account, up to date under the plan p if its running windows are wanted.
func (s *Store) termsIn(tx boltfile.Reader, sh *shard, account string, plans quota.PlanChoice, p *quota.Plan, now time.Time, isNow bool, purpose purpose) (quota.Terms, error) {
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
	err = s.viewAccount(user, func(tx boltfile.Reader) error {
		plan = string(tx.Bucket(claimedBucket).Get([]byte(user)))
		return nil
	})
	if err != nil {
		return "", fmt.Errorf("reading the claimed plan: %w", err)
	}
	return plan, nil
}
