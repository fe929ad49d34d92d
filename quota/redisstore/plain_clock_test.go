package redisstore

import (
	"testing"
	"time"

	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// The snapshot of a plain commit has the time at which Redis made it: package guard orders what it knows of a user by that.
func TestPlainCommitHasTheTimeOfRedis(t *testing.T) {
	withFunctionsAndWithout(t, func(t *testing.T, opt Options) {
		clock, moved := quotatest.NewClock(noon), time.Duration(0)
		opt.URL, opt.Timeout, opt.Now = redistest.Start(t).URL(), patient, clock.Now
		opt.Offset = func() time.Duration { return clock.Offset() + moved }
		s := openWith(t, opt)
		first, r := mustReserve(t, s, "u"), mustReserve(t, s, "u")
		mustCommit(t, s, &first)
		moved = 5 * time.Second
		snapshot, err := s.Commit(ctx, &r)
		if err != nil {
			t.Fatal(err)
		}
		if at := snapshot.At.Sub(noon); at < moved {
			t.Errorf("Redis made the commit at noon and %v, and the snapshot says noon and %v", moved, at)
		}
	})
}

// A key that was restored without its expiry, or whose expiry was changed, gets it back with the next requests. Else a
// reserve that keeps it only for a lease would make the counts end with that.
func TestPlainCommitsRepairTheExpiry(t *testing.T) {
	changes := map[string]func(s *Store, key string) error{
		"restored without one": func(s *Store, key string) error {
			return commands(s).RestoreReplace(ctx, key, 0, commands(s).Dump(ctx, key).Val()).Err()
		},
		"removed": func(s *Store, key string) error { return commands(s).Persist(ctx, key).Err() },
		"an hour": func(s *Store, key string) error { return commands(s).Expire(ctx, key, time.Hour).Err() },
	}
	withFunctionsAndWithout(t, func(t *testing.T, opt Options) {
		clock := quotatest.NewClock(noon)
		s := openLike(t, opt, redistest.Start(t).URL(), clock)
		request := func(user string) {
			r := mustReserve(t, s, user)
			mustCommit(t, s, &r)
		}
		for user, change := range changes {
			request(user)
			request(user)
			before := commands(s).PTTL(ctx, key(s, user)).Val()
			if err := change(s, key(s, user)); err != nil {
				t.Fatal(err)
			}
			clock.Advance(5 * time.Minute) // the lease has ended, so a script reserves
			request(user)
			request(user)
			if after := commands(s).PTTL(ctx, key(s, user)).Val(); after < before-time.Hour {
				t.Errorf("%s: the key lives for %v, and lived for %v", user, after, before)
			}
		}
	})
}
