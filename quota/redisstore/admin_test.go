package redisstore

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

var (
	large = quotatest.NewPlan("large", quota.Limit{Requests: 1000, Period: quota.Month}, quota.Limit{Requests: 900, Period: quota.Day})
	terms = quota.PlanChoice{Claimed: plan, ByName: map[string]*quota.Plan{"large": large}}
)

// An override costs each gateway one more round trip once, and those without one none.
func TestOverrideCostsOneRoundTrip(t *testing.T) {
	c := redistest.Connect(t, redistest.Start(t).Addr)
	s, other := openStore(t, c.URL()), openStore(t, c.URL())
	var scripts atomic.Int64
	c.OnReply(func(cmd redistest.Command, reply string) redistest.Fate {
		if cmd.Script() != "" && !strings.HasPrefix(reply, "-NOSCRIPT") {
			scripts.Add(1)
		}
		return redistest.Pass
	})
	cost := func(s *Store, want int64, by *quota.Plan) {
		t.Helper()
		before := scripts.Load()
		d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: terms, Lease: time.Minute})
		if err != nil || d.Reservation.Plan != by {
			t.Fatalf("plan %s, error %v, want %s", d.Reservation.Plan.Name(), err, by.Name())
		}
		if snap, err := s.Commit(ctx, &d.Reservation); err != nil || snap.Plan != by {
			t.Fatalf("error %v", err)
		}
		if got := scripts.Load() - before; got != want {
			t.Errorf("%d scripts, want %d", got, want)
		}
	}
	cost(s, 2, plan)
	set := func(c quota.Change) {
		t.Helper()
		if _, err := s.ApplyChange(ctx, "u", terms, c); err != nil {
			t.Fatal(err)
		}
	}
	set(quota.Change{Action: quota.ActionSetPlan, Plan: "large"}) // and learns it
	cost(s, 2, large)
	cost(other, 3, large)
	cost(other, 2, large)
	set(quota.Change{Action: quota.ActionSetPlan, Plan: "gone"})
	cost(other, 3, plan)
	cost(other, 2, plan)
	set(quota.Change{Action: quota.ActionClearPlan})
	cost(other, 3, plan)
	cost(other, 2, plan)
	if n := s.overrides.n.Load() + other.overrides.n.Load(); n != 0 {
		t.Errorf("%d overrides are kept that are none", n)
	}
}

// What a gateway keeps of overrides is bounded.
func TestOverridesAreBounded(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	for i := range 2 * maxOverrides * len(s.overrides.shards) {
		user := fmt.Sprint("user-", i)
		s.overrides.note(user, "0 large")
		if got := s.overrides.of(user); got != "0 large" {
			t.Fatalf("the override just seen is %q", got)
		}
	}
	if n := s.overrides.n.Load(); n > int64(maxOverrides*len(s.overrides.shards)) {
		t.Errorf("%d overrides are kept", n)
	}
}

// A key with an override that has no end stays; without it, it ends again when what is
// in it does.
func TestLifeOfAnOverride(t *testing.T) {
	const keep = 48 * time.Hour
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC))
	s, err := Open(Options{URL: redistest.Start(t).URL(), Timeout: 20 * time.Second, Keep: keep, Now: clock.Now, Offset: clock.Offset})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	life := func(want time.Duration) {
		t.Helper()
		ttl, err := s.client.PTTL(ctx, s.key("u")).Result()
		if want < 0 && ttl == -1 && err == nil {
			return
		}
		if err != nil || want < 0 || ttl < want-time.Minute || ttl > want+time.Hour {
			t.Errorf("the key lives for %v, want %v, error %v", ttl, want, err)
		}
	}
	change := func(c quota.Change) {
		t.Helper()
		if _, err := s.ApplyChange(ctx, "u", terms, c); err != nil {
			t.Fatal(err)
		}
	}
	toEnd := time.Date(2026, time.December, 1, 0, 0, 0, 0, time.UTC).Add(keep).Sub(clock.Now()) // of November's counts
	change(quota.Change{Action: quota.ActionSetPlan, Plan: "large"})
	life(-1)
	admitted, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: terms, Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(ctx, &admitted.Reservation); err != nil {
		t.Fatal(err)
	}
	life(-1)
	change(quota.Change{Action: quota.ActionClearPlan})
	life(toEnd)
	change(quota.Change{Action: quota.ActionSetPlan, Plan: "large"})
	life(-1)
	change(quota.Change{Action: quota.ActionSetPlan, Plan: "large", Until: clock.Now().Add(time.Hour)})
	life(toEnd)
	change(quota.Change{Action: quota.ActionSetPlan, Plan: "large", Until: clock.Now().Add(100 * 24 * time.Hour)})
	life(100 * 24 * time.Hour)
	// A grant lives as long as its window's counts, and all that has ended goes.
	change(quota.Change{Action: quota.ActionGrant, Requests: 5, ID: "one"})
	clock.Advance(toEnd + time.Hour)
	if _, err := s.Read(ctx, "u", terms); err != nil {
		t.Fatal(err)
	}
	fields, err := s.client.HKeys(ctx, s.key("u")).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		if f != "user" && f != "claimed" && f != "sweep" && f != "plan" {
			t.Errorf("the field %s has not gone", f)
		}
	}
	if len(fields) != 4 {
		t.Errorf("fields are %v", fields)
	}
}

// A change whose answer is lost can be sent again by its id.
func TestLostAnswerOfAChange(t *testing.T) {
	for _, way := range lost {
		t.Run(way.name, func(t *testing.T) {
			t.Parallel()
			c := redistest.Connect(t, redistest.Start(t).Addr)
			s := openWith(t, c.URL(), short, 4)
			if _, err := s.ApplyChange(ctx, "v", terms, quota.Change{Action: quota.ActionReset}); err != nil {
				t.Fatal(err)
			}
			way.set(c, redistest.Change)
			grant := quota.Change{Action: quota.ActionGrant, Requests: 5, ID: "17"}
			if _, err := s.ApplyChange(ctx, "u", terms, grant); err == nil || quota.StoreResponded(err) {
				t.Errorf("error %v, want Redis's", err)
			}
			c.Heal()
			var snap quota.Snapshot
			var err error
			for deadline := time.Now().Add(bound); time.Now().Before(deadline); {
				if snap, err = s.ApplyChange(ctx, "u", terms, grant); err == nil {
					break
				}
			}
			if err != nil || snap.Limits[0].Granted != 5 {
				t.Errorf("%d granted, error %v; want 5", snap.Limits[0].Granted, err)
			}
		})
	}
}
