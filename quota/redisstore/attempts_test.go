package redisstore

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"pgregory.net/rapid"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// TestAttemptsAgreeWithTakeToken compares the script with AttemptLimit.TakeToken, on
// miniredis, whose clock stands where it is set.
func TestAttemptsAgreeWithTakeToken(t *testing.T) {
	redis := miniredis.RunT(t)
	s := openStore(t, "redis://"+redis.Addr())
	rapid.Check(t, func(t *rapid.T) {
		user := quota.NewID()
		now := time.Date(2026, time.November, 17, 12, 0, 0, 0, time.UTC)
		full := map[quota.AttemptLimit]time.Time{} // each rule has a bucket
		a := quota.AttemptLimit{}
		for i := range rapid.IntRange(1, 40).Draw(t, "calls") {
			if i == 0 || rapid.IntRange(0, 9).Draw(t, "change") == 0 {
				a = quota.AttemptLimit{Requests: rapid.Int64Range(1, 5).Draw(t, "requests"),
					Per: rapid.SampledFrom([]time.Duration{time.Second, time.Minute, 24 * time.Hour}).Draw(t, "per")}
			}
			// A clock may also be set back.
			step := time.Duration(rapid.Int64Range(-int64(3*a.TokenInterval()), int64(3*a.TokenInterval())).Draw(t, "step"))
			if rapid.Bool().Draw(t, "at once") {
				step = 0
			}
			now = now.Add(step.Truncate(time.Microsecond))
			redis.SetTime(now)
			// With an attempt left, the limit refuses the request: only the attempt is written.
			p := quotatest.NewAttemptLimitedPlan("p", a, quota.Limit{Period: quota.Month})
			d, err := s.Reserve(ctx, requestBy(p, user))
			var wait time.Duration
			full[a], wait = a.TakeToken(full[a], now)
			if err != nil || d.Admitted || d.AttemptWait != wait {
				t.Fatalf("call %d: attempts again in %v, want %v; admitted %v, error %v", i, d.AttemptWait, wait, d.Admitted, err)
			}
			kept, err := strconv.ParseInt(redis.HGet(key(s, user), bucketOf(p)), 10, 64)
			if err != nil || kept != full[a].UnixMicro() {
				t.Fatalf("call %d: Redis keeps %d, want %d, error %v", i, kept, full[a].UnixMicro(), err)
			}
		}
		redis.Del(key(s, user))
	})
}

// bucketOf returns the field with a user's bucket under the rule of p.
func bucketOf(p *quota.Plan) string {
	a := p.AttemptLimit()
	return fmt.Sprintf("attempts/%d/%d", a.Requests, a.TokenInterval().Microseconds())
}

// TestKeyWithOnlyAttemptsExpires checks that a user who was only ever refused does not stay in
// Redis.
func TestKeyWithOnlyAttemptsExpires(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	fields := func() []string {
		t.Helper()
		names, err := commands(s).HKeys(ctx, key(s, "u")).Result()
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		return names
	}
	try := func(p *quota.Plan) {
		t.Helper()
		d, err := s.Reserve(ctx, requestBy(p, "u"))
		if err != nil || d.Admitted {
			t.Fatalf("admitted %v, error %v", d.Admitted, err)
		}
	}
	nothing := quota.Limit{Period: quota.Month}
	try(quotatest.NewPlan("none", nothing))
	if got := fields(); len(got) > 0 {
		t.Errorf("a refusal leaves %v", got)
	}
	const per = 2 * time.Hour
	p := quotatest.NewAttemptLimitedPlan("p", quota.AttemptLimit{Requests: 2, Per: per}, nothing)
	for range 4 {
		try(p)
	}
	if got, want := fields(), []string{bucketOf(p), "user"}; !slices.Equal(got, want) {
		t.Errorf("attempts leave %v, want %v", got, want)
	}
	ttl, err := commands(s).PTTL(ctx, key(s, "u")).Result()
	// It is full again after the period, less what this test took.
	if err != nil || ttl < per-time.Minute || ttl > per+time.Hour {
		t.Errorf("the key lives for %v, want %v and a margin; error %v", ttl, per, err)
	}
}

// TestSweepDeletesFullBuckets checks that a bucket that is full again goes when something else
// of the user's has ended, and that any other bucket stays.
func TestSweepDeletesFullBuckets(t *testing.T) {
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 5, 0, time.UTC))
	s := openAt(t, redistest.Start(t).URL(), clock)
	p := quotatest.NewAttemptLimitedPlan("p", quota.AttemptLimit{Requests: 2, Per: time.Hour})
	reserve := func() {
		t.Helper()
		d, err := s.Reserve(ctx, requestBy(p, "u"))
		if err != nil || !d.Admitted {
			t.Fatalf("admitted %v, error %v", d.Admitted, err)
		}
	}
	for _, step := range []struct {
		after time.Duration // two attempts, and so two leases
		want  bool
	}{{10 * time.Minute, true}, {61 * time.Minute, false}} {
		reserve()
		reserve()
		clock.Advance(step.after)
		if _, err := s.Read(ctx, "u", p.OnlyChoice()); err != nil { // sweeps the leases
			t.Fatal(err)
		}
		got, err := commands(s).HExists(ctx, key(s, "u"), bucketOf(p)).Result()
		if err != nil || got != step.want {
			t.Errorf("after %v there is a bucket: %v, want %v; error %v", step.after, got, step.want, err)
		}
		clock.Advance(2 * time.Hour)
	}
}
