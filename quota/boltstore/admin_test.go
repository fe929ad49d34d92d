package boltstore

import (
	"encoding/binary"
	"path/filepath"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/quotatest"
)

func administer(t testing.TB, s *Store, user string, p *quota.Plan, c quota.Change) quota.Snapshot {
	t.Helper()
	snap, err := s.ApplyChange(ctx, user, p.OnlyChoice(), c)
	if err != nil {
		t.Fatalf("Change %+v: %v", c, err)
	}
	return snap
}

// A file of format 1 is taken over in place, with all that is in it.
func TestFormat1IsUpgraded(t *testing.T) {
	dir, now := t.TempDir(), func() time.Time { return noon }
	november := quota.NewCalendar(nil).WindowAt(quota.Month, noon)
	edit(t, filepath.Join(dir, fileName), func(tx *bolt.Tx) error {
		buckets := map[string]*bolt.Bucket{}
		for _, name := range []string{"meta", "used", "ends"} {
			b, err := tx.CreateBucket([]byte(name))
			if err != nil {
				return err
			}
			buckets[name] = b
		}
		for _, endpoint := range []string{"", "analyze"} {
			key := "u\x002026-11\x00" + endpoint
			if err := buckets["used"].Put([]byte(key), binary.BigEndian.AppendUint64(nil, 3)); err != nil {
				return err
			}
			end := binary.BigEndian.AppendUint64([]byte{byte(quota.Month)}, uint64(november.End.Unix()))
			if err := buckets["ends"].Put(append(end, key...), nil); err != nil {
				return err
			}
		}
		return buckets["meta"].Put([]byte("format"), []byte("1"))
	})
	p := plan(5)
	s := open(t, dir, Options{Now: now})
	want(t, s, "u", p, 3, 0)
	count(t, s, admit(t, s, request("u", p)))
	administer(t, s, "u", p, quota.Change{Action: quota.ActionGrant, Requests: 2})
	s.Close()
	for range 2 {
		s = open(t, dir, Options{Now: now})
		want(t, s, "u", p, 4, 0)
		if snap, err := s.Read(ctx, "u", p.OnlyChoice()); err != nil || snap.Limits[0].Granted != 2 {
			t.Errorf("%d granted, error %v; want 2", snap.Limits[0].Granted, err)
		}
		s.Close()
	}
}

// What an administrator did is there after a restart.
func TestChangesAreDurable(t *testing.T) {
	dir, now := t.TempDir(), func() time.Time { return noon }
	small, large := plan(5), quotatest.NewPlan("large", quota.Limit{Requests: 50, Period: quota.Month})
	terms := quota.PlanChoice{Claimed: small, ByName: map[string]*quota.Plan{"large": large}}
	s := open(t, dir, Options{Now: now})
	before := writes(t, s)
	grant := quota.Change{Action: quota.ActionGrant, Requests: 2, ID: "17", By: "ann"}
	administer(t, s, "u", small, quota.Change{Action: quota.ActionSetPlan, Plan: "large", Until: noon.Add(time.Hour)})
	if _, err := s.ApplyChange(ctx, "u", terms, grant); err != nil {
		t.Fatal(err)
	}
	administer(t, s, "u", small, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 7}})
	if got := writes(t, s) - before; got != 3 {
		t.Errorf("%d writes for 3 changes", got)
	}
	s.Close()
	s = open(t, dir, Options{Now: now})
	for range 2 { // the second time nothing changes
		snap, err := s.Read(ctx, "u", terms)
		if err != nil || snap.Plan != large || snap.Total.Used != 7 || snap.Limits[0].Granted != 2 {
			t.Errorf("%d used, %d granted by the plan %s, error %v", snap.Total.Used, snap.Limits[0].Granted, snap.Plan.Name(), err)
		}
		if _, err := s.ApplyChange(ctx, "u", terms, grant); err != nil {
			t.Error(err)
		}
	}
	if entries, err := s.AuditLog(ctx, "u"); err != nil || len(entries) != 3 || entries[1].By != "ann" {
		t.Errorf("audit list %+v, error %v", entries, err)
	}
}

// All that a change leaves is deleted when it has ended, and not before.
func TestOldChangesAreDeleted(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s, p := open(t, t.TempDir(), Options{Now: clock.Now, Keep: 20 * 24 * time.Hour}), plan(50)
	all := func(until time.Duration) {
		for _, c := range []quota.Change{
			{Action: quota.ActionGrant, Requests: 2},
			{Action: quota.ActionSetPlan, Plan: "pro", Until: noon.Add(until)},
			{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 7}},
		} {
			c.ID = string(c.Action)
			administer(t, s, "u", p, c)
		}
	}
	left := func(used, grants, plans, audit, once int) {
		t.Helper()
		// Another user's count prunes, and leaves two keys a month.
		count(t, s, admit(t, s, request("v", p)))
		for name, want := range map[string]int{"used": used, "grants": grants, "plans": plans, "audit": audit, "once": once} {
			if got := keys(t, s, []byte(name)); got != want {
				t.Errorf("%v later %s has %d keys, want %d", clock.Now().Sub(noon), name, got, want)
			}
		}
	}
	all(36 * time.Hour)
	left(4, 1, 1, 3, 3)
	clock.Advance(25 * time.Hour) // the ids come again before those of before are deleted
	all(72 * time.Hour)
	left(4, 1, 1, 6, 3)
	clock.Advance(12 * time.Hour) // the first override would have ended
	left(4, 1, 1, 6, 3)
	clock.Advance(40 * time.Hour)
	left(4, 1, 0, 6, 0)
	clock.Set(time.Date(2026, 12, 8, 0, 0, 0, 0, time.UTC)) // 20 days after the first changes
	left(6, 1, 0, 3, 0)
	clock.Set(time.Date(2026, 12, 21, 0, 0, 0, 0, time.UTC)) // and after November
	left(2, 0, 0, 0, 0)
	if got := keys(t, s, endsBucket); got != 3 { // and the plan of v's token
		t.Errorf("ends has %d keys, want 3", got)
	}
}
