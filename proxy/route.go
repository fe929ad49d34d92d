package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
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
}

var errNoRoute = errors.New("no route")

// A methodError says that the path has a route, but not for the request's method.
type methodError struct{ allow string }

func (methodError) Error() string { return "method not allowed" }

// A router finds the route of a request: the gateway's own resources come first, and
// hide what is configured. They have tables of their own, because a ServeMux finds that
// "/usage/" and "GET /" conflict. Those for any method come after the others, whose Allow
// they would hide.
type router struct {
	gateway, gatewayAnyMethod, configured *routetable.Table[route]
}

// newRouter returns an error for a pattern that is malformed, that conflicts with another
// one or that can never match, and for a route whose fields contradict each other.
func newRouter(routes []*route) (*router, error) {
	r := &router{routetable.New[route](), routetable.New[route](), routetable.New[route]()}
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
		return r.configured.Add(rt.Pattern, rt)
	}
	if method, _, _ := urlpath.SplitPattern(rt.Pattern); method == "" {
		return r.gatewayAnyMethod.Add(rt.Pattern, rt)
	}
	return r.gateway.Add(rt.Pattern, rt)
}

// find returns the route of a request whose path is canonical. Errors: errNoRoute,
// methodError.
func (r *router) find(req *http.Request) (*route, error) {
	host, path := urlpath.HostOf(req), req.URL.EscapedPath()
	for _, t := range [...]*routetable.Table[route]{r.gateway, r.gatewayAnyMethod, r.configured} {
		if rt := t.Find(host, req.Method, path); rt != nil && req.Method != http.MethodTrace {
			return rt, nil
		}
		if allow := t.Methods(host, path); len(allow) > 0 {
			return nil, methodError{strings.Join(allow, ", ")}
		}
	}
	return nil, errNoRoute
}
