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

// The script computes what AttemptLimit.TakeToken does, to the microsecond: on miniredis, whose
// clock stands still where it is told to.
func TestAttemptsToTheMicrosecond(t *testing.T) {
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
			// Back, too, as a clock may be set.
			step := time.Duration(rapid.Int64Range(-int64(3*a.TokenInterval()), int64(3*a.TokenInterval())).Draw(t, "step"))
			if rapid.Bool().Draw(t, "at once") {
				step = 0
			}
			now = now.Add(step.Truncate(time.Microsecond))
			redis.SetTime(now)
			// One who is let try is refused by the limit, and leaves nothing but the attempt.
			p := quotatest.NewBoundPlan("p", a, quota.Limit{Period: quota.Month})
			d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: user, Endpoint: "analyze", Plans: p.OnlyChoice(), Lease: time.Minute})
			var wait time.Duration
			full[a], wait = a.TakeToken(full[a], now)
			if err != nil || d.Admitted || d.AttemptWait != wait {
				t.Fatalf("call %d: attempts again in %v, want %v; admitted %v, error %v", i, d.AttemptWait, wait, d.Admitted, err)
			}
			kept, err := strconv.ParseInt(redis.HGet(s.key(user), bucketOf(p)), 10, 64)
			if err != nil || kept != full[a].UnixMicro() {
				t.Fatalf("call %d: Redis keeps %d, want %d, error %v", i, kept, full[a].UnixMicro(), err)
			}
		}
		redis.Del(s.key(user))
	})
}

// bucketOf is the field with a user's bucket under the rule of p.
func bucketOf(p *quota.Plan) string {
	a := p.AttemptLimit()
	return fmt.Sprintf("attempts/%d/%d", a.Requests, a.TokenInterval().Microseconds())
}

// A user who was only ever refused does not stay in Redis.
func TestAttemptsAloneEnd(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	fields := func() []string {
		t.Helper()
		names, err := s.client.HKeys(ctx, s.key("u")).Result()
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(names)
		return names
	}
	try := func(p *quota.Plan) {
		t.Helper()
		d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: p.OnlyChoice(), Lease: time.Minute})
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
	p := quotatest.NewBoundPlan("p", quota.AttemptLimit{Requests: 2, Per: per}, nothing)
	for range 4 {
		try(p)
	}
	if got, want := fields(), []string{bucketOf(p), "user"}; !slices.Equal(got, want) {
		t.Errorf("attempts leave %v, want %v", got, want)
	}
	ttl, err := s.client.PTTL(ctx, s.key("u")).Result()
	// It is full again after the period, less what this test took.
	if err != nil || ttl < per-time.Minute || ttl > per+time.Hour {
		t.Errorf("the key lives for %v, want %v and a margin; error %v", ttl, per, err)
	}
}

// A bucket that is full again goes when others of the user's things do, and one that is
// not stays.
func TestFullBucketsAreSwept(t *testing.T) {
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 5, 0, time.UTC))
	s, err := Open(Options{URL: redistest.Start(t).URL(), Timeout: 20 * time.Second, Now: clock.Now, Offset: clock.Offset})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	p := quotatest.NewBoundPlan("p", quota.AttemptLimit{Requests: 2, Per: time.Hour})
	reserve := func() {
		t.Helper()
		d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: p.OnlyChoice(), Lease: time.Minute})
		if err != nil || !d.Admitted {
			t.Fatalf("admitted %v, error %v", d.Admitted, err)
		}
	}
	for _, step := range []struct {
		after time.Duration // of two attempts, and so of two leases
		want  bool
	}{{10 * time.Minute, true}, {61 * time.Minute, false}} {
		reserve()
		reserve()
		clock.Advance(step.after)
		if _, err := s.Read(ctx, "u", p.OnlyChoice()); err != nil { // sweeps the leases
			t.Fatal(err)
		}
		got, err := s.client.HExists(ctx, s.key("u"), bucketOf(p)).Result()
		if err != nil || got != step.want {
			t.Errorf("after %v there is a bucket: %v, want %v; error %v", step.after, got, step.want, err)
		}
		clock.Advance(2 * time.Hour)
	}
}
