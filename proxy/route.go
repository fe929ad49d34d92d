package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"metergate/proxy/routetable"
	"metergate/proxy/urlpath"
)

// A Route says which requests go where, and under which name they count.
type Route struct {
	// Pattern is a pattern of http.ServeMux: "POST /api/analyze", "/api/{id}".
	Pattern string
	// Endpoint is the name that requests count under; empty: they are not metered.
	Endpoint string
	// Public: no token is needed. Only without an Endpoint.
	Public bool
	// Upstream sends a request to where it is served. It fills in scheme and host, and may
	// put something before the path.
	Upstream http.RoundTripper
	// UpstreamName is its name in the log and in metrics.
	UpstreamName string
	// Timeout limits the time from the reservation to the headers of the final response.
	// It must be positive.
	Timeout time.Duration
	// MaxBody limits a request's body, in bytes; 0: only empty bodies are accepted.
	MaxBody int64
	// StripPrefix is cut off the path that the upstream gets; empty: nothing is. The
	// Pattern's path begins with it, up to a slash or to its end.
	StripPrefix string
	// Upgrade lets client and upstream switch to another protocol. Nothing that follows is
	// metered. Only without an Endpoint.
	Upgrade bool
	// UserHeader and PlanHeader name the headers that tell the upstream the user and the plan;
	// empty: it is not told. A client's headers of these names are removed on all routes.
	UserHeader, PlanHeader string
	// DropAuthorization keeps the token from the upstream.
	DropAuthorization bool
	// ExactPaths: the upstream tells paths apart that differ only in letter case, a slash at
	// the end, parameters or an extension, so near matches of metered routes are served. Only
	// without an Endpoint.
	ExactPaths bool
	// Observe: neither a limit nor the limit of attempts blocks a request, whatever the plan
	// says, see quota.Request.InObserveMode. Only with an Endpoint. False: the plan decides.
	Observe bool
}

// check returns an error if fields contradict each other.
func (r *Route) check() error {
	switch {
	case r.Endpoint != "" && r.Public:
		return errors.New("a metered route needs a token")
	case r.Public && (r.UserHeader != "" || r.PlanHeader != ""):
		return errors.New("without a token there is no user to tell the upstream about")
	case r.Endpoint != "" && r.Upgrade:
		return errors.New("what follows a protocol upgrade cannot be metered")
	case r.Observe && r.Endpoint == "":
		return errors.New("without an endpoint there is nothing to observe")
	case r.ExactPaths && r.Endpoint != "":
		return errors.New("near matches are refused only on routes without an endpoint")
	}
	return nil
}

// route is a Route, or one of the gateway's own resources.
type route struct {
	Route
	// answer answers instead of an upstream; nil for a Route of the configuration.
	answer func(*exchange)
	// exempt: its requests do not count among those in flight. They are bounded in
	// another way: streams by Streams, a file or a 404 by stallTimeout.
	exempt bool
	// mayBeNear: its pattern has wildcards, which may match what is nearly the path of a
	// metered route. A route without wildcards serves the one path that the operator chose.
	mayBeNear bool
	// nearLogged is set, for a metered route, when the log has a line about a near match.
	nearLogged atomic.Bool
}

var errNoRoute = errors.New("no route")

// A methodError says that the path has a route, but not for the request's method.
type methodError struct{ allow string }

func (methodError) Error() string { return "method not allowed" }

// A nearError says that the path is nearly that of a metered route, and that the route that
// matches it is not metered. The upstream might serve it with the metered route's handler.
type nearError struct{ route, metered *route }

func (e *nearError) Error() string {
	return "the path differs from that of the metered route " + e.metered.Pattern +
		" only in letter case, a slash at the end, a ;parameter or an extension; " + e.route.Pattern + " does not serve it without exact_paths"
}

// A router finds the route of a request: the gateway's own resources come first, and
// hide what is configured. They have tables of their own, because a ServeMux finds that
// "/usage/" and "GET /" conflict. Those for any method come after the others, whose Allow
// they would hide.
type router struct {
	gateway, gatewayAnyMethod, configured *routetable.Table[route]
	metered                               routetable.NearTable
	// methods are those of the configured patterns.
	methods map[string]bool
}

// newRouter returns an error for a pattern that is malformed, that conflicts with another
// one or that can never match, and for a route whose fields contradict each other.
func newRouter(routes []*route) (*router, error) {
	r := &router{gateway: routetable.New[route](), gatewayAnyMethod: routetable.New[route](), configured: routetable.New[route](),
		methods: map[string]bool{}}
	for _, rt := range routes {
		if err := r.add(rt); err != nil {
			return nil, fmt.Errorf("routes: %s: %w", rt.Pattern, err)
		}
	}
	for _, rt := range routes {
		_, host, path := urlpath.SplitPattern(rt.Pattern)
		if rt.answer == nil && len(r.gateway.Methods(host, path))+len(r.gatewayAnyMethod.Methods(host, path)) > 0 {
			return nil, fmt.Errorf("routes: %s: the path is the gateway's own", rt.Pattern)
		}
	}
	return r, nil
}

func (r *router) add(rt *route) error {
	if rt.answer == nil {
		if err := rt.check(); err != nil {
			return err
		}
		if err := r.configured.Add(rt.Pattern, rt); err != nil {
			return err
		}
		method, _, _ := urlpath.SplitPattern(rt.Pattern)
		r.methods[method] = true
		if rt.Endpoint != "" {
			r.metered.Add(rt.Pattern)
		} else {
			rt.mayBeNear = !rt.ExactPaths && routetable.HasWildcards(rt.Pattern)
		}
		return nil
	}
	if method, _, _ := urlpath.SplitPattern(rt.Pattern); method == "" {
		return r.gatewayAnyMethod.Add(rt.Pattern, rt)
	}
	return r.gateway.Add(rt.Pattern, rt)
}

// find returns the route of a request whose path is canonical. Errors: errNoRoute,
// methodError, nearError.
func (r *router) find(req *http.Request) (*route, error) {
	host, path := urlpath.HostOf(req), req.URL.EscapedPath()
	for _, t := range [...]*routetable.Table[route]{r.gateway, r.gatewayAnyMethod, r.configured} {
		if rt := t.Find(host, req.Method, path); rt != nil && req.Method != http.MethodTrace {
			if rt.mayBeNear {
				if metered := r.findMetered(host, req.Method, path); metered != nil {
					return nil, &nearError{rt, metered}
				}
			}
			return rt, nil
		}
		if allow := t.Methods(host, path); len(allow) > 0 {
			return nil, methodError{strings.Join(allow, ", ")}
		}
	}
	return nil, errNoRoute
}

// findMetered returns a metered route that the request would take if its path were written
// in a way that lenient frameworks take for the same, or nil.
func (r *router) findMetered(host, method, path string) (metered *route) {
	r.metered.Find(host, path, func(nearPath string) bool {
		if rt := r.configured.Find(host, method, nearPath); rt != nil && rt.Endpoint != "" {
			metered = rt
		}
		return metered != nil
	})
	return metered
}

// checkMethod refuses a method that differs only in letter case from a standard one or from
// one that a route has. Methods are case-sensitive (RFC 9110, section 9.1), but Werkzeug, and
// so Flask, runs the handler of POST for post, which another route would let through.
func (r *router) checkMethod(method string) error {
	if strings.IndexFunc(method, func(c rune) bool { return 'a' <= c && c <= 'z' }) < 0 || r.methods[method] {
		return nil
	}
	upper := strings.ToUpper(method)
	if slices.Contains(standardMethods, upper) || r.methods[upper] {
		return fmt.Errorf("%w: the method must be %s, in upper case", errFraming, upper)
	}
	return nil
}

// standardMethods are those of RFC 9110, section 9.3, and of RFC 5789.
var standardMethods = []string{
	http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete,
	http.MethodConnect, http.MethodOptions, http.MethodTrace, http.MethodPatch,
}
