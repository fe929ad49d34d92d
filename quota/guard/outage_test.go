package guard_test

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/testkit"
)

// With on_failure: deny, reserves fail in an outage.
func TestReserveIsDeniedInOutage(t *testing.T) {
	r := newGuardedRedis(t, setup{})
	r.use(2, "u", five)
	running := r.admit("u", five)
	r.beginOutage()
	for range 10 {
		if d, err := r.Reserve(ctx, request("u", five)); err == nil || d.Admitted {
			t.Fatalf("admitted %v, error %v; want an error", d.Admitted, err)
		}
	}
	// A request that was admitted before is counted, and the count shows.
	if got := numbers(r.commit(running)); got != "3+0 stale" {
		t.Errorf("after a commit the state is %s, want 3+0 stale", got)
	}
	r.wantState("u", five, "3+0 stale")
	if st := r.Stats(); st.Backlog != 1 || st.Journaled != 1 || st.OpenBreakers != 1 {
		t.Errorf("%+v", st)
	}
	if _, err := r.Read(ctx, "never seen", five.OnlyChoice()); err == nil {
		t.Error("Read returns numbers of a user who was never seen")
	}
	r.endOutage()
	r.waitForReplay()
	r.wantState("u", five, "3+0")
	r.use(2, "u", five)
	if d, err := r.Reserve(ctx, request("u", five)); err != nil || d.Admitted {
		t.Errorf("the sixth of five: admitted %v, error %v", d.Admitted, err)
	}
}

// With on_failure: allow, the last known usage bounds a user in an outage. A user who was
// never seen starts at 0. Every count reaches the store when it is back.
func TestReserveIsBoundedByLastKnownUsageInOutage(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.use(2, "seen", five)
	running := r.admit("seen", five)
	r.beginOutage()
	r.commit(running)
	for user, left := range map[string]int{"seen": 2, "new": 5} {
		failed := r.admit(user, five)
		if !failed.Unchecked {
			t.Error("admitted without the store, but not marked as unchecked")
		}
		r.wantState(user, five, fmt.Sprintf("%d+1 stale", 5-left))
		r.Release(ctx, failed)
		r.use(left, user, five)
		d, err := r.Reserve(ctx, request(user, five))
		if err != nil || d.Admitted || numbers(d.Snapshot) != "5+0 stale" {
			t.Errorf("%s, one too many: admitted %v at %s, error %v", user, d.Admitted, numbers(d.Snapshot), err)
		}
	}
	if st := r.Stats(); st.Backlog != 8 {
		t.Errorf("backlog %d, want 8", st.Backlog)
	}
	r.endOutage()
	r.waitForReplay()
	r.wantState("seen", five, "5+0")
	r.wantState("new", five, "5+0")
}

// In observe mode nothing is refused, not even in an outage, whatever on_failure says. The
// requests that pass are in the journal and are counted once.
func TestObserveModeAdmitsInOutage(t *testing.T) {
	for _, allow := range []bool{false, true} {
		t.Run(fmt.Sprintf("allow %v", allow), func(t *testing.T) {
			r := newGuardedRedis(t, setup{allow: allow})
			limit := quota.Limit{Amount: 2, Period: quota.Month}
			enforcing := quotatest.NewPlan("p", limit)
			observing := quotatest.NewObservingPlan("p", quota.AttemptLimit{Requests: 3, Per: 24 * time.Hour}, limit)
			// pass makes a request that the limits with these names would refuse.
			pass := func(q quota.Request, want string) {
				t.Helper()
				d, err := r.Reserve(ctx, q)
				if err != nil || !d.Admitted || !d.Reservation.Unchecked || fmt.Sprint(d.WouldBlock) != want {
					t.Fatalf("admitted %v, unchecked %v, would block %v, error %v; want true, true, %s", d.Admitted, d.Reservation.Unchecked, d.WouldBlock, err, want)
				}
				r.commit(&d.Reservation)
			}
			r.use(1, "u", enforcing)
			r.beginOutage()
			pass(request("u", observing), "[]")
			pass(request("u", observing), "[month]")
			route := request("u", enforcing)
			route.Observe = true
			pass(route, "[month]")
			pass(request("u", observing), "[month]")
			pass(request("u", observing), "[month attempts]")
			if d, err := r.Reserve(ctx, request("u", enforcing)); d.Admitted || (err == nil) != allow {
				t.Errorf("not in observe mode: admitted %v, error %v", d.Admitted, err)
			}
			r.wantState("u", observing, "6+0 stale")
			r.endOutage()
			r.waitForReplay()
			r.wantState("u", observing, "6+0")
			if d, err := r.Reserve(ctx, request("u", enforcing)); err != nil || d.Admitted {
				t.Errorf("the seventh of two: admitted %v, error %v", d.Admitted, err)
			}
		})
	}
}

// Attempts are also bounded in an outage, by a token bucket of the gateway. A refused attempt
// leaves nothing to settle.
func TestAttemptsAreBoundedInOutage(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	p := quotatest.NewAttemptLimitedPlan("p", quota.AttemptLimit{Requests: 3, Per: 24 * time.Hour}, quota.Limit{Amount: 2, Period: quota.Month})
	throttled := func(user, state string) {
		t.Helper()
		d, err := r.Reserve(ctx, request(user, p))
		if err != nil || d.Admitted || d.AttemptWait <= 0 || d.AttemptWait > 8*time.Hour || numbers(d.Snapshot) != state {
			t.Errorf("%s: admitted %v at %s, next attempt in %v, error %v; want false at %s, up to 8h",
				user, d.Admitted, numbers(d.Snapshot), d.AttemptWait, err, state)
		}
	}
	r.use(1, "u", p)
	r.Release(ctx, r.admit("u", p))
	r.Release(ctx, r.admit("u", p))
	throttled("u", "1+0")
	r.beginOutage()
	for user, used := range map[string]int{"u": 1, "new": 0} {
		r.Release(ctx, r.admit(user, p))
		r.use(2-used, user, p)
		for range used {
			if d, err := r.Reserve(ctx, request(user, p)); err != nil || d.Admitted || d.AttemptWait != 0 {
				t.Errorf("the third of two: admitted %v, next attempt in %v, error %v", d.Admitted, d.AttemptWait, err)
			}
		}
		throttled(user, "2+0 stale")
		throttled(user, "2+0 stale")
	}
	r.endOutage()
	r.waitForReplay()
	throttled("u", "2+0")
	r.wantState("new", p, "2+0")
}

// In an outage, requests in flight here count as held, whether the store admitted them or not.
func TestRunningRequestsAreHeldInOutage(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	for range 4 {
		r.admit("u", five)
	}
	r.beginOutage()
	last := r.admit("u", five)
	if d, err := r.Reserve(ctx, request("u", five)); err != nil || d.Admitted {
		t.Errorf("the sixth of five at once: admitted %v, error %v", d.Admitted, err)
	}
	r.wantState("u", five, "0+5 stale")
	r.Release(ctx, last)
	r.admit("u", five)
}

// In a second outage, the gateway remembers what was replayed after the first one, even if the
// user has not returned in between.
func TestReplayedCountsBoundSecondOutage(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.use(1, "u", five)
	r.beginOutage()
	r.use(3, "u", five)
	r.endOutage()
	r.waitForReplay()
	r.beginOutage()
	r.use(1, "u", five)
	if d, _ := r.Reserve(ctx, request("u", five)); d.Admitted {
		t.Error("the sixth of five was admitted")
	}
}

// A release that is made in an outage reaches the store after it.
func TestReleaseIsSentAfterOutage(t *testing.T) {
	r := newGuardedRedis(t, setup{})
	res := r.admit("u", five)
	r.beginOutage()
	if s, err := r.Release(ctx, res); err != nil || !s.Stale {
		t.Errorf("stale %v, error %v", s.Stale, err)
	}
	r.endOutage()
	testkit.EventuallyWithin(t, time.Minute, "the unit is back", func() bool { return r.state("u", five) == "0+0" })
}

// Outages begin and end while many requests run. Every commit that returned is counted once.
func TestOutagesLoseNoCount(t *testing.T) {
	unlimited := quotatest.NewPlan("enterprise")
	r := newGuardedRedis(t, setup{allow: true, history: 2})
	var counted [4]atomic.Int64
	var wait sync.WaitGroup
	stop := make(chan struct{})
	for worker := range 16 {
		wait.Go(func() {
			user := worker % len(counted)
			for {
				select {
				case <-stop:
					return
				default:
				}
				d, err := r.Reserve(ctx, request(fmt.Sprint("user-", user), unlimited))
				if err != nil || !d.Admitted {
					t.Errorf("admitted %v, error %v", d.Admitted, err)
					return
				}
				if _, err := r.Commit(ctx, &d.Reservation); err != nil {
					t.Error(err)
					return
				}
				counted[user].Add(1)
			}
		})
	}
	for range 3 {
		testkit.EventuallyWithin(t, time.Minute, "it works", func() bool { return r.Stats().OpenBreakers == 0 })
		n := counted[0].Load()
		testkit.EventuallyWithin(t, time.Minute, "some are counted", func() bool { return counted[0].Load() > n+50 })
		r.beginOutage()
		testkit.EventuallyWithin(t, time.Minute, "it is noticed", func() bool { return r.Stats().OpenBreakers == 1 })
		n = counted[0].Load()
		testkit.EventuallyWithin(t, time.Minute, "some are counted in the journal", func() bool { return counted[0].Load() > n+50 })
		r.endOutage()
	}
	close(stop)
	wait.Wait()
	r.waitForReplay()
	for user := range counted {
		r.wantState(fmt.Sprint("user-", user), unlimited, fmt.Sprintf("%d+0", counted[user].Load()))
		if h, err := r.History(ctx, fmt.Sprint("user-", user), 2); err != nil || h.Days[0].Total().Add(h.Days[1].Total()).Requests != counted[user].Load() {
			t.Errorf("the history of user %d is %+v, error %v; want %d", user, h.Days, err, counted[user].Load())
		}
	}
}
