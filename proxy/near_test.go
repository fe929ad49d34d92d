package proxy_test

import (
	"bufio"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"metergate/proxy"
	"metergate/quota"
)

// TestNearMatchIsRefusedAndLoggedOnce: a path that is nearly metered is not served by
// another route, for no method and at no host at which the metered route is. The log has a
// line about the first one of each metered route.
func TestNearMatchIsRefusedAndLoggedOnce(t *testing.T) {
	var log logged
	r := newTestGateway(t, setup{
		routes: []proxy.Route{
			{Pattern: "api.example/v1/run", Endpoint: "analyze"},
			{Pattern: "/v2/run", Endpoint: "analyze", StripPrefix: "/v2"},
			{Pattern: "api.example/", Public: true},
			{Pattern: "/", Public: true},
		},
		change: log.to(slog.LevelWarn),
	})
	for _, c := range []struct {
		method, host, path string
		want               int
	}{
		{"GET", "other.example", "/api/Lookup/7", 404},
		{"HEAD", "other.example", "/api/Lookup/7", 404},
		{"GET", "api.example", "/api/Lookup/7", 200}, // at this host, /api/lookup/7 itself is not metered
		{"GET", "other.example", "/api/lookup/7/", 404},
		{"OPTIONS", "other.example", "/api/Lookup/7", 200}, // the metered route has no such method
		{"PUT", "api.example", "/V1/run", 404},
		{"PUT", "other.example", "/V1/run", 200}, // not metered at this host
		{"POST", "other.example", "/v2/run;x=1", 404},
		{"POST", "other.example", "/v2/run;x=2", 404},
		{"POST", "api.example", "/v2/RUN", 200}, // as above
		{"POST", "other.example", "/run", 404},  // what the upstream gets of /v2/run
		{"POST", "other.example", "/Run/", 404},
		{"POST", "other.example", "/runs", 200},
		{"GET", "api.example", "/anything", 200},
	} {
		conn := r.dial()
		fmt.Fprintf(conn, "%s %s HTTP/1.1\r\nHost: %s\r\n\r\n", c.method, c.path, c.host)
		if m, status, err := readResponse(bufio.NewReader(conn), c.method); err != nil || status != c.want {
			t.Errorf("%s %s at %s: %v %v, want %d", c.method, c.path, c.host, m, err, c.want)
		}
	}
	r.want("u", "", 0)
	log.mu.Lock()
	defer log.mu.Unlock()
	text := log.text.String()
	for _, pattern := range []string{"GET /api/lookup/{id}", "api.example/v1/run", "/v2/run"} {
		if n := strings.Count(text, fmt.Sprintf(`"nearly":%q`, pattern)); n != 1 {
			t.Errorf("%d lines about %s:\n%s", n, pattern, text)
		}
	}
	if !strings.Contains(text, `"path":"/api/Lookup/7"`) || !strings.Contains(text, "exact_paths: true") {
		t.Errorf("the log does not name the path and the way out:\n%s", text)
	}
}

// TestNearMatchIsRefusedWhereItDemandsLess: what a route demands cannot be evaded through
// another one that counts under another endpoint, only observes, or needs no token.
func TestNearMatchIsRefusedWhereItDemandsLess(t *testing.T) {
	r := newTestGateway(t, setup{
		routes: []proxy.Route{
			{Pattern: "/api/{rest...}", Endpoint: "lookup"},
			{Pattern: "/exact/run", Endpoint: "analyze"},
			{Pattern: "/exact/{rest...}", Endpoint: "lookup", ExactPaths: true},
			{Pattern: "/same/run", Endpoint: "lookup"},
			{Pattern: "/same/{rest...}", Endpoint: "lookup"},
			{Pattern: "/costly/run", Endpoint: "lookup", Cost: proxy.Cost{Cost: quota.Cost{Min: 5, Max: 5}}},
			{Pattern: "/costly/{rest...}", Endpoint: "lookup"},
			{Pattern: "/one/run", Endpoint: "lookup", Cost: proxy.Cost{Cost: quota.Cost{Min: 1, Max: 1}, Each: 1}},
			{Pattern: "/one/{rest...}", Endpoint: "lookup"},
			{Pattern: "/watch/run", Endpoint: "lookup"},
			{Pattern: "/watch/{rest...}", Endpoint: "lookup", Observe: true},
			{Pattern: "/site/account"},
			{Pattern: "/site/{rest...}", Public: true},
			{Pattern: "/far/account"},
			{Pattern: "/far/{rest...}", Public: true},
			{Pattern: "/v1/run", Endpoint: "analyze", StripPrefix: "/v1"},
			{Pattern: "/v0/{rest...}", Endpoint: "analyze", StripPrefix: "/v0"},
			{Pattern: "/v2/{rest...}", Endpoint: "lookup", StripPrefix: "/v2"},
			{Pattern: "/v3/{rest...}", StripPrefix: "/v3"},
			{Pattern: "/v4/{rest...}", StripPrefix: "/v4", ExactPaths: true},
			{Pattern: "/v5/run", StripPrefix: "/v5"},
		},
		change: func(o *proxy.Options) {
			for i := range o.Routes {
				if o.Routes[i].Pattern == "/far/{rest...}" {
					o.Routes[i].Targets = []string{"http://another.example"}
				}
			}
		},
	})
	for path, want := range map[string]int{
		"/api/Analyze": 404, "/api/image-analysis/": 404, "/api/other": 200,
		"/exact/Run":     200,
		"/same/Run":      200,
		"/watch/Run":     404,
		"/watch/walk":    200,
		"/site/account/": 404, "/site/Account": 404, "/site/about": 200,
		"/far/Account": 200,
		"/v1/run":      200,
		"/v2/run":      200, // counted, so it is meant
		"/v3/run":      404, // the upstream gets the same as of /v1/run
		"/v3/Run":      404,
		"/v3/walk":     200, // both /v0 and /v3 lead everywhere
		"/v4/run":      200,
		"/v5/run":      200,
	} {
		if res := r.do(token("u", ""), "POST", path, nil); res.StatusCode != want {
			t.Errorf("%s: %d, want %d: %s", path, res.StatusCode, want, res.body)
		}
	}
}

// TestMethodInAnotherCaseIsRefused: some frameworks run the handler of POST for post.
func TestMethodInAnotherCaseIsRefused(t *testing.T) {
	r := newTestGateway(t, setup{routes: []proxy.Route{
		{Pattern: "QUERY /search", Endpoint: "lookup"}, {Pattern: "Peek /own"}, {Pattern: "/", Public: true},
	}})
	for request, want := range map[string]int{
		"post /api/analyze": 400, "Post /x": 400, "pOST /api/status": 400, "patch /x": 400, "query /search": 400, "query /x": 400,
		"peek /x": 200, "report /x": 200, "REPORT /x": 200,
	} {
		method, path, _ := strings.Cut(request, " ")
		if res := r.do("", method, path, nil); res.StatusCode != want {
			t.Errorf("%s: %d, want %d: %s", request, res.StatusCode, want, res.body)
		}
	}
}
