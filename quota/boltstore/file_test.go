package boltstore

import (
	"fmt"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/quotatest"
)

// keys returns how many keys a bucket has.
func keys(t testing.TB, s *Store, bucket []byte) (n int) {
	t.Helper()
	err := s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(bucket).ForEach(func(_, _ []byte) error { n++; return nil })
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// A year of one request a day, with a limit by the minute: minutes are kept for
// two hours after their end, days for ten, years for ten after theirs.
func TestOldWindowsAreDeleted(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := open(t, t.TempDir(), Options{Now: clock.Now, Keep: 10 * 24 * time.Hour})
	p := quotatest.NewPlan("p", quota.Limit{Requests: 5, Period: quota.Day},
		quota.Limit{Requests: 5, Period: quota.Minute}, quota.Limit{Requests: 500, Period: quota.Year})
	for range 366 {
		count(t, s, admit(t, s, request("u", p)))
		clock.Advance(24 * time.Hour)
	}
	// Read by the last commit, a day ago. It kept its own minute. Days: its own, and
	// ten that ended less than ten days before. Years: one, for 2026 ended in the
	// winter. All of them in total and for the endpoint.
	const want = 2 * (1 + 11 + 1)
	if got := keys(t, s, usedBucket); got != want {
		t.Errorf("used has %d keys, want %d", got, want)
	}
	if got := keys(t, s, endsBucket); got != want+1 { // and the plan of the token
		t.Errorf("ends has %d keys, want %d", got, want+1)
	}
	clock.Advance(-24 * time.Hour)
	snap, err := s.Read(ctx, "u", p.OnlyChoice())
	if err != nil {
		t.Fatal(err)
	}
	// From 17 November 2026 there were 45 requests in that year.
	if day, minute, year := snap.Limits[0].Used, snap.Limits[1].Used, snap.Limits[2].Used; day != 1 || minute != 1 || year != 366-45 {
		t.Errorf("used %d, %d and %d, want 1, 1 and %d", day, minute, year, 366-45)
	}
}

// One write deletes no more than is good for who waits for it, and more than it
// adds.
func TestDeletionIsBounded(t *testing.T) {
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
	if got := keys(t, s, usedBucket); got != 2*users {
		t.Fatalf("%d keys, want %d", got, 2*users)
	}
	s.Close()
	// What is in the file follows the new time to keep.
	s = open(t, dir, Options{Now: clock.Now, Keep: time.Hour})
	clock.Set(time.Date(2026, 12, 1, 1, 0, 0, 0, time.UTC))
	// With the plans of the tokens, which go last.
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
		if got := keys(t, s, usedBucket); got != left {
			t.Errorf("after %d commits: %d keys, want %d", i+1, got, left)
		}
		if got := keys(t, s, endsBucket); got != all {
			t.Errorf("after %d commits: %d keys by time, want %d", i+1, got, all)
		}
		if got := keys(t, s, claimedBucket); got != all-left {
			t.Errorf("after %d commits: the plans of %d users, want %d", i+1, got, all-left)
		}
	}
	want(t, s, "u", month, 10, 0)
}

// To the instant at which a window's time is over it is counted, then not.
func TestLateCountIsDropped(t *testing.T) {
	clock, p := quotatest.NewClock(noon), plan(5)
	s := open(t, t.TempDir(), Options{Now: clock.Now, Keep: time.Hour})
	one, two := admit(t, s, request("u", p)), admit(t, s, request("u", p))
	end := time.Date(2026, 12, 1, 1, 0, 0, 0, time.UTC)
	clock.Set(end.Add(-1))
	count(t, s, one)
	clock.Set(noon)
	want(t, s, "u", p, 1, 0)
	clock.Set(end)
	err := s.db.Update(func(tx *bolt.Tx) error {
		created, err := countUp(tx, &hold{user: "u", windows: two.Windows, endpoint: "report"}, end, time.Hour)
		if created != 0 {
			t.Errorf("%d keys were made for what is not kept", created)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	count(t, s, two)
	if got := keys(t, s, usedBucket); got != 0 {
		t.Errorf("%d keys, want none", got)
	}
}
