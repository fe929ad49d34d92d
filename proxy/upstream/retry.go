package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"maps"
	"net"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync/atomic"

	"metergate/proxy/tracing"
)

// When a request is retried.
//
// A request is retried once, on another target, if the first target
//
//   - could not be reached: nothing was sent, so any request may be retried;
//   - closed the connection after (part of) the request was sent and before the first
//     byte of a response: only a repeatable request may be retried. That is one with an
//     idempotent method (RFC 9110 section 9.2.2) or an Idempotency-Key.
//
// In both cases the body, if there is one, must not have been read. If the request's
// context ends, or the client does not deliver its body, that says nothing about the
// target, and nobody waits for a retry.
//
// http.Transport retries by its own rules, on another connection to the same target. They
// are narrowed to ours:
//
//   - HTTP/1, a reused connection, nothing written yet: harmless.
//   - HTTP/1, a reused connection that broke: it retries GET, HEAD, OPTIONS, TRACE and
//     any request with an Idempotency-Key or X-Idempotency-Key header, even an empty one.
//     Keys that do not make a request repeatable here are hidden from it: see
//     hideIdempotencyKeys.
//   - HTTP/2, a stream that the server refused, or reset with PROTOCOL_ERROR: it retries
//     any request, although after a reset the target may have acted upon it. If the
//     request is not repeatable, the retry is stopped: see attempt.stopIfSent.

// errSentAlready means that the connection broke and the target may have acted upon the
// request.
var errSentAlready = errors.New("the connection broke after the request was sent")

// isRepeatable reports whether a request may reach a server twice.
func isRepeatable(r *http.Request) bool {
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return r.Header.Get("Idempotency-Key") != ""
}

// hideIdempotencyKeys returns the header with the names that make http.Transport retry a
// request in lower case. Header names are case-insensitive (RFC 9110 section 5.1), but
// http.Transport looks for the canonical form only. The header itself is not changed.
func hideIdempotencyKeys(h http.Header) http.Header {
	_, key := h["Idempotency-Key"]
	_, xkey := h["X-Idempotency-Key"]
	if !key && !xkey {
		return h
	}
	hidden := maps.Clone(h)
	for _, name := range [...]string{"Idempotency-Key", "X-Idempotency-Key"} {
		delete(hidden, name)
		if values := h[name]; len(values) > 0 {
			hidden[strings.ToLower(name)] = values
		}
	}
	return hidden
}

// How far an attempt has come.
const (
	stageNew       = iota // it has not left the process
	stageDial             // it waits for a connection
	stageSent             // it has a connection, and may have been sent
	stageResponded        // the first byte of a response has arrived
)

// An attempt is one request to one target. Ending its context is the only way to stop
// http.Transport from sending it again.
type attempt struct {
	httptrace.ClientTrace
	stage    atomic.Int32
	conn     *targetConn   // the one it got last; nil: none, one of package direct or of HTTP/2
	http1    bool          // it got one of HTTP/1
	upload   *upload       // nil: no body
	notifier WaitNotifier  // the body; nil: the header is not held back
	span     *tracing.Span // nil: it has none

	// For a request that must not be sent twice, to a target that may use HTTP/2.
	cancel  context.CancelCauseFunc // nil: not needed
	http2   atomic.Bool             // the connection's protocol
	written atomic.Bool             // on an HTTP/2 connection
}

// getConn is called each time the request begins to wait for a connection.
func (a *attempt) getConn(string) {
	if !a.stopIfSent() {
		a.stage.Store(stageDial)
	}
}

// gotConn is called each time the request has got one. With HTTP/2 the request is not sent
// if its context ends in here.
func (a *attempt) gotConn(info httptrace.GotConnInfo) {
	if a.stopIfSent() {
		return
	}
	if a.cancel != nil {
		a.http2.Store(isHTTP2(info.Conn))
	}
	if a.conn, _ = info.Conn.(*targetConn); a.conn != nil {
		a.conn.claim(a)
	}
	_, direct := info.Conn.(*directConn)
	a.http1 = direct || a.conn != nil
	a.stage.Store(stageSent)
}

// connClosed is called when the connection closes before a response has begun. It closes the
// request's body: http.Transport does not report the closed connection while it waits for
// more of the body, and a client may hold that back for ever (golang/go#29246).
func (a *attempt) connClosed() {
	if a.upload != nil {
		a.upload.closeHolder()
	}
}

// stopIfSent ends an attempt that was sent and is about to be sent again. It reports
// whether it did.
func (a *attempt) stopIfSent() bool {
	if a.cancel == nil || !a.written.Load() {
		return false
	}
	a.cancel(errSentAlready)
	return true
}

func isHTTP2(c net.Conn) bool {
	switch c := c.(type) {
	case plainHTTP2Conn:
		return true
	case *tls.Conn:
		return c.ConnectionState().NegotiatedProtocol == "h2"
	}
	return false
}

// wroteHeaders is called when the headers have been written. With HTTP/1 they may still be
// in a buffer, so there it means nothing.
func (a *attempt) wroteHeaders() {
	if a.http2.Load() {
		a.written.Store(true)
	}
}
