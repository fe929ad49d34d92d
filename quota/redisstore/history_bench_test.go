package redisstore

import (
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// BenchmarkHistory measures what a history costs, the figures of docs/scale.md: the processor time of Redis
// for a request, and the bytes of a user. Run it once:
//
//	go test ./quota/redisstore -run '^$' -bench History -benchtime 1x
func BenchmarkHistory(b *testing.B) {
	b.Run("requests", func(b *testing.B) {
		benchmarkHistoryTime(b, quotatest.NewPlan("one", quota.Limit{Amount: quota.MaxAmount, Period: quota.Month}), 1)
	})
	b.Run("units", func(b *testing.B) {
		benchmarkHistoryTime(b, quotatest.NewWeightedPlan("one", quota.Limit{Amount: quota.MaxAmount, Period: quota.Month, Quantity: quota.Units}), 20)
	})
	b.Run("requests, in lists", func(b *testing.B) {
		benchmarkHistoryTime(b, quotatest.NewPlan("one", quota.Limit{Amount: quota.MaxAmount, Period: quota.Month}), 1, largeLists...)
	})
	b.Run("bytes", func(b *testing.B) { benchmarkHistoryBytes(b) })
	b.Run("bytes, in lists", func(b *testing.B) { benchmarkHistoryBytes(b, largeLists...) })
}

// largeLists has Redis keep the hashes with a history as lists.
var largeLists = []string{"--hash-max-listpack-entries", "512", "--hash-max-listpack-value", "512"}

// A historyBench has users who make requests to three endpoints.
type historyBench struct {
	b     *testing.B
	plan  *quota.Plan
	units int64 // that a request may cost; it costs a quarter of them
	ahead atomic.Int64
	// without and with a history
	without, with *Store
}

func newHistoryBench(b *testing.B, p *quota.Plan, units int64, redisArgs ...string) *historyBench {
	h := &historyBench{b: b, plan: p, units: units}
	server := redistest.Start(b, redisArgs...)
	offset := func() time.Duration { return time.Duration(h.ahead.Load()) }
	h.without = openWith(b, Options{URL: server.URL(), Timeout: patient, Offset: offset})
	h.with = openWith(b, Options{URL: server.URL(), Timeout: patient, Offset: offset, HistoryDays: historyDays})
	return h
}

// begin sets the time to the next noon.
func (h *historyBench) begin() {
	h.ahead.Store(int64(time.Until(time.Now().UTC().Truncate(24 * time.Hour).Add(36 * time.Hour))))
}

// advance moves the time on.
func (h *historyBench) advance(d time.Duration) { h.ahead.Add(int64(d)) }

// request has each user of a group make a request, one in three of them to each endpoint. The markers are
// deleted after cost has measured it.
func (h *historyBench) request(s *Store, group string, users, turn int, cost func(requests func())) {
	settled := make([]quota.Reservation, users)
	cost(func() {
		var wait sync.WaitGroup
		for worker := range 8 {
			wait.Go(func() {
				for i := worker; i < users; i += 8 {
					r := requestBy(h.plan, fmt.Sprintf("auth0|%s%019d", group, i))
					r.Endpoint, r.Units = []string{"analyze", "report", "image-analysis"}[(i+turn)%3], h.units
					d, err := s.Reserve(ctx, r)
					if err == nil {
						d.Reservation.Unused = h.units * 3 / 4
						_, err = s.Commit(ctx, &d.Reservation)
					}
					if err != nil || !d.Admitted {
						h.b.Error(d.Admitted, err)
					}
					settled[i] = d.Reservation
				}
			})
		}
		wait.Wait()
	})
	markers := commands(s).Pipeline()
	for i := range settled {
		markers.HDel(ctx, key(s, settled[i].User), "done/"+settled[i].ID)
	}
	if _, err := markers.Exec(ctx); err != nil {
		h.b.Fatal(err)
	}
}

// spendDays has each user of a group make a request to each endpoint on each of some days.
func (h *historyBench) spendDays(s *Store, group string, users, days int) {
	for range days {
		for turn := range 3 {
			h.request(s, group, users, turn, func(requests func()) { requests() })
		}
		h.advance(24 * time.Hour)
	}
}

// benchmarkHistoryTime compares users without a history with those whose first day of it this is, and with
// those who have all days of it. In each round, the first requests of the users come after their leases have
// ended, so that each sweeps; further ones follow.
func benchmarkHistoryTime(b *testing.B, p *quota.Plan, units int64, redisArgs ...string) {
	const users, rounds = 200, 60
	for b.Loop() {
		h := newHistoryBench(b, p, units, redisArgs...)
		type group struct {
			name         string
			store        *Store
			sweeps, runs []float64 // µs a request
		}
		groups := []*group{{name: "off", store: h.without}, {name: "day1", store: h.with}, {name: "day35", store: h.with}}
		for _, g := range groups {
			h.begin()
			before := h.without
			if g.name == "day35" {
				before = h.with
			}
			h.spendDays(before, g.name, users, historyDays-1)
			h.spendDays(g.store, g.name, users, 1)
			h.advance(-23 * time.Hour)
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

func median(numbers []float64) float64 {
	slices.Sort(numbers)
	return numbers[len(numbers)/2]
}

// benchmarkHistoryBytes compares the memory of users without a history with that of those who have one.
func benchmarkHistoryBytes(b *testing.B, redisArgs ...string) {
	const users = 2000
	for b.Loop() {
		h := newHistoryBench(b, plan, 1, redisArgs...)
		for _, days := range []int{1, historyDays} {
			for name, s := range map[string]*Store{"off": h.without, "on": h.with} {
				h.begin()
				h.spendDays(s, "load", 1, 1) // the scripts
				before := usedMemory(b, s)
				h.begin()
				h.spendDays(s, name+strconv.Itoa(days), users, days)
				b.ReportMetric((usedMemory(b, s)-before)/users, fmt.Sprintf("B-%s-day%d", name, days))
			}
		}
	}
	b.ReportMetric(0, "ns/op")
}

func usedMemory(b *testing.B, s *Store) float64 {
	n, err := strconv.ParseFloat(commands(s).InfoMap(ctx, "memory").Item("Memory", "used_memory"), 64)
	if err != nil {
		b.Fatal(err)
	}
	return n
}
