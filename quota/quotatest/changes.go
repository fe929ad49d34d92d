package quotatest

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
)

func testChangeIDAppliesOnce(t *testing.T, h *harness) {
	grant := quota.Change{Action: quota.ActionGrant, Requests: 5, ID: `payment "17" /{x}*`, By: "ann", Reason: "paid"}
	h.wantSnapshot(h.applyChange("u", hundredAMonth, grant), "0+0 0+0/5 [0 0 0]")
	grant.By, grant.Reason = "bob", "once more" // By and Reason do not matter
	h.wantSnapshot(h.applyChange("u", hundredAMonth, grant), "0+0 0+0/5 [0 0 0]")
	other := grant
	other.Requests = 6
	h.rejectChange("u", hundredAMonth, other, quota.ErrIDConflict)
	h.rejectChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset, ID: grant.ID}, quota.ErrIDConflict)
	h.wantSnapshot(h.applyChange("v", hundredAMonth, other), "0+0 0+0/6 [0 0 0]")
	// It is recognised even if the plan no longer has the limit.
	s, err := h.store.ApplyChange(context.Background(), "u", NewPlan("unlimited").OnlyChoice(), grant)
	if err != nil {
		t.Errorf("repeated under another plan: %v", err)
	}
	h.wantSnapshot(s, "0+0 [0 0 0]")
	h.clock.Advance(24 * time.Hour)
	h.wantSnapshot(h.applyChange("u", hundredAMonth, grant), "0+0 0+0/5 [0 0 0]")
	h.clock.Advance(20 * time.Second)
	h.wantSnapshot(h.applyChange("u", hundredAMonth, grant), "0+0 0+0/10 [0 0 0]")
	// Many times at once, on all gateways.
	var wait sync.WaitGroup
	grant.ID = "at once"
	for range 20 {
		wait.Go(func() {
			if _, err := h.store.ApplyChange(context.Background(), "u", hundredAMonth.OnlyChoice(), grant); err != nil {
				h.t.Errorf("ApplyChange: %v", err)
			}
		})
	}
	wait.Wait()
	h.wantState("u", hundredAMonth, "0+0 0+0/15 [0 0 0]")
	if entries := h.auditLog("u"); len(entries) != 3 || entries[2].By != "ann" {
		t.Errorf("the audit log is %+v", entries)
	}
}

func testChangeIDsAreBounded(t *testing.T, h *harness) {
	var wait sync.WaitGroup
	grant := quota.Change{Action: quota.ActionGrant, Requests: 1}
	next := make(chan int)
	for range 4 {
		wait.Go(func() {
			for i := range next {
				c := grant
				c.ID = fmt.Sprint("id-", i)
				if _, err := h.store.ApplyChange(context.Background(), "u", hundredAMonth.OnlyChoice(), c); err != nil {
					h.t.Errorf("ApplyChange %d: %v", i, err)
				}
			}
		})
	}
	for i := range quota.MaxChangeIDs {
		next <- i
	}
	close(next)
	wait.Wait()
	last := grant
	last.ID = "one more"
	h.rejectChange("u", hundredAMonth, last, quota.ErrTooManyIDs)
	known := grant
	known.ID = "id-0"
	h.applyChange("u", hundredAMonth, known)
	h.wantSnapshot(h.applyChange("u", hundredAMonth, grant), fmt.Sprintf("0+0 0+0/%d [0 0 0]", quota.MaxChangeIDs+1))
	h.applyChange("v", hundredAMonth, last)
	h.clock.Advance(25 * time.Hour)
	h.wantSnapshot(h.applyChange("u", hundredAMonth, last), fmt.Sprintf("0+0 0+0/%d [0 0 0]", quota.MaxChangeIDs+2))
}

func testAuditLog(t *testing.T, h *harness) {
	if got := h.auditLog("u"); len(got) != 0 {
		t.Errorf("a user who was never seen has %+v", got)
	}
	until := time.Date(2026, 12, 24, 18, 0, 0, 0, time.UTC)
	changes := []quota.Change{
		{Action: quota.ActionGrant, Requests: 5, By: "ann", Reason: "a \"big\" customer, <ü>\\n", ID: "17"},
		{Action: quota.ActionReset},
		{Action: quota.ActionSetPlan, Plan: "pro", Until: until},
		{Action: quota.ActionSetCounts, Period: quota.Year, Counts: map[string]int64{"analyze": 3, "report": 0}},
		{Action: quota.ActionClearPlan, By: strings.Repeat("b", 256), Reason: strings.Repeat("r", 1024), ID: strings.Repeat("~", 256)},
	}
	for _, c := range changes {
		h.applyChange("u", hundredAMonth, c)
		h.clock.Advance(10 * time.Second)
	}
	changes[0].Period = quota.Month // that of the headline limit
	got := h.auditLog("u")
	slices.Reverse(got)
	for i, c := range changes {
		if i >= len(got) {
			t.Fatalf("%d entries, want %d", len(got), len(changes))
		}
		e := got[i]
		if late := e.At.Sub(noon.Add(time.Duration(i) * 10 * time.Second)); late < -time.Millisecond || late > 5*time.Second {
			t.Errorf("entry %d was made at %v", i, e.At)
		}
		sameCounts := maps.Equal(e.Counts, c.Counts)
		e.Counts, c.Counts = nil, nil
		if !e.Until.Equal(c.Until) || !sameCounts {
			t.Errorf("entry %d is %+v, want %+v", i, got[i], changes[i])
		}
		e.Until, c.Until = time.Time{}, time.Time{}
		if fmt.Sprintf("%+v", e.Change) != fmt.Sprintf("%+v", c) {
			t.Errorf("entry %d is %+v, want %+v", i, e.Change, c)
		}
	}
	for i := range quota.MaxAuditEntries + 3 {
		h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset, Reason: fmt.Sprint(i)})
	}
	got = h.auditLog("u")
	if len(got) != quota.MaxAuditEntries || got[0].Reason != fmt.Sprint(quota.MaxAuditEntries+2) || got[quota.MaxAuditEntries-1].Reason != "3" {
		t.Errorf("%d entries, the newest %+v", len(got), got[0])
	}
	h.clock.Advance(keep - time.Hour)
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset, Reason: "later"})
	if got := h.auditLog("u"); len(got) != quota.MaxAuditEntries || got[0].Reason != "later" {
		t.Errorf("%d entries, the newest %+v", len(got), got[0])
	}
	h.clock.Advance(2 * time.Hour)
	h.wantState("u", hundredAMonth, "0+0 0+0 [0 0 0]")
	if got := h.auditLog("u"); len(got) != 1 {
		t.Errorf("%d entries are kept for too long", len(got)-1)
	}
	h.clock.Advance(keep)
	h.wantState("u", hundredAMonth, "0+0 0+0 [0 0 0]")
	if got := h.auditLog("u"); len(got) != 0 {
		t.Errorf("%d entries are kept for ever", len(got))
	}
}

func testInvalidChanges(t *testing.T, h *harness) {
	many := map[string]int64{}
	for i := range quota.MaxCountsPerChange + 1 {
		many[fmt.Sprint("e", i)] = 1
	}
	for _, c := range []quota.Change{
		{},
		{Action: "other"},
		{Action: quota.ActionGrant},
		{Action: quota.ActionGrant, Requests: -1},
		{Action: quota.ActionGrant, Requests: quota.MaxAmount + 1},
		{Action: quota.ActionGrant, Requests: 1, Period: 9},
		{Action: quota.ActionGrant, Requests: 1, Endpoint: "report"},
		{Action: quota.ActionGrant, Requests: 1, Endpoint: "a/b", Period: quota.Day},
		{Action: quota.ActionGrant, Requests: 1, Plan: "pro"},
		{Action: quota.ActionReset, Requests: 1},
		{Action: quota.ActionReset, Period: quota.Day},
		{Action: quota.ActionReset, By: "a\nb"},
		{Action: quota.ActionReset, By: strings.Repeat("b", 257)},
		{Action: quota.ActionReset, Reason: "\x00"},
		{Action: quota.ActionReset, Reason: "\xff"},
		{Action: quota.ActionReset, Reason: strings.Repeat("r", 1025)},
		{Action: quota.ActionReset, ID: "ü"},
		{Action: quota.ActionReset, ID: strings.Repeat("i", 257)},
		{Action: quota.ActionSetPlan},
		{Action: quota.ActionSetPlan, Plan: "a b"},
		{Action: quota.ActionSetPlan, Plan: strings.Repeat("p", 65)},
		{Action: quota.ActionSetPlan, Plan: "pro", Until: time.Unix(0, 0)},
		{Action: quota.ActionSetPlan, Plan: "pro", Until: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)},
		{Action: quota.ActionClearPlan, Plan: "pro"},
		{Action: quota.ActionSetCounts, Period: quota.Day},
		{Action: quota.ActionSetCounts, Counts: map[string]int64{"report": 1}},
		{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"": 1}},
		{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"a b": 1}},
		{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"report": -1}},
		{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"report": quota.MaxAmount + 1}},
		{Action: quota.ActionSetCounts, Period: quota.Day, Counts: many},
	} {
		h.rejectChange("u", hundredAMonth, c, quota.ErrInvalidChange)
	}
	for _, user := range []string{"", "a\x00b", "a\nb", "\xff", strings.Repeat("u", 257)} {
		h.rejectChange(user, hundredAMonth, quota.Change{Action: quota.ActionReset}, quota.ErrInvalidChange)
	}
	if n := len(h.auditLog("u")); n != 0 {
		t.Errorf("%d entries in the audit log", n)
	}
}

func testGrant(t *testing.T, h *harness) {
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 100}})
	h.refuse("u", "analyze", hundredAMonth)
	s := h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionGrant, Requests: 7})
	h.wantSnapshot(s, "100+0 100+0/7 [100 0 0]")
	if u := s.Usage("u"); *u.Limit != 107 || *u.Remaining != 7 || !u.Allowed || u.Limits[0].Limit != 107 {
		t.Errorf("limit %d, remaining %d, allowed %v", *u.Limit, *u.Remaining, u.Allowed)
	}
	if n := h.reserveConcurrently(50, func(r quota.Reservation) { h.commit(r) }); n != 7 {
		t.Errorf("%d of 50 were admitted after a grant of 7", n)
	}
	h.wantSnapshot(h.refuse("u", "analyze", hundredAMonth), "107+0 107+0/7 [107 0 0]")
	// Grants add up, and end with their window.
	h.wantSnapshot(h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionGrant, Requests: 1, Period: quota.Month}), "107+0 107+0/8 [107 0 0]")
	november := h.clock.Now()
	h.clock.Advance(20 * 24 * time.Hour)
	h.wantState("u", hundredAMonth, "0+0 0+0 [0 0 0]")
	if s, err := h.store.ReadAt(context.Background(), "u", hundredAMonth.OnlyChoice(), november); err != nil {
		t.Error(err)
	} else {
		h.wantSnapshot(s, "107+0 107+0/8 [107 0 0]")
	}
}

func testGrantRaisesOneLimit(t *testing.T, h *harness) {
	p := NewPlan("p", quota.Limit{Amount: 3, Period: quota.Month}, quota.Limit{Amount: 1, Period: quota.Day},
		quota.Limit{Amount: 1, Period: quota.Month, Endpoint: "report"})
	h.use(1, "u", "report", p)
	h.refuse("u", "report", p)
	h.applyChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 5, Period: quota.Day})
	h.wantSnapshot(h.refuse("u", "report", p), "1+0 1+0 1+0/5 1+0 [0 0 1]")
	h.wantSnapshot(h.applyChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 1, Period: quota.Month, Endpoint: "report"}),
		"1+0 1+0 1+0/5 1+0/1 [0 0 1]")
	h.use(1, "u", "report", p)
	h.refuse("u", "report", p)
	h.use(1, "u", "analyze", p)
	h.refuse("u", "analyze", p) // because of the month, which was not raised
	// The grant belongs to the limit, whatever the plan.
	q := NewPlan("q", quota.Limit{Amount: 3, Period: quota.Week}, quota.Limit{Amount: 2, Period: quota.Month, Endpoint: "report"})
	h.wantState("u", q, "0+0 0+0 2+0/1 [0 0 0]")
	h.wantState("v", p, "0+0 0+0 0+0 0+0 [0 0 0]")
	h.clock.Advance(24 * time.Hour)
	h.wantState("u", p, "3+0 3+0 0+0 2+0/1 [1 0 2]")
}

func testGrantWithoutLimit(t *testing.T, h *harness) {
	p := NewPlan("p", quota.Limit{Amount: 3, Period: quota.Month, Endpoint: "report"})
	h.rejectChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 5}, quota.ErrNoSuchLimit)
	h.rejectChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 5, Period: quota.Month}, quota.ErrNoSuchLimit)
	h.rejectChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 5, Period: quota.Day, Endpoint: "report"}, quota.ErrNoSuchLimit)
	h.rejectChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 5, Period: quota.Month, Endpoint: "analyze"}, quota.ErrNoSuchLimit)
	most := quota.Change{Action: quota.ActionGrant, Requests: quota.MaxAmount, Period: quota.Month, Endpoint: "report"}
	h.applyChange("u", p, most)
	most.Requests = 1
	h.rejectChange("u", p, most, quota.ErrTooLarge)
	h.wantState("u", p, fmt.Sprintf("0+0 0+0/%d [0 0 0]", int64(quota.MaxAmount)))
	if n := len(h.auditLog("u")); n != 1 {
		t.Errorf("%d entries in the audit log after one change, want 1", n)
	}
}

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
