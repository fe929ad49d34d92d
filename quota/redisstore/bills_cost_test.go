package redisstore

import (
	"fmt"
	"maps"
	"strconv"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// billingHours is how many hours stores of tests keep for bills.
const billingHours = 7 * 24

// openBilling opens a patient store that keeps so many hours for bills, and whose time is a clock's.
func openBilling(t testing.TB, url string, clock *quotatest.Clock, hours int) *Store {
	t.Helper()
	return openWith(t, Options{URL: url, Timeout: patient, BillingHours: hours, Now: clock.Now, Offset: clock.Offset})
}

// A request makes Redis run no command more while bills are kept.
func TestBillsCostNoCommand(t *testing.T) {
	url := redistest.Start(t).URL()
	weighted := quotatest.NewWeightedPlan("p", quota.Limit{Amount: quota.MaxAmount, Period: quota.Month, Quantity: quota.Units})
	const requests = 20
	for name, c := range map[string]struct {
		units int64
		count bool
	}{"requests": {1, true}, "units": {5, true}, "released": {5, false}} {
		ran := func(hours int) map[string]int {
			s := openBilling(t, url, quotatest.NewClock(noon), hours)
			request := func() {
				r := requestBy(weighted, "u")
				r.Units = c.units
				d, err := s.Reserve(ctx, r)
				if err == nil {
					_, err = settleBy(s, &d.Reservation, c.count)
				}
				if err != nil || !d.Admitted {
					t.Fatal(d.Admitted, err)
				}
			}
			request() // the first one of the hour
			return commandsOf(t, s, func() {
				for range requests {
					request()
				}
			})
		}
		want, got := ran(0), ran(billingHours)
		if !maps.Equal(got, want) {
			t.Errorf("%s: with bills %v, want %v", name, got, want)
		}
	}
}

// Without bills, nothing of them is in Redis, nor is any argument about them sent.
func TestWithoutBillsNothingIsKept(t *testing.T) {
	server := redistest.Start(t)
	s := openStore(t, server.URL())
	use(t, s, "u", "analyze", 2)
	for field := range userHash(t, s, "u") {
		if len(field) >= 4 && field[:4] == "bill" {
			t.Errorf("Redis has the field %s", field)
		}
	}
	for _, hours := range []int{-1, quota.MaxBillingHours + 1} {
		if s, err := Open(Options{URL: "redis://127.0.0.1:1", BillingHours: hours}); err == nil {
			s.Close()
			t.Errorf("%d hours were accepted", hours)
		}
	}
}

// The first request of an hour costs a few commands, however many hours and requests there were before.
func TestFirstRequestOfAnHourCostsTheSame(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := openBilling(t, redistest.Start(t).URL(), clock, 48)
	ran := func() map[string]int {
		use(t, s, "u", "analyze", 5)
		use(t, s, "u", "report", 5)
		clock.Advance(time.Hour)
		return commandsOf(t, s, func() { use(t, s, "u", "analyze", 1) })
	}
	ran() // before, there was nothing that has ended
	want := ran()
	for range 100 {
		if got := ran(); !maps.Equal(want, got) && clock.Now().Hour() != 0 { // markers end less often at first
			t.Errorf("%v: %v, want %v", clock.Now(), got, want)
		}
	}
}

// BenchmarkBills measures what bills cost, the figures of docs/scale.md: the processor time of Redis for a
// request, and the bytes of a user, with bills of an hour, of a day and of a week that nobody has ended. Run it
// once:
//
//	go test ./quota/redisstore -run '^$' -bench Bills -benchtime 1x
func BenchmarkBills(b *testing.B) {
	b.Run("requests", func(b *testing.B) {
		benchmarkBillsTime(b, quotatest.NewPlan("one", quota.Limit{Amount: quota.MaxAmount, Period: quota.Month}), 1)
	})
	b.Run("units", func(b *testing.B) {
		benchmarkBillsTime(b, quotatest.NewWeightedPlan("one", quota.Limit{Amount: quota.MaxAmount, Period: quota.Month, Quantity: quota.Units}), 20)
	})
	b.Run("first of an hour", benchmarkFirstOfAnHour)
	b.Run("bytes", benchmarkBillsBytes)
}

// newBillsBench is newHistoryBench for users with and without bills.
func newBillsBench(b *testing.B, p *quota.Plan, units int64) *historyBench {
	h := &historyBench{b: b, plan: p, units: units}
	server := redistest.Start(b)
	offset := func() time.Duration { return time.Duration(h.ahead.Load()) }
	h.without = openWith(b, Options{URL: server.URL(), Timeout: patient, Offset: offset})
	h.with = openWith(b, Options{URL: server.URL(), Timeout: patient, Offset: offset, BillingHours: billingHours})
	return h
}

// spendHours has each user of a group make a request to each endpoint in each of some hours.
func (h *historyBench) spendHours(s *Store, group string, users, hours int) {
	for range hours {
		for turn := range 3 {
			h.request(s, group, users, turn, func(requests func()) { requests() })
		}
		h.advance(time.Hour)
	}
}

// benchmarkBillsTime compares users without bills with those who have some. Like benchmarkHistoryTime it
// measures requests that sweep, and those that follow.
func benchmarkBillsTime(b *testing.B, p *quota.Plan, units int64) {
	const users, rounds = 200, 60
	for b.Loop() {
		h := newBillsBench(b, p, units)
		type group struct {
			name         string
			store        *Store
			hours        int
			sweeps, runs []float64 // µs a request
		}
		groups := []*group{{name: "off", store: h.without, hours: 1}, {name: "hour", store: h.with, hours: 1},
			{name: "day", store: h.with, hours: 24}, {name: "week", store: h.with, hours: billingHours}}
		for _, g := range groups {
			h.begin()
			h.spendHours(h.without, g.name, users, billingHours-g.hours)
			h.spendHours(g.store, g.name, users, g.hours)
			h.advance(-50 * time.Minute)
		}
		for range rounds {
			h.advance(3 * time.Minute)
			for _, g := range groups {
				measure := func(requests func()) float64 {
					before := processorTime(b, g.store)
					requests()
					return (processorTime(b, g.store) - before) / users
				}
				h.request(g.store, g.name, users, 0, func(requests func()) { g.sweeps = append(g.sweeps, measure(requests)) })
				h.request(g.store, g.name, users, 1, func(requests func()) { g.runs = append(g.runs, measure(requests)) })
			}
		}
		for _, g := range groups {
			b.ReportMetric(median(g.runs), g.name+"-µs")
			b.ReportMetric(median(g.sweeps), g.name+"-sweeping-µs")
		}
	}
	b.ReportMetric(0, "ns/op")
}

// benchmarkFirstOfAnHour measures the first request of a user in an hour, which also sweeps.
func benchmarkFirstOfAnHour(b *testing.B) {
	const users, rounds = 100, 9
	for b.Loop() {
		h := newBillsBench(b, quotatest.NewPlan("one", quota.Limit{Amount: quota.MaxAmount, Period: quota.Month}), 1)
		for _, g := range []struct {
			name  string
			store *Store
			hours int
		}{{"off", h.without, 1}, {"hour", h.with, 1}, {"day", h.with, 24}, {"week", h.with, billingHours}} {
			h.begin()
			h.spendHours(g.store, g.name, users, g.hours)
			var first []float64
			for turn := range rounds {
				h.request(g.store, g.name, users, turn, func(requests func()) {
					before := processorTime(b, g.store)
					requests()
					first = append(first, (processorTime(b, g.store)-before)/users)
				})
				for other := range 2 {
					h.request(g.store, g.name, users, turn+1+other, func(requests func()) { requests() })
				}
				h.advance(time.Hour)
			}
			b.ReportMetric(median(first), g.name+"-µs")
		}
	}
	b.ReportMetric(0, "ns/op")
}

// benchmarkBillsBytes compares the memory of users without bills with that of those who have some.
func benchmarkBillsBytes(b *testing.B) {
	const users = 500
	for b.Loop() {
		h := newBillsBench(b, quotatest.NewPlan("one", quota.Limit{Amount: quota.MaxAmount, Period: quota.Month}), 1)
		for _, hours := range []int{1, 24, billingHours} {
			for name, s := range map[string]*Store{"off": h.without, "on": h.with} {
				h.begin()
				h.spendHours(s, "load", 1, 1) // the scripts
				before := usedMemory(b, s)
				h.begin()
				h.spendHours(s, name+strconv.Itoa(hours), users, hours)
				b.ReportMetric((usedMemory(b, s)-before)/users, fmt.Sprintf("B-%s-hour%d", name, hours))
			}
		}
	}
	b.ReportMetric(0, "ns/op")
}
