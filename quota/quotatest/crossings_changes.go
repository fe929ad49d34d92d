package quotatest

import (
	"context"
	"strings"
	"testing"
	"time"

	"metergate/quota"
)

// A grant raises what is allowed. So other counts are at the thresholds, and those that were reached can be
// reached again.
func testGrantArms(t *testing.T, h *crossingHarness) {
	h.use(8, "u", "report", tenAMonth)
	h.wantCrossings("u", "month 50% 5/10", "month 80% 8/10")
	h.applyChange("u", tenAMonth, quota.Change{Action: quota.ActionGrant, Requests: 10})
	h.wantCrossings("u")
	h.use(1, "u", "report", tenAMonth)
	h.wantCrossings("u")
	h.use(11, "u", "report", tenAMonth)
	h.wantCrossings("u", "month 50% 10/20", "month 80% 16/20", "month 100% 20/20")
	h.clock.Set(day(time.December, 3))
	h.use(5, "u", "report", tenAMonth) // it was for November
	h.wantCrossings("u", "month 50% 5/10")
}

func testResetArms(t *testing.T, h *crossingHarness) {
	p := NewNotifyingPlan("p", atMost, quota.Limit{Amount: 10, Period: quota.Month}, quota.Limit{Amount: 4, Period: quota.Day})
	reset := func(id string) {
		t.Helper()
		h.applyChange("u", p, quota.Change{Action: quota.ActionReset, ID: id})
		h.wantCrossings("u")
	}
	reset("") // there is nothing to reset
	h.use(2, "u", "report", p)
	h.wantCrossings("u", "day 50% 2/4")
	for i := range 2 {
		reset([]string{"one", "two"}[i])
		h.use(1, "u", "report", p)
		h.wantCrossings("u")
		reset("one") // it was made before; the second time it has counted once more
		h.use(1, "u", "report", p)
		h.wantCrossings("u", "day 50% 2/4")
	}
	h.clock.Advance(oneDay)
	h.use(3, "u", "report", p)
	h.wantCrossings("u", "day 50% 2/4", "month 50% 5/10")
	// The request counts after the reset.
	running := h.admit("u", "report", p)
	reset("")
	h.use(1, "u", "report", p)
	h.wantCrossings("u")
	h.commit(running)
	h.wantCrossings("u", "day 50% 2/4")
	h.clock.Advance(oneDay)
	h.use(3, "u", "report", p)
	h.wantCrossings("u", "day 50% 2/4", "month 50% 5/10")
}

func testResetArmsPool(t *testing.T, h *crossingHarness) {
	p := NewNotifyingPlan("team", atMost, quota.Limit{Amount: 4, Period: quota.Month}, quota.Limit{Amount: 4, Period: quota.Month, Shared: true})
	h.use(2, member("u"), "report", p)
	h.wantCrossings(member("u"), "month 50% 2/4")
	h.wantCrossings(acme, "shared-month 50% 2/4")
	h.applyChange(acme, p, quota.Change{Action: quota.ActionReset})
	h.use(1, member("v"), "report", p)
	h.wantCrossings(acme)
	h.use(1, member("v"), "report", p)
	h.wantCrossings(acme, "shared-month 50% 2/4")
	h.wantCrossings(member("u"))
	h.wantCrossings(member("v"), "month 50% 2/4")
	h.applyChange(member("u"), p, quota.Change{Action: quota.ActionReset})
	h.use(2, member("u"), "report", p)
	h.wantCrossings(member("u"), "month 50% 2/4")
	h.wantCrossings(acme, "shared-month 100% 4/4")
	h.applyChange(acme, p, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"report": 1}})
	h.wantCrossings(acme)
	h.applyChange(acme, p, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"report": 2}})
	h.wantCrossings(acme, "shared-month 50% 2/4")
}

func testSetCountsCross(t *testing.T, h *crossingHarness) {
	p := NewNotifyingPlan("p", atMost, quota.Limit{Amount: 10, Period: quota.Month}, quota.Limit{Amount: 4, Period: quota.Month, Endpoint: "report"},
		quota.Limit{Amount: 100, Period: quota.Month, Quantity: quota.Units}, quota.Limit{Amount: 6, Period: quota.Day})
	set := func(period quota.Period, counts, units map[string]int64) {
		t.Helper()
		h.applyChange("u", p, quota.Change{Action: quota.ActionSetCounts, Period: period, Counts: counts, CountUnits: units})
	}
	count := func(report, analyze int64) map[string]int64 {
		return map[string]int64{"report": report, "analyze": analyze}
	}
	set(quota.Month, count(3, 2), nil)
	h.wantCrossings("u", "month 50% 5/10", "report-month 50% 3/4")
	set(quota.Month, count(3, 2), nil)
	h.wantCrossings("u")
	set(quota.Day, count(6, 0), nil)
	h.wantCrossings("u", "day 100% 6/6")
	set(quota.Month, count(3, 5), map[string]int64{"report": 80})
	h.wantCrossings("u", "month 80% 8/10", "month-units 80% 85/100")
	set(quota.Month, count(4, 4), nil) // the total of requests stays, its units fall
	h.wantCrossings("u", "report-month 100% 4/4")
	set(quota.Month, count(4, 4), map[string]int64{"analyze": 46})
	h.wantCrossings("u", "month-units 50% 50/100")
	set(quota.Month, count(4, 4), map[string]int64{"analyze": 10}) // the units alone fall
	h.wantCrossings("u")
	set(quota.Month, count(4, 4), map[string]int64{"analyze": 47})
	h.wantCrossings("u", "month-units 50% 51/100")
	// Taken down, they reach it again: by a count that is set, and by a request.
	set(quota.Month, count(0, 4), nil)
	h.wantCrossings("u")
	set(quota.Month, count(3, 4), nil)
	h.wantCrossings("u", "month 50% 7/10", "report-month 50% 3/4")
	set(quota.Day, count(0, 1), nil)
	h.use(1, "u", "report", p)
	h.wantCrossings("u", "month 80% 8/10", "report-month 100% 4/4")
	h.use(1, "u", "analyze", p)
	h.wantCrossings("u", "day 50% 3/6")
	// A change that is refused, and one that was made before.
	h.rejectChange("u", p, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: count(quota.MaxAmount, 5)}, quota.ErrTooLarge)
	h.wantCrossings("u")
	once := quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: count(4, 6), ID: "once"}
	for range 2 {
		h.applyChange("u", p, once)
		h.wantWaiting("u", "month 100% 10/10")
	}
	h.wantCrossings("u", "month 100% 10/10")
	h.applyChange("u", p, once)
	h.wantCrossings("u")
}

// overridden has plans that administrators set.
var overridden = map[string]*quota.Plan{
	"small":    NewNotifyingPlan("small", atMost, quota.Limit{Amount: 10, Period: quota.Month}),
	"large":    NewNotifyingPlan("large", atMost, quota.Limit{Amount: 100, Period: quota.Month}, quota.Limit{Amount: 6, Period: quota.Month, Endpoint: "report", Soft: true}),
	"team":     NewNotifyingPlan("team", atMost, quota.Limit{Amount: 100, Period: quota.Month}, quota.Limit{Amount: 8, Period: quota.Month, Shared: true}),
	"big-team": NewNotifyingPlan("big-team", atMost, quota.Limit{Amount: 80, Period: quota.Month, Shared: true}),
	"silent":   NewNotifyingPlan("silent", nil, quota.Limit{Amount: 100, Period: quota.Month}),
}

// changeOf makes a change to an account whose token claims one of the plans.
func (h *crossingHarness) changeOf(account, claimed string, c quota.Change) {
	h.t.Helper()
	plans := quota.PlanChoice{Claimed: overridden[claimed], ByName: overridden, Scope: quota.ScopeOf(account)}
	if _, err := h.store.ApplyChange(context.Background(), account, plans, c); err != nil {
		h.t.Fatalf("ApplyChange %+v: %v", c, err)
	}
}

// What another plan has reached, and the one before it had not, is crossed.
func testSetPlanCrosses(t *testing.T, h *crossingHarness) {
	set := func(account, claimed, plan string) {
		t.Helper()
		if plan == "" {
			h.changeOf(account, claimed, quota.Change{Action: quota.ActionClearPlan})
			return
		}
		h.changeOf(account, claimed, quota.Change{Action: quota.ActionSetPlan, Plan: plan})
	}
	h.use(5, "u", "report", overridden["large"])
	h.wantCrossings("u", "report-month-soft 50% 3/6", "report-month-soft 80% 5/6")
	set("u", "large", "small")
	h.wantCrossings("u", "month 50% 5/10")
	set("u", "large", "small")
	h.wantCrossings("u")
	h.use(9, "v", "report", overridden["small"])
	h.wantCrossings("v", "month 50% 5/10", "month 80% 8/10")
	set("v", "small", "gone") // it is not in the configuration: the claimed plan applies
	h.wantCrossings("v")
	set("v", "small", "large")
	h.wantCrossings("v", "report-month-soft 100% 9/6")
	// One that ends an override reaches something as well, and so does one whose end is over at once.
	for i, account := range []string{"w", "x"} {
		set(account, "small", "large")
		h.use(5, account, "report", overridden["large"])
		h.wantCrossings(account, "report-month-soft 50% 3/6", "report-month-soft 80% 5/6")
		if i == 0 {
			set(account, "small", "")
		} else {
			h.changeOf(account, "small", quota.Change{Action: quota.ActionSetPlan, Plan: "large", Until: h.clock.Now().Add(-time.Minute)})
		}
		h.wantCrossings(account, "month 50% 5/10")
	}
}

// What a pool has reached under another plan is its own. A member's plan reaches nothing in the pool.
func testSetPlanOfPoolCrosses(t *testing.T, h *crossingHarness) {
	h.use(7, member("u"), "report", overridden["team"])
	h.wantCrossings(acme, "shared-month 50% 4/8", "shared-month 80% 7/8")
	h.changeOf(member("u"), "large", quota.Change{Action: quota.ActionSetPlan, Plan: "team"})
	h.changeOf(member("u"), "large", quota.Change{Action: quota.ActionSetPlan, Plan: "small"})
	h.wantCrossings(acme)
	h.wantCrossings(member("u"), "month 50% 7/10")
	h.use(5, member("v"), "report", overridden["large"])
	h.wantCrossings(member("v"), "report-month-soft 50% 3/6", "report-month-soft 80% 5/6")
	globex := quota.PoolAccount("globex")
	h.changeOf(globex, "large", quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"report": 7}})
	h.wantCrossings(globex)
	h.changeOf(globex, "large", quota.Change{Action: quota.ActionSetPlan, Plan: "team"})
	h.wantCrossings(globex, "shared-month 80% 7/8")
}

// After another plan and back, what is reached is another crossing: with its own ID.
func testSetPlanArms(t *testing.T, h *crossingHarness) {
	globex := quota.PoolAccount("globex")
	for account, limit := range map[string]string{"u": "month 50% ", globex: "shared-month 80% "} {
		claimed, big, counts, want := "small", "large", int64(5), []string{limit + "5/10", limit + "5/10"}
		if account == globex {
			claimed, big, counts, want = "team", "big-team", 7, []string{limit + "7/8", limit + "7/8"}
		}
		h.changeOf(account, claimed, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": counts}})
		h.wantWaiting(account, want[0])
		for range 2 { // by the same plan, it reaches nothing, and is the same crossing
			h.changeOf(account, claimed, quota.Change{Action: quota.ActionSetPlan, Plan: claimed})
			h.wantWaiting(account, want[0])
		}
		h.changeOf(account, claimed, quota.Change{Action: quota.ActionSetPlan, Plan: big})
		h.wantWaiting(account, want[0])
		h.changeOf(account, claimed, quota.Change{Action: quota.ActionClearPlan})
		h.wantWaiting(account, want...)
		if got := h.crossings(account); len(got) == 2 && got[0].ID == got[1].ID {
			t.Errorf("both crossings of %q are %s", account, got[0].ID)
		}
		h.end(account, h.crossings(account)...)
		h.changeOf(account, claimed, quota.Change{Action: quota.ActionSetPlan, Plan: "silent"}) // which has no thresholds
		h.wantCrossings(account)
		h.changeOf(account, claimed, quota.Change{Action: quota.ActionSetPlan, Plan: claimed})
		h.wantCrossings(account, want[0])
	}
}

// What is reached again without another ID waits once, as it was first: a reset while the plan has no
// thresholds is not noted.
func testCrossingWaitsOnce(t *testing.T, h *crossingHarness) {
	silent := NewNotifyingPlan("small", nil, quota.Limit{Amount: 10, Period: quota.Month})
	h.use(5, "u", "report", overridden["small"])
	first := h.crossings("u")
	h.applyChange("u", silent, quota.Change{Action: quota.ActionReset})
	h.use(4, "u", "report", silent)
	h.use(2, "u", "report", overridden["small"])
	again := h.crossings("u")
	if len(first) != 1 || len(again) != 1 || again[0].ID != first[0].ID || again[0].Used != 5 || !again[0].At.Equal(first[0].At) {
		t.Errorf("the crossings are %+v, first %+v", again, first)
	}
}

// A count in a window that is over crosses it; the running one has other counts. One that is not kept is not
// counted.
func testLateCrossing(t *testing.T, h *crossingHarness) {
	p := NewNotifyingPlan("p", atMost, quota.Limit{Amount: 4, Period: quota.Month}, quota.Limit{Amount: 2, Period: quota.Minute})
	h.use(1, "u", "report", p)
	h.wantCrossings("u", "minute 50% 1/2")
	r := h.admit("u", "report", p)
	h.clock.Set(day(time.December, 20))
	h.commit(r)
	if got := h.crossings("u"); len(got) == 1 && !got[0].ResetsAt.Equal(time.Date(2026, time.December, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("the crossing is %+v, want it in November", got[0])
	}
	h.wantCrossings("u", "month 50% 2/4")
	h.use(2, "u", "report", p)
	h.wantCrossings("u", "month 50% 2/4", "minute 50% 1/2", "minute 100% 2/2")
}

func testReplayedCrossings(t *testing.T, h *crossingHarness) {
	replayer, ok := h.store.(insistingStore).Store.(interface {
		Replay(ctx context.Context, user string, requests, rests []quota.Reservation) error
	})
	if !ok {
		return // a guarded store replays by itself
	}
	p := NewNotifyingPlan("units", atMost, quota.Limit{Amount: 20, Period: quota.Month, Quantity: quota.Units}, quota.Limit{Amount: 8, Period: quota.Month, Shared: true})
	u := member("u")
	var requests, rests []quota.Reservation
	for range 3 {
		requests = append(requests, h.reserve(weighted(u, "report", 1, p)).Reservation)
	}
	rests = append(rests, h.twoSteps(weighted(u, "analyze", 10, p), 9, 9))
	unknown := requests[2]
	unknown.Plan, unknown.Plans.Claimed, unknown.Plans.ByName = nil, nil, nil // whose plans nobody knows
	h.clock.Advance(time.Hour)
	for range 2 { // its answer was lost
		if err := replayer.Replay(context.Background(), u, append([]quota.Reservation{requests[0], requests[1], unknown}, rests...), rests); err != nil {
			t.Fatal(err)
		}
		h.wantWaiting(u, "month-units 50% 13/20")
		h.wantWaiting(acme, "shared-month 50% 4/8") // whether each request is a step, or all are one
	}
}

func testCarriedCrossing(t *testing.T, h *crossingHarness) {
	plans := withTerms(NewNotifyingPlan("paid", atMost, quota.Limit{Amount: 10, Period: quota.Month, Carry: 4}), 0)
	h.useWith(5, "u", plans)
	h.wantCrossings("u", "month 50% 5/10")
	h.clock.Set(day(time.December, 1))
	h.useWith(6, "u", plans)
	h.wantCrossings("u")
	h.useWith(8, "u", plans)
	h.wantCrossings("u", "month 50% 7/14", "month 80% 12/14", "month 100% 14/14")
}

// What was carried belongs to it also when an administrator's change comes before the first request of the window, to
// a user, or to a pool whose month an anchor has made short.
func testCarriedCrossingOfChanges(t *testing.T, h *crossingHarness) {
	set := func(account string, plans quota.PlanChoice, requests int64, want ...string) {
		t.Helper()
		plans.Anchor = nil
		c := quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": requests}}
		if _, err := h.store.ApplyChange(context.Background(), account, plans, c); err != nil {
			t.Fatal(err)
		}
		h.wantCrossings(account, want...)
	}
	own := withTerms(NewNotifyingPlan("paid", atMost, quota.Limit{Amount: 10, Period: quota.Month, Carry: 4}), 0)
	p := mustPlan(quota.PlanOptions{Name: "team", Anchor: quota.ClaimAnchor, NotifyAt: atMost, Limits: []quota.Limit{{Amount: 30, Period: quota.Month, Carry: 9, Shared: true}}})
	team, asked := withTerms(p, 0), poolTerms(p)
	team.Scope = quota.MemberScope
	h.useWith(1, "u", own)
	h.useWith(1, "u-2", own)
	h.useWith(1, member("a"), team)
	if _, err := h.store.ApplyChange(context.Background(), acme, asked, quota.Change{Action: quota.ActionSetAnchor, Anchor: "16"}); err != nil {
		t.Fatal(err)
	}
	h.clock.Set(day(time.December, 1))
	for _, user := range []string{"u", "u-2"} {
		set(user, own, 6)
		set(user, own, 7, "month 50% 7/14")
		h.clock.Advance(time.Hour)
		h.useWith(5, user, own)
		h.wantCrossings(user, "month 80% 12/14")
	}
	set(acme, asked, 11) // 15 and 9: 15 of 30 days, and what moves on
	set(acme, asked, 12, "shared-month 50% 12/24")
	h.wantHeadline(acme, asked, "month-2026-12-01 12+0/24 (9)")
}

// A month that an anchor has made short allows its part.
func testAnchoredCrossing(t *testing.T, h *crossingHarness) {
	p := mustPlan(quota.PlanOptions{Name: "paid", Anchor: quota.ClaimAnchor, NotifyAt: []int{100}, Limits: []quota.Limit{{Amount: 30, Period: quota.Month}}})
	h.useWith(29, "u", withTerms(p, 1))
	h.wantCrossings("u")
	h.useWith(1, "u", withTerms(p, 16)) // holds from the end of the running month on
	id := func(window string, allowance int64) {
		t.Helper()
		got := h.crossings("u")
		if len(got) != 1 || got[0].ID != quota.CrossingID("u", "month", window, 100, allowance, 0) {
			t.Errorf("the crossings are %+v, want one in %s", got, window)
		}
		h.end("u", got...)
	}
	id("2026-11", 30)
	h.clock.Set(day(time.December, 10))
	s := h.useWith(1, "u", withTerms(p, 16))
	allowance := s.Allowance(0)
	if allowance >= 20 {
		t.Fatalf("the short month allows %d", allowance)
	}
	h.useWith(int(allowance-1), "u", withTerms(p, 16))
	id(s.Limits[0].Window.ID, allowance)
	if !strings.HasPrefix(s.Limits[0].Window.ID, "month-2026-12-01") {
		t.Errorf("the short month is %s", s.Limits[0].Window.ID)
	}
}
