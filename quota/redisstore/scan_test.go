package redisstore

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/redistest"
)

// A prefix is not a pattern, and what else is in Redis is no user.
func TestScanKnowsItsKeys(t *testing.T) {
	url := redistest.Start(t).URL()
	at := time.Now()
	find := func(s *Store) (users []string) {
		t.Helper()
		if err := s.ScanUsers(ctx, quota.Month, at, func(u quota.UserUsage) error { users = append(users, u.User); return nil }); err != nil {
			t.Fatal(err)
		}
		return users
	}
	stores := map[string]*Store{}
	for _, prefix := range []string{"a", "*", "a:b", "[ab]", `\a`, "?"} {
		s, err := Open(Options{URL: url, Prefix: prefix, Timeout: 20 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		stores[prefix] = s
		settled(t, s, "user of "+prefix, 2)
		if err := s.Probe(ctx, "user of "+prefix); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{":{text}", ":{0123456789012345678901}", ":{!!!!!!!!!!!!!!!!!!!!!!}"} {
			if err := s.client.HSet(ctx, prefix+key, "user", "x").Err(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for prefix, s := range stores {
		if got := find(s); len(got) != 1 || got[0] != "user of "+prefix {
			t.Errorf("prefix %s: found %q", prefix, got)
		}
	}
}

// Each user is found, and once, also when Redis makes its table larger or smaller during
// the scan.
func TestScanWhileTheTableGrows(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	const users = 1500
	for i := range users {
		set := quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 1}}
		if _, err := s.ApplyChange(ctx, fmt.Sprint("user-", i), terms, set); err != nil {
			t.Fatal(err)
		}
	}
	found, n := map[string]int{}, 0
	err := s.ScanUsers(ctx, quota.Month, time.Now(), func(u quota.UserUsage) error {
		found[u.User]++
		if n++; n%300 == 0 {
			pipe := s.client.Pipeline()
			for i := range 5000 {
				if key := fmt.Sprint("other-", i); n%600 == 0 {
					pipe.Del(ctx, key)
				} else {
					pipe.Set(ctx, key, "", 0)
				}
			}
			_, err := pipe.Exec(ctx)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range users {
		if got := found[fmt.Sprint("user-", i)]; got != 1 {
			t.Errorf("user-%d was found %d times", i, got)
		}
	}
	if len(found) != users {
		t.Errorf("%d users, want %d", len(found), users)
	}
}

// A scan that goes on in another process would miss users, and says so.
func TestScanNoticesAnotherRedis(t *testing.T) {
	redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s := openStore(t, redis.URL())
	for i := range 600 {
		settled(t, s, fmt.Sprint("user-", i), 2)
	}
	restarted := false
	err := s.ScanUsers(ctx, quota.Month, time.Now(), func(quota.UserUsage) error {
		if !restarted {
			restarted = true
			redis.Stop()
			redis.Start()
		}
		return nil
	})
	if err == nil || errors.Is(err, quota.ErrNotKept) {
		t.Errorf("error %v, want that another Redis took over", err)
	}
}

// Redis may return a key again, in the same answer or in a later one.
func TestScanYieldsAUserOnce(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	settled(t, s, "u", 2)
	settled(t, s, "v", 2)
	var found []string
	now := time.Now()
	sc := scan{s, s.calendar.WindowAt(quota.Month, now), now, map[[16]byte]struct{}{}, func(u quota.UserUsage) error {
		found = append(found, u.User)
		return nil
	}}
	for _, keys := range [][]string{{s.key("u"), s.key("u")}, {s.key("u")}, {s.key("v"), s.key("u")}} {
		if err := sc.users(ctx, keys); err != nil {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(found) != "[u v]" {
		t.Errorf("found %v, want u and v once", found)
	}
}
