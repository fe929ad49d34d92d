package config

import (
	"reflect"
	"strconv"
	"testing"
	"time"

	"metergate/quota"
)

// A tag holds its bound as text, so a test compares it with the bound of a plan.
func TestAttemptsBoundIsThatOfPlans(t *testing.T) {
	f, _ := reflect.TypeFor[Attempts]().FieldByName("Requests")
	if got, want := f.Tag.Get("max"), strconv.Itoa(quota.MaxAttempts); got != want {
		t.Errorf("max is %s, a plan allows %s", got, want)
	}
}

func TestAttemptsInterval(t *testing.T) {
	for per, want := range map[string]time.Duration{"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": 24 * time.Hour} {
		if got := (Attempts{Per: per}).Interval(); got != want {
			t.Errorf("per %s: %v, want %v", per, got, want)
		}
	}
}
