// Package admin is the gateway's second listener, for operators: health and
// metrics. It must not be reachable from where clients are.
package admin

import (
	"context"
	"encoding/json"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Options are what a Handler reports. The zero value is a process that is always
// ready and has no metrics.
type Options struct {
	// Draining: the gateway takes no new requests; nil: never.
	Draining func() bool
	// Checks ask for faults, by name, each within checkTimeout. A fault is shown
	// and does not make the gateway unready: it serves on by its on_failure rule.
	Checks map[string]func(context.Context) error
	// Gatherer collects the metrics; nil: /metrics is 404.
	Gatherer prometheus.Gatherer
}

const checkTimeout = time.Second

// Handler serves GET /livez, /readyz and /metrics.
func Handler(o Options) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, readiness{Status: "alive"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if o.Draining != nil && o.Draining() {
			writeJSON(w, http.StatusServiceUnavailable, readiness{Status: "draining"})
			return
		}
		writeJSON(w, http.StatusOK, readiness{Status: "ready", Checks: o.check(r.Context())})
	})
	if o.Gatherer != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{}))
	}
	return mux
}

type readiness struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks,omitempty"` // "ok", or what is wrong
}

// check runs all checks at once.
func (o Options) check(ctx context.Context) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var (
		mu      sync.Mutex
		wait    sync.WaitGroup
		results = make(map[string]string, len(o.Checks))
	)
	for name, check := range o.Checks {
		wait.Go(func() {
			result := "ok"
			if err := check(ctx); err != nil {
				result = err.Error()
			}
			mu.Lock()
			defer mu.Unlock()
			results[name] = result
		})
	}
	wait.Wait()
	return results
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
