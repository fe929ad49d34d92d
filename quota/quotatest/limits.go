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

func testEndpointLimit(t *testing.T, h *harness) {
	p := NewPlan("p", quota.Limit{Amount: 4, Period: quota.Month},
		quota.Limit{Amount: 2, Period: quota.Month, Endpoint: "image-analysis"})
	h.use(1, "u", "image-analysis", p)
	held := h.admit("u", "image-analysis", p)
	h.wantSnapshot(h.refuse("u", "image-analysis", p), "1+1 1+1 1+1 [0 1 0]")
	h.use(2, "u", "analyze", p)
	h.refuse("u", "analyze", p)
	h.release(held)
	h.use(1, "u", "image-analysis", p)
	h.wantSnapshot(h.refuse("u", "report", p), "4+0 4+0 2+0 [2 2 0]")
}

func testPlanChange(t *testing.T, h *harness) {
	h.use(3, "u", "analyze", hundredAMonth)
	lower := NewPlan("lower", quota.Limit{Amount: 2, Period: quota.Month})
	h.wantSnapshot(h.refuse("u", "analyze", lower), "3+0 3+0 [3 0 0]")
	daily := NewPlan("daily", quota.Limit{Amount: 1, Period: quota.Day}, quota.Limit{Amount: 5, Period: quota.Month})
	h.wantState("u", daily, "0+0 0+0 3+0 [0 0 0]")
	h.use(1, "u", "report", daily)
	h.refuse("u", "report", daily)
	h.wantState("u", hundredAMonth, "4+0 4+0 [3 0 1]")
}

// A limit is raised, lowered below what is used, removed and restored. Counts stay, and the
// present limit decides.
func testLimitChange(t *testing.T, h *harness) {
	limit := func(n int64) *quota.Plan {
		return NewPlan("p", quota.Limit{Amount: n, Period: quota.Month}, quota.Limit{Amount: n, Period: quota.Day})
	}
	h.use(3, "u", "analyze", limit(3))
	h.refuse("u", "analyze", limit(3))
	held := h.admit("u", "analyze", limit(5))
	h.wantSnapshot(h.refuse("u", "analyze", limit(2)), "3+1 3+1 3+1 [3 0 0]")
	// It was admitted under a limit of 5, and is counted under one of 2.
	h.wantSnapshot(h.commit(quota.Reservation{Request: quota.Request{ID: held.ID, User: "u", Endpoint: "analyze", Plans: limit(2).OnlyChoice()}, Windows: held.Windows}),
		"4+0 4+0 4+0 [4 0 0]")
	s, err := h.store.Read(context.Background(), "u", limit(2).OnlyChoice())
	if err != nil {
		t.Fatal(err)
	}
	u := s.Usage("u")
	if u.Used != 4 || *u.Limit != 2 || *u.Remaining != 0 || *u.Percent != 200 || u.Status != quota.StatusBlocked || u.Allowed {
		t.Errorf("4 used of 2: remaining %d, %d percent, %s, allowed %v", *u.Remaining, *u.Percent, u.Status, u.Allowed)
	}
	// A period that no plan had before starts at 0; the others continue.
	weekly := NewPlan("q", quota.Limit{Amount: 1, Period: quota.Week}, quota.Limit{Amount: 9, Period: quota.Month})
	h.use(1, "u", "analyze", weekly)
	h.wantSnapshot(h.refuse("u", "analyze", weekly), "1+0 1+0 5+0 [1 0 0]")
	h.use(1, "u", "report", NewPlan("none"))
	h.refuse("u", "analyze", limit(6))
	h.use(1, "u", "analyze", limit(7))
}

func testPlanWithoutLimits(t *testing.T, h *harness) {
	p := NewPlan("enterprise")
	h.use(3, "u", "report", p)
	h.admit("u", "analyze", p)
	h.wantState("u", p, "3+1 [0 0 3]")
}

func testLimitOfZero(t *testing.T, h *harness) {
	p := NewPlan("p", quota.Limit{Amount: 5, Period: quota.Month}, quota.Limit{Period: quota.Month, Endpoint: "report"})
	h.refuse("u", "report", p)
	h.use(1, "u", "analyze", p)
}

func testUsersAreSeparate(t *testing.T, h *harness) {
	one := NewPlan("one", quota.Limit{Amount: 1, Period: quota.Month})
	for _, user := range []string{"u", "U", "u ", "{u}", "u/analyze", "used/2026-11", "user", "*", "日本", "a:b", "\"", "u-17@example.com"} {
		h.wantState(user, one, "0+0 0+0 [0 0 0]")
		h.use(1, user, "analyze", one)
		h.refuse(user, "analyze", one)
	}
}

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

func testOverride(t *testing.T, h *harness) {
	small, large := NewPlan("small", quota.Limit{Amount: 1, Period: quota.Month}), NewPlan("large", quota.Limit{Amount: 3, Period: quota.Month}, quota.Limit{Amount: 2, Period: quota.Day})
	choice := quota.PlanChoice{Claimed: small, ByName: map[string]*quota.Plan{"small": small, "large": large}}
	try := func(admitted bool, plan *quota.Plan) {
		t.Helper()
		for range 4 { // so that every gateway is asked
			r := request("u", "analyze", small)
			r.Plans = choice
			d := h.reserve(r)
			if d.Admitted != admitted || d.Reservation.Plan != plan || d.Snapshot.Plan != plan {
				t.Errorf("admitted %v under %s, with a snapshot of %s; want %v, %s", d.Admitted, d.Reservation.Plan.Name(), d.Snapshot.Plan.Name(), admitted, plan.Name())
			}
			if d.Admitted {
				if s := h.release(d.Reservation); s.Plan != plan {
					t.Errorf("released under the plan %s, want %s", s.Plan.Name(), plan.Name())
				}
			}
			if s, err := h.store.Read(context.Background(), "u", choice); err != nil || s.Plan != plan {
				t.Errorf("read under the plan %s (error %v), want %s", s.Plan.Name(), err, plan.Name())
			}
		}
	}
	set := func(c quota.Change) quota.Snapshot {
		t.Helper()
		s, err := h.store.ApplyChange(context.Background(), "u", choice, c)
		if err != nil {
			t.Fatalf("ApplyChange %+v: %v", c, err)
		}
		return s
	}
	h.use(1, "u", "analyze", small)
	try(false, small)
	if s := set(quota.Change{Action: quota.ActionSetPlan, Plan: "large"}); s.Plan != large || s.Override != (quota.Override{Plan: "large"}) {
		t.Errorf("plan %s, override %+v", s.Plan.Name(), s.Override)
	}
	try(true, large)
	if s, _ := h.store.Read(context.Background(), "v", choice); s.Plan != small || s.Override != (quota.Override{}) {
		t.Errorf("another user has the plan %s, override %+v", s.Plan.Name(), s.Override)
	}
	// A grant raises a limit of the effective plan.
	h.wantSnapshot(set(quota.Change{Action: quota.ActionGrant, Requests: 2, Period: quota.Day}), "1+0 1+0 0+0/2 [1 0 0]") // nothing was counted in the day before
	// With a plan that is no longer in the configuration, the claimed plan applies.
	if s := set(quota.Change{Action: quota.ActionSetPlan, Plan: "gone"}); s.Plan != small || s.Override.Plan != "gone" {
		t.Errorf("plan %s, override %+v", s.Plan.Name(), s.Override)
	}
	try(false, small)
	// An override with an end ends by the store's clock.
	until := h.clock.Now().Add(time.Hour)
	if s := set(quota.Change{Action: quota.ActionSetPlan, Plan: "large", Until: until}); s.Plan != large || !s.Override.Until.Equal(until) {
		t.Errorf("plan %s, override %+v", s.Plan.Name(), s.Override)
	}
	h.clock.Advance(time.Hour - 10*time.Second)
	try(true, large)
	h.clock.Advance(20 * time.Second)
	try(false, small)
	if s := set(quota.Change{Action: quota.ActionSetPlan, Plan: "large", Until: h.clock.Now().Add(-time.Minute)}); s.Plan != small {
		t.Errorf("an override that has already ended: plan %s", s.Plan.Name())
	}
	// Without an end it stays after all counts have been deleted.
	set(quota.Change{Action: quota.ActionSetPlan, Plan: "large"})
	h.clock.Advance(3 * 366 * 24 * time.Hour)
	try(true, large)
	set(quota.Change{Action: quota.ActionClearPlan})
	try(true, small)
	h.use(1, "u", "analyze", small)
	try(false, small)
	set(quota.Change{Action: quota.ActionClearPlan})
	try(false, small)
}

// A request that was admitted under one plan counts, whatever the plan is by then.
func testOverrideDuringRequest(t *testing.T, h *harness) {
	monthly, daily := NewPlan("monthly", quota.Limit{Amount: 9, Period: quota.Month}), NewPlan("daily", quota.Limit{Amount: 5, Period: quota.Day})
	choice := quota.PlanChoice{Claimed: monthly, ByName: map[string]*quota.Plan{"daily": daily, "monthly": monthly}}
	reserve := func() quota.Reservation {
		t.Helper()
		r := request("u", "analyze", monthly)
		r.Plans = choice
		return h.reserve(r).Reservation
	}
	counted, released := reserve(), reserve()
	if _, err := h.store.ApplyChange(context.Background(), "u", choice, quota.Change{Action: quota.ActionSetPlan, Plan: "daily"}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []quota.Snapshot{h.commit(counted), h.commit(counted), h.release(released)} {
		if s.Plan != daily || s.Total.Used != 0 {
			t.Errorf("state %s under the plan %s", numbers(s), s.Plan.Name())
		}
	}
	h.wantState("u", monthly, "1+0 1+0 [1 0 0]")
	second := reserve()
	if second.Plan != daily {
		t.Errorf("reserved under the plan %s", second.Plan.Name())
	}
	if _, err := h.store.ApplyChange(context.Background(), "u", choice, quota.Change{Action: quota.ActionClearPlan}); err != nil {
		t.Fatal(err)
	}
	h.wantSnapshot(h.commit(second), "1+0 1+0 [1 0 0]")
	h.wantState("u", daily, "1+0 1+0 [1 0 0]")
}

func testClaimedPlan(t *testing.T, h *harness) {
	want := func(user, plan string) {
		t.Helper()
		if got, err := h.store.ClaimedPlan(context.Background(), user); err != nil || got != plan {
			t.Errorf("%s: the claimed plan is %q, error %v; want %q", user, got, err, plan)
		}
		err := h.store.ScanUsers(context.Background(), quota.WindowQuery{Period: quota.Month, At: h.clock.Now()}, func(u quota.UserUsage) error {
			if u.User == user && u.ClaimedPlan != plan {
				t.Errorf("%s is listed with the claimed plan %q, want %q", user, u.ClaimedPlan, plan)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	pro, none := NewPlan("pro", quota.Limit{Amount: 100, Period: quota.Day}), NewPlan("none", quota.Limit{Period: quota.Month})
	want("u", "")
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 1}})
	want("u", "") // no token was seen
	h.use(1, "u", "report", hundredAMonth)
	want("u", "free")
	h.refuse("u", "report", none)
	want("u", "free")
	// An override does not change the claimed plan.
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetPlan, Plan: "none"})
	h.use(1, "u", "report", pro)
	want("u", "pro")
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionClearPlan})
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset})
	want("u", "pro")
	want("u2", "")
	// It is kept as long as the user has counts.
	h.clock.Advance(100 * 24 * time.Hour)
	want("u", "pro")
	h.use(1, "u", "report", hundredAMonth)
	want("u", "free")
}

// A plan in observe mode counts in every limit as usual, and refuses nothing.
func testObservingPlan(t *testing.T, h *harness) {
	limits := []quota.Limit{{Amount: 4, Period: quota.Month}, {Amount: 2, Period: quota.Minute}, {Period: quota.Day, Endpoint: "report"}}
	p, enforcing := NewObservingPlan("p", quota.AttemptLimit{}, limits...), NewPlan("p", limits...)
	use := func(endpoint string, wouldBlock ...string) {
		t.Helper()
		h.commit(h.passObserved(request("u", endpoint, p), wouldBlock...))
	}
	use("analyze")
	held := h.passObserved(request("u", "analyze", p)) // its unit is taken, like a counted one
	use("analyze", "minute")
	h.wantState("u", p, "2+1 2+1 2+1 0+0 [2 0 0]")
	use("report", "minute", "report-day")
	use("image-analysis", "month", "minute")
	h.wantSnapshot(h.refuse("u", "analyze", enforcing), "4+1 4+1 4+1 1+0 [2 1 1]")
	h.wantSnapshot(h.release(held), "4+0 4+0 4+0 1+0 [2 1 1]")
	h.clock.Advance(time.Minute)
	use("analyze", "month")
	h.refuse("u", "analyze", enforcing) // the limits apply at once
	h.wantState("u", enforcing, "5+0 5+0 1+0 1+0 [3 1 1]")

	s, err := h.store.Read(context.Background(), "u", p.OnlyChoice())
	if err != nil {
		t.Fatal(err)
	}
	if u := s.Usage("u"); !u.Allowed || u.Status != quota.StatusBlocked || *u.Remaining != 0 || !*u.Endpoints["report"].Allowed {
		t.Errorf("usage of a plan in observe mode: allowed %v, %s, remaining %d, report allowed %v; want true, blocked, 0, true",
			u.Allowed, u.Status, *u.Remaining, *u.Endpoints["report"].Allowed)
	}
}

// One request is in observe mode, the next one under the same plan is not.
func testObservedRequest(t *testing.T, h *harness) {
	p := NewAttemptLimitedPlan("p", threeAnHour, quota.Limit{Amount: 2, Period: quota.Month})
	h.commit(h.passObserved(observedRequest("u", "report", p)))
	h.use(1, "u", "analyze", p)
	h.refuse("u", "analyze", p)
	h.commit(h.passObserved(observedRequest("u", "report", p), "month", quota.AttemptsName))
	h.wantSnapshot(h.throttle("u", p, 20*time.Minute), "3+0 3+0 [1 0 2]")
	again := observedRequest("u", "report", p)
	h.passObserved(again, "month", quota.AttemptsName)
	h.passObserved(again, "month") // held once, and not another attempt
	h.wantState("u", p, "3+1 3+1 [1 0 2]")
}

func testGrantInObserveMode(t *testing.T, h *harness) {
	p := NewObservingPlan("p", quota.AttemptLimit{}, quota.Limit{Amount: 1, Period: quota.Month})
	h.passObserved(request("u", "analyze", p))
	h.passObserved(request("u", "analyze", p), "month")
	if _, err := h.store.ApplyChange(context.Background(), "u", p.OnlyChoice(), quota.Change{Action: quota.ActionGrant, Requests: 2}); err != nil {
		t.Fatal(err)
	}
	h.passObserved(request("u", "analyze", p))
	h.passObserved(request("u", "analyze", p), "month")
}

// A request that passes an empty bucket takes nothing from it, so that the numbers match what
// enforcement would do.
func testAttemptsInObserveMode(t *testing.T, h *harness) {
	p, enforcing := NewObservingPlan("p", threeAnHour), NewAttemptLimitedPlan("p", threeAnHour)
	for range 3 {
		h.release(h.passObserved(request("u", "analyze", p)))
	}
	for range 5 {
		h.commit(h.passObserved(request("u", "analyze", p), quota.AttemptsName))
	}
	h.wantSnapshot(h.throttle("u", enforcing, 20*time.Minute), "5+0 [5 0 0]")
	h.clock.Advance(20*time.Minute + 5*time.Second)
	h.commit(h.passObserved(request("u", "analyze", p)))
	h.commit(h.passObserved(request("u", "analyze", p), quota.AttemptsName))
	h.throttle("u", enforcing, 20*time.Minute-5*time.Second)
}

// Of 150 requests at once under a limit of 100, all pass and 50 are reported. Then the limit is
// enforced.
func testConcurrentReservesInObserveMode(t *testing.T, h *harness) {
	p := NewObservingPlan("free", quota.AttemptLimit{}, quota.Limit{Amount: 100, Period: quota.Month})
	var wouldBlock atomic.Int64
	var wait sync.WaitGroup
	for range 150 {
		wait.Go(func() {
			d, err := h.store.Reserve(context.Background(), request("u", "analyze", p))
			if err != nil || !d.Admitted {
				t.Errorf("admitted %v, error %v", d.Admitted, err)
				return
			}
			if fmt.Sprint(d.WouldBlock) == "[month]" {
				wouldBlock.Add(1)
			}
			h.commit(d.Reservation)
		})
	}
	wait.Wait()
	if n := wouldBlock.Load(); n != 50 {
		t.Errorf("%d of 150 are reported, want 50", n)
	}
	h.wantState("u", p, "150+0 150+0 [150 0 0]")
	h.wantSnapshot(h.refuse("u", "analyze", hundredAMonth), "150+0 150+0 [150 0 0]")
}
