// Package admin is the gateway's second listener, for operators: health, metrics and the
// admin API. Clients must not be able to reach it.
package admin

import (
	"context"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"metergate/proxy/admin/console"
	"metergate/proxy/admin/recent"
	"metergate/proxy/admin/scans"
	"metergate/quota"
)

// Options configure a Handler. With the zero value the process is always ready, has no
// metrics and no admin API.
type Options struct {
	// Probes are what /readyz reports; nil: always ready, without checks.
	Probes Probes
	// Gateway is what the admin API shows and reloads; nil: the API answers 403, and
	// /admin/config, /admin/reload and /admin/data/accept are 404.
	Gateway Gateway
	// Upstreams are what /admin/upstreams shows and drains; nil: it is 404. It needs Gateway.
	Upstreams Upstreams
	// Registry has the metrics that /metrics serves, and gets the handler's own; nil:
	// /metrics is 404.
	Registry *prometheus.Registry
	// Log receives a warning when somebody guesses the token; nil: no log.
	Log *slog.Logger
	// Store keeps what users have used; nil: nothing is served at /admin/users, /admin/orgs,
	// /admin/counts and /admin/bills. It needs Gateway, Calendar and Clock.
	Store Store
	// HistoryDays is for how many days the store keeps a history; 0: it keeps none.
	HistoryDays int
	// Calendar is the store's.
	Calendar *quota.Calendar
	// Clock is the store's.
	Clock Clock
	// Monitor is what the overview shows; nil: /admin/session, /admin/overview and /admin/events are 404.
	// It needs Gateway and Recent.
	Monitor Monitor
	// Recent has the last hour.
	Recent *recent.Sampler
	// EventStreams counts the streams of /admin/events; nil: a count of its own, which nobody ends.
	EventStreams *EventStreams
	// Actions is the list to which the actions of administrators are added; nil: a list of its own.
	Actions *Actions
	// Backups makes the copies that GET /admin/backup sends; nil: it answers 501.
	Backups Backups
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
	// Tokens returns the tokens that the admin API asks for.
	Tokens() Tokens
	// AdminHosts returns the names for which the listener answers, besides loopback names
	// and addresses.
	AdminHosts() []string
	// ReloadConfig loads the configuration again and returns the changes that need a
	// restart. Each line of the error's text is shown to the operator.
	ReloadConfig() (warnings []string, err error)
	// AcceptData accepts the data that the store has now in place of what it has lost. It returns
	// how many parts of the store had a loss; 0: there was none. An error means that the store did
	// not answer.
	AcceptData(context.Context) (parts int, err error)
	// EffectiveConfig returns the configuration in force, without secrets, to be shown
	// as JSON.
	EffectiveConfig() any
	// PlansFor returns the plans that may apply to a user whose token claims a plan. An
	// empty or unknown claim means the default plan.
	PlansFor(claim string) quota.PlanChoice
	// HasOrganisations reports whether tokens can name an organisation: lists then say which.
	HasOrganisations() bool
}

// A Clock tells the time.
type Clock interface {
	Now() time.Time
}

const (
	// writeTimeout bounds writing a response. A handler that may take longer, such as that
	// of a long list, extends it with an http.ResponseController.
	writeTimeout = 30 * time.Second
	maxBodyBytes = 1 << 20 // of a request
)

// A handler serves what its Options configure.
type handler struct {
	Options
	wrongTokens *wrongTokens
	refused     *prometheus.CounterVec // by reason
	scans       *scans.Scans           // nil without a Store
	// wrongHostLogged is set when the log has a line about a name in Host.
	wrongHostLogged atomic.Bool
	// backingUp is set while a backup is made and sent.
	backingUp atomic.Bool
	profiler  profiler
}

// Handler serves GET /livez, /readyz and /metrics, the admin API below /admin/, and the console, which
// is a page for it.
func Handler(o Options) http.Handler {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Actions == nil {
		o.Actions = new(Actions)
	}
	if o.EventStreams == nil {
		o.EventStreams = new(EventStreams)
	}
	h := &handler{Options: o, wrongTokens: newWrongTokens(o.Log), refused: newRefusedCounter(o.Registry)}
	if o.Store != nil {
		h.scans = scans.New(o.Store, o.Clock)
	}
	mux := http.NewServeMux()
	for _, r := range h.resources() {
		if r.on {
			mux.Handle(r.pattern, h.guard(r))
		}
	}
	return withBounds(h.knownHostsOnly(sameOriginOnly(h.route(mux))))
}

// A resource is what a pattern of the mux serves, if it is on.
type resource struct {
	pattern string
	on      bool
	// role is the least that may use it. What only reads is for viewers, unless it shows more than they
	// should see.
	role role
	// action is its name in the list of actions and in the log; empty: it changes nothing.
	action string
	serve  http.HandlerFunc
}

// resources are all but those at and below usersPrefix and orgsPrefix, which viewers may read and
// administrators change. Changes there are in the audit logs of users.
func (h *handler) resources() []resource {
	gateway, store, monitor, upstreams := h.Gateway != nil, h.Store != nil, h.Monitor != nil, h.Upstreams != nil
	return []resource{
		{"GET /livez", true, anyone, "", h.livez},
		{"GET /readyz", true, anyone, "", h.readyz},
		{"GET /metrics", h.Registry != nil, anyone, "", promhttp.HandlerFor(h.Registry, promhttp.HandlerOpts{EnableOpenMetrics: true}).ServeHTTP},
		{"GET /{$}", gateway, anyone, "", serveConsole},
		{"GET /console/{file...}", gateway, anyone, "", serveConsole},
		{"GET /admin/audit", gateway, viewer, "", withoutQuery(h.getActions)},
		{"GET /admin/session", monitor, viewer, "", withoutQuery(h.getSession)},
		{"GET /admin/overview", monitor, viewer, "", withoutQuery(h.getOverview)},
		{"GET /admin/events", monitor, viewer, "", withoutQuery(h.getEvents)},
		{"GET /admin/config", gateway, viewer, "", withoutQuery(h.getConfig)},
		{"GET /admin/plans", store, viewer, "", h.getPlans},
		{"GET /admin/plans/check", store, viewer, "", h.getPlanCheck},
		{"GET /admin/search/users", store, viewer, "", h.getSearch},
		{"POST /admin/reload", gateway, administrator, "reload", h.postReload},
		{"POST /admin/data/accept", gateway, administrator, "accept data", h.postAcceptData},
		// Administrators only: a profile slows the gateway down, and shows the inside of the program.
		{"GET /debug/pprof/{profile}", gateway, administrator, "", h.getProfile},
		{"GET /admin/backup", gateway, administrator, "backup", h.getBackup},
		{"GET /admin/upstreams", upstreams, viewer, "", withoutQuery(h.getUpstreams)},
		{"POST /admin/upstreams/{upstream}/drain", upstreams, administrator, "drain", h.setDrained(true)},
		{"POST /admin/upstreams/{upstream}/undrain", upstreams, administrator, "undrain", h.setDrained(false)},
		{"PUT /admin/counts", store, administrator, "import counts", h.putCounts},
		{"GET /admin/bills", store, viewer, "", h.getBills},
		{"POST /admin/bills", store, administrator, "make bills", h.postBills},
		{"POST /admin/bills/sent", store, administrator, "end bills", h.postBillsSent},
	}
}

// guard returns the handler of a resource, with its role and its action.
func (h *handler) guard(r resource) http.HandlerFunc {
	serve := r.serve
	if r.action != "" {
		serve = h.audited(r.action, serve)
	}
	return h.requireRole(r.role, serve)
}

// consolePage serves the files of the console. They hold no data: their scripts ask the admin API for
// that, with a token.
var consolePage = console.Handler()

func serveConsole(w http.ResponseWriter, r *http.Request) {
	if fallback, pattern := consolePage.Handler(r); pattern == "" {
		writeNoRoute(w, r, fallback)
		return
	}
	consolePage.ServeHTTP(w, r)
}

// withoutQuery refuses requests with query parameters, so that nobody believes that they have an effect.
func withoutQuery(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if _, err := (&userRequest{r: r}).queryParams(); err != nil {
			writeError(w, r, err)
			return
		}
		serve(w, r)
	}
}

// patternEnds are parts of a pattern of http.ServeMux that [Routes] leaves out.
var patternEnds = strings.NewReplacer("{$}", "", "...}", "}")

// Routes returns a pattern for each resource that a [Handler] with all Options serves, such as
// "GET /admin/users/{user}/plan".
func Routes() (patterns []string) {
	for _, r := range new(handler).resources() {
		patterns = append(patterns, patternEnds.Replace(r.pattern))
	}
	add := func(path string, resources map[string]methods) {
		for segment, methods := range resources {
			path := path
			if segment != "" {
				path += "/" + segment
			}
			for method := range methods {
				patterns = append(patterns, method+" "+path)
			}
		}
	}
	add(usersPrefix, map[string]methods{"": allUsers})
	add(usersPrefix+"/{user}", oneUser)
	add(orgsPrefix+"/{org}", oneOrg)
	add(orgsPrefix+"/{org}/"+membersSegment+"/{user}", oneUser)
	slices.Sort(patterns)
	return patterns
}

// route sends requests at and below usersPrefix and orgsPrefix to serveAccounts, and the rest to mux.
func (h *handler) route(mux *http.ServeMux) http.Handler {
	serveAccounts := h.requireRoleToChange(h.serveAccounts)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if h.scans != nil && r.Method != http.MethodGet && r.Method != http.MethodHead {
			defer h.scans.Changed()
		}
		if isAccountPath(r) && h.Store != nil {
			serveAccounts(w, r)
			return
		}
		if fallback, pattern := mux.Handler(r); pattern == "" {
			writeNoRoute(w, r, fallback)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

// writeNoRoute answers 404 or 405 with a problem document. fallback is the handler that a
// ServeMux returns if no pattern matches; it would answer the same in plain text.
func writeNoRoute(w http.ResponseWriter, r *http.Request, fallback http.Handler) {
	would := headRecorder{header: http.Header{}, status: http.StatusNotFound}
	fallback.ServeHTTP(&would, r)
	if allow := would.header.Get("Allow"); would.status == http.StatusMethodNotAllowed {
		w.Header().Set("Allow", allow)
		writeProblem(w, would.status, "This path is served for "+allow+".", nil)
		return
	}
	writeProblem(w, http.StatusNotFound, "Nothing is here.", nil)
}

// A headRecorder records a response's status and headers, and drops its body.
type headRecorder struct {
	header http.Header
	status int
}

func (r *headRecorder) Header() http.Header         { return r.header }
func (r *headRecorder) WriteHeader(status int)      { r.status = status }
func (r *headRecorder) Write(p []byte) (int, error) { return len(p), nil }

// withBounds bounds the request's body and the time to write, and sets the headers that
// all responses share: they are for programs, not for pages in a browser. None of them
// allows another origin.
func withBounds(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).SetWriteDeadline(time.Now().Add(writeTimeout))
		r.Body = http.MaxBytesReader(w, r.Body, maxBodyBytes)
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("X-Content-Type-Options", "nosniff")
		next.ServeHTTP(w, r)
	})
}

// sameOriginOnly refuses requests that a browser sends for a page of another site.
func sameOriginOnly(next http.Handler) http.Handler {
	protection := http.NewCrossOriginProtection()
	protection.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		writeProblem(w, http.StatusForbidden, "The admin API does not serve pages of other sites.", nil)
	}))
	return protection.Handler(next)
}

func (h *handler) getConfig(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, h.Gateway.EffectiveConfig())
}

func (h *handler) postReload(w http.ResponseWriter, r *http.Request) {
	if err := h.reasonOf(w, r); err != nil {
		writeError(w, r, err)
		return
	}
	warnings, err := h.Gateway.ReloadConfig()
	if err != nil {
		writeProblem(w, http.StatusUnprocessableEntity, "The configuration was refused; the previous one stays in force.", strings.Split(err.Error(), "\n"))
		return
	}
	noteDetail(w, "%s", strings.Join(warnings, "; "))
	writeJSON(w, http.StatusOK, struct {
		Status   string   `json:"status"`
		Warnings []string `json:"warnings,omitempty"` // what needs a restart
	}{"reloaded", warnings})
}

func (h *handler) postAcceptData(w http.ResponseWriter, r *http.Request) {
	if err := h.reasonOf(w, r); err != nil {
		writeError(w, r, err)
		return
	}
	parts, err := h.Gateway.AcceptData(r.Context())
	if err != nil {
		writeProblem(w, http.StatusServiceUnavailable, "The store does not answer; the data are not accepted yet. Try again.", nil)
		return
	}
	status := "accepted"
	if parts == 0 {
		status = "nothing_lost"
	}
	noteDetail(w, "%d parts of the store had lost data", parts)
	writeJSON(w, http.StatusOK, struct {
		Status string `json:"status"`
		Parts  int    `json:"parts"` // masters of Redis whose data were accepted
	}{status, parts})
}
