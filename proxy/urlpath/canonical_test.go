package urlpath

import (
	"errors"
	"strings"
	"testing"
)

// Each rule of Canonicalize: want is the canonical form, or the reason why there is none.
func TestCanonicalizeAppliesEachRule(t *testing.T) {
	const (
		noSlash   = "error: the path does not begin with a slash"
		empty     = "error: the path has an empty segment"
		dots      = "error: the path has a dot segment"
		slash     = "error: the path has an encoded slash"
		dot       = "error: the path has an encoded dot"
		backslash = "error: the path has a backslash"
		encoded   = "error: the path has an encoded backslash"
		control   = "error: the path has an encoded control character"
		notASCII  = "error: the path has a byte that is not printable ASCII"
		fragment  = "error: the path has a fragment"
		malformed = "error: the path has a malformed escape"
		notUTF8   = "error: the path has an escape that is not UTF-8"
	)
	for name, cases := range map[string]map[string]string{
		"as it is": {
			"/":                             "/",
			"/a":                            "/a",
			"/a/":                           "/a/",
			"/-._~!$&'()*+,;=:@[]":          "/-._~!$&'()*+,;=:@[]",
			"/a.b/...":                      "/a.b/...",
			"/.well-known/x":                "/.well-known/x",
			"/a..b/..a/a..":                 "/a..b/..a/a..",
			"/a;v=1/b;..":                   "/a;v=1/b;..",
			"/a/;session=1":                 "/a/;session=1",
			"/" + strings.Repeat("a/", 1e5): "/" + strings.Repeat("a/", 1e5),
		},
		"no slash first": {"": noSlash, "a": noSlash, "*": noSlash, "%2Fa": noSlash, "?": noSlash},
		"empty segments": {
			"//": empty, "//a": empty, "/a//b": empty, "/a//": empty, "/a///b": empty,
			"/a/;/b": empty, "/a/;v=1/b": empty, "/a/%3B/b": empty, "/;/": empty,
		},
		"dot segments": {
			"/.": dots, "/..": dots, "/./": dots, "/../": dots, "/a/./b": dots, "/a/../b": dots, "/a/..": dots, "/a/.": dots,
			"/..;/a": dots, "/a/.;v=1/b": dots, "/a/..;v=1": dots, "/a/..%3b/b": dots, "/a/..%3B": dots,
		},
		"encoded dots": {
			"/%2e": dot, "/%2E%2E/a": dot, "/.%2e/a": dot, "/%2e./a": dot, "/a%2Eb": dot, "/a/b%2e": dot,
		},
		"encoded slashes": {"/a%2fb": slash, "/a%2F": slash, "/%2F": slash, "/..%2fa": slash},
		"backslashes":     {`/a\b`: backslash, `\a`: noSlash, `/\a`: backslash, `/..\a`: backslash, "/a%5cb": encoded, "/a%5Cb": encoded},
		"control characters": {
			"/a%00": control, "/a%0d%0aX:y": control, "/%1f": control, "/%1F": control, "/%7f": control, "/%7F": control,
			"/%c2%80": control, "/%C2%85": control, "/%C2%9F": control, "/%C2%A0": "/%C2%A0",
			"/a\x00": notASCII, "/a\tb": notASCII, "/a\x1f": notASCII, "/a\x7f": notASCII,
		},
		"not ASCII": {"/ä": notASCII, "/\xff": notASCII, "/\x80": notASCII, "/a b": notASCII},
		"fragments": {"/a#b": fragment, "/#": fragment, "/a%23b": "/a%23b"},
		"malformed escapes": {
			"/%": malformed, "/%4": malformed, "/%zz": malformed, "/%4g": malformed, "/%g4": malformed, "/%%41": malformed,
			"/%-1": malformed, "/%2%45": malformed,
		},
		"decoded once": {
			"/%41%5a%61%7A%30%39%2d%5F%7e": "/AZaz09-_~",
			"/%2541":                       "/%2541",
			"/%252e%252E":                  "/%252e%252E",
			"/%25%34%31":                   "/%2541",
			"/x%41y%42z":                   "/xAyBz",
		},
		"escapes that stay": {
			"/%21%24%26%27%28%29%2A%2B%2C%3B%3D%3A%40": "/%21%24%26%27%28%29%2A%2B%2C%3B%3D%3A%40",
			"/%20%22%23%25%3C%3E%3F%5B%5D%5E%60":       "/%20%22%23%25%3C%3E%3F%5B%5D%5E%60",
			"/%7B%7C%7D":                               "/%7B%7C%7D",
		},
		"upper case": {"/%c3%a4%3b%C3%a4": "/%C3%A4%3B%C3%A4", "/%e2%82%ac%f0%9f%98%80": "/%E2%82%AC%F0%9F%98%80"},
		"bare bytes": {"/a|b": "/a%7Cb", "/\"<>^`{|}": "/%22%3C%3E%5E%60%7B%7C%7D", `/"%3b%41`: "/%22%3BA"},
		"UTF-8": {
			"/%C3%A4%EF%BF%BD": "/%C3%A4%EF%BF%BD",
			"/%ff":             notUTF8,
			"/%C3":             notUTF8,
			"/%C3a":            notUTF8,
			"/%C3%41":          notUTF8,
			"/%C3%A":           notUTF8,
			"/%C3%C3%A4":       notUTF8,
			"/%A4":             notUTF8,
			"/%E2%82":          notUTF8,
			"/%C0%AE":          notUTF8, // a dot, to a lenient decoder
			"/%c0%af":          notUTF8, // a slash
			"/%E0%80%AF":       notUTF8,
			"/%ED%A0%80":       notUTF8, // half a surrogate pair
			"/%F4%90%80%80":    notUTF8,
		},
	} {
		for raw, want := range cases {
			got, err := Canonicalize(raw)
			reason, fails := strings.CutPrefix(want, "error: ")
			switch {
			case fails && (!errors.Is(err, ErrNotCanonical) || !strings.HasSuffix(err.Error(), ": "+reason)):
				t.Errorf("%s: %.60q: got %.60q, error %v, want error %s", name, raw, got, err, reason)
			case !fails && (err != nil || got != want):
				t.Errorf("%s: %.60q: got %.60q, error %v, want %.60q", name, raw, got, err, want)
			}
		}
	}
}

func TestCanonicalizeDoesNotAllocateForCanonicalPath(t *testing.T) {
	for _, path := range []string{"/api/analyze", "/files/a%20b%C3%A4;v=1/", "/" + strings.Repeat("a/", 2000)} {
		if n := testing.AllocsPerRun(100, func() { Canonicalize(path) }); n != 0 {
			t.Errorf("%.30s: %v allocations", path, n)
		}
	}
}

func BenchmarkCanonicalize(b *testing.B) {
	for name, path := range map[string]string{
		"plain":   "/api/image-analysis/u-17",
		"escaped": "/files/a%20b%C3%A4/c",
		"changed": "/files/%61%20b%c3%a4/c",
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Canonicalize(path); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
