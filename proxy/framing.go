package proxy

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// Where a request ends, and when its connection must not carry another one.

// errFraming is wrapped by errors about requests that cannot be written as HTTP/1.1. Their
// texts are for clients.
var errFraming = errors.New("the request is malformed")

// checkFraming refuses what net/http accepts with HTTP/2: any text as a method, and a
// Content-Length that it does not check.
func checkFraming(r *http.Request) error {
	if r.Method == "" || strings.ContainsFunc(r.Method, func(c rune) bool { return !isTokenChar(c) }) {
		return fmt.Errorf("%w: the method is not valid", errFraming) // RFC 9110 section 9.1
	}
	if r.ProtoMajor < 2 {
		return nil
	}
	if r.URL.Scheme != "" {
		return fmt.Errorf("%w: the :path is a whole URL", errFraming) // RFC 9113 section 8.3.1
	}
	// RFC 9113 section 8.1.1. net/http ignores several values, and one that is not a number.
	if lengths := r.Header["Content-Length"]; len(lengths) > 0 && !slices.Equal(lengths, []string{strconv.FormatInt(r.ContentLength, 10)}) {
		return fmt.Errorf("%w: the Content-Length is not the length of the body", errFraming)
	}
	return nil
}

// isTokenChar reports whether c may be part of a token, RFC 9110 section 5.6.2.
func isTokenChar(c rune) bool {
	return c < 0x80 && ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", c))
}

// hasAmbiguousFraming reports whether a proxy in front may see the request end somewhere
// else. net/http hides what was wrong with a request, so its connection is closed after
// everything that may hide something:
//
//   - a chunked body, which may have come with a Content-Length as well: RFC 9112
//     section 6.1 lets the coding win and has the connection closed;
//   - HTTP/1.0, whose Transfer-Encoding net/http drops (same section).
func hasAmbiguousFraming(r *http.Request) bool {
	return r.ProtoMajor == 1 && (r.ProtoMinor == 0 || len(r.TransferEncoding) > 0)
}
