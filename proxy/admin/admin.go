// Package admin is the gateway's second listener, for operators: health, metrics and
// the admin API. It must not be reachable from where clients are.
package admin

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"metergate/quota"
)

// Options configure a Handler. With the zero value the process is always ready, has no
// metrics and no admin API.
type Options struct {
	// Probes are what /readyz reports; nil: always ready, without checks.
	Probes Probes
	// Gateway is what the admin API shows and reloads; nil: the API answers 403, and
	// /admin/config and /admin/reload are 404.
	Gateway Gateway
	// Registry has the metrics, and gets the handler's own; nil: /metrics is 404.
	Registry *prometheus.Registry
	// Log receives a warning when somebody guesses the token; nil: no log.
	Log *slog.Logger
	// Store keeps what users have used; nil: nothing is served at /admin/users. It needs
	// Gateway, Calendar and Clock.
	Store Store
	// Calendar is the store's.
	Calendar *quota.Calendar
	// Clock is the store's.
	Clock Clock
}

// Probes say whether the gateway can serve requests. The methods are called
// concurrently.
type Probes interface {
	// Draining reports whether the gateway is shutting down and takes no new requests.
	Draining() bool
	// Waiting returns what the gateway still lacks before it can serve anybody; nil:
	// nothing.
	Waiting() error
	// Checks returns the parts that /readyz asks for faults, by name. Each check gets a
	// second. A fault is shown and does not make the gateway unready: it still serves.
	Checks() map[string]func(context.Context) error
}

// A Gateway is what the admin API shows and changes. The methods are called
// concurrently.
type Gateway interface {
	// AdminToken returns the token that the admin API asks for; empty: the API answers 403.
	AdminToken() string
	// ReloadConfig loads the configuration again and returns the changes that need a
	// restart. Each line of the error's text is shown to the operator.
	ReloadConfig() (warnings []string, err error)
	// EffectiveConfig returns the configuration in force, without secrets, to be shown
	// as JSON.
	EffectiveConfig() any
	// Terms returns what applies to a user whose token claims a plan. An empty or unknown
	// claim means the default plan.
	Terms(claim string) quota.PlanChoice
}

// A Clock tells the time.
type Clock interface {
	Now() time.Time
}

const (
	checkTimeout = time.Second
	// An answer is to be written within writeTimeout. One that takes longer, such as a
	// long list, gives itself more with an http.ResponseController.
	writeTimeout = 30 * time.Second
	// maxBody bounds a request's body, in bytes.
	maxBody = 1 << 20
)

// A handler is what serves Options.
type handler struct {
	Options
	lockout *lockout
	refused *prometheus.CounterVec // by reason
}

// The reasons.
const (
	noToken    = "no_token"
	wrongToken = "wrong_token"
	lockedOut  = "locked_out"
)

// Handler serves GET /livez, /readyz and /metrics, and the admin API below /admin/.
func Handler(o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	h := &handler{Options: o, lockout: newLockout(o.Log)}
	opts := prometheus.CounterOpts{Name: "metergate_admin_refused_total",
		Help: "Requests of the admin API that were refused: no_token, wrong_token, locked_out (too many wrong ones had come; what they had was not looked at)."}
	if h.refused = prometheus.NewCounterVec(opts, []string{"reason"}); o.Registry != nil {
		o.Registry.MustRegister(h.refused)
	}
	for _, reason := range []string{noToken, wrongToken, lockedOut} {
		h.refused.WithLabelValues(reason)
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, http.StatusOK, readiness{Status: "alive"})
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		if o.Probes == nil {
			writeJSON(w, http.StatusOK, readiness{Status: "ready"})
			return
		}
		if o.Probes.Draining() {
			writeJSON(w, http.StatusServiceUnavailable, readiness{Status: "draining"})
			return
		}
		status, state := http.StatusOK, "ready"
		if o.Probes.Waiting() != nil {
			status, state = http.StatusServiceUnavailable, "waiting"
		}
		writeJSON(w, status, readiness{Status: state, Checks: runChecks(r.Context(), o.Probes.Checks())})
	})
	if o.Registry != nil {
		mux.Handle("GET /metrics", promhttp.HandlerFor(o.Registry, promhttp.HandlerOpts{}))
	}
	if o.Gateway != nil {
		mux.HandleFunc("GET /admin/config", h.authorized(func(w http.ResponseWriter, _ *http.Request) {
			writeJSON(w, http.StatusOK, o.Gateway.EffectiveConfig())
		}))
		mux.HandleFunc("POST /admin/reload", h.authorized(h.reload))
	}
	return bounded(ownSite(h.route(mux)))
}

// route serves what is at and below usersPrefix, and the rest by mux.
func (h *handler) route(mux *http.ServeMux) http.Handler {
	users := h.authorized(h.users)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if _, ok := usersPath(r); ok && h.Store != nil {
			users(w, r)
			return
		}
		if none, pattern := mux.Handler(r); pattern == "" {
			refuse(w, r, none)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// refuse says with a problem document what none, which a ServeMux answers with where it has
// no pattern, says in plain text.
func refuse(w http.ResponseWriter, r *http.Request, none http.Handler) {
	said := answer{header: http.Header{}, status: http.StatusNotFound}
	none.ServeHTTP(&said, r)
	if allow := said.header.Get("Allow"); said.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", allow)
		writeProblem(w, said.status, "This path is served for "+allow+".", nil)
		return
	}
	writeProblem(w, http.StatusNotFound, "Nothing is here.", nil)
}

// An answer is a response without its body.
type answer struct {
	header http.Header
	status int
}

func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(p []byte) (int, error) { return len(p), nil }

// bounded gives a request what all have in common: bounds, and the fields of a response
// that is for programs and not for the pages of a browser. No field allows another origin.
func bounded(serve http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		r.Body = http.MaxBytesReader(w, r.Body, maxBody)
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		serve.ServeHTTP(w, r)
	})
}

// ownSite refuses what a browser sends for another site's page, before it can do anything.
func ownSite(serve http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, http.StatusForbidden, "The admin API does not serve the pages of other sites.", nil)
	}))
	return protection.Handler(serve)
}

// authorized serves who has the token.
func (h *handler) authorized(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		want := ""
		if h.Gateway != nil {
			want = h.Gateway.AdminToken()
		}
		if want == "" {
			writeProblem(w, http.StatusForbidden, "The admin API is off: admin.token is not set.", nil)
			return
		}
		scheme, got, _ := strings.Cut(r.Header.Get("Authorization"), " ")
		if !strings.EqualFold(scheme, "Bearer") || got == "" {
			h.unauthorized(w, noToken)
			return
		}
		same, wait := h.lockout.compare(r.RemoteAddr, got, want)
		switch {
		case wait > 0:
			h.refused.WithLabelValues(lockedOut).Inc()
			w.Header().Set("Retry-After", strconv.Itoa(int((wait+time.Second-1)/time.Second)))
			writeProblem(w, http.StatusTooManyRequests, "Too many wrong tokens came. One a second is still looked at.", nil)
			return
		case !same:
			h.unauthorized(w, wrongToken)
			return
		}
		serve(w, r)
	}
}

func (h *handler) unauthorized(w http.ResponseWriter, reason string) {
	h.refused.WithLabelValues(reason).Inc()
	w.Header().Set("WWW-Authenticate", `Bearer realm="metergate admin"`)
	writeProblem(w, http.StatusUnauthorized, "The admin API needs its token.", nil)
}

func (h *handler) reload(w http.ResponseWriter, _ *http.Request) {
	warnings, err := h.Gateway.ReloadConfig()
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
	kind := "about:blank"
	if status == http.StatusServiceUnavailable {
		kind = "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity"
		w.Header().Set("Retry-After", "1")
	}
	w.Header().Set("Content-Type", "application/problem+json")
	write(w, status, struct {
		Type   string   `json:"type"`
		Title  string   `json:"title"`
		Status int      `json:"status"`
		Detail string   `json:"detail"`
		Faults []string `json:"faults,omitempty"`
	}{kind, http.StatusText(status), status, detail, faults})
}

type readiness struct {
	Status string            `json:"status"`
	Checks map[string]string `json:"checks,omitempty"` // "ok", or what is wrong
}

// runChecks runs all checks at once and returns "ok" or the fault for each name.
func runChecks(ctx context.Context, checks map[string]func(context.Context) error) map[string]string {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var (
		mu      sync.Mutex
		wait    sync.WaitGroup
		results = map[string]string{}
	)
	for name, check := range checks {
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
	w.WriteHeader(status)
	json.NewEncoder(w).Encode(v)
}
