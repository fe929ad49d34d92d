package quotatest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
)

// noon is when every test begins: far from the end of every window except the minute's.
var noon = time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC)

// keep is how long stores keep counts by default.
const keep = 400 * 24 * time.Hour

// A harness is a store with helpers that fail the test on an error.
type harness struct {
	t     testing.TB
	clock *Clock
	store quota.Store
}

func newHarness(t *testing.T, open Open, at time.Time) *harness {
	clock := NewClock(at)
	return &harness{t, clock, insistingStore{open(t, clock, quota.NewCalendar(nil))}}
}

// An insistingStore calls again when the store is overloaded, as it may be on a busy machine when a
// test makes hundreds of calls at once. Nothing was sent then.
type insistingStore struct{ quota.Store }

func (s insistingStore) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	for {
		if d, err := s.Store.Reserve(ctx, r); !errors.Is(err, quota.ErrOverloaded) {
			return d, err
		}
	}
}

func (s insistingStore) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	for {
		if snapshot, err := s.Store.Commit(ctx, r); !errors.Is(err, quota.ErrOverloaded) {
			return snapshot, err
		}
	}
}

func (s insistingStore) CommitRest(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	for {
		if snapshot, err := s.Store.CommitRest(ctx, r); !errors.Is(err, quota.ErrOverloaded) {
			return snapshot, err
		}
	}
}

// choiceOf is p as it applies to an account.
func choiceOf(account string, p *quota.Plan) quota.PlanChoice {
	choice := p.OnlyChoice()
	choice.Scope = quota.ScopeOf(account)
	return choice
}

func request(user, endpoint string, p *quota.Plan) quota.Request {
	return quota.Request{ID: quota.NewID(), User: user, Endpoint: endpoint, Plans: choiceOf(user, p), Lease: 130 * time.Second}
}

// observedRequest is a request in observe mode.
func observedRequest(user, endpoint string, p *quota.Plan) quota.Request {
	r := request(user, endpoint, p)
	r.Observe = true
	return r
}

func (h *harness) reserve(r quota.Request) *quota.Decision {
	h.t.Helper()
	d, err := h.store.Reserve(context.Background(), r)
	if err != nil {
		h.t.Fatalf("Reserve: %v", err)
	}
	return d
}

func (h *harness) admit(user, endpoint string, p *quota.Plan) quota.Reservation {
	h.t.Helper()
	d := h.reserve(request(user, endpoint, p))
	if !d.Admitted {
		h.t.Fatalf("a request to %s was refused at %v", endpoint, numbers(d.Snapshot))
	}
	return d.Reservation
}

func (h *harness) refuse(user, endpoint string, p *quota.Plan) quota.Snapshot {
	h.t.Helper()
	d := h.reserve(request(user, endpoint, p))
	if d.Admitted || d.AttemptWait != 0 {
		h.t.Fatalf("a request to %s was admitted %v, or has to wait %v, at %v", endpoint, d.Admitted, d.AttemptWait, numbers(d.Snapshot))
	}
	return d.Snapshot
}

// throttle makes a request for which no attempt is left; the next one comes back in wait.
func (h *harness) throttle(user string, p *quota.Plan, wait time.Duration) quota.Snapshot {
	h.t.Helper()
	d := h.reserve(request(user, "analyze", p))
	if d.Admitted || d.AttemptWait <= 0 || (d.AttemptWait-wait).Abs() > 5*time.Second {
		h.t.Fatalf("admitted %v, next attempt in %v; want false, %v", d.Admitted, d.AttemptWait, wait)
	}
	return d.Snapshot
}

func (h *harness) commit(r quota.Reservation) quota.Snapshot {
	h.t.Helper()
	s, err := h.store.Commit(context.Background(), &r)
	if err != nil {
		h.t.Fatalf("Commit: %v", err)
	}
	return *s
}

func (h *harness) release(r quota.Reservation) quota.Snapshot {
	h.t.Helper()
	s, err := h.store.Release(context.Background(), &r)
	if err != nil {
		h.t.Fatalf("Release: %v", err)
	}
	return *s
}

// use makes n requests that succeed.
func (h *harness) use(n int, user, endpoint string, p *quota.Plan) {
	h.t.Helper()
	for range n {
		h.commit(h.admit(user, endpoint, p))
	}
}

// wantState reads a user's state and compares it with want, see numbers.
func (h *harness) wantState(user string, p *quota.Plan, want string) {
	h.t.Helper()
	s, err := h.store.Read(context.Background(), user, choiceOf(user, p))
	if err != nil {
		h.t.Fatalf("Read: %v", err)
	}
	h.wantSnapshot(s, want)
}

func (h *harness) wantSnapshot(s quota.Snapshot, want string) {
	h.t.Helper()
	if got := numbers(s); got != want {
		h.t.Errorf("state is %q, want %q", got, want)
	}
}

// reserveConcurrently makes n requests at once and settles those that are admitted. It returns
// how many were.
func (h *harness) reserveConcurrently(n int, settle func(quota.Reservation)) int64 {
	var wait sync.WaitGroup
	var admitted atomic.Int64
	for range n {
		wait.Go(func() {
			d, err := h.store.Reserve(context.Background(), request("u", "analyze", hundredAMonth))
			if err != nil {
				h.t.Errorf("Reserve: %v", err)
			} else if d.Admitted {
				admitted.Add(1)
				settle(d.Reservation)
			}
		})
	}
	wait.Wait()
	return admitted.Load()
}

func (h *harness) applyChange(user string, p *quota.Plan, c quota.Change) quota.Snapshot {
	h.t.Helper()
	s, err := h.store.ApplyChange(context.Background(), user, choiceOf(user, p), c)
	if err != nil {
		h.t.Fatalf("ApplyChange %+v: %v", c, err)
	}
	return s
}

func (h *harness) rejectChange(user string, p *quota.Plan, c quota.Change, want error) {
	h.t.Helper()
	if _, err := h.store.ApplyChange(context.Background(), user, choiceOf(user, p), c); !errors.Is(err, want) {
		h.t.Errorf("ApplyChange %+v: error %v, want %v", c, err, want)
	}
}

func (h *harness) auditLog(user string) []quota.AuditEntry {
	h.t.Helper()
	entries, err := h.store.AuditLog(context.Background(), user)
	if err != nil {
		h.t.Fatalf("AuditLog: %v", err)
	}
	return entries
}

// admitConcurrently is admit for use in goroutines of a test, where Fatal must not be called.
func (h *harness) admitConcurrently(user string, p *quota.Plan) quota.Reservation {
	d, err := h.store.Reserve(context.Background(), request(user, "analyze", p))
	if err != nil || !d.Admitted {
		h.t.Errorf("admitted %v, error %v", d.Admitted, err)
	}
	return d.Reservation
}

// passObserved makes a request that is admitted and that all of wouldBlock would have refused.
func (h *harness) passObserved(r quota.Request, wouldBlock ...string) quota.Reservation {
	h.t.Helper()
	d := h.reserve(r)
	if !d.Admitted || d.AttemptWait != 0 || !slices.Equal(d.WouldBlock, wouldBlock) {
		h.t.Fatalf("admitted %v, next attempt in %v, would block %q at %s; want true, 0s, %q",
			d.Admitted, d.AttemptWait, d.WouldBlock, numbers(d.Snapshot), wouldBlock)
	}
	return d.Reservation
}

// numbers shows a snapshot as "used+held" of the total and of each limit, the latter followed
// by "/granted" if anything was granted. The counts of analyze, image-analysis and report come
// last, in brackets; then what they cost, if that is reported.
func numbers(s quota.Snapshot) string {
	text := fmt.Sprintf("%d+%d", s.Total.Used, s.Total.Held)
	for _, c := range s.Limits {
		text += fmt.Sprintf(" %d+%d", c.Used, c.Held)
		if c.Granted != 0 {
			text += fmt.Sprintf("/%d", c.Granted)
		}
	}
	text += fmt.Sprint(" ", s.Endpoints)
	if s.EndpointUnits != nil {
		text += fmt.Sprint(" units ", s.EndpointUnits)
	}
	return text
}

// A Clock stands still until a test moves it. A store whose clock goes on by itself may be
// ahead of it by the real time since, and may round it. The suite stays 5 seconds away from
// every instant at which something changes.
type Clock struct{ at, offset atomic.Int64 } // ns

// NewClock returns a clock that stands at t.
func NewClock(t time.Time) *Clock {
	c := new(Clock)
	c.Set(t)
	return c
}

// Now is the clock's time.
func (c *Clock) Now() time.Time { return time.Unix(0, c.at.Load()).UTC() }

// Offset is what a store adds to the real time so that its clock goes on from where this one
// was set. It changes only with Set.
func (c *Clock) Offset() time.Duration { return time.Duration(c.offset.Load()) }

// Set moves the clock to t.
func (c *Clock) Set(t time.Time) {
	c.at.Store(t.UnixNano())
	c.offset.Store(int64(time.Until(t)))
}

// Advance moves the clock on.
func (c *Clock) Advance(d time.Duration) { c.Set(c.Now().Add(d)) }

var endpoints = []string{"analyze", "image-analysis", "report"}

// NewPlan makes a plan with the suite's endpoints and a warning from 80 percent.
func NewPlan(name string, limits ...quota.Limit) *quota.Plan {
	return NewAttemptLimitedPlan(name, quota.AttemptLimit{}, limits...)
}

// NewAttemptLimitedPlan is NewPlan with an attempt limit.
func NewAttemptLimitedPlan(name string, attempts quota.AttemptLimit, limits ...quota.Limit) *quota.Plan {
	return mustPlan(quota.PlanOptions{Name: name, Limits: limits, Attempts: attempts})
}

// NewObservingPlan is NewAttemptLimitedPlan for a plan in observe mode.
func NewObservingPlan(name string, attempts quota.AttemptLimit, limits ...quota.Limit) *quota.Plan {
	return mustPlan(quota.PlanOptions{Name: name, Limits: limits, Attempts: attempts, Observe: true})
}

// NewWeightedPlan is NewPlan where requests may cost several units.
func NewWeightedPlan(name string, limits ...quota.Limit) *quota.Plan {
	return mustPlan(quota.PlanOptions{Name: name, Limits: limits, Costs: weights})
}

var weights = map[string]quota.Cost{"analyze": {Min: 0, Max: 3}}

// NewNotifyingPlan is NewWeightedPlan with thresholds, see quota.Crossing.
func NewNotifyingPlan(name string, notifyAt []int, limits ...quota.Limit) *quota.Plan {
	return mustPlan(quota.PlanOptions{Name: name, Limits: limits, NotifyAt: notifyAt, Costs: weights})
}

// NewConcurrentPlan is NewPlan with a bound of the requests that run at once.
func NewConcurrentPlan(name string, requests int64, limits ...quota.Limit) *quota.Plan {
	return mustPlan(quota.PlanOptions{Name: name, Limits: limits, Concurrent: quota.ConcurrencyLimit{Requests: requests}})
}

// mustPlan makes a plan with the suite's endpoints and a warning from 80 percent.
func mustPlan(o quota.PlanOptions) *quota.Plan {
	o.Endpoints, o.WarnAt = endpoints, 80
	p, err := quota.NewPlan(o)
	if err != nil {
		panic(err)
	}
	return p
}

var hundredAMonth = NewPlan("free", quota.Limit{Amount: 100, Period: quota.Month})

// threeAnHour allows three attempts at once, and one more every 20 minutes.
var threeAnHour = quota.AttemptLimit{Requests: 3, Per: time.Hour}

// allPeriodsPlan has a limit in every period.
func allPeriodsPlan(requests int64) *quota.Plan {
	var limits []quota.Limit
	for _, period := range quota.Periods() {
		limits = append(limits, quota.Limit{Amount: requests, Period: period})
	}
	return NewPlan("all periods", limits...)
}
