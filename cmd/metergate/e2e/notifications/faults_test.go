package notifications

import (
	"net/http"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// Events survive the gateway, also one that is killed, while the receiver is down.
func TestEventsSurviveTheGateway(t *testing.T) {
	onEachStore(t, func(t *testing.T, r *receiver, gateways ...*gatewaytest.Reloadable) {
		r.fails.Store(true)
		call(t, 80, "/api/analyze", testkit.Token("u-1", "free"), gateways...)
		testkit.Eventually(t, "it was tried", func() bool { return r.requests() > 0 })
		for i, g := range gateways {
			g.Kill()
			g.Wait()
			gateways[i] = &gatewaytest.Reloadable{Process: g.Restart(), File: g.File}
		}
		call(t, 100, "/api/analyze", testkit.Token("u-2", "free"), gateways...)
		testkit.Eventually(t, "both users wait", func() bool { return waiting(gateways[0]) == "2" })
		r.fails.Store(false)
		r.mustGet(t, "u-1: month at 80%, 80 of 100 requests", "u-2: month at 80%, 80 of 100 requests", "u-2: month at 100%, 100 of 100 requests")
		mustBeSettled(t, gateways[0])
		for _, g := range gateways {
			if line := lineWith(g.Output(), "a notification was not delivered"); strings.Contains(line, "u-") {
				t.Error("the log names a user:", line)
			}
		}
	})
}

// lineWith returns the first line of a text that has a part.
func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return line
		}
	}
	return ""
}

// A reload changes the secret, the URL and the thresholds, and turns notifications off and on.
func TestReloadChangesNotifications(t *testing.T) {
	t.Parallel()
	first, second := startReceiver(t), startReceiver(t)
	g := start(t, "embedded:"+t.TempDir(), configuration(notifyAt(first.URL, secret, "[80, 100]")))
	reload := func(notify string) {
		t.Helper()
		g.Save(configuration(notify))
		if status, body := g.Reload(gatewaytest.AdminToken); status != 200 {
			t.Fatal(status, body)
		}
	}
	token := testkit.Token("u-1", "free")
	call(t, 80, "/api/analyze", token, g)
	const at80, at90, at100 = "u-1: month at 80%, 80 of 100 requests", "u-1: month at 90%, 90 of 100 requests", "u-1: month at 100%, 100 of 100 requests"
	first.mustGet(t, at80)

	reload(notifyAt(first.URL, newSecret+" "+secret, "[80, 90, 100]")) // the receiver knows the old one
	call(t, 10, "/api/analyze", token, g)
	first.mustGet(t, at80, at90)
	first.setSecret(newSecret)
	reload(notifyAt(second.URL, secret, "[100]"))
	call(t, 10, "/api/analyze", token, g)
	second.mustGet(t, at100)

	if config := gatewaytest.Administer(t, g.Process, "GET", "/admin/config", ""); !strings.Contains(config, second.URL) || strings.Contains(config, "whsec_") {
		t.Errorf("/admin/config shows %s", config)
	}
	reload("")
	if shown := gatewaytest.Metric(g.Process, "metergate_notifications_waiting"); shown != "" {
		t.Errorf("metergate_notifications_waiting is %s", shown)
	}
	call(t, 100, "/api/analyze", testkit.Token("u-2", "free"), g)
	reload(notifyAt(second.URL, secret, "[80]"))
	call(t, 80, "/api/analyze", testkit.Token("u-3", "free"), g)
	second.mustGet(t, at100, "u-3: month at 80%, 80 of 100 requests")
}

// A receiver that is dead costs users nothing, and what waits can be seen.
func TestDeadReceiverCostsUsersNothing(t *testing.T) {
	t.Parallel()
	r := startReceiver(t)
	r.fails.Store(true)
	g := start(t, "embedded:"+t.TempDir(), configuration(notifyAt(r.URL, secret, "[1]")))
	for i := range 100 {
		call(t, 1, "/api/analyze", testkit.Token("u-"+string(rune('a'+i%26))+string(rune('a'+i/26)), "free"), g)
	}
	testkit.Eventually(t, "all wait", func() bool { return waiting(g) == "100" })
	g.WaitForText("the receiver of notifications does not accept them; they wait in the store")
	if n := r.requests(); n > 30 {
		t.Errorf("%d requests to a dead receiver", n)
	}
	if age := gatewaytest.Metric(g.Process, "metergate_notifications_oldest_seconds"); age == "" || age == "0" {
		t.Errorf("metergate_notifications_oldest_seconds is %q", age)
	}
	if status := gatewaytest.Post(http.DefaultClient, g.URL+"/api/analyze", testkit.Token("u-x", "free")); status != 200 {
		t.Errorf("status %d", status)
	}
}

// Counts that wait in the journal while Redis does not answer reach thresholds when they are replayed.
func TestCountsFromTheJournalAreNotified(t *testing.T) {
	t.Parallel()
	r, redis := startReceiver(t), redistest.Start(t)
	g := start(t, redis.URL(), configuration(notifyAt(r.URL, secret, "[80, 100]")), "STORE_TIMEOUT=1s", "ON_FAILURE=allow")
	call(t, 79, "/api/analyze", testkit.Token("u-1", "free"), g)
	redis.Pause()
	call(t, 1, "/api/analyze", testkit.Token("u-1", "free"), g)
	redis.Resume()
	r.mustGet(t, "u-1: month at 80%, 80 of 100 requests")
	mustBeSettled(t, g)
}
