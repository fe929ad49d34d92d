// Package admin is the gateway's second listener, for operators: health, metrics and
// the admin API. It must not be reachable from where clients are.
package admin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/json"
	"net/http"
	"strings"
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
	// Waiting says what the gateway still lacks to serve anybody; nil, or a nil error:
	// nothing.
	Waiting func() error
	// Checks are what asks for faults, by name, each within checkTimeout; nil: nothing
	// does. A fault is shown and does not make the gateway unready: it serves on.
	Checks func() map[string]func(context.Context) error
	// Gatherer collects the metrics; nil: /metrics is 404.
	Gatherer prometheus.Gatherer
	// Token is what the admin API asks for; nil or empty: the API answers 403.
	Token func() string
	// Reload loads the configuration again and says what takes a restart; nil:
	// POST /admin/reload is 404. Its error's lines are for the operator to read.
	Reload func() (warnings []string, err error)
	// Config returns the configuration in force, without secrets, to be shown as JSON;
	// nil: GET /admin/config is 404.
	Config func() any
}

const checkTimeout = time.Second

// Handler serves GET /livez, /readyz and /metrics, and the admin API below /admin/.
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
		status, state := http.StatusOK, "ready"
		if o.Waiting != nil && o.Waiting() != nil {
			status, state = http.StatusServiceUnavailable, "waiting"
		}
		writeJSON(w, status, readiness{Status: state, Checks: o.check(r.Context())})
	})
	if o.Gatherer != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(o.Gatherer, promhttp.HandlerOpts{}))
	}
	if o.Config != nil {
		mux.HandleFunc("GET /admin/config", o.authorized(func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusOK, o.Config())
		}))
	}
	if o.Reload != nil {
		mux.HandleFunc("POST /admin/reload", o.authorized(o.reload))
	}
	return mux
}

// authorized serves who has the token.
func (o Options) authorized(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		want := ""
		if o.Token != nil {
			want = o.Token()
		}
		if want == "" {
			writeProblem(w, http.StatusForbidden, "The admin API is off: admin.token is not set.", nil)
			return
		}
		scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		// Hashes have one length, so that the time says nothing about the token's.
		g, t := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(want))
		if !strings.EqualFold(scheme, "Bearer") || subtle.ConstantTimeCompare(g[:], t[:]) != 1 {
			w.Header().Set("WWW-Authenticate", `Bearer realm="metergate admin"`)
			writeProblem(w, http.StatusUnauthorized, "The admin API needs its token.", nil)
			return
		}
		serve(w, r)
	}
}

func (o Options) reload(w http.ResponseWriter, _ *http.Request) {
	warnings, err := o.Reload()
	if err != nil {
		writeProblem(w, http.StatusUnprocessableEntity, "The configuration was refused; the one before stays in force.", strings.Split(err.Error(), "\n"))
		return
	}
	writeJSON(w, http.StatusOK, struct {
		Status   string   `json:"status"`
		Warnings []string `json:"warnings,omitempty"` // what takes a restart
	}{"reloaded", warnings})
}

// writeProblem answers with an error (RFC 9457); faults may be nil.
func writeProblem(w http.ResponseWriter, status int, detail string, faults []string) {
	w.Header().Set("Content-Type", "application/problem+json")
	write(w, status, struct {
		Type   string   `json:"type"`
		Title  string   `json:"title"`
		Status int      `json:"status"`
		Detail string   `json:"detail"`
		Faults []string `json:"faults,omitempty"`
	}{"about:blank", http.StatusText(status), status, detail, faults})
}

type readiness struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks,omitempty"` // "ok", or what is wrong
}

// check runs all checks at once.
func (o Options) check(ctx context.Context) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	if o.Checks == nil {
		return nil
	}
	var (
		mu      sync.Mutex
		wait    sync.WaitGroup
		results = map[string]string{}
	)
	for name, check := range o.Checks() {
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
	write(w, status, v)
}

func write(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
