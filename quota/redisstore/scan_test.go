package redisstore

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/redistest"
)

// TestUsersSkipsKeysOfOthers checks that a prefix is not taken for a pattern, and other keys not
// for users.
func TestUsersSkipsKeysOfOthers(t *testing.T) {
	url := redistest.Start(t).URL()
	at := time.Now()
	find := func(s *Store) (users []string) {
		t.Helper()
		if err := s.ScanUsers(ctx, quota.WindowQuery{Period: quota.Month, At: at}, func(u quota.UserUsage) error { users = append(users, u.User); return nil }); err != nil {
			t.Fatal(err)
		}
		return users
	}
	stores := map[string]*Store{}
	for _, prefix := range []string{"a", "*", "a:b", "[ab]", `\a`, "?"} {
		s := openWith(t, Options{URL: url, Prefix: prefix, Timeout: patient})
		stores[prefix] = s
		settleUnits(t, s, "user of "+prefix, 2)
		if err := s.Probe(ctx, "user of "+prefix); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{":{text}", ":{0123456789012345678901}", ":{!!!!!!!!!!!!!!!!!!!!!!}"} {
			if err := commands(s).HSet(ctx, prefix+key, "user", "x").Err(); err != nil {
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

// TestUsersYieldsEachOnceWhileRedisResizes has Redis make its table larger and smaller during
// the scan.
func TestUsersYieldsEachOnceWhileRedisResizes(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	const users = 1500
	for i := range users {
		set := quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 1}}
		if _, err := s.ApplyChange(ctx, fmt.Sprint("user-", i), terms, set); err != nil {
			t.Fatal(err)
		}
	}
	found, n := map[string]int{}, 0
	err := s.ScanUsers(ctx, quota.WindowQuery{Period: quota.Month, At: time.Now()}, func(u quota.UserUsage) error {
		found[u.User]++
		if n++; n%300 == 0 {
			pipe := commands(s).Pipeline()
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

// TestUsersFailsWhenRedisIsReplaced: a scan that goes on in another process would miss users.
func TestUsersFailsWhenRedisIsReplaced(t *testing.T) {
	redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s := openStore(t, redis.URL())
	for i := range 600 {
		settleUnits(t, s, fmt.Sprint("user-", i), 2)
	}
	restarted := false
	err := s.ScanUsers(ctx, quota.WindowQuery{Period: quota.Month, At: time.Now()}, func(quota.UserUsage) error {
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

// TestUsersYieldsARepeatedKeyOnce: Redis may return a key again, in the same reply or in a later
// one.
func TestUsersYieldsARepeatedKeyOnce(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	settleUnits(t, s, "u", 2)
	settleUnits(t, s, "v", 2)
	var found []string
	now := time.Now()
	sc := scan{s, quota.WindowQuery{Period: quota.Month, At: now}, s.calendar.WindowAt(quota.Month, now), now, map[[16]byte]struct{}{}, func(u quota.UserUsage) error {
		found = append(found, u.User)
		return nil
	}}
	for _, keys := range [][]string{{key(s, "u"), key(s, "u")}, {key(s, "u")}, {key(s, "v"), key(s, "u")}} {
		if err := sc.yieldUsers(ctx, keys); err != nil {
			t.Fatal(err)
		}
	}
	if fmt.Sprint(found) != "[u v]" {
		t.Errorf("found %v, want u and v once", found)
	}
}
