package guard_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

var (
	ctx  = context.Background()
	five = quotatest.NewPlan("five", quota.Limit{Amount: 5, Period: quota.Month})
)

// A guardedRedis is a guarded store with a real Redis, and a fault proxy in between that can be
// cut.
type guardedRedis struct {
	t          *testing.T
	redis      *redistest.Server
	faultProxy *redistest.FaultProxy
	journal    string // its folder
	options    guard.Options
	*guard.Store
}

// patient is a timeout that no working Redis needs, however busy the machine. Where a connection is cut or
// refused, nothing waits for it.
const patient = 20 * time.Second

type setup struct {
	allow       bool          // admit requests in an outage
	timeout     time.Duration // 0: patient
	connections int
	now         func() time.Time
	keep        time.Duration
	history     int // days
	billing     int // hours
}

func newGuardedRedis(t *testing.T, s setup) *guardedRedis {
	t.Helper()
	if s.timeout == 0 {
		s.timeout = patient
	}
	if s.keep == 0 {
		s.keep = 400 * 24 * time.Hour
	}
	r := &guardedRedis{t: t, redis: redistest.Start(t), journal: t.TempDir()}
	r.faultProxy = redistest.StartFaultProxy(t, r.redis.Addr)
	var offset func() time.Duration
	if s.now != nil {
		offset = func() time.Duration { return time.Until(s.now()) }
	}
	backend, err := redisstore.Open(redisstore.Options{URL: r.faultProxy.URL(), Timeout: s.timeout,
		InFlight: s.connections, Now: s.now, Offset: offset, Keep: s.keep, HistoryDays: s.history, BillingHours: s.billing})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	r.options = guard.Options{Backend: backend, Journal: openJournal(t, r.journal), AllowOnFailure: s.allow,
		Timeout: s.timeout, Calendar: quota.NewCalendar(nil), Keep: s.keep, HistoryDays: s.history, BillingHours: s.billing}
	r.Store = open(t, r.options)
	return r
}

func openJournal(t testing.TB, dir string) *guard.Journal {
	t.Helper()
	j, err := guard.OpenJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	return j
}

func open(t *testing.T, o guard.Options) *guard.Store {
	t.Helper()
	s, err := guard.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// beginOutage cuts the gateway off from Redis until endOutage.
func (r *guardedRedis) beginOutage() {
	r.faultProxy.RefuseConnections(true)
	r.faultProxy.CutConnections()
}

func (r *guardedRedis) endOutage() { r.faultProxy.Heal() }

// endOutageAfter lets time pass while the gateway is stopped, and starts it when the outage has ended. A replay that is
// under way while the clock jumps would decide by the time before.
func (r *guardedRedis) endOutageAfter(d time.Duration, clock *quotatest.Clock) {
	r.t.Helper()
	r.Store.Close()
	clock.Advance(d)
	r.endOutage()
	r.options.Journal = openJournal(r.t, r.journal)
	r.Store = open(r.t, r.options)
}

func request(user string, p *quota.Plan) quota.Request {
	return quota.Request{ID: quota.NewID(), User: user, Endpoint: "analyze", Plans: p.OnlyChoice(), Lease: 5 * time.Minute}
}

// warmUp waits until calls are answered within a short timeout: then there is a connection, and Redis knows
// the scripts.
func (r *guardedRedis) warmUp() {
	r.t.Helper()
	testkit.Eventually(r.t, "calls are answered in time", func() bool {
		d, err := r.Reserve(ctx, request("warm-up", five))
		if err != nil || !d.Admitted {
			return false
		}
		_, err = r.Release(ctx, &d.Reservation)
		return err == nil && r.Stats().OpenBreakers == 0
	})
}

// admit reserves a unit, which must be available.
func (r *guardedRedis) admit(user string, p *quota.Plan) *quota.Reservation {
	r.t.Helper()
	d, err := r.Reserve(ctx, request(user, p))
	if err != nil || !d.Admitted {
		r.t.Fatalf("admitted %v, error %v; want true", d.Admitted, err)
	}
	return &d.Reservation
}

func (r *guardedRedis) use(n int, user string, p *quota.Plan) {
	r.t.Helper()
	for range n {
		r.commit(r.admit(user, p))
	}
}

func (r *guardedRedis) commit(res *quota.Reservation) quota.Snapshot {
	r.t.Helper()
	s, err := r.Commit(ctx, res)
	if err != nil {
		r.t.Fatalf("Commit: %v", err)
	}
	return *s
}

// wantState reads a user's state and compares it: "used+held", followed by "stale" if it is.
func (r *guardedRedis) wantState(user string, p *quota.Plan, want string) {
	r.t.Helper()
	if got := r.state(user, p); got != want {
		r.t.Errorf("state of %s is %s, want %s", user, got, want)
	}
}

func (r *guardedRedis) state(user string, p *quota.Plan) string {
	s, err := r.Read(ctx, user, p.OnlyChoice())
	if err != nil {
		return err.Error()
	}
	return numbers(s)
}

func numbers(s quota.Snapshot) string {
	text := fmt.Sprintf("%d+%d", s.Total.Used, s.Total.Held)
	if s.Stale {
		text += " stale"
	}
	return text
}

// waitForReplay waits until the outage is over and nothing waits for the store any more.
func (r *guardedRedis) waitForReplay() {
	r.t.Helper()
	testkit.EventuallyWithin(r.t, time.Minute, "the journal is empty", func() bool { st := r.Stats(); return st.Backlog == 0 && st.OpenBreakers == 0 })
}

// An overloadedStore is a store for which the gateway has no connection free.
type overloadedStore struct {
	*boltstore.Store
	overloaded atomic.Bool
}

func (o *overloadedStore) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	if o.overloaded.Load() {
		return &quota.Decision{Reservation: quota.Reservation{Request: r}}, quota.ErrOverloaded
	}
	return o.Store.Reserve(ctx, r)
}

func (o *overloadedStore) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	if o.overloaded.Load() {
		return nil, quota.ErrOverloaded
	}
	return o.Store.Commit(ctx, r)
}

func (o *overloadedStore) CommitRest(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	if o.overloaded.Load() {
		return nil, quota.ErrOverloaded
	}
	return o.Store.CommitRest(ctx, r)
}

func (o *overloadedStore) Replay(ctx context.Context, user string, requests, rests []quota.Reservation) error {
	if o.overloaded.Load() {
		return quota.ErrOverloaded
	}
	return o.Store.Replay(ctx, user, requests, rests)
}
