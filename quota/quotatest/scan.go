package quotatest

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"metergate/quota"
)

func testScanUsers(t *testing.T, h *harness) {
	if got := h.scanUsers(quota.Month, h.clock.Now()); len(got) != 0 {
		t.Errorf("ScanUsers yields %v, want nobody", got)
	}
	const many = 700
	h.useByManyUsers(many)
	odd := `ü {*}[?]\:/ "x"`
	h.setMonthCounts(odd, map[string]int64{"analyze": 2, "removed": 3, "report": 0})
	h.applyChange(odd, hundredAMonth, quota.Change{Action: quota.ActionSetPlan, Plan: "pro"})
	h.applyChange("ended", hundredAMonth, quota.Change{Action: quota.ActionSetPlan, Plan: "pro", Until: h.clock.Now().Add(time.Hour)})
	h.setMonthCounts("ended", map[string]int64{"report": 1})
	h.use(1, "daily", "report", NewPlan("daily", quota.Limit{Amount: 5, Period: quota.Day}))
	h.admit("holds", "report", hundredAMonth)
	h.setMonthCounts("nothing", map[string]int64{"report": 0})
	november := h.clock.Now()
	h.clock.Advance(20 * 24 * time.Hour)
	h.use(2, "december", "report", hundredAMonth)
	h.use(1, odd, "report", hundredAMonth)

	got := h.scanUsers(quota.Month, november)
	for i := range many {
		if u := got[fmt.Sprint("user-", i)]; u.Used != int64(i)+1 || u.Endpoints["analyze"] != int64(i)+1 {
			t.Errorf("user-%d: %+v", i, u)
		}
	}
	if u := got[odd]; u.Used != 5 || u.Endpoints["analyze"] != 2 || u.Endpoints["removed"] != 3 || len(u.Endpoints) != 2 || u.Override != (quota.Override{Plan: "pro"}) {
		t.Errorf("%s: %+v", odd, u)
	}
	if u := got["ended"]; u.Used != 1 || u.Override != (quota.Override{}) {
		t.Errorf("ended: %+v", u)
	}
	if len(got) != many+2 {
		t.Errorf("%d users in November, want %d", len(got), many+2)
	}
	if got := h.scanUsers(quota.Day, november); len(got) != 1 || got["daily"].Used != 1 {
		t.Errorf("on the day: %v, want daily", got)
	}
	if got := h.scanUsers(quota.Month, h.clock.Now()); len(got) != 2 || got["december"].Used != 2 || got[odd].Used != 1 {
		t.Errorf("in December: %v", got)
	}
	h.wantScanErrors(november)
}

// scanUsers returns all users of a window, each of whom must be yielded once.
func (h *harness) scanUsers(period quota.Period, at time.Time) map[string]quota.UserUsage {
	h.t.Helper()
	users := map[string]quota.UserUsage{}
	err := h.store.ScanUsers(context.Background(), quota.WindowQuery{Period: period, At: at}, func(u quota.UserUsage) error {
		if _, twice := users[u.User]; twice {
			h.t.Errorf("%q is yielded twice", u.User)
		}
		users[u.User] = u
		return nil
	})
	if err != nil {
		h.t.Errorf("ScanUsers: %v", err)
	}
	return users
}

func (h *harness) setMonthCounts(user string, counts map[string]int64) {
	h.t.Helper()
	h.applyChange(user, hundredAMonth, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: counts})
}

// useByManyUsers sets the counts of so many users: user-0 has 1, user-1 has 2, and so on.
func (h *harness) useByManyUsers(many int) {
	var wait sync.WaitGroup
	for part := range 4 {
		wait.Go(func() {
			for i := part; i < many; i += 4 {
				_, err := h.store.ApplyChange(context.Background(), fmt.Sprint("user-", i), hundredAMonth.OnlyChoice(),
					quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": int64(i) + 1}})
				if err != nil {
					h.t.Errorf("ApplyChange: %v", err)
				}
			}
		})
	}
	wait.Wait()
}

// wantScanErrors checks that an error of yield ends a scan, and that windows which are not kept
// cannot be scanned. The window of at must have at least three users.
func (h *harness) wantScanErrors(at time.Time) {
	h.t.Helper()
	stop, n := errors.New("enough"), 0
	err := h.store.ScanUsers(context.Background(), quota.WindowQuery{Period: quota.Month, At: at}, func(quota.UserUsage) error {
		if n++; n == 3 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 3 {
		h.t.Errorf("error %v after %d users, want yield's error after the third", err, n)
	}
	for _, wrong := range []time.Time{h.clock.Now().AddDate(0, 2, 0), h.clock.Now().Add(-2 * keep)} {
		if err := h.store.ScanUsers(context.Background(), quota.WindowQuery{Period: quota.Month, At: wrong}, func(quota.UserUsage) error { return nil }); !errors.Is(err, quota.ErrNotKept) {
			h.t.Errorf("%v: error %v, want %v", wrong, err, quota.ErrNotKept)
		}
	}
}

// member is the account of a user in the organisation acme.
func member(user string) string { return quota.MemberAccount("acme", user) }

// The same person in two organisations, and in none, has three counts.
func testScanMembers(t *testing.T, h *harness) {
	globex := func(user string) string { return quota.MemberAccount("globex", user) }
	h.use(1, "u", "analyze", hundredAMonth)
	h.use(2, member("u"), "analyze", hundredAMonth)
	h.use(3, globex("u"), "report", hundredAMonth)
	for i := range 5 {
		h.use(1, member(fmt.Sprint("user-", i)), "report", hundredAMonth)
	}
	h.setMonthCounts(quota.PoolAccount("acme"), map[string]int64{"analyze": 7})
	h.applyChange(member("u"), hundredAMonth, quota.Change{Action: quota.ActionSetPlan, Plan: "pro"})

	counts := func(scan func(yield func(quota.UserUsage) error) error) map[string]int64 {
		found := map[string]int64{}
		if err := scan(func(u quota.UserUsage) error {
			account := quota.MemberAccount(u.Org, u.User)
			if _, twice := found[account]; twice {
				t.Errorf("%q is yielded twice", account)
			}
			if (u.Override.Plan == "pro") != (account == member("u")) {
				t.Errorf("%q has the override %+v", account, u.Override)
			}
			found[account] = u.Used
			return nil
		}); err != nil {
			t.Error(err)
		}
		return found
	}
	all := counts(func(yield func(quota.UserUsage) error) error {
		return h.store.ScanUsers(context.Background(), quota.WindowQuery{Period: quota.Month, At: h.clock.Now()}, yield)
	})
	if len(all) != 8 || all["u"] != 1 || all[member("u")] != 2 || all[globex("u")] != 3 {
		t.Errorf("all users: %v", all)
	}
	for org, want := range map[string]int{"acme": 6, "globex": 1, "acm": 0, "u": 0} {
		members := counts(func(yield func(quota.UserUsage) error) error {
			return h.store.ScanMembers(context.Background(), org, quota.WindowQuery{Period: quota.Month, At: h.clock.Now()}, yield)
		})
		for account := range members {
			if of, user := quota.SplitAccount(account); of != org || user == "" {
				t.Errorf("%q is a member of %s", account, org)
			}
		}
		if len(members) != want {
			t.Errorf("the members of %s: %v", org, members)
		}
	}
}

// scanPlans are the plans of the users whose snapshots are scanned, of whom those that claim no other have
// "free".
var scanPlans = map[string]*quota.Plan{
	"free": hundredAMonth,
	"weighted": NewWeightedPlan("weighted", quota.Limit{Amount: 9, Period: quota.Month, Quantity: quota.Units}, quota.Limit{Amount: 5, Period: quota.Day, Endpoint: "report"},
		quota.Limit{Amount: 1, Period: quota.Month, Soft: true}),
	"team": NewWeightedPlan("team", quota.Limit{Amount: 50, Period: quota.Month}, quota.Limit{Amount: 20, Period: quota.Month, Shared: true},
		quota.Limit{Amount: 30, Period: quota.Day, Shared: true, Quantity: quota.Units}),
}

// plansClaimed returns the plans that may apply to a user whose token claims one of scanPlans.
func plansClaimed(claimed string) quota.PlanChoice {
	choice := quota.PlanChoice{Claimed: scanPlans[claimed], ByName: scanPlans}
	if choice.Claimed == nil {
		choice.Claimed = hundredAMonth
	}
	return choice
}

// What a scan says of a user is what Read says.
func testScanSnapshots(t *testing.T, h *harness) {
	query := quota.SnapshotQuery{Plans: plansClaimed}
	if found := h.scanSnapshots(query); len(found) != 0 {
		t.Errorf("ScanSnapshots yields %v, want nobody", found)
	}
	const many = 700
	h.useByManyUsers(many)
	want := map[string]string{}
	expect := func(account, numbers string) { want[account] = numbers }
	request := func(account, plan string, units int64) quota.Reservation {
		choice := plansClaimed(plan)
		choice.Scope = quota.ScopeOf(account)
		d := h.reserve(quota.Request{ID: quota.NewID(), User: account, Endpoint: "analyze", Units: units, Plans: choice, Lease: 130 * time.Second})
		if !d.Admitted {
			t.Fatalf("%q is refused", account)
		}
		return d.Reservation
	}
	h.commit(request(member("b"), "team", 1))
	h.commit(request("crashed", "weighted", 1))
	h.commit(request(member("crashed"), "team", 1))
	request("crashed", "weighted", 3)
	request(member("crashed"), "team", 3)
	h.clock.Advance(150 * time.Second)
	expect("crashed", "weighted 1+0 1+0 0+0 1+0 [1 0 0] units [1 0 0]")
	odd := `ü {*}[?]\:/ "x"`
	h.commit(request(odd, "weighted", 2))
	request(odd, "weighted", 3)
	expect(odd, "weighted 2+3 2+3 0+0 1+1 [1 0 0] units [2 0 0]")
	h.applyChange("overridden", hundredAMonth, quota.Change{Action: quota.ActionSetPlan, Plan: "weighted", Until: h.clock.Now().Add(time.Hour)})
	expect("overridden", "weighted 0+0 0+0 0+0 0+0 [0 0 0] units [0 0 0]")
	h.applyChange("ended", hundredAMonth, quota.Change{Action: quota.ActionSetPlan, Plan: "weighted", Until: h.clock.Now().Add(time.Minute)})
	h.setMonthCounts("ended", map[string]int64{"report": 1, "removed": 2})
	h.applyChange("granted", hundredAMonth, quota.Change{Action: quota.ActionGrant, Requests: 5})
	h.clock.Advance(90 * time.Second)
	expect("ended", "free 3+0 3+0 [0 0 1]")
	expect("granted", "free 0+0 0+0/5 [0 0 0]")
	h.commit(request(member("a"), "team", 3))
	request(member("b"), "team", 2)
	h.applyChange(quota.PoolAccount("acme"), scanPlans["team"], quota.Change{Action: quota.ActionGrant, Requests: 4, Period: quota.Month})
	expect(member("crashed"), "team 1+0 1+0 3+1/4 5+2 [1 0 0] units [1 0 0]")
	expect(member("a"), "team 1+0 1+0 3+1/4 5+2 [1 0 0] units [3 0 0]")
	expect(member("b"), "team 1+1 1+1 3+1/4 5+2 [1 0 0] units [1 0 0]")
	other := quota.MemberAccount("other", "a")
	h.applyChange(quota.PoolAccount("other"), hundredAMonth, quota.Change{Action: quota.ActionSetPlan, Plan: "weighted"})
	h.setMonthCounts(other, map[string]int64{"analyze": 1})
	expect(other, "weighted 1+0 1+0 0+0 1+0 [1 0 0] units [1 0 0]")
	for i := range many {
		expect(fmt.Sprint("user-", i), fmt.Sprintf("free %[1]d+0 %[1]d+0 [%[1]d 0 0]", i+1))
	}

	found := h.scanSnapshots(query)
	for account, numbers := range want {
		if found[account] != numbers {
			t.Errorf("%q: %s, want %s", account, found[account], numbers)
		}
	}
	if len(found) != len(want) {
		t.Errorf("%d users are found, want %d", len(found), len(want))
	}
	query.Org = "acme"
	if found := h.scanSnapshots(query); len(found) != 3 || found[member("a")] != want[member("a")] {
		t.Errorf("the members of acme are %v", found)
	}
	query = quota.SnapshotQuery{Plans: plansClaimed, Wanted: func(account string) bool { return account == odd }}
	if found := h.scanSnapshots(query); len(found) != 1 || found[odd] != want[odd] {
		t.Errorf("of one user: %v", found)
	}
	h.wantSnapshotScanEnds()
}

// scanSnapshots returns the plan and the numbers of what a scan yields, by account. It must be what Read
// returns.
func (h *harness) scanSnapshots(query quota.SnapshotQuery) map[string]string {
	h.t.Helper()
	found, err := scanSnapshots(h.store, query)
	if err != nil {
		h.t.Errorf("ScanSnapshots: %v", err)
	}
	return found
}

// scanSnapshots is harness.scanSnapshots with an error.
func scanSnapshots(store quota.Store, query quota.SnapshotQuery) (map[string]string, error) {
	found, ctx := map[string]string{}, context.Background()
	wanted, asked := query.Wanted, map[string]bool{}
	query.Wanted = func(account string) bool {
		asked[account] = true
		return wanted == nil || wanted(account)
	}
	err := store.ScanSnapshots(ctx, query, func(u quota.UserSnapshot) error {
		if _, twice := found[u.Account]; twice || !asked[u.Account] {
			return fmt.Errorf("%q is yielded twice, or nobody wanted it", u.Account)
		}
		read, err := store.Read(ctx, u.Account, query.PlansOf(u.Account, u.ClaimedPlan))
		if err != nil {
			return err
		}
		claimed, err := store.ClaimedPlan(ctx, u.Account)
		if err != nil {
			return err
		}
		got := u.Snapshot
		if apart := read.At.Sub(got.At).Abs(); apart > 5*time.Minute {
			return fmt.Errorf("%q is scanned at %v, and read at %v", u.Account, got.At, read.At)
		}
		got.At, read.At = time.Time{}, time.Time{}
		if !reflect.DeepEqual(got, read) || claimed != u.ClaimedPlan {
			return fmt.Errorf("the scan says of %q, who claims %q: %+v; and Read, of one who claims %q: %+v", u.Account, u.ClaimedPlan, got, claimed, read)
		}
		found[u.Account] = got.Plan.Name() + " " + numbers(got)
		return nil
	})
	return found, err
}

// wantSnapshotScanEnds checks what ends a scan of snapshots of at least three users.
func (h *harness) wantSnapshotScanEnds() {
	h.t.Helper()
	stop, n := errors.New("enough"), 0
	query := quota.SnapshotQuery{Plans: plansClaimed}
	err := h.store.ScanSnapshots(context.Background(), query, func(quota.UserSnapshot) error {
		if n++; n == 3 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 3 {
		h.t.Errorf("error %v after %d users, want yield's error after the third", err, n)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	query.Wanted = func(string) bool { cancel(); return false }
	if err := h.store.ScanSnapshots(ctx, query, func(quota.UserSnapshot) error { return nil }); !errors.Is(err, context.Canceled) {
		h.t.Errorf("error %v of a scan whose caller is gone", err)
	}
}

// checkScan compares a scan of the model's users with Read.
func (c *modelCheck) checkScan(t *rapid.T) {
	choice := quota.PlanChoice{Claimed: c.plans[rapid.IntRange(0, len(c.plans)-1).Draw(t, "plan")], ByName: c.byName}
	found, err := scanSnapshots(c.store, quota.SnapshotQuery{
		Plans:  func(string) quota.PlanChoice { return choice },
		Wanted: func(account string) bool { return c.models[account] != nil },
	})
	if err != nil {
		t.Fatal(err)
	}
	for account, m := range c.models {
		choice := choice
		choice.Scope = quota.ScopeOf(account)
		s := m.snapshot(choice, c.calendar, c.clock.Now())
		got, isFound := found[account]
		if want := s.Plan.Name() + " " + numbers(s); isFound && got != want {
			t.Fatalf("the scan says %s of %q, the rules say %s", got, account, want)
		}
		if !isFound && quota.ScopeOf(account) != quota.PoolScope && (m.overrideAt(c.clock.Now()) != "" || s.Total.Used > 0) {
			t.Fatalf("the scan does not find %q, who has %s", account, numbers(s))
		}
	}
}

// checkScan compares a scan with Read where the account has terms.
func (m *termsModel) checkScan(t *rapid.T) {
	plans := withTerms(m.plan, 1)
	plans.Anchor = nil
	if _, err := scanSnapshots(m.h.store, quota.SnapshotQuery{
		Plans:  func(string) quota.PlanChoice { return plans },
		Wanted: func(account string) bool { return account == m.user },
	}); err != nil {
		t.Fatal(err)
	}
}
