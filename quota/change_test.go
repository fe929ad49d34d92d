package quota_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"metergate/quota"
)

// Changes have the same fingerprint if and only if they have the same effect.
func TestFingerprintIdentifiesEffect(t *testing.T) {
	base := quota.Change{Action: quota.ActionSetPlan, Plan: "pro", Until: instant(t, "2026-11-17T12:00:00Z")}
	same := base
	same.By, same.Reason, same.ID, same.Until = "ann", "asked", "17", base.Until.In(time.FixedZone("", 3600))
	if base.Fingerprint() != same.Fingerprint() {
		t.Error("By, Reason, ID or time zone change the fingerprint")
	}
	seen := map[string]quota.Change{}
	for _, c := range []quota.Change{
		base,
		{Action: quota.ActionSetPlan, Plan: "pro"},
		{Action: quota.ActionSetPlan, Plan: "free"},
		{Action: quota.ActionReset}, {Action: quota.ActionClearPlan},
		{Action: quota.ActionGrant, Requests: 1}, {Action: quota.ActionGrant, Requests: 2},
		{Action: quota.ActionGrant, Requests: 1, Period: quota.Month},
		{Action: quota.ActionGrant, Requests: 1, Period: quota.Month, Endpoint: "report"},
		{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"a": 1}},
		{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"a": 2}},
		{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"b": 1}},
		{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"a": 1}},
	} {
		if other, ok := seen[c.Fingerprint()]; ok {
			t.Errorf("%+v and %+v have the same fingerprint", c, other)
		}
		seen[c.Fingerprint()] = c
	}
}

// A change is to a user, a member or a pool, whose ids are as in a token.
func TestChangeNamesAnAccount(t *testing.T) {
	for account, ok := range map[string]bool{
		"u": true, quota.MemberAccount("acme", "u"): true, quota.PoolAccount("acme"): true,
		quota.MemberAccount(strings.Repeat("o", 256), strings.Repeat("u", 256)): true,
		"": false, "a\nb": false, "\x1f": false, "\x1facme": false, "\x1f\x1fu": false, "\x1facme\x1fu\x1fv": false,
		quota.PoolAccount("a\nb"): false, quota.MemberAccount("acme", "a\nb"): false,
		quota.PoolAccount(strings.Repeat("o", 257)): false, quota.MemberAccount("acme", strings.Repeat("u", 257)): false,
	} {
		err := quota.Change{Action: quota.ActionReset}.Validate(account)
		if ok != (err == nil) || !ok && !errors.Is(err, quota.ErrInvalidChange) {
			t.Errorf("%q: %v", account, err)
		}
	}
}

// A grant to a member raises a limit of their own, and one to the pool a shared limit.
func TestGrantsToMembersAndPools(t *testing.T) {
	p, err := quota.NewPlan(quota.PlanOptions{Name: "team", WarnAt: 80, Endpoints: []string{"analyze"}, Limits: []quota.Limit{
		{Amount: 500, Period: quota.Month, Shared: true}, {Amount: 50, Period: quota.Day, Shared: true}, {Amount: 20, Period: quota.Month},
	}})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		scope  quota.Scope
		period quota.Period
		want   int // -1: there is no such limit
	}{
		{quota.MemberScope, 0, 2}, {quota.MemberScope, quota.Month, 2}, {quota.MemberScope, quota.Day, -1},
		{quota.PoolScope, 0, 0}, {quota.PoolScope, quota.Month, 0}, {quota.PoolScope, quota.Day, 1},
		{quota.UserScope, 0, 0}, {quota.UserScope, quota.Day, -1},
	} {
		grant := quota.Change{Action: quota.ActionGrant, Requests: 1, Period: c.period}
		if i, ok := grant.LimitIndex(p.ForScope(c.scope)); ok != (c.want >= 0) || ok && i != c.want {
			t.Errorf("scope %d, per %v: limit %d, %v; want %d", c.scope, c.period, i, ok, c.want)
		}
	}
	only, err := quota.NewPlan(quota.PlanOptions{Name: "team", WarnAt: 80, Limits: []quota.Limit{{Amount: 500, Period: quota.Month, Shared: true}}})
	if err != nil {
		t.Fatal(err)
	}
	if i, ok := (quota.Change{Action: quota.ActionGrant, Requests: 1}).LimitIndex(only); ok {
		t.Errorf("a grant to a member raises limit %d, which the members share", i)
	}
}
