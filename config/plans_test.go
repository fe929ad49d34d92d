package config

import (
	"testing"
	"time"
)

func TestAttemptsInterval(t *testing.T) {
	for per, want := range map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour} {
		if got := (Attempts{Per: per}).Interval(); got != want {
			t.Errorf("per %s: %v, want %v", per, got, want)
		}
	}
}
