package quota_test

import (
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
