package redisstore

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

const day = 24 * time.Hour

// noon is the time at which the tests of the history begin.
var noon = time.Date(2026, time.November, 29, 12, 0, 5, 0, time.UTC)

// openHistory opens a store that keeps a history for some days, with keys of its own.
func openHistory(t testing.TB, url string, clock *quotatest.Clock, days int) *Store {
	t.Helper()
	return openWith(t, Options{URL: url, Prefix: "test-" + quota.NewID(), Timeout: patient, Now: clock.Now, Offset: clock.Offset, HistoryDays: days})
}

// eachRedis runs a test on Redis and on miniredis.
func eachRedis(t *testing.T, test func(t *testing.T, url string)) {
	t.Run("redis", func(t *testing.T) { test(t, redistest.Start(t).URL()) })
	t.Run("miniredis", func(t *testing.T) { test(t, "redis://"+miniredis.RunT(t).Addr()) })
}

// unlimited is the plan of the requests of use.
var unlimited = quotatest.NewPlan("unlimited")

// use makes requests that succeed.
func use(t testing.TB, s *Store, user, endpoint string, n int) {
	t.Helper()
	for range n {
		r := requestBy(unlimited, user)
		r.Endpoint = endpoint
		d, err := s.Reserve(ctx, r)
		if err == nil {
			_, err = s.Commit(ctx, &d.Reservation)
		}
		if err != nil || !d.Admitted {
			t.Fatalf("admitted %v, error %v", d.Admitted, err)
		}
	}
}

// historyOf returns the history of an account like "1 2 - 3+4": for each day, requests and by how much
// their units exceed them, of each endpoint in order of their names.
func historyOf(t testing.TB, s *Store, account string, days int) string {
	t.Helper()
	h, err := s.History(ctx, account, days)
	if err != nil {
		t.Fatal(err)
	}
	if today := s.calendar.DateAt(h.At); len(h.Days) != days || h.Days[days-1].Date != today {
		t.Fatalf("a history of %d days until %v: %v", days, today, h.Days)
	}
	var text []string
	for _, d := range h.Days {
		text = append(text, usedText(d.Endpoints))
	}
	return strings.Join(text, " ")
}

func usedText(endpoints map[string]quota.Used) string {
	var text []string
	for _, e := range slices.Sorted(maps.Keys(endpoints)) {
		u := endpoints[e]
		if u == (quota.Used{}) {
			continue
		}
		text = append(text, strconv.FormatInt(u.Requests, 10))
		if u.Units != u.Requests {
			text[len(text)-1] += fmt.Sprintf("%+d", u.Units-u.Requests)
		}
	}
	if len(text) == 0 {
		return "-"
	}
	return strings.Join(text, "/")
}

func TestHistoryHasEachDay(t *testing.T) {
	eachRedis(t, func(t *testing.T, url string) {
		clock := quotatest.NewClock(noon)
		s := openHistory(t, url, clock, 5)
		want := func(days int, text string) {
			t.Helper()
			if got := historyOf(t, s, "u", days); got != text {
				t.Errorf("%s: the history is %q, want %q", clock.Now().Format(time.DateOnly), got, text)
			}
		}
		want(5, "- - - - -")
		use(t, s, "u", "analyze", 2)
		use(t, s, "u", "report", 1)
		want(5, "- - - - 2/1")
		want(1, "2/1")
		clock.Advance(day)
		want(2, "2/1 -")
		use(t, s, "u", "report", 4)
		clock.Advance(2 * day)
		use(t, s, "u", "analyze", 1)
		want(5, "- 2/1 4 - 1")
		clock.Advance(2 * day)
		want(5, "4 - 1 - -")
		use(t, s, "u", "analyze", 3)
		clock.Advance(10 * day)
		want(5, "- - - - -")
		use(t, s, "u", "analyze", 1)
		want(5, "- - - - 1")
		for range 20 {
			use(t, s, "u", "analyze", 1)
			clock.Advance(day)
		}
		if text := commands(s).HGet(ctx, key(s, "u"), "days").Val(); strings.Count(text, ",") > 7 {
			t.Errorf("of 5 days Redis has %q", text)
		}
		for _, days := range []int{-1, 0, 6} {
			if _, err := s.History(ctx, "u", days); !errors.Is(err, quota.ErrNotKept) {
				t.Errorf("a history of %d days: error %v", days, err)
			}
		}
	})
}

// A count that comes late reaches its day, whether requests have been counted on a later one or not.
func TestLateCountsReachTheirDay(t *testing.T) {
	eachRedis(t, func(t *testing.T, url string) {
		clock := quotatest.NewClock(noon)
		s := openHistory(t, url, clock, 3)
		reserve := func(endpoint string) quota.Reservation {
			t.Helper()
			r := newRequest("u")
			r.Endpoint, r.Units = endpoint, 10
			d, err := s.Reserve(ctx, r)
			if err != nil || !d.Admitted {
				t.Fatal(d.Admitted, err)
			}
			d.Reservation.Unused = 7
			return d.Reservation
		}
		replay := func(rs ...quota.Reservation) {
			t.Helper()
			for range 2 { // the second time, they are settled
				if err := s.Replay(ctx, "u", rs, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
		want := func(text string) {
			t.Helper()
			if got := historyOf(t, s, "u", 3); got != text {
				t.Errorf("the history is %q, want %q", got, text)
			}
		}
		first := []quota.Reservation{reserve("analyze"), reserve("report"), reserve("analyze"), reserve("drill")}
		clock.Advance(day)
		replay(first[0])
		want("- 1+2 -")
		second := reserve("analyze")
		use(t, s, "u", "report", 1)
		replay(first[1], second) // the first on a day that is over, and the second on that of the other
		want("- 1+2/1+2 1+2/1")
		clock.Advance(day)
		use(t, s, "u", "analyze", 5)
		replay(first[2])
		want("2+4/1+2 1+2/1 5")
		before, late := reserve("report"), first[3]
		before.Date--
		replay(before)
		want("2+4/1+2 1+2/2+2 5")
		clock.Advance(4 * day) // the numbers of the first day are not kept any more
		use(t, s, "u", "analyze", 1)
		replay(late)
		want("- - 1")
		if days := commands(s).HGet(ctx, key(s, "u"), "days").Val(); strings.Contains(days, "drill") {
			t.Errorf("the days are %q", days)
		}
	})
}

// After random calls, the history is what was counted on each day.
func TestHistoryFollowsRandomCalls(t *testing.T) {
	eachRedis(t, func(t *testing.T, url string) {
		for _, account := range []string{"u", quota.MemberAccount("acme", "u")} {
			for seed := range uint64(2) {
				testRandomHistory(t, url, account, rand.New(rand.NewPCG(seed, 21)))
			}
		}
	})
}

// A historyModel is what a history should be.
type historyModel struct {
	used map[quota.Date]map[string]quota.Used
	// running are reserved, and rests are counted but for their rest.
	running, rests []quota.Reservation
}

func (m *historyModel) count(date quota.Date, endpoint string, requests, units int64) {
	if m.used[date] == nil {
		m.used[date] = make(map[string]quota.Used)
	}
	m.used[date][endpoint] = m.used[date][endpoint].Add(quota.Used{Requests: requests, Units: units})
}

// take removes a random reservation from a list.
func take(random *rand.Rand, list *[]quota.Reservation) (r quota.Reservation, ok bool) {
	if len(*list) == 0 {
		return r, false
	}
	i := random.IntN(len(*list))
	r = (*list)[i]
	*list = slices.Delete(*list, i, i+1)
	return r, true
}

func testRandomHistory(t *testing.T, url, account string, random *rand.Rand) {
	const keep = 6
	clock := quotatest.NewClock(noon)
	s := openHistory(t, url, clock, keep)
	p := quotatest.NewWeightedPlan("p", quota.Limit{Amount: quota.MaxAmount, Period: quota.Month, Shared: true})
	plans := p.OnlyChoice()
	plans.Scope = quota.ScopeOf(account)
	endpoints := []string{"analyze", "report", "image-analysis"}
	m := historyModel{used: map[quota.Date]map[string]quota.Used{}}
	fail := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	apply := func(c quota.Change) {
		t.Helper()
		_, err := s.ApplyChange(ctx, account, plans, c)
		fail(err)
	}
	for n := range 300 {
		today := s.calendar.DateAt(clock.Now())
		switch what := random.IntN(20); {
		case what < 8:
			d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: account, Endpoint: endpoints[random.IntN(3)], Plans: plans,
				Lease: time.Minute, Units: random.Int64N(20)})
			fail(err)
			r := d.Reservation
			if r.Date != today {
				t.Fatalf("reserved on %v, it is %v", r.Date, today)
			}
			r.Unused = random.Int64N(r.HeldUnits() + 1)
			if random.IntN(2) == 0 {
				r.Rest = random.Int64N(r.Unused + 1)
				r.RestCharged = random.Int64N(r.Rest + 1)
			}
			m.running = append(m.running, r)
		case what < 13:
			if r, ok := take(random, &m.running); ok {
				for range 1 + random.IntN(2) {
					_, err := s.Commit(ctx, &r)
					fail(err)
				}
				m.count(r.Date, r.Endpoint, 1, r.ChargedUnits())
				if r.RestUnits() > 0 {
					m.rests = append(m.rests, r)
				}
			}
		case what < 14:
			if r, ok := take(random, &m.running); ok {
				_, err := s.Release(ctx, &r)
				fail(err)
			}
		case what < 16:
			if r, ok := take(random, &m.rests); ok {
				for range 1 + random.IntN(2) {
					_, err := s.CommitRest(ctx, &r)
					fail(err)
				}
				m.count(r.Date, r.Endpoint, 0, r.ChargedRest())
			}
		case what < 17: // after an outage: several at once, rests also before their requests
			requests, rests := m.running[:len(m.running)/2], slices.Clone(m.rests)
			for _, r := range requests {
				if r.RestUnits() > 0 {
					rests = append(rests, r)
				}
			}
			if random.IntN(2) == 0 && len(rests) > 0 {
				fail(s.Replay(ctx, account, nil, rests))
			}
			if len(requests)+len(rests) > 0 {
				fail(s.Replay(ctx, account, requests, rests))
			}
			for _, r := range requests {
				m.count(r.Date, r.Endpoint, 1, r.ChargedUnits())
			}
			for _, r := range rests {
				m.count(r.Date, r.Endpoint, 0, r.ChargedRest())
			}
			m.running, m.rests = slices.Clone(m.running[len(requests):]), nil
		case what < 18:
			clock.Advance(time.Duration(random.IntN(30)) * time.Hour)
		default:
			switch random.IntN(5) {
			case 0:
				apply(quota.Change{Action: quota.ActionReset})
				delete(m.used, today)
			case 1, 2:
				counts, units := map[string]int64{"report": random.Int64N(3), "drill": 2}, map[string]int64{"drill": random.Int64N(5)}
				apply(quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, Counts: counts, CountUnits: units})
				m.count(today, "drill", 0, 0) // makes the map
				m.used[today]["report"] = quota.Used{Requests: counts["report"], Units: counts["report"]}
				m.used[today]["drill"] = quota.Used{Requests: 2, Units: units["drill"]}
			case 3:
				apply(quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 7}})
			case 4:
				apply(quota.Change{Action: quota.ActionSetPlan, Plan: "p"})
			}
		}
		if n%5 == 0 {
			var want []string
			for d := range quota.Date(keep) {
				want = append(want, usedText(m.used[s.calendar.DateAt(clock.Now())-keep+1+d]))
			}
			if got := historyOf(t, s, account, keep); got != strings.Join(want, " ") {
				t.Fatalf("%q, step %d: the history is %q, want %q\n%q", account, n, got, want, commands(s).HGetAll(ctx, key(s, account)).Val())
			}
		}
	}
}
