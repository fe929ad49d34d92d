package quotatest

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
)

// A plan in observe mode counts in every limit as usual, and refuses nothing.
func testObservingPlan(t *testing.T, h *harness) {
	limits := []quota.Limit{{Amount: 4, Period: quota.Month}, {Amount: 2, Period: quota.Minute}, {Period: quota.Day, Endpoint: "report"}}
	p, enforcing := NewObservingPlan("p", quota.AttemptLimit{}, limits...), NewPlan("p", limits...)
	use := func(endpoint string, wouldBlock ...string) {
		t.Helper()
		h.commit(h.passObserved(request("u", endpoint, p), wouldBlock...))
	}
	use("analyze")
	held := h.passObserved(request("u", "analyze", p)) // its unit is taken, like a counted one
	use("analyze", "minute")
	h.wantState("u", p, "2+1 2+1 2+1 0+0 [2 0 0]")
	use("report", "minute", "report-day")
	use("image-analysis", "month", "minute")
	h.wantSnapshot(h.refuse("u", "analyze", enforcing), "4+1 4+1 4+1 1+0 [2 1 1]")
	h.wantSnapshot(h.release(held), "4+0 4+0 4+0 1+0 [2 1 1]")
	h.clock.Advance(time.Minute)
	use("analyze", "month")
	h.refuse("u", "analyze", enforcing) // the limits apply at once
	h.wantState("u", enforcing, "5+0 5+0 1+0 1+0 [3 1 1]")

	s, err := h.store.Read(context.Background(), "u", p.OnlyChoice())
	if err != nil {
		t.Fatal(err)
	}
	if u := s.Usage("u"); !u.Allowed || u.Status != quota.StatusBlocked || *u.Remaining != 0 || !*u.Endpoints["report"].Allowed {
		t.Errorf("usage of a plan in observe mode: allowed %v, %s, remaining %d, report allowed %v; want true, blocked, 0, true",
			u.Allowed, u.Status, *u.Remaining, *u.Endpoints["report"].Allowed)
	}
}

// One request is in observe mode, the next one under the same plan is not.
func testObservedRequest(t *testing.T, h *harness) {
	p := NewAttemptLimitedPlan("p", threeAnHour, quota.Limit{Amount: 2, Period: quota.Month})
	h.commit(h.passObserved(observedRequest("u", "report", p)))
	h.use(1, "u", "analyze", p)
	h.refuse("u", "analyze", p)
	h.commit(h.passObserved(observedRequest("u", "report", p), "month", quota.AttemptsName))
	h.wantSnapshot(h.throttle("u", p, 20*time.Minute), "3+0 3+0 [1 0 2]")
	again := observedRequest("u", "report", p)
	h.passObserved(again, "month", quota.AttemptsName)
	h.passObserved(again, "month") // held once, and not another attempt
	h.wantState("u", p, "3+1 3+1 [1 0 2]")
}

func testGrantInObserveMode(t *testing.T, h *harness) {
	p := NewObservingPlan("p", quota.AttemptLimit{}, quota.Limit{Amount: 1, Period: quota.Month})
	h.passObserved(request("u", "analyze", p))
	h.passObserved(request("u", "analyze", p), "month")
	if _, err := h.store.ApplyChange(context.Background(), "u", p.OnlyChoice(), quota.Change{Action: quota.ActionGrant, Requests: 2}); err != nil {
		t.Fatal(err)
	}
	h.passObserved(request("u", "analyze", p))
	h.passObserved(request("u", "analyze", p), "month")
}

// A request that passes an empty bucket takes nothing from it, so that the numbers match what
// enforcement would do.
func testAttemptsInObserveMode(t *testing.T, h *harness) {
	p, enforcing := NewObservingPlan("p", threeAnHour), NewAttemptLimitedPlan("p", threeAnHour)
	for range 3 {
		h.release(h.passObserved(request("u", "analyze", p)))
	}
	for range 5 {
		h.commit(h.passObserved(request("u", "analyze", p), quota.AttemptsName))
	}
	h.wantSnapshot(h.throttle("u", enforcing, 20*time.Minute), "5+0 [5 0 0]")
	h.clock.Advance(20*time.Minute + 5*time.Second)
	h.commit(h.passObserved(request("u", "analyze", p)))
	h.commit(h.passObserved(request("u", "analyze", p), quota.AttemptsName))
	h.throttle("u", enforcing, 20*time.Minute-5*time.Second)
}

// Of 150 requests at once under a limit of 100, all pass and 50 are reported. Then the limit is
// enforced.
func testConcurrentReservesInObserveMode(t *testing.T, h *harness) {
	p := NewObservingPlan("free", quota.AttemptLimit{}, quota.Limit{Amount: 100, Period: quota.Month})
	var wouldBlock atomic.Int64
	var wait sync.WaitGroup
	for range 150 {
		wait.Go(func() {
			d, err := h.store.Reserve(context.Background(), request("u", "analyze", p))
			if err != nil || !d.Admitted {
				t.Errorf("admitted %v, error %v", d.Admitted, err)
				return
			}
			if fmt.Sprint(d.WouldBlock) == "[month]" {
				wouldBlock.Add(1)
			}
			h.commit(d.Reservation)
		})
	}
	wait.Wait()
	if n := wouldBlock.Load(); n != 50 {
		t.Errorf("%d of 150 are reported, want 50", n)
	}
	h.wantState("u", p, "150+0 150+0 [150 0 0]")
	h.wantSnapshot(h.refuse("u", "analyze", hundredAMonth), "150+0 150+0 [150 0 0]")
}
