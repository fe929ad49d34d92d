package guard_test

import (
	"fmt"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
)

var (
	ownMonth = quotatest.NewAnchoredPlan("paid", quota.ClaimAnchor, quota.Limit{Amount: 10, Period: quota.Month})
	carrying = quotatest.NewPlan("paid", quota.Limit{Amount: 10, Period: quota.Month, Carry: 4})
)

// onDay is a request by a plan, with a token that claims a day of the month.
func onDay(p *quota.Plan, user string, day int) quota.Request {
	r := request(user, p)
	a := quota.NewAnchor(day, 0)
	r.Plans.Terms, r.Plans.Anchor = true, &a
	return r
}

func (r *guardedRedis) useOn(n int, q func() quota.Request) {
	r.t.Helper()
	for range n {
		d, err := r.Reserve(ctx, q())
		if err != nil || !d.Admitted {
			r.t.Fatalf("admitted %v, error %v", d.Admitted, err)
		}
		r.commit(&d.Reservation)
	}
}

// wantWindow reads the first limit of a user: "WINDOW used/allowance".
func (r *guardedRedis) wantWindow(q quota.Request, want string) {
	r.t.Helper()
	s, err := r.Read(ctx, q.User, q.Plans)
	if err != nil {
		r.t.Fatal(err)
	}
	if got := fmt.Sprintf("%s %d/%d", s.Limits[0].Window.ID, s.Limits[0].Used, s.Allowance(0)); got != want {
		r.t.Errorf("the state of %s is %s, want %s", q.User, got, want)
	}
}

// A runningClock goes on from where it was set: the answers of a store that follow one another must
// have times that do so.
type runningClock struct{ *quotatest.Clock }

func (c runningClock) Now() time.Time { return time.Now().Add(c.Offset()).UTC() }

// In an outage, users are counted in the windows that were last known to be theirs, and new ones in
// those that their tokens name. Afterwards the store has them there.
func TestOwnWindowsInOutage(t *testing.T) {
	clock := runningClock{quotatest.NewClock(time.Date(2026, time.November, 20, 12, 0, 0, 0, time.UTC))}
	r := newGuardedRedis(t, setup{allow: true, now: clock.Now})
	known := func() quota.Request { return onDay(ownMonth, "known", 15) }
	isNew := func() quota.Request { return onDay(ownMonth, "new", 18) }
	calendar := func() quota.Request { return onDay(ownMonth, "calendar", 1) }
	r.useOn(2, known)
	r.useOn(1, calendar)
	r.beginOutage()
	r.useOn(3, known)
	r.useOn(4, isNew)
	r.useOn(1, calendar)
	want := func() {
		t.Helper()
		r.wantWindow(known(), "month-2026-11-15 5/10")
		r.wantWindow(isNew(), "month-2026-11-18 4/10")
		r.wantWindow(calendar(), "2026-11 2/10")
	}
	want()
	r.useOn(6, isNew)
	if d, err := r.Reserve(ctx, isNew()); err != nil || d.Admitted {
		t.Errorf("the 11th request of 10: admitted %v, error %v", d.Admitted, err)
	}
	r.endOutage()
	r.waitForReplay()
	r.wantWindow(isNew(), "month-2026-11-18 10/10")
	if d, err := r.Reserve(ctx, isNew()); err != nil || d.Admitted {
		t.Errorf("after the outage, the 11th request of 10: admitted %v, error %v", d.Admitted, err)
	}
	r.useOn(1, known)
	r.wantWindow(known(), "month-2026-11-15 6/10")
}

// The request that an outage begins with, before the gateway knows that it has, is counted in the month in
// which those that follow are; so is that of a member whose pool has terms.
func TestOutageBeginsWithNewUser(t *testing.T) {
	clock := runningClock{quotatest.NewClock(time.Date(2026, time.November, 20, 12, 0, 0, 0, time.UTC))}
	shared := quotatest.NewAnchoredPlan("paid", quota.ClaimAnchor, quota.Limit{Amount: 10, Period: quota.Month}, quota.Limit{Amount: 100, Period: quota.Month, Shared: true})
	for name, isNew := range map[string]func() quota.Request{
		"user": func() quota.Request { return onDay(ownMonth, "new", 18) },
		"member": func() quota.Request {
			r := onDay(shared, quota.MemberAccount("acme", "new"), 18)
			r.Plans.Scope = quota.MemberScope
			return r
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := newGuardedRedis(t, setup{allow: true, now: clock.Now})
			r.beginOutage()
			r.useOn(3, isNew)
			r.wantWindow(isNew(), "month-2026-11-18 3/10")
			r.endOutage()
			r.waitForReplay()
			r.wantWindow(isNew(), "month-2026-11-18 3/10")
		})
	}
}

// What was carried stays in an outage. If a month begins in one, its counts of the month before are
// replayed before it is worked out what is carried.
func TestCarryInOutage(t *testing.T) {
	clock := runningClock{quotatest.NewClock(time.Date(2026, time.November, 20, 12, 0, 0, 0, time.UTC))}
	r := newGuardedRedis(t, setup{allow: true, now: clock.Now})
	user := func() quota.Request { return onDay(carrying, "u", 1) }
	r.useOn(3, user)
	clock.Set(time.Date(2026, time.December, 20, 12, 0, 0, 0, time.UTC))
	r.useOn(2, user)
	r.wantWindow(user(), "2026-12 2/14")
	r.beginOutage()
	r.useOn(10, user)
	r.wantWindow(user(), "2026-12 12/14")
	clock.Set(time.Date(2027, time.January, 1, 0, 0, 1, 0, time.UTC))
	r.wantWindow(user(), "2027-01 0/10")
	r.useOn(1, user)
	r.endOutage()
	r.waitForReplay()
	r.wantWindow(user(), "2027-01 1/12") // 14 less 12 were left
	r.useOn(11, user)
	if d, err := r.Reserve(ctx, user()); err != nil || d.Admitted {
		t.Errorf("the 13th request of 12: admitted %v, error %v", d.Admitted, err)
	}
}

// In an outage, members are counted in the windows of their pool, which the first of them gave it, whichever
// their own are, also after one was served whose plan shares nothing by the month.
func TestPoolWindowsInOutage(t *testing.T) {
	clock := runningClock{quotatest.NewClock(time.Date(2026, time.November, 20, 12, 0, 0, 0, time.UTC))}
	r := newGuardedRedis(t, setup{allow: true, now: clock.Now})
	own := quota.Limit{Amount: 9, Period: quota.Month}
	byName := map[string]*quota.Plan{
		"monthly": quotatest.NewAnchoredPlan("monthly", quota.ClaimAnchor, own, quota.Limit{Amount: 9, Period: quota.Month, Shared: true}),
		"daily":   quotatest.NewAnchoredPlan("daily", quota.ClaimAnchor, own, quota.Limit{Amount: 9, Period: quota.Day, Shared: true}),
	}
	member := func(user, plan string, day int) func() quota.Request {
		return func() quota.Request {
			q := onDay(byName[plan], quota.MemberAccount("acme", user), day)
			q.Plans.Scope, q.Plans.ByName = quota.MemberScope, byName
			return q
		}
	}
	want := func(q quota.Request, want string) {
		t.Helper()
		s, err := r.Read(ctx, q.User, q.Plans)
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprintf("%s %d, %s %d", s.Limits[0].Window.ID, s.Limits[0].Used, s.Limits[1].Window.ID, s.Limits[1].Used); got != want {
			t.Errorf("%q has %s, want %s", q.User, got, want)
		}
	}
	a, b, c, d := member("a", "monthly", 15), member("b", "monthly", 18), member("c", "monthly", 3), member("d", "daily", 7)
	r.useOn(2, a)
	r.useOn(1, d)
	r.beginOutage()
	r.useOn(1, b) // of whom nothing is known
	r.useOn(1, c)
	r.useOn(1, a)
	want(b(), "month-2026-11-18 1, month-2026-11-15 5")
	r.endOutage()
	r.waitForReplay()
	want(a(), "month-2026-11-15 3, month-2026-11-15 5")
	want(b(), "month-2026-11-18 1, month-2026-11-15 5")
	want(c(), "month-2026-11-03 1, month-2026-11-15 5")
}
