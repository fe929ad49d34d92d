package proxy_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"testing"
)

// securityHeaders are the headers that the test below looks at.
var securityHeaders = []string{"Cache-Control", "Content-Security-Policy", "Cross-Origin-Resource-Policy", "Referrer-Policy", "X-Content-Type-Options", "X-Frame-Options"}

// TestSecurityHeadersOfOwnAnswersOnly: an answer of the gateway is data and not a page.
// Each header of an upstream's response is the upstream's.
func TestSecurityHeadersOfOwnAnswersOnly(t *testing.T) {
	upstreams := map[string]string{ // its own field
		"Content-Security-Policy": "default-src 'self'", "Cache-Control": "max-age=60", "X-Frame-Options": "DENY",
	}
	r := newTestGateway(t, setup{maxBody: 10, upstream: func(w http.ResponseWriter, req *http.Request) {
		switch req.URL.RawQuery {
		case "own":
			for name, value := range upstreams {
				w.Header().Set(name, value)
			}
		case "abort":
			w.Header().Set("Content-Security-Policy", "default-src 'self'")
			panic(http.ErrAbortHandler)
		case "fail":
			w.WriteHeader(500)
		}
	}})
	own := map[string]string{
		"Cache-Control":           "no-store",
		"Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
		"X-Content-Type-Options":  "nosniff",
	}
	stream := maps.Clone(own)
	stream["Cache-Control"] = "no-store, no-transform"
	script := map[string]string{
		"Cache-Control":                "no-cache",
		"Cross-Origin-Resource-Policy": "cross-origin",
		"X-Content-Type-Options":       "nosniff",
	}
	alice := token("alice", "free")
	for _, c := range []struct {
		token, method, path, body string
		status                    int
		want                      map[string]string
	}{
		{alice, "GET", "/usage", "", 200, own},
		{alice, "HEAD", "/usage", "", 200, own},
		{alice, "POST", "/usage/track", "", 200, own},
		{alice, "HEAD", "/usage/stream", "", 200, stream},
		{"", "GET", "/usage/client.js", "", 200, script},
		{"", "GET", "/usage/meter.js", "", 200, script},
		{"", "GET", "/usage/client.d.ts", "", 200, script},
		{"", "GET", "/usage", "", 401, own},
		{"", "GET", "/usage/nothing", "", 404, own},
		{"", "GET", "/nowhere", "", 404, own},
		{alice, "GET", "/a/../b", "", 400, own},
		{alice, "GET", "/api/analyze", "", 405, own},
		{alice, "POST", "/api/analyze", "more than ten", 413, own},
		{alice, "POST", "/api/analyze?abort", "", 502, own},
		{token("bob", "one"), "POST", "/api/analyze", "", 200, nil},
		{token("bob", "one"), "POST", "/api/analyze", "", 429, own},
		{alice, "POST", "/api/analyze?own", "", 200, upstreams},
		{alice, "POST", "/api/analyze?fail", "", 500, nil},
		{alice, "GET", "/api/status", "", 200, nil},
		{"", "GET", "/api/health", "", 200, nil},
	} {
		var body io.Reader
		if c.body != "" {
			body = strings.NewReader(c.body)
		}
		res := r.do(c.token, c.method, c.path, body)
		what := fmt.Sprint(c.method, " ", c.path, " ", res.StatusCode)
		if res.StatusCode != c.status {
			t.Errorf("%s, want %d", what, c.status)
		}
		for _, name := range securityHeaders {
			if got := strings.Join(res.Header.Values(name), "|"); got != c.want[name] {
				t.Errorf("%s: %s is %q, want %q", what, name, got, c.want[name])
			}
		}
	}
}
