package boltstore

import (
	"errors"
	"fmt"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/quotatest"
)

const day = 24 * time.Hour

// usedEach is what a user has used on each of the last days.
func usedEach(t *testing.T, s *Store, user string, days int) string {
	t.Helper()
	h, err := s.History(ctx, user, days)
	if err != nil {
		t.Fatal(err)
	}
	var used []quota.Used
	for _, d := range h.Days {
		used = append(used, d.Total())
	}
	return fmt.Sprint(used)
}

func TestNoHistoryWithoutHistoryDays(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{}), plan(5)
	r := admit(t, s, request("u", p))
	if r.Date != 0 {
		t.Errorf("the request counts on %v", r.Date)
	}
	r.Date = quota.NewCalendar(nil).DateAt(s.Now()) // the gateway kept a history before it was started again
	count(t, s, r)
	applyChange(t, s, "u", p, quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"report": 2}})
	applyChange(t, s, "u", p, quota.Change{Action: quota.ActionReset})
	s.db.Scan(func(tx *bolt.Tx) error {
		if tx.Bucket(historyBucket) != nil {
			t.Error("the file has a history")
		}
		return nil
	})
	for _, days := range []int{-1, 0, 1, 30} {
		if _, err := s.History(ctx, "u", days); !errors.Is(err, quota.ErrNotKept) {
			t.Errorf("a history of %d days: error %v", days, err)
		}
	}
	for _, days := range []int{-1, quota.MaxHistory + 1} {
		if s, err := Open(t.TempDir(), Options{HistoryDays: days}); err == nil {
			s.Close()
			t.Errorf("%d days were accepted", days)
		}
	}
}

// The history lives by HistoryDays alone, whatever Keep is, and a day longer than it is shown.
func TestPruneDeletesOldDays(t *testing.T) {
	for _, keep := range []time.Duration{time.Hour, 0} {
		clock := quotatest.NewClock(noon)
		s := open(t, t.TempDir(), Options{Now: clock.Now, Keep: keep, HistoryDays: 10})
		for range 40 {
			count(t, s, admit(t, s, request("u", quotatest.NewPlan("none"))))
			clock.Advance(day)
		}
		if got := countKeys(t, s, historyBucket); got != 11 {
			t.Errorf("kept for %v: history has %d keys, want 11", keep, got)
		}
		if got, want := usedEach(t, s, "u", 10), "[{1 1} {1 1} {1 1} {1 1} {1 1} {1 1} {1 1} {1 1} {1 1} {0 0}]"; got != want {
			t.Errorf("kept for %v: %s, want %s", keep, got, want)
		}
		if _, err := s.History(ctx, "u", 11); !errors.Is(err, quota.ErrNotKept) {
			t.Errorf("11 days of 10: error %v", err)
		}
	}
}

// A count reaches its day until that is not kept any more.
func TestLateCountsReachTheirDay(t *testing.T) {
	clock, p := quotatest.NewClock(noon), plan(50)
	s := open(t, t.TempDir(), Options{Now: clock.Now, HistoryDays: 3})
	one, two := admit(t, s, request("u", p)), admit(t, s, request("u", p))
	clock.Advance(2 * day)
	one.Windows = nil // they are not kept any more
	count(t, s, one)
	if got, want := usedEach(t, s, "u", 3), "[{1 1} {0 0} {0 0}]"; got != want {
		t.Errorf("after two days: %s, want %s", got, want)
	}
	clock.Advance(2 * day)
	count(t, s, two)
	if got := countKeys(t, s, historyBucket); got != 0 {
		t.Errorf("after four days: history has %d keys, want 0", got)
	}
	wantUsage(t, s, "u", p, 1, 0)
}

// A history that is switched off stays in the file. What is counted meanwhile is not in it.
func TestHistoryIsSwitchedOffAndOn(t *testing.T) {
	dir, clock, p := t.TempDir(), quotatest.NewClock(noon), plan(50)
	for _, days := range []int{5, 0, 5, 3, 5} {
		s := open(t, dir, Options{Now: clock.Now, HistoryDays: days})
		count(t, s, admit(t, s, request("u", p)))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		clock.Advance(day)
	}
	s := open(t, dir, Options{Now: clock.Now, HistoryDays: 6})
	if got, want := usedEach(t, s, "u", 6), "[{1 1} {0 0} {1 1} {1 1} {1 1} {0 0}]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	s.Close()
	// Without a history, the days are deleted once none may be kept for so long.
	clock.Advance((quota.MaxHistory - 3) * day)
	s = open(t, dir, Options{Now: clock.Now})
	count(t, s, admit(t, s, request("u", p)))
	if got := countKeys(t, s, historyBucket); got != 3 {
		t.Errorf("history has %d keys, want 3", got)
	}
	clock.Advance(day * 3)
	count(t, s, admit(t, s, request("u", p)))
	if got := countKeys(t, s, historyBucket); got != 0 {
		t.Errorf("history has %d keys, want 0", got)
	}
}

// A count and its day are in one write: the file has both or neither.
func TestDayIsCountedWithItsWindows(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{HistoryDays: 2}), plan(50)
	r := admit(t, s, request("u", p))
	before := countWrites(t, s)
	for range 3 {
		count(t, s, r)
	}
	if got := countWrites(t, s) - before; got != 1 {
		t.Errorf("%d writes, want 1", got)
	}
	if h, err := s.History(ctx, "u", 1); err != nil || h.Days[0].Endpoints["analyze"] != (quota.Used{Requests: 1, Units: 1}) {
		t.Errorf("history %+v, error %v", h, err)
	}
}

// A request that is reserved again after midnight is that of the day before.
func TestRepeatedReserveKeepsItsDay(t *testing.T) {
	clock, p := quotatest.NewClock(time.Date(2026, 11, 17, 23, 59, 59, 0, time.UTC)), plan(50)
	s, r := open(t, t.TempDir(), Options{Now: clock.Now, HistoryDays: 2}), request("u", p)
	admit(t, s, r)
	clock.Advance(2 * time.Second)
	count(t, s, admit(t, s, r))
	if got, want := usedEach(t, s, "u", 2), "[{1 1} {0 0}]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestReleaseDataGetsAHistory(t *testing.T) {
	s, _ := openRelease(t, "0.1.0", 30)
	free, _ := releasePlans(t)
	r := quota.Request{ID: quota.NewID(), User: "anna", Endpoint: "report", Plans: free, Lease: time.Minute}
	count(t, s, admit(t, s, r))
	if got := usedEach(t, s, "anna", 2); got != "[{0 0} {1 1}]" {
		t.Errorf("history %s, want one request today", got)
	}
	s.db.Scan(func(tx *bolt.Tx) error {
		if got := tx.Bucket(metaBucket).Get(formatKey); plainFormat(got) != format {
			t.Errorf("the file has format %q, want %q", got, format)
		}
		return nil
	})
}
