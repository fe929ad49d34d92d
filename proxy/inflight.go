package proxy

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	"metergate/proxy/turns"
)

var (
	errTotalInFlight = errors.New("too many requests are running")
	// errPublicInFlight wraps errTotalInFlight: to clients they are the same.
	errPublicInFlight = fmt.Errorf("%w without a token", errTotalInFlight)
	errUserInFlight   = errors.New("the user has too many requests running")
)

// retryInFlight is the Retry-After of a request that was refused for want of a place,
// in seconds.
const retryInFlight = "1"

// InFlight counts the requests that are being served, in total and by user. It is
// shared by the Gateways that follow one another in a process, so that a reload does
// not forget the requests that are running. The zero value is not usable, see
// NewInFlight.
type InFlight struct {
	total atomic.Int64
	// public counts those of the total that need no token.
	public atomic.Int64
	// refusedAt is when total or public were last full, in Unix nanoseconds; 0: never.
	refusedAt atomic.Int64
	seed      maphash.Seed
	// A user's count is in the shard that the hash of the id selects, so that users hardly
	// ever wait for each other. A user with no request running is in no shard.
	shards [64]inFlightShard
	// lines has the requests that wait, see waiting.go.
	lines turns.Lines
	// unknownCosts counts the requests whose cost is still to be read from the body of the response.
	unknownCosts atomic.Int64
	// stopping is closed by StopReadingOn.
	stopping chan struct{}
	stop     func()
}

type inFlightShard struct {
	mu    sync.Mutex
	users map[string]int
	_     [48]byte // a cache line for each shard
}

// NewInFlight returns a count of no requests.
func NewInFlight() *InFlight {
	f := &InFlight{seed: maphash.MakeSeed(), stopping: make(chan struct{})}
	f.stop = sync.OnceFunc(func() { close(f.stopping) })
	for i := range f.shards {
		f.shards[i].users = map[string]int{}
	}
	return f
}

// WaitForCosts returns nil when no response is being read to learn what its request cost, and an
// error when the context ends.
func (f *InFlight) WaitForCosts(ctx context.Context) error {
	look := time.NewTicker(5 * time.Millisecond)
	defer look.Stop()
	for f.unknownCosts.Load() > 0 {
		select {
		case <-look.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// StopReadingOn ends at once the requests whose clients have left and whose responses are read on to
// learn what they cost, those of now and of later. What they cost is missing then.
func (f *InFlight) StopReadingOn() { f.stop() }

// Running is how many requests are being served.
func (f *InFlight) Running() int { return int(f.total.Load()) }

// LastRefused is when a request was last refused because too many were running in total or
// without a token.
func (f *InFlight) LastRefused() time.Time { return time.Unix(0, f.refusedAt.Load()) }

// publicShare is how many of limit requests may be without a token, at least 1.
// Strangers cannot take all places from users who have a token.
func publicShare(limit int) int { return (limit + 3) / 4 }

// tryAdd counts a request, unless limit requests are running already. limit is at
// least 1.
func (f *InFlight) tryAdd(limit int) bool { return addUpTo(&f.total, limit) }

func (f *InFlight) remove() { f.total.Add(-1) }

// tryAddPublic counts a request that needs no token, unless limit of them are running
// already. It is called before tryAdd, so that a request that is refused here takes no
// place in the total.
func (f *InFlight) tryAddPublic(limit int) bool { return addUpTo(&f.public, limit) }

func (f *InFlight) removePublic() { f.public.Add(-1) }

// addUpTo adds 1 unless count has reached limit. It does not add first and look then:
// a request that is refused would for a moment keep another one out.
func addUpTo(count *atomic.Int64, limit int) bool {
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

// tryAddUser counts a user's request, unless limit requests of the user are running
// already. 0 means no limit.
func (f *InFlight) tryAddUser(user string, limit int) bool {
	s := f.shardOf(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.users[user]
	if limit > 0 && n >= limit {
		return false
	}
	s.users[user] = n + 1
	return true
}

func (f *InFlight) removeUser(user string) {
	s := f.shardOf(user)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.users[user]--; s.users[user] == 0 {
		delete(s.users, user)
	}
}

func (f *InFlight) shardOf(user string) *inFlightShard {
	return &f.shards[maphash.String(f.seed, user)%uint64(len(f.shards))]
}

// A place is what one request occupies in an InFlight. The zero value occupies nothing.
type place struct {
	owner         *InFlight
	total, public bool
	user          string // an account; empty: not counted for a user
}

// leave gives back what the request occupies.
func (p *place) leave() {
	if p.public {
		p.owner.removePublic()
	}
	if p.user != "" {
		p.owner.removeUser(p.user)
	}
	if p.total {
		p.owner.remove()
	}
}

// takePlace takes a place among all requests. A route that is exempt needs none.
// Errors: errTotalInFlight, errPublicInFlight.
func (x *exchange) takePlace() error {
	if x.route.exempt {
		return nil
	}
	x.place.owner = x.g.inFlight
	if x.route.Public {
		if !x.place.owner.tryAddPublic(publicShare(x.g.maxInFlight)) {
			x.noteOverload("public")
			return errPublicInFlight
		}
		x.place.public = true
	}
	if !x.place.owner.tryAdd(x.g.maxInFlight) {
		x.noteOverload("total")
		return errTotalInFlight
	}
	x.place.total = true
	return nil
}

// noteOverload records that the gateway has no room for a request.
func (x *exchange) noteOverload(reason string) {
	x.g.metrics.overloaded.WithLabelValues(reason).Inc()
	x.g.inFlight.refusedAt.Store(time.Now().UnixNano())
	x.g.overloaded.Log("reason", reason, "max_in_flight", x.g.maxInFlight)
}

// takeUserPlace takes a place among the requests of the user. A route that is exempt
// needs none. Error: errUserInFlight.
func (x *exchange) takeUserPlace() error {
	if x.route.exempt {
		return nil
	}
	if !x.place.owner.tryAddUser(x.account, x.g.maxUserInFlight) {
		x.g.metrics.overloaded.WithLabelValues("per_user").Inc()
		return errUserInFlight
	}
	x.place.user = x.account
	return nil
}

// Waiting is how many requests wait for others of their user to end.
func (f *InFlight) Waiting() int64 { return f.lines.Waiting() }
