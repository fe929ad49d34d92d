package proxy_test

import (
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy"
	"metergate/proxy/jwtauth"
	"metergate/quota"
)

// BenchmarkStackDepth reports how many bytes of stack the package uses between
// ServeHTTP and each call out of it. A goroutine's stack doubles when it is full: with
// net/http above these frames and a store below them, a request fits into 8 KiB, and
// one that waits for its upstream keeps what it once needed.
func BenchmarkStackDepth(b *testing.B) {
	plan := newPlan("bench", quota.Limit{Amount: quota.MaxAmount, Period: quota.Month})
	d := &stackDepth{instantStore: newInstantStore(plan), at: map[string]uintptr{}}
	verifier, err := jwtauth.New(jwtauth.Options{Secret: secret, Algorithms: []string{"HS256"}})
	if err != nil {
		b.Fatal(err)
	}
	g, err := proxy.New(proxy.Options{
		Store: d, Verifier: verifier, Plans: map[string]*quota.Plan{"bench": plan}, DefaultPlan: "bench",
		Routes:  []proxy.Route{{Pattern: "POST /api/analyze", Endpoint: "analyze", Upstream: d, Timeout: time.Minute, MaxBody: 1 << 20}},
		Metrics: proxy.NewMetrics(prometheus.NewRegistry()),
		Log:     slog.New(d),
	})
	if err != nil {
		b.Fatal(err)
	}
	ask := newAsker("http://gateway.test")
	for b.Loop() {
		done := make(chan int)
		go func() {
			growStack(100) // so that it does not move while it is measured
			w := benchRecorder{httptest.NewRecorder()}
			d.top = stackPointer()
			g.ServeHTTP(w, ask())
			done <- w.Code
		}()
		if code := <-done; code != 200 {
			b.Fatalf("status %d", code)
		}
	}
	for call, at := range d.at {
		b.ReportMetric(float64(d.top-at), "B/"+call)
	}
}

// A stackDepth notes where the stack is in each call that the gateway makes.
type stackDepth struct {
	*instantStore
	slog.Handler
	top uintptr
	at  map[string]uintptr
}

//go:noinline
func stackPointer() uintptr {
	var here byte
	return uintptr(unsafe.Pointer(&here))
}

//go:noinline
func growStack(n int) (sum byte) {
	var frame [1024]byte
	if n > 0 {
		frame[n%len(frame)] = growStack(n - 1)
	}
	return frame[0]
}

func (d *stackDepth) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	d.at["reserve"] = stackPointer()
	return d.instantStore.Reserve(ctx, r)
}

func (d *stackDepth) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	d.at["commit"] = stackPointer()
	return d.instantStore.Commit(ctx, r)
}

func (d *stackDepth) RoundTrip(r *http.Request) (*http.Response, error) {
	d.at["round-trip"] = stackPointer()
	return stubUpstream{}.RoundTrip(r)
}

func (d *stackDepth) Enabled(context.Context, slog.Level) bool { return true }

func (d *stackDepth) Handle(context.Context, slog.Record) error {
	d.at["log"] = stackPointer()
	return nil
}
