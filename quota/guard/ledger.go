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
	mu        sync.Mutex
	known     lastKnownCache
	histories historyCache
	local     map[string]*localUsage // by account: of a member and of the pool
	// attempts has the token buckets of attempts that were made without the store.
	attempts bucket.Set
}

// localUsage is what this gateway has of one user that the store may not know.
type localUsage struct {
	unsent  tally // commits that wait for the store
	nUnsent int   // how many; those of members are not among those of the pool
	// ofMembers has, of a pool, how many commits of each member wait that count in the pool as well.
	ofMembers map[string]int
	// running has the requests in flight by ID, whether the store admitted them or not.
	running map[string]runningRequest
	// rests has, by ID, the requests that are counted, here or in the store, and whose rest is held.
	rests map[string]openRest
	// places has the IDs of the requests that have a place of the plan's ConcurrencyLimit. They
	// stay until the response has ended, longer than in running.
	places map[string]struct{}
}

type runningRequest struct {
	quota.Reservation
	leaseEnd time.Time
}

type openRest struct {
	quota.Reservation
	waited bool // the store did not answer the commit of the request
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
		u = &localUsage{running: map[string]runningRequest{}}
		sh.local[user] = u
	}
	return u
}

// removeIdle removes a user's localUsage if there is nothing in it.
func (sh *ledgerShard) removeIdle(user string) {
	if u := sh.local[user]; u != nil && u.nUnsent == 0 && len(u.ofMembers) == 0 && len(u.unsent) == 0 && len(u.running)+len(u.rests)+len(u.places) == 0 {
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

// recordCounted records that the store has counted w and, with its answer, what it reported of the user.
// It reports whether less is used than before.
func (l *ledger) recordCounted(w *settlement, s *quota.Snapshot) (fell bool) {
	sh := l.lockShard(w.User)
	defer sh.mu.Unlock()
	sh.endHold(w, false)
	sh.histories.add(w, s.At)
	return sh.known.recordSnapshot(w.User, s)
}

// endHold records that w is counted, or is to be counted: what it was to settle is no longer held. waits:
// it has to wait for the store.
func (l *ledger) endHold(w *settlement, waits bool) {
	sh := l.lockShard(w.User)
	defer sh.mu.Unlock()
	sh.endHold(w, waits)
}

func (sh *ledgerShard) endHold(w *settlement, waits bool) {
	if !w.isRest {
		sh.removeRunning(&w.Reservation)
		sh.addRest(&w.Reservation, waits)
		return
	}
	for _, account := range [...]string{w.User, quota.PoolOf(w.User)} {
		if u := sh.local[account]; u != nil {
			delete(u.rests, w.ID)
			sh.removeIdle(account)
		}
	}
}

// addRest adds what a request that was counted leaves held, if anything.
func (sh *ledgerShard) addRest(r *quota.Reservation, waited bool) {
	if r.RestUnits() == 0 {
		return
	}
	add := func(r quota.Reservation) {
		u := sh.ensureLocal(r.User)
		if u.rests == nil {
			u.rests = map[string]openRest{}
		}
		u.rests[r.ID] = openRest{r, waited}
	}
	add(*r)
	if shared, ok := inPool(r); ok {
		add(shared)
	}
}

// rest returns the rest of a reservation that is held, and false if there is none.
func (l *ledger) rest(user, id string) (rest openRest, ok bool) {
	sh := l.lockShard(user)
	defer sh.mu.Unlock()
	if u := sh.local[user]; u != nil {
		rest, ok = u.rests[id]
	}
	return rest, ok
}

// hasWaited reports whether the commit of the request whose rest is held had to wait for the store.
func (l *ledger) hasWaited(r *quota.Reservation) bool {
	rest, _ := l.rest(r.User, r.ID)
	return rest.waited
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

// addUnsent records a commit that waits for the store. What it settles is no longer held.
func (l *ledger) addUnsent(w *settlement) {
	sh := l.lockShard(w.User)
	defer sh.mu.Unlock()
	sh.endHold(w, true)
	sh.countUnsent(w, 1)
}

// countUnsent adds a commit, n times, to what waits for the store.
func (sh *ledgerShard) countUnsent(w *settlement, n int) {
	u := sh.ensureLocal(w.User)
	u.unsent.add(w, int64(n))
	u.nUnsent += n
	sh.removeIdle(w.User) // a replay may have sent it already
	if shared, ok := w.inPool(); ok {
		pool := sh.ensureLocal(shared.User)
		pool.unsent.add(&shared, int64(n))
		if pool.ofMembers == nil {
			pool.ofMembers = map[string]int{}
		}
		if pool.ofMembers[w.User] += n; pool.ofMembers[w.User] == 0 {
			delete(pool.ofMembers, w.User)
		}
		sh.removeIdle(shared.User)
	}
}

// removeUnsent records that commits of one user no longer wait: the store has counted them,
// or they were dropped.
func (l *ledger) removeUnsent(user string, ws []settlement, counted bool) {
	sh := l.lockShard(user)
	defer sh.mu.Unlock()
	for i := range ws {
		w := &ws[i]
		sh.countUnsent(w, -1)
		if !counted {
			continue
		}
		sh.known.addReplayed(w)
		sh.histories.add(w, time.Time{})
		if shared, ok := w.inPool(); ok {
			sh.known.addReplayed(&shared)
		}
	}
}

// backlog is the number of a user's commits that wait for the store, and of members of their organisation who
// have some that count in the pool. The user may be the pool.
func (l *ledger) backlog(user string) (own, ofMembers int) {
	pool := quota.PoolOf(user)
	if pool == "" {
		pool = user
	}
	sh := l.lockShard(pool)
	defer sh.mu.Unlock()
	if u := sh.local[user]; u != nil {
		own = u.nUnsent
	}
	if p := sh.local[pool]; p != nil {
		ofMembers = len(p.ofMembers)
	}
	return own, ofMembers
}

// membersWithBacklog returns the members of a pool who have commits that wait for the store and count in
// the pool.
func (l *ledger) membersWithBacklog(pool string) (members []string) {
	sh := l.lockShard(pool)
	defer sh.mu.Unlock()
	if p := sh.local[pool]; p != nil {
		for member, n := range p.ofMembers {
			if n > 0 {
				members = append(members, member)
			}
		}
	}
	return members
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
