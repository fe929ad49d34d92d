package proxy

import (
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
)

var (
	errTotalInFlight = errors.New("too many requests are running")
	// errPublicInFlight is an errTotalInFlight: to clients they are the same.
	errPublicInFlight = fmt.Errorf("%w without a token", errTotalInFlight)
	errUserInFlight   = errors.New("the user has too many requests running")
)

// retryInFlight is what a client is told to wait that found no room, in seconds.
const retryInFlight = "1"

// InFlight counts the requests that are being served, in all and by user. It is shared
// by the Gateways that follow one another in a process, so that a reload forgets none
// that is running. The zero value is not usable, see NewInFlight.
type InFlight struct {
	total atomic.Int64
	// public are those of the total that needed no token.
	public atomic.Int64
	seed   maphash.Seed
	// A user is in one shard, by his id's hash: those of others hardly ever wait. One
	// with no request is in none.
	shards [64]inFlightShard
}

type inFlightShard struct {
	mu    sync.Mutex
	users map[string]int
	_     [48]byte // a cache line for each
}

// NewInFlight returns a count of no requests.
func NewInFlight() *InFlight {
	f := &InFlight{seed: maphash.MakeSeed()}
	for i := range f.shards {
		f.shards[i].users = map[string]int{}
	}
	return f
}

// publicShare is how many of limit requests may be without a token, at least 1: strangers
// cannot take the room of those who have one.
func publicShare(limit int) int { return (limit + 3) / 4 }

// enter counts a request unless there are limit, which is at least 1, already.
func (f *InFlight) enter(limit int) bool { return countUpTo(&f.total, limit) }

func (f *InFlight) leave() { f.total.Add(-1) }

// enterPublic counts one that needed no token among those, unless there are limit already.
// That is before enter: one that is refused here takes nobody's room in the total.
func (f *InFlight) enterPublic(limit int) bool { return countUpTo(&f.public, limit) }

func (f *InFlight) leavePublic() { f.public.Add(-1) }

// countUpTo adds one unless there are limit already. Not add and look: a request that is
// refused would keep another one out meanwhile.
func countUpTo(count *atomic.Int64, limit int) bool {
	for {
		n := count.Load()
		if n >= int64(limit) {
			return false
		}
		if count.CompareAndSwap(n, n+1) {
			return true
		}
	}
}

// enterUser counts a user's request unless there are limit already; 0: there is no
// limit.
func (f *InFlight) enterUser(user string, limit int) bool {
	s := f.shard(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.users[user]
	if limit > 0 && n >= limit {
		return false
	}
	s.users[user] = n + 1
	return true
}

func (f *InFlight) leaveUser(user string) {
	s := f.shard(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[user]--; s.users[user] == 0 {
		delete(s.users, user)
	}
}

func (f *InFlight) shard(user string) *inFlightShard {
	return &f.shards[maphash.String(f.seed, user)%uint64(len(f.shards))]
}

// enter takes a place among the requests of the gateway. Errors: errTotalInFlight,
// errPublicInFlight.
func (x *exchange) enter() error {
	if x.route.Public {
		if !x.g.inFlight.enterPublic(publicShare(x.g.maxInFlight)) {
			x.g.metrics.overloaded.WithLabelValues("public").Inc()
			return errPublicInFlight
		}
		x.enteredPublic = true
	}
	if !x.g.inFlight.enter(x.g.maxInFlight) {
		x.g.metrics.overloaded.WithLabelValues("total").Inc()
		return errTotalInFlight
	}
	x.entered = true
	return nil
}

// enterUser takes one among those of the user. Error: errUserInFlight.
func (x *exchange) enterUser() error {
	if !x.g.inFlight.enterUser(x.user.User, x.g.maxUserInFlight) {
		x.g.metrics.overloaded.WithLabelValues("per_user").Inc()
		return errUserInFlight
	}
	x.enteredUser = true
	return nil
}

// leave gives back what enter and enterUser have taken.
func (x *exchange) leave() {
	if x.enteredPublic {
		x.g.inFlight.leavePublic()
	}
	if x.enteredUser {
		x.g.inFlight.leaveUser(x.user.User)
	}
	if x.entered {
		x.g.inFlight.leave()
	}
}
