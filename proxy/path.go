package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// One path.
//
// Two servers that read one path in two ways are how a request is counted as
// something else than what it does: this one sees /api/status/..%2fanalyze and
// lets it pass for a status, the next one sees /api/analyze. A request therefore
// has one path, the canonical one. The router matches it, the store counts by its
// route, and the upstream gets it byte for byte.
//
//	/files/a%20b;v=1/   stays as it is
//	/files/%41%7e       is /files/A~: RFC 3986 section 6.2.2.2 calls them the same
//	/files/%c3%a4       is /files/%C3%A4: section 6.2.2.1
//	/files/a|b          is /files/a%7Cb, as package url writes it; browsers do not
//	/files/%2541        stays: what is decoded twice means something else
//	/files/../a         is refused, as is all else that some server rewrites
//
// Refused is better than repaired: a client that means well has no need for such
// a path, and RFC 9112 section 3.2 warns of the others.

// errPath: the request has no canonical path. What wraps it is for clients to read.
var errPath = errors.New("the request target is not canonical")

func refusePath(why string) error { return fmt.Errorf("%w: %s", errPath, why) }

// canonicalTarget gives the request the one path in which it is routed, counted
// and forwarded, or says why it has none. The query stays as it is.
func canonicalTarget(r *http.Request) error {
	u := r.URL
	switch {
	case r.Method == http.MethodConnect, u.Path == "*":
		return refusePath("the target is not a path")
	// The target may be a whole URL. Its host is in r.Host already, see
	// RFC 9112 section 3.2.2; of the rest, only what net/http does not check.
	case u.Scheme != "" && u.Scheme != "http" && u.Scheme != "https":
		return refusePath("the target has a scheme other than http and https")
	case u.Scheme != "" && (u.Host == "" || u.User != nil):
		return refusePath("the target has no host, or has a user name") // RFC 9110 sections 4.2.1 and 4.2.4
	}
	for i := range len(u.RawQuery) {
		switch c := u.RawQuery[i]; {
		case c == '#':
			return refusePath("the query has a fragment") // see canonicalChar
		case c <= ' ' || c > '~':
			// HTTP/2 can carry a blank, and an upstream that speaks HTTP/1 would see
			// its request line end there.
			return refusePath("the query has a byte that is not printable ASCII")
		}
	}
	// The path as it was sent. Not EscapedPath: when a byte in RawPath should have
	// been escaped, that one decodes everything and escapes it anew, and an encoded
	// slash comes out as a slash.
	raw := u.RawPath
	if raw == "" {
		raw = u.EscapedPath() // RawPath is left out when this is the same
	}
	if raw == "" && u.Host != "" {
		raw = "/" // http://host, RFC 9110 section 4.2.3
	}
	path, err := canonicalPath(raw)
	if err != nil {
		return err
	}
	if path == u.EscapedPath() {
		return nil
	}
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return refusePath("the path has a malformed escape")
	}
	// EscapedPath, and so ServeMux and ReverseProxy, take RawPath as it is: it has
	// only bytes that may stand in a path, and decodes to Path.
	changed := *u
	changed.Path, changed.RawPath = decoded, path
	r.URL = &changed
	return nil
}

// canonicalPath returns the canonical form of a path as it stands in a request
// line, or an error that wraps errPath. A path in canonical form is returned
// without an allocation, and is its own canonical form.
func canonicalPath(raw string) (string, error) {
	if !strings.HasPrefix(raw, "/") {
		return "", refusePath("the path does not begin with a slash")
	}
	var out []byte // the canonical form of raw[:i]; nil while that is raw[:i] itself
	for i := 0; i < len(raw); {
		form, size := raw[i:i+1], 1
		if !pathByte(raw[i]) {
			var err error
			if form, size, err = canonicalChar(raw[i:]); err != nil {
				return "", err
			}
			if out == nil && form != raw[i:i+size] {
				out = append(make([]byte, 0, len(raw)+16), raw[:i]...)
			}
		}
		if out != nil {
			out = append(out, form...)
		}
		i += size
	}
	path := raw
	if out != nil {
		path = string(out)
	}
	return path, checkSegments(path)
}

// pathByte: c may stand in a path without an escape. That is RFC 3986's pchar and
// the slash. Brackets are not, but browsers send them bare and package url does
// not escape them.
func pathByte(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("/-._~!$&'()*+,;=:@[]", c) >= 0
}

// canonicalChar returns the canonical form of the first character of s, which is
// not a pathByte, and how many bytes of s it takes.
func canonicalChar(s string) (form string, size int, err error) {
	switch c := s[0]; {
	case c == '%':
		return canonicalEscape(s)
	case c == '\\':
		return "", 0, refusePath("the path has a backslash")
	case c == '#':
		// Not part of a request target; some servers end the path there.
		return "", 0, refusePath("the path has a fragment")
	case c <= ' ' || c > '~':
		return "", 0, refusePath("the path has a byte that is not printable ASCII")
	}
	// One of "<>^`{|}, which package url would escape on the way out.
	return url.PathEscape(s[:1]), 1, nil
}

// canonicalEscape returns the canonical form of the character whose escapes s
// begins with, and the length of its escapes.
//
// What is decoded has to be UTF-8. Servers do not agree about other bytes: some
// replace them, so that many paths become one, and the lenient ones read %C0%AE
// as a dot and %C0%AF as a slash.
func canonicalEscape(s string) (form string, size int, err error) {
	var char [utf8.UTFMax]byte
	n := 0
	for n < len(char) {
		c, ok := unescape(s[3*n:])
		if !ok {
			break
		}
		char[n] = c
		n++
	}
	if n == 0 {
		return "", 0, refusePath("the path has a malformed escape")
	}
	r, width := utf8.DecodeRune(char[:n])
	switch {
	case r == utf8.RuneError && width <= 1:
		return "", 0, refusePath("the path has an escape that is not UTF-8")
	case unicode.IsControl(r):
		return "", 0, refusePath("the path has an encoded control character")
	case r == '/':
		return "", 0, refusePath("the path has an encoded slash")
	case r == '\\':
		return "", 0, refusePath("the path has an encoded backslash")
	case r == '.':
		return "", 0, refusePath("the path has an encoded dot")
	case r < utf8.RuneSelf && unreserved(char[0]):
		return string(char[:1]), 3, nil
	}
	// Everything else keeps its escapes: a reserved character means one thing as it
	// is and another one escaped. The case of the digits means nothing (RFC 3986
	// section 6.2.2.1), and upper case is what all libraries write.
	return strings.ToUpper(s[:3*width]), 3 * width, nil
}

// unescape decodes the escape that s begins with, if it does.
func unescape(s string) (c byte, ok bool) {
	if len(s) < 3 || s[0] != '%' {
		return 0, false
	}
	high, low := hexDigit(s[1]), hexDigit(s[2])
	return byte(high<<4 | low), high >= 0 && low >= 0
}

// hexDigit returns the value of a digit, or -1.
func hexDigit(c byte) int {
	switch {
	case '0' <= c && c <= '9':
		return int(c - '0')
	case 'a' <= c && c <= 'f':
		return int(c-'a') + 10
	case 'A' <= c && c <= 'F':
		return int(c-'A') + 10
	}
	return -1
}

// unreserved are the characters that never need an escape, RFC 3986 section 2.3,
// but for the dot.
func unreserved(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '_' || c == '~'
}

// checkSegments refuses the segments that servers resolve or leave out. What is
// after a semicolon does not count: a Java server cuts it off first, and then
// /files/..;/a is /files/../a.
func checkSegments(path string) error {
	for rest, more := path[1:], true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if i := strings.IndexAny(segment, ";%"); i >= 0 && (segment[i] == ';' || strings.HasPrefix(segment[i:], "%3B")) {
			segment = segment[:i]
		}
		switch {
		case segment == "" && more:
			return refusePath("the path has an empty segment")
		case segment == "." || segment == "..":
			return refusePath("the path has a dot segment")
		}
	}
	return nil
}
