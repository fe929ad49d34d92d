package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy"
	"metergate/quota/testkit"
)

// series returns all series of a registry, as name{label="value"}, and their values. The
// value of a histogram is its count.
func series(t *testing.T, registry *prometheus.Registry) map[string]float64 {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]float64{}
	for _, family := range families {
		for _, m := range family.GetMetric() {
			var labels []string
			for _, l := range m.GetLabel() {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			name := family.GetName()
			if labels != nil {
				name += "{" + strings.Join(labels, ",") + "}"
			}
			values[name] = m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return values
}

// TestEveryReleaseHasItsReason: every reservation that is given back is counted under its
// reason.
func TestEveryReleaseHasItsReason(t *testing.T) {
	registry := prometheus.NewRegistry()
	arrived := make(chan bool)
	r := newTestGateway(t, setup{
		maxBody: 10,
		upstream: func(w http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			switch q := r.URL.RawQuery; q {
			case "cut":
				panic(http.ErrAbortHandler)
			case "wait":
				arrived <- true
				<-r.Context().Done()
			case "slow":
				<-r.Context().Done()
			default:
				status, _ := strconv.Atoi(q)
				w.WriteHeader(status)
			}
		},
		change: func(o *proxy.Options) {
			o.Metrics = proxy.NewMetrics(registry)
			for i := range o.Routes {
				o.Routes[i].UpstreamName = "analysis"
				if o.Routes[i].Endpoint == "image-analysis" {
					o.Routes[i].Timeout = 50 * time.Millisecond
				}
			}
		},
	})
	user := token("u", "")
	for _, status := range []string{"200", "204", "301", "304", "404", "429", "500", "503", "699"} {
		r.do(user, "POST", "/api/analyze?"+status, nil)
	}
	r.do(user, "POST", "/api/analyze?cut", nil)
	r.do(user, "POST", "/api/image-analysis?slow", nil)
	r.do(user, "POST", "/api/analyze?200", io.MultiReader(strings.NewReader("much too long"))) // its length is not known
	conn := r.dial()
	fmt.Fprintf(conn, "POST /api/analyze?200 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", user)
	if _, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	req, _ := http.NewRequestWithContext(ctx, "POST", r.gateway.URL+"/api/analyze?wait", nil)
	req.Header.Set("Authorization", "Bearer "+user)
	if res, err := http.DefaultClient.Do(req); err == nil {
		t.Error(res.Status)
	}
	broken := r.options
	broken.Store = faulty{Store: r.store}
	g, err := proxy.New(broken)
	if err != nil {
		t.Fatal(err)
	}
	func() {
		defer func() { recover() }()
		req := httptest.NewRequest("POST", "/api/analyze?200", nil)
		req.Header.Set("Authorization", "Bearer "+user)
		g.ServeHTTP(httptest.NewRecorder(), req)
	}()
	want := map[string]float64{
		"status_3xx": 2, "status_4xx": 2, "status_5xx": 2, "unreachable": 1, "timeout": 1, "body": 2, "client_gone": 1,
		"other": 2, // a status of no class, and a panic
	}
	testkit.Eventually(t, "all are settled", func() bool { return series(t, registry)["metergate_requests_in_flight"] == 0 })
	got := series(t, registry)
	for reason, n := range want {
		if got[fmt.Sprintf(`metergate_released_total{reason=%q}`, reason)] != n {
			t.Errorf("%s: %v, want %v", reason, got[fmt.Sprintf(`metergate_released_total{reason=%q}`, reason)], n)
		}
	}
	if n := got[`metergate_counted_total{endpoint="analyze"}`]; n != 2 {
		t.Errorf("%v are counted, want 2", n)
	}
	if n := got[`metergate_upstream_duration_seconds{upstream="analysis"}`]; n != 15 {
		t.Errorf("the upstream was timed %v times, want 15", n)
	}
	r.want("u", "", 2)
}

// TestClientsCannotAddMetricSeries: 20,000 users, paths and methods add no series to
// those that a few have made.
func TestClientsCannotAddMetricSeries(t *testing.T) {
	registry := prometheus.NewRegistry()
	answer := func(status int) *http.Response {
		return &http.Response{StatusCode: status, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Body: http.NoBody}
	}
	r := newTestGateway(t, setup{
		routes: []proxy.Route{{Pattern: "GET /files/{rest...}", Public: true}, {Pattern: "/any/{id}"}},
		change: all(trusting("10.0.0.0/8"), func(o *proxy.Options) {
			o.Log, o.Metrics = slog.New(slog.DiscardHandler), proxy.NewMetrics(registry)
			for i := range o.Routes {
				o.Routes[i].UpstreamName = "analysis"
				o.Routes[i].Upstream = roundTrip(func(r *http.Request) (*http.Response, error) {
					status, err := strconv.Atoi(r.URL.RawQuery)
					if err != nil {
						return nil, errors.New("as asked for")
					}
					return answer(status), nil
				})
			}
		}),
	})
	handler := r.gateway.Config.Handler
	methods := []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"}
	plans := []string{"", "free", "one", "enterprise"}
	statuses := []int{201, 301, 404, 500}
	serve := func(i int, name, plan string) {
		left := i
		pick := func(n int) int { k := left % n; left /= n; return k }
		kind, status := pick(10), fmt.Sprint("?", statuses[pick(len(statuses))])
		if kind < 5 && strings.HasPrefix(status, "?2") {
			status = "?no" // a count is a write to disk; the warm-up has some
		}
		method := methods[pick(len(methods))]
		path := "/api/analyze" + status
		switch kind {
		case 1:
			path = "/api/lookup/" + name + status
		case 2, 3:
			path, method = "/api/analyze"+status, "POST"
		case 4:
			path, method = "/api/lookup/"+name+status, "GET"
		case 5:
			path = "/any/" + name + status
		case 6:
			path = "/files/" + name + "/" + name + status
		case 7:
			path, method = "/usage", "GET"
		case 8:
			path = "/" + name + status
		case 9:
			path = "/any/%2e%2e/" + name
		}
		if method == "BREW" {
			method += name
		}
		req := httptest.NewRequest("GET", path, nil)
		req.Method = method
		req.Host = name + ".example"
		req.RemoteAddr = fmt.Sprintf("10.%d.%d.%d:1", i%256, i/256%256, len(name))
		req.Header.Set("X-Request-Id", name)
		req.Header.Set("X-Forwarded-For", "203.0.113."+strconv.Itoa(i%256))
		if i%11 != 0 {
			req.Header.Set("Authorization", "Bearer "+token(name, plan))
		}
		handler.ServeHTTP(httptest.NewRecorder(), req)
	}
	// The warm-up: a few users do everything that the others will do.
	for i := range 8000 {
		serve(i, fmt.Sprint("warm", i%20), plans[i%len(plans)])
	}
	for _, plan := range plans {
		for range 2 {
			req := httptest.NewRequest("POST", "/api/analyze?200", nil)
			req.Header.Set("Authorization", "Bearer "+token("counted"+plan, plan))
			handler.ServeHTTP(httptest.NewRecorder(), req)
		}
	}
	before := series(t, registry)
	if n := before["metergate_requests_in_flight"]; n != 0 || len(before) < 50 {
		t.Fatalf("%d series, %v in flight", len(before), n)
	}
	var workers sync.WaitGroup
	for w := range 2 {
		workers.Go(func() {
			for i := w; i < 20_000; i += 2 {
				serve(i, fmt.Sprint("u", i), plans[i%len(plans)]+strings.Repeat("x", i%7/6*(i%100))) // and plans that do not exist
			}
		})
	}
	workers.Wait()
	after := series(t, registry)
	for name := range after {
		if _, ok := before[name]; !ok {
			t.Errorf("%s is new", name)
		}
	}
	t.Logf("%d series", len(after))
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
