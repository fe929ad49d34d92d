package quotatest

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"metergate/quota"
)

func testCountBelongsToWindowOfReserve(t *testing.T, h *harness) {
	p := NewPlan("p", quota.Limit{Amount: 2, Period: quota.Month}, quota.Limit{Amount: 5, Period: quota.Year})
	h.clock.Set(time.Date(2026, 11, 30, 23, 59, 50, 0, time.UTC))
	november := h.admit("u", "analyze", p)
	h.use(1, "u", "report", p)
	h.refuse("u", "analyze", p)
	h.clock.Advance(20 * time.Second)
	h.wantState("u", p, "0+0 0+0 1+1 [0 0 0]")
	h.wantSnapshot(h.commit(november), "0+0 0+0 2+0 [0 0 0]")
	h.use(2, "u", "analyze", p)
	h.wantSnapshot(h.refuse("u", "analyze", p), "2+0 2+0 4+0 [2 0 0]")
	h.clock.Set(time.Date(2026, 11, 30, 23, 59, 55, 0, time.UTC)) // look back in time
	h.wantState("u", p, "2+0 2+0 4+0 [1 0 1]")
}

func testMinuteRenews(t *testing.T, h *harness) {
	p := NewPlan("p", quota.Limit{Amount: 100, Period: quota.Month}, quota.Limit{Amount: 2, Period: quota.Minute})
	for minute := range 3 {
		h.use(2, "u", "analyze", p)
		s := h.refuse("u", "analyze", p)
		if s.Limits[1].Used != 2 || s.Total.Used != int64(2*minute+2) {
			t.Errorf("in minute %d the state is %s", minute, numbers(s))
		}
		h.clock.Advance(time.Minute)
	}
}

// A reservation that is settled after the counts of its windows were deleted must not bring them
// back.
func testCommitAfterRetention(t *testing.T, h *harness) {
	p := NewPlan("p", quota.Limit{Amount: 5, Period: quota.Month}, quota.Limit{Amount: 5, Period: quota.Minute})
	r := h.admit("u", "analyze", p)
	h.clock.Advance(25 * time.Hour)
	h.wantSnapshot(h.commit(r), "1+0 1+0 0+0 [1 0 0]")
	h.clock.Set(noon)
	h.wantState("u", p, "1+0 1+0 0+0 [1 0 0]")
}

func testReadAt(t *testing.T, h *harness) {
	at := func(user string, p *quota.Plan, at time.Time, want string) {
		t.Helper()
		s, err := h.store.ReadAt(context.Background(), user, p.OnlyChoice(), at)
		if err != nil {
			t.Errorf("%v: %v", at, err)
			return
		}
		h.wantSnapshot(s, want)
	}
	h.use(2, "u", "analyze", hundredAMonth)
	h.admit("u", "report", hundredAMonth)
	november := h.clock.Now()
	at("u", hundredAMonth, november.AddDate(0, 0, 10), "2+1 2+1 [2 0 0]") // in the same month
	lasting := request("u", "report", hundredAMonth)
	lasting.Lease = 100 * 24 * time.Hour
	h.reserve(lasting)
	h.clock.Set(time.Date(2026, 12, 5, 12, 0, 0, 0, time.UTC))
	h.use(1, "u", "report", hundredAMonth)
	at("u", hundredAMonth, november, "2+0 2+0 [2 0 0]")
	at("u", hundredAMonth, time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC), "2+0 2+0 [2 0 0]")
	at("u", hundredAMonth, time.Date(2026, 10, 31, 0, 0, 0, 0, time.UTC), "0+0 0+0 [0 0 0]")
	at("u", hundredAMonth, h.clock.Now(), "1+0 1+0 [0 0 1]")
	at("nobody", hundredAMonth, november, "0+0 0+0 [0 0 0]")
	for _, wrong := range []time.Time{time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), h.clock.Now().Add(-keep - 63*24*time.Hour)} {
		if _, err := h.store.ReadAt(context.Background(), "u", hundredAMonth.OnlyChoice(), wrong); !errors.Is(err, quota.ErrNotKept) {
			t.Errorf("%v: error %v, want %v", wrong, err, quota.ErrNotKept)
		}
	}
	h.clock.Advance(keep - 4*24*time.Hour - 13*time.Hour) // an hour before November is deleted
	at("u", hundredAMonth, november, "2+0 2+0 [2 0 0]")
	h.clock.Advance(2 * time.Hour)
	if _, err := h.store.ReadAt(context.Background(), "u", hundredAMonth.OnlyChoice(), november); !errors.Is(err, quota.ErrNotKept) {
		t.Errorf("no longer kept: error %v, want %v", err, quota.ErrNotKept)
	}
}

func testDaysOutliveWindows(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{Keep: time.Hour, HistoryDays: 60})
	monthly := NewPlan("monthly", quota.Limit{Amount: 500, Period: quota.Month})
	for range 59 {
		h.use(1, "u", "report", monthly)
		h.clock.Advance(oneDay)
	}
	h.wantDays("u", 60, strings.Repeat("report 1/1 | ", 59)+"-")
	if _, err := h.store.ReadAt(context.Background(), "u", monthly.OnlyChoice(), noon); !errors.Is(err, quota.ErrNotKept) {
		t.Errorf("reading November: error %v, want %v", err, quota.ErrNotKept)
	}
	// One who does not come back keeps their days as well.
	h.clock.Advance(30 * oneDay)
	h.wantDays("u", 60, strings.Repeat("report 1/1 | ", 29)+strings.Repeat("- | ", 30)+"-")
}

func testWindowsOutliveDays(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{HistoryDays: 2})
	p := NewPlan("p", quota.Limit{Amount: 5, Period: quota.Day})
	for range 10 {
		h.use(1, "u", "report", p)
		h.clock.Advance(oneDay)
	}
	h.wantDays("u", 2, "report 1/1 | -")
	for i := range 10 {
		s, err := h.store.ReadAt(context.Background(), "u", p.OnlyChoice(), noon.Add(time.Duration(i)*oneDay))
		if err != nil {
			t.Fatal(err)
		}
		h.wantSnapshot(s, "1+0 1+0 [0 0 1]")
	}
}

func testUnkeptDays(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{HistoryDays: 7})
	h.use(1, "u", "report", hundredAMonth)
	for _, days := range []int{-1, 0, 8, quota.MaxHistory, quota.MaxHistory + 1} {
		for _, account := range []string{"u", "nobody"} {
			if got, err := h.store.History(context.Background(), account, days); !errors.Is(err, quota.ErrNotKept) {
				t.Errorf("a history of %d days: %+v, error %v; want %v", days, got, err, quota.ErrNotKept)
			}
		}
	}
	h.wantDays("u", 7, "- | - | - | - | - | - | report 1/1")
	most := newHistoryHarness(t, open, HistorySetup{HistoryDays: quota.MaxHistory})
	most.use(1, "u", "report", hundredAMonth)
	most.clock.Advance((quota.MaxHistory - 1) * oneDay)
	most.wantDays("u", quota.MaxHistory, "report 1/1"+strings.Repeat(" | -", quota.MaxHistory-1))
}
