// Package redisstore keeps quotas in Redis, so that any number of gateways share
// them.
//
// Each call is one script, which is atomic: one round trip to reserve, one to
// settle, one to read. The scripts stand beside this file; common.lua says what
// Redis holds. They work by Redis's clock. The gateway sends the windows that it
// believes to hold, by Redis's time as it last saw it; when one does not hold,
// the script says so and the gateway asks once more. So gateways with wrong
// clocks agree on what counts in which month.
//
// Scripts share one connection to each Redis, see pipe. What is rare, or has to find
// its way in a cluster, goes over connections of go-redis's.
package redisstore

import (
	"context"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"hash/maphash"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"metergate/quota"
)

var (
	//go:embed common.lua
	commonLua string
	//go:embed reserve.lua
	reserveLua string
	//go:embed settle.lua
	settleLua string
	//go:embed read.lua
	readLua string
	//go:embed change.lua
	changeLua string

	reserveScript = redis.NewScript(commonLua + reserveLua)
	settleScript  = redis.NewScript(commonLua + settleLua)
	readScript    = redis.NewScript(commonLua + readLua)
	changeScript  = redis.NewScript(commonLua + changeLua)
)

// Options say how to reach Redis and how to count. Only URL is needed.
type Options struct {
	// URL is redis://, rediss:// or unix://, as go-redis parses it, or one of
	//	redis+cluster://[USER:PASSWORD@]HOST:PORT,HOST:PORT          some nodes of a cluster
	//	redis+sentinel://[USER:PASSWORD@]HOST:PORT,HOST:PORT/NAME[/DB]   Sentinels, and their name of the master
	// and with rediss+ the same over TLS. Sentinels get the same user and password
	// where they want any. With TLS the certificates must be for the hosts in the
	// URL; a node that the cluster or a Sentinel names by its IP address may have
	// that of the first host.
	URL string
	// Prefix is the first part of every key; empty means "metergate".
	Prefix string
	// Timeout is the longest to wait for one answer, without the time in which
	// the gateway itself has no connection free; 0 means 250 ms.
	Timeout time.Duration
	// Calendar cuts time into windows; nil means UTC.
	Calendar *quota.Calendar
	// Keep is how long the counts of past windows stay, see quota.Window.RetainedUntil;
	// 0 means 400 days.
	Keep time.Duration
	// InFlight is the most calls that are under way to one Redis at a time; 0 means
	// 32. Scripts take microseconds, so more of them would wait in Redis instead of
	// here.
	InFlight int
	// Now is the gateway's clock; nil means time.Now.
	Now func() time.Time
	// Offset is added to Redis's clock; nil means 0. Tests move time with it.
	Offset func() time.Duration
}

// Store is a quota store in Redis. It is safe for concurrent use.
type Store struct {
	client   redis.UniversalClient
	lines    *lines
	failed   func() // is told that a call failed, and does not wait
	prefix   string
	timeout  time.Duration
	calendar *quota.Calendar
	keep     time.Duration
	now      func() time.Time
	offset   func() time.Duration
	inFlight int
	jobs     chan job // to the workers
	// ahead is what Redis's clock was ahead of the gateway's when last seen, ns.
	ahead atomic.Int64
	lost  atomic.Int64 // see LostHolds
	// expired is what ExpiredHolds returns.
	expired atomic.Int64

	overrides overrides // as last seen
	views     views
	forgotten forgotten
	watchers  watchers
	closing   chan struct{} // closed when Close begins
	stopped   chan struct{} // closed when the workers are to end
	close     func() error
}

// queueTimeout bounds the wait for a connection. A request that waits longer
// finds a gateway with more to do than it can.
const queueTimeout = 5 * time.Second

// Open prepares a store. It does not connect: a Redis that is down shows in the
// calls, and in Ping. An error means that opt.URL cannot be used; it does not
// show the URL, which may hold a password.
func Open(opt Options) (*Store, error) {
	t, err := parseURL(opt.URL)
	if err != nil {
		return nil, err
	}
	// It writes of each failed dial to stderr, for the whole process. Who calls the
	// store gets the error, and has a log.
	logging.Disable()
	s := &Store{
		prefix:    withDefault(opt.Prefix, "metergate"),
		timeout:   withDefault(opt.Timeout, 250*time.Millisecond),
		calendar:  opt.Calendar,
		keep:      withDefault(opt.Keep, 400*24*time.Hour),
		now:       opt.Now,
		offset:    opt.Offset,
		inFlight:  withDefault(opt.InFlight, 32),
		jobs:      make(chan job),
		overrides: overrides{seed: maphash.MakeSeed()},
		stopped:   make(chan struct{}),
		closing:   make(chan struct{}),
	}
	if s.calendar == nil {
		s.calendar = quota.NewCalendar(nil)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.offset == nil {
		s.offset = func() time.Duration { return 0 }
	}
	var closeClient func() error
	s.client, s.failed, closeClient = connect(t, s.timeout, s.inFlight)
	s.lines = newLines(s.client)
	var workers, background sync.WaitGroup
	for range s.inFlight {
		workers.Go(s.work)
	}
	background.Go(s.forget)
	s.close = sync.OnceValue(func() error {
		close(s.closing)
		background.Wait()
		s.watchers.close()
		close(s.stopped)
		s.lines.close() // ends the calls under way
		err := closeClient()
		workers.Wait()
		return err
	})
	return s, nil
}

func withDefault[T comparable](value, def T) T {
	var zero T
	if value == zero {
		return def
	}
	return value
}

// Ping asks Redis for a sign of life, within the store's timeout; of a cluster,
// all masters.
func (s *Store) Ping(ctx context.Context) error {
	return s.exclusively(ctx, func(ctx context.Context) error {
		return s.eachMaster(ctx, func(ctx context.Context, c *redis.Client) error { return c.Ping(ctx).Err() })
	})
}

// Close deletes the markers that Forget was told of and closes the connections.
// Calls under way fail.
func (s *Store) Close() error { return s.close() }

// Reserve holds one unit for a request in every limit of its plan that applies, or none, if
// the plan's Attempts let the user try; whatever comes of that, it was an attempt. One
// that is observed it holds in any case. It is safe to send twice. Errors:
// quota.ErrOverloaded, quota.ErrSettled, or Redis's; then the unit may be held or not,
// and the Decision holds a Reservation to settle.
func (s *Store) Reserve(ctx context.Context, request quota.Request) (*quota.Decision, error) {
	d := &quota.Decision{Reservation: quota.Reservation{Request: request}}
	r := &d.Reservation
	var a answer
	err := s.ask(ctx, &question{script: reserveScript, user: r.User, terms: r.Plans, own: func(args *args, p *quota.Plan, windows []quota.Window) {
		limits, attempts := p.Limits(), p.AttemptLimit()
		observed := int64(0)
		if r.InObserveMode(p) {
			observed = 1
		}
		most, every := attempts.Requests, attempts.TokenInterval().Microseconds()
		args.text("lease/" + r.ID)
		args.text("done/" + r.ID)
		args.text("attempts/" + strconv.FormatInt(most, 10) + "/" + strconv.FormatInt(every, 10))
		args.number(r.Lease.Milliseconds())
		holds := r.Endpoint
		for _, w := range windows {
			holds += " " + w.ID
		}
		args.text(holds)
		args.number(most)
		args.number(every)
		args.number(observed)
		args.text(r.Plans.Claimed.Name())
		for _, l := range limits {
			if l.AppliesTo(r.Endpoint) {
				args.number(l.Requests)
			} else {
				args.number(-1)
			}
		}
	}}, &a)
	r.Plan, r.Windows = a.plan, a.windows
	if err != nil {
		return d, err
	}
	return d, a.decide(d)
}

// decide fills in what the script said of a request that was to be admitted. Error:
// quota.ErrSettled.
func (a *answer) decide(d *quota.Decision) error {
	r := &d.Reservation
	if a.code == codeOK || a.code == codeExhausted { // the numbers are those before it
		for i, c := range a.plan.Counters() {
			if c.Endpoint == "" || c.Endpoint == r.Endpoint {
				a.counts[i].Held++
			}
		}
	}
	a.fill(&d.Snapshot)
	switch a.code {
	case codeOK, codeExhausted, codeHeld:
		d.Admitted = true
		if r.InObserveMode(a.plan) {
			d.WouldBlock = d.Snapshot.WouldBlock(r.Endpoint, a.code == codeExhausted)
		}
	case codeThrottled:
		d.AttemptWait = a.wait
	case codeSettled:
		return quota.ErrSettled
	}
	return nil
}

// Commit counts a reservation in its windows, once however often it is called.
// The snapshot is the user's state afterwards, in the windows of now and by the plan
// of now. After an error it may be counted or not: call again.
func (s *Store) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	return s.settle(ctx, r, 1)
}

// Release gives a reservation back, once however often it is called, and also
// before it arrives: a Reserve of a released id holds nothing. Snapshot and
// errors are those of Commit.
func (s *Store) Release(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	return s.settle(ctx, r, 0)
}

func (s *Store) settle(ctx context.Context, r *quota.Reservation, count int) (*quota.Snapshot, error) {
	var a answer
	err := s.ask(ctx, &question{script: settleScript, user: r.User, terms: r.Plans, own: func(args *args, _ *quota.Plan, _ []quota.Window) {
		args.number(1)
		s.appendSettle(args, r, count)
	}}, &a)
	if err != nil {
		return nil, err
	}
	if a.code == codeUnheld && !r.Unchecked {
		s.lost.Add(1)
	}
	snapshot := new(quota.Snapshot)
	a.fill(snapshot)
	return snapshot, nil
}

// LostHolds is how many requests were counted whose hold was not there any more: Redis had
// lost it, in a failover say, or the lease had run out. Another request may have been
// admitted in their place.
func (s *Store) LostHolds() int64 { return s.lost.Load() }

// ExpiredHolds is how many leases this store has found to have run out: nobody has settled
// them, since their gateway died, say.
func (s *Store) ExpiredHolds() int64 { return s.expired.Load() }

// appendSettle appends a reservation as settle.lua takes it.
func (s *Store) appendSettle(args *args, r *quota.Reservation, count int) {
	args.text("lease/" + r.ID)
	args.text("done/" + r.ID)
	args.number(int64(count))
	args.text(r.Endpoint)
	args.number(int64(len(r.Windows)))
	for _, w := range r.Windows {
		args.text(w.ID)
		args.number(w.RetainedUntil(s.keep).UnixMilli())
	}
}

// Replay counts several reservations of one user in one round trip, some hundreds at
// most, since Redis does nothing else meanwhile; each of them once, also if a Commit
// of it has been sent before. Their terms may be zero. After an error some of them, or
// all, may be counted: call again.
func (s *Store) Replay(ctx context.Context, user string, rs []quota.Reservation) error {
	return s.ask(ctx, &question{script: settleScript, user: user, own: func(args *args, _ *quota.Plan, _ []quota.Window) {
		args.number(int64(len(rs)))
		for i := range rs {
			s.appendSettle(args, &rs[i], 1)
		}
	}}, new(answer))
}

// Read returns a user's state, laid out by the plan that applies. A user never seen
// has used nothing.
func (s *Store) Read(ctx context.Context, user string, t quota.PlanChoice) (snapshot quota.Snapshot, err error) {
	var a answer
	if err = s.ask(ctx, &question{script: readScript, user: user, terms: t}, &a); err == nil {
		a.fill(&snapshot)
	}
	return snapshot, err
}

// key names a user's hash. The id is hashed, so that none can be chosen to look
// like another key, and is Redis Cluster's hash tag.
func (s *Store) key(user string) string {
	sum := sha256.Sum256([]byte(user))
	return s.prefix + ":{" + base64.RawURLEncoding.EncodeToString(sum[:16]) + "}"
}
