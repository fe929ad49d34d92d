package proxy_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"metergate/proxy"
)

// wildcard has routes with wildcards, such as everything below /files.
var wildcard = []proxy.Route{
	{Pattern: "GET /files/{rest...}", Endpoint: "lookup"},
	{Pattern: "GET /tree/", Public: true},
}

// TestPathIsForwardedAsRoutedOrRefused: a path reaches the upstream in the form in which
// it was routed, or not at all.
func TestPathIsForwardedAsRoutedOrRefused(t *testing.T) {
	r := newTestGateway(t, setup{routes: wildcard})
	for path, want := range map[string]string{
		"/files/a/b":                          "/files/a/b",
		"/files/%41%7e%2D":                    "/files/A~-",
		"/files/%2541":                        "/files/%2541",
		"/files/a%20b%C3%A4":                  "/files/a%20b%C3%A4",
		"/files/a/?q=%zz&a;b&c=%2e%2e":        "/files/a/?q=%zz&a;b&c=%2e%2e",
		"/files/?":                            "/files/?",
		"/files/a:b@c,d;e=f!$&'()*+":          "/files/a:b@c,d;e=f!$&'()*+",
		"/files/" + strings.Repeat("a", 2000): "/files/" + strings.Repeat("a", 2000),
		"//files/a":                           "",
		"/files//a":                           "",
		"/files/../files/a":                   "",
		"/files/./a":                          "",
		"/files/..":                           "",
		"/files/%2e%2e/a":                     "",
		"/files/%2Ea":                         "",
		"/files/a%2Fb":                        "",
		"/files/a%5cb":                        "",
		`/files/a\b`:                          "",
		"/files/a%00":                         "",
		"/files/a%0d%0aX:y":                   "",
	} {
		before := len(r.requests())
		res := r.do(token("u", ""), "GET", path, nil)
		sent := r.requests()[before:]
		switch {
		case want == "" && (res.StatusCode != 400 || len(sent) != 0):
			t.Errorf("%s: %s, want 400 and nothing sent", path, res.Status)
		case want != "" && (res.StatusCode != 200 || len(sent) != 1 || sent[0].RequestURI != want):
			t.Errorf("%s: %s, sent %v, want %s", path, res.Status, sent, want)
		}
	}
}

func TestUnroutedRequestsAreRefused(t *testing.T) {
	r := newTestGateway(t, setup{routes: wildcard})
	for _, c := range []struct {
		method, path string
		status       int
		allow        string
	}{
		{"GET", "/", 404, ""},
		{"GET", "/API/status", 404, ""},
		{"GET", "/api/status/", 404, ""},
		{"GET", "/tree", 404, ""}, // ServeMux would redirect to /tree/
		{"GET", "/api/analyze", 405, "POST"},
		{"DELETE", "/api/lookup/7", 405, "GET, HEAD"},
		{"POST", "/usage", 405, "GET, HEAD"},
		{"GET", "/usage/track", 405, "POST"},
		{"POST", "/usage/stream", 405, "GET, HEAD"},
		{"DELETE", "/usage/stream", 405, "GET, HEAD"},
		{"POST", "/usage/client.js", 405, "GET, HEAD"},
		{"GET", "/usage/nothing", 404, ""},
		{"POST", "/usage/", 404, ""},
		{"OPTIONS", "*", 400, ""},
	} {
		res := r.do(token("u", ""), c.method, c.path, nil)
		if res.StatusCode != c.status || res.Header.Get("Allow") != c.allow || res.Header.Get("Location") != "" ||
			res.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s: %s, Allow %q, Location %q: %s", c.method, c.path, res.Status, res.Header.Get("Allow"), res.Header.Get("Location"), res.body)
		}
	}
	if n := len(r.requests()); n != 0 {
		t.Errorf("%d requests reached the upstream", n)
	}
}

func TestRoutesNeedTokenUnlessPublic(t *testing.T) {
	r := newTestGateway(t, setup{})
	for name, fields := range map[string][]string{
		"none":       nil,
		"not bearer": {"Authorization: Basic dTpw"},
		"garbage":    {"Authorization: Bearer abc"},
		"forged":     {"Authorization: Bearer " + token("u", "") + "x"},
		"two":        {"Authorization: Bearer " + token("u", ""), "Authorization: Bearer " + token("v", "")},
	} {
		for _, path := range []string{"/api/status", "/usage"} {
			res := r.do("", "GET", path, nil, fields...)
			if res.StatusCode != 401 || !strings.HasPrefix(res.Header.Get("WWW-Authenticate"), "Bearer") {
				t.Errorf("%s, %s: %s, WWW-Authenticate %q", name, path, res.Status, res.Header.Get("WWW-Authenticate"))
			}
		}
	}
	if res := r.do("", "GET", "/api/health", nil); res.StatusCode != 200 {
		t.Errorf("a public route without a token: %s", res.Status)
	}
	if n := len(r.requests()); n != 1 {
		t.Errorf("%d requests reached the upstream, want 1", n)
	}
}

func TestUpstreamGetsGatewayHeaders(t *testing.T) {
	r := newTestGateway(t, setup{})
	r.do(token("u", ""), "POST", "/api/analyze", strings.NewReader("text"),
		"Connection: Authorization, X-Forwarded-For, X-Request-Id",
		"X-Forwarded-For: 1.2.3.4", "X-Forwarded-Host: evil.example", "Forwarded: for=1.2.3.4",
		"X-Request-Id: chosen", "Accept-Encoding: br")
	h := r.requests()[0].Header
	if h.Get("X-Forwarded-For") != "127.0.0.1" || h.Get("X-Forwarded-Proto") != "http" ||
		h.Get("X-Forwarded-Host") != r.gateway.Listener.Addr().String() || h.Get("Forwarded") != "" {
		t.Errorf("forwarding headers: %v", h)
	}
	if id := h.Get("X-Request-Id"); id == "" || id == "chosen" {
		t.Errorf("X-Request-Id: %q", id)
	}
	if h.Get("Accept-Encoding") != "br" || h.Get("User-Agent") != "Go-http-client/1.1" {
		t.Errorf("headers were changed: %v", h)
	}
	if host := r.requests()[0].Host; host != r.target.Host {
		t.Errorf("Host: %s, want %s", host, r.target.Host)
	}
}

func TestUpgradeIsRefusedAndH2COfferIgnored(t *testing.T) {
	r := newTestGateway(t, setup{})
	tok := token("u", "")
	res := r.do(tok, "POST", "/api/analyze", nil, "Connection: Upgrade", "Upgrade: websocket")
	if res.StatusCode != 400 || len(r.requests()) != 0 {
		t.Errorf("websocket: %s", res.Status)
	}
	// Java's client offers HTTP/2 with every request on a plain connection.
	res = r.do(tok, "POST", "/api/analyze", nil, "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA")
	if res.StatusCode != 200 {
		t.Errorf("h2c: %s", res.Status)
	}
	for _, name := range []string{"Connection", "Upgrade", "HTTP2-Settings"} {
		if v := r.requests()[0].Header.Get(name); v != "" {
			t.Errorf("the upstream got %s: %s", name, v)
		}
	}
	r.want("u", "", 1)
}

func TestCORSHeadersAreTheGateways(t *testing.T) {
	const origin = "Origin: https://app.example.com"
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Access-Control-Allow-Origin", "*")
			w.Header().Set("Access-Control-Allow-Credentials", "true")
			w.Header().Set("Vary", "Accept-Encoding")
		},
		change: func(o *proxy.Options) { o.CORS = &proxy.CORS{AllowedOrigins: []string{"https://app.example.com"}} },
	})
	res := r.do("", "OPTIONS", "/api/analyze", nil, origin, "Access-Control-Request-Method: POST", "Access-Control-Request-Headers: authorization,content-type")
	if res.StatusCode != 204 || res.Header.Get("Access-Control-Allow-Origin") != "https://app.example.com" ||
		!strings.Contains(res.Header.Get("Access-Control-Allow-Headers"), "authorization") || res.Header.Get("Access-Control-Allow-Methods") != "POST" {
		t.Errorf("preflight: %s %v", res.Status, res.Header)
	}
	if len(r.requests()) != 0 || r.store.calls.Load() != 0 {
		t.Error("a preflight reached the upstream or the store")
	}
	for name, res := range map[string]reply{
		"200":   r.do(token("u", "one"), "POST", "/api/analyze", nil, origin),
		"429":   r.do(token("u", "one"), "POST", "/api/analyze", nil, origin),
		"401":   r.do("", "POST", "/api/analyze", nil, origin),
		"404":   r.do("", "POST", "/nowhere", nil, origin),
		"usage": r.do(token("u", "one"), "GET", "/usage", nil, origin),
	} {
		exposed := strings.ToLower(res.Header.Get("Access-Control-Expose-Headers"))
		for _, field := range []string{"ratelimit", "ratelimit-policy", "x-ratelimit-remaining", "x-usage", "retry-after", "x-should-retry", "x-request-id"} {
			if !strings.Contains(exposed, field) {
				t.Errorf("%s: %s is not exposed: %q", name, field, exposed)
			}
		}
		if got := res.Header.Values("Access-Control-Allow-Origin"); len(got) != 1 || got[0] != "https://app.example.com" {
			t.Errorf("%s: Access-Control-Allow-Origin is %q", name, got)
		}
		if got := res.Header.Get("Access-Control-Allow-Credentials"); got != "" {
			t.Errorf("%s: Access-Control-Allow-Credentials is %q", name, got)
		}
		if vary := strings.Join(res.Header.Values("Vary"), ","); !strings.Contains(vary, "Origin") || name == "200" && !strings.Contains(vary, "Accept-Encoding") {
			t.Errorf("%s: Vary is %q", name, vary)
		}
	}
	if res := r.do(token("u", ""), "GET", "/api/status", nil, "Origin: https://other.example"); res.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another origin is allowed: %v", res.Header)
	}
	if _, err := proxy.New(func() proxy.Options {
		o := r.options
		o.CORS = &proxy.CORS{AllowedOrigins: []string{"*"}, AllowCredentials: true}
		return o
	}()); err == nil {
		t.Error("any origin with credentials was accepted")
	}
}

// TestPreflightDoesNotWaitForBody: a preflight has no body. If one announces a body, its
// answer does not wait for it.
func TestPreflightDoesNotWaitForBody(t *testing.T) {
	r := newTestGateway(t, setup{change: func(o *proxy.Options) { o.CORS = &proxy.CORS{AllowedOrigins: []string{"*"}} }})
	r.handler.SetBounds(time.Minute, time.Minute)
	conn := r.dial()
	io.WriteString(conn, "OPTIONS /api/analyze HTTP/1.1\r\nHost: x\r\nOrigin: https://app.example.com\r\nAccess-Control-Request-Method: POST\r\nContent-Length: 100\r\n\r\nhalf")
	if m, status, err := readResponse(bufio.NewReader(conn), "OPTIONS"); err != nil || status != 204 {
		t.Errorf("%+v, error %v", m, err)
	}
}

// TestErrorClosesConnectionWithUnreadBody: after an error, a body that was not read must
// not be taken for the next request.
func TestErrorClosesConnectionWithUnreadBody(t *testing.T) {
	r := newTestGateway(t, setup{})
	conn := r.dial()
	io.WriteString(conn, "POST /nowhere HTTP/1.1\r\nHost: x\r\nContent-Length: 40\r\n\r\nGET /api/health HTTP/1.1\r\nHost: x\r\n\r\n....")
	read := bufio.NewReader(conn)
	res, err := http.ReadResponse(read, nil)
	if err != nil || res.StatusCode != 404 || !res.Close {
		t.Fatalf("%v, error %v", res, err)
	}
	io.Copy(io.Discard, res.Body)
	if _, err := read.ReadByte(); err == nil || len(r.requests()) != 0 {
		t.Errorf("something follows the answer, or reached the upstream (%d requests)", len(r.requests()))
	}
}

// TestProblemDetailsAreSentences: what a client reads is one sentence or more, whatever the
// error.
func TestProblemDetailsAreSentences(t *testing.T) {
	r := newTestGateway(t, setup{})
	for name, c := range map[string]struct {
		token, method, path string
		want                string
	}{
		"400":      {"", "POST", "/api//analyze", "The request target is not canonical: the path has an empty segment."},
		"401":      {"x", "POST", "/api/analyze", "The token must have three parts, joined by dots."},
		"404":      {"", "POST", "/nowhere", "No route of the gateway matches this path."},
		"405":      {"", "DELETE", "/usage", "This path accepts only GET and HEAD."},
		"no token": {"", "POST", "/api/analyze", "No token: send one as Authorization: Bearer TOKEN."},
	} {
		res := r.do(c.token, c.method, c.path, nil)
		if !strings.Contains(res.body, `"detail":"`+c.want+`"`) {
			t.Errorf("%s: %s, want %s", name, res.body, c.want)
		}
	}
}
