package quota_test

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"metergate/quota"
)

// At noon on 23 November, the month has 7.5 days left: 648,000 seconds.
func TestRefusalNamesLimitsAndWait(t *testing.T) {
	const noon, later = "2026-11-23T12:00:00Z", "2026-11-23T12:00:29.4Z"
	const toDecember = 648_000
	limits := func(l ...quota.Limit) []quota.Limit { return l }
	for _, tt := range []struct {
		name       string
		limits     []quota.Limit
		tallies    tallies
		endpoint   string
		at         string
		violated   []int
		binding    int
		retryAfter int64
	}{
		{"one unit is left", limits(limit(month, 100)), tallies{month: {98, 1}}, "report", noon, nil, 0, 0},
		{"the 101st of 100", limits(limit(month, 100)), tallies{month: {100, 0}}, "report", noon, []int{0}, 0, toDecember},
		{"a limit lowered below what was used", limits(limit(month, 100)), tallies{month: {250, 3}}, "report", noon, []int{0}, 0, toDecember},
		{"used up with others in flight", limits(limit(month, 100)), tallies{month: {100, 1}}, "report", noon, []int{0}, 0, toDecember},
		{"seconds are rounded up", limits(limit(minute, 5)), tallies{minute: {5, 0}}, "report", later, []int{0}, 0, 31},
		{"the last instant of a window", limits(limit(minute, 5)), tallies{minute: {5, 0}}, "report", "2026-11-23T12:00:59.999999999Z", []int{0}, 0, 1},
		{"not in this plan", limits(limit(imageMonth, 0)), nil, "image-analysis", noon, []int{0}, 0, toDecember},
		{"a whole plan of nothing", limits(limit(month, 0)), nil, "report", noon, []int{0}, 0, toDecember},

		{"the last unit is held", limits(limit(month, 100)), tallies{month: {99, 1}}, "report", noon, []int{0}, 0, 1},
		{"all units are held", limits(limit(month, 100)), tallies{month: {0, 100}}, "report", noon, []int{0}, 0, 1},

		{"of two, the one that renews last", limits(limit(month, 100), limit(minute, 5)), tallies{month: {100, 0}, minute: {5, 0}}, "report", later, []int{0, 1}, 0, toDecember - 29},
		{"in whatever order they stand", limits(limit(minute, 5), limit(month, 100)), tallies{month: {100, 0}, minute: {5, 0}}, "report", later, []int{0, 1}, 1, toDecember - 29},
		{"of three", limits(limit(minute, 5), limit(day, 10), limit(month, 100)), tallies{minute: {5, 0}, day: {10, 0}, month: {50, 0}}, "report", noon, []int{0, 1}, 1, 43_200},
		// The month gets its unit back when a request in flight fails; the minute is used up.
		{"one used up, a longer one held", limits(limit(month, 100), limit(minute, 5)), tallies{month: {99, 1}, minute: {5, 0}}, "report", later, []int{0, 1}, 1, 31},
		{"one used up, a shorter one held", limits(limit(month, 100), limit(minute, 5)), tallies{month: {100, 1}, minute: {4, 1}}, "report", later, []int{0, 1}, 0, toDecember - 29},

		{"another endpoint's limit is used up", limits(limit(month, 100), limit(imageMonth, 20)), tallies{month: {42, 0}, imageMonth: {20, 0}}, "report", noon, nil, 0, 0},
		{"its own limit is used up", limits(limit(month, 100), limit(imageMonth, 20)), tallies{month: {42, 0}, imageMonth: {20, 0}}, "image-analysis", noon, []int{1}, 1, toDecember},
		{"its own limit is held", limits(limit(month, 100), limit(imageMonth, 20)), tallies{month: {42, 1}, imageMonth: {19, 1}}, "image-analysis", noon, []int{1}, 1, 1},
		{"its own of the day, and the month of all", limits(limit(imageDay, 5), limit(month, 100)), tallies{month: {100, 0}, imageDay: {5, 0}}, "image-analysis", noon, []int{0, 1}, 1, toDecember},
		{"no limits", nil, tallies{month: {1_000_000, 9}}, "report", noon, nil, 0, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlan(t, tt.limits...)
			s := snapshot(p, instant(t, tt.at), tt.tallies)
			if admits := s.Admits(tt.endpoint, 1); admits != (tt.violated == nil) {
				t.Errorf("Admits = %v", admits)
			}
			r := s.Refusal(tt.endpoint, 1)
			if !slices.Equal(r.Violated, tt.violated) || r.Binding != tt.binding || r.RetryAfter != tt.retryAfter {
				t.Errorf("got %+v, want violated %v, binding %d, retry after %d", r, tt.violated, tt.binding, tt.retryAfter)
			}
		})
	}

	// Only holds, in several limits: each has room again as soon as a request in flight ends.
	p := newPlan(t, limit(minute, 5), limit(month, 100))
	r := snapshot(p, instant(t, noon), tallies{minute: {4, 1}, month: {99, 1}}).Refusal("report", 1)
	if !slices.Equal(r.Violated, []int{0, 1}) || !slices.Contains(r.Violated, r.Binding) || r.RetryAfter != 1 {
		t.Errorf("held in two limits: %+v", r)
	}
	// A snapshot of a window that has just ended, as the last known one can be when the store
	// does not answer: never "retry after 0".
	p = newPlan(t, limit(minute, 5))
	s := snapshot(p, instant(t, noon), tallies{minute: {5, 0}})
	s.At = s.Limits[0].Window.End.Add(time.Second)
	if r := s.Refusal("report", 1); r.RetryAfter != 1 {
		t.Errorf("after the window's end: %+v", r)
	}
}

// A refusal names exactly the limits that have no unit left. When its wait is over, every
// limit that was used up has renewed.
func TestRefusalWaitIsSufficient(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := drawSnapshot(t)
		endpoint := rapid.SampledFrom(endpoints).Draw(t, "endpoint")
		var violated, usedUp []int
		for i, l := range d.plan.Limits() {
			n := d.tallies[quota.Counter{Period: l.Period, Endpoint: l.Endpoint}]
			if (l.Endpoint == "" || l.Endpoint == endpoint) && n.used+n.held >= l.Amount {
				violated = append(violated, i)
				if n.used >= l.Amount {
					usedUp = append(usedUp, i)
				}
			}
		}
		r := d.snapshot.Refusal(endpoint, 1)
		if !slices.Equal(r.Violated, violated) || d.snapshot.Admits(endpoint, 1) != (len(violated) == 0) {
			t.Fatalf("got %+v, violated are %v", r, violated)
		}
		switch {
		case len(violated) == 0:
			if r.RetryAfter != 0 || r.Binding != 0 {
				t.Fatalf("nothing is violated and %+v", r)
			}
			return
		case len(usedUp) == 0:
			if r.RetryAfter != 1 || !slices.Contains(violated, r.Binding) {
				t.Fatalf("only holds, of %v: %+v", violated, r)
			}
			return
		}
		then := d.snapshot.At.Add(time.Duration(r.RetryAfter) * time.Second)
		for _, i := range usedUp {
			if end := d.snapshot.Limits[i].Window.End; end.After(then) {
				t.Fatalf("limit %d renews at %v, after %+v", i, end, r)
			}
		}
		if !slices.Contains(violated, r.Binding) {
			t.Fatalf("%+v binds by a limit that is not violated", r)
		}
		if end := d.snapshot.Limits[r.Binding].Window.End; r.RetryAfter > 1 && !end.After(then.Add(-time.Second)) {
			t.Fatalf("limit %d renews at %v already: %+v", r.Binding, end, r)
		}
	})
}
