package boltstore

import (
	"cmp"
	"container/heap"
	"sync"
	"time"

	"metergate/quota"
)

// A crossingIndex knows which accounts have crossings, and who has claimed them. The zero value is empty.
//
// The writer takes its lock, so nothing may read the file or look at all accounts while it has the lock.
type crossingIndex struct {
	mu       sync.Mutex
	accounts map[string]*crossingAccount
	byDue    accountHeap // the first is the next to be claimed
	byOldest accountHeap // the first has waited longest
	token    int64       // of the last claim
}

// A crossingAccount is an account with crossings. Its due and its oldest are changed by crossingIndex.set
// alone.
type crossingAccount struct {
	name   string
	times  [2]time.Time // from when on it can be claimed; when the first of its crossings was recorded
	places [2]int       // in byDue and byOldest
	added  int          // how often it was added
	token  int64        // of the claim, 0: it is not claimed
}

// What the accounts of a heap are sorted by: an index in times and places.
const (
	due = iota
	oldest
)

// An accountHeap implements heap.Interface.
type accountHeap struct {
	accounts []*crossingAccount
	by       int
}

func (h *accountHeap) Len() int { return len(h.accounts) }

func (h *accountHeap) Less(i, j int) bool {
	a, b := h.accounts[i], h.accounts[j]
	return cmp.Or(a.times[h.by].Compare(b.times[h.by]), a.times[oldest].Compare(b.times[oldest]), cmp.Compare(a.name, b.name)) < 0
}

func (h *accountHeap) Swap(i, j int) {
	h.accounts[i], h.accounts[j] = h.accounts[j], h.accounts[i]
	h.accounts[i].places[h.by], h.accounts[j].places[h.by] = i, j
}

func (h *accountHeap) Push(a any) {
	account := a.(*crossingAccount)
	account.places[h.by] = len(h.accounts)
	h.accounts = append(h.accounts, account)
}

func (h *accountHeap) Pop() any {
	last := len(h.accounts) - 1
	a := h.accounts[last]
	h.accounts[last] = nil
	h.accounts = h.accounts[:last]
	return a
}

// add adds accounts that have new crossings. They are due at once, unless they are claimed.
func (x *crossingIndex) add(accounts []string, now time.Time) {
	if len(accounts) == 0 {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.accounts == nil {
		x.accounts = make(map[string]*crossingAccount)
		x.byDue.by, x.byOldest.by = due, oldest
	}
	for _, name := range accounts {
		a := x.accounts[name]
		if a == nil {
			a = &crossingAccount{name: name, times: [2]time.Time{due: now, oldest: now}}
			x.accounts[name] = a
			heap.Push(&x.byDue, a)
			heap.Push(&x.byOldest, a)
		}
		a.added++
		if a.token == 0 && now.Before(a.times[due]) { // one that is due keeps its place in the queue
			x.set(a, now, a.times[oldest])
		}
	}
}

// set sets the times of an account. x is locked.
func (x *crossingIndex) set(a *crossingAccount, nextDue, since time.Time) {
	// One heap looks at both times, so both are set before either is mended.
	a.times = [2]time.Time{due: nextDue, oldest: since}
	heap.Fix(&x.byDue, a.places[due])
	heap.Fix(&x.byOldest, a.places[oldest])
}

// claim claims up to so many accounts that are due, the first due first, and counts all.
func (x *crossingIndex) claim(most int, now time.Time) (claims quota.CrossingClaims) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if len(x.accounts) == 0 {
		return claims
	}
	claims.Waiting, claims.Oldest = int64(len(x.accounts)), x.byOldest.accounts[0].times[oldest]
	for len(claims.Claims) < most {
		a := x.byDue.accounts[0]
		if now.Before(a.times[due]) {
			break
		}
		x.token++
		a.token = x.token
		x.set(a, now.Add(quota.ClaimLife), a.times[oldest])
		claims.Claims = append(claims.Claims, quota.CrossingClaim{Account: a.name, Token: a.token})
	}
	return claims
}

// claimed returns the account of a claim, nil if the claim has ended. x is locked.
func (x *crossingIndex) claimed(claim quota.CrossingClaim) *crossingAccount {
	if a := x.accounts[claim.Account]; a != nil && a.token == claim.Token && a.token != 0 {
		return a
	}
	return nil
}

// countAdded returns how often the account of a claim was added, and false if the claim has ended.
func (x *crossingIndex) countAdded(claim quota.CrossingClaim) (added int, isClaimed bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	a := x.claimed(claim)
	if a == nil {
		return 0, false
	}
	return a.added, true
}

// release ends a claim of an account that has crossings.
func (x *crossingIndex) release(claim quota.CrossingClaim, since, nextDue time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if a := x.claimed(claim); a != nil {
		a.token = 0
		x.set(a, nextDue, since)
	}
}

// remove ends a claim of an account, and removes the account, whose crossings were not seen in the file after
// it had been added so often. The writer adds accounts after their write can be seen. So an account that was
// added again since may have a crossing that was not seen: it is due at once.
func (x *crossingIndex) remove(claim quota.CrossingClaim, added int, now time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	a := x.claimed(claim)
	if a == nil {
		return
	}
	if a.added != added {
		a.token = 0
		x.set(a, now, now)
		return
	}
	heap.Remove(&x.byDue, a.places[due])
	heap.Remove(&x.byOldest, a.places[oldest])
	delete(x.accounts, a.name)
}
