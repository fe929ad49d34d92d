package boltstore

import (
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
)

// Changes survive a restart.
func TestChangesSurviveRestart(t *testing.T) {
	dir, now := t.TempDir(), func() time.Time { return noon }
	small, large := plan(5), quotatest.NewPlan("large", quota.Limit{Requests: 50, Period: quota.Month})
	choice := quota.PlanChoice{Claimed: small, ByName: map[string]*quota.Plan{"large": large}}
	s := open(t, dir, Options{Now: now})
	before := countWrites(t, s)
	grant := quota.Change{Action: quota.ActionGrant, Requests: 2, ID: "17", By: "ann"}
	applyChange(t, s, "u", small, quota.Change{Action: quota.ActionSetPlan, Plan: "large", Until: noon.Add(time.Hour)})
	if _, err := s.ApplyChange(ctx, "u", choice, grant); err != nil {
		t.Fatal(err)
	}
	applyChange(t, s, "u", small, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 7}})
	if got := countWrites(t, s) - before; got != 3 {
		t.Errorf("%d writes for 3 changes", got)
	}
	s.Close()
	s = open(t, dir, Options{Now: now})
	for range 2 { // the second time the grant has no effect
		snap, err := s.Read(ctx, "u", choice)
		if err != nil || snap.Plan != large || snap.Total.Used != 7 || snap.Limits[0].Granted != 2 {
			t.Errorf("%d used, %d granted by the plan %s, error %v", snap.Total.Used, snap.Limits[0].Granted, snap.Plan.Name(), err)
		}
		if _, err := s.ApplyChange(ctx, "u", choice, grant); err != nil {
			t.Error(err)
		}
	}
	if entries, err := s.AuditLog(ctx, "u"); err != nil || len(entries) != 3 || entries[1].By != "ann" {
		t.Errorf("audit log %+v, error %v", entries, err)
	}
}
