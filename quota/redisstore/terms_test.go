package redisstore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// carryingPlan allows 100 requests a month, and carries 30 of them over.
var carryingPlan = quotatest.NewPlan("paid", quota.Limit{Amount: 100, Period: quota.Month, Carry: 30})

// termsRequest is a request by a plan, with a token that claims a day of the month.
func termsRequest(p *quota.Plan, user string, day int) quota.Request {
	r := requestBy(p, user)
	a := quota.NewAnchor(day, 0)
	r.Plans.Terms, r.Plans.Anchor = true, &a
	return r
}

// spend makes n requests on some stores at once, and returns how many were admitted and counted.
func spend(t *testing.T, n int, request func() quota.Request, stores ...*Store) int64 {
	t.Helper()
	var admitted atomic.Int64
	var calls sync.WaitGroup
	for i := range n {
		calls.Go(func() {
			s := stores[i%len(stores)]
			d, err := s.Reserve(ctx, request())
			if err == nil && d.Admitted {
				admitted.Add(1)
				_, err = s.Commit(ctx, &d.Reservation)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	calls.Wait()
	return admitted.Load()
}

// A thousand requests of a user arrive at the turn of the month on two gateways: what is carried is
// set once, and exactly the limit and what is carried are admitted.
func TestCarryIsSetOnce(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 0, 0, time.UTC))
	var set atomic.Int64
	var stores []*Store
	for range 2 {
		c := redistest.StartFaultProxy(t, redis.Addr)
		c.OnReply(func(cmd redistest.Command, reply string) redistest.Fate {
			if cmd.Script() == redistest.Terms && len(reply) > 9 && reply[4:8] == ":0\r\n" {
				set.Add(1)
			}
			return redistest.Pass
		})
		stores = append(stores, openWith(t, Options{URL: c.URL(), Timeout: patient, Now: clock.Now, Offset: clock.Offset}))
	}
	request := func() quota.Request { return termsRequest(carryingPlan, "u", 1) }
	if n := spend(t, 50, request, stores...); n != 50 {
		t.Fatalf("%d of 50 were admitted", n)
	}
	set.Store(0)
	clock.Set(time.Date(2026, time.December, 1, 0, 0, 1, 0, time.UTC))
	if n := spend(t, 1000, request, stores...); n != 130 {
		t.Errorf("%d of 1000 were admitted, want 130", n)
	}
	if n := set.Load(); n != 1 {
		t.Errorf("the terms were set %d times, want once", n)
	}
}

// A gateway that dies at any step of the turn of a month leaves nothing half done: another one goes
// on, and exactly what is left is admitted.
func TestTurnSurvivesAKill(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	for i, step := range []string{redistest.Look, redistest.Read, redistest.Terms, redistest.Reserve} {
		for _, ran := range []bool{false, true} {
			t.Run(fmt.Sprint(step, " ran ", ran), func(t *testing.T) {
				t.Parallel()
				clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 0, 0, time.UTC))
				c := redistest.StartFaultProxy(t, redis.Addr)
				dies := openWith(t, Options{URL: c.URL(), Timeout: patient, Now: clock.Now, Offset: clock.Offset})
				other := openAt(t, redis.URL(), clock)
				user := fmt.Sprint("u-", i, ran)
				request := func() quota.Request { return termsRequest(carryingPlan, user, 1) }
				spend(t, 80, request, dies, other)
				clock.Set(time.Date(2026, time.December, 1, 0, 0, 1, 0, time.UTC))
				if cut := fateOf(step, redistest.Cut); ran {
					c.OnReply(cut)
				} else {
					c.OnCommand(func(cmd redistest.Command) redistest.Fate { return cut(cmd, "") })
				}
				r := request()
				if d, err := dies.Reserve(ctx, r); err == nil {
					t.Fatalf("the step did not fail: admitted %v", d.Admitted)
				}
				want := int64(120)
				if step == redistest.Reserve && ran {
					want-- // the dead gateway holds it
				}
				if n := spend(t, 200, request, other); n != want {
					t.Errorf("%d of 200 were admitted, want %d", n, want)
				}
				clock.Advance(time.Minute + time.Second) // the lease
				if n := spend(t, 10, request, other); n != 120-want {
					t.Errorf("%d of 10 were admitted after the lease, want %d", n, 120-want)
				}
			})
		}
	}
}

// The first requests of a user arrive at once on two gateways: all are counted from the day that
// their tokens name.
func TestFirstRequestsHaveOneAnchor(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	stores := []*Store{openStore(t, redis.URL()), openStore(t, redis.URL())}
	p := quotatest.NewAnchoredPlan("paid", quota.ClaimAnchor, quota.Limit{Amount: 100, Period: quota.Month})
	request := func() quota.Request { return termsRequest(p, "u", 15) }
	if n := spend(t, 400, request, stores...); n != 100 {
		t.Errorf("%d of 400 were admitted, want 100", n)
	}
	snap, err := stores[0].Read(ctx, "u", request().Plans)
	if err != nil || snap.Total.Used != 100 || snap.Total.Window.Start.Day() != 15 {
		t.Errorf("%d used since %v, error %v; want 100 since the 15th", snap.Total.Used, snap.Total.Window.Start, err)
	}
}

// Terms take no call more once they are known.
func TestKnownTermsTakeNoCall(t *testing.T) {
	redis := redistest.Start(t)
	c := redistest.StartFaultProxy(t, redis.Addr)
	s := openWith(t, Options{URL: c.URL(), Timeout: patient})
	p := quotatest.NewAnchoredPlan("paid", quota.ClaimAnchor, quota.Limit{Amount: 1000, Period: quota.Month, Carry: 30})
	request := func() quota.Request { return termsRequest(p, "u", 15) }
	spend(t, 2, request, s)
	var calls atomic.Int64
	c.OnCommand(func(cmd redistest.Command) redistest.Fate {
		if cmd.Script() != "" && cmd.Script() != redistest.Check {
			calls.Add(1)
		}
		return redistest.Pass
	})
	spend(t, 100, request, s)
	if n := calls.Load(); n != 200 {
		t.Errorf("100 requests took %d calls, want 200", n)
	}
}

// An account whose terms a later release has written is refused, and left as it is.
func TestUnknownTermsAreRefused(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	r := termsRequest(carryingPlan, "u", 1)
	spend(t, 1, func() quota.Request { return termsRequest(carryingPlan, "u", 1) }, s)
	if err := commands(s).HSet(ctx, key(s, "u"), "terms", "zodiac=leo").Err(); err != nil {
		t.Fatal(err)
	}
	if d, err := s.Reserve(ctx, r); err == nil || quota.StoreResponded(err) {
		t.Errorf("admitted %v, error %v; want one about the user's data", d.Admitted, err)
	}
	if terms := userHash(t, s, "u")["terms"]; terms != "zodiac=leo" {
		t.Errorf("the terms are %q", terms)
	}
}
