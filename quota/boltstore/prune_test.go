package boltstore

import (
	"fmt"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
	"metergate/quota/quotatest"
)

// There is one request a day for a year. With Keep at ten days, minutes are kept for two hours
// after their end, and days and years for ten days.
func TestPruneDeletesOldWindows(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := open(t, t.TempDir(), Options{Now: clock.Now, Keep: 10 * 24 * time.Hour})
	p := quotatest.NewPlan("p", quota.Limit{Amount: 5, Period: quota.Day},
		quota.Limit{Amount: 5, Period: quota.Minute}, quota.Limit{Amount: 500, Period: quota.Year})
	for range 366 {
		count(t, s, admit(t, s, request("u", p)))
		clock.Advance(24 * time.Hour)
	}
	// The last commit, a day ago, pruned. It kept its own minute, its own day and the ten days
	// that ended less than ten days before, and one year: 2026 ended in the winter. Each has
	// a key for the total and one for the endpoint.
	const want = 2 * (1 + 11 + 1)
	if got := countKeys(t, s, usedBucket); got != want {
		t.Errorf("used has %d keys, want %d", got, want)
	}
	if got := countKeys(t, s, endsBucket); got != want+1 { // and the claimed plan
		t.Errorf("ends has %d keys, want %d", got, want+1)
	}
	clock.Advance(-24 * time.Hour)
	snap, err := s.Read(ctx, "u", p.OnlyChoice())
	if err != nil {
		t.Fatal(err)
	}
	// From 17 November on, 45 requests were in 2026.
	if day, minute, year := snap.Limits[0].Used, snap.Limits[1].Used, snap.Limits[2].Used; day != 1 || minute != 1 || year != 366-45 {
		t.Errorf("used %d, %d and %d, want 1, 1 and %d", day, minute, year, 366-45)
	}
}

// One write deletes a bounded number of keys, so that its callers need not wait, but more than it
// adds.
func TestPruneIsBoundedInEachWrite(t *testing.T) {
	clock := quotatest.NewClock(noon)
	dir, month := t.TempDir(), plan(50)
	s := open(t, dir, Options{Now: clock.Now})
	done := make(chan error)
	const users = 300
	for i := range users {
		r := admit(t, s, request(fmt.Sprint("user-", i), month))
		go func() { _, err := s.Commit(ctx, &r); done <- err }()
	}
	for range users {
		if err := <-done; err != nil {
			t.Fatal(err)
		}
	}
	if got := countKeys(t, s, usedBucket); got != 2*users {
		t.Fatalf("%d keys, want %d", got, 2*users)
	}
	s.Close()
	// The new Keep also applies to what is in the file.
	s = open(t, dir, Options{Now: clock.Now, Keep: time.Hour})
	clock.Set(time.Date(2026, 12, 1, 1, 0, 0, 0, time.UTC))
	// all includes the claimed plans, which are deleted last.
	left, all := 2*users, 3*users
	for i := range 10 {
		count(t, s, admit(t, s, request("u", month)))
		created := 0
		if i == 0 {
			created = 3
		}
		all = max(3, all+created-(2*created+100))
		if left -= 2*created + 100; i == 0 {
			left += 2
		}
		left = max(2, left)
		if got := countKeys(t, s, usedBucket); got != left {
			t.Errorf("after %d commits: %d keys, want %d", i+1, got, left)
		}
		if got := countKeys(t, s, endsBucket); got != all {
			t.Errorf("after %d commits: %d keys by time, want %d", i+1, got, all)
		}
		if got := countKeys(t, s, claimedBucket); got != all-left {
			t.Errorf("after %d commits: the plans of %d users, want %d", i+1, got, all-left)
		}
	}
	wantUsage(t, s, "u", month, 10, 0)
}

// A count is written until the instant at which its window is no longer kept, and then dropped.
func TestCountIsDroppedWhenWindowIsNotKept(t *testing.T) {
	clock, p := quotatest.NewClock(noon), plan(5)
	s := open(t, t.TempDir(), Options{Now: clock.Now, Keep: time.Hour})
	one, two := admit(t, s, request("u", p)), admit(t, s, request("u", p))
	end := time.Date(2026, 12, 1, 1, 0, 0, 0, time.UTC)
	clock.Set(end.Add(-1))
	count(t, s, one)
	clock.Set(noon)
	wantUsage(t, s, "u", p, 1, 0)
	clock.Set(end)
	err := s.db.Append(func(tx boltfile.Tx) error {
		created, err := countUp(tx, &hold{user: "u", windows: two.Windows, endpoint: "report"}, end, s.retention)
		if created != 0 {
			t.Errorf("%d keys were created for a window that is not kept", created)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	count(t, s, two)
	if got := countKeys(t, s, usedBucket); got != 0 {
		t.Errorf("%d keys, want none", got)
	}
}

// Everything that a change leaves in the file is deleted once it has ended, and not before.
func TestPruneDeletesEndedChanges(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s, p := open(t, t.TempDir(), Options{Now: clock.Now, Keep: 20 * 24 * time.Hour}), plan(50)
	all := func(until time.Duration) {
		for _, c := range []quota.Change{
			{Action: quota.ActionGrant, Requests: 2},
			{Action: quota.ActionSetPlan, Plan: "pro", Until: noon.Add(until)},
			{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 7}},
		} {
			c.ID = string(c.Action)
			applyChange(t, s, "u", p, c)
		}
	}
	left := func(used, grants, plans, audit, once int) {
		t.Helper()
		// The count of another user prunes, and leaves two keys a month.
		count(t, s, admit(t, s, request("v", p)))
		for name, want := range map[string]int{"used": used, "grants": grants, "plans": plans, "audit": audit, "once": once} {
			if got := countKeys(t, s, []byte(name)); got != want {
				t.Errorf("%v later %s has %d keys, want %d", clock.Now().Sub(noon), name, got, want)
			}
		}
	}
	all(36 * time.Hour)
	left(4, 1, 1, 3, 3)
	clock.Advance(25 * time.Hour) // the IDs are used again before the first ones are deleted
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
	if got := countKeys(t, s, endsBucket); got != 3 { // and the plan that v claimed
		t.Errorf("ends has %d keys, want 3", got)
	}
}
