package proxy_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy"
	"metergate/proxy/jsonlog"
	"metergate/proxy/jwtauth"
	"metergate/proxy/tracing"
	"metergate/proxy/upstream"
	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
)

// BenchmarkRequest is a whole metered request. Without a socket it is the gateway's own
// work, and its allocations, for a store that answers at once, and with that of each
// store. Over loopback client, upstream and net/http are in it: compare with bare, the
// standard library's proxy.
func BenchmarkRequest(b *testing.B) {
	plan := newPlan("bench", quota.Limit{Amount: quota.MaxAmount, Period: quota.Month}, quota.Limit{Amount: quota.MaxAmount, Period: quota.Minute})
	stores := map[string]func(*testing.B) proxy.Store{
		"instant": func(*testing.B) proxy.Store { return newInstantStore(plan) },
		"embedded": func(b *testing.B) proxy.Store {
			s, err := boltstore.Open(b.TempDir(), boltstore.Options{})
			return guarded(b, s, err)
		},
		"Redis": func(b *testing.B) proxy.Store {
			s, err := redisstore.Open(redisstore.Options{URL: redistest.Start(b).URL()})
			return guarded(b, s, err)
		},
	}
	for _, name := range []string{"instant", "embedded", "Redis"} {
		b.Run("no socket "+name, func(b *testing.B) {
			g := newBenchGateway(b, plan, stores[name](b), stubUpstream{})
			ask := newAsker("http://gateway.test")
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					w := benchRecorder{httptest.NewRecorder()}
					if g.ServeHTTP(w, ask()); w.Code != 200 {
						b.Errorf("status %d: %s", w.Code, w.Body)
						return
					}
				}
			})
		})
	}

	for name, sample := range map[string]float64{"sampled": 1, "not sampled": 0} {
		b.Run("no socket traced "+name, func(b *testing.B) {
			benchTraced(b, plan, sample)
		})
	}

	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, "ok")
	}))
	defer behind.Close()
	target, _ := url.Parse(behind.URL)
	bare := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(target); r.SetXForwarded() }}
	overLoopback(b, "bare", bare)
	for _, name := range []string{"instant", "embedded", "Redis"} {
		up, err := upstream.New(upstream.Options{Targets: []upstream.Target{{URL: target}}})
		if err != nil {
			b.Fatal(err)
		}
		defer up.Retire()
		overLoopback(b, name, newBenchGateway(b, plan, stores[name](b), up))
	}
}

// benchTraced measures requests with spans, which are made and not sent.
func benchTraced(b *testing.B, plan *quota.Plan, sample float64) {
	tracer, err := tracing.NewExporter(tracing.ExporterOptions{Log: slog.New(slog.DiscardHandler)}).NewTracer(tracing.TracerOptions{Sample: sample})
	if err != nil {
		b.Fatal(err)
	}
	g := newBenchGateway(b, plan, newInstantStore(plan), stubUpstream{}, func(o *proxy.Options) { o.Tracer = tracer })
	ask := newAsker("http://gateway.test")
	b.ReportAllocs()
	for b.Loop() {
		g.ServeHTTP(benchRecorder{httptest.NewRecorder()}, ask())
	}
}

// A benchRecorder takes deadlines, as a connection does.
type benchRecorder struct{ *httptest.ResponseRecorder }

func (benchRecorder) SetReadDeadline(time.Time) error  { return nil }
func (benchRecorder) SetWriteDeadline(time.Time) error { return nil }

func overLoopback(b *testing.B, name string, h http.Handler) {
	b.Run("loopback "+name, func(b *testing.B) {
		s := httptest.NewServer(h)
		defer s.Close()
		transport := &http.Transport{MaxIdleConnsPerHost: 100}
		defer transport.CloseIdleConnections()
		ask := newAsker(s.URL)
		b.ReportAllocs()
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				res, err := transport.RoundTrip(ask())
				if err != nil || res.StatusCode != 200 {
					b.Errorf("%v, error %v", res, err)
					return
				}
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
		})
	})
}

// newAsker returns what makes requests of one user; making one is part of what is
// measured.
func newAsker(url string) func() *http.Request {
	bearer := []string{"Bearer " + token("bench", "bench")}
	return func() *http.Request {
		req, err := http.NewRequest("POST", url+"/api/analyze", strings.NewReader("a text of a few words"))
		if err != nil {
			panic(err)
		}
		req.Header["Authorization"] = bearer
		return req
	}
}

// newBenchGateway logs as the program does.
func newBenchGateway(b *testing.B, p *quota.Plan, s proxy.Store, up http.RoundTripper, change ...func(*proxy.Options)) *proxy.Gateway {
	b.Helper()
	verifier, err := jwtauth.New(jwtauth.Options{Secret: secret, Algorithms: []string{"HS256"}})
	if err != nil {
		b.Fatal(err)
	}
	o := proxy.Options{
		Store: s, Verifier: verifier, Plans: map[string]*quota.Plan{p.Name(): p}, DefaultPlan: p.Name(),
		Routes:  []proxy.Route{{Pattern: "POST /api/analyze", Endpoint: "analyze", Upstream: up, Timeout: time.Minute, MaxBody: 1 << 20}},
		Metrics: proxy.NewMetrics(prometheus.NewRegistry()),
		Log:     slog.New(jsonlog.New(io.Discard, slog.LevelInfo)),
	}
	for _, f := range change {
		f(&o)
	}
	g, err := proxy.New(o)
	if err != nil {
		b.Fatal(err)
	}
	return g
}

// guarded puts a store behind the guard, as the program does.
func guarded[S interface {
	guard.Backend
	io.Closer
}](b *testing.B, remote S, err error) proxy.Store {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
	journal, err := guard.OpenJournal(b.TempDir())
	if err != nil {
		b.Fatal(err)
	}
	s, err := guard.New(guard.Options{Backend: remote, Journal: journal, Timeout: time.Minute, Calendar: quota.NewCalendar(nil)})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { s.Close(); remote.Close() })
	return s
}

// stubUpstream answers at once.
type stubUpstream struct{}

func (stubUpstream) RoundTrip(r *http.Request) (*http.Response, error) {
	io.Copy(io.Discard, r.Body)
	r.Body.Close()
	return &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Request: r, ContentLength: 2,
		Header: http.Header{"Content-Type": {"text/plain"}, "Content-Length": {"2"}}, Body: io.NopCloser(strings.NewReader("ok"))}, nil
}

// An instantStore admits everything and says that nothing was used.
type instantStore struct {
	proxy.Store // nil: what a request does not call
	windows     []quota.Window
	snapshot    quota.Snapshot
}

func newInstantStore(p *quota.Plan) *instantStore {
	now := time.Now()
	s := &instantStore{windows: quota.NewCalendar(nil).WindowsAt(p.Periods(), now)}
	counts := make([]quota.Count, len(p.Counters()))
	for i, c := range p.Counters() {
		for _, w := range s.windows {
			if w.Period == c.Period {
				counts[i].Window = w
			}
		}
	}
	s.snapshot = p.NewSnapshot(now, counts)
	return s
}

func (s *instantStore) Reserve(_ context.Context, r quota.Request) (*quota.Decision, error) {
	return &quota.Decision{Admitted: true, Reservation: quota.Reservation{Request: r, Windows: s.windows}, Snapshot: s.snapshot}, nil
}

func (s *instantStore) Commit(context.Context, *quota.Reservation) (*quota.Snapshot, error) {
	return &s.snapshot, nil
}

func (s *instantStore) Forget(*quota.Reservation) {}
