package quotatest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

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
