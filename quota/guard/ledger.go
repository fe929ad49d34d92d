package guard

import (
	"hash/maphash"
	"sync"
	"time"

	"metergate/quota"
	"metergate/quota/internal/bucket"
)

// A ledger has what a gateway knows of its users without the store: their last known usage,
// the counts that wait for the store, and the requests in flight. From these it estimates a
// user's state during an outage. It is safe for concurrent use.
type ledger struct {
	seed     maphash.Seed
	calendar *quota.Calendar
	shards   [64]ledgerShard
}

// A ledgerShard has some of the users.
type ledgerShard struct {
	mu    sync.Mutex
	known lastKnownCache
	local map[string]*localUsage // by account: of a member and of the pool
	// attempts has the token buckets of attempts that were made without the store.
	attempts bucket.Set
}

// localUsage is what this gateway has of one user that the store may not know.
type localUsage struct {
	unsent  tally // commits that wait for the store
	nUnsent int   // how many; those of members are not among those of the pool
	// running has the requests in flight by ID, whether the store admitted them or not.
	running map[string]runningRequest
	// places has the IDs of the requests that have a place of the plan's ConcurrencyLimit. They
	// stay until the response has ended, longer than in running.
	places map[string]struct{}
}

type runningRequest struct {
	quota.Reservation
	leaseEnd time.Time
}

func newLedger(calendar *quota.Calendar) *ledger {
	return &ledger{seed: maphash.MakeSeed(), calendar: calendar}
}

// lockShard locks the shard of an account and returns it. All accounts of an organisation are in one.
func (l *ledger) lockShard(user string) *ledgerShard {
	if pool := quota.PoolOf(user); pool != "" {
		user = pool
	}
	sh := &l.shards[maphash.String(l.seed, user)%uint64(len(l.shards))]
	sh.mu.Lock()
	return sh
}

// ensureLocal returns what this gateway has of a user; at first, that is nothing.
func (sh *ledgerShard) ensureLocal(user string) *localUsage {
	if sh.local == nil {
		sh.local = make(map[string]*localUsage)
	}
	u := sh.local[user]
	if u == nil {
		u = &localUsage{unsent: tally{}, running: map[string]runningRequest{}}
		sh.local[user] = u
	}
	return u
}

// removeIdle removes a user's localUsage if there is nothing in it.
func (sh *ledgerShard) removeIdle(user string) {
	if u := sh.local[user]; u != nil && u.nUnsent == 0 && len(u.unsent) == 0 && len(u.running)+len(u.places) == 0 {
		delete(sh.local, user)
	}
}

// recordSnapshot records what the store reported of a user, and reports whether less is used than
// before.
func (l *ledger) recordSnapshot(user string, s *quota.Snapshot) (fell bool) {
	sh := l.lockShard(user)
	defer sh.mu.Unlock()
	return sh.known.recordSnapshot(user, s)
}

// recordAdmitted records a request that the store has admitted, see recordSnapshot.
func (l *ledger) recordAdmitted(d *quota.Decision) (fell bool) {
	r := &d.Reservation
	sh := l.lockShard(r.User)
	defer sh.mu.Unlock()
	fell = sh.known.recordSnapshot(r.User, &d.Snapshot)
	sh.addRunning(r, d.Snapshot.At, d.Snapshot.Plan.ConcurrencyLimit())
	return fell
}

// addRunning adds a request that was admitted at now.
func (sh *ledgerShard) addRunning(r *quota.Reservation, now time.Time, limit quota.ConcurrencyLimit) {
	u := sh.ensureLocal(r.User)
	u.running[r.ID] = runningRequest{*r, now.Add(r.Lease)}
	if shared, ok := inPool(r); ok {
		sh.ensureLocal(shared.User).running[r.ID] = runningRequest{shared, now.Add(r.Lease)}
	}
	if limit.Requests == 0 {
		return
	}
	if u.places == nil {
		u.places = map[string]struct{}{}
	}
	u.places[r.ID] = struct{}{}
}

// isCrowded reports whether a user's requests on this gateway alone have all places.
func (sh *ledgerShard) isCrowded(user string, limit quota.ConcurrencyLimit) bool {
	u := sh.local[user]
	return limit.Requests > 0 && u != nil && int64(len(u.places)) >= limit.Requests
}

// leave records that the response to a request has ended.
func (l *ledger) leave(r *quota.Reservation) {
	sh := l.lockShard(r.User)
	defer sh.mu.Unlock()
	if u := sh.local[r.User]; u != nil {
		delete(u.places, r.ID)
		sh.removeIdle(r.User)
	}
}

// endRunning records that a request is no longer in flight.
func (l *ledger) endRunning(r *quota.Reservation) {
	sh := l.lockShard(r.User)
	defer sh.mu.Unlock()
	sh.removeRunning(r)
}

func (sh *ledgerShard) removeRunning(r *quota.Reservation) {
	for _, account := range [...]string{r.User, quota.PoolOf(r.User)} {
		if u := sh.local[account]; u != nil {
			delete(u.running, r.ID)
			sh.removeIdle(account)
		}
	}
}

// addUnsent records a commit that waits for the store. Its request is no longer in flight.
func (l *ledger) addUnsent(r *quota.Reservation) {
	sh := l.lockShard(r.User)
	defer sh.mu.Unlock()
	sh.removeRunning(r)
	sh.countUnsent(r, 1)
}

// countUnsent adds a commit, n times, to what waits for the store.
func (sh *ledgerShard) countUnsent(r *quota.Reservation, n int) {
	u := sh.ensureLocal(r.User)
	u.unsent.add(r, int64(n))
	u.nUnsent += n
	sh.removeIdle(r.User) // a replay may have sent it already
	if shared, ok := inPool(r); ok {
		sh.ensureLocal(shared.User).unsent.add(&shared, int64(n))
		sh.removeIdle(shared.User)
	}
}

// removeUnsent records that commits of one user no longer wait: the store has counted them,
// or they were dropped.
func (l *ledger) removeUnsent(user string, rs []quota.Reservation, counted bool) {
	sh := l.lockShard(user)
	defer sh.mu.Unlock()
	for i := range rs {
		r := &rs[i]
		sh.countUnsent(r, -1)
		if !counted {
			continue
		}
		sh.known.addReplayed(r)
		if shared, ok := inPool(r); ok {
			sh.known.addReplayed(&shared)
		}
	}
}

// backlog is the number of a user's commits that wait for the store.
func (l *ledger) backlog(user string) int {
	sh := l.lockShard(user)
	defer sh.mu.Unlock()
	if u := sh.local[user]; u != nil {
		return u.nUnsent
	}
	return 0
}

// usersWithBacklog returns all users who have commits that wait for the store.
func (l *ledger) usersWithBacklog() (users []string) {
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		for user, u := range sh.local {
			if u.nUnsent > 0 {
				users = append(users, user)
			}
		}
		sh.mu.Unlock()
	}
	return users
}

// override is the user's override that is in force at now, as last known.
func (l *ledger) override(user string, now time.Time) quota.Override {
	sh := l.lockShard(user)
	defer sh.mu.Unlock()
	return sh.known.override(user, now)
}

// terms are the user's terms as last known, see lastKnownCache.
func (l *ledger) terms(user string, plans quota.PlanChoice, p *quota.Plan, now time.Time) quota.Terms {
	sh := l.lockShard(user)
	defer sh.mu.Unlock()
	return sh.known.terms(user, plans, p, l.calendar, now)
}
