package proxy_test

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"metergate/proxy"
	"metergate/quota"
)

const wouldBlock = "X-Usage-Would-Block"

// observingPlan returns a plan that blocks nothing.
func observingPlan(attempts quota.AttemptLimit, limits ...quota.Limit) *quota.Plan {
	p, err := quota.NewPlan(quota.PlanOptions{Name: "watched", Endpoints: endpoints, WarnAt: 80, Limits: limits, Attempts: attempts, Observe: true})
	if err != nil {
		panic(err)
	}
	return p
}

// TestObservingPlanAdmitsAndReports: what a plan that observes would refuse is forwarded
// and counted. The client, the log and the metric are told, whatever the response is.
func TestObservingPlanAdmitsAndReports(t *testing.T) {
	registry := prometheus.NewRegistry()
	var log strings.Builder
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			switch r.URL.RawQuery {
			case "500":
				w.WriteHeader(500)
			case "none":
				panic(http.ErrAbortHandler)
			}
		},
		change: func(o *proxy.Options) {
			o.Plans["watched"] = observingPlan(quota.AttemptLimit{Requests: 5, Per: 24 * time.Hour},
				quota.Limit{Amount: 2, Period: quota.Month}, quota.Limit{Amount: 1, Period: quota.Year}, quota.Limit{Period: quota.Day, Endpoint: "image-analysis"})
			o.Metrics = proxy.NewMetrics(registry)
			o.Log = slog.New(slog.NewJSONHandler(&log, nil))
			o.QuietSuccesses = 1
			o.CORS = &proxy.CORS{AllowedOrigins: []string{"https://app.example.com"}}
		},
	})
	for _, c := range []struct {
		path   string
		status int
		want   string // the field; empty: it is absent
		usage  string
	}{
		{"/api/analyze", 200, "", "1/2"},
		{"/api/analyze", 200, `"year"`, "2/2"},
		{"/api/analyze?500", 500, `"month", "year"`, "2/2"},
		{"/api/analyze?none", 502, `"month", "year"`, "2/2"},
		{"/api/image-analysis", 200, `"month", "year", "image-analysis-day"`, "3/2"},
		{"/api/analyze", 200, `"month", "year", "attempts"`, "4/2"},
		{"/api/status", 200, "", ""},
	} {
		method := "POST"
		if c.path == "/api/status" {
			method = "GET"
		}
		res := r.do(token("u", "watched"), method, c.path, nil, "Origin: https://app.example.com")
		values := res.Header.Values(wouldBlock)
		if res.StatusCode != c.status || strings.Join(values, "; ") != c.want || len(values) > 1 || res.Header.Get("X-Usage") != c.usage {
			t.Errorf("%s: %s, %s: %q, X-Usage %q; want %d, %q, %q", c.path, res.Status, wouldBlock, values, res.Header.Get("X-Usage"), c.status, c.want, c.usage)
		}
		if exposed := res.Header.Get("Access-Control-Expose-Headers"); !strings.Contains(exposed, wouldBlock) {
			t.Errorf("exposed to scripts: %s", exposed)
		}
	}
	if n := len(r.requests()); n != 7 {
		t.Errorf("%d requests reached the upstream, want 7", n)
	}
	if u := r.usage("u", "watched"); u.Used != 4 || u.InFlight != 0 || !u.Allowed || u.Status != quota.StatusBlocked {
		t.Errorf("usage %+v; want 4 used, allowed, and blocked by the numbers", u)
	}

	r.gateway.Close() // all lines are written
	// Successes have no line here, unless they would have been blocked.
	for text, want := range map[string]int{`"decision":"observed"`: 5, `"decision":"admitted"`: 0,
		`"would_block":"year"`: 1, `"would_block":"month,year"`: 2, `"would_block":"month,year,image-analysis-day"`: 1, `"would_block":"month,year,attempts"`: 1} {
		if n := strings.Count(log.String(), text); n != want {
			t.Errorf("the log has %s %d times, want %d:\n%s", text, n, want, &log)
		}
	}
	metrics := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{}).ServeHTTP(metrics, httptest.NewRequest("GET", "/metrics", nil))
	for _, want := range []string{`metergate_decisions_total{outcome="admitted",plan="watched"} 1`, `metergate_decisions_total{outcome="observed",plan="watched"} 5`} {
		if !strings.Contains(metrics.Body.String(), want+"\n") {
			t.Errorf("no %s in\n%s", want, metrics.Body)
		}
	}
}

// TestObservingRouteAdmitsAndReports: a route may observe while another route of the same
// plan does not.
func TestObservingRouteAdmitsAndReports(t *testing.T) {
	r := newTestGateway(t, setup{routes: []proxy.Route{{Pattern: "POST /v2/analyze", Endpoint: "analyze", Observe: true}}})
	tok := token("u", "one")
	for i, c := range []struct {
		path   string
		status int
		want   string
	}{
		{"/v2/analyze", 200, ""},
		{"/v2/analyze", 200, `"month"`},
		{"/api/analyze", 429, ""},
		{"/v2/analyze", 200, `"month"`},
	} {
		if res := r.do(tok, "POST", c.path, nil); res.StatusCode != c.status || res.Header.Get(wouldBlock) != c.want {
			t.Errorf("%d, %s: %s, %s: %q; want %d, %q", i, c.path, res.Status, wouldBlock, res.Header.Get(wouldBlock), c.status, c.want)
		}
	}
	r.want("u", "one", 3)
	// Whatever else refuses requests still does.
	for path, want := range map[string]int{"/v2/nothing": 404, "//v2/analyze": 400} {
		if res := r.do(tok, "POST", path, nil); res.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, res.Status, want)
		}
	}
	if res := r.do("", "POST", "/v2/analyze", nil); res.StatusCode != 401 {
		t.Errorf("no token: %s", res.Status)
	}
}

// Only a metered route can be observed.
func TestObservingRouteMustBeMetered(t *testing.T) {
	r := newTestGateway(t, setup{})
	r.options.Routes = append(r.options.Routes, proxy.Route{Pattern: "GET /free", Observe: true})
	if _, err := proxy.New(r.options); err == nil || !strings.Contains(err.Error(), "GET /free") {
		t.Errorf("error %v", err)
	}
}

// TestWouldBlockHeaderIsTheGateways: an upstream cannot set the header in any section of
// a response. An informational response does not have it. On a route that is not metered,
// it is the upstream's.
func TestWouldBlockHeaderIsTheGateways(t *testing.T) {
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) {
			conn, _, _ := w.(http.Hijacker).Hijack()
			defer conn.Close()
			const lie = "X-Usage-Would-Block: \"lie\"\r\n"
			fmt.Fprintf(conn, "HTTP/1.1 103 Early Hints\r\n%sLink: </a>\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close\r\n%sTrailer: X-Usage-Would-Block\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n%s\r\n", lie, lie, lie)
		},
		change: func(o *proxy.Options) {
			o.Plans["watched"] = observingPlan(quota.AttemptLimit{}, quota.Limit{Amount: 1, Period: quota.Month})
		},
	})
	for _, want := range []string{"[]", `["month"]`} {
		conn := r.dial()
		fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: api.example\r\nAuthorization: Bearer %s\r\nTE: trailers\r\n\r\n", token("u", "watched"))
		read := bufio.NewReader(conn)
		m, status, err := readResponse(read, "POST")
		if err != nil || status != 103 || len(m.values(wouldBlock)) != 0 {
			t.Fatalf("%d %+v, error %v", status, m, err)
		}
		m, status, err = readResponse(read, "POST")
		if got := fmt.Sprint(m.values(wouldBlock)); err != nil || status != 200 || got != want {
			t.Errorf("%d, %s: %s, error %v; want 200, %s", status, wouldBlock, got, err, want)
		}
	}
	if res := r.do(token("u", "watched"), "GET", "/api/status", nil); res.Header.Get(wouldBlock) != `"lie"` {
		t.Errorf("on a route that is not metered: %q, want the upstream's", res.Header.Get(wouldBlock))
	}
}
