package proxy

import (
	"cmp"
	"errors"
	"fmt"
	"log"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/rs/cors"

	"metergate/proxy/apikeys"
	"metergate/proxy/credential"
	"metergate/proxy/jwtauth"
	"metergate/proxy/tracing"
	"metergate/proxy/trust"
	"metergate/quota"
	"metergate/quota/ratelog"
)

// Options are what a Gateway is made of. A field is required unless it says what its
// zero value means.
type Options struct {
	Store Store
	// Verifier judges tokens; nil: none is accepted.
	Verifier *jwtauth.Verifier
	// APIKeys are the API keys of programs; nil: none is accepted.
	APIKeys *apikeys.Set
	// Cookie is the name of the cookie that may have a token, and CookieOrigins are those that
	// requests with it may come from; empty: no cookie.
	Cookie        string
	CookieOrigins []string
	// QueryParam is the parameter of the query that may have a token, for GET /usage/stream and
	// routes with Upgrade; empty: none.
	QueryParam string
	// Plans by name. DefaultPlan is one of them; it is for tokens that claim no plan or
	// an unknown one.
	Plans       map[string]*quota.Plan
	DefaultPlan string
	// KeepsTerms says that stores look at the terms of accounts, see quota.PlanChoice. False: they
	// do not, whatever the plans say.
	KeepsTerms bool
	// Location is the time zone in which the day of a token's anchor counts; nil: UTC.
	Location *time.Location
	// HistoryDays is for how many days the store keeps a history; 0: it keeps none.
	HistoryDays int
	// Routes of the configuration; the gateway adds its own below /usage. nil: none.
	Routes []Route
	// TrustedProxies are the networks of the operator's own proxies, which are believed
	// about where a request comes from; nil: none is believed.
	TrustedProxies []netip.Prefix
	// PassHeaders are request headers that reach upstreams although frameworks believe that a
	// proxy wrote them; nil: none.
	PassHeaders []string
	// MaxInFlight limits how many requests are served at once; 0: 10,000. Public routes
	// may have a quarter of that, rounded up. MaxUserInFlight limits the requests of one
	// user; 0: no limit. Usage streams have limits of their own.
	MaxInFlight, MaxUserInFlight int
	// InFlight counts the requests that are being served; nil: a new count.
	InFlight *InFlight
	// UpgradeURL is sent with a 429, and PlanUpgradeURLs has those that users of some plans get
	// instead, by the plan's name; empty: it is left out.
	UpgradeURL      string
	PlanUpgradeURLs map[string]string
	// CORS answers browsers on other origins; nil: it is off.
	CORS *CORS
	// Streams are the open usage streams; nil: a new set.
	Streams *Streams
	Metrics *Metrics
	// Tracer makes spans of requests; nil: there are none.
	Tracer *tracing.Tracer
	Log    *slog.Logger
	// LogUser is how the access log names users; zero: by their ids.
	LogUser LogUser
	// QuietSuccesses is the share of 2xx responses that get no line in the access log, 0 to
	// 1; 0: all get one. A request that would have been blocked always gets one.
	QuietSuccesses float64
}

// CORS says which other origins may call the gateway from a browser.
type CORS struct {
	// AllowedOrigins are origins such as "https://app.example.com", or "*" for any. In
	// "https://*.example.app", the * stands for one label of a name, whatever it is.
	AllowedOrigins []string
	// AllowCredentials allows cookies. It cannot be combined with "*".
	AllowCredentials bool
}

// A Gateway is the public handler. It does not change: a reload makes another one on the
// same Store.
type Gateway struct {
	store       Store
	verifier    *jwtauth.Verifier // nil: there are no tokens
	apiKeys     *apikeys.Set
	sources     credential.Sources
	plans       map[string]*quota.Plan
	defaultPlan *quota.Plan
	keepsTerms  bool
	location    *time.Location
	historyDays int
	router      *router
	proxies     trust.Proxies
	untrusted   trust.UntrustedHeaders
	upgradeURL  string
	planURLs    map[string]string // of plans with an upgrade URL of their own
	reportsCost bool              // a route has a cost
	via         via
	cors        *cors.Cors // nil: off
	streams     *Streams

	inFlight                     *InFlight
	maxInFlight, maxUserInFlight int
	// These are stallTimeout, lingerTimeout and lingerPause, shorter in tests.
	stall, lingerTimeout, lingerPause time.Duration

	metrics   *Metrics
	tracer    *tracing.Tracer // nil: nothing is traced
	log       *slog.Logger
	errorLog  *log.Logger // of net/http
	accessLog accessLog
	// These may happen to every request.
	panicked, unsettled, costUnknown, costOverMax, overloaded, badAnchor *ratelog.Line
}

// New makes a Gateway. It returns an error if the default plan is unknown, if routes
// conflict or are metered without a token, and if CORS allows any origin with
// credentials.
func New(o Options) (*Gateway, error) {
	g := &Gateway{
		store:           &measuredStore{o.Store, o.Metrics, o.Tracer != nil},
		verifier:        o.Verifier,
		apiKeys:         o.APIKeys,
		sources:         credential.Sources{APIKeys: o.APIKeys != nil, Cookie: o.Cookie, Origins: o.CookieOrigins, QueryParam: o.QueryParam},
		plans:           o.Plans,
		defaultPlan:     o.Plans[o.DefaultPlan],
		keepsTerms:      o.KeepsTerms,
		location:        cmp.Or(o.Location, time.UTC),
		historyDays:     o.HistoryDays,
		proxies:         o.TrustedProxies,
		untrusted:       trust.NewUntrustedHeaders(headersOfUpstreams(o.Routes), o.PassHeaders),
		upgradeURL:      o.UpgradeURL,
		planURLs:        o.PlanUpgradeURLs,
		via:             newVia(),
		streams:         o.Streams,
		inFlight:        o.InFlight,
		maxInFlight:     cmp.Or(o.MaxInFlight, 10_000),
		maxUserInFlight: o.MaxUserInFlight,
		stall:           stallTimeout,
		lingerTimeout:   lingerTimeout,
		lingerPause:     lingerPause,
		metrics:         o.Metrics,
		tracer:          o.Tracer,
		log:             o.Log,
		errorLog:        slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
		accessLog:       accessLog{o.Log, o.LogUser, o.QuietSuccesses},
		panicked:        ratelog.New(o.Log, slog.LevelError, "the gateway panicked; this is a bug, please report it"),
		overloaded:      ratelog.New(o.Log, slog.LevelWarn, "requests are refused, because as many are running as this gateway has room for"),
		unsettled:       ratelog.New(o.Log, slog.LevelError, "neither the store nor the journal recorded a request's outcome; it may not be counted"),
	}
	g.badAnchor = ratelog.New(o.Log, slog.LevelWarn, "a token's anchor cannot be read; the user's months begin on the 1st")
	g.costUnknown = ratelog.New(o.Log, slog.LevelWarn, "a response does not say what it cost")
	g.costOverMax = ratelog.New(o.Log, slog.LevelWarn, "a response says that it cost more than the route's cost.max, which is what was charged")
	if g.streams == nil {
		g.streams = NewStreams()
	}
	if g.inFlight == nil {
		g.inFlight = NewInFlight()
	}
	if g.defaultPlan == nil {
		return nil, fmt.Errorf("default plan %q is not defined", o.DefaultPlan)
	}
	routes := gatewayRoutes()
	for _, r := range o.Routes {
		routes = append(routes, &route{Route: r})
		g.reportsCost = g.reportsCost || r.Cost.isSet()
	}
	var err error
	if g.router, err = newRouter(routes); err != nil {
		return nil, err
	}
	if o.CORS != nil {
		if g.cors, err = newCORS(o.CORS); err != nil {
			return nil, err
		}
	}
	return g, nil
}

// upgradeURLOf returns where users of a plan can upgrade; empty: it is not known.
func (g *Gateway) upgradeURLOf(p *quota.Plan) string {
	return cmp.Or(g.planURLs[p.Name()], g.upgradeURL)
}

// headersOfUpstreams returns the headers that tell upstreams about users, on any route.
func headersOfUpstreams(routes []Route) (names []string) {
	for _, r := range routes {
		names = append(names, r.UserHeader, r.PlanHeader)
	}
	return names
}

func newCORS(c *CORS) (*cors.Cors, error) {
	if c.AllowCredentials && slices.Contains(c.AllowedOrigins, "*") {
		return nil, errors.New("cors: any origin (*) with credentials would let every site act for its visitors")
	}
	options := cors.Options{
		AllowedOrigins:   c.AllowedOrigins,
		AllowCredentials: c.AllowCredentials,
		AllowedMethods:   []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"},
		AllowedHeaders:   []string{"*"},
		ExposedHeaders:   exposedHeaders,
		MaxAge:           600, // seconds
	}
	if !slices.Contains(c.AllowedOrigins, "*") {
		// A * of the library's own patterns stands for any text, also for several labels or "x@".
		options.AllowOriginFunc = func(origin string) bool {
			origin = strings.ToLower(origin)
			return slices.ContainsFunc(c.AllowedOrigins, func(allowed string) bool { return matchesOrigin(allowed, origin) })
		}
	}
	return cors.New(options), nil
}

// matchesOrigin reports whether an origin in lower case is the allowed one, in which a * may stand
// for one label of a name.
func matchesOrigin(allowed, origin string) bool {
	before, after, wildcard := strings.Cut(strings.ToLower(allowed), "*")
	if !wildcard {
		return before == origin
	}
	label, found := strings.CutPrefix(origin, before)
	if !found {
		return false
	}
	label, found = strings.CutSuffix(label, after)
	isOther := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' && r != '_' }
	return found && label != "" && !strings.ContainsFunc(label, isOther)
}

// originFault says why a browser on another origin will not send the request for which it
// sent this preflight; nil: it will.
func (g *Gateway) originFault(r *http.Request) error {
	origin := truncate(r.Header.Get("Origin"), maxLoggedOrigin)
	switch {
	case g.cors == nil:
		return fmt.Errorf("a browser asks for the origin %q, and the configuration has no cors.allowed_origins", origin)
	case !g.cors.OriginAllowed(r):
		return fmt.Errorf("the origin %q is not in cors.allowed_origins", origin)
	}
	return nil
}

// PlansFor returns the plans that may apply to a user whose token claims a plan. Without
// a claim, or with one that the configuration does not have, the claimed plan is the
// default.
func (g *Gateway) PlansFor(claim string) quota.PlanChoice {
	plans := quota.PlanChoice{Claimed: g.plans[claim], ByName: g.plans, Terms: g.keepsTerms}
	if plans.Claimed == nil {
		plans.Claimed = g.defaultPlan
	}
	return plans
}
