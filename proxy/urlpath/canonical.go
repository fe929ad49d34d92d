package urlpath

import (
	"errors"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrNotCanonical is wrapped by every error about a request that has no canonical path.
// The text of such an error names the reason and may be shown to the client.
var ErrNotCanonical = errors.New("the request target is not canonical")

// A refusal is an ErrNotCanonical with its reason.
type refusal struct{ reason string }

func (e *refusal) Error() string { return ErrNotCanonical.Error() + ": " + e.reason }
func (e *refusal) Unwrap() error { return ErrNotCanonical }

// Canonicalize returns the canonical form of a path as it stands in a request line. The
// error wraps [ErrNotCanonical]. A canonical path is its own canonical form; it is
// returned without an allocation.
func Canonicalize(raw string) (string, error) {
	if !strings.HasPrefix(raw, "/") {
		return "", &refusal{"the path does not begin with a slash"}
	}
	var out []byte // the canonical form of raw[:i]; nil while that is raw[:i] itself
	for i := 0; i < len(raw); {
		form, size := raw[i:i+1], 1
		if !needsNoEscape(raw[i]) {
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
	return path, refuseRewrittenSegments(path)
}

// needsNoEscape reports whether c may stand in a path without an escape: RFC 3986's
// pchar, the slash, and brackets. RFC 3986 does not allow brackets, but browsers send
// them bare and package net/url does not escape them.
func needsNoEscape(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		strings.IndexByte("/-._~!$&'()*+,;=:@[]", c) >= 0
}

// canonicalChar returns the canonical form of the first character of s and how many
// bytes of s it takes. needsNoEscape is false for that character.
func canonicalChar(s string) (form string, size int, err error) {
	switch c := s[0]; {
	case c == '%':
		return canonicalEscape(s)
	case c == '\\':
		return "", 0, &refusal{"the path has a backslash"}
	case c == '#':
		// A request target has no fragment; some servers end the path here.
		return "", 0, &refusal{"the path has a fragment"}
	case c <= ' ' || c > '~':
		return "", 0, &refusal{"the path has a byte that is not printable ASCII"}
	}
	// One of "<>?^`{|}, which package net/url would escape on the way out.
	return url.PathEscape(s[:1]), 1, nil
}

// canonicalEscape returns the canonical form of the character whose escapes s begins
// with, and the length of these escapes.
//
// The decoded character must be UTF-8. Servers disagree about other bytes: some replace
// them, so that many paths become one, and lenient ones read %C0%AE as a dot and %C0%AF
// as a slash.
func canonicalEscape(s string) (form string, size int, err error) {
	var char [utf8.UTFMax]byte
	n := 0
	for n < len(char) {
		c, ok := decodeEscape(s[3*n:])
		if !ok {
			break
		}
		char[n] = c
		n++
	}
	if n == 0 {
		return "", 0, &refusal{"the path has a malformed escape"}
	}
	r, width := utf8.DecodeRune(char[:n])
	switch {
	case r == utf8.RuneError && width <= 1:
		return "", 0, &refusal{"the path has an escape that is not UTF-8"}
	case unicode.IsControl(r):
		return "", 0, &refusal{"the path has an encoded control character"}
	case r == '/':
		return "", 0, &refusal{"the path has an encoded slash"}
	case r == '\\':
		return "", 0, &refusal{"the path has an encoded backslash"}
	case r == '.':
		return "", 0, &refusal{"the path has an encoded dot"}
	case r < utf8.RuneSelf && neverEscaped(char[0]):
		return string(char[:1]), 3, nil
	}
	// Every other character keeps its escapes: a reserved character has one meaning bare
	// and another one escaped. The case of the digits has no meaning (RFC 3986, section
	// 6.2.2.1), and all libraries write upper case.
	return strings.ToUpper(s[:3*width]), 3 * width, nil
}

// decodeEscape decodes the escape that s begins with, if it begins with one.
func decodeEscape(s string) (c byte, ok bool) {
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

// neverEscaped reports whether c is one of the unreserved characters of RFC 3986,
// section 2.3, apart from the dot.
func neverEscaped(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' ||
		c == '-' || c == '_' || c == '~'
}

// refuseRewrittenSegments refuses the segments that some servers resolve or leave out.
// The part after a semicolon does not count: a Java server cuts it off first, and then
// reads /files/..;/a as /files/../a.
func refuseRewrittenSegments(path string) error {
	for rest, more := path[1:], true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if i := strings.IndexAny(segment, ";%"); i >= 0 && (segment[i] == ';' || strings.HasPrefix(segment[i:], "%3B")) {
			segment = segment[:i]
		}
		switch {
		case segment == "" && more:
			return &refusal{"the path has an empty segment"}
		case segment == "." || segment == "..":
			return &refusal{"the path has a dot segment"}
		}
	}
	return nil
}
