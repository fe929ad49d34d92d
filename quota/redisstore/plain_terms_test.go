package redisstore

import (
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
)

// What functions are told is kept from one request to the next. One that differs is not served as the one before it.
func TestKeptTermsAreThoseOfTheRequest(t *testing.T) {
	s := openLike(t, Options{functionsFirst: true}, redistest.Start(t).URL(), quotatest.NewClock(noon))
	month := quota.Limit{Amount: 3, Period: quota.Month}
	reserve := func(p *quota.Plan, change func(*quota.Request)) *quota.Decision {
		t.Helper()
		r := requestBy(p, p.Name())
		change(&r)
		d, err := s.Reserve(ctx, r)
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	as := func(*quota.Request) {}
	begin := func(p *quota.Plan) { // a function leaves the first request of a window to the script
		t.Helper()
		mustCommit(t, s, &reserve(p, func(r *quota.Request) { r.Waited = true }).Reservation)
	}

	attempts := quotatest.NewAttemptLimitedPlan("attempts", quota.AttemptLimit{Requests: 1, Per: time.Hour}, month)
	begin(attempts)
	if !reserve(attempts, as).Admitted || !reserve(attempts, func(r *quota.Request) { r.Waited = true }).Admitted {
		t.Error("a request that has waited is not admitted")
	}
	if reserve(attempts, as).AttemptWait == 0 {
		t.Error("the next request is not throttled")
	}

	observed := quotatest.NewPlan("observed", month)
	begin(observed)
	reserve(observed, as)
	reserve(observed, as)
	if !reserve(observed, func(r *quota.Request) { r.Observe = true }).Admitted {
		t.Error("a request in observe mode is refused")
	}

	weighted := quotatest.NewWeightedPlan("weighted", month)
	begin(weighted)
	reserve(weighted, as)
	reserve(weighted, func(r *quota.Request) { r.Units = 3 })
	if extra := commands(s).HGet(ctx, key(s, "weighted"), "heldextra/2026-11").Val(); extra != "2" {
		t.Errorf("a request for 3 units holds %q more than its first one", extra)
	}

	leases := quotatest.NewPlan("leases", month)
	begin(leases)
	reserve(leases, as)
	d := reserve(leases, func(r *quota.Request) { r.Lease = time.Hour })
	lease := commands(s).HGet(ctx, key(s, "leases"), "lease/"+d.Reservation.ID).Val()
	if ends, _ := script.ParseLease(lease); ends.Before(noon.Add(d.Reservation.Lease)) {
		t.Errorf("a lease of an hour ends at %v", ends)
	}
}
