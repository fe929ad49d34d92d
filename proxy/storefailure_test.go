package proxy_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy"
	"metergate/quota"
	"metergate/quota/guard"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// openGuarded opens a store in Redis that journals, and admits in an outage if allow says so.
func openGuarded(t *testing.T, redis *redistest.Server, allow bool) proxy.Store {
	t.Helper()
	remote, err := redisstore.Open(redisstore.Options{URL: redis.URL(), Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { remote.Close() })
	journal, err := guard.OpenJournal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	s, err := guard.New(guard.Options{Backend: remote, Journal: journal, AllowOnFailure: allow, Timeout: 20 * time.Second,
		Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStoreDownFollowsOnFailure(t *testing.T) {
	redis := redistest.Start(t)
	open := func(allow bool) proxy.Store { return openGuarded(t, redis, allow) }
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

// A request that passes without the store is unchecked, also above a limit that is only observed. The
// log, the metric and the client are told both.
func TestOutageAboveSoftLimitIsUnchecked(t *testing.T) {
	redis := redistest.Start(t)
	var log logged
	registry := prometheus.NewRegistry()
	g := newTestGateway(t, setup{store: openGuarded(t, redis, true), change: func(o *proxy.Options) {
		log.to(slog.LevelInfo)(o)
		o.Metrics, o.QuietSuccesses = proxy.NewMetrics(registry), 1
		o.Plans["soft"] = newPlan("soft", quota.Limit{Amount: 1, Period: quota.Month, Soft: true})
	}})
	for i := range 3 {
		if i == 2 {
			redis.Stop()
		}
		res := g.do(token("u", "soft"), "POST", "/api/analyze", nil)
		if got, want := res.Header.Get("X-Usage-Would-Block"), []string{"", `"month-soft"`, `"month-soft"`}[i]; res.StatusCode != 200 || got != want {
			t.Errorf("request %d: %s, X-Usage-Would-Block %q, want %q", i, res.Status, got, want)
		}
	}
	g.gateway.Close() // all lines are written
	var told []string
	for _, line := range log.requests(t) {
		told = append(told, fmt.Sprint(line["decision"], " ", line["would_block"]))
	}
	if want := []string{"observed month-soft", "unchecked month-soft"}; !slices.Equal(told, want) {
		t.Errorf("the log says %q, want %q", told, want)
	}
	values := series(t, registry)
	for _, outcome := range []string{"admitted", "observed", "unchecked"} {
		if n := values[`metergate_decisions_total{outcome="`+outcome+`",plan="soft"}`]; n != 1 {
			t.Errorf("%v decisions are %s, want 1", n, outcome)
		}
	}
}

// A failingStore is a Store whose commits neither the store nor the journal takes.
type failingStore struct{ proxy.Store }

func (failingStore) Commit(context.Context, *quota.Reservation) (*quota.Snapshot, error) {
	return nil, errors.New("no space left on device")
}

// A lockedBuffer has what was logged.
type lockedBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

// TestUnsettledRequestsAreLoggedOnceASecond: a full disk is not filled with lines that say so.
func TestUnsettledRequestsAreLoggedOnceASecond(t *testing.T) {
	var log lockedBuffer
	r := newTestGateway(t, setup{change: func(o *proxy.Options) {
		o.Store, o.Log = failingStore{o.Store}, slog.New(slog.NewJSONHandler(&log, nil))
	}})
	start := time.Now()
	for range 50 {
		if res := r.do(token("u", ""), "POST", "/api/analyze", nil); res.StatusCode != 200 {
			t.Fatalf("status %d", res.StatusCode)
		}
	}
	n := strings.Count(log.String(), `"level":"ERROR"`)
	if most := 2 + int(time.Since(start)/time.Second); n < 1 || n > most {
		t.Errorf("%d errors were logged of 50 requests, want 1 to %d", n, most)
	}
	testkit.Eventually(t, "the others are counted", func() bool { return strings.Contains(log.String(), `"count":`) })
}
