package listeners

import (
	"encoding/json"
	"errors"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// Clients reset their requests at once, in a loop (CVE-2023-44487), or make the gateway
// reset them (CVE-2025-8671). In the end nothing is held, no more is counted than the
// upstream has sent, and other users were served meanwhile.
func TestRapidResetsHoldNothing(t *testing.T) {
	byClient := func(c *gatewaytest.HTTP2Conn, stream uint32) error {
		return c.WriteRSTStream(stream, http2.ErrCodeCancel)
	}
	byGateway := func(c *gatewaytest.HTTP2Conn, stream uint32) error { // for a window that overflows
		err := c.WriteWindowUpdate(stream, 1<<31-1)
		return errors.Join(err, c.WriteWindowUpdate(stream, 1<<31-1))
	}
	redis := func(t *testing.T) string { return redistest.Start(t).URL() }
	embedded := func(*testing.T) string { return "embedded:data" }
	for name, c := range map[string]struct {
		reset func(c *gatewaytest.HTTP2Conn, stream uint32) error
		store func(*testing.T) string
		hang  bool // the upstream answers nothing
	}{
		"by the client, embedded, no answers": {byClient, embedded, true},
		"by the client, Redis":                {byClient, redis, false},
		"by the gateway, embedded":            {byGateway, embedded, false},
		"by the gateway, Redis, no answers":   {byGateway, redis, true},
	} {
		t.Run(name, func(t *testing.T) { testRapidReset(t, c.store(t), c.hang, c.reset) })
	}
}

func testRapidReset(t *testing.T, store string, hang bool, reset func(c *gatewaytest.HTTP2Conn, stream uint32) error) {
	const requests = 10_000
	a := startAttacked(t, store, hang)
	before := gatewaytest.PeakMemory(t, a.Process)
	stop := a.bystander()
	token, connections, running := testkit.Token("attacker", "enterprise"), 0, 0
	for left := requests; left > 0; connections++ {
		c, err := gatewaytest.DialHTTP2(a.Addr)
		if err != nil {
			t.Fatal(err)
		}
		// Once the gateway answers a ping, it has read everything before it. If it sends
		// GOAWAY, the client connects again.
		for answered := true; answered && left > 0; {
			for range min(left, 500) {
				stream, err := c.SendRequest("POST", "/api/analyze", token, true)
				if err == nil {
					err = reset(c, stream)
				}
				if err != nil {
					break
				}
				left--
			}
			answered = c.Ping()
			running = max(running, gatewaytest.RequestsInFlight(t, a.Process))
		}
		c.Conn.Close()
	}
	calls := stop()
	a.comesToRest(t)
	var u quota.Usage
	client := gatewaytest.TrustingClient(t, a.Pair, true)
	testkit.EventuallyWithin(t, time.Minute, "nothing is held", func() bool { // long before a lease ends
		u = quota.Usage{InFlight: -1}
		_, body := gatewaytest.Ask(t, client, "GET", a.URL+"/usage", token, nil)
		json.Unmarshal([]byte(body), &u)
		return u.InFlight == 0
	})
	_, metrics := gatewaytest.Get(a.Admin+"/metrics", "")
	reserves := regexp.MustCompile(`metergate_store_duration_seconds_count{operation="reserve"} (\d+)`).FindStringSubmatch(metrics)
	grown := gatewaytest.PeakMemory(t, a.Process) - before
	t.Logf("%d connections, %d running at most, %s reserves, %d sent, %d counted, %d calls of a bystander, %d KiB more memory",
		connections, running, reserves[1], a.sent.Load(), u.Used, calls, grown>>10)
	if running > connections*250+1 { // the bystander's
		t.Errorf("%d requests were running, on %d connections", running, connections)
	}
	if u.Used > a.sent.Load() {
		t.Errorf("%d are counted, the upstream sent only %d", u.Used, a.sent.Load())
	}
	if calls == 0 {
		t.Error("no other user was served")
	}
	if grown > (48+16*connections)<<20 {
		t.Errorf("it took %d MiB of memory", grown>>20)
	}
	if !strings.Contains(metrics, "\nmetergate_unsettled_total 0\n") {
		t.Error("a request was not settled")
	}
}
