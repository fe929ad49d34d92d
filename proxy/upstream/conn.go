package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"syscall"
	"time"
)

// A dialer connects to targets.
type dialer struct {
	net.Dialer
	names       *nameBook
	log         *slog.Logger
	sockets     map[string]string // see socketsOf
	connections *Connections
	tls         *tls.Config
	// handshakeTimeout bounds a TLS handshake.
	handshakeTimeout time.Duration
}

func newDialer(o Options) *dialer {
	d := &dialer{
		Dialer:           net.Dialer{Timeout: o.DialTimeout, KeepAlive: 30 * time.Second, Resolver: o.Resolver},
		names:            newNameBook(),
		log:              o.Log,
		connections:      o.Connections,
		tls:              cmp.Or(o.TLS, &tls.Config{}).Clone(),
		handshakeTimeout: o.DialTimeout,
	}
	d.tls.NextProtos = []string{"h2", "http/1.1"}
	if d.tls.ClientSessionCache == nil { // connections are renewed all the time
		d.tls.ClientSessionCache = tls.NewLRUClientSessionCache(0)
	}
	return d
}

// dial connects to a target without TLS.
func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.connections.dial(ctx, d, network, addr)
	if err != nil {
		return nil, err
	}
	return newTargetConn(c), nil
}

// dialTLS connects to a target with TLS. The connection is a *tls.Conn if the target
// speaks HTTP/2, as http.Transport requires.
func (d *dialer) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.connections.dial(ctx, d, network, addr)
	if err != nil {
		return nil, err
	}
	config := d.tls
	if config.ServerName == "" {
		config = config.Clone()
		config.ServerName, _, _ = net.SplitHostPort(addr) // no error: it could be dialed
	}
	secure := tls.Client(c, config)
	ctx, cancel := context.WithTimeout(ctx, d.handshakeTimeout)
	defer cancel()
	if err := secure.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, fmt.Errorf("TLS handshake: %w", err)
	}
	if isHTTP2(secure) {
		return secure, nil
	}
	return newTargetConn(secure), nil
}

// errUnsolicited means that a target sent bytes which belong to no request.
var errUnsolicited = errors.New("the target sent more than its response")

// A targetConn is an HTTP/1 connection to a target.
//
// It saves the response of a target that answers and closes before it has read the whole
// request. Then the response arrives and writing the rest of the request fails, and
// http.Transport believes whichever it notices first: after a failed write it closes the
// connection, with the response still unread. So a write that fails because the target has
// closed does not return before the connection is closed on this side. http.Transport reads
// and writes in different goroutines. The one that reads is not held up: it gets what the
// target sent before it closed, then an error, and it closes the connection.
//
// It keeps what one request's response is too long from becoming the response of the next
// request, perhaps another user's. Some targets send a body after HEAD, 204 or 304, or more
// than Content-Length says (golang/go#68653). See claim.
type targetConn struct {
	net.Conn
	release  sync.Once
	released chan struct{} // closed when failed writes may return
	header   heldHeader

	mu      sync.Mutex
	changed sync.Cond // reading or closed has become true
	reading bool      // a Read is under way
	closed  bool
	// requested: some of the present request has been written, so what arrives is its response.
	requested bool
	// attempt is the present request until a response begins, nil from then on.
	attempt *attempt
	// recorded is the beginning of what arrived for the present request, see restoreHead.
	recorded []byte
	record   bool // until the response's header has arrived
}

func newTargetConn(c net.Conn) *targetConn {
	t := &targetConn{Conn: c, released: make(chan struct{})}
	t.changed.L = &t.mu
	return t
}

// claim is called for each request that gets the connection, before any of it is written.
//
// http.Transport reads ahead, and looks for bytes that nobody asked for only when it reads
// the next response. So claim waits until http.Transport reads: then it has nothing left of
// the previous response, or has closed the connection because of it.
func (c *targetConn) claim(a *attempt) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.reading && !c.closed {
		c.changed.Wait()
	}
	c.requested, c.attempt = false, a
	c.recorded, c.record = c.recorded[:0], true
}

// endRecord returns what was recorded. It is valid until the connection is claimed again.
func (c *targetConn) endRecord() []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.record = false
	return c.recorded
}

func (c *targetConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	c.reading = true
	c.changed.Broadcast()
	c.mu.Unlock()
	n, err := c.Conn.Read(p)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reading = false
	if n > 0 {
		c.attempt = nil
		if !c.requested {
			return 0, errUnsolicited
		}
		if c.record && len(c.recorded) < maxRecorded {
			c.recorded = append(c.recorded, p[:n]...)
		}
	}
	return n, err
}

// releaseWrites makes failed writes return. It is called when the connection is upgraded:
// from then on it is not http.Transport that reads.
func (c *targetConn) releaseWrites() { c.release.Do(func() { close(c.released) }) }

func (c *targetConn) Write(p []byte) (int, error) {
	if c.holdBack(p) {
		return len(p), nil
	}
	if err := c.tryWriteHeader(); err != nil {
		return 0, err
	}
	return c.write(p)
}

// write writes bytes of the present request.
func (c *targetConn) write(p []byte) (int, error) {
	c.mu.Lock()
	c.requested = true
	c.mu.Unlock()
	n, err := c.Conn.Write(p)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		<-c.released
	}
	return n, err
}

func (c *targetConn) Close() error {
	c.releaseWrites()
	err := c.Conn.Close()
	c.mu.Lock()
	unanswered := c.attempt
	c.closed, c.attempt = true, nil
	c.changed.Broadcast()
	c.mu.Unlock()
	if unanswered != nil {
		unanswered.connClosed()
	}
	return err
}

// CloseWrite is called on an upgraded connection when the client has sent everything.
func (c *targetConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// A directConn is a connection of package direct, which has nothing of what a targetConn makes up for: it never reads
// ahead, and just before a request it looks for bytes that nobody asked for. Only those that come after this look, before
// the target has the request, would be taken for its response.
type directConn struct{ streamConn }

func (d *dialer) dialDirect(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.connections.dial(ctx, d, network, addr)
	if err != nil {
		return nil, err
	}
	return &directConn{c.(streamConn)}, nil
}
