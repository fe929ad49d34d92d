package quota_test

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"metergate/quota"
)

var ever = quota.Counter{Period: quota.Ever}

// All time is one window, the same in all time zones, whose counts are never deleted.
func TestEverIsOneWindow(t *testing.T) {
	locs := zones(t)
	for _, loc := range locs {
		c := quota.NewCalendar(loc)
		for _, at := range []string{"1970-01-01T00:00:00Z", "2026-11-24T12:00:00Z", "2026-11-24T12:00:01Z", "9999-12-31T23:59:58Z"} {
			w := c.WindowAt(quota.Ever, instant(t, at))
			if w.Period != quota.Ever || w.ID != "ever" || !w.Start.Equal(time.Unix(0, 0)) || !w.End.Equal(instant(t, "9999-12-31T23:59:59Z")) || w.Renews() {
				t.Fatalf("in %v, %s is in %+v", loc, at, w)
			}
		}
		w, err := c.WindowByID("ever")
		if err != nil || w.ID != "ever" || w.Period != quota.Ever {
			t.Errorf("in %v, ever is found as %+v, error %v", loc, w, err)
		}
		if got := w.RetainedUntil(24 * time.Hour); got.Before(instant(t, "9999-01-01T00:00:00Z")) {
			t.Errorf("it is kept until %v", got)
		}
	}
	for _, id := range []string{"Ever", "ever ", "ever-", "forever"} {
		if w, err := quota.NewCalendar(nil).WindowByID(id); err == nil {
			t.Errorf("%q is found as %+v", id, w)
		}
	}
}

// What never renews has no times in the usage object.
func TestUsageOfEver(t *testing.T) {
	p := newPlan(t, limit(ever, 1000), limit(minute, 5))
	s := snapshot(p, instant(t, "2026-11-23T12:00:00Z"), tallies{ever: {42, 1}, minute: {1, 0}})
	got := object(t, s.Usage("u-17"))
	if diff := cmp.Diff(any(map[string]any{"per": "ever", "start": nil, "end": nil}), got["period"]); diff != "" {
		t.Errorf("period (-want +got):\n%s", diff)
	}
	want := []any{
		map[string]any{"name": "ever", "per": "ever", "used": 42.0, "limit": 1000.0, "remaining": 958.0, "resets_at": nil},
		map[string]any{"name": "minute", "per": "minute", "used": 1.0, "limit": 5.0, "remaining": 4.0, "resets_at": "2026-11-23T12:01:00Z"},
	}
	if diff := cmp.Diff(any(want), got["limits"]); diff != "" {
		t.Errorf("limits (-want +got):\n%s", diff)
	}
	u := s.Usage("u-17")
	text, err := json.Marshal(u)
	var back quota.Usage
	if err == nil {
		err = json.Unmarshal(text, &back)
	}
	if diff := cmp.Diff(u, back); err != nil || diff != "" {
		t.Errorf("read back (-sent +got), error %v:\n%s", err, diff)
	}
}

// Waiting for what never renews does not help, whatever else is used up. It does if requests in
// flight hold the rest.
func TestRefusalByEver(t *testing.T) {
	p := newPlan(t, limit(month, 100), limit(ever, 1000), limit(minute, 5))
	for _, tt := range []struct {
		tallies    tallies
		violated   []int
		binding    int
		retryAfter int64
		onlyHeld   bool
	}{
		{tallies{ever: {1000, 0}}, []int{1}, 1, 0, false},
		{tallies{ever: {1001, 3}, month: {100, 0}, minute: {5, 0}}, []int{0, 1, 2}, 1, 0, false},
		{tallies{ever: {999, 1}}, []int{1}, 1, 1, true},
		{tallies{ever: {999, 1}, minute: {5, 0}}, []int{1, 2}, 2, 31, false},
	} {
		r := snapshot(p, instant(t, "2026-11-23T12:00:29.4Z"), tt.tallies).Refusal("report", 1)
		if !slices.Equal(r.Violated, tt.violated) || r.Binding != tt.binding || r.RetryAfter != tt.retryAfter || r.OnlyHeld != tt.onlyHeld {
			t.Errorf("%v: got %+v, want violated %v, binding %d, retry after %d", tt.tallies, r, tt.violated, tt.binding, tt.retryAfter)
		}
	}
}

// Nothing is carried from all time into anything.
func TestEverCannotCarry(t *testing.T) {
	l := limit(ever, 5)
	l.Carry = 1
	if _, err := quota.NewPlan(quota.PlanOptions{Name: "p", Limits: []quota.Limit{l}, WarnAt: 80}); err == nil {
		t.Error("a limit per ever that carries is accepted")
	}
}
