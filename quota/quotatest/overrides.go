package quotatest

import (
	"context"
	"testing"
	"time"

	"metergate/quota"
)

func testOverride(t *testing.T, h *harness) {
	small, large := NewPlan("small", quota.Limit{Amount: 1, Period: quota.Month}), NewPlan("large", quota.Limit{Amount: 3, Period: quota.Month}, quota.Limit{Amount: 2, Period: quota.Day})
	choice := quota.PlanChoice{Claimed: small, ByName: map[string]*quota.Plan{"small": small, "large": large}}
	try := func(admitted bool, plan *quota.Plan) {
		t.Helper()
		for range 4 { // so that every gateway is asked
			r := request("u", "analyze", small)
			r.Plans = choice
			d := h.reserve(r)
			if d.Admitted != admitted || d.Reservation.Plan != plan || d.Snapshot.Plan != plan {
				t.Errorf("admitted %v under %s, with a snapshot of %s; want %v, %s", d.Admitted, d.Reservation.Plan.Name(), d.Snapshot.Plan.Name(), admitted, plan.Name())
			}
			if d.Admitted {
				if s := h.release(d.Reservation); s.Plan != plan {
					t.Errorf("released under the plan %s, want %s", s.Plan.Name(), plan.Name())
				}
			}
			if s, err := h.store.Read(context.Background(), "u", choice); err != nil || s.Plan != plan {
				t.Errorf("read under the plan %s (error %v), want %s", s.Plan.Name(), err, plan.Name())
			}
		}
	}
	set := func(c quota.Change) quota.Snapshot {
		t.Helper()
		s, err := h.store.ApplyChange(context.Background(), "u", choice, c)
		if err != nil {
			t.Fatalf("ApplyChange %+v: %v", c, err)
		}
		return s
	}
	h.use(1, "u", "analyze", small)
	try(false, small)
	if s := set(quota.Change{Action: quota.ActionSetPlan, Plan: "large"}); s.Plan != large || s.Override != (quota.Override{Plan: "large"}) {
		t.Errorf("plan %s, override %+v", s.Plan.Name(), s.Override)
	}
	try(true, large)
	if s, _ := h.store.Read(context.Background(), "v", choice); s.Plan != small || s.Override != (quota.Override{}) {
		t.Errorf("another user has the plan %s, override %+v", s.Plan.Name(), s.Override)
	}
	// A grant raises a limit of the effective plan.
	h.wantSnapshot(set(quota.Change{Action: quota.ActionGrant, Requests: 2, Period: quota.Day}), "1+0 1+0 0+0/2 [1 0 0]") // nothing was counted in the day before
	// With a plan that is no longer in the configuration, the claimed plan applies.
	if s := set(quota.Change{Action: quota.ActionSetPlan, Plan: "gone"}); s.Plan != small || s.Override.Plan != "gone" {
		t.Errorf("plan %s, override %+v", s.Plan.Name(), s.Override)
	}
	try(false, small)
	// An override with an end ends by the store's clock.
	until := h.clock.Now().Add(time.Hour)
	if s := set(quota.Change{Action: quota.ActionSetPlan, Plan: "large", Until: until}); s.Plan != large || !s.Override.Until.Equal(until) {
		t.Errorf("plan %s, override %+v", s.Plan.Name(), s.Override)
	}
	h.clock.Advance(time.Hour - 10*time.Second)
	try(true, large)
	h.clock.Advance(20 * time.Second)
	try(false, small)
	if s := set(quota.Change{Action: quota.ActionSetPlan, Plan: "large", Until: h.clock.Now().Add(-time.Minute)}); s.Plan != small {
		t.Errorf("an override that has already ended: plan %s", s.Plan.Name())
	}
	// Without an end it stays after all counts have been deleted.
	set(quota.Change{Action: quota.ActionSetPlan, Plan: "large"})
	h.clock.Advance(3 * 366 * 24 * time.Hour)
	try(true, large)
	set(quota.Change{Action: quota.ActionClearPlan})
	try(true, small)
	h.use(1, "u", "analyze", small)
	try(false, small)
	set(quota.Change{Action: quota.ActionClearPlan})
	try(false, small)
}

// A request that was admitted under one plan counts, whatever the plan is by then.
func testOverrideDuringRequest(t *testing.T, h *harness) {
	monthly, daily := NewPlan("monthly", quota.Limit{Amount: 9, Period: quota.Month}), NewPlan("daily", quota.Limit{Amount: 5, Period: quota.Day})
	choice := quota.PlanChoice{Claimed: monthly, ByName: map[string]*quota.Plan{"daily": daily, "monthly": monthly}}
	reserve := func() quota.Reservation {
		t.Helper()
		r := request("u", "analyze", monthly)
		r.Plans = choice
		return h.reserve(r).Reservation
	}
	counted, released := reserve(), reserve()
	if _, err := h.store.ApplyChange(context.Background(), "u", choice, quota.Change{Action: quota.ActionSetPlan, Plan: "daily"}); err != nil {
		t.Fatal(err)
	}
	for _, s := range []quota.Snapshot{h.commit(counted), h.commit(counted), h.release(released)} {
		if s.Plan != daily || s.Total.Used != 0 {
			t.Errorf("state %s under the plan %s", numbers(s), s.Plan.Name())
		}
	}
	h.wantState("u", monthly, "1+0 1+0 [1 0 0]")
	second := reserve()
	if second.Plan != daily {
		t.Errorf("reserved under the plan %s", second.Plan.Name())
	}
	if _, err := h.store.ApplyChange(context.Background(), "u", choice, quota.Change{Action: quota.ActionClearPlan}); err != nil {
		t.Fatal(err)
	}
	h.wantSnapshot(h.commit(second), "1+0 1+0 [1 0 0]")
	h.wantState("u", daily, "1+0 1+0 [1 0 0]")
}

func testClaimedPlan(t *testing.T, h *harness) {
	want := func(user, plan string) {
		t.Helper()
		if got, err := h.store.ClaimedPlan(context.Background(), user); err != nil || got != plan {
			t.Errorf("%s: the claimed plan is %q, error %v; want %q", user, got, err, plan)
		}
		err := h.store.ScanUsers(context.Background(), quota.WindowQuery{Period: quota.Month, At: h.clock.Now()}, func(u quota.UserUsage) error {
			if u.User == user && u.ClaimedPlan != plan {
				t.Errorf("%s is listed with the claimed plan %q, want %q", user, u.ClaimedPlan, plan)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
	pro, none := NewPlan("pro", quota.Limit{Amount: 100, Period: quota.Day}), NewPlan("none", quota.Limit{Period: quota.Month})
	want("u", "")
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 1}})
	want("u", "") // no token was seen
	h.use(1, "u", "report", hundredAMonth)
	want("u", "free")
	h.refuse("u", "report", none)
	want("u", "free")
	// An override does not change the claimed plan.
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetPlan, Plan: "none"})
	h.use(1, "u", "report", pro)
	want("u", "pro")
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionClearPlan})
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset})
	want("u", "pro")
	want("u2", "")
	// It is kept as long as the user has counts.
	h.clock.Advance(100 * 24 * time.Hour)
	want("u", "pro")
	h.use(1, "u", "report", hundredAMonth)
	want("u", "free")
}
