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

func testReset(t *testing.T, h *harness) {
	p := allPeriodsPlan(10)
	h.applyChange("u", p, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"removed": 2}})
	h.use(2, "u", "analyze", p)
	h.use(1, "v", "analyze", p)
	yesterday := h.clock.Now()
	h.clock.Advance(24 * time.Hour)
	h.use(3, "u", "analyze", p)
	held := h.admit("u", "report", p)
	h.applyChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 4, Period: quota.Day})
	// The total of the minute, and the limits of minute, hour, day, week, month, year and ever.
	h.wantState("u", p, "3+1 3+1 3+1 3+1/4 5+1 7+1 5+1 5+1 [3 0 0]")
	h.wantSnapshot(h.applyChange("u", p, quota.Change{Action: quota.ActionReset}), "0+1 0+1 0+1 0+1/4 0+1 0+1 0+1 0+1 [0 0 0]")
	h.wantSnapshot(h.applyChange("u", p, quota.Change{Action: quota.ActionReset}), "0+1 0+1 0+1 0+1/4 0+1 0+1 0+1 0+1 [0 0 0]")
	h.wantSnapshot(h.commit(held), "1+0 1+0 1+0 1+0/4 1+0 1+0 1+0 1+0 [0 0 1]")
	daily := NewPlan("daily", quota.Limit{Amount: 5, Period: quota.Day})
	if s, err := h.store.ReadAt(context.Background(), "u", daily.OnlyChoice(), yesterday); err != nil {
		t.Error(err)
	} else {
		h.wantSnapshot(s, "2+0 2+0 [2 0 0]")
	}
	h.wantState("v", p, "0+0 0+0 0+0 0+0 1+0 1+0 1+0 1+0 [0 0 0]")
}

// Only requests that are committed after the reset are counted. Holds stay.
func testResetAmongRequests(t *testing.T, h *harness) {
	p := NewPlan("p", quota.Limit{Amount: 1000, Period: quota.Month})
	for range 3 {
		h.admit("u", "analyze", p)
	}
	var phase atomic.Int32 // 1: the reset has begun, 2: it is done
	// after counts the commits that began after the reset, atMost those that ended after it had
	// begun.
	var after, atMost atomic.Int64
	var wait sync.WaitGroup
	var committed atomic.Int64
	half := make(chan struct{})
	for range 100 {
		wait.Go(func() {
			r := h.admitConcurrently("u", p)
			before := phase.Load()
			if _, err := h.store.Commit(context.Background(), &r); err != nil {
				h.t.Errorf("Commit: %v", err)
			}
			if before == 2 {
				after.Add(1)
			}
			if phase.Load() > 0 {
				atMost.Add(1)
			}
			if committed.Add(1) == 50 {
				close(half)
			}
		})
	}
	<-half
	phase.Store(1)
	_, err := h.store.ApplyChange(context.Background(), "u", p.OnlyChoice(), quota.Change{Action: quota.ActionReset})
	phase.Store(2)
	if err != nil {
		t.Fatal(err)
	}
	wait.Wait()
	s, err := h.store.Read(context.Background(), "u", p.OnlyChoice())
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Total.Used; n < after.Load() || n > atMost.Load() || s.Total.Held != 3 || s.Limits[0] != s.Total || s.Endpoints[0] != n {
		t.Errorf("state is %s; %d were committed after the reset, %d after or during it, and 3 are held", numbers(s), after.Load(), atMost.Load())
	}
	used := s.Total.Used
	h.use(2, "u", "analyze", p)
	h.wantState("u", p, fmt.Sprintf("%d+3 %d+3 [%d 0 0]", used+2, used+2, used+2))
}

func testSetCounts(t *testing.T, h *harness) {
	p := NewPlan("p", quota.Limit{Amount: 50, Period: quota.Month}, quota.Limit{Amount: 50, Period: quota.Day}, quota.Limit{Amount: 9, Period: quota.Month, Endpoint: "report"})
	h.use(3, "u", "analyze", p)
	h.use(1, "u", "image-analysis", p)
	h.admit("u", "report", p)
	set := quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 40, "report": 9}}
	for range 3 {
		h.wantSnapshot(h.applyChange("u", p, set), "50+1 50+1 4+1 9+1 [40 1 9]")
	}
	h.refuse("u", "analyze", p)
	set.Counts = map[string]int64{"analyze": 0, "report": 8}
	h.wantSnapshot(h.applyChange("u", p, set), "9+1 9+1 4+1 8+1 [0 1 8]")
	h.refuse("u", "report", p) // one is in flight and holds the last unit
	h.use(1, "u", "analyze", p)
	h.wantState("u", p, "10+1 10+1 5+1 8+1 [1 1 8]")
	set.Counts = map[string]int64{"analyze": 0, "report": 0, "image-analysis": 0}
	h.wantSnapshot(h.applyChange("u", p, set), "0+1 0+1 5+1 0+1 [0 0 0]")
	// A window of a period that no request has counted in, for a user who was never seen.
	set = quota.Change{Action: quota.ActionSetCounts, Period: quota.Year, Counts: map[string]int64{"analyze": quota.MaxAmount}}
	yearly := NewPlan("yearly", quota.Limit{Amount: quota.MaxAmount, Period: quota.Year})
	h.applyChange("v", yearly, set)
	h.refuse("v", "analyze", yearly)
	set.Counts = map[string]int64{"report": 1}
	h.rejectChange("v", yearly, set, quota.ErrTooLarge)
	h.wantState("v", yearly, fmt.Sprintf("%[1]d+0 %[1]d+0 [%[1]d 0 0]", int64(quota.MaxAmount)))
}
