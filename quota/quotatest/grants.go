package quotatest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"metergate/quota"
)

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
