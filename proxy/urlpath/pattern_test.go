package urlpath

import (
	"net/http"
	"strings"
	"testing"
)

func TestSplitPattern(t *testing.T) {
	for pattern, want := range map[string][3]string{
		"/":                       {"", "", "/"},
		"/a/{id}":                 {"", "", "/a/{id}"},
		"GET /a":                  {"GET", "", "/a"},
		"GET \t /a":               {"GET", "", "/a"},
		"h.example/a/":            {"", "h.example", "/a/"},
		"PURGE h.example/{r...}":  {"PURGE", "h.example", "/{r...}"},
		"GET [::1]/six":           {"GET", "[::1]", "/six"},
		"POST /a b":               {"POST", "", "/a b"},
		"POST h.example/a b;v=1/": {"POST", "h.example", "/a b;v=1/"},
	} {
		method, host, path := SplitPattern(pattern)
		if got := [3]string{method, host, path}; got != want {
			t.Errorf("%q: got %q, want %q", pattern, got, want)
		}
	}
}

func TestCutPrefix(t *testing.T) {
	for _, c := range []struct{ path, prefix, cut, rest string }{
		{"/a/b", "", "", "/a/b"},
		{"/a/b/c", "/a", "/a", "/b/c"},
		{"/a/b/c", "/a/b", "/a/b", "/c"},
		{"/%61/b/", "/a", "/%61", "/b/"},
		{"/a/", "/a", "/a", "/"},
		{"/a", "/a", "/a", "/"},
		{"/", "/a", "/", "/"},
		{"/a/{rest...}", "/a", "/a", "/{rest...}"},
	} {
		if cut, rest := CutPrefix(c.path, c.prefix); cut != c.cut || rest != c.rest {
			t.Errorf("%s without %s: %s and %s, want %s and %s", c.path, c.prefix, cut, rest, c.cut, c.rest)
		}
	}
}

func TestRegisterPatternReportsWhatServeMuxRefuses(t *testing.T) {
	mux := http.NewServeMux()
	if err := RegisterPattern(mux, "GET /a/{b}"); err != nil {
		t.Fatal(err)
	}
	for pattern, want := range map[string]string{
		"GET /a/c": "", "GET /a/{c}": "conflicts with", "/{a": "bad wildcard", "": "invalid pattern",
	} {
		err := RegisterPattern(mux, pattern)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: error %v, want %q", pattern, err, want)
		}
	}
}

// A segment is refused exactly if a request with that segment would be refused.
func TestCheckSegmentAgreesWithCanonicalize(t *testing.T) {
	for segment, want := range map[string]string{
		"a": "", "a b": "", "a%20b": "", "ö": "", "%C3%B6": "", "a;v=1": "", "%41": "", "100%": "", "a.b": "", "a%2Eb": "", "...": "", "|": "",
		"": "empty segment", ";v=1": "empty segment", "%3Bx": "empty segment",
		".": "dot segment", "..": "dot segment", "%2e%2E": "dot segment", "..;x": "dot segment", "..%3Bx": "dot segment",
		"a%2Fb": "encoded slash", `a\b`: "encoded backslash", "a%5Cb": "encoded backslash",
		"a%00b": "control character", "a%C2%85b": "control character", "a%ff": "not UTF-8", "%C0%AE": "not UTF-8",
	} {
		err := CheckSegment(segment)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), "the path has ") || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: error %v, want %q", segment, err, want)
		}
	}
}
