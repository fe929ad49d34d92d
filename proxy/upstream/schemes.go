package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"path"
	"strings"
	"syscall"
	"time"
)

// Schemes of targets.
//
//	http, https   HTTP/1.1; with TLS HTTP/2, if the target offers it
//	h2c           HTTP/2 without TLS, by prior knowledge (RFC 9113 section 3.3)
//	unix          HTTP/1.1 on a Unix socket; the URL's path is that of the socket
//
// http.Transport knows only the first two. To it, a target of h2c is one of http, in a transport
// that speaks nothing but HTTP/2. One of unix is one of http as well, whose host is a name that
// the dialer takes for the socket.
const (
	schemeHTTP  = "http"
	schemeHTTPS = "https"
	schemeH2C   = "h2c"
	schemeUnix  = "unix"
)

// MaxSocketPath is how many bytes the path of a Unix socket may have on this system.
const MaxSocketPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// hostOnSocket is the Host header of requests on a Unix socket, unless the options set another.
const hostOnSocket = "localhost"

func checkURL(u *url.URL) error {
	if u == nil {
		return errors.New("is required")
	}
	switch u.Scheme {
	case schemeHTTP, schemeHTTPS, schemeH2C:
		if u.Hostname() == "" {
			return fmt.Errorf("must have a host, got %q", u.Redacted())
		}
	case schemeUnix:
		switch {
		case u.Host != "" || u.Opaque != "" || !path.IsAbs(u.Path):
			return fmt.Errorf("must be unix: and the absolute path of a socket, got %q", u.Redacted())
		case len(u.Path) > MaxSocketPath:
			return fmt.Errorf("the path of a socket may have at most %d bytes, and this one has %d: %q", MaxSocketPath, len(u.Path), u.Path)
		}
	default:
		return fmt.Errorf("must start with http://, https://, h2c:// or unix:, got %q", u.Redacted())
	}
	if u.User != nil || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return fmt.Errorf("must not have a user, query or fragment, got %q", u.Redacted())
	}
	return nil
}

// newTarget makes the n-th target of a pool.
func newTarget(n int, t Target) *target {
	to := &target{
		url:           t.URL,
		name:          t.URL.String(),
		scheme:        t.URL.Scheme,
		prefix:        strings.TrimSuffix(t.URL.Path, "/"),
		escapedPrefix: strings.TrimSuffix(t.URL.EscapedPath(), "/"),
	}
	switch t.URL.Scheme {
	case schemeH2C:
		to.scheme, to.h2c = schemeHTTP, true
	case schemeUnix:
		to.scheme, to.socketHost, to.hostHeader = schemeHTTP, fmt.Sprintf("unix-%d.invalid", n), hostOnSocket
		to.prefix, to.escapedPrefix = "", ""
	}
	return to
}

// socketsOf returns the paths of sockets by the HOST:PORT under which http.Transport dials them.
func socketsOf(targets []*target) map[string]string {
	sockets := map[string]string{}
	for _, t := range targets {
		if t.url.Scheme == schemeUnix {
			sockets[t.socketHost+":80"] = t.url.Path
		}
	}
	return sockets
}

// onlyHTTP2 makes t a transport for targets of h2c.
func onlyHTTP2(t *http.Transport) {
	t.Protocols = new(http.Protocols)
	t.Protocols.SetUnencryptedHTTP2(true)
	dial := t.DialContext
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		if own, ok := c.(*targetConn); ok {
			c = own.Conn // it is for HTTP/1
		}
		return plainHTTP2Conn{c}, nil
	}
}

// A plainHTTP2Conn is a connection to a target of h2c.
type plainHTTP2Conn struct{ net.Conn }

// connect opens a connection to an address or a socket.
func (d *dialer) connect(ctx context.Context, network, addr string) (net.Conn, error) {
	socket, ok := d.sockets[addr]
	if !ok {
		return d.names.dial(ctx, &d.Dialer, network, addr, d.log)
	}
	ctx, cancel := context.WithTimeout(ctx, d.Timeout)
	defer cancel()
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		conn, err := d.DialContext(ctx, "unix", socket)
		// The socket's queue is full. TCP would send its SYN again.
		if !errors.Is(err, syscall.EAGAIN) {
			return conn, err
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return nil, err
		}
	}
}
