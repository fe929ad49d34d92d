package upstream

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// A dialer connects to targets.
type dialer struct {
	net.Dialer
	tls *tls.Config
	// handshakeTimeout bounds a TLS handshake.
	handshakeTimeout time.Duration
}

func newDialer(o Options) *dialer {
	d := &dialer{
		Dialer:           net.Dialer{Timeout: o.DialTimeout, KeepAlive: 30 * time.Second},
		tls:              cmp.Or(o.TLS, &tls.Config{}).Clone(),
		handshakeTimeout: o.DialTimeout,
	}
	d.tls.NextProtos = []string{"h2", "http/1.1"}
	return d
}

// dial connects to a target without TLS.
func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	return newTargetConn(c), nil
}

// dialTLS connects to a target with TLS. The connection is a *tls.Conn if the target
// speaks HTTP/2, as http.Transport requires.
func (d *dialer) dialTLS(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := d.DialContext(ctx, network, addr)
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

// A targetConn is an HTTP/1 connection to a target. It saves the response of a target that
// answers and closes before it has read the whole request. Then the response arrives and
// writing the rest of the request fails, and http.Transport believes whichever it notices
// first: after a failed write it closes the connection, with the response still unread.
//
// So a write that fails because the target has closed does not return before the
// connection is closed on this side. http.Transport reads and writes in different
// goroutines. The one that reads is not held up: it gets what the target sent before it
// closed, then an error, and it closes the connection.
type targetConn struct {
	net.Conn
	release  sync.Once
	released chan struct{} // closed when failed writes may return
}

func newTargetConn(c net.Conn) *targetConn {
	return &targetConn{Conn: c, released: make(chan struct{})}
}

// releaseWrites makes failed writes return. It is called when the connection is upgraded:
// from then on it is not http.Transport that reads.
func (c *targetConn) releaseWrites() { c.release.Do(func() { close(c.released) }) }

func (c *targetConn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		<-c.released
	}
	return n, err
}

func (c *targetConn) Close() error {
	c.releaseWrites()
	return c.Conn.Close()
}

// CloseWrite is called on an upgraded connection when the client has sent everything.
func (c *targetConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}
