// Package quotatest is the suite that every quota store passes: the rules of
// reserving and settling, whatever the store is made of.
package quotatest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
)

// Open opens a store that works by clock and knows no user yet. What it opens it
// closes with the test.
type Open func(t testing.TB, clock *Clock, calendar *quota.Calendar) quota.Store

// A Clock stands still until a test moves it. A store whose clock goes on by
// itself may be ahead of it by the real time since, and may round it; the suite
// keeps 5 seconds away from every instant at which something changes.
type Clock struct{ at, offset atomic.Int64 } // ns

// NewClock returns a clock that stands at t.
func NewClock(t time.Time) *Clock {
	c := new(Clock)
	c.Set(t)
	return c
}

// Now is the clock's time.
func (c *Clock) Now() time.Time { return time.Unix(0, c.at.Load()).UTC() }

// Offset is what a store adds to the real time. It goes on from where the clock was set,
// and does not jitter.
func (c *Clock) Offset() time.Duration { return time.Duration(c.offset.Load()) }

// Set moves the clock to t.
func (c *Clock) Set(t time.Time) {
	c.at.Store(t.UnixNano())
	c.offset.Store(int64(time.Until(t)))
}

// Advance moves the clock on.
func (c *Clock) Advance(d time.Duration) { c.Set(c.Now().Add(d)) }

var endpoints = []string{"analyze", "image-analysis", "report"}

// NewPlan makes a plan over the suite's endpoints, with a warning from 80 %.
func NewPlan(name string, limits ...quota.Limit) *quota.Plan {
	return NewAttemptLimitedPlan(name, quota.AttemptLimit{}, limits...)
}

// NewBoundPlan is NewPlan with a bound of attempts.
func NewAttemptLimitedPlan(name string, attempts quota.AttemptLimit, limits ...quota.Limit) *quota.Plan {
	p, err := quota.NewPlan(quota.PlanOptions{Name: name, Limits: limits, Attempts: attempts, Endpoints: endpoints, WarnAt: 80})
	if err != nil {
		panic(err)
	}
	return p
}

// noon is far from every window's end but a minute's.
var noon = time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC)

// Run runs the suite.
func Run(t *testing.T, open Open) {
	tests := map[string]func(*testing.T, *harness){
		"a 2xx is counted under its endpoint":       testCommit,
		"a release gives the unit back":             testRelease,
		"a refused request changes nothing":         testRefusal,
		"exactly the limit of many at once":         testConcurrentReserves,
		"units that come back are used again":       testConcurrentReleases,
		"every call is safe to send twice":          testRepeatedCalls,
		"a release overtakes its reserve":           testReleaseOvertakesReserve,
		"a hold ends with its lease":                testLeaseEndsHold,
		"a commit after the lease counts":           testLateCommit,
		"a count belongs to the window of its hold": testCountBelongsToWindowOfReserve,
		"an endpoint's limit and the plan's":        testEndpointLimit,
		"a minute's limit renews":                   testMinuteRenews,
		"another plan keeps the counts":             testPlanChange,
		"a limit that is changed while in use":      testLimitChange,
		"a plan without limits counts":              testPlanWithoutLimits,
		"a limit of nothing":                        testLimitOfZero,
		"users do not touch each other":             testUsersAreSeparate,
		"a window that is long over":                testCommitAfterRetention,
		"what was settled can be forgotten":         testForget,
		"attempts, whatever becomes of them":        testAttemptsAreBounded,
		"an attempt that a limit refuses":           testLimitRefusesAttempt,
		"an attempt that is sent twice":             testRepeatedAttempt,
		"exactly the attempts of many at once":      testConcurrentAttempts,
		"attempts come back evenly":                 testAttemptsRefill,
		"a bound of attempts that is changed":       testAttemptLimitChange,
		"an observing plan refuses nothing":         testObservingPlan,
		"one request is observed, the next is not":  testObservedRequest,
		"a grant to who is observed":                testGrantInObserveMode,
		"attempts that are observed":                testAttemptsInObserveMode,
		"many at once that are observed":            testConcurrentReservesInObserveMode,
		"who watches is told of each change":        testWatch,
	}
	maps.Copy(tests, adminTests)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newHarness(t, open, noon))
		})
	}
	t.Run("any interleaving keeps to the model", func(t *testing.T) {
		t.Parallel()
		testModel(t, open)
	})
}

// A bench is a store with helpers that fail the test on an error.
type harness struct {
	t     *testing.T
	clock *Clock
	store quota.Store
}

func newHarness(t *testing.T, open Open, at time.Time) *harness {
	clock := NewClock(at)
	return &harness{t, clock, open(t, clock, quota.NewCalendar(nil))}
}

func request(user, endpoint string, p *quota.Plan) quota.Request {
	return quota.Request{ID: quota.NewID(), User: user, Endpoint: endpoint, Plans: p.OnlyChoice(), Lease: 130 * time.Second}
}

func (b *harness) reserve(r quota.Request) *quota.Decision {
	b.t.Helper()
	d, err := b.store.Reserve(context.Background(), r)
	if err != nil {
		b.t.Fatalf("Reserve: %v", err)
	}
	return d
}

func (b *harness) admit(user, endpoint string, p *quota.Plan) quota.Reservation {
	b.t.Helper()
	d := b.reserve(request(user, endpoint, p))
	if !d.Admitted {
		b.t.Fatalf("a request to %s was refused at %v", endpoint, numbers(d.Snapshot))
	}
	return d.Reservation
}

func (b *harness) refuse(user, endpoint string, p *quota.Plan) quota.Snapshot {
	b.t.Helper()
	d := b.reserve(request(user, endpoint, p))
	if d.Admitted || d.AttemptWait != 0 {
		b.t.Fatalf("a request to %s was admitted %v, or has to wait %v, at %v", endpoint, d.Admitted, d.AttemptWait, numbers(d.Snapshot))
	}
	return d.Snapshot
}

// throttle makes a request for which no attempt is left, and one comes back in wait.
func (b *harness) throttle(user string, p *quota.Plan, wait time.Duration) quota.Snapshot {
	b.t.Helper()
	d := b.reserve(request(user, "analyze", p))
	if d.Admitted || d.AttemptWait <= 0 || (d.AttemptWait-wait).Abs() > 5*time.Second {
		b.t.Fatalf("admitted %v, attempts again in %v; want false, %v", d.Admitted, d.AttemptWait, wait)
	}
	return d.Snapshot
}

func (b *harness) commit(r quota.Reservation) quota.Snapshot {
	b.t.Helper()
	s, err := b.store.Commit(context.Background(), &r)
	if err != nil {
		b.t.Fatalf("Commit: %v", err)
	}
	return *s
}

func (b *harness) release(r quota.Reservation) quota.Snapshot {
	b.t.Helper()
	s, err := b.store.Release(context.Background(), &r)
	if err != nil {
		b.t.Fatalf("Release: %v", err)
	}
	return *s
}

// use makes n requests that succeed.
func (b *harness) use(n int, user, endpoint string, p *quota.Plan) {
	b.t.Helper()
	for range n {
		b.commit(b.admit(user, endpoint, p))
	}
}

// want reads a user's state and compares it with want, see numbers.
func (b *harness) wantState(user string, p *quota.Plan, want string) {
	b.t.Helper()
	s, err := b.store.Read(context.Background(), user, p.OnlyChoice())
	if err != nil {
		b.t.Fatalf("Read: %v", err)
	}
	b.wantSnapshot(s, want)
}

func (b *harness) wantSnapshot(s quota.Snapshot, want string) {
	b.t.Helper()
	if got := numbers(s); got != want {
		b.t.Errorf("state is %q, want %q", got, want)
	}
}

// numbers shows a snapshot as "used+held" of the period and of each limit, there with
// "/granted" behind it when something is, and what was used of analyze, image-analysis
// and report.
func numbers(s quota.Snapshot) string {
	text := fmt.Sprintf("%d+%d", s.Total.Used, s.Total.Held)
	for _, c := range s.Limits {
		text += fmt.Sprintf(" %d+%d", c.Used, c.Held)
		if c.Granted != 0 {
			text += fmt.Sprintf("/%d", c.Granted)
		}
	}
	return text + fmt.Sprint(" ", s.Endpoints)
}

var hundredAMonth = NewPlan("free", quota.Limit{Requests: 100, Period: quota.Month})

func testCommit(t *testing.T, b *harness) {
	b.wantState("u", hundredAMonth, "0+0 0+0 [0 0 0]")
	r := b.admit("u", "analyze", hundredAMonth)
	b.wantState("u", hundredAMonth, "0+1 0+1 [0 0 0]")
	b.wantSnapshot(b.commit(r), "1+0 1+0 [1 0 0]")
	b.wantState("u", hundredAMonth, "1+0 1+0 [1 0 0]")
	b.use(2, "u", "image-analysis", hundredAMonth)
	b.wantState("u", hundredAMonth, "3+0 3+0 [1 2 0]")

	s, _ := b.store.Read(context.Background(), "u", hundredAMonth.OnlyChoice())
	if late := s.At.Sub(b.clock.Now()); late < 0 || late > 5*time.Second {
		t.Errorf("the snapshot is of %v, want %v", s.At, b.clock.Now())
	}
	start, end := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	if w := s.Total.Window; !w.Start.Equal(start) || !w.End.Equal(end) {
		t.Errorf("the period is %v to %v, want %v to %v", w.Start, w.End, start, end)
	}
}

func testRelease(t *testing.T, b *harness) {
	one := NewPlan("one", quota.Limit{Requests: 1, Period: quota.Month})
	r := b.admit("u", "analyze", one)
	b.refuse("u", "analyze", one)
	b.wantSnapshot(b.release(r), "0+0 0+0 [0 0 0]")
	b.commit(b.admit("u", "analyze", one))
	b.refuse("u", "analyze", one)
	b.wantState("u", one, "1+0 1+0 [1 0 0]")
}

func testRefusal(t *testing.T, b *harness) {
	p := NewPlan("p", quota.Limit{Requests: 10, Period: quota.Month},
		quota.Limit{Requests: 1, Period: quota.Day}, quota.Limit{Requests: 5, Period: quota.Day, Endpoint: "report"})
	b.use(1, "u", "report", p)
	for range 3 {
		b.wantSnapshot(b.refuse("u", "report", p), "1+0 1+0 1+0 1+0 [0 0 1]")
	}
	b.wantState("u", p, "1+0 1+0 1+0 1+0 [0 0 1]")
}

func testConcurrentReserves(t *testing.T, b *harness) {
	admitted := b.reserveConcurrently(300, func(r quota.Reservation) { b.commit(r) })
	if admitted != 100 {
		t.Errorf("%d of 300 were admitted, want 100", admitted)
	}
	b.wantState("u", hundredAMonth, "100+0 100+0 [100 0 0]")
}

func testConcurrentReleases(t *testing.T, b *harness) {
	var n atomic.Int64
	for range 10 {
		b.reserveConcurrently(50, func(r quota.Reservation) {
			if n.Add(1)%2 == 0 {
				b.commit(r)
			} else {
				b.release(r)
			}
		})
	}
	s, _ := b.store.Read(context.Background(), "u", hundredAMonth.OnlyChoice())
	if s.Total.Held != 0 || s.Total.Used > 100 || s.Total.Used > n.Load()/2 {
		t.Errorf("state is %s after %d requests of which every other one was counted", numbers(s), n.Load())
	}
	b.use(int(100-s.Total.Used), "u", "analyze", hundredAMonth)
	b.refuse("u", "analyze", hundredAMonth)
}

// race sends n requests at once and settles those that are admitted.
func (b *harness) reserveConcurrently(n int, settle func(quota.Reservation)) int64 {
	var wait sync.WaitGroup
	var admitted atomic.Int64
	for range n {
		wait.Go(func() {
			d, err := b.store.Reserve(context.Background(), request("u", "analyze", hundredAMonth))
			if err != nil {
				b.t.Errorf("Reserve: %v", err)
			} else if d.Admitted {
				admitted.Add(1)
				settle(d.Reservation)
			}
		})
	}
	wait.Wait()
	return admitted.Load()
}

func testRepeatedCalls(t *testing.T, b *harness) {
	req := request("u", "analyze", hundredAMonth)
	b.reserve(req)
	r := b.reserve(req).Reservation
	b.wantState("u", hundredAMonth, "0+1 0+1 [0 0 0]")
	for range 3 {
		b.wantSnapshot(b.commit(r), "1+0 1+0 [1 0 0]")
	}
	b.wantSnapshot(b.release(r), "1+0 1+0 [1 0 0]")

	r = b.admit("u", "analyze", hundredAMonth)
	for range 2 {
		b.wantSnapshot(b.release(r), "1+0 1+0 [1 0 0]")
	}
	b.wantSnapshot(b.commit(r), "1+0 1+0 [1 0 0]")
}

// Whoever gives up waiting for a reserve releases it by its id; the reserve may
// still be on its way.
func testReleaseOvertakesReserve(t *testing.T, b *harness) {
	req := request("u", "analyze", hundredAMonth)
	cal := quota.NewCalendar(nil)
	b.release(quota.Reservation{Request: req, Windows: cal.WindowsAt(hundredAMonth.Periods(), b.clock.Now())})
	d, err := b.store.Reserve(context.Background(), req)
	if !errors.Is(err, quota.ErrSettled) || d.Admitted {
		t.Errorf("reserving a released id: admitted %v, error %v; want false, %v", d.Admitted, err, quota.ErrSettled)
	}
	b.wantState("u", hundredAMonth, "0+0 0+0 [0 0 0]")
}

func testLeaseEndsHold(t *testing.T, b *harness) {
	one := NewPlan("one", quota.Limit{Requests: 1, Period: quota.Month})
	b.admit("u", "analyze", one)
	b.clock.Advance(120 * time.Second)
	b.wantSnapshot(b.refuse("u", "analyze", one), "0+1 0+1 [0 0 0]")
	b.clock.Advance(15 * time.Second)
	b.wantState("u", one, "0+0 0+0 [0 0 0]")
	b.admit("u", "analyze", one)
}

func testLateCommit(t *testing.T, b *harness) {
	r := b.admit("u", "analyze", hundredAMonth)
	b.clock.Advance(5 * time.Minute)
	b.wantState("u", hundredAMonth, "0+0 0+0 [0 0 0]")
	b.wantSnapshot(b.commit(r), "1+0 1+0 [1 0 0]")
	b.wantSnapshot(b.commit(r), "1+0 1+0 [1 0 0]")
}

func testCountBelongsToWindowOfReserve(t *testing.T, b *harness) {
	p := NewPlan("p", quota.Limit{Requests: 2, Period: quota.Month}, quota.Limit{Requests: 5, Period: quota.Year})
	b.clock.Set(time.Date(2026, 11, 30, 23, 59, 50, 0, time.UTC))
	november := b.admit("u", "analyze", p)
	b.use(1, "u", "report", p)
	b.refuse("u", "analyze", p)
	b.clock.Advance(20 * time.Second)
	b.wantState("u", p, "0+0 0+0 1+1 [0 0 0]")
	b.wantSnapshot(b.commit(november), "0+0 0+0 2+0 [0 0 0]")
	b.use(2, "u", "analyze", p)
	b.wantSnapshot(b.refuse("u", "analyze", p), "2+0 2+0 4+0 [2 0 0]")
	b.clock.Set(time.Date(2026, 11, 30, 23, 59, 55, 0, time.UTC)) // look back
	b.wantState("u", p, "2+0 2+0 4+0 [1 0 1]")
}

func testEndpointLimit(t *testing.T, b *harness) {
	p := NewPlan("p", quota.Limit{Requests: 4, Period: quota.Month},
		quota.Limit{Requests: 2, Period: quota.Month, Endpoint: "image-analysis"})
	b.use(1, "u", "image-analysis", p)
	held := b.admit("u", "image-analysis", p)
	b.wantSnapshot(b.refuse("u", "image-analysis", p), "1+1 1+1 1+1 [0 1 0]")
	b.use(2, "u", "analyze", p)
	b.refuse("u", "analyze", p)
	b.release(held)
	b.use(1, "u", "image-analysis", p)
	b.wantSnapshot(b.refuse("u", "report", p), "4+0 4+0 2+0 [2 2 0]")
}

func testMinuteRenews(t *testing.T, b *harness) {
	p := NewPlan("p", quota.Limit{Requests: 100, Period: quota.Month}, quota.Limit{Requests: 2, Period: quota.Minute})
	for minute := range 3 {
		b.use(2, "u", "analyze", p)
		s := b.refuse("u", "analyze", p)
		if s.Limits[1].Used != 2 || s.Total.Used != int64(2*minute+2) {
			t.Errorf("in minute %d the state is %s", minute, numbers(s))
		}
		b.clock.Advance(time.Minute)
	}
}

func testPlanChange(t *testing.T, b *harness) {
	b.use(3, "u", "analyze", hundredAMonth)
	lower := NewPlan("lower", quota.Limit{Requests: 2, Period: quota.Month})
	b.wantSnapshot(b.refuse("u", "analyze", lower), "3+0 3+0 [3 0 0]")
	daily := NewPlan("daily", quota.Limit{Requests: 1, Period: quota.Day}, quota.Limit{Requests: 5, Period: quota.Month})
	b.wantState("u", daily, "0+0 0+0 3+0 [0 0 0]")
	b.use(1, "u", "report", daily)
	b.refuse("u", "report", daily)
	b.wantState("u", hundredAMonth, "4+0 4+0 [3 0 1]")
}

// Raised, lowered below what is used, removed and back: counts stay, and the limit of
// now decides.
func testLimitChange(t *testing.T, b *harness) {
	limit := func(n int64) *quota.Plan {
		return NewPlan("p", quota.Limit{Requests: n, Period: quota.Month}, quota.Limit{Requests: n, Period: quota.Day})
	}
	b.use(3, "u", "analyze", limit(3))
	b.refuse("u", "analyze", limit(3))
	held := b.admit("u", "analyze", limit(5))
	b.wantSnapshot(b.refuse("u", "analyze", limit(2)), "3+1 3+1 3+1 [3 0 0]")
	// Admitted under a limit of 5, counted under one of 2.
	b.wantSnapshot(b.commit(quota.Reservation{Request: quota.Request{ID: held.ID, User: "u", Endpoint: "analyze", Plans: limit(2).OnlyChoice()}, Windows: held.Windows}),
		"4+0 4+0 4+0 [4 0 0]")
	s, err := b.store.Read(context.Background(), "u", limit(2).OnlyChoice())
	if err != nil {
		t.Fatal(err)
	}
	u := s.Usage("u")
	if u.Used != 4 || *u.Limit != 2 || *u.Remaining != 0 || *u.Percent != 200 || u.Status != quota.StatusBlocked || u.Allowed {
		t.Errorf("4 used of 2: remaining %d, %d percent, %s, allowed %v", *u.Remaining, *u.Percent, u.Status, u.Allowed)
	}
	// A kind of window that no plan had before starts at 0; the others go on.
	weekly := NewPlan("q", quota.Limit{Requests: 1, Period: quota.Week}, quota.Limit{Requests: 9, Period: quota.Month})
	b.use(1, "u", "analyze", weekly)
	b.wantSnapshot(b.refuse("u", "analyze", weekly), "1+0 1+0 5+0 [1 0 0]")
	b.use(1, "u", "report", NewPlan("none"))
	b.refuse("u", "analyze", limit(6))
	b.use(1, "u", "analyze", limit(7))
}

func testPlanWithoutLimits(t *testing.T, b *harness) {
	p := NewPlan("enterprise")
	b.use(3, "u", "report", p)
	b.admit("u", "analyze", p)
	b.wantState("u", p, "3+1 [0 0 3]")
}

func testLimitOfZero(t *testing.T, b *harness) {
	p := NewPlan("p", quota.Limit{Requests: 5, Period: quota.Month}, quota.Limit{Period: quota.Month, Endpoint: "report"})
	b.refuse("u", "report", p)
	b.use(1, "u", "analyze", p)
}

func testUsersAreSeparate(t *testing.T, b *harness) {
	one := NewPlan("one", quota.Limit{Requests: 1, Period: quota.Month})
	for _, user := range []string{"u", "U", "u ", "{u}", "u/analyze", "used/2026-11", "user", "*", "日本", "a:b", "\"", "u-17@example.com"} {
		b.wantState(user, one, "0+0 0+0 [0 0 0]")
		b.use(1, user, "analyze", one)
		b.refuse(user, "analyze", one)
	}
}

// A reservation that is settled when even the retained counts of its windows
// are gone must not bring them back.
func testCommitAfterRetention(t *testing.T, b *harness) {
	p := NewPlan("p", quota.Limit{Requests: 5, Period: quota.Month}, quota.Limit{Requests: 5, Period: quota.Minute})
	r := b.admit("u", "analyze", p)
	b.clock.Advance(25 * time.Hour)
	b.wantSnapshot(b.commit(r), "1+0 1+0 0+0 [1 0 0]")
	b.clock.Set(noon)
	b.wantState("u", p, "1+0 1+0 0+0 [1 0 0]")
}

// To forget a reservation moves no number.
func testForget(t *testing.T, b *harness) {
	counted, released := b.admit("u", "analyze", hundredAMonth), b.admit("u", "report", hundredAMonth)
	held := b.admit("u", "analyze", hundredAMonth)
	b.commit(counted)
	b.release(released)
	b.store.Forget(&counted)
	b.store.Forget(&released)
	b.wantState("u", hundredAMonth, "1+1 1+1 [1 0 0]")
	b.wantSnapshot(b.commit(held), "2+0 2+0 [2 0 0]")
}

// Whoever watches a user is told of a hold, of its end, and of nobody else's.
func testWatch(t *testing.T, b *harness) {
	told, other := make(chan struct{}, 1), make(chan struct{}, 1)
	stop, stopOther := b.store.Watch("u", told), b.store.Watch("v", other)
	defer stopOther()
	// It begins to listen some time soon.
	for listening := false; !listening; {
		b.release(b.admit("v", "analyze", hundredAMonth))
		select {
		case <-other:
			listening = true
		case <-time.After(20 * time.Millisecond):
		}
	}
	drain := func(ch chan struct{}) {
		for {
			select {
			case <-ch:
			case <-time.After(100 * time.Millisecond):
				return
			}
		}
	}
	wait := func(what string) {
		t.Helper()
		select {
		case <-told:
		case <-time.After(30 * time.Second):
			t.Fatalf("not told of %s within 30 s", what)
		}
	}
	drain(told)
	drain(other)
	r := b.admit("u", "analyze", hundredAMonth)
	wait("a reserve")
	b.commit(r)
	wait("a commit")
	r = b.admit("u", "analyze", hundredAMonth)
	wait("a second reserve")
	b.release(r)
	wait("a release")
	if len(other) > 0 {
		t.Error("told of another user's change")
	}
	stop()
	drain(told)
	b.use(1, "u", "analyze", hundredAMonth)
	drain(other)
	if len(told) > 0 {
		t.Error("told after stop")
	}
}
