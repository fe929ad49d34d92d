package proxy

import (
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy/credential"
	"metergate/proxy/jsonlog"
	"metergate/quota"
)

// Benchmarks of what a gateway adds to a request. Other parts have benchmarks elsewhere:
// the path (package urlpath), the route (BenchmarkRoute), the token (package jwtauth) and
// the store (packages redisstore and boltstore).

// benchPlan returns a plan like the example's, with a limit for one endpoint, and a state
// in which that limit is reached.
func benchPlan(b *testing.B) (*quota.Plan, quota.Snapshot) {
	b.Helper()
	p, err := quota.NewPlan(quota.PlanOptions{Name: "bench", WarnAt: 80,
		Limits: []quota.Limit{
			{Amount: 100, Period: quota.Month},
			{Amount: 20, Period: quota.Month, Endpoint: "image-analysis"},
			{Amount: 60, Period: quota.Minute},
		},
		Endpoints: []string{"analyze", "drill", "image-analysis", "redact", "report"}})
	if err != nil {
		b.Fatal(err)
	}
	at := time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC)
	windows := quota.NewCalendar(nil).WindowsAt(p.Periods(), at)
	counts := make([]quota.Count, len(p.Counters()))
	for i, c := range p.Counters() {
		counts[i].Used = 20
		for _, w := range windows {
			if w.Period == c.Period {
				counts[i].Window = w
			}
		}
	}
	return p, p.NewSnapshot(at, counts)
}

func BenchmarkUsageHeaders(b *testing.B) {
	_, s := benchPlan(b)
	for _, endpoint := range []string{"analyze", "image-analysis"} {
		b.Run(endpoint, func(b *testing.B) {
			h := http.Header{}
			b.ReportAllocs()
			for b.Loop() {
				setUsageHeaders(h, endpoint, &s, -1)
			}
		})
	}
}

// benchExchange returns a request that has been reserved and not yet answered.
func benchExchange(b *testing.B, log *slog.Logger) *exchange {
	b.Helper()
	p, _ := benchPlan(b)
	g := &Gateway{metrics: NewMetrics(prometheus.NewRegistry()), log: log, accessLog: accessLog{log: log}, upgradeURL: "https://example.com/pricing"}
	return &exchange{g: g, in: httptest.NewRequest("POST", "/api/image-analysis", nil), id: quota.NewID(),
		route: &route{Route: Route{Pattern: "POST /api/image-analysis", Endpoint: "image-analysis"}},
		user:  credential.Identity{User: "u-17", Plan: "bench"}, plan: p, record: record{decision: "admitted"}}
}

// A sink accepts what a connection accepts, including deadlines.
type sink struct{ *httptest.ResponseRecorder }

func newSink() sink { return sink{httptest.NewRecorder()} }

func (sink) SetReadDeadline(time.Time) error  { return nil }
func (sink) SetWriteDeadline(time.Time) error { return nil }

// BenchmarkProblem measures an answer of the gateway with its problem document.
func BenchmarkProblem(b *testing.B) {
	_, s := benchPlan(b)
	for _, c := range []struct {
		name string
		err  error
	}{
		{"404", errNoRoute},
		{"429", &limitError{endpoint: "image-analysis", account: "u-17", snapshot: &s}},
	} {
		b.Run(c.name, func(b *testing.B) {
			x := benchExchange(b, slog.New(slog.DiscardHandler))
			b.ReportAllocs()
			for b.Loop() {
				x.w = &responseWriter{ResponseWriter: newSink(), x: x}
				x.fail(c.err)
			}
		})
	}
}

// BenchmarkObserve measures the metrics of one request and, at level INFO, its line in the
// access log.
func BenchmarkObserve(b *testing.B) {
	for _, level := range []slog.Level{slog.LevelInfo, slog.LevelWarn} {
		b.Run(level.String(), func(b *testing.B) {
			x := benchExchange(b, slog.New(jsonlog.New(io.Discard, level)))
			x.w, x.record.status = &responseWriter{ResponseWriter: newSink(), x: x}, 200
			b.ReportAllocs()
			for b.Loop() {
				x.recordMetrics(3 * time.Millisecond)
				x.g.accessLog.write(x, 3*time.Millisecond)
			}
		})
	}
}
