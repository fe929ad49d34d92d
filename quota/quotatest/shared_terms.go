package quotatest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"metergate/quota"
)

// anchoredTeam allows each member 9 requests a month, and all of them together 20; ten times as many a year.
var anchoredTeam = mustPlan(quota.PlanOptions{Name: "team", Anchor: quota.ClaimAnchor, Limits: []quota.Limit{
	{Amount: 9, Period: quota.Month}, {Amount: 20, Period: quota.Month, Shared: true},
	{Amount: 90, Period: quota.Year}, {Amount: 200, Period: quota.Year, Shared: true},
}})

// teamPlans are the plans that members in these cases may have.
var teamPlans = map[string]*quota.Plan{
	"team":      anchoredTeam,
	"first use": mustPlan(quota.PlanOptions{Name: "first use", Anchor: quota.FirstUseAnchor, Limits: anchoredTeam.Limits()}),
	"daily":     NewPlan("daily", quota.Limit{Amount: 9, Period: quota.Month}, quota.Limit{Amount: 5, Period: quota.Day, Shared: true}),
	"monthly":   NewPlan("monthly", quota.Limit{Amount: 9, Period: quota.Month}, quota.Limit{Amount: 6, Period: quota.Month, Shared: true}),
}

// memberTerms is withTerms for a member of a plan. With day 0, the token claims no day.
func memberTerms(p *quota.Plan, day int) quota.PlanChoice {
	plans := withTerms(p, day)
	plans.ByName, plans.Scope, plans.NoAnchor = teamPlans, quota.MemberScope, day == 0
	return plans
}

// poolTerms is the choice of p alone where an administrator asks for a pool.
func poolTerms(p *quota.Plan) quota.PlanChoice {
	return quota.PlanChoice{Claimed: p, Terms: true, Scope: quota.PoolScope}
}

// pair shows a member's limit and the shared one after it: "WINDOW used, WINDOW used/allowance".
func pair(s quota.Snapshot) string {
	own, shared := s.Limits[0], s.Limits[1]
	return fmt.Sprintf("%s %d, %s %d/%d", own.Window.ID, own.Used, shared.Window.ID, shared.Used, s.Allowance(1))
}

func (h *harness) wantPair(user string, plans quota.PlanChoice, want string) {
	h.t.Helper()
	s, err := h.store.Read(context.Background(), user, plans)
	if err != nil {
		h.t.Fatalf("Read: %v", err)
	}
	if got := pair(s); got != want {
		h.t.Errorf("%q has %q, want %q", user, got, want)
	}
}

// A pool has the first anchor that it was given. Members with others have their own months and share
// those of the pool; only an administrator moves them.
func testAnchorOfPool(t *testing.T, h *harness) {
	on15, on20, without := memberTerms(anchoredTeam, 15), memberTerms(anchoredTeam, 20), memberTerms(anchoredTeam, 0)
	h.useWith(2, member("a"), on15)
	for range 3 {
		h.useWith(1, member("b"), on20)
		h.useWith(1, member("c"), without)
	}
	h.wantPair(member("a"), on15, "month-2026-11-15 2, month-2026-11-15 8/20")
	h.wantPair(member("b"), on20, "month-2026-10-20 3, month-2026-11-15 8/20")
	h.wantPair(member("c"), without, "2026-11 3, month-2026-11-15 8/20")
	h.wantHeadline(acme, poolTerms(anchoredTeam), "month-2026-11-15 8+0/20 (0)")
	h.clock.Set(day(time.December, 20))
	h.useWith(1, member("b"), on20)
	h.wantPair(member("a"), on15, "month-2026-12-15 0, month-2026-12-15 1/20")
	h.wantPair(member("b"), on20, "month-2026-12-20 1, month-2026-12-15 1/20")

	// An administrator moves it at the end of the running month, whatever the tokens say meanwhile.
	change := func(c quota.Change) {
		t.Helper()
		if _, err := h.store.ApplyChange(context.Background(), acme, poolTerms(anchoredTeam), c); err != nil {
			t.Fatal(err)
		}
	}
	change(quota.Change{Action: quota.ActionSetAnchor, Anchor: "25"})
	h.useWith(1, member("a"), on15)
	h.useWith(1, member("b"), on20)
	h.wantPair(member("a"), on15, "month-2026-12-15 1, month-2026-12-15 3/20")
	h.clock.Set(day(time.January, 15))
	h.useWith(1, member("a"), on15)
	h.wantPair(member("a"), on15, "month-2027-01-15 1, month-2027-01-15 1/6") // 10 of 31 days
	h.clock.Set(day(time.January, 26))
	h.useWith(1, member("c"), without)
	h.wantPair(member("a"), on15, "month-2027-01-15 1, month-2027-01-25 1/20")
	change(quota.Change{Action: quota.ActionClearAnchor})
	h.useWith(1, member("c"), without) // has none to give
	h.clock.Set(day(time.February, 25))
	h.wantPair(member("c"), without, "2027-02 0, month-2027-02-25 0/20")
	h.useWith(1, member("b"), on20)
	h.useWith(1, member("a"), on15)
	h.clock.Set(time.Date(2027, time.March, 25, 12, 0, 0, 0, time.UTC))
	h.wantPair(member("a"), on15, "month-2027-03-15 0, month-2027-03-25 0/16") // to 20 April, 26 of 31 days
}

// A pool's months begin on the day of its own first counted request, and a member's on that of theirs.
func testFirstUseOfPool(t *testing.T, h *harness) {
	plans := memberTerms(teamPlans["first use"], 0)
	h.release(h.reserve(requestWith(plans, member("a"))).Reservation)
	h.wantPair(member("a"), plans, "2026-11 0, 2026-11 0/20")
	h.clock.Set(day(time.November, 19))
	h.useWith(1, member("a"), plans)
	h.clock.Set(day(time.November, 21))
	h.useWith(1, member("b"), plans)
	h.wantPair(member("a"), plans, "month-2026-11-19 1, month-2026-11-19 2/20")
	h.wantPair(member("b"), plans, "month-2026-11-21 1, month-2026-11-19 2/20")
	h.useWith(1, member("c"), memberTerms(anchoredTeam, 15)) // of another plan
	h.wantPair(member("c"), memberTerms(anchoredTeam, 15), "month-2026-11-15 1, month-2026-11-19 3/20")
	h.clock.Set(day(time.December, 20))
	h.wantPair(member("b"), plans, "month-2026-11-21 1, month-2026-12-19 0/20")
}

// Members of one organisation with different plans share the windows of the pool, where their plans
// share something in them.
func testPlansOfPool(t *testing.T, h *harness) {
	daily, monthly := teamPlans["daily"], teamPlans["monthly"]
	h.useWith(2, member("d"), memberTerms(daily, 15))
	if s, err := h.store.Read(context.Background(), acme, poolTerms(daily)); err != nil || !s.Terms.IsZero() || s.Limits[0].Used != 2 {
		t.Errorf("the pool has %d used and the terms %q, error %v; want 2 and none", s.Limits[0].Used, s.Terms, err)
	}
	h.wantPair(member("d"), memberTerms(daily, 15), "2026-11 2, 2026-11-17 2/5")
	h.clock.Set(day(time.November, 18))
	h.useWith(1, member("a"), memberTerms(anchoredTeam, 15))
	h.useWith(1, member("m"), memberTerms(monthly, 15))
	h.useWith(1, member("d"), memberTerms(daily, 15))
	h.clock.Set(day(time.December, 2)) // the pool was counted on a day before it was given the 15th
	h.useWith(1, member("m"), memberTerms(monthly, 20))
	h.wantPair(member("a"), memberTerms(anchoredTeam, 15), "month-2026-11-15 1, month-2026-12-01 1/9") // 14 of 30 days
	h.wantPair(member("m"), memberTerms(monthly, 20), "2026-12 1, month-2026-12-01 1/2")
}

// The first requests of an account, with tokens that claim different days, and an administrator who sets
// another one, arrive at the same moment: all requests count in one month, and one year.
func testAnchorsRace(t *testing.T, h *harness) {
	for round := range 100 {
		user, org := fmt.Sprint("race-", round), fmt.Sprint("org-", round)
		account := func(i int) string {
			if round%2 == 0 {
				return user
			}
			return quota.MemberAccount(org, fmt.Sprint("m-", i))
		}
		changed, asks := user, withTerms(anchoredTeam, 0)
		if round%2 == 1 {
			changed, asks = quota.PoolAccount(org), poolTerms(anchoredTeam)
		}
		asks.Anchor = nil
		var calls sync.WaitGroup
		start := make(chan struct{})
		for i, day := range []int{0, 15, 20, 0, 15} {
			plans := memberTerms(anchoredTeam, day)
			plans.Scope = quota.ScopeOf(account(i))
			calls.Go(func() {
				<-start
				d, err := h.store.Reserve(context.Background(), requestWith(plans, account(i)))
				if err == nil && d.Admitted {
					_, err = h.store.Commit(context.Background(), &d.Reservation)
				}
				if err != nil || !d.Admitted {
					t.Errorf("admitted %v, error %v", d.Admitted, err)
				}
			})
		}
		if round%4 < 2 {
			calls.Go(func() {
				<-start
				if _, err := h.store.ApplyChange(context.Background(), changed, asks, quota.Change{Action: quota.ActionSetAnchor, Anchor: "25"}); err != nil {
					t.Error(err)
				}
			})
		}
		close(start)
		calls.Wait()
		s, err := h.store.Read(context.Background(), changed, asks)
		if err != nil || s.Limits[0].Used != 5 || s.Limits[1].Used != 5 {
			t.Fatalf("round %d: %s with the terms %q, error %v; want 5 used", round, headline(s), s.Terms, err)
		}
	}
}

// An override that has ended since a gateway saw it decides nothing: neither the plan of the member nor the months of the
// pool, nor the other way round.
func testEndedOverrideAndAnchor(t *testing.T, h *harness) {
	until := quota.Change{Action: quota.ActionSetPlan, Plan: "team", Until: h.clock.Now().Add(time.Hour)}
	ofMember, ofPool := memberTerms(hundredAMonth, 15), memberTerms(hundredAMonth, 15)
	ofPool.Scope = quota.PoolScope
	for account, plans := range map[string]quota.PlanChoice{member("a"): ofMember, quota.PoolAccount("other"): ofPool} {
		if _, err := h.store.ApplyChange(context.Background(), account, plans, until); err != nil {
			t.Fatal(err)
		}
	}
	h.wantPair(member("a"), ofMember, "month-2026-11-15 0, month-2026-11-15 0/20")
	b := quota.MemberAccount("other", "b")
	h.wantPair(b, ofMember, "month-2026-11-15 0, month-2026-11-15 0/20")
	h.clock.Advance(2 * time.Hour)
	for _, user := range []string{member("a"), b} {
		d := h.reserve(requestWith(ofMember, user))
		if terms := d.Snapshot.Terms.String() + d.Snapshot.Pool.Terms.String(); terms != "" {
			t.Errorf("%q has the terms %q, want none", user, terms)
		}
		h.commit(d.Reservation)
	}
	on20 := memberTerms(anchoredTeam, 20)
	h.useWith(1, member("c"), on20) // gives the pool its months
	h.wantPair(member("c"), on20, "month-2026-10-20 1, month-2026-10-20 1/20")
}

// What was left of a shared limit moves on once, for all members, and no further.
func testSharedCarry(t *testing.T, h *harness) {
	p := NewPlan("team", quota.Limit{Amount: 8, Period: quota.Month, Carry: 2}, quota.Limit{Amount: 20, Period: quota.Month, Carry: 5, Shared: true})
	plans := memberTerms(p, 0)
	h.useWith(8, member("a"), plans)
	h.useWith(4, member("b"), plans)
	h.wantPair(member("a"), plans, "2026-11 8, 2026-11 12/20")
	h.clock.Set(day(time.December, 2))
	h.wantHeadline(acme, poolTerms(p), "2026-12 0+0/25 (5)")
	h.wantPair(member("b"), plans, "2026-12 0, 2026-12 0/25")
	h.wantHeadline(member("a"), plans, "2026-12 0+0/8 (0)")
	h.wantHeadline(member("b"), plans, "2026-12 0+0/10 (2)")
	h.wantHeadline(member("new"), plans, "2026-12 0+0/8 (0)")
	admitted := make(chan int)
	for _, user := range []string{"a", "b", "c", "d"} {
		go func() { admitted <- h.concurrently(20, requestWith(plans, member(user))) }()
	}
	if n := <-admitted + <-admitted + <-admitted + <-admitted; n != 25 {
		t.Errorf("%d of 80 were admitted, want 25", n)
	}
	h.wantHeadline(acme, poolTerms(p), "2026-12 25+0/25 (5)")
	h.clock.Set(day(time.January, 2))
	h.wantHeadline(acme, poolTerms(p), "2027-01 0+0/20 (0)")
	h.useWith(3, member("b"), plans)
	h.clock.Set(day(time.February, 2))
	h.wantPair(member("b"), plans, "2027-02 0, 2027-02 0/25")
	h.clock.Set(time.Date(2027, time.March, 2, 12, 0, 0, 0, time.UTC)) // nobody came in February
	h.useWith(1, member("c"), plans)
	h.wantHeadline(acme, poolTerms(p), "2027-03 1+0/25 (5)")
}

// A limit carries what was left of a limit of its name, and nothing if the account was on none.
func testCarryOfPlans(t *testing.T, h *harness) {
	small := withTerms(NewPlan("small", quota.Limit{Amount: 10, Period: quota.Month, Carry: 3}), 0)
	big := withTerms(NewPlan("big", quota.Limit{Amount: 100, Period: quota.Month, Carry: 50}), 0)
	daily := withTerms(NewPlan("daily", quota.Limit{Amount: 9, Period: quota.Day, Carry: 5}), 0)
	none := withTerms(hundredAMonth, 0)
	h.useWith(1, "today", none)
	h.wantHeadline("today", daily, "2026-11-17 0+0/9 (0)")
	h.useWith(1, "today", daily)
	h.useWith(5, "upgraded", none)
	h.useWith(9, "bigger", small)
	h.useWith(20, "smaller", big)
	h.clock.Set(day(time.November, 18))
	h.wantHeadline("today", daily, "2026-11-18 0+0/14 (5)")
	h.wantHeadline("upgraded", daily, "2026-11-18 0+0/9 (0)")
	h.clock.Set(day(time.December, 2))
	h.wantHeadline("upgraded", big, "2026-12 0+0/100 (0)")
	h.useWith(1, "upgraded", big)
	h.wantHeadline("bigger", big, "2026-12 0+0/101 (1)")
	h.useWith(1, "bigger", big)
	h.wantHeadline("smaller", small, "2026-12 0+0/10 (0)")
	h.useWith(2, "smaller", small)
	h.useWith(2, "smaller", none)
	h.clock.Set(day(time.January, 2))
	h.wantHeadline("upgraded", big, "2027-01 0+0/150 (50)")
	h.wantHeadline("smaller", small, "2027-01 0+0/13 (3)")
	h.useWith(1, "smaller", none)
	h.clock.Set(day(time.February, 2))
	h.wantHeadline("smaller", small, "2027-02 0+0/10 (0)")
}
