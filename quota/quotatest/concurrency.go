package quotatest

import (
	"context"
	"sync"
	"testing"
	"time"

	"metergate/quota"
)

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
