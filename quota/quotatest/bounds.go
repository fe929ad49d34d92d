package quotatest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
)

func testAttemptsAreBounded(t *testing.T, h *harness) {
	p := NewAttemptLimitedPlan("p", threeAnHour, quota.Limit{Amount: 10, Period: quota.Month})
	h.use(1, "u", "analyze", p)
	h.release(h.admit("u", "report", p))
	held := h.admit("u", "analyze", p)
	for range 3 {
		h.wantSnapshot(h.throttle("u", p, 20*time.Minute), "1+1 1+1 [1 0 0]")
	}
	h.wantState("u", p, "1+1 1+1 [1 0 0]")
	h.wantSnapshot(h.release(held), "1+0 1+0 [1 0 0]")
	h.throttle("u", p, 20*time.Minute) // a release gives no attempt back
	h.use(3, "v", "analyze", p)        // another user has a bucket of their own
}

func testLimitRefusesAttempt(t *testing.T, h *harness) {
	p := NewAttemptLimitedPlan("p", threeAnHour, quota.Limit{Amount: 1, Period: quota.Month})
	h.use(1, "u", "analyze", p)
	h.refuse("u", "analyze", p)
	h.refuse("u", "analyze", p)
	h.wantSnapshot(h.throttle("u", p, 20*time.Minute), "1+0 1+0 [1 0 0]")
}

func testRepeatedAttempt(t *testing.T, h *harness) {
	p := NewAttemptLimitedPlan("p", threeAnHour)
	first := request("u", "analyze", p)
	for range 5 {
		if d := h.reserve(first); !d.Admitted {
			t.Fatalf("refused for %v when repeated", d.AttemptWait)
		}
	}
	h.admit("u", "analyze", p)
	h.admit("u", "analyze", p)
	h.throttle("u", p, 20*time.Minute)
	// It is held, and can be settled, whether attempts are left or not.
	r := h.reserve(first).Reservation
	h.wantSnapshot(h.commit(r), "1+2 [1 0 0]")
	if d, err := h.store.Reserve(context.Background(), first); d.Admitted || !errors.Is(err, quota.ErrSettled) {
		t.Errorf("reserving a counted request: admitted %v, error %v; want false, %v", d.Admitted, err, quota.ErrSettled)
	}
}

func testConcurrentAttempts(t *testing.T, h *harness) {
	p := NewAttemptLimitedPlan("p", quota.AttemptLimit{Requests: 40, Per: 24 * time.Hour}, quota.Limit{Amount: 25, Period: quota.Month})
	var admitted, refused, throttled atomic.Int64
	var wait sync.WaitGroup
	for range 200 {
		wait.Go(func() {
			switch d, err := h.store.Reserve(context.Background(), request("u", "analyze", p)); {
			case err != nil:
				t.Errorf("Reserve: %v", err)
			case d.Admitted:
				admitted.Add(1)
			case d.AttemptWait > 0:
				throttled.Add(1)
			default:
				refused.Add(1)
			}
		})
	}
	wait.Wait()
	if admitted.Load() != 25 || refused.Load() != 15 || throttled.Load() != 160 {
		t.Errorf("of 200 at once, %d were admitted, %d refused by the limit, %d by the attempt limit; want 25, 15, 160",
			admitted.Load(), refused.Load(), throttled.Load())
	}
	h.wantState("u", p, "0+25 0+25 [0 0 0]")
}

func testAttemptsRefill(t *testing.T, h *harness) {
	p := NewAttemptLimitedPlan("p", threeAnHour)
	h.use(3, "u", "analyze", p)
	h.clock.Advance(10 * time.Minute)
	h.throttle("u", p, 10*time.Minute)
	h.clock.Advance(10*time.Minute + 5*time.Second)
	h.use(1, "u", "analyze", p)
	h.throttle("u", p, 20*time.Minute-5*time.Second)
	h.clock.Advance(41 * time.Minute)
	h.use(2, "u", "analyze", p)
	h.throttle("u", p, 19*time.Minute-5*time.Second)
	h.clock.Advance(48 * time.Hour) // full, and not more than full
	h.use(3, "u", "analyze", p)
	h.throttle("u", p, 20*time.Minute)
}

func testAttemptLimitChange(t *testing.T, h *harness) {
	free, slow := NewPlan("free"), NewAttemptLimitedPlan("slow", quota.AttemptLimit{Requests: 2, Per: 24 * time.Hour})
	quick := NewAttemptLimitedPlan("quick", quota.AttemptLimit{Requests: 2, Per: 10 * time.Minute})
	h.use(5, "u", "analyze", free) // neither bounded nor remembered
	h.use(2, "u", "analyze", slow)
	h.throttle("u", slow, 12*time.Hour)
	h.use(5, "u", "analyze", free)
	// Each attempt limit has a bucket of its own. The slow one does not hold up the quick one,
	// and the quick one does not fill the slow one, however often a user changes between them.
	const round = 10*time.Minute + 5*time.Second
	for i := range time.Duration(3) {
		h.use(2, "u", "analyze", quick)
		h.throttle("u", quick, 5*time.Minute)
		h.clock.Advance(round)
		h.throttle("u", slow, 12*time.Hour-(i+1)*round)
	}
	h.clock.Advance(12*time.Hour - 3*round + 5*time.Second)
	h.use(1, "u", "analyze", slow)
	h.throttle("u", slow, 12*time.Hour-5*time.Second)
}

// leave gives a place back and waits until the store would give it to the next one.
func (h *harness) leave(r quota.Reservation, p *quota.Plan) quota.Reservation {
	h.t.Helper()
	changed := make(chan struct{}, 1)
	stop := h.store.Watch(r.User, changed)
	defer stop()
	h.store.Leave(&r)
	for deadline := time.Now().Add(30 * time.Second); ; {
		d := h.reserve(request(r.User, "report", p))
		if d.Admitted {
			return d.Reservation
		}
		if !d.NoPlace || time.Now().After(deadline) {
			h.t.Fatalf("no place after one was given back: %+v", d)
		}
		select {
		case <-changed:
		case <-time.After(10 * time.Millisecond):
		}
	}
}

func testConcurrency(t *testing.T, h *harness) {
	p := NewConcurrentPlan("two", 2, quota.Limit{Amount: 9, Period: quota.Month})
	a, b := h.admit("u", "report", p), h.admit("u", "report", p)
	wantNoPlace := func() {
		t.Helper()
		if d := h.reserve(request("u", "report", p)); d.Admitted || !d.NoPlace || d.AttemptWait != 0 {
			t.Fatalf("%+v, want a refusal for want of a place", d)
		}
	}
	wantNoPlace()
	h.wantState("u", p, "0+2 0+2 [0 0 0]")
	h.admit("v", "report", p)
	for user, want := range map[string]int64{"u": 2, "v": 1, "nobody": 0} {
		if n, err := h.store.Running(context.Background(), user); n != want || err != nil {
			t.Errorf("%d requests of %s run, error %v; want %d", n, user, err, want)
		}
	}
	// The place outlives the settlement.
	h.commit(a)
	wantNoPlace()
	h.release(b)
	wantNoPlace()
	c := h.leave(a, p)
	wantNoPlace()
	h.store.Leave(&a) // sent twice, it gives back one place
	wantNoPlace()
	d := h.reserve(c.Request)
	if !d.Admitted {
		t.Errorf("the reservation is repeated: %+v", d)
	}
	wantNoPlace()
	// In observe mode a request without a place is admitted.
	h.release(h.passObserved(observedRequest("u", "report", p), "concurrent"))

	full := NewConcurrentPlan("full", 1, quota.Limit{Amount: 0, Period: quota.Month})
	if d := h.reserve(request("w", "report", full)); d.Admitted || d.NoPlace {
		t.Errorf("%+v, want a refusal by the limit", d)
	}
}

// testConcurrencyIsExact: never more than the bound run at once, however many try.
func testConcurrencyIsExact(t *testing.T, h *harness) {
	p := NewConcurrentPlan("three", 3)
	var wg sync.WaitGroup
	var mu sync.Mutex
	running, most, served := 0, 0, 0
	for range 40 {
		wg.Go(func() {
			r := request("u", "report", p)
			changed := make(chan struct{}, 1)
			defer h.store.Watch("u", changed)()
			for {
				d, err := h.store.Reserve(context.Background(), r)
				if err != nil {
					h.t.Errorf("Reserve: %v", err)
					return
				}
				if d.Admitted {
					mu.Lock()
					running++
					most, served = max(most, running), served+1
					mu.Unlock()
					h.commit(d.Reservation)
					mu.Lock()
					running--
					mu.Unlock()
					h.store.Leave(&d.Reservation)
					return
				}
				select {
				case <-changed:
				case <-time.After(20 * time.Millisecond):
				}
				r.Waited = true
			}
		})
	}
	wg.Wait()
	if most > 3 || served != 40 {
		t.Errorf("%d ran at once, %d were served; want at most 3, and 40", most, served)
	}
}

// A request that has waited takes no second token.
func testWaitedRequestTakesNoToken(t *testing.T, h *harness) {
	p := NewAttemptLimitedPlan("p", threeAnHour, quota.Limit{Amount: 9, Period: quota.Month})
	r := request("u", "report", p)
	r.Waited = true
	for range 5 {
		h.release(h.reserve(r).Reservation)
		r.ID = quota.NewID()
	}
	for range 3 {
		h.admit("u", "report", p)
	}
	h.throttle("u", p, 20*time.Minute)
}
