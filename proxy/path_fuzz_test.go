package proxy

import (
	"errors"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"metergate/proxy/urlpath"
)

// What a canonical path consists of, and what it never contains, said in another way than
// in the code.
var (
	canonicalForm = regexp.MustCompile(`^/([\]A-Za-z0-9/._~!$&'()*+,;=:@[-]|%[2-9A-F][0-9A-F])*$`)
	neverInPath   = regexp.MustCompile(`//|/\.\.?(/|;|%3B|$)|/(;|%3B)[^/]*/|%2[DEF]|%3[0-9]|%[46][1-9A-F]|%[57][0-9A]|%5[CF]|%7[EF]|%C2%[89]`)
	harmless      = regexp.MustCompile(`^(/[A-Za-z0-9_~-]+)+/?$`)
)

var fuzzPatterns = []string{
	"GET /api/analyze", "GET /api/{id}", "GET /api/{id}/parts/{part}", "GET /files/{rest...}", "GET /files/a b;v=1",
	"/tree/", "GET /tree/{$}", "GET /tree/A~", "GET /tree/{id}/%25", "api.example/host/{rest...}", "/%C3%A4/|",
}

// FuzzPathIsForwardedAsRouted: whatever the target is, it is refused, or routed and
// forwarded alike.
func FuzzPathIsForwardedAsRouted(f *testing.F) {
	for _, target := range []string{
		"/api/analyze", "/api/%61nalyze?q=%61", "/api/analyze/", "/api//analyze", "/api/x/../analyze", "/api/..%2fanalyze",
		"/api/.%2e/analyze", "/api/..;/analyze", "/api/;/analyze", `/api/..\analyze`, "/api/%5canalyze", "/api/%2541/parts/%25",
		"/files/a%20b;v=1", "/files/a%20b%3Bv=1", "/files/", "/files", "/tree", "/tree/", "/tree/%41%7e", "/tree/x/%25",
		"/%c3%a4/|", "/%C3%A4/%7c", `/files/"%2F"`, "/files/%c0%af", "/files/%C2%80", "/files/a#b", "/files/?", "/files/[a]%3b{}",
		"*", "http://api.example", "http://api.example/host/%61?", "http:x", "http:/x", "//api.example/host/", "/host/%2525252e",
		"http://u@h/api/analyze", "/files/\xff", "/a%0d%0aX:y", "/a%", "?",
	} {
		f.Add(target)
	}

	var routes []*route
	mux := http.NewServeMux()
	for _, pattern := range fuzzPatterns {
		routes = append(routes, &route{Route: Route{Pattern: pattern}})
		mux.Handle(pattern, muxRoute{})
	}
	router, err := newRouter(routes)
	if err != nil {
		f.Fatal(err)
	}
	patternOf := func(req *http.Request) string {
		rt, err := router.find(req)
		if err != nil {
			return err.Error()
		}
		return rt.Pattern
	}

	f.Fuzz(func(t *testing.T, target string) {
		in, err := readTarget("GET", target)
		if err != nil {
			return
		}
		sent := *in.URL
		if err := urlpath.CanonicalizeRequest(in); err != nil {
			if !errors.Is(err, urlpath.ErrNotCanonical) {
				t.Fatalf("another error: %v", err)
			}
			if harmless.MatchString(in.RequestURI) {
				t.Fatalf("refused: %v", err)
			}
			return
		}
		path := in.URL.EscapedPath()

		if again, err := urlpath.Canonicalize(path); again != path || err != nil {
			t.Fatalf("%s becomes %s, error %v", path, again, err)
		}
		if !canonicalForm.MatchString(path) || neverInPath.MatchString(path) {
			t.Fatalf("%s is not canonical", path)
		}
		decoded, err := url.PathUnescape(path)
		if want := max(sent.Path, "/"); err != nil || decoded != want || in.URL.Path != want {
			t.Fatalf("%s says %q, not %q as the client does; Path is %q, error %v", path, decoded, want, in.URL.Path, err)
		}
		if !utf8.ValidString(decoded) || strings.ContainsFunc(decoded, unicode.IsControl) {
			t.Fatalf("%s has a control character, or is not UTF-8", path)
		}
		if in.URL.RawQuery != sent.RawQuery || in.URL.ForceQuery != sent.ForceQuery {
			t.Fatalf("the query %q became %q", sent.RawQuery, in.URL.RawQuery)
		}

		pattern := patternOf(in)
		if h, p := mux.Handler(in); h == (muxRoute{}) && p != pattern {
			t.Fatalf("%s leads to %s, ServeMux says %s", path, pattern, p)
		}
		out := forwarded(t, in)
		if gotPath, query, _ := strings.Cut(out.RequestURI, "?"); gotPath != path || query != sent.RawQuery {
			t.Fatalf("the upstream gets %s, want %s", out.RequestURI, path)
		}
		out.Host = in.Host // the upstream has a name of its own
		if err := urlpath.CanonicalizeRequest(out); err != nil || patternOf(out) != pattern {
			t.Fatalf("%s leads to %s here and to %s at the upstream, error %v", path, pattern, patternOf(out), err)
		}
	})
}

// muxRoute is the handler of every pattern. It tells them from a ServeMux's own answers.
type muxRoute struct{}

func (muxRoute) ServeHTTP(http.ResponseWriter, *http.Request) {}
