package redisstore

import (
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// commandsOf returns how often Redis has run each command on a hash while something was done.
func commandsOf(t *testing.T, s *Store, do func()) map[string]int {
	t.Helper()
	read := func() map[string]int {
		text, err := commands(s).Info(ctx, "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		calls := map[string]int{}
		for _, m := range regexp.MustCompile(`cmdstat_([^:]+):calls=(\d+)`).FindAllStringSubmatch(text, -1) {
			calls[m[1]], _ = strconv.Atoi(m[2])
		}
		return calls
	}
	before := read()
	do()
	ran := map[string]int{}
	for command, n := range read() {
		if n -= before[command]; n > 0 && strings.HasPrefix(command, "h") && command != "hello" {
			ran[command] = n
		}
	}
	return ran
}

// A request makes Redis run no command more while a history is kept.
func TestHistoryCostsNoCommand(t *testing.T) {
	url := redistest.Start(t).URL()
	plan := quotatest.NewWeightedPlan("p", quota.Limit{Amount: quota.MaxAmount, Period: quota.Month, Quantity: quota.Units})
	const requests = 20
	for name, c := range map[string]struct {
		units int64
		count bool
	}{"requests": {1, true}, "units": {5, true}, "released": {5, false}} {
		ran := func(days int) map[string]int {
			s := openHistory(t, url, quotatest.NewClock(noon), days)
			request := func() {
				r := requestBy(plan, "u")
				r.Units = c.units
				d, err := s.Reserve(ctx, r)
				if err == nil {
					_, err = settleBy(s, &d.Reservation, c.count)
				}
				if err != nil || !d.Admitted {
					t.Fatal(d.Admitted, err)
				}
			}
			request() // the first one of the day
			return commandsOf(t, s, func() {
				for range requests {
					request()
				}
			})
		}
		want, got := ran(0), ran(historyDays)
		if !maps.Equal(got, want) {
			t.Errorf("%s: with a history %v, want %v", name, got, want)
		}
	}
}

// The first request of a day costs a few commands, however many days and requests there were before.
func TestFirstRequestOfADayCostsTheSame(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := openHistory(t, redistest.Start(t).URL(), clock, historyDays)
	ran := func() map[string]int {
		use(t, s, "u", "analyze", 5)
		use(t, s, "u", "report", 5)
		clock.Advance(day)
		return commandsOf(t, s, func() { use(t, s, "u", "analyze", 1) })
	}
	want := ran()
	for range historyDays {
		if got := ran(); !maps.Equal(want, got) && clock.Now().Day() != 1 { // the first of a month takes more
			t.Errorf("%v: %v, want %v", clock.Now(), got, want)
		}
	}
}

// What a user has of a history goes with it, and not before: neither with the windows nor with the key.
func TestHistoryLivesAsLongAsItIsShown(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := openWith(t, Options{URL: redistest.Start(t).URL(), Timeout: patient, Keep: time.Hour, HistoryDays: 100,
		Now: clock.Now, Offset: clock.Offset})
	use(t, s, "u", "analyze", 2)
	wantLife := func(want time.Duration) {
		t.Helper()
		left, err := commands(s).PTTL(ctx, key(s, "u")).Result()
		if err != nil || left < want || left > want+3*day {
			t.Errorf("the key lives for %v (error %v), want %v", left, err, want)
		}
	}
	wantLife(100 * day)
	for _, change := range []quota.Change{{Action: quota.ActionSetPlan, Plan: "free"}, {Action: quota.ActionClearPlan}} {
		if _, err := s.ApplyChange(ctx, "u", plan.OnlyChoice(), change); err != nil {
			t.Fatal(err)
		}
	}
	wantLife(100 * day)
	clock.Advance(99 * day)
	if got := historyOf(t, s, "u", 100); !strings.HasPrefix(got, "2 - ") {
		t.Errorf("after 99 days: %s", got)
	}
	clock.Advance(4 * day)
	wantState(t, s, "u", 0, 0) // sweeps
	for field := range userHash(t, s, "u") {
		if strings.HasPrefix(field, "day") {
			t.Errorf("after 103 days Redis has the field %s", field)
		}
	}
}

// An older release that shares the Redis leaves the history alone, also when it sweeps.
func TestReleaseBesideHistory(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := openHistory(t, redistest.Start(t).URL(), clock, 5)
	use(t, s, "u", "analyze", 2)
	clock.Advance(day)
	use(t, s, "u", "report", 3)
	before := historyOf(t, s, "u", 5)
	life := commands(s).PTTL(ctx, key(s, "u")).Val()
	scripts := releaseScripts(t)
	month := quota.NewCalendar(nil).WindowAt(quota.Month, clock.Now()).ID
	release := func(name string, own ...any) {
		t.Helper()
		args := append([]any{clock.Offset().Milliseconds(), "u", "*", 0, int64(1) << 52, 2, 1, "used/" + month, "held/" + month}, own...)
		if err := commands(s).Eval(ctx, scripts["common"]+scripts[name], []string{key(s, "u")}, args...).Err(); err != nil {
			t.Fatal(name, err)
		}
	}
	release("reserve", "lease/OLD", "done/OLD", "attempts/0/0", 60000, "analyze "+month, 0, 0, 0, "free", 100)
	clock.Advance(time.Hour)
	sweep := commands(s).HGet(ctx, key(s, "u"), "sweep").Val()
	release("read")
	if after := commands(s).HGet(ctx, key(s, "u"), "sweep").Val(); after == sweep {
		t.Error("the release has not swept")
	}
	if after := historyOf(t, s, "u", 5); after != before || after != "- - - 2 3" {
		t.Errorf("the history was %s, and is %s", before, after)
	}
	if left := commands(s).PTTL(ctx, key(s, "u")).Val(); left < life-time.Hour {
		t.Errorf("the key was to live for %v, and does for %v", life, left)
	}
}

// A history that cannot be read is an error that names the user, and does not keep requests from being
// counted.
func TestDamagedHistory(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := openHistory(t, redistest.Start(t).URL(), clock, 5)
	for i, damaged := range []string{
		"", "x", "1796515200000", "1796515200000 x", "1796515200000 20786 analyze\nanalyze 1,2", "1796515200000 20786\nanalyze 20780 1,x,3",
		"1796515200000 20786\nanalyze 999999999999999999999999 1", "1796515200000 20786\nanalyze 20780 -1\nx 7 \n", "99999999999999999999999999 9999999999999999999\n\n\n",
	} {
		user := fmt.Sprint("user-", i)
		use(t, s, user, "analyze", 1)
		if err := commands(s).HSet(ctx, key(s, user), "days", damaged).Err(); err != nil {
			t.Fatal(err)
		}
		_, err := s.History(ctx, user, 5)
		if i > 0 && (!errors.Is(err, quota.ErrUserData) || !strings.Contains(err.Error(), user)) {
			t.Errorf("%q: error %v", damaged, err)
		}
		for range 3 {
			use(t, s, user, "analyze", 1)
			use(t, s, user, "report", 1)
			clock.Advance(day)
		}
	}
}

// A damaged count of a day does not keep a request from being counted once, and begins anew.
func TestDamagedDayIsCountedAnew(t *testing.T) {
	url := redistest.Start(t).URL()
	for i, damaged := range []string{"xx", "", "1.5", "9223372036854775807", "nan"} {
		clock := quotatest.NewClock(noon)
		s := openHistory(t, url, clock, 5)
		user := fmt.Sprint("user-", i)
		damage := func() {
			t.Helper()
			for _, field := range []string{"day", "dayextra"} {
				field = fmt.Sprintf("%s/%d/analyze", field, s.calendar.DateAt(clock.Now()))
				if err := commands(s).HSet(ctx, key(s, user), field, damaged).Err(); err != nil {
					t.Fatal(err)
				}
			}
		}
		charge := func() {
			t.Helper()
			r := requestBy(unlimited, user)
			r.Units = 3
			d, err := s.Reserve(ctx, r)
			if err != nil || !d.Admitted {
				t.Fatal(d.Admitted, err)
			}
			if _, err := s.Commit(ctx, &d.Reservation); err != nil {
				t.Errorf("%q: %v", damaged, err)
			}
		}
		charge()
		damage()
		charge()
		charge()
		if got := historyOf(t, s, user, 1); got != "2+4" {
			t.Errorf("%q: the history is %q", damaged, got)
		}
		month := "used/" + s.calendar.WindowAt(quota.Month, clock.Now()).ID
		if got := commands(s).HGet(ctx, key(s, user), month).Val(); got != "3" {
			t.Errorf("%q: %s requests are counted, want 3", damaged, got)
		}
		damage()
		clock.Advance(day)
		charge()
		if got := historyOf(t, s, user, 2); got != "- 1+2" {
			t.Errorf("%q: on the next day, the history is %q", damaged, got)
		}
	}
}

func TestHistoryDaysAreChecked(t *testing.T) {
	for _, days := range []int{-1, quota.MaxHistory + 1} {
		if s, err := Open(Options{URL: "redis://127.0.0.1:1", HistoryDays: days}); err == nil {
			s.Close()
			t.Errorf("%d days were accepted", days)
		}
	}
}

// Redis finds the fields of a list one by one, and those of a table at once.
func TestHashWithAHistoryIsATable(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := openHistory(t, redistest.Start(t).URL(), clock, historyDays)
	for _, endpoint := range []string{"analyze", "report"} {
		for range 2 {
			use(t, s, "u", endpoint, 1)
			if got, err := commands(s).ObjectEncoding(ctx, key(s, "u")).Result(); err != nil || got != "hashtable" {
				t.Errorf("the hash is a %s, error %v", got, err)
			}
			// A restarted Redis makes a list of what fits into one.
			if n := len(commands(s).HGet(ctx, key(s, "u"), "days").Val()); n < 65 {
				t.Errorf("the field days has %d bytes", n)
			}
		}
		clock.Advance(day)
	}
}
