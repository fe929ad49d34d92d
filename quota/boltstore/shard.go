package boltstore

import (
	"sync"
	"time"

	"metergate/quota"
	"metergate/quota/internal/bucket"
)

// settledLife is the least time for which the ID of a settled reservation is remembered. It is
// longer than a call for one reservation can be repeated. The longest time is twice that.
const settledLife = 10 * time.Minute

// A shard has the holds and the token buckets of some of the users, and the IDs of their
// settled reservations. It is locked for microseconds at a time, and never during a write.
type shard struct {
	mu     sync.Mutex
	closed bool
	holds  map[string]map[string]*hold // by account and id: of a member's also by the pool
	// settledNow has the IDs that were settled since the last rotation, settledBefore those of
	// the time before. With two maps, old IDs can be dropped without looking at each.
	settledNow, settledBefore map[settledID]struct{}
	rotateAt                  time.Time // when settledNow becomes settledBefore
	attempts                  bucket.Set
	// places has the IDs of the running requests of users whose plan bounds them, by user.
	places map[string]map[string]struct{}
	// termsWrites has the writes of terms that are under way, by account. Until such a channel is closed,
	// nothing is reserved for the account: it would be reserved by the terms before.
	termsWrites map[string]chan struct{}
	cache       cache
}

// beginTermsWrite notes that the terms of an account are being written.
func (sh *shard) beginTermsWrite(account string, done chan struct{}) {
	if sh.termsWrites == nil {
		sh.termsWrites = make(map[string]chan struct{})
	}
	sh.termsWrites[account] = done
}

// termsWrite returns a write of the terms of one of the accounts that is under way; nil: there is none.
func (sh *shard) termsWrite(accounts ...string) <-chan struct{} {
	for _, account := range accounts {
		if done := sh.termsWrites[account]; done != nil {
			return done
		}
	}
	return nil
}

type settledID struct{ user, id string }

// addHold adds h, in place of a hold with the same ID.
func (sh *shard) addHold(h *hold) {
	if sh.holds == nil {
		sh.holds = make(map[string]map[string]*hold)
	}
	for _, account := range []string{h.user, h.pool} {
		if account == "" {
			continue
		}
		if sh.holds[account] == nil {
			sh.holds[account] = make(map[string]*hold)
		}
		sh.holds[account][h.id] = h
	}
}

// removeHold removes a user's hold, if it exists.
func (sh *shard) removeHold(user, id string) {
	h := sh.holds[user][id]
	if h == nil {
		return
	}
	for _, account := range []string{h.user, h.pool} {
		delete(sh.holds[account], id)
		if len(sh.holds[account]) == 0 {
			delete(sh.holds, account)
		}
	}
}

// isCrowded reports whether no place is left for a request of the user.
func (sh *shard) isCrowded(user string, limit quota.ConcurrencyLimit) bool {
	return limit.Requests > 0 && int64(len(sh.places[user])) >= limit.Requests
}

func (sh *shard) addPlace(user, id string) {
	if sh.places == nil {
		sh.places = make(map[string]map[string]struct{})
	}
	if sh.places[user] == nil {
		sh.places[user] = make(map[string]struct{})
	}
	sh.places[user][id] = struct{}{}
}

// removePlace removes a place and reports whether there was one.
func (sh *shard) removePlace(user, id string) bool {
	_, ok := sh.places[user][id]
	delete(sh.places[user], id)
	if len(sh.places[user]) == 0 {
		delete(sh.places, user)
	}
	return ok
}

// settle removes a hold, if it exists, and remembers that its ID is settled.
func (sh *shard) settle(user, id string) {
	sh.removeHold(user, id)
	if sh.settledNow == nil {
		sh.settledNow = make(map[settledID]struct{})
	}
	sh.settledNow[settledID{user, id}] = struct{}{}
}

// forget drops a settled ID.
func (sh *shard) forget(user, id string) {
	delete(sh.settledNow, settledID{user, id})
	delete(sh.settledBefore, settledID{user, id})
}

func (sh *shard) isSettled(user, id string) bool {
	m := settledID{user, id}
	_, now := sh.settledNow[m]
	_, before := sh.settledBefore[m]
	return now || before
}

// hasRestTaken reports whether CommitRest was called for a reservation before its Commit.
func (sh *shard) hasRestTaken(user, id string) bool {
	id = restID(id)
	return sh.holds[user][id] != nil || sh.isSettled(user, id)
}

// sweep drops the IDs that have been settled for settledLife, and the holds that nobody has
// settled in time. It does something once in settledLife.
func (sh *shard) sweep(now time.Time) {
	if now.Before(sh.rotateAt) {
		return
	}
	sh.settledBefore, sh.settledNow = sh.settledNow, nil
	if !now.Before(sh.rotateAt.Add(settledLife)) {
		sh.settledBefore = nil // there was no call for a whole rotation
	}
	sh.rotateAt = now.Add(settledLife)
	for _, holds := range sh.holds {
		for id, h := range holds {
			if !h.isRest && !h.isCommitting() && !now.Before(h.leaseEnd) {
				sh.removeHold(h.user, id)
			}
		}
	}
}
