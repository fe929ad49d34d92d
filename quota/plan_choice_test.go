package quota_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"metergate/quota"
)

// A limit with a grant is in all respects the limit of as many more.
func TestGrantedIsAsALimitRaised(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawSnapshot(t)
		granted, limits := d.snapshot, []quota.Limit{}
		granted.Limits = append([]quota.Count(nil), granted.Limits...)
		for i, l := range d.plan.Limits() {
			by := rapid.Int64Range(0, 3).Draw(t, "granted")
			granted.Limits[i].Granted = by
			l.Requests += by
			limits = append(limits, l)
		}
		raisedPlan, err := quota.NewPlan(quota.PlanOptions{Name: "pro", Limits: limits, Endpoints: endpoints, WarnAt: 80})
		if err != nil {
			t.Fatal(err)
		}
		base, err := quota.NewPlan(quota.PlanOptions{Name: "pro", Limits: d.plan.Limits(), Endpoints: endpoints, WarnAt: 80})
		if err != nil {
			t.Fatal(err)
		}
		raised := d.snapshot
		raised.Plan, granted.Plan = raisedPlan, base
		if diff := cmp.Diff(raised.Usage("u"), granted.Usage("u")); diff != "" {
			t.Fatalf("usage (-raised +granted):\n%s", diff)
		}
		for _, e := range endpoints {
			if diff := cmp.Diff(raised.Refusal(e), granted.Refusal(e)); diff != "" || raised.Admits(e) != granted.Admits(e) {
				t.Fatalf("admits %v, want %v; refusal (-raised +granted):\n%s", granted.Admits(e), raised.Admits(e), diff)
			}
		}
	})
}

func TestTerms(t *testing.T) {
	free, pro := newPlan(t), newPlan(t, limit(month, 5))
	terms := quota.PlanChoice{Claimed: free, ByName: map[string]*quota.Plan{"pro": pro, "": pro}}
	for override, want := range map[string]*quota.Plan{"": free, "pro": pro, "gone": free, "Pro": free} {
		if got := terms.Effective(quota.Override{Plan: override}); got != want {
			t.Errorf("override %q: not the plan wanted", override)
		}
	}
	if free.OnlyChoice().Effective(quota.Override{Plan: "pro"}) != free {
		t.Error("without named plans an override is followed")
	}
	at := instant(t, "2026-11-17T12:00:00Z")
	o := quota.Override{Plan: "pro", Until: at}
	if o.ActiveAt(at.Add(-1)) != o || o.ActiveAt(at) != (quota.Override{}) || (quota.Override{Plan: "pro"}).ActiveAt(at) != (quota.Override{Plan: "pro"}) {
		t.Error("an override holds up to, and not at, its end")
	}
}

// What does the same has the same fingerprint, and nothing else.
func TestFingerprint(t *testing.T) {
	base := quota.Change{Action: quota.ActionSetPlan, Plan: "pro", Until: instant(t, "2026-11-17T12:00:00Z")}
	same := base
	same.By, same.Reason, same.ID, same.Until = "ann", "asked", "17", base.Until.In(time.FixedZone("", 3600))
	if base.Fingerprint() != same.Fingerprint() {
		t.Error("who, why, id or time zone change the fingerprint")
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
