package guard

import (
	"hash/maphash"
	"sync"
	"time"

	"metergate/quota"
	"metergate/quota/internal/bucket"
)

// A ledger has what a gateway can say of its users without the store: the last
// known usage, what it owes the store, and what it has running.
type ledger struct {
	seed     maphash.Seed
	calendar *quota.Calendar
	shards   [64]ledgerShard
}

type ledgerShard struct {
	mu sync.Mutex
	// known is bounded: when young is full it becomes old, and what was old and not
	// asked for since goes.
	young, old map[string]*known
	owed       map[string]*owed
	// attempts are those that were made without the store.
	attempts bucket.Set
}

// maxKnown bounds the users whose last usage is kept, twice over, a shard.
const maxKnown = 1024

// known is a user's last answer of the store.
type known struct {
	snapshot quota.Snapshot
	// paid is what was counted in the store since, by a replay, which answers no
	// numbers.
	paid tally
}

// owed is what is going on with a user here.
type owed struct {
	journaled tally // what the store does not know yet
	entries   int
	// running are the requests in flight, by id, whether the store has admitted them
	// or not.
	running map[string]running
}

type running struct {
	quota.Reservation
	until time.Time // when its lease has run out
}

// A tally has numbers by window and endpoint; an empty endpoint is all of them.
type tally map[cell]int64

type cell struct{ window, endpoint string }

func (t tally) add(r *quota.Reservation, by int64) {
	for _, w := range r.Windows {
		for _, c := range [...]cell{{w.ID, ""}, {w.ID, r.Endpoint}} {
			if t[c] += by; t[c] == 0 {
				delete(t, c)
			}
		}
	}
}

func newLedger(calendar *quota.Calendar) *ledger {
	return &ledger{seed: maphash.MakeSeed(), calendar: calendar}
}

// shard returns the locked shard of a user.
func (l *ledger) shard(user string) *ledgerShard {
	sh := &l.shards[maphash.String(l.seed, user)%uint64(len(l.shards))]
	sh.mu.Lock()
	return sh
}

// learn notes an answer of the store.
func (l *ledger) learn(user string, s *quota.Snapshot) {
	sh := l.shard(user)
	defer sh.mu.Unlock()
	sh.learn(user, s)
}

func (sh *ledgerShard) learn(user string, s *quota.Snapshot) {
	if k := sh.lookup(user); k != nil {
		if !k.snapshot.At.After(s.At) { // answers may overtake one another
			k.snapshot, k.paid = *s, nil
		}
		return
	}
	sh.keep(user, &known{snapshot: *s})
}

// keep keeps what is known of a user, for as long as maxKnown others are not.
func (sh *ledgerShard) keep(user string, k *known) {
	if sh.young == nil || len(sh.young) >= maxKnown {
		sh.old, sh.young = sh.young, make(map[string]*known)
	}
	sh.young[user] = k
}

// lookup finds what is known of a user, nil if nothing is.
func (sh *ledgerShard) lookup(user string) *known {
	if k := sh.young[user]; k != nil {
		return k
	}
	k := sh.old[user]
	if k != nil {
		delete(sh.old, user)
		sh.keep(user, k)
	}
	return k
}

func (sh *ledgerShard) owe(user string) *owed {
	if sh.owed == nil {
		sh.owed = make(map[string]*owed)
	}
	o := sh.owed[user]
	if o == nil {
		o = &owed{journaled: tally{}, running: map[string]running{}}
		sh.owed[user] = o
	}
	return o
}

// clean forgets a user to whom nothing is owed any more.
func (sh *ledgerShard) clean(user string) {
	if o := sh.owed[user]; o != nil && o.entries == 0 && len(o.running) == 0 {
		delete(sh.owed, user)
	}
}

// admit decides on d.Reservation without the store and notes it when it may pass.
func (l *ledger) admit(d *quota.Decision, now time.Time) {
	r := &d.Reservation
	sh := l.shard(r.User)
	defer sh.mu.Unlock()
	before := l.snapshot(sh, r.User, r.Plans, now)
	wait, observed := sh.attempts.TakeToken(r.User, before.Plan.AttemptLimit(), now), r.InObserveMode(before.Plan)
	if !observed {
		d.AttemptWait = wait
	}
	if observed || wait == 0 && before.Admits(r.Endpoint) {
		d.Admitted = true
		sh.owe(r.User).running[r.ID] = running{*r, now.Add(r.Lease)}
	}
	d.Snapshot = l.snapshot(sh, r.User, r.Plans, now)
	if observed {
		d.WouldBlock = d.Snapshot.WouldBlock(r.Endpoint, wait > 0)
	}
}

// admitted notes a request that the store has admitted, and its answer.
func (l *ledger) admitted(d *quota.Decision) {
	r := &d.Reservation
	sh := l.shard(r.User)
	defer sh.mu.Unlock()
	sh.learn(r.User, &d.Snapshot)
	sh.owe(r.User).running[r.ID] = running{*r, d.Snapshot.At.Add(r.Lease)}
}

// settled notes that a request is not in flight any more.
func (l *ledger) settled(r *quota.Reservation) {
	sh := l.shard(r.User)
	defer sh.mu.Unlock()
	if o := sh.owed[r.User]; o != nil {
		delete(o.running, r.ID)
		sh.clean(r.User)
	}
}

// journaled notes an entry of the journal.
func (l *ledger) journaled(r *quota.Reservation) {
	sh := l.shard(r.User)
	defer sh.mu.Unlock()
	o := sh.owe(r.User)
	delete(o.running, r.ID)
	o.journaled.add(r, 1)
	o.entries++
	sh.clean(r.User) // a replay may have been faster
}

// paid notes that entries of one user's have been counted in the store or, if not
// counted, dropped.
func (l *ledger) paid(user string, rs []quota.Reservation, counted bool) {
	sh := l.shard(user)
	defer sh.mu.Unlock()
	o, k := sh.owe(user), sh.lookup(user)
	for i := range rs {
		r := &rs[i]
		o.journaled.add(r, -1)
		o.entries--
		if counted && k != nil {
			if k.paid == nil {
				k.paid = tally{}
			}
			k.paid.add(r, 1)
		}
	}
	sh.clean(user)
}

// owes reports how many entries of the journal are a user's.
func (l *ledger) owes(user string) int {
	sh := l.shard(user)
	defer sh.mu.Unlock()
	if o := sh.owed[user]; o != nil {
		return o.entries
	}
	return 0
}

// debtors returns all users who have entries in the journal.
func (l *ledger) debtors() (users []string) {
	for i := range l.shards {
		sh := &l.shards[i]
		sh.mu.Lock()
		for user, o := range sh.owed {
			if o.entries > 0 {
				users = append(users, user)
			}
		}
		sh.mu.Unlock()
	}
	return users
}

// override is a user's, as last known.
func (l *ledger) override(user string, now time.Time) quota.Override {
	sh := l.shard(user)
	defer sh.mu.Unlock()
	return sh.override(user, now)
}

func (sh *ledgerShard) override(user string, now time.Time) quota.Override {
	if k := sh.lookup(user); k != nil {
		return k.snapshot.Override.ActiveAt(now)
	}
	return quota.Override{}
}

// read returns what can be said of a user at now. Not ok: nothing.
func (l *ledger) read(user string, t quota.PlanChoice, now time.Time) (s quota.Snapshot, ok bool) {
	sh := l.shard(user)
	defer sh.mu.Unlock()
	return l.snapshot(sh, user, t, now), sh.lookup(user) != nil || sh.owed[user] != nil
}

// snapshot lays out what can be said of a user whose shard is locked. A counter of
// which nothing is known starts at 0.
func (l *ledger) snapshot(sh *ledgerShard, user string, t quota.PlanChoice, now time.Time) quota.Snapshot {
	k, o := sh.lookup(user), sh.owed[user]
	override := sh.override(user, now)
	p := t.Effective(override)
	counts := make([]quota.Count, len(p.Counters()))
	for i, c := range p.Counters() {
		n := &counts[i]
		n.Window = l.calendar.WindowAt(c.Period, now)
		at := cell{n.Window.ID, c.Endpoint}
		if k != nil {
			n.Used, _ = k.snapshot.UsedIn(at.window, at.endpoint)
			n.Used += k.paid[at]
			if i < len(p.Limits()) {
				n.Granted, _ = k.snapshot.GrantedIn(at.window, at.endpoint)
			}
		}
		if o == nil {
			continue
		}
		n.Used += o.journaled[at]
		for _, r := range o.running {
			if now.Before(r.until) && r.CountsIn(c.Endpoint, at.window) {
				n.Held++
			}
		}
	}
	s := p.NewSnapshot(now.In(l.calendar.Location()), counts)
	s.Override, s.Stale = override, true
	return s
}
