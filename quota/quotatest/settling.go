package quotatest

import (
	"context"
	"errors"
	"fmt"
	"strings"
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

// whereHeld shows where a reservation is held and counted: its windows, those of the pool, its date and its
// hour.
func whereHeld(r quota.Reservation) (text string) {
	for _, windows := range [][]quota.Window{r.Windows, r.PoolWindows} {
		for _, w := range windows {
			text += fmt.Sprintf("%v %s %d-%d, ", w.Period, w.ID, w.Start.Unix(), w.End.Unix())
		}
		text += "| "
	}
	return fmt.Sprint(text, r.Date, " ", int64(r.BillHour))
}

// reserveAgain repeats a Reserve that was admitted, and checks that it has the same answer as far as
// it does not depend on what runs now.
func (h *harness) reserveAgain(first quota.Reservation) quota.Reservation {
	h.t.Helper()
	d := h.reserve(first.Request)
	if !d.Admitted {
		h.t.Fatalf("a reserve was admitted, and is refused when it is repeated: %+v", d)
	}
	if got, want := whereHeld(d.Reservation), whereHeld(first); got != want {
		h.t.Errorf("a reserve that is repeated is held in %s, want %s", got, want)
	}
	return d.Reservation
}

// wantCountedAt checks that a commit counts in the windows that ran at a time, and in no others, and that
// nothing stays held.
func (h *harness) wantCountedAt(at time.Time, r quota.Reservation) {
	h.t.Helper()
	s := h.commit(r)
	then, err := h.store.ReadAt(context.Background(), r.User, r.Plans, at)
	if err != nil {
		h.t.Fatalf("ReadAt: %v", err)
	}
	for i, l := range s.Plan.Limits() {
		now, then := s.Limits[i], then.Limits[i]
		used := int64(0)
		if now.Window.Contains(at) {
			used = 1
		}
		if now.Used != used || now.Held != 0 || then.Used != 1 || then.Held != 0 {
			h.t.Errorf("%q, limit %s: %d+%d in %s, want %d+0; and %d+%d in %s, want 1+0",
				r.User, l.Name(), now.Used, now.Held, now.Window.ID, used, then.Used, then.Held, then.Window.ID)
		}
	}
}

// A reserve that is repeated after the turn of windows counts in those in which the request is held, and
// takes nothing of those that run.
func testRepeatedReserve(t *testing.T, h *harness) {
	var limits []quota.Limit
	for _, period := range quota.Periods() {
		limits = append(limits, quota.Limit{Amount: 5, Period: period}, quota.Limit{Amount: 5, Period: period, Shared: true})
	}
	p := NewPlan("p", limits...)
	start := time.Date(2026, 12, 31, 23, 59, 50, 0, time.UTC)
	for _, user := range []string{"u", member("a")} {
		h.clock.Set(start)
		first := h.admit(user, "analyze", p)
		h.reserveAgain(first)
		h.clock.Advance(20 * time.Second)
		h.wantCountedAt(start, h.reserveAgain(first))
	}
}

// The same where a member and their pool have months of their own, which turn on different days.
func testRepeatedReserveWithAnchors(t *testing.T, h *harness) {
	on15, on20 := memberTerms(anchoredTeam, 15), memberTerms(anchoredTeam, 20)
	h.useWith(1, member("b"), on20)
	repeat := func(midnight time.Time, plans quota.PlanChoice, user, held, counted string) {
		t.Helper()
		h.clock.Set(midnight.Add(-10 * time.Second))
		first := h.reserve(requestWith(plans, user)).Reservation
		h.clock.Advance(20 * time.Second)
		r := h.reserveAgain(first)
		if got := fmt.Sprint(r.Windows[0].ID, " ", r.PoolWindows[0].ID); got != held {
			t.Errorf("at %v a request is held in %s, want %s", midnight, got, held)
		}
		if got := pair(h.commit(r)); got != counted {
			t.Errorf("at %v a commit leaves %s, want %s", midnight, got, counted)
		}
	}
	midnight := func(month time.Month, n int) time.Time { return day(month, n).Truncate(oneDay) }
	repeat(midnight(time.December, 15), on15, member("a"), "month-2026-11-15 month-2026-11-20", "month-2026-12-15 0, month-2026-11-20 1/20")
	repeat(midnight(time.December, 20), on15, member("a"), "month-2026-12-15 month-2026-11-20", "month-2026-12-15 1, month-2026-12-20 0/20")
	repeat(midnight(time.January, 20), on20, member("b"), "month-2026-12-20 month-2026-12-20", "month-2027-01-20 0, month-2027-01-20 0/20")
	firstUse := memberTerms(teamPlans["first use"], 0)
	repeat(midnight(time.January, 27), firstUse, member("c"), "month-2027-01-26 month-2027-01-20", "month-2027-01-26 1, month-2027-01-20 1/20")

	// By the plan that an administrator chooses meanwhile, the months of the pool do not matter.
	first := h.reserve(requestWith(on15, member("a"))).Reservation
	if _, err := h.store.ApplyChange(context.Background(), member("a"), on15, quota.Change{Action: quota.ActionSetPlan, Plan: "daily"}); err != nil {
		t.Fatal(err)
	}
	h.clock.Advance(10 * time.Second)
	h.commit(h.reserveAgain(first))
	h.wantHeadline(acme, poolTerms(anchoredTeam), "month-2027-01-20 2+0/20 (0)")
}

// The same after an administrator has chosen a plan with other limits: the request is not held in theirs.
func testRepeatedReserveOfPlans(t *testing.T, h *harness) {
	daily := NewPlan("daily", quota.Limit{Amount: 5, Period: quota.Month}, quota.Limit{Amount: 5, Period: quota.Day, Shared: true})
	hourly := NewPlan("hourly", quota.Limit{Amount: 5, Period: quota.Hour}, quota.Limit{Amount: 5, Period: quota.Day, Shared: true}, quota.Limit{Amount: 5, Period: quota.Week, Shared: true})
	h.clock.Set(time.Date(2026, 11, 17, 23, 59, 50, 0, time.UTC))
	start := h.clock.Now()
	req := request(member("a"), "analyze", daily)
	req.Plans.ByName = map[string]*quota.Plan{"daily": daily, "hourly": hourly}
	first := h.reserve(req).Reservation
	if _, err := h.store.ApplyChange(context.Background(), req.User, req.Plans, quota.Change{Action: quota.ActionSetPlan, Plan: "hourly"}); err != nil {
		t.Fatal(err)
	}
	h.clock.Advance(20 * time.Second)
	h.wantSnapshot(h.commit(h.reserveAgain(first)), "0+0 0+0 0+0 0+0 [0 0 0]")
	if _, err := h.store.ApplyChange(context.Background(), req.User, req.Plans, quota.Change{Action: quota.ActionClearPlan}); err != nil {
		t.Fatal(err)
	}
	if s, err := h.store.ReadAt(context.Background(), req.User, req.Plans, start); err != nil || numbers(s) != "1+0 1+0 1+0 [1 0 0]" {
		t.Errorf("the day of the first reserve has %s (error %v)", numbers(s), err)
	}
}
