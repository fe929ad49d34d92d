package quotatest

import (
	"context"
	"fmt"
	"testing"
	"time"

	"metergate/quota"
)

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
