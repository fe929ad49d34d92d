package guard_test

import (
	"errors"
	"testing"
	"time"

	"metergate/internal/testkit"
	"metergate/quota"
	"metergate/quota/quotatest"
)

var (
	ten   = quotatest.NewPlan("ten", quota.Limit{Requests: 10, Period: quota.Month})
	terms = quota.PlanChoice{Claimed: five, ByName: map[string]*quota.Plan{"ten": ten}}
)

func (r *guardedRedis) change(user string, c quota.Change) quota.Snapshot {
	r.t.Helper()
	s, err := r.ApplyChange(ctx, user, terms, c)
	if err != nil {
		r.t.Fatalf("Change %+v: %v", c, err)
	}
	return s
}

// Without the store nothing is changed, listed or put off.
func TestChangesNeedTheStore(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.use(2, "u", five)
	r.down()
	reset := quota.Change{Action: quota.ActionReset}
	for range 10 {
		if _, err := r.ApplyChange(ctx, "u", terms, reset); err == nil || quota.StoreResponded(err) {
			t.Fatalf("Change: error %v, want the store's", err)
		}
	}
	if st := r.Stats(); st.OpenBreakers != 1 || st.Journaled != 0 {
		t.Errorf("%+v", st)
	}
	if _, err := r.AuditLog(ctx, "u"); err == nil {
		t.Error("an audit list without the store")
	}
	if _, err := r.ReadAt(ctx, "u", terms, time.Now()); err == nil {
		t.Error("a look at the past without the store")
	}
	if err := r.ScanUsers(ctx, quota.Month, time.Now(), func(quota.UserUsage) error { return nil }); err == nil {
		t.Error("a list of users without the store")
	}
	r.want("u", five, "2+0 stale")
	r.up()
	r.settled()
	r.want("u", five, "2+0")
	if got := r.change("u", reset); got.Total.Used != 0 {
		t.Errorf("%d used after the reset", got.Total.Used)
	}
}

// What the last answer of the store said of plan and grants bounds a user in an outage;
// of one never seen it is the claim.
func TestChangesOutliveAnOutage(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.change("set", quota.Change{Action: quota.ActionSetPlan, Plan: "ten"})
	r.change("until", quota.Change{Action: quota.ActionSetPlan, Plan: "ten", Until: time.Now().Add(time.Hour)})
	r.change("granted", quota.Change{Action: quota.ActionGrant, Requests: 2})
	r.down()
	for user, left := range map[string]int{"set": 10, "until": 10, "granted": 7, "new": 5} {
		for n := 0; ; n++ {
			q := request(user, five)
			q.Plans = terms
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
			if want := terms.Effective(d.Snapshot.Override); d.Reservation.Plan != want || d.Snapshot.Plan != want {
				t.Errorf("%s: reserved by the plan %s, want %s", user, d.Reservation.Plan.Name(), want.Name())
			}
			r.commit(&d.Reservation)
		}
	}
	r.up()
	r.settled()
	for user, want := range map[string]string{"set": "10+0", "until": "10+0", "granted": "7+0", "new": "5+0"} {
		r.want(user, five, want)
	}
}

// An override ends on time in an outage, too.
func TestOverrideEndsInAnOutage(t *testing.T) {
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC))
	r := newGuardedRedis(t, setup{allow: true, now: clock.Now})
	r.change("u", quota.Change{Action: quota.ActionSetPlan, Plan: "ten", Until: clock.Now().Add(time.Hour)})
	r.down()
	plan := func() string {
		t.Helper()
		s, err := r.Read(ctx, "u", terms)
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

// What waits in the journal is counted before a reset, and does not come back after it.
func TestResetEndsTheJournalToo(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	for round := range 10 {
		r.down()
		r.use(3, "u", five)
		r.up()
		testkit.EventuallyWithin(t, time.Minute, "the reset is made", func() bool {
			_, err := r.ApplyChange(ctx, "u", terms, quota.Change{Action: quota.ActionReset})
			return err == nil
		})
		r.settled()
		r.want("u", five, "0+0")
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}

// An answer that says no is no failure of the store.
func TestRefusedChangesOpenNothing(t *testing.T) {
	r := newGuardedRedis(t, setup{})
	r.change("u", quota.Change{Action: quota.ActionReset, ID: "17"})
	for range 10 {
		for want, c := range map[error]quota.Change{
			quota.ErrInvalidChange: {Action: quota.ActionGrant},
			quota.ErrNoSuchLimit:   {Action: quota.ActionGrant, Requests: 1, Period: quota.Day},
			quota.ErrIDConflict:    {Action: quota.ActionClearPlan, ID: "17"},
		} {
			if _, err := r.ApplyChange(ctx, "u", terms, c); !errors.Is(err, want) {
				t.Errorf("error %v, want %v", err, want)
			}
		}
		if _, err := r.ReadAt(ctx, "u", terms, time.Now().AddDate(1, 0, 0)); !errors.Is(err, quota.ErrNotKept) {
			t.Errorf("error %v, want %v", err, quota.ErrNotKept)
		}
	}
	if n := r.Stats().OpenBreakers; n != 0 {
		t.Errorf("%d breakers are open", n)
	}
}
