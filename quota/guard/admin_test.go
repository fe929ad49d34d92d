package guard_test

import (
	"errors"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/testkit"
)

var (
	ten    = quotatest.NewPlan("ten", quota.Limit{Amount: 10, Period: quota.Month})
	choice = quota.PlanChoice{Claimed: five, ByName: map[string]*quota.Plan{"ten": ten}}
)

func (r *guardedRedis) applyChange(user string, c quota.Change) quota.Snapshot {
	r.t.Helper()
	s, err := r.ApplyChange(ctx, user, choice, c)
	if err != nil {
		r.t.Fatalf("ApplyChange %+v: %v", c, err)
	}
	return s
}

// In an outage administration fails. Nothing is kept for later.
func TestAdministrationFailsInOutage(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.use(2, "u", five)
	r.beginOutage()
	reset := quota.Change{Action: quota.ActionReset}
	for range 10 {
		if _, err := r.ApplyChange(ctx, "u", choice, reset); err == nil || quota.StoreResponded(err) {
			t.Fatalf("ApplyChange: error %v, want the store's", err)
		}
	}
	if st := r.Stats(); st.OpenBreakers != 1 || st.Journaled != 0 {
		t.Errorf("%+v", st)
	}
	if _, err := r.AuditLog(ctx, "u"); err == nil {
		t.Error("AuditLog returns no error without the store")
	}
	if _, err := r.ReadAt(ctx, "u", choice, time.Now()); err == nil {
		t.Error("ReadAt returns no error without the store")
	}
	if err := r.ScanUsers(ctx, quota.WindowQuery{Period: quota.Month, At: time.Now()}, func(quota.UserUsage) error { return nil }); err == nil {
		t.Error("ScanUsers returns no error without the store")
	}
	r.wantState("u", five, "2+0 stale")
	r.endOutage()
	r.waitForReplay()
	r.wantState("u", five, "2+0")
	if got := r.applyChange("u", reset); got.Total.Used != 0 {
		t.Errorf("%d used after the reset", got.Total.Used)
	}
}

// In an outage the last known plan and grants bound a user. A user who was never seen has the
// claimed plan.
func TestOverrideAndGrantsApplyInOutage(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.applyChange("set", quota.Change{Action: quota.ActionSetPlan, Plan: "ten"})
	r.applyChange("until", quota.Change{Action: quota.ActionSetPlan, Plan: "ten", Until: time.Now().Add(time.Hour)})
	r.applyChange("granted", quota.Change{Action: quota.ActionGrant, Requests: 2})
	r.beginOutage()
	for user, left := range map[string]int{"set": 10, "until": 10, "granted": 7, "new": 5} {
		for n := 0; ; n++ {
			q := request(user, five)
			q.Plans = choice
			d, err := r.Reserve(ctx, q)
			if err != nil {
				t.Fatal(err)
			}
			if !d.Admitted {
				if n != left {
					t.Errorf("%s: %d were admitted, want %d", user, n, left)
				}
				break
			}
			if want := choice.Effective(d.Snapshot.Override); d.Reservation.Plan != want || d.Snapshot.Plan != want {
				t.Errorf("%s: reserved by the plan %s, want %s", user, d.Reservation.Plan.Name(), want.Name())
			}
			r.commit(&d.Reservation)
		}
	}
	r.endOutage()
	r.waitForReplay()
	for user, want := range map[string]string{"set": "10+0", "until": "10+0", "granted": "7+0", "new": "5+0"} {
		r.wantState(user, five, want)
	}
}

// An override also ends on time in an outage.
func TestOverrideEndsInOutage(t *testing.T) {
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC))
	r := newGuardedRedis(t, setup{allow: true, now: clock.Now})
	r.applyChange("u", quota.Change{Action: quota.ActionSetPlan, Plan: "ten", Until: clock.Now().Add(time.Hour)})
	r.beginOutage()
	plan := func() string {
		t.Helper()
		s, err := r.Read(ctx, "u", choice)
		if err != nil || !s.Stale {
			t.Fatalf("stale %v, error %v", s.Stale, err)
		}
		return s.Plan.Name()
	}
	if got := plan(); got != "ten" {
		t.Errorf("the plan is %s before the end", got)
	}
	clock.Advance(2 * time.Hour)
	if got := plan(); got != "five" {
		t.Errorf("the plan is %s after the end", got)
	}
}

// Counts in the journal are sent before a reset, so that they are reset as well.
func TestResetCoversTheJournal(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	for round := range 10 {
		r.beginOutage()
		r.use(3, "u", five)
		r.endOutage()
		testkit.EventuallyWithin(t, time.Minute, "the reset is made", func() bool {
			_, err := r.ApplyChange(ctx, "u", choice, quota.Change{Action: quota.ActionReset})
			return err == nil
		})
		r.waitForReplay()
		r.wantState("u", five, "0+0")
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}

// An error that is the store's decision is not a failure of the store.
func TestRejectedChangesOpenNoBreaker(t *testing.T) {
	r := newGuardedRedis(t, setup{})
	r.applyChange("u", quota.Change{Action: quota.ActionReset, ID: "17"})
	for range 10 {
		for want, c := range map[error]quota.Change{
			quota.ErrInvalidChange: {Action: quota.ActionGrant},
			quota.ErrNoSuchLimit:   {Action: quota.ActionGrant, Requests: 1, Period: quota.Day},
			quota.ErrIDConflict:    {Action: quota.ActionClearPlan, ID: "17"},
		} {
			if _, err := r.ApplyChange(ctx, "u", choice, c); !errors.Is(err, want) {
				t.Errorf("error %v, want %v", err, want)
			}
		}
		if _, err := r.ReadAt(ctx, "u", choice, time.Now().AddDate(1, 0, 0)); !errors.Is(err, quota.ErrNotKept) {
			t.Errorf("error %v, want %v", err, quota.ErrNotKept)
		}
	}
	if n := r.Stats().OpenBreakers; n != 0 {
		t.Errorf("%d breakers are open", n)
	}
}
