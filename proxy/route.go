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
	"metergate/quota"
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
	// DropAuthorization keeps the Authorization header from the upstream. KeepCookie lets the cookie
	// through that may have the token.
	DropAuthorization, KeepCookie bool
	// ExactPaths: the upstream tells paths apart that differ only in letter case, a slash at
	// the end, parameters or an extension, so near matches of other routes are served.
	ExactPaths bool
	// Targets are the addresses of the upstream. Routes with one in common lead to the same
	// server.
	Targets []string
	// Observe: neither a limit nor the limit of attempts blocks a request, whatever the plan
	// says, see quota.Request.InObserveMode. Only with an Endpoint. False: the plan decides.
	Observe bool
	// Cost is what a request is charged, in units. Only with an Endpoint.
	Cost Cost
}

// Terms returns what the route demands.
func (r *Route) Terms() routetable.Terms {
	cost := r.Cost
	if cost.Each, cost.Max = max(1, cost.Each), cost.MaxUnits(); !cost.isReported() {
		cost.Min = cost.Max // each request is charged that
	}
	return routetable.Terms{Endpoint: r.Endpoint, Public: r.Public, Observe: r.Observe, Cost: cost, Targets: r.Targets}
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
	case r.Cost.isSet() && r.Endpoint == "":
		return errors.New("without an endpoint there is nothing to charge")
	case r.Cost.Min < 0 || r.Cost.Min > r.Cost.MaxUnits() || r.Cost.MaxUnits() > quota.MaxCost || r.Cost.Each < 0:
		return errors.New("the cost is out of its bounds")
	case r.Cost.Header != "" && r.Cost.isInBody():
		return errors.New("the cost is either in a header or in the body")
	case r.Observe && r.Endpoint == "":
		return errors.New("without an endpoint there is nothing to observe")
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
	stream bool // it is GET /usage/stream
	terms  routetable.Terms
	// mayBeNear: its pattern has wildcards, which may match what is nearly the path of a
	// route that demands more. One without wildcards serves the one path that the operator
	// chose.
	mayBeNear bool
	// within are routes that lead to some of the same paths of the upstream, since they strip
	// another prefix, and demand more.
	within []*route
	// nearLogged is set when the log has a line about a near match of this route.
	nearLogged atomic.Bool
}

// takesQueryToken reports whether a request of the route may bring its token in the query: browsers
// open streams and WebSockets without an Authorization header.
func (rt *route) takesQueryToken() bool { return rt.stream || rt.Upgrade }

var errNoRoute = errors.New("no route")

// A methodError says that the path has a route, but not for the request's method.
type methodError struct{ allow string }

func (methodError) Error() string { return "method not allowed" }

// A nearError says that the upstream might serve the request with the handler of another
// route, which demands more than the one that matches.
type nearError struct{ route, evaded *route }

func (e *nearError) Error() string {
	return "the path leads to that of the route " + e.evaded.Pattern +
		", or differs from it only in letter case, a slash at the end, a ;parameter or an extension; " + e.route.Pattern + " does not serve it without exact_paths"
}

// A router finds the route of a request: the gateway's own resources come first, and
// hide what is configured. They have tables of their own, because a ServeMux finds that
// "/usage/" and "GET /" conflict. Those for any method come after the others, whose Allow
// they would hide.
type router struct {
	gateway, gatewayAnyMethod, configured *routetable.Table[route]
	demanding                             routetable.NearTable // configured routes that are metered or need a token
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
		rt.compare(routes)
	}
	return r, nil
}

// compare finds out what a request of rt has to be compared with. If two routes with different
// prefixes both have endpoints, that is meant: /v1 and /v2 may count apart.
func (rt *route) compare(routes []*route) {
	evades := false
	for _, other := range routes {
		if other.answer != nil || !rt.terms.Evades(&other.terms) {
			continue
		}
		evades = true
		if rt.mayBeNear && rt.Endpoint == "" && rt.StripPrefix != other.StripPrefix && rt.terms.SharesTarget(&other.terms) &&
			routetable.OverlapBehind(rt.Pattern, rt.StripPrefix, other.Pattern, other.StripPrefix) == routetable.Within {
			rt.within = append(rt.within, other)
		}
	}
	rt.mayBeNear = rt.mayBeNear && evades
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
		rt.terms = rt.Terms()
		rt.mayBeNear = !rt.ExactPaths && routetable.HasWildcards(rt.Pattern)
		if !rt.Public {
			r.demanding.Add(rt.Pattern)
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
				if evaded := r.findEvaded(rt, host, req.Method, path); evaded != nil {
					return nil, &nearError{rt, evaded}
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

// findEvaded returns a route whose handler a lenient framework might run for a request of
// rt, and that demands more than rt; nil if no route does.
func (r *router) findEvaded(rt *route, host, method, path string) *route {
	if evaded := r.findNear(rt, host, method, path); evaded != nil {
		return evaded
	}
	_, forwarded := urlpath.CutPrefix(path, rt.StripPrefix)
	for _, other := range rt.within {
		_, _, otherPath := urlpath.SplitPattern(other.Pattern)
		prefix, _ := urlpath.CutPrefix(otherPath, other.StripPrefix)
		evaded := r.configured.Find(host, method, prefix+forwarded)
		if evaded != other {
			evaded = r.findNear(rt, host, method, prefix+forwarded)
		}
		if evaded == other {
			return evaded
		}
	}
	return nil
}

// findNear returns a route that demands more than rt and would serve a path if that were
// written in a way that lenient frameworks take for the same; nil if there is no such route.
func (r *router) findNear(rt *route, host, method, path string) (evaded *route) {
	r.demanding.Find(host, path, func(nearPath string) bool {
		if other := r.configured.Find(host, method, nearPath); other != nil && rt.terms.Evades(&other.terms) {
			evaded = other
		}
		return evaded != nil
	})
	return evaded
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
