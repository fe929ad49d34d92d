package redisstore

import (
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// A key lives until the counts in it need not be kept any more, and longer than any
// lease into it, also on the last second of a month of 31 days.
func TestKeyLives(t *testing.T) {
	const keep = 36 * time.Hour
	url := redistest.Start(t).URL()
	for _, at := range []time.Time{
		time.Date(2026, time.January, 1, 0, 0, 5, 0, time.UTC),
		time.Date(2026, time.January, 31, 23, 59, 50, 0, time.UTC),
		time.Date(2028, time.February, 29, 12, 0, 0, 0, time.UTC),
	} {
		clock := quotatest.NewClock(at)
		s, err := Open(Options{URL: url, Prefix: at.Format("0102"), Timeout: 20 * time.Second, Keep: keep, Now: clock.Now,
			Offset: func() time.Duration { return time.Until(clock.Now()) }})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: plan.OnlyChoice(), Lease: time.Hour + 10*time.Second})
		if err != nil || !d.Admitted {
			t.Fatal(d.Admitted, err)
		}
		left := func() time.Duration {
			ttl, err := s.client.PTTL(ctx, s.key("u")).Result()
			if err != nil || ttl <= 0 {
				t.Fatalf("the key lives for %v, error %v", ttl, err)
			}
			return ttl
		}
		if ttl := left(); ttl < time.Hour+10*time.Second {
			t.Errorf("%v: while a unit is held the key lives for %v, less than the lease", at, ttl)
		}
		if _, err := s.Commit(ctx, &d.Reservation); err != nil {
			t.Fatal(err)
		}
		end := time.Date(at.Year(), at.Month()+1, 1, 0, 0, 0, 0, time.UTC)
		// The clock stands still and Redis's does not: it may be some seconds less.
		if ttl, want := left(), end.Add(keep).Sub(at); ttl < want || ttl > want+time.Hour {
			t.Errorf("%v: the key lives for %v, want %v and a margin", at, ttl, want)
		}
	}
}

// A hold that Redis has lost is counted all the same, and seen.
func TestLostHold(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	for i, lose := range []bool{false, true} {
		d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: plan.OnlyChoice(), Lease: time.Minute})
		if err != nil || !d.Admitted {
			t.Fatal(d.Admitted, err)
		}
		if lose {
			if err := s.client.FlushAll(ctx).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Commit(ctx, &d.Reservation); err != nil {
			t.Fatal(err)
		}
		if got := s.LostHolds(); got != int64(i) {
			t.Errorf("hold lost %v: %d counts without a hold, want %d", lose, got, i)
		}
	}
}
