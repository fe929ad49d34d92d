package quotatest

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"metergate/quota"
)

// NewAnchoredPlan is NewPlan for users whose months and years begin on a day of their own.
func NewAnchoredPlan(name string, mode quota.AnchorMode, limits ...quota.Limit) *quota.Plan {
	return mustPlan(quota.PlanOptions{Name: name, Limits: limits, Anchor: mode})
}

// withTerms is the choice of p alone, for a token that claims a day of the month; 0: no day.
func withTerms(p *quota.Plan, day int) quota.PlanChoice {
	a := quota.NewAnchor(max(1, day), 0)
	return quota.PlanChoice{Claimed: p, Terms: true, Anchor: &a}
}

func requestWith(plans quota.PlanChoice, user string) quota.Request {
	r := request(user, "analyze", plans.Claimed)
	r.Plans = plans
	return r
}

// useWith makes n requests that succeed, and returns the last snapshot.
func (h *harness) useWith(n int, user string, plans quota.PlanChoice) (s quota.Snapshot) {
	h.t.Helper()
	for range n {
		d := h.reserve(requestWith(plans, user))
		if !d.Admitted {
			h.t.Fatalf("a request was refused at %s", headline(d.Snapshot))
		}
		s = h.commit(d.Reservation)
	}
	return s
}

// refuseWith makes a request that is refused.
func (h *harness) refuseWith(user string, plans quota.PlanChoice) quota.Snapshot {
	h.t.Helper()
	d := h.reserve(requestWith(plans, user))
	if d.Admitted {
		h.t.Fatalf("a request was admitted at %s", headline(d.Snapshot))
	}
	return d.Snapshot
}

// headline shows the first limit of a snapshot: "WINDOW used+held/allowance (carried)".
func headline(s quota.Snapshot) string {
	c := s.Limits[0]
	return fmt.Sprintf("%s %d+%d/%d (%d)", c.Window.ID, c.Used, c.Held, s.Allowance(0), c.Carried)
}

func (h *harness) wantHeadline(user string, plans quota.PlanChoice, want string) {
	h.t.Helper()
	s, err := h.store.Read(context.Background(), user, plans)
	if err != nil {
		h.t.Fatalf("Read: %v", err)
	}
	if got := headline(s); got != want {
		h.t.Errorf("state is %q, want %q", got, want)
	}
}

func day(month time.Month, day int) time.Time {
	year := 2026
	if month < time.November {
		year = 2027
	}
	return time.Date(year, month, day, 12, 0, 32, 0, time.UTC)
}

var anchoredPlan = NewAnchoredPlan("paid", quota.ClaimAnchor, quota.Limit{Amount: 100, Period: quota.Month}, quota.Limit{Amount: 10000, Period: quota.Year})

// A new user's months begin on the day that their token names, at once. A new day holds from the
// end of the running month, whose successor is short and allows its part.
func testAnchor(t *testing.T, h *harness) {
	on15, on20 := withTerms(anchoredPlan, 15), withTerms(anchoredPlan, 20)
	h.wantHeadline("u", on15, "month-2026-11-15 0+0/100 (0)")
	if s := h.useWith(3, "u", on15); headline(s) != "month-2026-11-15 3+0/100 (0)" || s.Limits[1].Window.ID != "year-2026-01-15" || s.Limits[1].Used != 3 {
		t.Errorf("%s, year %+v", headline(s), s.Limits[1])
	}
	h.clock.Set(day(time.December, 14).Add(11*time.Hour + 59*time.Minute))
	held := h.reserve(requestWith(on15, "u")).Reservation
	h.clock.Set(day(time.December, 15))
	h.wantHeadline("u", on15, "month-2026-12-15 0+0/100 (0)")
	if s := h.commit(held); headline(s) != "month-2026-12-15 0+0/100 (0)" || s.Limits[1].Used != 4 {
		t.Errorf("%s, year %+v", headline(s), s.Limits[1])
	}
	if s, err := h.store.ReadAt(context.Background(), "u", on15, day(time.December, 14)); err != nil || headline(s) != "month-2026-11-15 4+0/100 (0)" {
		t.Errorf("on 14 December: %s, error %v", headline(s), err)
	}
	h.useWith(1, "u", on20)
	h.wantHeadline("u", on20, "month-2026-12-15 1+0/100 (0)")
	h.wantHeadline("u", on15, "month-2026-12-15 1+0/100 (0)") // another token, still with the old day
	h.useWith(1, "u", on20)
	h.clock.Set(day(time.January, 15))
	h.wantHeadline("u", on20, "month-2027-01-15 0+0/16 (0)") // 5 of 31 days
	h.useWith(16, "u", on20)
	if s := h.refuseWith("u", on20); s.Refusal("analyze", 1).NotInPlan {
		t.Error("the refusal says that the plan does not include it")
	}
	h.clock.Set(day(time.January, 20))
	h.wantHeadline("u", on20, "month-2027-01-20 0+0/100 (0)")
	h.wantHeadline("other", withTerms(anchoredPlan, 0), "2027-01 0+0/100 (0)")
}

// The changes of an administrator that count nothing have their effect and no error, also where a plan
// has terms.
func testChangesWithTerms(t *testing.T, h *harness) {
	on15 := withTerms(anchoredPlan, 15)
	other := NewAnchoredPlan("other", quota.ClaimAnchor, quota.Limit{Amount: 7, Period: quota.Month})
	on15.ByName = map[string]*quota.Plan{"paid": anchoredPlan, "other": other}
	h.useWith(2, "u", on15)
	for _, step := range []struct {
		change quota.Change
		want   string
	}{
		{quota.Change{Action: quota.ActionSetPlan, Plan: "other"}, "month-2026-11-15 2+0/7 (0)"},
		{quota.Change{Action: quota.ActionClearPlan}, "month-2026-11-15 2+0/100 (0)"},
		{quota.Change{Action: quota.ActionGrant, Requests: 5}, "month-2026-11-15 2+0/105 (0)"},
		{quota.Change{Action: quota.ActionReset}, "month-2026-11-15 0+0/105 (0)"},
	} {
		s, err := h.store.ApplyChange(context.Background(), "u", on15, step.change)
		if err != nil || headline(s) != step.want {
			t.Errorf("%s: %s, error %v, want %s", step.change.Action, headline(s), err, step.want)
		}
	}
}

// A user who was counted before keeps the running month of the calendar, and a request that is held
// does so, too.
func testAnchorOfKnownUser(t *testing.T, h *harness) {
	h.use(5, "u", "analyze", anchoredPlan)
	on15 := withTerms(anchoredPlan, 15)
	h.wantHeadline("u", on15, "2026-11 5+0/100 (0)")
	h.useWith(1, "u", on15)
	h.wantHeadline("u", on15, "2026-11 6+0/100 (0)")
	held := h.admit("held", "analyze", anchoredPlan)
	h.wantHeadline("held", on15, "2026-11 0+1/100 (0)")
	h.useWith(1, "held", on15)
	h.commit(held)
	h.wantHeadline("held", on15, "2026-11 2+0/100 (0)")
	h.clock.Set(day(time.December, 1))
	h.wantHeadline("u", on15, "month-2026-12-01 0+0/46 (0)") // 14 of 30 days
	h.useWith(46, "u", on15)
	h.refuseWith("u", on15)
	h.clock.Set(day(time.December, 15))
	h.wantHeadline("u", on15, "month-2026-12-15 0+0/100 (0)")
}

// A user whose counts were reset, or set to 0, is not new: the running month stays, and the next one carries what was
// left of it.
func testAnchorAfterReset(t *testing.T, h *harness) {
	reset := quota.Change{Action: quota.ActionReset}
	setTo0 := quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 0}}
	carrying := NewAnchoredPlan("paid", quota.ClaimAnchor, quota.Limit{Amount: 100, Period: quota.Month, Carry: 20})
	calendar, on15 := withTerms(carrying, 0), withTerms(carrying, 15)
	change := func(account string, plans quota.PlanChoice, c quota.Change) {
		t.Helper()
		plans.Anchor = nil
		if _, err := h.store.ApplyChange(context.Background(), account, plans, c); err != nil {
			t.Fatal(err)
		}
	}
	for user, c := range map[string]quota.Change{"reset": reset, "set": setTo0} {
		h.useWith(90, user, calendar)
		change(user, calendar, c)
		h.wantHeadline(user, on15, "2026-11 0+0/100 (0)")
		h.useWith(1, user, on15)
		change(user, calendar, c)
		h.wantHeadline(user, on15, "2026-11 0+0/100 (0)")
	}
	h.useWith(1, "administered", calendar)
	change("administered", calendar, reset)
	change("administered", calendar, quota.Change{Action: quota.ActionSetAnchor, Anchor: "15"})
	h.wantHeadline("administered", calendar, "2026-11 0+0/100 (0)")
	firstUse := withTerms(NewAnchoredPlan("first", quota.FirstUseAnchor, quota.Limit{Amount: 100, Period: quota.Month}), 0)
	h.use(1, "first use", "analyze", hundredAMonth)
	change("first use", firstUse, reset)
	h.useWith(1, "first use", firstUse)
	h.wantHeadline("first use", firstUse, "2026-11 1+0/100 (0)")
	team := memberTerms(anchoredTeam, 15)
	h.useWith(1, member("a"), memberTerms(teamPlans["monthly"], 0))
	for _, account := range []string{member("a"), acme} {
		plans := team
		plans.Scope = quota.ScopeOf(account)
		change(account, plans, reset)
	}
	h.wantPair(member("a"), team, "2026-11 0, 2026-11 0/20")

	err := h.store.ScanUsers(context.Background(), quota.WindowQuery{Period: quota.Month, At: h.clock.Now()}, func(u quota.UserUsage) error {
		if u.User != "first use" {
			t.Errorf("a scan has %q with %d", u.User, u.Used)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
	h.clock.Set(day(time.December, 1))
	h.wantHeadline("reset", on15, "month-2026-12-01 0+0/66 (20)") // 14 of 30 days
	h.wantHeadline("set", on15, "month-2026-12-01 0+0/66 (20)")
	h.clock.Set(day(time.December, 16))
	h.wantHeadline("administered", calendar, "month-2026-12-15 0+0/120 (20)")
}

// The first counted request decides; a request that fails does not.
func testFirstUse(t *testing.T, h *harness) {
	plans := withTerms(NewAnchoredPlan("paid", quota.FirstUseAnchor, quota.Limit{Amount: 100, Period: quota.Month}), 0)
	h.wantHeadline("u", plans, "2026-11 0+0/100 (0)")
	h.release(h.reserve(requestWith(plans, "u")).Reservation)
	h.wantHeadline("u", plans, "2026-11 0+0/100 (0)")
	h.clock.Set(day(time.November, 19))
	h.useWith(1, "u", plans)
	h.wantHeadline("u", plans, "month-2026-11-19 1+0/100 (0)")
	h.clock.Set(day(time.December, 18))
	h.useWith(1, "u", plans)
	h.wantHeadline("u", plans, "month-2026-11-19 2+0/100 (0)")
	h.clock.Set(day(time.December, 19))
	h.wantHeadline("u", plans, "month-2026-12-19 0+0/100 (0)")

	h.use(1, "known", "analyze", hundredAMonth)
	h.release(h.reserve(requestWith(plans, "known")).Reservation)
	h.clock.Set(day(time.December, 21))
	h.useWith(1, "known", plans)
	h.wantHeadline("known", plans, "2026-12 2+0/100 (0)")
	h.clock.Set(day(time.January, 1))
	h.wantHeadline("known", plans, "month-2027-01-01 0+0/64 (0)") // 20 of 31 days
	h.clock.Set(day(time.January, 21))
	h.wantHeadline("known", plans, "month-2027-01-21 0+0/100 (0)")
}

// An administrator's anchor goes before the token's, until it is cleared.
func testSetAnchor(t *testing.T, h *harness) {
	on15 := withTerms(anchoredPlan, 15)
	asked := on15
	asked.Anchor = nil
	change := func(c quota.Change, want string) {
		t.Helper()
		c.By = "ops"
		s, err := h.store.ApplyChange(context.Background(), "u", asked, c)
		if err != nil || headline(s) != want {
			t.Errorf("%s: %s, error %v; want %s", c.Action, headline(s), err, want)
		}
	}
	change(quota.Change{Action: quota.ActionSetAnchor, Anchor: "20", ID: "1"}, "month-2026-10-20 0+0/100 (0)")
	h.useWith(2, "u", on15)
	change(quota.Change{Action: quota.ActionSetAnchor, Anchor: "20", ID: "1"}, "month-2026-10-20 2+0/100 (0)")
	change(quota.Change{Action: quota.ActionGrant, Requests: 7}, "month-2026-10-20 2+0/107 (0)")
	change(quota.Change{Action: quota.ActionClearAnchor}, "month-2026-10-20 2+0/107 (0)")
	h.clock.Set(day(time.November, 20))
	h.useWith(1, "u", on15)
	h.wantHeadline("u", on15, "month-2026-11-20 1+0/100 (0)")
	change(quota.Change{Action: quota.ActionReset}, "month-2026-11-20 0+0/100 (0)")
	change(quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 9}}, "month-2026-11-20 9+0/100 (0)")
	h.clock.Set(day(time.December, 20))
	h.wantHeadline("u", on15, "month-2026-12-20 0+0/83 (0)") // 26 of 31 days
	if log := h.auditLog("u"); len(log) != 5 || log[4].Change.Anchor != "20" || log[4].Change.By != "ops" {
		t.Errorf("audit log: %+v", log)
	}
	h.rejectChange("u", anchoredPlan, quota.Change{Action: quota.ActionSetAnchor, Anchor: "32"}, quota.ErrInvalidChange)
}

// A scan shows each user's own window: that which contains an instant, or all that begin in a month of
// the calendar, which can be two after a change of anchor.
func testScanAnchored(t *testing.T, h *harness) {
	h.useWith(2, "own", withTerms(anchoredPlan, 15))
	h.useWith(1, "calendar", withTerms(anchoredPlan, 0))
	h.clock.Set(day(time.December, 16))
	h.useWith(1, "own", withTerms(anchoredPlan, 15))
	h.useWith(1, "own", withTerms(anchoredPlan, 20)) // from 15 January on
	h.clock.Set(day(time.January, 16))
	h.useWith(3, "own", withTerms(anchoredPlan, 20))
	h.clock.Set(day(time.January, 21))
	h.useWith(4, "own", withTerms(anchoredPlan, 20))
	h.useWith(5, "calendar", withTerms(anchoredPlan, 0))
	for _, c := range []struct {
		at        time.Time
		beginning bool
		want      string
	}{
		{day(time.November, 30), false, "calendar 2026-11 1, own month-2026-11-15 2"},
		{day(time.December, 10), false, "own month-2026-11-15 2"},
		{day(time.December, 16), false, "own month-2026-12-15 2"},
		{day(time.January, 16), false, "calendar 2027-01 5, own month-2027-01-15 3"},
		{day(time.January, 21), false, "calendar 2027-01 5, own month-2027-01-20 4"},
		{day(time.November, 2), true, "calendar 2026-11 1, own month-2026-11-15 2"},
		{day(time.December, 20), true, "own month-2026-12-15 2"},
		{day(time.January, 1), true, "calendar 2027-01 5, own month-2027-01-15 3, own month-2027-01-20 4"},
	} {
		q := quota.WindowQuery{Period: quota.Month, At: c.at, Beginning: c.beginning}
		var got []string
		err := h.store.ScanUsers(context.Background(), q, func(u quota.UserUsage) error {
			got = append(got, fmt.Sprint(u.User, " ", u.Window.ID, " ", u.Endpoints["analyze"]))
			return nil
		})
		slices.Sort(got)
		if text := strings.Join(got, ", "); err != nil || text != c.want {
			t.Errorf("%+v: %s, error %v; want %s", q, text, err, c.want)
		}
	}
}

// What was left moves on once, whoever comes first, and no further. Held units do not.
func testCarry(t *testing.T, h *harness) {
	plans := withTerms(NewPlan("paid", quota.Limit{Amount: 10, Period: quota.Month, Carry: 3}), 0)
	h.wantHeadline("u", plans, "2026-11 0+0/10 (0)")
	h.useWith(5, "u", plans)
	h.wantHeadline("u", plans, "2026-11 5+0/10 (0)")
	h.useWith(6, "few", plans)
	held := []quota.Reservation{h.reserve(requestWith(plans, "few")).Reservation, h.reserve(requestWith(plans, "few")).Reservation}
	h.clock.Set(day(time.December, 1))
	h.wantHeadline("u", plans, "2026-12 0+0/13 (3)")
	h.wantHeadline("new", plans, "2026-12 0+0/10 (0)")
	h.useWith(1, "new", plans)
	h.wantHeadline("new", plans, "2026-12 1+0/10 (0)")
	admitted := h.concurrently(50, requestWith(plans, "u"))
	if admitted != 13 {
		t.Errorf("%d of 50 were admitted, want 13", admitted)
	}
	h.wantHeadline("u", plans, "2026-12 13+0/13 (3)")
	_ = held // leases of two minutes have ended
	h.useWith(1, "few", plans)
	h.wantHeadline("few", plans, "2026-12 1+0/13 (3)")
	h.clock.Set(day(time.January, 1))
	h.wantHeadline("u", plans, "2027-01 0+0/10 (0)")
	h.wantHeadline("few", plans, "2027-01 0+0/13 (3)")
	h.useWith(2, "few", plans) // of what was carried
	h.clock.Set(day(time.February, 1))
	h.wantHeadline("few", plans, "2027-02 0+0/13 (3)")
}

// A request that is held at the turn of the month is not carried, even if it is released later.
func testCarryLeavesHeld(t *testing.T, h *harness) {
	plans := withTerms(NewPlan("paid", quota.Limit{Amount: 10, Period: quota.Month, Carry: quota.MaxAmount}), 0)
	h.clock.Set(time.Date(2026, 11, 30, 23, 59, 30, 0, time.UTC))
	h.useWith(4, "u", plans)
	held := h.reserve(requestWith(plans, "u")).Reservation
	h.clock.Advance(time.Minute)
	h.useWith(1, "u", plans)
	h.wantHeadline("u", plans, "2026-12 1+0/15 (5)")
	h.release(held)
	h.wantHeadline("u", plans, "2026-12 1+0/15 (5)")
}

// Nor are the units that a request has left held, even if it is not charged for them later. What it is
// charged counts in the month that is over.
func testCarryLeavesRest(t *testing.T, h *harness) {
	plans := withTerms(NewWeightedPlan("paid", quota.Limit{Amount: 10, Period: quota.Month, Quantity: quota.Units, Carry: quota.MaxAmount}), 0)
	h.clock.Set(time.Date(2026, 11, 30, 23, 59, 30, 0, time.UTC))
	request := requestWith(plans, "u")
	request.Units = 7
	r := h.twoSteps(request, 6, 2)
	h.commit(r)
	h.clock.Advance(time.Minute)
	h.useWith(1, "u", plans)
	h.wantHeadline("u", plans, "2026-12 1+0/13 (3)")
	h.commitRest(r)
	h.wantHeadline("u", plans, "2026-12 1+0/13 (3)")
}

// concurrently makes n requests like r at once, commits those that are admitted, and returns how many
// these were.
func (h *harness) concurrently(n int, r quota.Request) int {
	results := make(chan bool)
	for range n {
		go func() {
			r := r
			r.ID = quota.NewID()
			d, err := h.store.Reserve(context.Background(), r)
			if err == nil && d.Admitted {
				_, err = h.store.Commit(context.Background(), &d.Reservation)
			}
			if err != nil {
				h.t.Error(err)
			}
			results <- d.Admitted
		}()
	}
	admitted := 0
	for range n {
		if <-results {
			admitted++
		}
	}
	return admitted
}
