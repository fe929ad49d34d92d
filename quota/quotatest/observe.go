package quotatest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
)

// NewObservingPlan is NewBoundPlan of a plan that blocks nothing.
func NewObservingPlan(name string, attempts quota.AttemptLimit, limits ...quota.Limit) *quota.Plan {
	p, err := quota.NewPlan(quota.PlanOptions{Name: name, Limits: limits, Attempts: attempts, Observe: true, Endpoints: endpoints, WarnAt: 80})
	if err != nil {
		panic(err)
	}
	return p
}

// observed is a request that asks to be observed.
func observedRequest(user, endpoint string, p *quota.Plan) quota.Request {
	r := request(user, endpoint, p)
	r.Observe = true
	return r
}

// pass makes a request that is admitted, and that all of wouldBlock would have refused.
func (b *harness) passObserved(r quota.Request, wouldBlock ...string) quota.Reservation {
	b.t.Helper()
	d := b.reserve(r)
	if !d.Admitted || d.AttemptWait != 0 || !slices.Equal(d.WouldBlock, wouldBlock) {
		b.t.Fatalf("admitted %v, attempts again in %v, would be blocked by %q at %s; want true, 0s, %q",
			d.Admitted, d.AttemptWait, d.WouldBlock, numbers(d.Snapshot), wouldBlock)
	}
	return d.Reservation
}

// An observing plan counts in every limit as another does, and refuses nothing.
func testObservingPlan(t *testing.T, b *harness) {
	limits := []quota.Limit{{Requests: 4, Period: quota.Month}, {Requests: 2, Period: quota.Minute}, {Period: quota.Day, Endpoint: "report"}}
	p, enforcing := NewObservingPlan("p", quota.AttemptLimit{}, limits...), NewPlan("p", limits...)
	use := func(endpoint string, wouldBlock ...string) {
		t.Helper()
		b.commit(b.passObserved(request("u", endpoint, p), wouldBlock...))
	}
	use("analyze")
	held := b.passObserved(request("u", "analyze", p)) // its unit is taken, as a counted one is
	use("analyze", "minute")
	b.wantState("u", p, "2+1 2+1 2+1 0+0 [2 0 0]")
	use("report", "minute", "report-day")
	use("image-analysis", "month", "minute")
	b.wantSnapshot(b.refuse("u", "analyze", enforcing), "4+1 4+1 4+1 1+0 [2 1 1]")
	b.wantSnapshot(b.release(held), "4+0 4+0 4+0 1+0 [2 1 1]")
	b.clock.Advance(time.Minute)
	use("analyze", "month")
	b.refuse("u", "analyze", enforcing) // at once
	b.wantState("u", enforcing, "5+0 5+0 1+0 1+0 [3 1 1]")

	s, err := b.store.Read(context.Background(), "u", p.OnlyChoice())
	if err != nil {
		t.Fatal(err)
	}
	if u := s.Usage("u"); !u.Allowed || u.Status != quota.StatusBlocked || *u.Remaining != 0 || !*u.Endpoints["report"].Allowed {
		t.Errorf("usage of an observing plan: allowed %v, %s, remaining %d, report allowed %v; want true, blocked, 0, true",
			u.Allowed, u.Status, *u.Remaining, *u.Endpoints["report"].Allowed)
	}
}

// One request is observed, the next one on the same plan is not.
func testObservedRequest(t *testing.T, b *harness) {
	p := NewAttemptLimitedPlan("p", threeAnHour, quota.Limit{Requests: 2, Period: quota.Month})
	b.commit(b.passObserved(observedRequest("u", "report", p)))
	b.use(1, "u", "analyze", p)
	b.refuse("u", "analyze", p)
	b.commit(b.passObserved(observedRequest("u", "report", p), "month", quota.AttemptsName))
	b.wantSnapshot(b.throttle("u", p, 20*time.Minute), "3+0 3+0 [1 0 2]")
	again := observedRequest("u", "report", p)
	b.passObserved(again, "month", quota.AttemptsName)
	b.passObserved(again, "month") // held once; it was no attempt
	b.wantState("u", p, "3+1 3+1 [1 0 2]")
}

func testGrantInObserveMode(t *testing.T, b *harness) {
	p := NewObservingPlan("p", quota.AttemptLimit{}, quota.Limit{Requests: 1, Period: quota.Month})
	b.passObserved(request("u", "analyze", p))
	b.passObserved(request("u", "analyze", p), "month")
	if _, err := b.store.ApplyChange(context.Background(), "u", p.OnlyChoice(), quota.Change{Action: quota.ActionGrant, Requests: 2}); err != nil {
		t.Fatal(err)
	}
	b.passObserved(request("u", "analyze", p))
	b.passObserved(request("u", "analyze", p), "month")
}

// What passes an empty bucket takes nothing from it: as many would be blocked as if they
// were.
func testAttemptsInObserveMode(t *testing.T, b *harness) {
	p, enforcing := NewObservingPlan("p", threeAnHour), NewAttemptLimitedPlan("p", threeAnHour)
	for range 3 {
		b.release(b.passObserved(request("u", "analyze", p)))
	}
	for range 5 {
		b.commit(b.passObserved(request("u", "analyze", p), quota.AttemptsName))
	}
	b.wantSnapshot(b.throttle("u", enforcing, 20*time.Minute), "5+0 [5 0 0]")
	b.clock.Advance(20*time.Minute + 5*time.Second)
	b.commit(b.passObserved(request("u", "analyze", p)))
	b.commit(b.passObserved(request("u", "analyze", p), quota.AttemptsName))
	b.throttle("u", enforcing, 20*time.Minute-5*time.Second)
}

// Of 150 at once on a limit of 100 all pass and 50 are reported. Then it is enforced.
func testConcurrentReservesInObserveMode(t *testing.T, b *harness) {
	p := NewObservingPlan("free", quota.AttemptLimit{}, quota.Limit{Requests: 100, Period: quota.Month})
	var wouldBlock atomic.Int64
	var wait sync.WaitGroup
	for range 150 {
		wait.Go(func() {
			d, err := b.store.Reserve(context.Background(), request("u", "analyze", p))
			if err != nil || !d.Admitted {
				t.Errorf("admitted %v, error %v", d.Admitted, err)
				return
			}
			if fmt.Sprint(d.WouldBlock) == "[month]" {
				wouldBlock.Add(1)
			}
			b.commit(d.Reservation)
		})
	}
	wait.Wait()
	if n := wouldBlock.Load(); n != 50 {
		t.Errorf("%d of 150 would have been blocked, want 50", n)
	}
	b.wantState("u", p, "150+0 150+0 [150 0 0]")
	b.wantSnapshot(b.refuse("u", "analyze", hundredAMonth), "150+0 150+0 [150 0 0]")
}
