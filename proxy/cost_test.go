package proxy_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy"
	"metergate/quota"
	"metergate/quota/testkit"
)

// newUnitPlan is a plan whose usage is reported in units.
func newUnitPlan(t *testing.T, o quota.PlanOptions) *quota.Plan {
	t.Helper()
	o.WarnAt, o.Endpoints = 80, []string{"analyze", "image-analysis", "report"}
	o.Costs = map[string]quota.Cost{"report": {Min: 1, Max: 20}, "image-analysis": {Min: 5, Max: 5}}
	p, err := quota.NewPlan(o)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// withCosts adds a plan of 100 units, and routes that cost something.
func withCosts(t *testing.T, s setup, limits ...quota.Limit) *testGateway {
	if limits == nil {
		limits = []quota.Limit{{Amount: 100, Period: quota.Month, Quantity: quota.Units}}
	}
	s.routes = append(s.routes,
		proxy.Route{Pattern: "POST /cost/report", Endpoint: "report", Cost: proxy.Cost{Cost: quota.Cost{Min: 1, Max: 20}, Header: "X-Report-Cost"}},
		proxy.Route{Pattern: "POST /cost/each", Endpoint: "report", Cost: proxy.Cost{Cost: quota.Cost{Min: 2, Max: 20}, Header: "X-Report-Cost", Each: 1000, MissingMin: true}},
		proxy.Route{Pattern: "POST /cost/coarse", Endpoint: "report", Cost: proxy.Cost{Cost: quota.Cost{Min: 1, Max: 20}, Header: "X-Report-Cost", Each: 1 << 60}},
		proxy.Route{Pattern: "POST /cost/image", Endpoint: "image-analysis", Cost: proxy.Cost{Cost: quota.Cost{Min: 5, Max: 5}}},
	)
	before := s.change
	s.change = func(o *proxy.Options) {
		o.Plans["units"] = newUnitPlan(t, quota.PlanOptions{Name: "units", Limits: limits, UnitName: "credits"})
		if before != nil {
			before(o)
		}
	}
	return newTestGateway(t, s)
}

// TestCostIsWhatTheResponseSays has every form of the header that an upstream may send. Those that
// say nothing or too much are counted, and logged once a second at most.
func TestCostIsWhatTheResponseSays(t *testing.T) {
	var mu sync.Mutex
	var sent []string
	var log lockedBuffer
	registry, start := prometheus.NewRegistry(), time.Now()
	g := withCosts(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		w.Header()["X-Report-Cost"] = sent
		w.WriteHeader(http.StatusOK)
	}, change: func(o *proxy.Options) {
		o.Metrics = proxy.NewMetrics(registry)
		o.Log = slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelWarn}))
	}})
	for i, c := range []struct {
		path string
		sent []string
		want string
	}{
		{"/cost/report", []string{"7"}, "7"},
		{"/cost/report", []string{"0"}, "1"},
		{"/cost/report", []string{"20"}, "20"},
		{"/cost/report", []string{"21"}, "20"},
		{"/cost/report", []string{strings.Repeat("9", 400)}, "20"},
		{"/cost/report", nil, "20"},
		{"/cost/report", []string{"7", "7"}, "20"},
		{"/cost/report", []string{"-1"}, "20"},
		{"/cost/report", []string{"+7"}, "20"},
		{"/cost/report", []string{"7.0"}, "20"},
		{"/cost/report", []string{"7, 8"}, "20"},
		{"/cost/report", []string{"5 units"}, "20"},
		{"/cost/report", []string{"7;q=1"}, "20"},
		{"/cost/report", []string{"1e1"}, "20"},
		{"/cost/report", []string{"0x7"}, "20"},
		{"/cost/report", []string{"1_0"}, "20"},
		{"/cost/report", []string{"٧"}, "20"},
		{"/cost/report", []string{"NaN"}, "20"},
		{"/cost/report", []string{""}, "20"},
		{"/cost/each", []string{"1"}, "2"},
		{"/cost/each", []string{"2001"}, "3"},
		{"/cost/each", []string{"3000"}, "3"},
		{"/cost/each", []string{"99999999"}, "20"},
		{"/cost/each", nil, "2"},
		{"/cost/each", []string{"many"}, "2"},
		{"/cost/coarse", []string{"1152921504606846977"}, "2"},
		{"/cost/coarse", []string{"9223372036854775806"}, "8"},
		{"/cost/coarse", []string{"9223372036854775808"}, "20"}, // more than fits
		{"/cost/image", []string{"1"}, "5"},
		{"/api/analyze", []string{"9"}, "1"},
	} {
		mu.Lock()
		sent = c.sent
		mu.Unlock()
		r := g.do(token(fmt.Sprint("user-", i), "units"), http.MethodPost, c.path, nil)
		if got := r.Header.Get("X-Usage-Cost"); r.StatusCode != http.StatusOK || got != c.want {
			t.Errorf("%s with %.20q: status %d, charged %s, want %s", c.path, c.sent, r.StatusCode, got, c.want)
		}
		if leaked := r.Header["X-Report-Cost"]; leaked != nil && strings.HasPrefix(c.path, "/cost/report") {
			t.Errorf("%s: the client sees X-Report-Cost: %.20q", c.path, leaked)
		}
	}
	values := series(t, registry)
	missing, over := values[`metergate_cost_missing_total{endpoint="report"}`], values[`metergate_cost_over_max_total{endpoint="report"}`]
	if missing != 16 || over != 4 {
		t.Errorf("%v are counted as missing and %v as over the maximum, want 16 and 4", missing, over)
	}
	wantRatedLines(t, &log, start, `msg="a response does not say what it cost"`, 16,
		`endpoint=report header=X-Report-Cost charged=20 error="the response does not have the header"`)
	wantRatedLines(t, &log, start, `msg="a response says that it cost more than the route's cost.max, which is what was charged"`, 4,
		`endpoint=report header=X-Report-Cost reported=21 each=1 max=20`)
	if strings.Contains(log.String(), strings.Repeat("9", 100)) {
		t.Error("a long value is logged in full")
	}
}

// wantRatedLines waits until lines with a message stand for n events since start, and wants at most
// one a second. The first of them must have the attributes.
func wantRatedLines(t *testing.T, log *lockedBuffer, start time.Time, message string, n int, attributes string) {
	t.Helper()
	var lines []string
	testkit.Eventually(t, "all events are logged with "+message, func() bool {
		lines = nil
		logged := 0
		for line := range strings.Lines(log.String()) {
			if !strings.Contains(line, message) {
				continue
			}
			lines = append(lines, line)
			events := 1
			if _, count, ok := strings.Cut(strings.TrimSpace(line), " count="); ok {
				events, _ = strconv.Atoi(count)
			}
			logged += events
		}
		return logged == n
	})
	if most := 1 + int(time.Since(start)/time.Second); len(lines) > most {
		t.Errorf("%d lines, want %d at most", len(lines), most)
	}
	if !strings.Contains(lines[0], attributes) {
		t.Errorf("the log says %s, want %s", lines[0], attributes)
	}
}

func TestFailedRequestsAreChargedNothing(t *testing.T) {
	g := withCosts(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Report-Cost", "7")
		w.WriteHeader(http.StatusBadGateway)
	}})
	r := g.do(token("u", "units"), http.MethodPost, "/cost/report", nil)
	if r.StatusCode != http.StatusBadGateway || r.Header.Get("X-Usage-Cost") != "0" || r.Header.Get("X-Report-Cost") != "" {
		t.Errorf("status %d, %v", r.StatusCode, r.Header)
	}
	if u := g.usage("u", "units"); u.Used != 0 || u.InFlight != 0 || u.Unit != "units" || u.UnitName != "credits" {
		t.Errorf("usage %+v", u)
	}
}

// TestHeldUnitsStayWithinLimit: a request is refused if the most that it may cost does not fit.
func TestHeldUnitsStayWithinLimit(t *testing.T) {
	g := withCosts(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Report-Cost", "3") }},
		quota.Limit{Amount: 27, Period: quota.Month, Quantity: quota.Units}, quota.Limit{Amount: 9, Period: quota.Month, Soft: true})
	for range 2 {
		g.do(token("u", "units"), http.MethodPost, "/cost/report", nil)
	}
	g.do(token("u", "units"), http.MethodPost, "/cost/image", nil)
	r := g.do(token("u", "units"), http.MethodPost, "/cost/report", nil)
	if r.StatusCode != http.StatusTooManyRequests || r.Header.Get("X-Usage") != "11/27" || r.Header.Get("X-Usage-Cost") != "0" {
		t.Fatalf("status %d, %v", r.StatusCode, r.Header)
	}
	if got, want := r.Header.Get("RateLimit-Policy"), `"month-units";q=27;w=`; !strings.HasPrefix(got, want) || !strings.HasSuffix(got, `;qu="units"`) {
		t.Errorf("RateLimit-Policy %s, want only the limit on units", got)
	}
	var p struct {
		Detail   string
		Violated []string `json:"violated-policies"`
		Error    struct{ Message, Type, Code string }
		Usage    quota.Usage
	}
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Fatal(err)
	}
	if want := "This request may cost 20 credits, and only 16 are left of the 27 per month on the units plan."; p.Detail != want ||
		p.Error.Message != want || p.Error.Code != "insufficient_quota" || p.Error.Type != "insufficient_quota" || len(p.Violated) != 1 || p.Violated[0] != "month-units" {
		t.Errorf("problem %+v", p)
	}
	e := p.Usage.Endpoints["report"]
	if e.Used != 2 || *e.Units != 6 || e.Cost.Max != 20 || *e.Allowed || !*p.Usage.Endpoints["image-analysis"].Allowed {
		t.Errorf("usage %+v", p.Usage)
	}
	// A cheaper one still fits.
	if r := g.do(token("u", "units"), http.MethodPost, "/cost/image", nil); r.StatusCode != http.StatusOK || r.Header.Get("X-Usage") != "16/27" {
		t.Errorf("status %d, %v", r.StatusCode, r.Header)
	}
}

func TestNotInPlanIsForbidden(t *testing.T) {
	g := withCosts(t, setup{change: func(o *proxy.Options) { o.UpgradeURL = "https://example.com/pricing" }},
		quota.Limit{Amount: 50, Period: quota.Month}, quota.Limit{Amount: 0, Period: quota.Month, Endpoint: "report", Quantity: quota.Units})
	r := g.do(token("u", "units"), http.MethodPost, "/cost/report", nil)
	var p map[string]any
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != http.StatusForbidden || r.Header.Get("Retry-After") != "" || p["reason"] != "not_in_plan" || p["plan"] != "units" ||
		p["endpoint"] != "report" || p["upgrade_url"] != "https://example.com/pricing" || p["usage"] == nil || p["type"] != "about:blank" || fmt.Sprint(p["violated-policies"]) != "[report-month-units]" {
		t.Errorf("status %d, %v, %v", r.StatusCode, r.Header, p)
	}
	if p["detail"] != "The units plan does not include any report requests." {
		t.Errorf("detail %q", p["detail"])
	}
	if len(g.requests()) != 0 {
		t.Error("the upstream was called")
	}
	if r := g.do(token("u", "units"), http.MethodPost, "/cost/image", nil); r.StatusCode != http.StatusOK {
		t.Errorf("another endpoint: status %d", r.StatusCode)
	}
}

// TestNoCostNoHeader: without a cost in the configuration nothing speaks of units.
func TestNoCostNoHeader(t *testing.T) {
	g := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) { w.Header().Set("X-Usage-Cost", "7") }})
	r := g.do(token("u", "free"), http.MethodPost, "/api/analyze", nil)
	if r.StatusCode != http.StatusOK || r.Header["X-Usage-Cost"] != nil {
		t.Errorf("status %d, %v", r.StatusCode, r.Header)
	}
	if body := g.do(token("u", "free"), http.MethodGet, "/usage", nil).body; strings.Contains(body, "unit") || strings.Contains(body, "cost") {
		t.Errorf("usage %s", body)
	}
}
