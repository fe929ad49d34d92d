package quota_test

import (
	"testing"

	"metergate/quota"
)

func TestEffectivePlanFollowsOverride(t *testing.T) {
	free, pro := newPlan(t), newPlan(t, limit(month, 5))
	choice := quota.PlanChoice{Claimed: free, ByName: map[string]*quota.Plan{"pro": pro, "": pro}}
	for override, want := range map[string]*quota.Plan{"": free, "pro": pro, "gone": free, "Pro": free} {
		if got := choice.Effective(quota.Override{Plan: override}); got != want {
			t.Errorf("override %q: another plan is in effect", override)
		}
	}
	if free.OnlyChoice().Effective(quota.Override{Plan: "pro"}) != free {
		t.Error("an override is followed without plans to choose from")
	}
	at := instant(t, "2026-11-17T12:00:00Z")
	o := quota.Override{Plan: "pro", Until: at}
	if o.ActiveAt(at.Add(-1)) != o || o.ActiveAt(at) != (quota.Override{}) || (quota.Override{Plan: "pro"}).ActiveAt(at) != (quota.Override{Plan: "pro"}) {
		t.Error("an override must hold until its end, and not at it")
	}
}
