package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

// A directTransport sends requests to one host over HTTP/1.1, and does all of it in the
// goroutine that calls it: it writes the request, waits, and reads the response.
// http.Transport has two goroutines for each connection, one that reads and one that
// writes, and channels between them and the caller. An experiment shows what these cost:
// docs/performance.md has the figures, and all that this would have to do in a product.
// It is a sketch:
//
//   - While it writes the request's body it does not read. A server that answers first
//     and reads no more, but keeps the connection, holds it up until the context ends. If
//     the server closes it, the answer is found, and passed on.
//   - It cannot end a Read of the request's body. The caller has to when the context ends.
//   - It sends the body with Expect: 100-continue at once.
//   - It has no TLS, no HTTP/2, no proxies, no gzip, no 101, no timeouts but for dialing,
//     no limit on connections nor on the response's header. Of httptrace it has
//     Got1xxResponse, and what http.Request.Write calls.
//   - It does not check methods, and fields that cannot be sent are left out.
//   - A connection that the server closes while it is idle, or that is idle for too long,
//     stays open here until its turn comes. CloseIdleConnections does not see to those
//     that are idle later.
//   - It peeks into sockets, which not every system lets it.
type directTransport struct {
	address string // HOST:PORT
	dialer  net.Dialer

	mu   sync.Mutex
	idle []*directConn // the last one in is the first one out
}

const (
	directIdle    = 1024             // connections that are kept
	directIdleFor = 90 * time.Second // and how long
	direct1xx     = 5                // informational responses that are too many
)

func newDirectTransport(address string) *directTransport {
	return &directTransport{address: address, dialer: net.Dialer{Timeout: 30 * time.Second}}
}

// These are held while they are used, not while a request waits for its answer: 10,000
// that wait have none.
var (
	directReaders = sync.Pool{New: func() any { return bufio.NewReader(nil) }}
	directWriters = sync.Pool{New: func() any { return bufio.NewWriter(nil) }}
)

// RoundTrip sends a request again, once and on a new connection, if a connection that
// was idle breaks before a byte of the response, the request has no body, and its method
// is idempotent or nothing of it was sent.
func (t *directTransport) RoundTrip(req *http.Request) (*http.Response, error) {
	err := context.Cause(req.Context())
	if err == nil && (req.URL.Scheme != "http" || req.URL.Host != t.address) {
		err = fmt.Errorf("%s is not at http://%s", req.URL.Redacted(), t.address)
	}
	if err != nil {
		closeBody(req)
		return nil, err
	}
	c := t.take()
	if c != nil {
		res, again, err := t.exchange(c, req)
		if err == nil || !again {
			return res, err
		}
	}
	if c, err = t.dial(req.Context()); err != nil {
		closeBody(req)
		return nil, err
	}
	res, _, err := t.exchange(c, req)
	return res, err
}

func closeBody(req *http.Request) {
	if req.Body != nil {
		req.Body.Close()
	}
}

// exchange sends the request and reads the response's header. again: it failed, and may
// be tried on another connection.
func (t *directTransport) exchange(c *directConn, req *http.Request) (res *http.Response, again bool, err error) {
	ctx := req.Context()
	// The connection's end is the end of whatever blocks in it.
	stop := context.AfterFunc(ctx, func() { c.Close() })
	defer func() {
		if err != nil {
			stop()
			c.Close()
			if ctx.Err() != nil {
				again, err = false, context.Cause(ctx)
			}
		}
	}()

	sendErr := c.send(req) // closes the body
	came, err := c.arrived(sendErr == nil)
	if sendErr != nil && !came {
		err = sendErr
	}
	if err != nil {
		return nil, (req.Body == nil || req.Body == http.NoBody) && (c.sent == 0 || idempotent(req.Method)), err
	}

	r := directReaders.Get().(*bufio.Reader)
	r.Reset(c)
	if res, err = readFinal(r, req); err != nil {
		return nil, false, err
	}
	b := &directBody{from: res.Body, t: t, c: c, r: r, ctx: ctx, stop: stop}
	b.reusable = sendErr == nil && !req.Close && !res.Close
	if res.Body == http.NoBody {
		b.ended()
	} else {
		res.Body = b
	}
	return res, false, nil
}

// idempotent: RFC 9110 section 9.2.2.
func idempotent(method string) bool {
	switch method {
	case "", "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// readFinal reads responses up to one that is not informational. A switch of protocols
// is an error.
func readFinal(r *bufio.Reader, req *http.Request) (*http.Response, error) {
	trace := httptrace.ContextClientTrace(req.Context())
	for range direct1xx {
		res, err := http.ReadResponse(r, req)
		if err != nil {
			return nil, err
		}
		switch {
		case res.StatusCode == http.StatusSwitchingProtocols:
			return nil, errors.New("the server switched protocols")
		case res.StatusCode >= 200:
			return res, nil
		case trace != nil && trace.Got1xxResponse != nil:
			if err := trace.Got1xxResponse(res.StatusCode, textproto.MIMEHeader(res.Header)); err != nil {
				return nil, err
			}
		}
	}
	return nil, errors.New("too many informational responses")
}

// take returns a connection that was idle and is still good, or nil.
func (t *directTransport) take() *directConn {
	for {
		t.mu.Lock()
		last := len(t.idle) - 1
		if last < 0 {
			t.mu.Unlock()
			return nil
		}
		c := t.idle[last]
		t.idle[last] = nil
		t.idle = t.idle[:last]
		t.mu.Unlock()
		// What came without having been asked for would be taken for the next answer.
		if came, err := c.arrived(false); !came && err == nil && time.Since(c.since) < directIdleFor {
			c.sent = 0
			return c
		}
		c.Close()
	}
}

func (t *directTransport) put(c *directConn) {
	c.since = time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.idle) < directIdle {
		t.idle = append(t.idle, c)
	} else {
		c.Close()
	}
}

func (t *directTransport) dial(ctx context.Context) (*directConn, error) {
	conn, err := t.dialer.DialContext(ctx, "tcp", t.address)
	if err != nil {
		return nil, err
	}
	raw, err := conn.(*net.TCPConn).SyscallConn()
	return &directConn{Conn: conn, raw: raw}, err
}

// CloseIdleConnections is what http.Client calls.
func (t *directTransport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.idle {
		c.Close()
	}
	t.idle = nil
}

type directConn struct {
	net.Conn
	raw   syscall.RawConn
	since time.Time // it was idle
	sent  int       // bytes of the request
}

func (c *directConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.sent += n
	return n, err
}

func (c *directConn) send(req *http.Request) error {
	w := directWriters.Get().(*bufio.Writer)
	w.Reset(c)
	err := req.Write(w)
	if err == nil {
		err = w.Flush()
	}
	w.Reset(nil)
	directWriters.Put(w)
	return err
}

// arrived reports whether there is a byte to read, and leaves it there; with wait it
// waits for one. An error says that none will come.
func (c *directConn) arrived(wait bool) (bool, error) {
	var n int
	var err error
	if err := c.raw.Read(func(fd uintptr) (done bool) {
		var b [1]byte
		for {
			n, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
			if err != syscall.EINTR {
				return err != syscall.EAGAIN || !wait
			}
		}
	}); err != nil {
		return false, err
	}
	switch {
	case err == syscall.EAGAIN:
		return false, nil
	case err != nil:
		return false, os.NewSyscallError("recvfrom", err)
	case n == 0:
		return false, io.EOF
	}
	return true, nil
}

// A directBody is a response's body. Whoever reads its end gives the connection back;
// Close before that ends the connection, also while a Read waits.
type directBody struct {
	from     io.Reader
	t        *directTransport
	c        *directConn
	r        *bufio.Reader
	ctx      context.Context
	stop     func() bool // context.AfterFunc's
	reusable bool        // once the body has been read
	state    atomic.Int32
}

const (
	directOpen = iota
	directEnded
	directClosed
)

func (b *directBody) Read(p []byte) (int, error) {
	switch b.state.Load() {
	case directEnded:
		return 0, io.EOF
	case directClosed:
		return 0, http.ErrBodyReadAfterClose
	}
	n, err := b.from.Read(p)
	switch {
	case err == io.EOF:
		b.ended()
	case err != nil && b.ctx.Err() != nil:
		err = context.Cause(b.ctx)
	}
	return n, err
}

func (b *directBody) ended() {
	if !b.state.CompareAndSwap(directOpen, directEnded) {
		return // closed meanwhile
	}
	alive := b.stop()
	if b.reusable && alive && b.r.Buffered() == 0 {
		b.t.put(b.c)
	} else {
		b.c.Close()
	}
	b.r.Reset(nil)
	directReaders.Put(b.r)
}

// Close does not close what it wraps, which would read up to the end; and it leaves the
// reader alone, since a Read may be in it.
func (b *directBody) Close() error {
	if b.state.CompareAndSwap(directOpen, directClosed) {
		b.stop()
		b.c.Close()
	}
	return nil
}
