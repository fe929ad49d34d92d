package boltstore

import (
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
)

// Changes survive a restart.
func TestChangesSurviveRestart(t *testing.T) {
	dir, now := t.TempDir(), func() time.Time { return noon }
	small, large := plan(5), quotatest.NewPlan("large", quota.Limit{Amount: 50, Period: quota.Month})
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

// Changes that arrive while the disk is busy share a write with each other and with commits. One
// that is refused changes nothing, and the others are made.
func TestChangesShareAWrite(t *testing.T) { synctest.Test(t, testChangesShareAWrite) }

func testChangesShareAWrite(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }}), plan(1000)
	writing, disk := slowDisk(s)
	before := countWrites(t, s)
	done := make(chan error)
	set := func(user string, counts map[string]int64) {
		go func() {
			_, err := s.ApplyChange(ctx, user, p.OnlyChoice(), quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: counts})
			if user == "refused" && errors.Is(err, quota.ErrTooLarge) {
				err = nil
			}
			done <- err
		}()
	}
	set("first", map[string]int64{"analyze": 1})
	<-writing // alone, without waiting for others
	for i := range 50 {
		set(fmt.Sprint("user-", i), map[string]int64{"analyze": 7})
	}
	set("refused", map[string]int64{"a": quota.MaxAmount, "b": quota.MaxAmount, "c": 1})
	r := admit(t, s, request("counted", p))
	go func() { _, err := s.Commit(ctx, &r); done <- err }()
	synctest.Wait()
	disk <- nil
	<-writing
	disk <- nil
	for range 53 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := countWrites(t, s) - before; got != 2 {
		t.Errorf("%d writes, want 2", got)
	}
	for i := range 50 {
		wantUsage(t, s, fmt.Sprint("user-", i), p, 7, 0)
	}
	wantUsage(t, s, "counted", p, 1, 0)
	wantUsage(t, s, "refused", p, 0, 0)
	if got, want := countKeys(t, s, usedBucket), 2*52; got != want { // a sum and an endpoint of each
		t.Errorf("%d counts in the file, want %d", got, want)
	}
	if entries, err := s.AuditLog(ctx, "refused"); err != nil || len(entries) > 0 {
		t.Errorf("audit log of a refused change: %+v, error %v", entries, err)
	}
}
