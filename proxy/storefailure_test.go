package proxy_test

import (
	"strings"
	"testing"
	"time"

	"metergate/proxy"
	"metergate/quota"
	"metergate/quota/guard"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

func TestStoreDownFollowsOnFailure(t *testing.T) {
	redis := redistest.Start(t)
	open := func(allow bool) proxy.Store {
		remote, err := redisstore.Open(redisstore.Options{URL: redis.URL()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { remote.Close() })
		journal, err := guard.OpenJournal(t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		s, err := guard.New(guard.Options{Backend: remote, Journal: journal, AllowOnFailure: allow, Timeout: 250 * time.Millisecond,
			Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	deny, allow := newTestGateway(t, setup{store: open(false)}), newTestGateway(t, setup{store: open(true)})
	if res := deny.do(token("u", ""), "POST", "/api/analyze", nil); res.Header.Get("X-Usage") != "1/100" {
		t.Errorf("before: %s, %v", res.Status, res.Header)
	}
	redis.Stop()
	res := deny.do(token("u", ""), "POST", "/api/analyze", nil)
	if res.StatusCode != 503 || !strings.Contains(res.body, "#temporary-reduced-capacity") || len(deny.requests()) != 1 {
		t.Errorf("deny: %s: %s", res.Status, res.body)
	}
	if u := deny.usage("u", ""); !u.Stale || u.Used != 1 {
		t.Errorf("usage: %d used, stale %v; want the last known 1, and that it is stale", u.Used, u.Stale)
	}
	if res := deny.do(token("v", ""), "GET", "/usage", nil); res.StatusCode != 503 {
		t.Errorf("usage of an unknown user: %s: %s", res.Status, res.body)
	}
	if res := allow.do(token("u", ""), "POST", "/api/analyze", nil); res.StatusCode != 200 || len(allow.requests()) != 1 {
		t.Errorf("allow: %s: %s", res.Status, res.body)
	}
	if res := deny.do(token("u", ""), "GET", "/api/status", nil); res.StatusCode != 200 {
		t.Errorf("a route that is not metered: %s", res.Status)
	}
	redis.Start()
	testkit.Eventually(t, "the gateway serves again", func() bool {
		return deny.do(token("u", ""), "POST", "/api/analyze", nil).StatusCode == 200
	})
}
