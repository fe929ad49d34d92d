package quotatest

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
)

func testCommit(t *testing.T, h *harness) {
	h.wantState("u", hundredAMonth, "0+0 0+0 [0 0 0]")
	r := h.admit("u", "analyze", hundredAMonth)
	h.wantState("u", hundredAMonth, "0+1 0+1 [0 0 0]")
	h.wantSnapshot(h.commit(r), "1+0 1+0 [1 0 0]")
	h.wantState("u", hundredAMonth, "1+0 1+0 [1 0 0]")
	h.use(2, "u", "image-analysis", hundredAMonth)
	h.wantState("u", hundredAMonth, "3+0 3+0 [1 2 0]")

	s, _ := h.store.Read(context.Background(), "u", hundredAMonth.OnlyChoice())
	if late := s.At.Sub(h.clock.Now()); late < 0 || late > 5*time.Second {
		t.Errorf("the snapshot is of %v, want %v", s.At, h.clock.Now())
	}
	start, end := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 12, 1, 0, 0, 0, 0, time.UTC)
	if w := s.Total.Window; !w.Start.Equal(start) || !w.End.Equal(end) {
		t.Errorf("the total's window is %v to %v, want %v to %v", w.Start, w.End, start, end)
	}
}

func testRelease(t *testing.T, h *harness) {
	one := NewPlan("one", quota.Limit{Amount: 1, Period: quota.Month})
	r := h.admit("u", "analyze", one)
	h.refuse("u", "analyze", one)
	h.wantSnapshot(h.release(r), "0+0 0+0 [0 0 0]")
	h.commit(h.admit("u", "analyze", one))
	h.refuse("u", "analyze", one)
	h.wantState("u", one, "1+0 1+0 [1 0 0]")
}

func testRefusal(t *testing.T, h *harness) {
	p := NewPlan("p", quota.Limit{Amount: 10, Period: quota.Month},
		quota.Limit{Amount: 1, Period: quota.Day}, quota.Limit{Amount: 5, Period: quota.Day, Endpoint: "report"})
	h.use(1, "u", "report", p)
	for range 3 {
		h.wantSnapshot(h.refuse("u", "report", p), "1+0 1+0 1+0 1+0 [0 0 1]")
	}
	h.wantState("u", p, "1+0 1+0 1+0 1+0 [0 0 1]")
}

func testRepeatedCalls(t *testing.T, h *harness) {
	req := request("u", "analyze", hundredAMonth)
	h.reserve(req)
	r := h.reserve(req).Reservation
	h.wantState("u", hundredAMonth, "0+1 0+1 [0 0 0]")
	for range 3 {
		h.wantSnapshot(h.commit(r), "1+0 1+0 [1 0 0]")
	}
	h.wantSnapshot(h.release(r), "1+0 1+0 [1 0 0]")

	r = h.admit("u", "analyze", hundredAMonth)
	for range 2 {
		h.wantSnapshot(h.release(r), "1+0 1+0 [1 0 0]")
	}
	h.wantSnapshot(h.commit(r), "1+0 1+0 [1 0 0]")
}

// A caller that gives up waiting for a reserve releases it by its ID. The reserve may still be on
// its way.
func testReleaseOvertakesReserve(t *testing.T, h *harness) {
	req := request("u", "analyze", hundredAMonth)
	cal := quota.NewCalendar(nil)
	h.release(quota.Reservation{Request: req, Windows: cal.WindowsAt(hundredAMonth.Periods(), h.clock.Now())})
	d, err := h.store.Reserve(context.Background(), req)
	if !errors.Is(err, quota.ErrSettled) || d.Admitted {
		t.Errorf("reserving a released ID: admitted %v, error %v; want false, %v", d.Admitted, err, quota.ErrSettled)
	}
	h.wantState("u", hundredAMonth, "0+0 0+0 [0 0 0]")
}

func testLeaseEndsHold(t *testing.T, h *harness) {
	one := NewPlan("one", quota.Limit{Amount: 1, Period: quota.Month})
	h.admit("u", "analyze", one)
	h.clock.Advance(120 * time.Second)
	h.wantSnapshot(h.refuse("u", "analyze", one), "0+1 0+1 [0 0 0]")
	h.clock.Advance(15 * time.Second)
	h.wantState("u", one, "0+0 0+0 [0 0 0]")
	h.admit("u", "analyze", one)
}

func testLateCommit(t *testing.T, h *harness) {
	r := h.admit("u", "analyze", hundredAMonth)
	h.clock.Advance(5 * time.Minute)
	h.wantState("u", hundredAMonth, "0+0 0+0 [0 0 0]")
	h.wantSnapshot(h.commit(r), "1+0 1+0 [1 0 0]")
	h.wantSnapshot(h.commit(r), "1+0 1+0 [1 0 0]")
}

// Forget changes no number.
func testForget(t *testing.T, h *harness) {
	counted, released := h.admit("u", "analyze", hundredAMonth), h.admit("u", "report", hundredAMonth)
	held := h.admit("u", "analyze", hundredAMonth)
	h.commit(counted)
	h.release(released)
	h.store.Forget(&counted)
	h.store.Forget(&released)
	h.wantState("u", hundredAMonth, "1+1 1+1 [1 0 0]")
	h.wantSnapshot(h.commit(held), "2+0 2+0 [2 0 0]")
}

func testConcurrentReserves(t *testing.T, h *harness) {
	admitted := h.reserveConcurrently(300, func(r quota.Reservation) { h.commit(r) })
	if admitted != 100 {
		t.Errorf("%d of 300 were admitted, want 100", admitted)
	}
	h.wantState("u", hundredAMonth, "100+0 100+0 [100 0 0]")
}

func testConcurrentReleases(t *testing.T, h *harness) {
	var n atomic.Int64
	for range 10 {
		h.reserveConcurrently(50, func(r quota.Reservation) {
			if n.Add(1)%2 == 0 {
				h.commit(r)
			} else {
				h.release(r)
			}
		})
	}
	s, _ := h.store.Read(context.Background(), "u", hundredAMonth.OnlyChoice())
	if s.Total.Held != 0 || s.Total.Used > 100 || s.Total.Used > n.Load()/2 {
		t.Errorf("state is %s after %d requests of which every other one was committed", numbers(s), n.Load())
	}
	h.use(int(100-s.Total.Used), "u", "analyze", hundredAMonth)
	h.refuse("u", "analyze", hundredAMonth)
}
