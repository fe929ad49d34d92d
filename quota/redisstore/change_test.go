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
	"metergate/quota/testkit"
)

var (
	large = quotatest.NewPlan("large", quota.Limit{Amount: 1000, Period: quota.Month}, quota.Limit{Amount: 900, Period: quota.Day})
	terms = quota.PlanChoice{Claimed: plan, ByName: map[string]*quota.Plan{"large": large}}
)

// TestOverrideCostsOneRoundTrip checks that each gateway makes one more round trip when it first
// meets an override, and none without one.
func TestOverrideCostsOneRoundTrip(t *testing.T) {
	c := redistest.StartFaultProxy(t, redistest.Start(t).Addr)
	s, other := openStore(t, c.URL()), openStore(t, c.URL())
	var scripts atomic.Int64
	c.OnReply(func(cmd redistest.Command, reply string) redistest.Fate {
		if cmd.Script() != "" && !strings.HasPrefix(reply, "-NOSCRIPT") {
			scripts.Add(1)
		}
		return redistest.Pass
	})
	wantCost := func(s *Store, want int64, by *quota.Plan) {
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
	wantCost(s, 2, plan)
	set := func(c quota.Change) {
		t.Helper()
		if _, err := s.ApplyChange(ctx, "u", terms, c); err != nil {
			t.Fatal(err)
		}
	}
	set(quota.Change{Action: quota.ActionSetPlan, Plan: "large"}) // and learns it
	wantCost(s, 2, large)
	wantCost(other, 3, large)
	wantCost(other, 2, large)
	set(quota.Change{Action: quota.ActionSetPlan, Plan: "gone"})
	wantCost(other, 3, plan)
	wantCost(other, 2, plan)
	set(quota.Change{Action: quota.ActionClearPlan})
	wantCost(other, 3, plan)
	wantCost(other, 2, plan)
	if n := s.overrides.n.Load() + other.overrides.n.Load(); n != 0 {
		t.Errorf("%d overrides are kept that are none", n)
	}
}

func TestOverridesLastSeenAreBounded(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	for i := range 2 * maxOverrides * len(s.overrides.shards) {
		user := fmt.Sprint("user-", i)
		s.overrides.see(user, "0 large")
		if got := s.overrides.lastSeen(user, false); got != "0 large" {
			t.Fatalf("the override just seen is %q", got)
		}
	}
	if n := s.overrides.n.Load(); n > int64(maxOverrides*len(s.overrides.shards)) {
		t.Errorf("%d overrides are kept", n)
	}
}

// TestKeyWithAnEndlessOverrideStays checks that such a key has no expiry, and that it has one
// again when the override is cleared or ends.
func TestKeyWithAnEndlessOverrideStays(t *testing.T) {
	const keep = 48 * time.Hour
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC))
	s := openWith(t, Options{URL: redistest.Start(t).URL(), Timeout: patient, Keep: keep, Now: clock.Now, Offset: clock.Offset})
	wantLife := func(want time.Duration) {
		t.Helper()
		ttl, err := commands(s).PTTL(ctx, key(s, "u")).Result()
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
	wantLife(-1)
	admitted, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: terms, Lease: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Commit(ctx, &admitted.Reservation); err != nil {
		t.Fatal(err)
	}
	wantLife(-1)
	change(quota.Change{Action: quota.ActionClearPlan})
	wantLife(toEnd)
	change(quota.Change{Action: quota.ActionSetPlan, Plan: "large"})
	wantLife(-1)
	change(quota.Change{Action: quota.ActionSetPlan, Plan: "large", Until: clock.Now().Add(time.Hour)})
	wantLife(toEnd)
	change(quota.Change{Action: quota.ActionSetPlan, Plan: "large", Until: clock.Now().Add(100 * 24 * time.Hour)})
	wantLife(100 * 24 * time.Hour)
	// A grant stays as long as the counts of its window, and all that has ended goes.
	change(quota.Change{Action: quota.ActionGrant, Requests: 5, ID: "one"})
	clock.Advance(toEnd + time.Hour)
	if _, err := s.Read(ctx, "u", terms); err != nil {
		t.Fatal(err)
	}
	fields, err := commands(s).HKeys(ctx, key(s, "u")).Result()
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

// TestChangeWithAnIDIsMadeOnce loses the reply to a change and sends it again.
func TestChangeWithAnIDIsMadeOnce(t *testing.T) {
	for _, loss := range replyLosses {
		t.Run(loss.name, func(t *testing.T) {
			t.Parallel()
			c := redistest.StartFaultProxy(t, redistest.Start(t).Addr)
			s := openWith(t, Options{URL: c.URL(), Timeout: short, InFlight: 4})
			testkit.Eventually(t, "a connection", func() bool {
				_, err := s.ApplyChange(ctx, "v", terms, quota.Change{Action: quota.ActionReset})
				return err == nil
			})
			loss.set(c, redistest.Change)
			grant := quota.Change{Action: quota.ActionGrant, Requests: 5, ID: "17"}
			if _, err := s.ApplyChange(ctx, "u", terms, grant); err == nil || quota.StoreResponded(err) {
				t.Errorf("error %v, want one of Redis", err)
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
