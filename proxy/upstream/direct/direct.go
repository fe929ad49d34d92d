// Package direct is an [http.RoundTripper] without goroutines: the caller writes the request,
// waits, and reads the response. [http.Transport] has two goroutines for each connection, one
// that reads and one that writes. A request that waits for a slow response here holds neither
// of them, and no buffer.
//
// [Transport] serves only what can be served so: HTTP/1.1 without TLS, and a request whose
// body, if any, is in memory. It hands every other request to another RoundTripper: see serves.
// With a body that has yet to arrive, somebody would have to read while somebody else writes.
//
// A request's way:
//
//	take an idle connection or dial (idle.go) → send → wait → read the header (conn.go) →
//	read the body, and make the connection idle again (body.go)
//
// The context's end closes the connection, and so ends whatever blocks in it.
package direct

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"sync"
	"time"

	"golang.org/x/net/http/httpguts"

	"metergate/quota/rawsocket"
)

// A Transport sends requests. It must not be copied. All methods may be called concurrently.
type Transport struct {
	// Dial connects to HOST:PORT. Its connection must be a [syscall.Conn].
	Dial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Other serves what this Transport does not.
	Other http.RoundTripper
	// Inspect gets each final response before the caller does, with the beginning of what has
	// arrived: the whole header, unless it is very long. Its error ends the request. Inspect
	// must not keep head. nil: nothing is inspected.
	Inspect func(res *http.Response, head []byte) error
	// IdleTimeout is how long an unused connection is kept.
	IdleTimeout time.Duration
	// MaxIdle is how many unused connections are kept for each host.
	MaxIdle int
	// Log reports, at level debug, what servers send that belongs to no request. nil: no log.
	Log *slog.Logger

	mu    sync.Mutex
	hosts map[string]*host // by HOST:PORT
	// closeIdle: CloseIdleConnections was called, and no request came since.
	closeIdle bool
	dials     map[*dial]struct{} // under way
	sweeper   *time.Timer        // nil: it does not run
}

// A MemoryBody is a request's body that may be in memory.
type MemoryBody interface {
	io.ReadCloser
	// InMemory reports whether no Read of the whole body waits for anything.
	InMemory() bool
}

// maxHeader bounds a response's header, in bytes, as http.Transport does: informational
// responses included, unless httptrace.ClientTrace.Got1xxResponse gets them.
const maxHeader = 10 << 20

// serves reports whether a request can be served without goroutines. It cannot if something
// about it is invalid, so that http.Transport says what.
func (t *Transport) serves(req *http.Request) bool {
	if !rawsocket.CanPeek || t.Dial == nil || req.URL == nil || req.URL.Scheme != "http" || req.Close || req.Cancel != nil ||
		len(req.TransferEncoding) > 0 || req.Trailer != nil || req.Method == http.MethodConnect || req.ContentLength < 0 {
		return false
	}
	if req.Body != nil && req.Body != http.NoBody {
		if body, ok := req.Body.(MemoryBody); !ok || req.ContentLength == 0 || !body.InMemory() {
			return false
		}
	} else if req.ContentLength != 0 {
		return false
	}
	return isValid(req)
}

func isValid(req *http.Request) bool {
	if req.Method != "" && !httpguts.ValidHeaderFieldName(req.Method) || req.URL.Hostname() == "" || !isASCII(req.URL.Host) {
		return false
	}
	for name, values := range req.Header {
		switch name {
		case "Connection", "Expect", "Upgrade":
			return false
		}
		if !httpguts.ValidHeaderFieldName(name) {
			return false
		}
		for _, v := range values {
			if !httpguts.ValidHeaderFieldValue(v) {
				return false
			}
		}
	}
	return req.Header != nil
}

// isASCII is false for a host that http.Transport has to translate.
func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// RoundTrip sends a request. It sends it again, once and on a new connection, by the rules of
// net/http: the connection had been used before, no byte of a response came, and nothing of the
// request was sent, or it has no body and is idempotent.
func (t *Transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.Send(req, func() {})
}

// Send is RoundTrip. Before it waits for the response, it calls sent, in the same goroutine, if some
// of the request was sent. A request that Send does not send again may lose its Header then. It never
// calls sent for a request that it hands to Other.
func (t *Transport) Send(req *http.Request, sent func()) (*http.Response, error) {
	if !t.serves(req) {
		return t.Other.RoundTrip(req)
	}
	ctx := req.Context()
	e := &exchange{t: t, req: req, trace: httptrace.ContextClientTrace(ctx), sent: sent}
	defer e.freeMessage()
	again := false
	for {
		err := context.Cause(ctx)
		if err == nil {
			e.c, err = t.connect(ctx, e.trace, addrOf(req.URL), again)
		}
		if err != nil {
			closeBody(req)
			return nil, err
		}
		res, err := e.do()
		if err == nil {
			return res, nil
		}
		if err == errStale {
			continue
		}
		unsent := e.message != nil // the connection took nothing of it
		if again || !e.c.reused || e.responded || ctx.Err() != nil || !unsent && !(e.begun && isReplayable(req)) {
			return nil, err
		}
		again = true
	}
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// isReplayable reports whether net/http sends a request again of which something was sent.
func isReplayable(req *http.Request) bool {
	if req.Body != nil && req.Body != http.NoBody {
		return false // it was read
	}
	switch req.Method {
	case "", http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace:
		return true
	}
	_, key := req.Header["Idempotency-Key"]
	_, xkey := req.Header["X-Idempotency-Key"]
	return key || xkey
}

func addrOf(u *url.URL) string {
	if u.Port() != "" && u.Host[0] != '[' {
		return u.Host
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	return net.JoinHostPort(u.Hostname(), port)
}

// The buffers in messages and readers are held while they are used, not while a request waits for its
// response.
var (
	messages = sync.Pool{New: func() any { return new(bytes.Buffer) }}
	readers  = sync.Pool{New: func() any { return newReader() }}
)

// maxPooled is how large a buffer may have grown that is kept for other requests.
const maxPooled = 64 << 10

// An exchange is a request on a connection, and its response.
type exchange struct {
	t         *Transport
	c         *conn
	req       *http.Request
	trace     *httptrace.ClientTrace // may be nil
	message   *bytes.Buffer          // the request as it is sent, until some of it was
	stop      func() bool            // ends that the context's end closes the connection; false: it has
	sent      func()                 // to be called then
	begun     bool                   // something of the request was sent
	responded bool                   // the first byte has come
}

// writeMessage makes the message, unless the last connection took nothing of it: by then the
// request's body has been read.
func (e *exchange) writeMessage() error {
	if e.message != nil {
		return nil
	}
	e.message = messages.Get().(*bytes.Buffer)
	err := e.req.Write(e.message) // closes the body
	if err != nil {
		e.freeMessage()
	}
	return err
}

func (e *exchange) freeMessage() {
	if e.message != nil && e.message.Cap() <= maxPooled {
		e.message.Reset()
		messages.Put(e.message)
	}
	e.message = nil
}

// do sends the request on the connection, and reads the response's header.
func (e *exchange) do() (*http.Response, error) {
	ctx := e.req.Context()
	e.stop = context.AfterFunc(ctx, e.c.abort)
	res, err := e.respond()
	if err != nil {
		e.stop()
		if err == errStale {
			e.t.discard(e.c)
		}
		e.c.Close()
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return nil, err
	}
	return res, nil
}

func (e *exchange) respond() (*http.Response, error) {
	if err := e.writeMessage(); err != nil {
		return nil, err
	}
	e.begun = false
	r, err := e.c.exchange(e)
	if err != nil {
		return nil, err
	}
	e.responded = true
	if e.trace != nil && e.trace.GotFirstResponseByte != nil {
		e.trace.GotFirstResponseByte()
	}
	res, err := e.read(r)
	if err == nil && e.t.Inspect != nil {
		err = e.t.Inspect(res, r.head)
	}
	if err != nil {
		freeReader(r)
		return nil, err
	}
	b := &body{exchange: e, from: res.Body, r: r}
	b.reusable = e.c.sendErr == nil && !res.Close && res.ProtoAtLeast(1, 1) && res.StatusCode >= 200
	if res.Body == http.NoBody {
		b.end()
	} else {
		res.Body = b
	}
	return res, nil
}

// hasBegun notes that some of the request was sent.
func (e *exchange) hasBegun() {
	e.begun = true
	e.freeMessage()
	e.sent()
}

// read reads the final response's header, and that of all informational responses before.
func (e *exchange) read(r *reader) (*http.Response, error) {
	for {
		res, err := http.ReadResponse(&r.Reader, e.req)
		switch {
		case err != nil && r.left <= 0:
			return nil, errHeaderTooLong
		case err != nil:
			return nil, err
		case res.StatusCode < 100 || res.StatusCode >= 200 || res.StatusCode == http.StatusSwitchingProtocols:
			r.left = noLimit
			return res, nil
		case e.trace != nil && e.trace.Got1xxResponse != nil:
			if err := e.trace.Got1xxResponse(res.StatusCode, textproto.MIMEHeader(res.Header)); err != nil {
				return nil, err
			}
			r.left = maxHeader
		}
	}
}
