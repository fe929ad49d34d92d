package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"

	"metergate/proxy/urlpath"
)

// readTarget parses a request target as net/http does.
func readTarget(method, target string) (*http.Request, error) {
	return http.ReadRequest(bufio.NewReader(strings.NewReader(method + " " + target + " HTTP/1.1\r\nHost: api.example\r\n\r\n")))
}

// forwarded returns the request as an upstream reads it, without what a pool may put
// before the path, which is tested in package upstream.
func forwarded(t *testing.T, in *http.Request) *http.Request {
	t.Helper()
	out := in.Clone(context.Background())
	(&forwarding{exchange: &exchange{g: &Gateway{}, route: &route{}}}).rewriteRequest(&httputil.ProxyRequest{In: in, Out: out})
	var wire bytes.Buffer
	if err := out.Write(&wire); err != nil {
		t.Fatalf("%s: %v", in.RequestURI, err)
	}
	req, err := http.ReadRequest(bufio.NewReader(&wire))
	if err != nil {
		t.Fatalf("%s: the upstream refuses it: %v", in.RequestURI, err)
	}
	return req
}

// TestTargetIsForwardedCanonically: want is what the upstream gets, empty if the target
// is refused.
func TestTargetIsForwardedCanonically(t *testing.T) {
	for _, c := range []struct{ method, target, want string }{
		{"GET", "/a", "/a"},
		{"GET", "/%61?x", "/a?x"},
		{"GET", "/a?", "/a?"},
		{"GET", "/a??", "/a??"},
		{"GET", `/%61?%zz&a;b&%2e%2e//%c3%23|^{}"<>\`, `/a?%zz&a;b&%2e%2e//%c3%23|^{}"<>\`},
		{"GET", "/a|b%3b?|", "/a%7Cb%3B?|"},
		{"GET", "/[a]%3B", "/[a]%3B"},
		{"POST", "http://other.example/a%7eb", "/a~b"},
		{"GET", "HTTPS://other.example:81/a?b", "/a?b"},
		{"GET", "http://other.example", "/"},
		{"GET", "http://other.example?x", "/?x"},

		{"OPTIONS", "*", ""},
		{"GET", "*", ""},
		{"CONNECT", "other.example:443", ""},
		{"CONNECT", "/a", ""},
		{"GET", "//other.example/a", ""},
		{"GET", "http://other.example//a", ""},
		{"GET", "http://other.example/../a", ""},
		{"GET", "http://u:p@other.example/a", ""},
		{"GET", "http:/a", ""},
		{"GET", "http:///a", ""},
		{"GET", "http:a", ""},
		{"GET", "ftp://other.example/a", ""},
		{"GET", "mailto:/a", ""},
		{"GET", "/a%2Fb", ""},
		// EscapedPath would give /a%22/b and /%22.
		{"GET", `/a"%2Fb`, ""},
		{"GET", `/a/"%2e`, ""},
		{"GET", `/a\b`, ""},
		{"GET", "/ä", ""},
		{"GET", "/a#b", ""},
		{"GET", "/a?b#c", ""},
		{"GET", "/a?ä", ""},
		{"GET", "/a?\xff", ""},
	} {
		req, err := readTarget(c.method, c.target)
		if err != nil {
			t.Errorf("%s %s: net/http refuses it: %v", c.method, c.target, err)
			continue
		}
		query := req.URL.RawQuery
		err = urlpath.CanonicalizeRequest(req)
		if c.want == "" {
			if !errors.Is(err, urlpath.ErrNotCanonical) {
				t.Errorf("%s %s: path %s, error %v, want it refused", c.method, c.target, req.URL.EscapedPath(), err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s %s: %v", c.method, c.target, err)
			continue
		}
		if req.URL.RawQuery != query {
			t.Errorf("%s %s: the query is %s", c.method, c.target, req.URL.RawQuery)
		}
		if got := forwarded(t, req).RequestURI; got != c.want {
			t.Errorf("%s %s: the upstream gets %s, want %s", c.method, c.target, got, c.want)
		}
	}
}
