package redisstore

import (
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// TestKeyOutlivesItsCounts checks that a key lives until its counts need not be kept any more,
// and longer than any lease in it, also in the last seconds of a month of 31 days.
func TestKeyOutlivesItsCounts(t *testing.T) {
	const keep = 36 * time.Hour
	url := redistest.Start(t).URL()
	for _, at := range []time.Time{
		time.Date(2026, time.January, 1, 0, 0, 5, 0, time.UTC),
		time.Date(2026, time.January, 31, 23, 59, 50, 0, time.UTC),
		time.Date(2028, time.February, 29, 12, 0, 0, 0, time.UTC),
	} {
		clock := quotatest.NewClock(at)
		s := openWith(t, Options{URL: url, Prefix: at.Format("0102"), Timeout: patient, Keep: keep, Now: clock.Now,
			Offset: func() time.Duration { return time.Until(clock.Now()) }})
		d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: plan.OnlyChoice(), Lease: time.Hour + 10*time.Second})
		if err != nil || !d.Admitted {
			t.Fatal(d.Admitted, err)
		}
		ttl := func() time.Duration {
			left, err := commands(s).PTTL(ctx, key(s, "u")).Result()
			if err != nil || left <= 0 {
				t.Fatalf("the key lives for %v, error %v", left, err)
			}
			return left
		}
		if left := ttl(); left < time.Hour+10*time.Second {
			t.Errorf("%v: while a unit is held the key lives for %v, less than the lease", at, left)
		}
		if _, err := s.Commit(ctx, &d.Reservation); err != nil {
			t.Fatal(err)
		}
		end := time.Date(at.Year(), at.Month()+1, 1, 0, 0, 0, 0, time.UTC)
		// The clock of the test stands still and Redis's does not: it may be seconds less.
		if left, want := ttl(), end.Add(keep).Sub(at); left < want || left > want+time.Hour {
			t.Errorf("%v: the key lives for %v, want %v and a margin", at, left, want)
		}
	}
}

// TestLostHoldIsCounted checks that a request whose hold Redis has lost is counted all the same,
// and that LostHolds says so.
func TestLostHoldIsCounted(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	for i, lose := range []bool{false, true} {
		r := mustReserve(t, s, "u")
		if lose {
			if err := commands(s).FlushAll(ctx).Err(); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := s.Commit(ctx, &r); err != nil {
			t.Fatal(err)
		}
		if got := s.LostHolds(); got != int64(i) {
			t.Errorf("hold lost %v: %d counts without a hold, want %d", lose, got, i)
		}
	}
}
