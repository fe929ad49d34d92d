package guard

import (
	"slices"
	"time"

	"metergate/quota"
)

// maxLastKnown bounds each of the two maps of a lastKnownCache.
const maxLastKnown = 1024

// lastKnown is what the backend last reported of a user.
type lastKnown struct {
	snapshot quota.Snapshot
	// ofMember: it is about a pool, and the snapshot is that of a member. The pool's numbers are
	// those of the shared counters.
	ofMember bool
	// others are, of a pool, the last snapshots of members with other plans, the newest last: a plan's
	// snapshot has only the shared limits of that plan.
	others []quota.Snapshot
	// replayed is what has been counted in the store since by a replay, which returns no
	// snapshot.
	replayed tally
}

// A lastKnownCache has the last known usage of users. It is bounded: when young is full it
// becomes old, and what was old and not used since is dropped. The zero value is empty and
// ready.
type lastKnownCache struct {
	young, old map[string]*lastKnown
}

// get returns what is known of a user, nil if nothing is.
func (c *lastKnownCache) get(user string) *lastKnown {
	if k := c.young[user]; k != nil {
		return k
	}
	k := c.old[user]
	if k != nil {
		delete(c.old, user)
		c.put(user, k)
	}
	return k
}

// put adds what is known of a user.
func (c *lastKnownCache) put(user string, k *lastKnown) {
	if c.young == nil || len(c.young) >= maxLastKnown {
		c.old, c.young = c.young, make(map[string]*lastKnown)
	}
	c.young[user] = k
}

// recordSnapshot records what the store reported of a user, and of the pool of a member. It reports
// whether less is used than before: an administrator has changed it, or the store has lost counts.
func (c *lastKnownCache) recordSnapshot(user string, s *quota.Snapshot) (fell bool) {
	if s.Pool != nil {
		c.recordPool(quota.PoolOf(user), s)
	}
	k := c.get(user)
	if k == nil {
		c.put(user, &lastKnown{snapshot: *s})
		return false
	}
	if k.snapshot.At.After(s.At) { // answers can overtake one another
		return false
	}
	before := k.snapshot.Total
	k.snapshot, k.replayed, k.ofMember = *s, nil, false
	return s.Total.Used < before.Used && s.Total.Window.ID == before.Window.ID
}

// recordPool records what the store reported of a pool with a member's snapshot.
func (c *lastKnownCache) recordPool(pool string, s *quota.Snapshot) {
	k := c.get(pool)
	if k == nil {
		c.put(pool, &lastKnown{snapshot: *s, ofMember: true})
	} else if !k.snapshot.At.After(s.At) && (len(s.Plan.PoolPeriods()) > 0 || len(k.snapshot.Plan.PoolPeriods()) == 0 && k.ofMember) {
		before := *k
		*k = lastKnown{snapshot: *s, ofMember: true, others: before.othersThan(s.Plan)}
		if !s.Plan.PoolNeedsTerms() { // the store did not look at them
			k.snapshot.Pool = &quota.Pool{Override: s.Pool.Override, Terms: before.pool().Terms}
		}
	}
}

// maxOthers bounds what is kept of a pool beside the last snapshot.
const maxOthers = 7

// othersThan returns the snapshots of members that are known of a pool, without those of one plan.
func (k *lastKnown) othersThan(p *quota.Plan) (others []quota.Snapshot) {
	if k.ofMember && k.snapshot.Plan.Name() == p.Name() {
		return k.others // they have none of this plan
	}
	all := k.others
	if k.ofMember {
		all = append(slices.Clone(all), k.snapshot)
	}
	for _, s := range all {
		if s.Plan.Name() != p.Name() && len(s.Plan.PoolPeriods()) > 0 {
			others = append(others, s)
		}
	}
	return others[max(0, len(others)-maxOthers):]
}

// addReplayed records that a replay has counted w for its account.
func (c *lastKnownCache) addReplayed(w *settlement) {
	if k := c.get(w.User); k != nil {
		k.replayed.add(w, 1)
	}
}

// used is what was used of an account's counter in a window, as last known.
func (k *lastKnown) used(windowID string, c quota.Counter) int64 {
	return k.find(windowID, c, quota.Snapshot.UsedIn) + k.replayed[tallyKey{windowID: windowID, endpoint: c.Endpoint}].used(c.Quantity)
}

// granted is what was granted to the limit on it.
func (k *lastKnown) granted(windowID string, c quota.Counter) int64 {
	return k.find(windowID, c, quota.Snapshot.GrantedIn)
}

// find returns the number of a counter in the last snapshot that has it.
func (k *lastKnown) find(windowID string, c quota.Counter, number func(quota.Snapshot, string, quota.Counter) (int64, bool)) int64 {
	c.Shared = k.ofMember
	if n, ok := number(k.snapshot, windowID, c); ok {
		return n
	}
	c.Shared = true // the others are those of members
	for _, s := range slices.Backward(k.others) {
		if n, ok := number(s, windowID, c); ok {
			return n
		}
	}
	return 0
}

// pool is what was kept of a pool.
func (k *lastKnown) pool() *quota.Pool {
	if k.ofMember {
		return k.snapshot.Pool
	}
	return &quota.Pool{Override: k.snapshot.Override, Terms: k.snapshot.Terms}
}

// pool is what was kept of a pool; nil: nothing is known.
func (c *lastKnownCache) pool(account string) *quota.Pool {
	if k := c.get(account); k != nil {
		return k.pool()
	}
	return nil
}

// override is the user's override that is in force at now, as last known: their own, or that of their
// pool.
func (c *lastKnownCache) override(user string, now time.Time) (o quota.Override) {
	if k := c.get(user); k != nil {
		o = k.snapshot.Override
		if k.ofMember {
			o = k.snapshot.Pool.Override
		}
	}
	if o = o.ActiveAt(now); o != (quota.Override{}) {
		return o
	}
	if pool := c.pool(quota.PoolOf(user)); pool != nil {
		o = pool.Override.ActiveAt(now)
	}
	return o
}

// terms are those of an account as last known; of one of which nothing is known, those of a new one. p is
// the plan of its user, or of a member of the pool.
func (c *lastKnownCache) terms(account string, plans quota.PlanChoice, p *quota.Plan, calendar *quota.Calendar, now time.Time) quota.Terms {
	isPool := quota.ScopeOf(account) == quota.PoolScope
	if isPool {
		p = p.ForScope(quota.PoolScope)
	}
	switch k := c.get(account); {
	case !plans.Terms:
		return quota.Terms{}
	case k != nil && isPool:
		return k.pool().Terms
	case k != nil:
		return k.snapshot.Terms
	}
	return quota.Terms{}.Follow(p, plans, calendar, now, quota.Activity{Reading: true})
}
