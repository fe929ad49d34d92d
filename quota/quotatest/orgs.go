package quotatest

import (
	"context"
	"fmt"
	"testing"

	"metergate/quota"
)

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
