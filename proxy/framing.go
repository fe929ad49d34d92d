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

// errFraming: a request that cannot be written as HTTP/1.1. What wraps it is for clients
// to read.
var errFraming = errors.New("the request is malformed")

// checkFraming refuses what net/http lets pass of HTTP/2: there a method is any text, and
// a length is believed by nobody.
func checkFraming(r *http.Request) error {
	if r.Method == "" || strings.ContainsFunc(r.Method, func(c rune) bool { return !isTokenChar(c) }) {
		return fmt.Errorf("%w: its method is not a token", errFraming) // RFC 9110 section 9.1
	}
	if r.ProtoMajor < 2 {
		return nil
	}
	if r.URL.Scheme != "" {
		return fmt.Errorf("%w: its :path is a whole URL", errFraming) // RFC 9113 section 8.3.1
	}
	// RFC 9113 section 8.1.1. Of several, and of what is no number, net/http takes none.
	if lengths := r.Header["Content-Length"]; len(lengths) > 0 && !slices.Equal(lengths, []string{strconv.FormatInt(r.ContentLength, 10)}) {
		return fmt.Errorf("%w: its Content-Length is not that of its body", errFraming)
	}
	return nil
}

// isTokenChar: RFC 9110 section 5.6.2.
func isTokenChar(c rune) bool {
	return c < 0x80 && ('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.ContainsRune("!#$%&'*+-.^_`|~", c))
}

// framingInDoubt: the request may have ended elsewhere in the eyes of a proxy in front.
// net/http hides what was wrong with it, so that a connection is not used again after
// all that may hide something:
//
//   - a chunked body, which may have come with a Content-Length as well: RFC 9112
//     section 6.1 lets the coding win and has the connection closed;
//   - HTTP/1.0, whose Transfer-Encoding net/http drops (same section).
func (x *exchange) framingInDoubt() bool {
	return x.in.ProtoMajor == 1 && (x.in.ProtoMinor == 0 || len(x.in.TransferEncoding) > 0)
}

// leaveBody is called before an answer that does not need the request's body. net/http
// reads up to 256 KiB of it before it sends the answer, and a client may hold it
// back. On a connection that is to be closed it does not.
func (x *exchange) leaveBody() {
	if x.in.ProtoMajor == 1 && x.in.ContentLength != 0 {
		x.w.Header().Set("Connection", "close")
	}
}
