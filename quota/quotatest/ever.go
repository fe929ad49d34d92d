package quotatest

import (
	"context"
	"testing"
	"time"

	"metergate/quota"
)

// manyYears is longer than any count of another period is kept.
const manyYears = 12 * 365 * 24 * time.Hour

// What is used of a limit per Ever stays used, and what was granted stays granted, however long
// ago.
func testEver(t *testing.T, h *harness) {
	p := NewPlan("p", quota.Limit{Amount: 3, Period: quota.Ever}, quota.Limit{Amount: 2, Period: quota.Minute})
	h.use(2, "u", "analyze", p)
	h.clock.Advance(time.Minute)
	late := h.admit("u", "report", p)
	h.wantSnapshot(h.refuse("u", "analyze", p), "2+1 2+1 0+1 [2 0 0]")
	h.clock.Advance(manyYears)
	h.use(1, "v", "analyze", p) // the store may delete what has ended
	h.wantState("u", p, "2+0 2+0 0+0 [2 0 0]")
	h.use(1, "u", "analyze", p)
	h.refuse("u", "analyze", p)
	h.wantSnapshot(h.commit(late), "4+0 4+0 1+0 [3 0 1]")
	h.wantSnapshot(h.commit(late), "4+0 4+0 1+0 [3 0 1]")

	h.wantSnapshot(h.applyChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 2}), "4+0 4+0/2 1+0 [3 0 1]")
	h.clock.Advance(manyYears)
	h.use(1, "v", "analyze", p)
	h.use(1, "u", "analyze", p)
	h.wantSnapshot(h.refuse("u", "analyze", p), "5+0 5+0/2 1+0 [4 0 1]")
	if s, err := h.store.ReadAt(context.Background(), "u", p.ForPeriod(quota.Ever).OnlyChoice(), time.Unix(0, 0)); err != nil {
		t.Errorf("ReadAt: %v", err)
	} else {
		h.wantSnapshot(s, "5+0 5+0/2 [4 0 1]")
	}
	if got := h.scanUsers(quota.Ever, noon); len(got) != 2 || got["u"].Used != 5 || got["v"].Used != 2 {
		t.Errorf("a scan yields %v", got)
	}
	h.wantSnapshot(h.applyChange("u", p, quota.Change{Action: quota.ActionSetCounts, Period: quota.Ever, Counts: map[string]int64{"report": 0}}), "4+0 4+0/2 1+0 [4 0 0]")
	h.wantSnapshot(h.applyChange("u", p, quota.Change{Action: quota.ActionReset}), "0+0 0+0/2 0+0 [0 0 0]")
}
