package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"metergate/proxy/urlpath"
)

// A Route says which requests go where, and under which name they count.
type Route struct {
	// Pattern is that of an http.ServeMux: "POST /api/analyze", "/api/{id}".
	Pattern string
	// Endpoint is what a request counts under; empty: it is not metered.
	Endpoint string
	// Public: no token is asked for. Only without an Endpoint.
	Public bool
	// Upstream sends a request to where it is served: it fills in scheme and host,
	// and may put something before the path.
	Upstream http.RoundTripper
	// UpstreamName is its name in the log and in metrics.
	UpstreamName string
	// Timeout runs from the reservation to the headers of the final response.
	Timeout time.Duration
	// MaxBody bounds a request's body, in bytes.
	MaxBody int64
	// StripPrefix is cut off the path that the upstream gets; empty: nothing. The
	// Pattern's path begins with it, up to a slash or its end.
	StripPrefix string
	// Upgrade lets client and upstream switch to another protocol, of which nothing
	// is metered. Only without an Endpoint.
	Upgrade bool
	// UserField and PlanField are header fields in which the upstream gets the user
	// and the plan; empty: it does not. What clients send in fields of such names is
	// removed, on all routes.
	UserField, PlanField string
	// DropAuthorization keeps the token from the upstream.
	DropAuthorization bool
	// Observe: no limit and no bound of attempts blocks a request, whatever the plan says,
	// see quota.Request.InObserveMode. Only with an Endpoint. False: as the plan says.
	Observe bool
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

// A router finds the route of a request. The patterns are those of http.ServeMux,
// and a ServeMux says which are good and which conflict. It does not find the
// routes: it would redirect /tree to /tree/, also when another pattern matches
// /tree, and name methods in Allow that only /tree/ has.
type router struct {
	// The gateway's own resources come first and hide what is configured. They are
	// apart because a ServeMux finds that "/usage/" and "GET /" conflict. Those for
	// any method come after the others, whose Allow they would hide.
	own, ownRest, configured table
}

// newRouter returns an error for a pattern that is malformed, conflicts with
// another or can never match, for a metered route without a token, and for one that
// observes and is not metered.
func newRouter(routes []*route) (*router, error) {
	r := &router{own: table{}, ownRest: table{}, configured: table{}}
	ownMux, mux := http.NewServeMux(), http.NewServeMux()
	for _, rt := range routes {
		var err error
		switch {
		case rt.answer != nil:
			t := r.own
			if method, _, _ := urlpath.SplitPattern(rt.Pattern); method == "" {
				t = r.ownRest
			}
			err = t.add(ownMux, rt)
		case rt.Endpoint != "" && rt.Public:
			err = errors.New("a metered route needs a token")
		case rt.Public && (rt.UserField != "" || rt.PlanField != ""):
			err = errors.New("without a token there is no user to tell the upstream of")
		case rt.Endpoint != "" && rt.Upgrade:
			err = errors.New("what follows an upgrade cannot be metered")
		case rt.Observe && rt.Endpoint == "":
			err = errors.New("without an endpoint there is nothing to observe")
		default:
			err = r.configured.add(mux, rt)
		}
		if err != nil {
			return nil, fmt.Errorf("routes: %s: %w", rt.Pattern, err)
		}
	}
	for _, rt := range routes {
		_, host, path := urlpath.SplitPattern(rt.Pattern)
		if rt.answer == nil && len(r.own.methods(host, path))+len(r.ownRest.methods(host, path)) > 0 {
			return nil, fmt.Errorf("routes: %s: the path is the gateway's own", rt.Pattern)
		}
	}
	return r, nil
}

// find returns the route of a request whose path is canonical. Errors: errNoRoute,
// methodError.
func (r *router) find(req *http.Request) (*route, error) {
	host, path := hostOf(req), req.URL.EscapedPath()
	for _, t := range [...]table{r.own, r.ownRest, r.configured} {
		if rt := t.find(host, req.Method, path); rt != nil && req.Method != http.MethodTrace {
			return rt, nil
		}
		if allow := t.methods(host, path); len(allow) > 0 {
			return nil, methodError{strings.Join(allow, ", ")}
		}
	}
	return nil, errNoRoute
}

// A table holds a tree of paths for each host and method of its patterns. The
// empty host and the empty method stand for any.
type table map[string]map[string]*node

// find returns the most specific route, nil if there is none: one for the host
// before one for any, then one for the method, then one for the path. That this
// is right for method and path is the work of the mux: of two patterns of which
// each is more specific in one of them, it refuses the second.
func (t table) find(host, method, path string) *route {
	for _, trees := range [...]map[string]*node{t[host], t[""]} {
		if rt := trees[method].find(path); rt != nil {
			return rt
		}
		if method == http.MethodHead {
			if rt := trees[http.MethodGet].find(path); rt != nil {
				return rt
			}
		}
		if rt := trees[""].find(path); rt != nil {
			return rt
		}
	}
	return nil
}

// anyMethod is what a route without a method is said to serve. TRACE is not in it: its
// answer would show the fields that the gateway adds.
var anyMethod = []string{"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"}

// methods returns, sorted, the methods for which there is a route. HEAD comes with GET.
func (t table) methods(host, path string) []string {
	var found []string
	for _, trees := range [...]map[string]*node{t[host], t[""]} {
		for method, tree := range trees {
			if tree.find(path) != nil {
				switch method {
				case "":
					found = append(found, anyMethod...)
				case http.MethodGet:
					found = append(found, method, http.MethodHead)
				default:
					found = append(found, method)
				}
			}
		}
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// add adds a route when mux takes its pattern.
func (t table) add(mux *http.ServeMux, rt *route) error {
	if err := urlpath.RegisterPattern(mux, rt.Pattern); err != nil {
		return err
	}
	method, host, path := urlpath.SplitPattern(rt.Pattern)
	if host != strings.ToLower(host) {
		return errors.New("the host must be in lower case")
	}
	if host != "" && !urlpath.IsHostName(host) && !urlpath.IsBracketedIPv6(host) {
		return errors.New("it can never match: such hosts are refused")
	}
	if t[host] == nil {
		t[host] = map[string]*node{}
	}
	if t[host][method] == nil {
		t[host][method] = &node{}
	}
	return t[host][method].add(path, rt)
}

// A node is where the paths that begin with the same segments part.
type node struct {
	literal map[string]*node // by the next segment, decoded
	wild    *node            // {name}: any next segment
	end     *route           // the path ends here,
	slash   *route           // {$}: after one more slash,
	rest    *route           // {name...} or a slash: anywhere after one
}

// add puts a route below n. path is what is left of its pattern.
func (n *node) add(path string, rt *route) error {
	if path == "" {
		n.end = rt
		return nil
	}
	segment, rest := firstSegment(path)
	switch {
	case path == "/", strings.HasPrefix(segment, "{") && strings.HasSuffix(segment, "...}"):
		n.rest = rt
		return nil
	case segment == "{$}":
		n.slash = rt
		return nil
	case strings.HasPrefix(segment, "{"):
		if n.wild == nil {
			n.wild = &node{}
		}
		return n.wild.add(rest, rt)
	}
	if err := urlpath.CheckSegment(segment); err != nil {
		return fmt.Errorf("it can never match a request: %w", err)
	}
	segment = urlpath.DecodeSegment(segment)
	if n.literal == nil {
		n.literal = map[string]*node{}
	}
	if n.literal[segment] == nil {
		n.literal[segment] = &node{}
	}
	return n.literal[segment].add(rest, rt)
}

// find returns the most specific route for path, nil if there is none. path is
// what is left of the request's. A literal is more specific than a wildcard, and
// that one more than the rest.
func (n *node) find(path string) *route {
	switch {
	case n == nil:
		return nil
	case path == "":
		return n.end
	case path == "/" && n.slash != nil:
		return n.slash
	case path == "/":
		return n.rest
	}
	segment, rest := firstSegment(path)
	if rt := n.literal[urlpath.DecodeSegment(segment)].find(rest); rt != nil {
		return rt
	}
	if rt := n.wild.find(rest); rt != nil {
		return rt
	}
	return n.rest
}

// firstSegment splits a path that begins with a slash: "/a/b" is "a" and "/b".
func firstSegment(path string) (segment, rest string) {
	path = path[1:]
	if i := strings.IndexByte(path, '/'); i >= 0 {
		return path[:i], path[i:]
	}
	return path, ""
}
