package proxy

import (
	"net/http/httptest"
	"strings"
	"testing"
)

func newTestRouter(t testing.TB, patterns ...string) *router {
	t.Helper()
	routes := gatewayRoutes()
	for _, p := range patterns {
		routes = append(routes, &route{Route: Route{Pattern: p}})
	}
	r, err := newRouter(routes)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// lookUp returns the pattern of a request's route, "404", or "405" and the methods.
// A target that does not begin with a slash begins with a host.
func (r *router) lookUp(method, target string) string {
	host, path, _ := strings.Cut(target, "/")
	req := httptest.NewRequest(method, "/"+path, nil)
	req.Host = host
	rt, err := r.find(req)
	if e, ok := err.(methodError); ok {
		return "405 " + e.allow
	}
	if err != nil {
		return "404"
	}
	return rt.Pattern
}

func TestRouterFindsMostSpecificRoute(t *testing.T) {
	r := newTestRouter(t,
		"GET /items", "POST /items", "GET /items/{id}", "GET /items/new", "PUT /items/{id}",
		"GET /tree/", "GET /leaf/{$}", "POST /files/{rest...}", "/any", "HEAD /own-head", "GET /own-head",
		"PURGE /a%20b", "GET api.example/items", "api.example/host", "GET [::1]/six")
	for request, want := range map[string]string{
		"GET /items":     "GET /items",
		"HEAD /items":    "GET /items",
		"POST /items":    "POST /items",
		"DELETE /items":  "405 GET, HEAD, POST",
		"get /items":     "405 GET, HEAD, POST",
		"GET /items/":    "404",
		"GET /items/7":   "GET /items/{id}",
		"GET /items/%3B": "GET /items/{id}",
		"GET /items/new": "GET /items/new",
		"PUT /items/new": "PUT /items/{id}", // the literal has no such method
		"GET /items/7/":  "404",
		"POST /items/7":  "405 GET, HEAD, PUT",

		"GET /tree":     "404", // ServeMux would redirect
		"POST /tree":    "404", // and offer GET
		"GET /tree/":    "GET /tree/",
		"GET /tree/a/b": "GET /tree/",
		"POST /tree/a":  "405 GET, HEAD",
		"GET /leaf":     "404",
		"GET /leaf/":    "GET /leaf/{$}",
		"GET /leaf/a":   "404",
		"POST /files":   "404",
		"POST /files/":  "POST /files/{rest...}",
		"POST /files/a": "POST /files/{rest...}",

		"X-ANY /any":     "/any",
		"HEAD /own-head": "HEAD /own-head",
		"PURGE /a%20b":   "PURGE /a%20b",
		"GET /a%20b":     "405 PURGE",
		"GET /":          "404",
		"GET /Items":     "404",

		"GET api.example/items":         "GET api.example/items",
		"GET API.Example:8080/items":    "GET api.example/items",
		"GET other.example/items":       "GET /items",
		"POST api.example/items":        "POST /items", // none for the host
		"DELETE api.example/items":      "405 GET, HEAD, POST",
		"PUT api.example/host":          "api.example/host",
		"PUT other.example/host":        "404",
		"PUT api.example.evil:1:2/host": "404",

		"GET /usage":         "GET /usage",
		"POST /usage":        "405 GET, HEAD",
		"POST /usage/track":  "POST /usage/track",
		"GET /usage/track":   "405 POST",
		"HEAD /usage/track":  "405 POST",
		"GET /usage/stream":  "GET /usage/stream",
		"POST /usage/stream": "405 GET, HEAD",
		"GET /usage/track/":  "/usage/",
		"GET /usage/":        "/usage/",
		"GET /usage/nothing": "/usage/",
	} {
		method, target, _ := strings.Cut(request, " ")
		if got := r.lookUp(method, target); got != want {
			t.Errorf("%s: %s, want %s", request, got, want)
		}
	}
}

// TestCatchAllRouteKeepsOffUsage: a route for everything takes what ServeMux would
// redirect, and nothing of the gateway's own.
func TestCatchAllRouteKeepsOffUsage(t *testing.T) {
	r := newTestRouter(t, "GET /", "GET /tree/", "POST /{rest...}")
	for request, want := range map[string]string{
		"GET /":              "GET /",
		"GET /tree":          "GET /",
		"GET /tree/":         "GET /tree/",
		"POST /tree/":        "POST /{rest...}",
		"PUT /x":             "405 GET, HEAD, POST",
		"GET /usage":         "GET /usage",
		"POST /usage":        "405 GET, HEAD",
		"POST /usage/x":      "/usage/",
		"PUT /usage/stream":  "405 GET, HEAD",
		"GET /usage/track":   "405 POST",
		"GET /usages":        "GET /",
		"GET any.host/usage": "GET /usage",
	} {
		method, target, _ := strings.Cut(request, " ")
		if got := r.lookUp(method, target); got != want {
			t.Errorf("%s: %s, want %s", request, got, want)
		}
	}
}

func TestRouterRefusesBadPatterns(t *testing.T) {
	for want, patterns := range map[string][]string{
		"conflicts with":        {"/a/{b}", "GET /a/{c}", "/a/{d}"},
		"at offset":             {"/{a"},
		"lower case":            {"API.example/a"},
		"can never match":       {"/a%2Fb"},
		" can never match":      {"/a//b"},
		"  can never match":     {"GET /a/%2e%2e/b"},
		"   can never match":    {`/a\b`},
		"    can never match":   {"/a/..;v=1"},
		"the gateway's own":     {"GET /usage/mine"},
		" the gateway's own":    {"PUT /usage"},
		"  the gateway's own":   {"api.example/us%61ge/{x...}"},
		"   the gateway's own":  {"/usage/{$}"},
		"    the gateway's own": {"/usage/"},
	} {
		routes := gatewayRoutes()
		for _, p := range patterns {
			routes = append(routes, &route{Route: Route{Pattern: p}})
		}
		last := patterns[len(patterns)-1]
		if _, err := newRouter(routes); err == nil || !strings.HasPrefix(err.Error(), "routes: "+last+": ") ||
			!strings.Contains(err.Error(), strings.TrimSpace(want)) {
			t.Errorf("%s: error %v, want %s", last, err, want)
		}
	}
	if _, err := newRouter([]*route{{Route: Route{Pattern: "/a", Endpoint: "a", Public: true}}}); err == nil {
		t.Error("a metered public route was accepted")
	}
}

func BenchmarkRoute(b *testing.B) {
	r := newTestRouter(b, "POST /api/analyze", "POST /api/redact", "GET /api/{id}", "GET /api/status", "GET /files/{rest...}")
	for _, c := range []struct{ method, path string }{
		{"POST", "/api/analyze"}, {"GET", "/api/7"}, {"GET", "/files/a%20b%3B"}, {"PUT", "/api/analyze"}, {"GET", "/none"},
	} {
		req := httptest.NewRequest(c.method, c.path, nil)
		b.Run(c.method+c.path, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				r.find(req)
			}
		})
	}
}
