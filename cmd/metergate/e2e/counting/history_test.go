package counting

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A daysUsed is what GET /usage/history says.
type daysUsed struct {
	Days []struct {
		Date      string
		Used      int64
		Endpoints map[string]struct{ Used, Units int64 }
	}
	Stale bool
}

// daysOf reads what a user has used on the last days. It returns false if that is not known now.
func daysOf(g *gatewaytest.Process, token string) (d daysUsed, ok bool) {
	status, body := gatewaytest.Get(g.URL+"/usage/history?days=7", token)
	return d, status == 200 && json.Unmarshal([]byte(body), &d) == nil
}

// sum is what was used on all days: requests, and what they cost.
func (d *daysUsed) sum() (requests, units int64) {
	for _, day := range d.Days {
		for _, endpoint := range day.Endpoints {
			requests += endpoint.Used
			units += endpoint.Units
		}
	}
	return requests, units
}

// wantDays checks that a user's days are what is counted in the user's windows.
func wantDays(t *testing.T, g *gatewaytest.Process, u *gatewaytest.Account, counted, charged int64) {
	t.Helper()
	var d daysUsed
	testkit.EventuallyWithin(t, time.Minute, "the days are read", func() (ok bool) { // the store has little time
		d, ok = daysOf(g, testkit.Token(u.User, u.Plan))
		return ok && !d.Stale
	})
	if requests, units := d.sum(); requests != counted || units != charged {
		t.Errorf("user %s: the days have %d requests and %d units, the windows %d and %d", u.User, requests, units, counted, charged)
	}
}

// noonZone is a time zone in which it is about noon now, so that no test runs over midnight.
func noonZone() string {
	switch ahead := 12 - time.Now().UTC().Hour(); {
	case ahead > 0:
		return fmt.Sprintf("Etc/GMT-%d", ahead) // it is ahead of UTC
	case ahead < 0:
		return fmt.Sprintf("Etc/GMT+%d", -ahead)
	}
	return "UTC"
}

// Two gateways share a Redis. What clients were told is in the history through an outage, a kill, a reset
// and an import.
func TestHistoryOfTwoGateways(t *testing.T) {
	t.Parallel()
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	env := []string{"ON_FAILURE=allow", "ZONE=" + noonZone(), gatewaytest.Patient}
	a := gatewaytest.StartWithHistory(t, redis.URL(), upstream.URL, env...)
	b := gatewaytest.StartWithHistory(t, redis.URL(), upstream.URL, env...)
	client := gatewaytest.NewClient(t)
	token := testkit.Token("u", "free")
	use := func(g *gatewaytest.Process, user string, n int) {
		t.Helper()
		for range n {
			if status := gatewaytest.Post(client, g.URL+"/api/analyze", testkit.Token(user, "free")); status != 200 {
				t.Fatalf("status %d", status)
			}
		}
	}
	today := func(g *gatewaytest.Process, want int64, stale bool) {
		t.Helper()
		d, ok := daysOf(g, token)
		requests, _ := d.sum()
		if !ok || requests != want || d.Stale != stale || len(d.Days) != 7 || d.Days[6].Used != want {
			t.Errorf("read %v: %+v; want %d used today, stale %v", ok, d, want, stale)
		}
	}
	fresh := func(g *gatewaytest.Process) {
		t.Helper()
		testkit.EventuallyWithin(t, time.Minute, "the store answers", func() bool {
			d, ok := daysOf(g, token)
			return ok && !d.Stale && gatewaytest.Metric(g, "metergate_journal_backlog") == "0"
		})
	}
	use(a, "u", 3)
	use(b, "u", 2)
	today(a, 5, false)
	today(b, 5, false)

	redis.Kill()
	use(a, "u", 4)
	use(b, "u", 1)
	today(a, 9, true)
	today(b, 6, true)
	use(a, "new", 1)
	if status, body := gatewaytest.Get(a.URL+"/usage/history", testkit.Token("new", "free")); status != 503 {
		t.Errorf("a user of whom no day is known: %d %s", status, body)
	}
	a.Kill() // the next one counts what is in its journal
	redis.Start()
	a = a.Restart()
	fresh(a)
	fresh(b)
	today(a, 10, false)
	today(b, 10, false)

	gatewaytest.Administer(t, a, "POST", "/admin/users/u/reset", "")
	today(b, 0, false)
	use(b, "u", 1)
	counts := filepath.Join(t.TempDir(), "counts.csv")
	testkit.WriteFile(t, counts, "user,endpoint,used\nu,image-analysis,7\n")
	if code, output := gatewaytest.Run(t, []string{"METERGATE_ADMIN_TOKEN=" + gatewaytest.AdminToken}, "import", "-admin", b.Admin, "-per", "day", counts); code != 0 {
		t.Fatalf("import ended with %d: %s", code, output)
	}
	use(a, "u", 1)
	today(a, 9, false)
	today(b, 9, false)
	b.Kill()
	b = b.Restart()
	today(b, 9, false)
}
