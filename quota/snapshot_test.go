package quota_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"metergate/quota"
)

// A tally is the state of one counter, in the counter's own window.
type tally struct{ used, held int64 }

// tallies have the state of counters; a counter that is missing stands at 0.
type tallies map[quota.Counter]tally

// snapshot lays out what a store read at an instant, in UTC.
func snapshot(p *quota.Plan, at time.Time, n tallies) quota.Snapshot {
	cal := quota.NewCalendar(nil)
	var counts []quota.Count
	for _, c := range p.Counters() {
		counts = append(counts, quota.Count{Window: cal.WindowAt(c.Period, at), Used: n[c].used, Held: n[c].held})
	}
	return p.NewSnapshot(at, counts)
}

// Counters of the refusal and usage tests.
var (
	minute      = quota.Counter{Period: quota.Minute}
	day         = quota.Counter{Period: quota.Day}
	month       = quota.Counter{Period: quota.Month}
	imageDay    = quota.Counter{Period: quota.Day, Endpoint: "image-analysis"}
	imageMonth  = quota.Counter{Period: quota.Month, Endpoint: "image-analysis"}
	reportMonth = quota.Counter{Period: quota.Month, Endpoint: "report"}
)

func limit(c quota.Counter, requests int64) quota.Limit {
	return quota.Limit{Amount: requests, Period: c.Period, Endpoint: c.Endpoint}
}

func TestNewSnapshotLaysOutCounts(t *testing.T) {
	p := newPlan(t, limit(month, 100), limit(imageMonth, 20), limit(minute, 5))
	at := instant(t, "2026-11-23T12:00:00Z")
	s := snapshot(p, at, tallies{
		month: {42, 2}, minute: {3, 1}, imageMonth: {12, 1},
		{Period: quota.Month, Endpoint: "analyze"}: {23, 1}, reportMonth: {7, 0},
	})
	if !s.At.Equal(at) {
		t.Errorf("At = %v", s.At)
	}
	want := []quota.Count{
		{Window: windowAt(quota.Month, at, nil), Used: 42, Held: 2},
		{Window: windowAt(quota.Month, at, nil), Used: 12, Held: 1},
		{Window: windowAt(quota.Minute, at, nil), Used: 3, Held: 1},
	}
	if !slices.Equal(s.Limits, want) {
		t.Errorf("Limits = %+v\nwant     %+v", s.Limits, want)
	}
	if s.Total != want[0] {
		t.Errorf("Total = %+v", s.Total)
	}
	if byName := []int64{23, 12, 7}; !slices.Equal(s.Endpoints, byName) {
		t.Errorf("Endpoints = %v, want %v", s.Endpoints, byName)
	}

	// Without limits there is still the total.
	s = snapshot(newPlan(t), at, tallies{month: {9, 1}})
	if len(s.Limits) != 0 || s.Total.Used != 9 || s.Total.Held != 1 || s.Total.Window.ID != "2026-11" || len(s.Endpoints) != len(endpoints) {
		t.Errorf("without limits: %+v", s)
	}
}

// drawn is a plan with a snapshot in which most limits are nearly reached or just exceeded.
type drawn struct {
	plan     *quota.Plan
	snapshot quota.Snapshot
	tallies  tallies
}

func drawSnapshot(t *rapid.T) drawn {
	var counters []quota.Counter
	for _, period := range periods {
		for _, e := range append([]string{""}, endpoints...) {
			counters = append(counters, quota.Counter{Period: period, Endpoint: e})
		}
	}
	counters = rapid.Permutation(counters).Draw(t, "limits")[:rapid.IntRange(0, 6).Draw(t, "number of limits")]
	n := tallies{}
	var limits []quota.Limit
	for _, c := range counters {
		requests := rapid.Int64Range(0, 6).Draw(t, "requests")
		limits = append(limits, limit(c, requests))
		n[c] = tally{rapid.Int64Range(0, 7).Draw(t, "used"), rapid.Int64Range(0, 3).Draw(t, "held")}
	}
	p, err := quota.NewPlan(quota.PlanOptions{Name: "pro", Limits: limits, Endpoints: endpoints, WarnAt: rapid.IntRange(1, 100).Draw(t, "warn at")})
	if err != nil {
		t.Fatal(err)
	}
	return drawn{p, snapshot(p, drawInstant(t, time.UTC, "at"), n), n}
}

// A limit with a grant behaves like a limit that is higher by the grant.
func TestGrantRaisesLimit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawSnapshot(t)
		granted, limits := d.snapshot, []quota.Limit{}
		granted.Limits = append([]quota.Count(nil), granted.Limits...)
		for i, l := range d.plan.Limits() {
			by := rapid.Int64Range(0, 3).Draw(t, "granted")
			granted.Limits[i].Granted = by
			l.Amount += by
			limits = append(limits, l)
		}
		raisedPlan, err := quota.NewPlan(quota.PlanOptions{Name: "pro", Limits: limits, Endpoints: endpoints, WarnAt: 80})
		if err != nil {
			t.Fatal(err)
		}
		base, err := quota.NewPlan(quota.PlanOptions{Name: "pro", Limits: d.plan.Limits(), Endpoints: endpoints, WarnAt: 80})
		if err != nil {
			t.Fatal(err)
		}
		raised := d.snapshot
		raised.Plan, granted.Plan = raisedPlan, base
		if diff := cmp.Diff(raised.Usage("u"), granted.Usage("u")); diff != "" {
			t.Fatalf("usage (-raised +granted):\n%s", diff)
		}
		for _, e := range endpoints {
			if diff := cmp.Diff(raised.Refusal(e, 1), granted.Refusal(e, 1)); diff != "" || raised.Admits(e, 1) != granted.Admits(e, 1) {
				t.Fatalf("admits %v, want %v; refusal (-raised +granted):\n%s", granted.Admits(e, 1), raised.Admits(e, 1), diff)
			}
		}
	})
}
