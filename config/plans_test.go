package config

import (
	"fmt"
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

// A limit on units has usage reported in units, also if only the members of organisations share it.
func TestCostsAreKnownOnceUnitsAreLimited(t *testing.T) {
	for plan, reported := range map[string]bool{
		"limits: [{ requests: 1, per: month }]":                                        false,
		"limits: [{ requests: 1, per: month }], shared: [{ requests: 1, per: month }]": false,
		"limits: [{ units: 1, per: month }]":                                           true,
		"limits: [{ requests: 1, per: month }], shared: [{ units: 1, per: month }]":    true,
	} {
		cfg, err := Parse("gateway.yaml", fmt.Appendf(nil, `
auth: { jwt: { secret: 0123456789abcdef0123456789abcdef, claims: { org: org } } }
default_plan: team
plans: { team: { %s } }
upstreams: { api: { targets: [{ url: "http://127.0.0.1:9000" }] } }
routes: [{ match: "POST /analyze", endpoint: analyze, upstream: api }]
`, plan), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Fatal(err)
		}
		if costs := cfg.Costs(); (costs != nil) != reported {
			t.Errorf("%s: costs %v", plan, costs)
		}
	}
}
