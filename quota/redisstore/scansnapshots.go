package redisstore

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/script"
)

// A scan of snapshots reads the users of a page of keys with three pipelines: what is kept of each beside
// the counts; the same of pools that it has not seen yet; and then, once that has said which plan applies
// and which windows run, the counts. It reads plain fields, which costs Redis a third of what script.Read
// does. Where a script would change something first, because a lease has run out or something is carried,
// it calls that script.

const (
	// recentKeys is for how many keys, at least, a scan of snapshots remembers that it has seen them.
	// Redis returns a key again only if its table becomes smaller meanwhile, and then soon.
	recentKeys = 4096
	// scannedPools and scannedLayouts bound how many of them a scan of snapshots keeps.
	scannedPools, scannedLayouts = 4096, 512
	// scanReads is how many users of a scan are read by script.Read at a time.
	scanReads = 4
)

// ScanSnapshots implements quota.Store. It looks at every key of the Redis, as ScanUsers does.
func (s *Store) ScanSnapshots(ctx context.Context, query quota.SnapshotQuery, yield func(quota.UserSnapshot) error) error {
	masters, pattern, err := s.scanScope(ctx, query.Org)
	if err != nil {
		return err
	}
	at, err := s.redisTime(ctx, masters[0])
	if err != nil {
		return err
	}
	sc := snapshotScan{store: s, query: &query, began: time.Now(), at: at, yield: yield}
	for _, master := range masters {
		if err := s.eachKeys(ctx, master, pattern, func(keys []string) error { return sc.visit(ctx, keys) }); err != nil {
			return err
		}
	}
	return nil
}

// A snapshotScan is under way.
type snapshotScan struct {
	store *Store
	query *quota.SnapshotQuery
	began time.Time // by the gateway's clock
	at    time.Time // the same by Redis's clock
	// seen are the users that were found since it was last emptied, and seenBefore those of the time
	// before, by the digest in their keys.
	seen, seenBefore map[[16]byte]struct{}
	pools            map[string]*scannedHash // by account
	layouts          map[*quota.Plan]*scanLayout
	yield            func(quota.UserSnapshot) error
}

// A scannedHash is what a scan has read of one account's hash.
type scannedHash struct {
	account, claimed, override, terms string
	sweep                             time.Time
	hasGrants                         bool
	numbers                           map[string]int64 // of a pool, by field
}

// isDue reports whether something in the hash has ended that no script has deleted yet.
func (h *scannedHash) isDue(now time.Time) bool { return !h.sweep.IsZero() && !now.Before(h.sweep) }

// A scannedUser is a user or member of a page.
type scannedUser struct {
	*scannedHash
	key    string
	plans  quota.PlanChoice
	pool   *scannedHash // of a member; nil: the user is not one
	state  outcome
	layout *scanLayout
	// readAlone: a script has to say what there is.
	readAlone bool
	snapshot  quota.Snapshot
}

// visit yields the users of some keys.
func (sc *snapshotScan) visit(ctx context.Context, keys []string) error {
	if keys = sc.unseen(keys); len(keys) == 0 {
		return ctx.Err()
	}
	hashes, err := sc.readHashes(ctx, keys)
	if err != nil {
		return err
	}
	var users []*scannedUser
	for i, h := range hashes {
		if _, user := quota.SplitAccount(h.account); user != "" && sc.query.Wants(h.account) {
			users = append(users, &scannedUser{scannedHash: h, key: keys[i], plans: sc.query.PlansOf(h.account, h.claimed)})
		}
	}
	if err := sc.findPools(ctx, users); err != nil {
		return err
	}
	now := sc.at.Add(time.Since(sc.began)).In(sc.store.calendar.Location())
	for _, u := range users {
		if err := sc.layOut(u, now); err != nil {
			return err
		}
	}
	if err := sc.readNumbers(ctx, users); err != nil {
		return err
	}
	if err := sc.readAlone(ctx, users); err != nil {
		return err
	}
	for _, u := range users {
		if err := sc.yield(quota.UserSnapshot{Account: u.account, ClaimedPlan: u.claimed, Snapshot: u.snapshot}); err != nil {
			return err
		}
	}
	return ctx.Err()
}

// unseen returns the keys of users and members that were not seen yet.
func (sc *snapshotScan) unseen(keys []string) (unseen []string) {
	for _, key := range keys {
		digest, ok := script.UserDigest(key)
		_, now := sc.seen[digest]
		_, before := sc.seenBefore[digest]
		if !ok || now || before {
			continue
		}
		if sc.seen == nil || len(sc.seen) >= recentKeys {
			sc.seen, sc.seenBefore = make(map[[16]byte]struct{}, recentKeys), sc.seen
		}
		sc.seen[digest] = struct{}{}
		unseen = append(unseen, key)
	}
	return unseen
}

// readHashes reads what is kept of accounts beside their counts, by key.
func (sc *snapshotScan) readHashes(ctx context.Context, keys []string) ([]*scannedHash, error) {
	values, err := sc.readFields(ctx, keys, func(int) []string {
		return []string{script.FieldUser, script.FieldClaimed, script.FieldPlan, script.FieldTerms, script.FieldFormat, script.FieldSweep, script.FieldGrants}
	})
	if err != nil {
		return nil, err
	}
	hashes := make([]*scannedHash, len(keys))
	for i, v := range values {
		if err := script.CheckFormat(v[4]); err != nil {
			return nil, fmt.Errorf("%w: %w", quota.ErrUserData, err)
		}
		h := &scannedHash{hasGrants: v[6] != nil}
		for n, text := range []*string{&h.account, &h.claimed, &h.override, &h.terms} {
			*text, _ = v[n].(string)
		}
		if text, ok := v[5].(string); ok {
			ms, err := strconv.ParseInt(text, 10, 64)
			if err != nil {
				return nil, fmt.Errorf("%w: %s ?", quota.ErrUserData, script.UnknownFormat)
			}
			h.sweep = time.UnixMilli(ms)
		}
		hashes[i] = h
	}
	return hashes, nil
}

// readFields reads fields of several keys in one round trip.
func (sc *snapshotScan) readFields(ctx context.Context, keys []string, fields func(i int) []string) ([][]any, error) {
	values, err := doPatiently(ctx, sc.store, func(ctx context.Context, r redis.UniversalClient) ([][]any, error) {
		values, found := make([][]any, len(keys)), make([]*redis.SliceCmd, len(keys))
		_, err := r.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i, key := range keys {
				if fields := fields(i); len(fields) > 0 {
					found[i] = p.HMGet(ctx, key, fields...)
				}
			}
			return nil
		})
		for i, f := range found {
			if f != nil {
				values[i] = f.Val()
			}
		}
		return values, err
	})
	if err != nil {
		return nil, fmt.Errorf("reading users: %w", err)
	}
	return values, nil
}

// findPools fills in the pools of members, each of which it reads once for many of them.
func (sc *snapshotScan) findPools(ctx context.Context, users []*scannedUser) error {
	var keys, accounts []string
	for _, u := range users {
		account := quota.PoolOf(u.account)
		if _, known := sc.pools[account]; account == "" || known {
			continue
		}
		if sc.pools == nil || len(sc.pools) >= scannedPools {
			sc.pools = map[string]*scannedHash{}
			accounts, keys = nil, nil
			for _, u := range users {
				u.pool = nil
			}
			return sc.findPools(ctx, users)
		}
		sc.pools[account] = nil
		accounts, keys = append(accounts, account), append(keys, script.Key(sc.store.prefix, account))
	}
	if len(keys) > 0 {
		hashes, err := sc.readHashes(ctx, keys)
		if err != nil {
			return err
		}
		for i, h := range hashes {
			h.account, h.numbers = accounts[i], map[string]int64{}
			sc.pools[h.account] = h
		}
	}
	for _, u := range users {
		if account := quota.PoolOf(u.account); account != "" {
			u.pool = sc.pools[account]
		}
	}
	return nil
}

// layOut finds out which plan applies to a user and which windows run, as ask does.
func (sc *snapshotScan) layOut(u *scannedUser, now time.Time) (err error) {
	o := &u.state
	o.at = now
	o.account = assumed{account: u.account, override: parseOverride(u.override).ActiveAt(now)}
	if u.pool != nil {
		o.pool = assumed{account: u.pool.account, override: parseOverride(u.pool.override).ActiveAt(now)}
	}
	override := o.account.override.Or(o.pool.override)
	o.plan = u.plans.Effective(override)
	if !u.plans.Terms {
		u.layout = sc.layoutOf(o, now)
		return nil
	}
	if o.account.terms, err = quota.ParseTerms(u.terms); err != nil {
		return err
	}
	o.account.termsText = u.terms
	u.readAlone = sc.areDue(o.account.terms, o.plan.ForScope(quota.UserScope), u.plans, now)
	if u.pool != nil && o.plan.PoolNeedsTerms() {
		if o.pool.terms, err = quota.ParseTerms(u.pool.terms); err != nil {
			return err
		}
		o.pool.termsText = u.pool.terms
		u.readAlone = u.readAlone || sc.areDue(o.pool.terms, o.plan.ForScope(quota.PoolScope), u.plans, now)
	}
	if !u.readAlone {
		u.layout = sc.layoutOf(o, now)
	}
	return nil
}

// areDue reports whether terms have to be worked out.
func (sc *snapshotScan) areDue(t quota.Terms, p *quota.Plan, plans quota.PlanChoice, now time.Time) bool {
	return !t.Follows(p, plans, now) || len(t.CarryDue(p, sc.store.calendar, now)) > 0
}

// A scanLayout is a layout with the fields that its numbers are in, then those of what is granted to each
// limit.
type scanLayout struct {
	*layout
	own, shared     []string // of the account, and of its pool
	ownAt, sharedAt []int    // the index of each among the numbers
}

// layoutOf returns the layout of an outcome. All accounts of a plan that have no terms share one.
func (sc *snapshotScan) layoutOf(o *outcome, now time.Time) *scanLayout {
	withoutTerms := o.account.termsText == "" && o.pool.termsText == ""
	if l := sc.layouts[o.plan]; withoutTerms && l != nil && !now.Before(l.from) && now.Before(l.till) {
		return l
	}
	wanted := layOut(o, sc.store.calendar, now)
	l := &scanLayout{layout: newLayout(wanted, o.plan, wanted, plainRequests{})}
	n := 0
	add := func(field string, shared bool) {
		if shared {
			l.shared, l.sharedAt = append(l.shared, field), append(l.sharedAt, n)
		} else {
			l.own, l.ownAt = append(l.own, field), append(l.ownAt, n)
		}
		n++
	}
	for i, c := range l.inRedis {
		used, held := c.Fields()
		add(used, c.Shared)
		if i < l.pairs {
			add(held, c.Shared)
		}
	}
	for i, c := range o.plan.Counters()[:l.limits] {
		add(script.GrantField(l.inRedis[i].Name, c.Quantity), c.Shared)
	}
	if withoutTerms {
		if sc.layouts == nil || len(sc.layouts) >= scannedLayouts {
			sc.layouts = map[*quota.Plan]*scanLayout{}
		}
		sc.layouts[o.plan] = l
	}
	return l
}

// isHeld reports whether a number of the layout is one of what is held.
func (l *scanLayout) isHeld(at int) bool { return at < 2*l.pairs && at%2 == 1 }

// readNumbers reads the counts of users who need not be read alone, and makes their snapshots.
func (sc *snapshotScan) readNumbers(ctx context.Context, users []*scannedUser) error {
	if err := sc.readPools(ctx, users); err != nil {
		return err
	}
	var laidOut []*scannedUser
	var keys []string
	for _, u := range users {
		if !u.readAlone {
			laidOut, keys = append(laidOut, u), append(keys, u.key)
		}
	}
	values, err := sc.readFields(ctx, keys, func(i int) []string {
		l := laidOut[i].layout
		if !laidOut[i].hasGrants { // these stand last
			return l.own[:len(l.own)-l.limits+sharedGrants(l)]
		}
		return l.own
	})
	if err != nil {
		return err
	}
	for i, u := range laidOut {
		l := u.layout
		numbers := make([]int64, l.numbers+l.limits)
		for n, value := range values[i] {
			at := l.ownAt[n]
			if numbers[at], err = parseNumber(value); err != nil {
				return err
			}
			u.readAlone = u.readAlone || l.isHeld(at) && numbers[at] != 0 && u.isDue(u.state.at)
		}
		for n, field := range l.shared {
			at := l.sharedAt[n]
			numbers[at] = u.pool.numbers[field]
			u.readAlone = u.readAlone || l.isHeld(at) && numbers[at] != 0 && u.pool.isDue(u.state.at)
		}
		u.state.counts = l.countsOf(numbers)
		u.state.fill(&u.snapshot)
	}
	return nil
}

// sharedGrants is how many of the limits of a layout have their grants in the pool.
func sharedGrants(l *scanLayout) (n int) {
	for _, c := range l.inRedis[:l.limits] {
		if c.Shared {
			n++
		}
	}
	return n
}

// readPools reads the counts of pools that the members among users share, as far as that was not done yet.
func (sc *snapshotScan) readPools(ctx context.Context, users []*scannedUser) error {
	missing := map[*scannedHash][]string{}
	var pools []*scannedHash
	var keys []string
	for _, u := range users {
		if u.readAlone {
			continue
		}
		for _, field := range u.layout.shared {
			if _, known := u.pool.numbers[field]; known {
				continue
			}
			if missing[u.pool] == nil {
				pools, keys = append(pools, u.pool), append(keys, script.Key(sc.store.prefix, u.pool.account))
			}
			u.pool.numbers[field] = 0
			missing[u.pool] = append(missing[u.pool], field)
		}
	}
	if len(pools) == 0 {
		return nil
	}
	values, err := sc.readFields(ctx, keys, func(i int) []string { return missing[pools[i]] })
	if err != nil {
		return err
	}
	for i, pool := range pools {
		for n, field := range missing[pool] {
			if pool.numbers[field], err = parseNumber(values[i][n]); err != nil {
				return err
			}
		}
	}
	return nil
}

// parseNumber reads a field with a number; one that is not there is 0.
func parseNumber(value any) (int64, error) {
	text, ok := value.(string)
	if !ok {
		return 0, nil
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%w: a count is %.80q", quota.ErrUserData, text)
	}
	return n, nil
}

// readAlone reads those users with a script who need it, some at a time. What that script ends in their
// pools, the scan has to read again.
func (sc *snapshotScan) readAlone(ctx context.Context, users []*scannedUser) error {
	var reads sync.WaitGroup
	var mu sync.Mutex
	var failed error
	free := make(chan struct{}, scanReads)
	for _, u := range users {
		if !u.readAlone {
			continue
		}
		if u.pool != nil {
			delete(sc.pools, u.pool.account)
		}
		free <- struct{}{}
		reads.Go(func() {
			defer func() { <-free }()
			snapshot, err := retry(ctx, func() (quota.Snapshot, error) { return sc.store.Read(ctx, u.account, u.plans) })
			mu.Lock()
			defer mu.Unlock()
			if u.snapshot = snapshot; err != nil && failed == nil {
				failed = fmt.Errorf("reading users: %w", err)
			}
		})
	}
	reads.Wait()
	return failed
}
