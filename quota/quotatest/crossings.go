package quotatest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"metergate/quota"
)

// crossingCases has the cases of RunCrossings. Each gets a new store whose clock stands at noon.
var crossingCases = map[string]func(*testing.T, *crossingHarness){
	"a count crosses each threshold once":        testCrossing,
	"a crossing says what was crossed":           testCrossingFields,
	"only what is used crosses":                  testHeldCrossesNothing,
	"a repeated commit crosses nothing":          testRepeatedCommitCrossesOnce,
	"the highest of several thresholds counts":   testJumpedThresholds,
	"without thresholds nothing is crossed":      testNoThresholds,
	"a limit of 0 is never crossed":              testNothingOfNothing,
	"every limit and window is crossed":          testCrossingsOfLimits,
	"soft limits are crossed":                    testSoftCrossings,
	"observed requests cross":                    testObservedCrossings,
	"units are crossed":                          testUnitCrossings,
	"a rest crosses":                             testRestCrosses,
	"a rest before its request crosses":          testRestCrossesFirst,
	"shared limits are crossed once":             testSharedCrossings,
	"a plan that is lowered crosses nothing":     testLoweredPlanCrosses,
	"an override decides about the thresholds":   testOverriddenThresholds,
	"many commits cross once":                    testConcurrentCrossings,
	"a commit in a window that is over crosses":  testLateCrossing,
	"a replay crosses":                           testReplayedCrossings,
	"what was carried belongs to the allowance":  testCarriedCrossing,
	"and when an administrator comes first":      testCarriedCrossingOfChanges,
	"windows of an account's own are crossed":    testAnchoredCrossing,
	"a grant arms again":                         testGrantArms,
	"a reset arms again":                         testResetArms,
	"a reset arms a pool again":                  testResetArmsPool,
	"counts that are set cross and arm again":    testSetCountsCross,
	"another plan crosses":                       testSetPlanCrosses,
	"another plan of a pool crosses":             testSetPlanOfPoolCrosses,
	"another plan and back crosses anew":         testSetPlanArms,
	"what waits is not recorded again":           testCrossingWaitsOnce,
	"crossings are ended":                        testEndCrossings,
	"crossings that nobody ends are dropped":     testCrossingLife,
	"accounts are claimed by one":                testClaims,
	"a claim is taken over":                      testClaimIsTakenOver,
	"a claim can be made again after a time":     testClaimAgain,
	"many claim at once":                         testConcurrentClaims,
	"a crossing during a claim is claimed later": testCrossingDuringClaim,
	"it is known how many wait":                  testWaiting,
}

// RunCrossings is Run for what a store records where plans have thresholds.
func RunCrossings(t *testing.T, open Open) {
	RunCrossingCases(t, open)
	t.Run("any sequence of calls follows the model", func(t *testing.T) {
		t.Parallel()
		testModel(t, modelSetup{notifyAt: []int{50, 80, 100, 200}}, open)
	})
}

// RunCrossingCases is RunCrossings without the model: it takes seconds.
func RunCrossingCases(t *testing.T, open Open) {
	for name, test := range crossingCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, &crossingHarness{newHarness(t, open, noon), map[string]bool{}})
		})
	}
}

// A crossingHarness is a harness for crossings.
type crossingHarness struct {
	*harness
	seen map[string]bool // the IDs of those that were there
}

// atMost is when the tests' thresholds are, in percent.
var atMost = []int{50, 80, 100}

// tenAMonth allows 10 requests a month.
var tenAMonth = NewNotifyingPlan("ten", atMost, quota.Limit{Amount: 10, Period: quota.Month})

func (h *crossingHarness) crossings(account string) []quota.Crossing {
	h.t.Helper()
	crossings, err := h.store.CrossingsOf(context.Background(), account)
	if err != nil {
		h.t.Fatalf("CrossingsOf: %v", err)
	}
	return crossings
}

// wantCrossings compares the crossings of an account with want: each as "LIMIT THRESHOLD USED/ALLOWANCE", in
// any order. Then it ends them. None of them may have an ID that was there before.
func (h *crossingHarness) wantCrossings(account string, want ...string) {
	h.t.Helper()
	got := h.crossings(account)
	h.wantTexts(account, got, want)
	for _, c := range got {
		if h.seen[c.ID] {
			h.t.Errorf("the ID of %s was there before", crossingText(c))
		}
		h.seen[c.ID] = true
	}
	h.end(account, got...)
}

// wantWaiting is wantCrossings and leaves them there.
func (h *crossingHarness) wantWaiting(account string, want ...string) {
	h.t.Helper()
	h.wantTexts(account, h.crossings(account), want)
}

func (h *crossingHarness) wantTexts(account string, got []quota.Crossing, want []string) {
	h.t.Helper()
	var texts []string
	for _, c := range got {
		texts = append(texts, crossingText(c))
	}
	slices.Sort(texts)
	want = slices.Sorted(slices.Values(want))
	if !slices.Equal(texts, want) {
		h.t.Errorf("the crossings of %q are %q, want %q", account, texts, want)
	}
}

func crossingText(c quota.Crossing) string {
	return fmt.Sprintf("%s %d%% %d/%d", c.Limit, c.Threshold, c.Used, c.Allowance)
}

// end ends crossings of an account.
func (h *crossingHarness) end(account string, crossings ...quota.Crossing) {
	h.t.Helper()
	var ids []string
	for _, c := range crossings {
		ids = append(ids, c.ID)
	}
	if err := h.store.EndCrossings(context.Background(), account, ids); err != nil {
		h.t.Fatalf("EndCrossings: %v", err)
	}
}

// spend makes a request that costs so many units.
func (h *crossingHarness) spend(units int64, user, endpoint string, p *quota.Plan) {
	h.t.Helper()
	d := h.reserve(weighted(user, endpoint, units, p))
	if !d.Admitted {
		h.t.Fatalf("%d units were refused at %v", units, numbers(d.Snapshot))
	}
	h.commit(d.Reservation)
}

func testCrossing(t *testing.T, h *crossingHarness) {
	want := map[int]string{5: "month 50% 5/10", 8: "month 80% 8/10", 10: "month 100% 10/10"}
	for i := 1; i <= 10; i++ {
		h.use(1, "u", "analyze", tenAMonth)
		if text, ok := want[i]; ok {
			h.wantCrossings("u", text)
		} else {
			h.wantCrossings("u")
		}
	}
	h.refuse("u", "analyze", tenAMonth)
	h.wantCrossings("u")
	h.use(4, "v", "analyze", tenAMonth)
	h.wantCrossings("v") // another user
	h.clock.Set(day(time.December, 3))
	h.use(5, "u", "analyze", tenAMonth)
	h.wantCrossings("u", "month 50% 5/10") // another window
}

func testCrossingFields(t *testing.T, h *crossingHarness) {
	p := mustPlan(quota.PlanOptions{Name: "tokens", UnitName: "tokens", Costs: weights, NotifyAt: []int{66, 100}, Limits: []quota.Limit{
		{Amount: 3, Period: quota.Month, Quantity: quota.Units}, {Amount: 3, Period: quota.Ever, Endpoint: "report", Soft: true}}})
	h.use(2, "u", "report", p)
	h.clock.Advance(time.Minute)
	h.use(1, "u", "report", p)
	got := h.crossings("u")
	if len(got) != 4 {
		t.Fatalf("there are %d crossings, want 4: %+v", len(got), got)
	}
	for i, c := range got {
		used, threshold, at := int64(2), 66, noon
		if i >= 2 { // the oldest come first
			used, threshold, at = 3, 100, noon.Add(time.Minute)
		}
		if late := c.At.Sub(at); late < -time.Millisecond || late > 50*time.Second || !c.At.Equal(c.At.Truncate(time.Millisecond)) {
			t.Errorf("crossing %d was recorded at %v, want %v, to the millisecond", i, c.At, at)
		}
		want := quota.Crossing{ID: quota.CrossingID("u", "month-units", "2026-11", threshold, 3, 0), Account: "u", At: c.At, Plan: "tokens", Limit: "month-units",
			Unit: "tokens", Used: used, Allowance: 3, Threshold: threshold, ResetsAt: time.Date(2026, time.December, 1, 0, 0, 0, 0, time.UTC)}
		if c.Limit == "report-ever-soft" {
			want.ID, want.Limit, want.Unit = quota.CrossingID("u", "report-ever-soft", "ever", threshold, 3, 0), "report-ever-soft", "requests"
			want.ResetsAt = time.Time{}
		}
		if !c.ResetsAt.Equal(want.ResetsAt) || c.ResetsAt.IsZero() != want.ResetsAt.IsZero() {
			t.Errorf("%s resets at %v, want %v", c.Limit, c.ResetsAt, want.ResetsAt)
		}
		if c.ResetsAt = want.ResetsAt; c != want {
			t.Errorf("crossing %d is %+v, want %+v", i, c, want)
		}
	}
}

func testHeldCrossesNothing(t *testing.T, h *crossingHarness) {
	h.use(4, "u", "analyze", tenAMonth)
	var held []quota.Reservation
	for range 6 {
		held = append(held, h.admit("u", "analyze", tenAMonth))
	}
	h.wantCrossings("u")
	h.release(held[0])
	h.wantCrossings("u")
	h.commit(held[1])
	h.wantCrossings("u", "month 50% 5/10")
	for _, r := range held[2:] {
		h.release(r)
	}
	h.wantCrossings("u")
}

func testRepeatedCommitCrossesOnce(t *testing.T, h *crossingHarness) {
	h.use(4, "u", "analyze", tenAMonth)
	r := h.admit("u", "analyze", tenAMonth)
	for range 3 {
		h.commit(r)
		h.wantWaiting("u", "month 50% 5/10")
	}
	h.release(r)
	h.wantCrossings("u", "month 50% 5/10")
	h.commit(r)
	h.wantCrossings("u")
	// The hold is gone, and nobody has settled it.
	h.use(2, "u", "analyze", tenAMonth)
	late := h.admit("u", "analyze", tenAMonth)
	h.clock.Advance(5 * time.Minute)
	for range 2 {
		h.commit(late)
	}
	h.wantCrossings("u", "month 80% 8/10")
}

func testJumpedThresholds(t *testing.T, h *crossingHarness) {
	p := NewNotifyingPlan("units", atMost, quota.Limit{Amount: 10, Period: quota.Month, Quantity: quota.Units}, quota.Limit{Amount: 3, Period: quota.Month, Soft: true})
	h.spend(9, "u", "report", p)
	h.wantCrossings("u", "month-units 80% 9/10")
	h.spend(1, "u", "report", p)
	h.wantCrossings("u", "month-units 100% 10/10", "month-soft 50% 2/3")
	h.spend(10, "v", "report", p)
	h.wantCrossings("v", "month-units 100% 10/10")
}

func testNoThresholds(t *testing.T, h *crossingHarness) {
	h.use(9, "u", "analyze", hundredAMonth)
	h.wantCrossings("u")
	if claims, err := h.store.ClaimCrossings(context.Background(), 10); err != nil || len(claims.Claims) > 0 || claims.Waiting != 0 || !claims.Oldest.IsZero() {
		t.Errorf("without a crossing, the claims are %+v, error %v", claims, err)
	}
	// They count from the request on whose plan has them.
	h.use(1, "u", "analyze", tenAMonth)
	h.wantCrossings("u", "month 100% 10/10")
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 95}})
	h.wantCrossings("u")
}

func testNothingOfNothing(t *testing.T, h *crossingHarness) {
	p := NewNotifyingPlan("none", atMost, quota.Limit{Amount: 0, Period: quota.Month}, quota.Limit{Amount: 4, Period: quota.Day, Soft: true})
	h.commit(h.passObserved(observedRequest("u", "report", p), "month"))
	h.wantCrossings("u")
	h.commit(h.passObserved(observedRequest("u", "report", p), "month"))
	h.wantCrossings("u", "day-soft 50% 2/4")
	h.applyChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 2, Period: quota.Month}) // it is 2 of 2 then
	h.wantCrossings("u")
}

func testCrossingsOfLimits(t *testing.T, h *crossingHarness) {
	p := NewNotifyingPlan("p", atMost, quota.Limit{Amount: 10, Period: quota.Month}, quota.Limit{Amount: 4, Period: quota.Day},
		quota.Limit{Amount: 2, Period: quota.Month, Endpoint: "report"}, quota.Limit{Amount: 5, Period: quota.Hour, Endpoint: "analyze"})
	h.use(1, "u", "report", p)
	h.wantCrossings("u", "report-month 50% 1/2")
	h.use(1, "u", "report", p)
	h.wantCrossings("u", "report-month 100% 2/2", "day 50% 2/4")
	h.use(2, "u", "analyze", p)
	h.wantCrossings("u", "day 100% 4/4")
	h.clock.Advance(oneDay)
	h.use(1, "u", "analyze", p)
	h.wantCrossings("u", "month 50% 5/10")
	h.use(2, "u", "analyze", p)
	h.wantCrossings("u", "day 50% 2/4", "analyze-hour 50% 3/5")
}

func testSoftCrossings(t *testing.T, h *crossingHarness) {
	// A hard limit has the grant, and the soft one on the same counter has not.
	p := NewNotifyingPlan("soft", []int{100, 150, quota.MaxThreshold}, quota.Limit{Amount: 2, Period: quota.Month, Soft: true}, quota.Limit{Amount: 3, Period: quota.Month})
	h.applyChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 17, Period: quota.Month})
	h.use(1, "u", "report", p)
	h.wantCrossings("u")
	h.use(1, "u", "report", p)
	h.wantCrossings("u", "month-soft 100% 2/2")
	h.use(1, "u", "report", p)
	h.wantCrossings("u", "month-soft 150% 3/2")
	h.use(16, "u", "report", p)
	h.wantCrossings("u")
	h.use(1, "u", "report", p)
	h.wantCrossings("u", "month-soft 1000% 20/2", "month 100% 20/20")

	// Alone, it is raised by a grant.
	alone := NewNotifyingPlan("alone", []int{100}, quota.Limit{Amount: 2, Period: quota.Month, Soft: true})
	h.applyChange("v", alone, quota.Change{Action: quota.ActionGrant, Requests: 1})
	h.use(2, "v", "report", alone)
	h.wantCrossings("v")
	h.use(2, "v", "report", alone)
	h.wantCrossings("v", "month-soft 100% 3/3")
}

func testObservedCrossings(t *testing.T, h *crossingHarness) {
	p := mustPlan(quota.PlanOptions{Name: "p", Observe: true, NotifyAt: []int{100, 150}, Limits: []quota.Limit{{Amount: 2, Period: quota.Month}}})
	h.use(2, "u", "report", p)
	h.wantCrossings("u", "month 100% 2/2")
	h.use(1, "u", "report", p)
	h.wantCrossings("u", "month 150% 3/2")
}

func testUnitCrossings(t *testing.T, h *crossingHarness) {
	p := NewNotifyingPlan("units", atMost, quota.Limit{Amount: 100, Period: quota.Month, Quantity: quota.Units},
		quota.Limit{Amount: 20, Period: quota.Day, Endpoint: "analyze", Quantity: quota.Units}, quota.Limit{Amount: 2, Period: quota.Month})
	r := h.reserve(weighted("u", "analyze", 20, p)).Reservation
	r.Unused = 11
	h.commit(r)
	h.wantCrossings("u", "month 50% 1/2") // 9 units
	h.clock.Advance(oneDay)
	free := h.reserve(weighted("u", "report", 50, p)).Reservation
	free.Unused = 50
	h.commit(free)
	h.wantCrossings("u", "month 100% 2/2")
	h.applyChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 100})
	h.spend(41, "u", "report", p)
	h.wantCrossings("u", "month-units 50% 50/100")
	h.spend(19, "u", "analyze", p)
	h.wantCrossings("u", "analyze-day-units 80% 19/20")
	h.applyChange("u", p, quota.Change{Action: quota.ActionGrant, Units: 100})
	h.spend(91, "u", "report", p)
	h.wantCrossings("u", "month-units 80% 160/200")
}

func testRestCrosses(t *testing.T, h *crossingHarness) {
	p := NewNotifyingPlan("units", atMost, quota.Limit{Amount: 10, Period: quota.Month, Quantity: quota.Units}, quota.Limit{Amount: 2, Period: quota.Day})
	r := h.twoSteps(weighted("u", "report", 9, p), 8, 5)
	h.commit(r)
	h.wantCrossings("u", "day 50% 1/2")
	for range 2 { // sent twice
		h.commitRest(r)
	}
	h.wantCrossings("u", "month-units 50% 6/10")
	h.commitRest(r)
	h.commit(r)
	h.wantCrossings("u")
	// Each step crosses by itself.
	r = h.twoSteps(weighted("u", "report", 4, p), 2, 2)
	h.commit(r)
	h.wantCrossings("u", "month-units 80% 8/10", "day 100% 2/2")
	h.commitRest(r)
	h.wantCrossings("u", "month-units 100% 10/10")
	// Nothing is charged.
	r = h.twoSteps(weighted("v", "report", 9, p), 4, 0)
	h.commit(r)
	h.wantCrossings("v", "month-units 50% 5/10", "day 50% 1/2")
	h.commitRest(r)
	h.wantCrossings("v")
}

func testRestCrossesFirst(t *testing.T, h *crossingHarness) {
	p := NewNotifyingPlan("units", atMost, quota.Limit{Amount: 10, Period: quota.Month, Quantity: quota.Units}, quota.Limit{Amount: 2, Period: quota.Month, Shared: true})
	r := h.twoSteps(weighted(member("u"), "report", 9, p), 6, 6)
	h.commitRest(r)
	h.wantCrossings(member("u"), "month-units 50% 6/10")
	h.wantCrossings(acme)
	h.commit(r)
	h.wantCrossings(member("u"), "month-units 80% 9/10")
	h.wantCrossings(acme, "shared-month 50% 1/2")
	h.commitRest(r)
	h.wantCrossings(member("u"))
}

func testSharedCrossings(t *testing.T, h *crossingHarness) {
	p := NewNotifyingPlan("team", atMost, quota.Limit{Amount: 4, Period: quota.Month}, quota.Limit{Amount: 5, Period: quota.Month, Shared: true},
		quota.Limit{Amount: 2, Period: quota.Month, Endpoint: "report", Shared: true}, quota.Limit{Amount: 6, Period: quota.Day, Quantity: quota.Units, Shared: true, Soft: true})
	h.use(1, member("a"), "report", p)
	h.wantCrossings(member("a"))
	h.wantCrossings(acme, "shared-report-month 50% 1/2")
	h.use(1, member("b"), "analyze", p)
	h.wantCrossings(acme)
	h.use(1, member("a"), "analyze", p)
	h.wantCrossings(member("a"), "month 50% 2/4")
	crossings := h.crossings(acme)
	h.wantCrossings(acme, "shared-month 50% 3/5", "shared-day-units-soft 50% 3/6")
	for _, c := range crossings {
		if c.Account != acme || c.Plan != "team" || c.ID != quota.CrossingID(acme, c.Limit, map[bool]string{true: "2026-11", false: "2026-11-17"}[c.Limit == "shared-month"], 50, c.Allowance, 0) {
			t.Errorf("the crossing of a pool is %+v", c)
		}
	}
	h.use(1, member("b"), "report", p)
	h.wantCrossings(member("b"), "month 50% 2/4")
	h.wantCrossings(acme, "shared-month 80% 4/5", "shared-report-month 100% 2/2")
	// The same person elsewhere.
	h.use(2, "a", "report", p)
	h.use(2, quota.MemberAccount("globex", "a"), "report", p)
	h.wantCrossings("a", "month 50% 2/4")
	h.wantCrossings(quota.PoolAccount("globex"), "shared-report-month 50% 1/2", "shared-report-month 100% 2/2")
	h.wantCrossings(acme)
}

func testLoweredPlanCrosses(t *testing.T, h *crossingHarness) {
	h.use(4, "u", "report", tenAMonth)
	h.wantCrossings("u")
	six := NewNotifyingPlan("six", atMost, quota.Limit{Amount: 6, Period: quota.Month})
	h.release(h.admit("u", "report", six))
	h.wantCrossings("u")
	h.use(1, "u", "report", six) // from 67 to 83 percent
	h.wantCrossings("u", "month 80% 5/6")
	h.use(1, "u", "report", six)
	h.wantCrossings("u", "month 100% 6/6")
	// Of a larger plan, other thresholds are reached.
	h.use(2, "u", "report", tenAMonth)
	h.wantCrossings("u", "month 80% 8/10")
}

func testOverriddenThresholds(t *testing.T, h *crossingHarness) {
	plans := quota.PlanChoice{Claimed: hundredAMonth, ByName: map[string]*quota.Plan{"free": hundredAMonth, "ten": tenAMonth}}
	r := request("u", "report", hundredAMonth)
	r.Plans = plans
	before := h.reserve(r).Reservation // by the plan that its token claims
	if _, err := h.store.ApplyChange(context.Background(), "u", plans, quota.Change{Action: quota.ActionSetPlan, Plan: "ten"}); err != nil {
		t.Fatal(err)
	}
	h.use(4, "u", "report", hundredAMonth) // whose choice has no other plan
	h.wantCrossings("u")
	h.commit(before)
	h.wantCrossings("u", "month 50% 5/10")
}

func testConcurrentCrossings(t *testing.T, h *crossingHarness) {
	p := NewNotifyingPlan("team", atMost, quota.Limit{Amount: 60, Period: quota.Month}, quota.Limit{Amount: 120, Period: quota.Month, Shared: true})
	var wait sync.WaitGroup
	for i := range 120 {
		wait.Go(func() {
			r := h.admitConcurrently(member([]string{"a", "b"}[i%2]), p)
			for range 1 + i%2 {
				if _, err := h.store.Commit(context.Background(), &r); err != nil {
					h.t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	wait.Wait()
	h.wantCrossings(member("a"), "month 50% 30/60", "month 80% 48/60", "month 100% 60/60")
	h.wantCrossings(member("b"), "month 50% 30/60", "month 80% 48/60", "month 100% 60/60")
	h.wantCrossings(acme, "shared-month 50% 60/120", "shared-month 80% 96/120", "shared-month 100% 120/120")
}
