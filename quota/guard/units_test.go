package guard_test

import (
	"fmt"
	"testing"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/script"
	"metergate/quota/testkit"
)

// In an outage, units are bounded by what is known here, and what was charged reaches the store once
// it is back. A gateway that starts on the journal of another counts the same.
func TestUnitsInOutage(t *testing.T) {
	p := quotatest.NewWeightedPlan("units", quota.Limit{Amount: 20, Period: quota.Month, Quantity: quota.Units})
	r := newGuardedRedis(t, setup{allow: true})
	weighted := func(units int64) quota.Request {
		q := request("u", p)
		q.Units = units
		return q
	}
	charge := func(units, unused int64) {
		t.Helper()
		d, err := r.Reserve(ctx, weighted(units))
		if err != nil || !d.Admitted {
			t.Fatalf("%d units: admitted %v, error %v", units, d.Admitted, err)
		}
		d.Reservation.Unused = unused
		r.commit(&d.Reservation)
	}
	wantUnits := func(want string) {
		t.Helper()
		s, err := r.Read(ctx, "u", p.OnlyChoice())
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%d+%d %v %v", s.Limits[0].Used, s.Limits[0].Held, s.Endpoints[0], s.EndpointUnits[0]); got != want {
			t.Errorf("the state is %s, want %s", got, want)
		}
	}
	charge(5, 2)
	wantUnits("3+0 1 3")
	r.beginOutage()
	charge(8, 1)
	charge(4, 4) // free
	wantUnits("10+0 3 10")
	if d, err := r.Reserve(ctx, weighted(11)); err != nil || d.Admitted {
		t.Errorf("11 units where 10 are left: admitted %v, error %v", d.Admitted, err)
	}
	charge(10, 0)
	wantUnits("20+0 4 20")
	r.endOutage()
	r.waitForReplay()
	wantUnits("20+0 4 20")
}

// In an outage each gateway bounds the requests that run on it.
func TestConcurrencyInOutage(t *testing.T) {
	p := quotatest.NewConcurrentPlan("two", 2)
	r := newGuardedRedis(t, setup{allow: true})
	first := r.admit("u", p)
	r.beginOutage()
	second := r.admit("u", p)
	if d, err := r.Reserve(ctx, request("u", p)); err != nil || d.Admitted || !d.NoPlace {
		t.Errorf("the third of two: admitted %v, no place %v, error %v", d.Admitted, d.NoPlace, err)
	}
	r.commit(first) // it still runs
	if d, err := r.Reserve(ctx, request("u", p)); err != nil || d.Admitted {
		t.Errorf("one of two is counted, and none has ended: admitted %v, error %v", d.Admitted, err)
	}
	r.Leave(first)
	third := r.admit("u", p)
	for _, q := range []*quota.Reservation{second, third} {
		r.commit(q)
		r.Leave(q)
	}
	r.endOutage()
	r.waitForReplay()
}

// Requests that were admitted without Redis have their places in it once it is back.
func TestPlacesTakenInOutage(t *testing.T) {
	p := quotatest.NewConcurrentPlan("two", 2)
	r := newGuardedRedis(t, setup{allow: true})
	first := r.admit("u", p)
	r.beginOutage()
	second := r.admit("u", p)
	r.endOutage()
	inRedis := func(want string) func() bool { // HMGET: HGET of nothing is an error
		return func() bool { return fmt.Sprint(r.redis.Do("HMGET", script.Key("metergate", "u"), "places")) == want }
	}
	testkit.Eventually(t, "the gateway has connected", func() bool { return r.state("u", p) == "0+1" })
	testkit.Eventually(t, "both have their places", inRedis("[2]"))
	if d, err := r.Reserve(ctx, request("u", p)); err != nil || !d.NoPlace {
		t.Errorf("the third of two: %+v, error %v", d, err)
	}
	r.Leave(second)
	testkit.Eventually(t, "a place is free", inRedis("[1]"))
	r.Leave(first)
	testkit.Eventually(t, "no place is taken", inRedis("[<nil>]"))
}
