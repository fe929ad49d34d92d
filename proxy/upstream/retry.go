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
)

// When a request is sent again.
//
// Once, to another target, if the first one
//
//   - could not be reached: nothing was sent, so any request may go on;
//   - broke the connection off after (part of) the request was sent, and no byte of
//     a response came: only a repeatable request. That is one with an idempotent
//     method (RFC 9110 section 9.2.2) or an Idempotency-Key.
//
// In both cases its body, if it has one, must not have been touched. The end of the
// request's context and a client that does not deliver its body say nothing of the
// target, and there is no one to try again for.
//
// http.Transport repeats requests by rules of its own, on another connection to the
// same target. They are narrowed to ours:
//
//   - HTTP/1, a connection used before, not a byte written: harmless.
//   - HTTP/1, a connection used before that broke: GET, HEAD, OPTIONS, TRACE and what
//     has a field Idempotency-Key or X-Idempotency-Key, be it empty. Keys that make
//     nothing repeatable here are hidden from it, see hideKeys.
//   - HTTP/2, a stream that the server refused, or reset with PROTOCOL_ERROR: any
//     request, though the latter does not say that nothing was done. What is not
//     repeatable is stopped, see attempt.stopped.

// errSentAlready: the connection broke, and the request may have been acted upon.
var errSentAlready = errors.New("the connection broke after the request was sent")

// repeatable reports whether a request may reach a server twice.
func repeatable(r *http.Request) bool {
	switch r.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return r.Header.Get("Idempotency-Key") != ""
}

// hideKeys returns the header with the keys for which http.Transport would repeat a
// request written in lower case. Names of fields have no case (RFC 9110 section 5.1),
// but it looks for one. The header itself is not changed.
func hideKeys(h http.Header) http.Header {
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
	stageNew       = iota // nothing of it left the process
	stageDial             // it waits for a connection
	stageSent             // it has one, and may have been sent
	stageResponded        // there is a byte of a response
)

// An attempt is one request to one target. The context's end is the only way to
// stop http.Transport from sending it again.
type attempt struct {
	httptrace.ClientTrace
	stage atomic.Int32

	// For what may not be sent twice, to a target that may speak HTTP/2.
	cancel  context.CancelCauseFunc // nil: not needed
	http2   atomic.Bool             // the connection's protocol
	written atomic.Bool             // on an HTTP/2 connection
}

// getConn is called whenever the request begins to wait for a connection.
func (a *attempt) getConn(string) {
	if !a.stopped() {
		a.stage.Store(stageDial)
	}
}

// gotConn is called whenever the request has one. With HTTP/2 it is not sent if its
// context ends in here.
func (a *attempt) gotConn(info httptrace.GotConnInfo) {
	if a.stopped() {
		return
	}
	if a.cancel != nil {
		a.http2.Store(isHTTP2(info.Conn))
	}
	a.stage.Store(stageSent)
}

// stopped ends an attempt that was sent and would be sent again.
func (a *attempt) stopped() bool {
	if a.cancel == nil || !a.written.Load() {
		return false
	}
	a.cancel(errSentAlready)
	return true
}

func isHTTP2(c net.Conn) bool {
	t, ok := c.(*tls.Conn)
	return ok && t.ConnectionState().NegotiatedProtocol == "h2"
}

// wroteHeaders is called when they are sent. With HTTP/1 they may still be in a
// buffer, so it says nothing there.
func (a *attempt) wroteHeaders() {
	if a.http2.Load() {
		a.written.Store(true)
	}
}
