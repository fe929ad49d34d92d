package guard_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
)

// wantDays compares the last days of an account with want: "requests/units" of each, then "stale" if
// they are.
func (r *guardedRedis) wantDays(account string, days int, want string) {
	r.t.Helper()
	if got := r.days(account, days); got != want {
		r.t.Errorf("the days of %q are %s, want %s", account, got, want)
	}
}

func (r *guardedRedis) days(account string, days int) string {
	h, err := r.History(ctx, account, days)
	if err != nil {
		return err.Error()
	}
	var text []string
	for _, d := range h.Days {
		text = append(text, fmt.Sprintf("%d/%d", d.Total().Requests, d.Total().Units))
	}
	if h.Stale {
		text = append(text, "stale")
	}
	return strings.Join(text, " ")
}

// wantNoDays checks that the store's own error is returned.
func (r *guardedRedis) wantNoDays(account string, days int) {
	r.t.Helper()
	if h, err := r.History(ctx, account, days); err == nil || errors.Is(err, quota.ErrNotKept) || quota.StoreResponded(err) {
		r.t.Errorf("the days of %q are %+v, error %v; want that of the store", account, h.Days, err)
	}
}

// moving is a setup whose clock is moved by the test.
func moving(at time.Time, history int) (setup, *quotatest.Clock) {
	clock := quotatest.NewClock(at)
	return setup{allow: true, history: history, now: clock.Now}, clock
}

var midday = time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC)

func TestHistoryInOutage(t *testing.T) {
	s, clock := moving(midday, 10)
	r := newGuardedRedis(t, s)
	unlimited := quotatest.NewWeightedPlan("unlimited")
	r.use(3, "u", unlimited)
	r.use(1, "other", unlimited)
	clock.Advance(24 * time.Hour)
	r.wantDays("u", 3, "0/0 3/3 0/0")
	// What is counted after that is in the last known days.
	clock.Advance(time.Minute)
	r.use(2, "u", unlimited)
	rest := r.admit("u", unlimited)
	r.Release(ctx, r.admit("u", unlimited))

	r.beginOutage()
	r.wantDays("u", 3, "0/0 3/3 2/2 stale")
	r.use(2, "u", unlimited)
	r.commit(rest)
	for range 2 { // it is not kept for later
		r.wantDays("u", 3, "0/0 3/3 5/5 stale")
	}
	r.wantDays("u", 1, "5/5 stale")
	r.use(1, "other", unlimited)
	r.use(1, "new", unlimited)
	r.wantNoDays("u", 4) // nobody knows whether there was something on that day
	r.wantNoDays("other", 1)
	r.wantNoDays("new", 1)
	if _, err := r.History(ctx, "u", 11); !errors.Is(err, quota.ErrNotKept) {
		t.Errorf("11 days of 10: error %v, want %v", err, quota.ErrNotKept)
	}

	r.endOutage()
	r.waitForReplay()
	clock.Advance(time.Minute)
	r.wantDays("u", 4, "0/0 0/0 3/3 5/5")
	r.wantDays("other", 2, "1/1 1/1")
	r.wantDays("new", 2, "0/0 1/1")

	// In a second outage, what was replayed after the first one is known.
	r.beginOutage()
	r.wantDays("u", 4, "0/0 0/0 3/3 5/5 stale")
	r.use(1, "new", unlimited)
	r.endOutage()
	r.waitForReplay()
	r.beginOutage()
	r.wantDays("new", 2, "0/0 2/2 stale")
}

// A request counts on the day of its admission, before, in and after an outage.
func TestHistoryOverMidnightInOutage(t *testing.T) {
	s, clock := moving(time.Date(2026, time.November, 17, 23, 58, 0, 0, time.UTC), 10)
	r := newGuardedRedis(t, s)
	unlimited := quotatest.NewWeightedPlan("unlimited", quota.Limit{Amount: 1000, Period: quota.Month, Shared: true})
	member := quota.MemberAccount("acme", "u")
	pool := quota.PoolAccount("acme")
	r.wantDays(member, 3, "0/0 0/0 0/0")
	r.wantDays(pool, 3, "0/0 0/0 0/0")
	first := &r.reserveMemberBy(unlimited, "u").Reservation
	r.beginOutage()
	second := &r.reserveMemberBy(unlimited, "u").Reservation // unchecked
	second.Units, second.Unused, second.Rest, second.RestCharged = 9, 8, 8, 5
	clock.Advance(10 * time.Minute)
	r.commit(first)
	r.commit(second)
	r.commit(&r.reserveMemberBy(unlimited, "u").Reservation)
	// Redis has said nothing of the new day, on which other gateways may have counted.
	r.wantNoDays(member, 2)
	r.wantNoDays(pool, 2)
	if _, err := r.CommitRest(ctx, second); err != nil {
		t.Fatal(err)
	}
	clock.Advance(24 * time.Hour)
	r.wantNoDays(member, 1)
	r.endOutage()
	r.waitForReplay()
	r.wantDays(member, 3, "2/7 1/1 0/0")
	r.wantDays("u", 1, "0/0")
	r.wantDays(pool, 3, "0/0 0/0 0/0")
}

// A gateway that is started on the journal days later sends the counts to their days, as long as either
// the day or a window is kept.
func TestJournalReachesItsDays(t *testing.T) {
	s, clock := moving(midday, 10)
	s.keep = 24 * time.Hour
	r := newGuardedRedis(t, s)
	daily := quotatest.NewWeightedPlan("daily", quota.Limit{Amount: 1000, Period: quota.Day})
	monthly := quotatest.NewWeightedPlan("monthly", quota.Limit{Amount: 1000, Period: quota.Month})
	dir := t.TempDir()
	r.Close()
	r.options.Journal = openJournal(t, dir)
	r.Store = open(t, r.options)
	r.beginOutage()
	r.use(2, "u", daily)
	r.use(1, "v", monthly)
	res := r.admit("u", daily)
	res.Units, res.Unused, res.Rest, res.RestCharged = 9, 8, 8, 5
	r.commit(res)
	if _, err := r.CommitRest(ctx, res); err != nil {
		t.Fatal(err)
	}
	clock.Advance(24 * time.Hour)
	r.use(1, "u", daily)
	r.Close()

	r.endOutage()
	clock.Advance(9 * 24 * time.Hour) // the windows of the days are not kept any more
	r.options.Journal = openJournal(t, dir)
	r.Store = open(t, r.options)
	r.waitForReplay()
	r.wantDays("u", 10, "1/1 0/0 0/0 0/0 0/0 0/0 0/0 0/0 0/0 0/0")
	clock.Set(midday.Add(2 * 24 * time.Hour))
	r.wantDays("u", 3, "3/8 1/1 0/0")
	r.wantDays("v", 3, "1/1 0/0 0/0")
	if st := r.Stats(); st.Replayed != 6 || st.Dropped != 0 {
		t.Errorf("%d replayed, %d dropped; want 6 and 0", st.Replayed, st.Dropped)
	}
}

// Without a window and a day to count in, a count is dropped.
func TestJournalDropsDaysThatAreNotKept(t *testing.T) {
	for _, history := range []int{0, 2} {
		s, clock := moving(midday, history)
		s.keep = 24 * time.Hour
		r := newGuardedRedis(t, s)
		daily := quotatest.NewPlan("daily", quota.Limit{Amount: 1000, Period: quota.Day})
		r.beginOutage()
		r.use(2, "u", daily)
		r.endOutageAfter(3*24*time.Hour, clock)
		r.waitForReplay()
		if st := r.Stats(); st.Replayed != 0 || st.Dropped != 2 {
			t.Errorf("with %d days: %d replayed, %d dropped; want 0 and 2", history, st.Replayed, st.Dropped)
		}
	}
}

// After a change of today's numbers, the last known ones are wrong.
func TestChangedDaysAreNotKnown(t *testing.T) {
	s, _ := moving(midday, 10)
	r := newGuardedRedis(t, s)
	r.use(2, "u", five)
	known := "2/2"
	for _, step := range []struct {
		change quota.Change
		after  string
	}{
		{quota.Change{Action: quota.ActionGrant, Requests: 1}, "2/2"},
		{quota.Change{Action: quota.ActionReset}, "0/0"},
		{quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"report": 3}}, "3/3"},
	} {
		r.wantDays("u", 1, known)
		if _, err := r.ApplyChange(ctx, "u", five.OnlyChoice(), step.change); err != nil {
			t.Fatal(err)
		}
		r.beginOutage()
		if step.after == known {
			r.wantDays("u", 1, known+" stale")
		} else {
			r.wantNoDays("u", 1)
		}
		r.endOutage()
		r.waitForReplay()
		known = step.after
	}
	r.wantDays("u", 1, "3/3")
}

// A gateway keeps nothing of a history that is off, whatever is in its journal.
func TestJournalWithDaysWhereHistoryIsOff(t *testing.T) {
	s, _ := moving(midday, 10)
	r := newGuardedRedis(t, s)
	dir := t.TempDir()
	r.Close()
	r.options.Journal = openJournal(t, dir)
	r.Store = open(t, r.options)
	r.beginOutage()
	r.use(2, "u", five)
	r.Close()
	r.endOutage()
	off := newGuardedRedis(t, setup{now: s.now})
	off.Close()
	off.options.Journal = openJournal(t, dir)
	off.Store = open(t, off.options)
	off.waitForReplay()
	off.wantState("u", five, "2+0")
	if _, err := off.History(ctx, "u", 1); !errors.Is(err, quota.ErrNotKept) {
		t.Errorf("error %v, want %v", err, quota.ErrNotKept)
	}
	const countDays = `local n = 0
for _, key in ipairs(redis.call('KEYS', '*')) do
  if redis.call('TYPE', key).ok == 'hash' then
    for _, field in ipairs(redis.call('HKEYS', key)) do
      n = n + (string.find(field, '^day') and 1 or 0)
    end
  end
end
return n`
	if n := off.redis.Do("EVAL", countDays, "0"); n != int64(0) {
		t.Errorf("Redis has %v fields of a history", n)
	}
	if n := r.redis.Do("EVAL", countDays, "0"); n != int64(0) {
		t.Errorf("the Redis that was cut off has %v", n)
	}
}
