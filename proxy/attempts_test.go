package proxy_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"metergate/proxy"
	"metergate/quota"
)

const abnormal = "https://iana.org/assignments/http-problem-types#abnormal-usage-detected"

// triesPlan allows three attempts an hour: one comes back every 20 minutes.
func triesPlan(limits ...quota.Limit) *quota.Plan {
	p, err := quota.NewPlan(quota.PlanOptions{Name: "tries", Endpoints: endpoints, WarnAt: 80, Limits: limits,
		Attempts: quota.AttemptLimit{Requests: 3, Per: time.Hour}})
	if err != nil {
		panic(err)
	}
	return p
}

// TestAttemptsAreLimited: requests that fail are not counted, but a user cannot make them
// without limit.
func TestAttemptsAreLimited(t *testing.T) {
	registry := prometheus.NewRegistry()
	var log strings.Builder
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) },
		change: func(o *proxy.Options) {
			o.Plans["tries"] = triesPlan(quota.Limit{Amount: 100, Period: quota.Month})
			o.Metrics = proxy.NewMetrics(registry)
			o.Log = slog.New(slog.NewJSONHandler(&log, nil))
		},
	})
	tok := token("u", "tries")
	for range 3 {
		if res := r.do(tok, "POST", "/api/analyze", nil); res.StatusCode != 500 {
			t.Fatalf("%s: %s", res.Status, res.body)
		}
	}
	for range 2 {
		res := r.do(tok, "POST", "/api/analyze", strings.NewReader("text"))
		var p map[string]json.RawMessage
		if err := json.Unmarshal([]byte(res.body), &p); err != nil || res.StatusCode != 429 || res.Header.Get("Content-Type") != "application/problem+json" {
			t.Fatalf("%s, %s: %s", res.Status, res.Header.Get("Content-Type"), res.body)
		}
		for name, want := range map[string]string{"type": `"` + abnormal + `"`, "status": "429", "endpoint": `"analyze"`,
			// No limit is reached, so an upgrade would not help.
			"violated-policies": "", "upgrade_url": ""} {
			if got := string(p[name]); got != want {
				t.Errorf("%s is %s, want %s", name, got, want)
			}
		}
		var u quota.Usage
		if err := json.Unmarshal(p["usage"], &u); err != nil || u.User != "u" || u.Used != 0 || u.InFlight != 0 || !u.Allowed {
			t.Errorf("usage: %s, error %v", p["usage"], err)
		}
		var detail string
		if json.Unmarshal(p["detail"], &detail); !strings.Contains(detail, "3 times per hour") || !strings.Contains(detail, "tries") {
			t.Errorf("detail: %q", detail)
		}
		// The machine may have been busy, but not for a whole minute.
		if s, _ := strconv.Atoi(res.Header.Get("Retry-After")); s > 20*60 || s < 19*60 {
			t.Errorf("Retry-After is %q, want a little less than 20 minutes", res.Header.Get("Retry-After"))
		}
		if res.Header.Get("X-Usage") != "0/100" || res.Header.Get("X-RateLimit-Remaining") != "100" || !strings.HasPrefix(res.Header.Get("RateLimit"), `"month";r=100;`) {
			t.Errorf("headers: %v", res.Header)
		}
	}
	if n := len(r.requests()); n != 3 {
		t.Errorf("%d requests reached the upstream, want 3", n)
	}
	r.want("u", "tries", 0)
	// Other users are not affected, nor are requests for which the store is not called.
	if res := r.do(token("v", "tries"), "POST", "/api/analyze", nil); res.StatusCode != 500 {
		t.Errorf("another user: %s", res.Status)
	}
	for range 5 {
		if res := r.do(tok, "GET", "/api/status", nil); res.StatusCode != 500 {
			t.Errorf("a route that is not metered: %s", res.Status)
		}
	}

	r.gateway.Close() // all lines are written
	if n := strings.Count(log.String(), `"decision":"throttled"`); n != 2 {
		t.Errorf("the log has %d throttled decisions, want 2:\n%s", n, &log)
	}
	metrics := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
	if want := `metergate_decisions_total{outcome="throttled",plan="tries"} 2`; !strings.Contains(metrics.Body.String(), want) {
		t.Errorf("no %s in\n%s", want, metrics.Body)
	}
}

// refusing is a Store that refuses every attempt.
type refusing struct {
	proxy.Store
	wait time.Duration
}

func (s refusing) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	snapshot, err := s.Read(ctx, r.User, r.Plans)
	return &quota.Decision{Reservation: quota.Reservation{Request: r}, AttemptWait: s.wait, Snapshot: snapshot}, err
}

// TestRetryAfterOfAttemptsRoundsUp: Retry-After is in whole seconds, and a client that
// waits for it is not too early.
func TestRetryAfterOfAttemptsRoundsUp(t *testing.T) {
	for wait, want := range map[time.Duration]string{time.Microsecond: "1", time.Second: "1", time.Second + time.Microsecond: "2", 24 * time.Hour: "86400"} {
		r := newTestGateway(t, setup{change: func(o *proxy.Options) {
			o.Store = refusing{o.Store, wait}
			o.Plans["tries"] = triesPlan()
		}})
		res := r.do(token("u", "tries"), "POST", "/api/analyze", nil)
		if res.StatusCode != 429 || res.Header.Get("Retry-After") != want || res.Header.Get("X-Usage") != "0/unlimited" || len(r.requests()) != 0 {
			t.Errorf("wait %v: %s, Retry-After %q, X-Usage %q", wait, res.Status, res.Header.Get("Retry-After"), res.Header.Get("X-Usage"))
		}
	}
}
