package guard

import (
	"maps"
	"slices"
	"sync"
	"time"

	"metergate/quota"
)

const (
	// maxReleases bounds the releases that wait. Without them, the holds end with their leases.
	maxReleases = 10_000
	// maxCommits bounds the commits that wait in memory because no journal took them.
	maxCommits = 100_000
	// maxReplayed bounds the replayed commits that wait to be forgotten.
	maxReplayed = 200_000
)

// An outbox has the settlements that wait in memory for the backend. Commits are in it
// only if the journal did not take them. It is safe for concurrent use.
type outbox struct {
	wake chan struct{} // capacity 1: there is something to send

	mu       sync.Mutex
	commits  map[string][]settlement // by user
	nCommits int                     // in commits
	releases []pending               // due is the end of the lease: it need not be sent then
	replayed []pending               // due is when to forget it; in the order of due
}

// pending is a reservation about which something is to be done.
type pending struct {
	settlement
	due time.Time
}

// signal says that there is something to send.
func (o *outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// addCommit adds a commit. It returns false if there are too many already.
func (o *outbox) addCommit(w *settlement) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.nCommits >= maxCommits {
		return false
	}
	if o.commits == nil {
		o.commits = map[string][]settlement{}
	}
	o.commits[w.User] = append(o.commits[w.User], *w)
	o.nCommits++
	return true
}

// usersWithCommits returns the users who have commits.
func (o *outbox) usersWithCommits() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Keys(o.commits))
}

// userCommits returns the first commits of a user, at most MaxReplay.
func (o *outbox) userCommits(user string) []settlement {
	o.mu.Lock()
	defer o.mu.Unlock()
	ws := o.commits[user]
	return slices.Clone(ws[:min(len(ws), MaxReplay)])
}

// removeCommits removes the first n commits of a user.
func (o *outbox) removeCommits(user string, n int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nCommits -= n
	if o.commits[user] = o.commits[user][n:]; len(o.commits[user]) == 0 {
		delete(o.commits, user)
	}
}

// addRelease adds a release, to be sent before leaseEnd. It returns false if there are too
// many already.
func (o *outbox) addRelease(r *quota.Reservation, leaseEnd time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.releases) >= maxReleases {
		return false
	}
	o.releases = append(o.releases, pending{settlement{Reservation: *r}, leaseEnd})
	return true
}

// takeReleases removes all releases and returns them.
func (o *outbox) takeReleases() []pending {
	o.mu.Lock()
	defer o.mu.Unlock()
	releases := o.releases
	o.releases = nil
	return releases
}

// putBackRelease adds a release that takeReleases returned.
func (o *outbox) putBackRelease(p pending) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.releases = append(o.releases, p)
}

// addReplayed notes commits that were replayed and are to be forgotten at due. A request whose rest is
// still held is forgotten with the rest.
func (o *outbox) addReplayed(ws []settlement, due time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, w := range ws {
		if len(o.replayed) < maxReplayed && (w.isRest || w.RestUnits() == 0) {
			o.replayed = append(o.replayed, pending{w, due})
		}
	}
}

// takeForgettable removes and returns the replayed commits that are due at now.
func (o *outbox) takeForgettable(now time.Time) (due []pending) {
	o.mu.Lock()
	defer o.mu.Unlock()
	n := 0
	for n < len(o.replayed) && !now.Before(o.replayed[n].due) {
		n++
	}
	due = slices.Clone(o.replayed[:n])
	o.replayed = slices.Delete(o.replayed, 0, n)
	return due
}
