package notifications

import (
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// The test event ends with the month of the configuration's zone, as that of a limit per month does.
func TestTestEventIsThatOfTheRunningMonth(t *testing.T) {
	t.Parallel()
	const zone = "Pacific/Kiritimati" // 14 hours before UTC
	r := startReceiver(t)
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	endOfMonth := func() string {
		now := time.Now().In(location)
		return time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, location).UTC().Format(time.RFC3339)
	}
	file := t.TempDir() + "/gateway.yaml"
	testkit.WriteFile(t, file, "timezone: "+zone+"\n"+notifyAt(r.URL, secret, "[80]"))
	before := endOfMonth()
	if code, text := gatewaytest.Run(t, nil, "notify", "-test", "-config", file); code != 0 {
		t.Fatalf("exit status %d: %s", code, text)
	}
	r.mustGet(t, "test: month at 80%, 80 of 100 requests")
	if end := r.events[0].Data.ResetsAt; end == nil {
		t.Error("it never resets")
	} else if *end != before && *end != endOfMonth() {
		t.Errorf("it resets at %s, want %s", *end, before)
	}
}

// A secret that the receiver does not know is told from other failures, and comes with its cure.
func TestTestEventWithAWrongSecretNamesTheCure(t *testing.T) {
	t.Parallel()
	r := startReceiver(t)
	file := t.TempDir() + "/gateway.yaml"
	for name, c := range map[string]struct {
		yaml string
		code int
		says string
	}{
		"wrong secret": {notifyAt(r.URL, newSecret, "[80]"), 1, "; check that the receiver has the same secret as notify.secret"},
		"no receiver":  {notifyAt("http://127.0.0.1:1", secret, "[80]"), 1, "connection refused"},
		"no notify":    {"timezone: UTC\n", 2, "has no notify"},
	} {
		testkit.WriteFile(t, file, c.yaml)
		code, text := gatewaytest.Run(t, nil, "notify", "-test", "-config", file)
		if code != c.code || !strings.Contains(text, c.says) {
			t.Errorf("%s: exit status %d, %s", name, code, text)
		}
	}
}
