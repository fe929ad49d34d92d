package notify

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

// docs/notifications.md promises the first retry within 1 to 5 seconds, and one every 15 minutes at least.
func TestDelaysGrow(t *testing.T) {
	for _, c := range []struct {
		failures int
		age      time.Duration
		low      time.Duration // with chance 0
		high     time.Duration // with chance 1
	}{
		{1, 0, time.Second, 5 * time.Second},
		{1, 20 * time.Hour, time.Second, 5 * time.Second},
		{2, 0, 2 * time.Second, 10 * time.Second},
		{5, 0, 16 * time.Second, 80 * time.Second},
		{8, 0, 128 * time.Second, 640 * time.Second},
		{12, 0, 15 * time.Minute, 12 * time.Minute},
		{100_000, 0, 15 * time.Minute, 12 * time.Minute},
		{0, 0, time.Second, 5 * time.Second}, // not known
		{0, 4 * time.Minute, 3 * time.Minute, 5 * time.Minute},
		{0, 20 * time.Hour, 15 * time.Minute, 12 * time.Minute},
	} {
		if low, high := delayAfter(c.failures, c.age, 0), delayAfter(c.failures, c.age, 1); low != c.low || high != c.high {
			t.Errorf("after %d failures, %v old: %v to %v, want %v to %v", c.failures, c.age, low, high, c.low, c.high)
		}
	}
}

func TestFailureCountsAreBounded(t *testing.T) {
	f := failureCounts{}
	for i := range 2 * maxCounted {
		f.add(fmt.Sprint(i))
	}
	if n := f.add("1"); len(f) != maxCounted || n != 2 || f.add("another") != 0 {
		t.Errorf("%d accounts, %d failures", len(f), n)
	}
}

func TestRetryAfterIsRead(t *testing.T) {
	now := time.Date(2026, 11, 30, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Duration{
		"": 0, "0": 0, "7": 7 * time.Second, "900": 15 * time.Minute, "86400": 15 * time.Minute, "-1": 0, "soon": 0, "99999999999999999999": 0,
		now.Add(30 * time.Second).Format(http.TimeFormat): 30 * time.Second,
		now.Add(-time.Hour).Format(http.TimeFormat):       0,
		now.Add(time.Hour).Format(http.TimeFormat):        15 * time.Minute,
	} {
		if got := parseRetryAfter(text, now); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}
