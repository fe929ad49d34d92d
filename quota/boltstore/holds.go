package boltstore

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"metergate/quota"
	"metergate/quota/internal/bucket"
)

// markerLife is the least time for which a settled id is remembered: longer than
// any call of one reservation can be repeated. The most is twice that.
const markerLife = 10 * time.Minute

// A hold is a unit that is reserved, or is being counted, or both.
//
// To count it the writer, which takes no user's lock for that, gives it the
// number of its write, lets the write become visible and then removes it. bbolt
// numbers the writes, and each reader learns the number of the last one that it
// sees. So a reader who looks at the file first and at the holds then, both under
// the user's lock, sees each unit in one of the two places, never in both or in
// neither:
//
//	the reader sees write 7    the hold has no number    it is held
//	                           8                         it is held: not in 7
//	                           7                         it is used: don't hold it
type hold struct {
	user, id string
	// What follows changes only under the lock of the user's shard, and not at all
	// while commit is set.
	endpoint string
	windows  []quota.Window
	claimed  string    // the plan by the user's token; empty: not known
	until    time.Time // when the lease runs out; zero: it was not reserved here
	commit   *commit   // the one under way, or nil
	// write is the number of the write that counts it; 0: none does. It stays when
	// the write failed but can be seen all the same, see Store.apply.
	write atomic.Int64
}

// A commit is what the callers who want a hold counted wait for.
type commit struct {
	done chan struct{} // closed when err is final
	err  error
}

// wait waits for the end of the commit, or of ctx, which does not end the commit.
// A nil commit has ended well.
func (c *commit) wait(ctx context.Context) error {
	if c == nil {
		return nil
	}
	select {
	case <-c.done:
		return c.err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// committing reports whether h is being counted, or has been by a write that
// failed.
func (h *hold) committing() bool { return h.commit != nil || h.write.Load() != 0 }

// heldAfter reports whether h is held at now and not among the counts that a
// reader sees after write.
func (h *hold) heldAfter(write int64, now time.Time) bool {
	if n := h.write.Load(); n != 0 {
		return n > write
	}
	// Who is about to be counted keeps the unit when the lease runs out: it would
	// be given to another, and then counted on top.
	return h.commit != nil || now.Before(h.until)
}

// in reports whether h counts towards endpoint, or all when that is empty, in w.
func (h *hold) in(endpoint string, w quota.Window) bool {
	if endpoint != "" && endpoint != h.endpoint {
		return false
	}
	for i := range h.windows {
		if h.windows[i].ID == w.ID {
			return true
		}
	}
	return false
}

// A shard has the holds and the attempts of some of the users, and the ids of theirs
// that are settled. Its lock is held for microseconds and never while something is
// written.
type shard struct {
	mu     sync.Mutex
	closed bool
	holds  map[string]map[string]*hold // by user and id
	// settled has the ids since the last turn, settledBefore those of the time
	// before: two maps, so that the old ones go without a look at each.
	settled, settledBefore map[marker]struct{}
	turn                   time.Time // when settled becomes settledBefore
	attempts               bucket.Set
}

type marker struct{ user, id string }

// add adds h, in place of another of the same id.
func (sh *shard) add(h *hold) {
	if sh.holds == nil {
		sh.holds = make(map[string]map[string]*hold)
	}
	if sh.holds[h.user] == nil {
		sh.holds[h.user] = make(map[string]*hold)
	}
	sh.holds[h.user][h.id] = h
}

// remove ends a hold, if there is one.
func (sh *shard) remove(user, id string) {
	delete(sh.holds[user], id)
	if len(sh.holds[user]) == 0 {
		delete(sh.holds, user)
	}
}

// settle ends a hold, if there is one, and remembers that its id is settled.
func (sh *shard) settle(user, id string) {
	sh.remove(user, id)
	if sh.settled == nil {
		sh.settled = make(map[marker]struct{})
	}
	sh.settled[marker{user, id}] = struct{}{}
}

// forget ends the memory of a settled id.
func (sh *shard) forget(user, id string) {
	delete(sh.settled, marker{user, id})
	delete(sh.settledBefore, marker{user, id})
}

func (sh *shard) isSettled(user, id string) bool {
	m := marker{user, id}
	_, now := sh.settled[m]
	_, before := sh.settledBefore[m]
	return now || before
}

// sweep forgets what has been settled for markerLife, and the holds that nobody
// settled. It does something once in markerLife.
func (sh *shard) sweep(now time.Time) {
	if now.Before(sh.turn) {
		return
	}
	sh.settledBefore, sh.settled = sh.settled, nil
	if !now.Before(sh.turn.Add(markerLife)) {
		sh.settledBefore = nil // nobody came by for a whole turn
	}
	sh.turn = now.Add(markerLife)
	for user, holds := range sh.holds {
		for id, h := range holds {
			if !h.committing() && !now.Before(h.until) {
				sh.remove(user, id)
			}
		}
	}
}
