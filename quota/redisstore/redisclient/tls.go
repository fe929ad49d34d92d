package redisclient

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"metergate/quota/rawsocket"
	"metergate/quota/redisstore/redisurl"
)

// A TLSError reports a server with which no TLS connection can be made.
type TLSError struct {
	Addr   string // HOST:PORT of the server
	Advice string // what to do about it; empty if nothing is known
	Err    error
}

func (e *TLSError) Error() string {
	if e.Advice == "" {
		return fmt.Sprintf("TLS with %s: %v", e.Addr, e.Err)
	}
	return fmt.Sprintf("TLS with %s: %v; %s", e.Addr, e.Err, e.Advice)
}

// Unwrap returns the error of package tls.
func (e *TLSError) Unwrap() error { return e.Err }

const (
	adviceNoCA        = "if it is a private authority, give its certificate as store.tls.ca_file"
	adviceOtherCA     = "store.tls.ca_file must have the certificate of its authority"
	adviceName        = "set store.tls.server_name to a name that the certificate has"
	adviceExpired     = "renew the certificate of the server or of its authority, or set the clock of this machine"
	advicePlain       = "this port does not speak TLS; write its TLS port in store.url, or redis for rediss"
	adviceSilent      = "if this goes on, the port does not speak TLS, or is that of a server that hangs"
	adviceNoClient    = "the server asks for a client certificate; give it as store.tls.cert_file and key_file"
	adviceOtherClient = "the server refuses the client certificate in store.tls.cert_file; check that it has not expired, and that its authority is in the server's tls-ca-cert-file"
)

// A secureDialer makes TLS connections.
type secureDialer struct {
	firstHost string // of the URL
	// config is for new connections. Its ServerName is empty if a certificate must be for the
	// name that is dialled.
	config atomic.Pointer[tls.Config]
	// shaking is the connection whose handshake began last, nil once that has ended.
	shaking atomic.Pointer[secureConn]
}

// newSecureDialer returns nil for a location without TLS. A nil config stands for the defaults.
func newSecureDialer(l redisurl.Location, config *tls.Config) *secureDialer {
	if !l.TLS {
		return nil
	}
	d := &secureDialer{}
	d.firstHost, _, _ = net.SplitHostPort(l.Hosts[0])
	d.set(config)
	return d
}

func (d *secureDialer) set(config *tls.Config) {
	if config == nil {
		config = &tls.Config{MinVersion: tls.VersionTLS12}
	}
	d.config.Store(config)
}

// handshake turns a connection to an address into a TLS connection. It closes it on an error,
// which is a *TLSError.
func (d *secureDialer) handshake(ctx context.Context, conn net.Conn, addr string) (net.Conn, error) {
	common := d.config.Load()
	config := common.Clone()
	if config.ServerName == "" {
		config.ServerName = serverName(addr, d.firstHost)
	}
	c := &secureConn{addr: addr, ownCA: config.RootCAs != nil, certificate: new(tls.Certificate)}
	if len(config.Certificates) > 0 {
		c.certificate = &common.Certificates[0]
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
		c.asked = true
		return c.certificate, nil
	}
	c.Conn = tls.Client(conn, config)
	d.shaking.Store(c)
	defer d.shaking.CompareAndSwap(c, nil)
	if err := c.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, c.explain(err)
	}
	// With TLS 1.3 a server refuses a client certificate after the handshake.
	return &newConn{Conn: c, writer: rawsocket.NewWriter(c), reader: rawsocket.NewReader(c), explain: func(err error) error {
		if !c.asked {
			return err
		}
		return c.explain(err)
	}}, nil
}

// explainTimeout says so if the wait was for a handshake.
func (d *secureDialer) explainTimeout(err error) error {
	if d == nil {
		return err
	}
	if c := d.shaking.Load(); c != nil {
		return &TLSError{Addr: c.addr, Err: err, Advice: adviceSilent}
	}
	return err
}

// serverName returns the name that the certificate of a dialled address must have. A
// cluster or a Sentinel may name nodes by IP addresses that no certificate has. If the
// first host of the URL is a name, that name holds for them.
func serverName(addr, firstHost string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || net.ParseIP(host) != nil && net.ParseIP(firstHost) == nil {
		return firstHost
	}
	return host
}

// A secureConn is a TLS connection that knows what may be wrong with it.
type secureConn struct {
	*tls.Conn
	addr        string
	ownCA       bool             // only the authorities of store.tls.ca_file are trusted
	certificate *tls.Certificate // to show; empty: none
	asked       bool             // the server has asked for a client certificate
}

// explain adds what to do about an error.
func (c *secureConn) explain(err error) error {
	e := &TLSError{Addr: c.addr, Err: err}
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		plain   tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &unknown) && c.ownCA:
		e.Advice = adviceOtherCA
	case errors.As(err, &unknown):
		e.Advice = adviceNoCA
	case errors.As(err, &name):
		e.Advice = adviceName
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		e.Advice = adviceExpired
	case errors.As(err, &plain):
		e.Advice = advicePlain
	case c.asked && len(c.certificate.Certificate) == 0:
		e.Advice = adviceNoClient
	case c.asked:
		e.Advice = adviceOtherClient
	}
	return e
}

// explainPlain adds what to do about an error on a connection without TLS. A Redis that speaks
// TLS closes it at once.
func explainPlain(addr string, err error) error {
	if !errors.Is(err, io.EOF) && !errors.Is(err, syscall.ECONNRESET) {
		return err
	}
	return fmt.Errorf("%s closed the connection before it said anything (%w); if it speaks TLS, write rediss for redis in store.url", addr, err)
}

// A newConn explains the error with which a connection ends on which the server has said
// nothing, or that it does not want it.
type newConn struct {
	net.Conn
	writer  *rawsocket.Writer
	reader  *rawsocket.Reader
	explain func(error) error
	heard   atomic.Bool
	refusal atomic.Pointer[string] // the server's reason; nil: there is none
}

// refusals begin what a Redis says before it closes a new connection. go-redis takes it for the
// reply of a server without HELLO, goes on, and reports a broken pipe.
var refusals = []string{"-ERR max number of clients", "-DENIED "}

func (c *newConn) Read(p []byte) (n int, err error) {
	n, err = c.reader.Read(p)
	if n > 0 && !c.heard.Swap(true) {
		line, _, _ := strings.Cut(string(p[:min(n, maxRefusal)]), "\r\n")
		if slices.ContainsFunc(refusals, func(r string) bool { return strings.HasPrefix(line, r) }) {
			c.refusal.Store(&line)
		}
	}
	return n, c.check(err)
}

// maxRefusal is how much of a refusal is shown. The longest one explains protected-mode.
const maxRefusal = 200

func (c *newConn) Write(p []byte) (n int, err error) {
	n, err = c.writer.Write(p)
	return n, c.check(err)
}

func (c *newConn) check(err error) error {
	if err == nil {
		return nil // before timeout is allocated: every call comes by
	}
	timeout := net.Error(nil)
	if errors.Is(err, net.ErrClosed) || errors.As(err, &timeout) && timeout.Timeout() {
		return err
	}
	if reason := c.refusal.Load(); reason != nil {
		return fmt.Errorf("Redis refuses the connection: %s (%w)", (*reason)[1:], err)
	}
	if c.heard.Load() {
		return err
	}
	// go-redis unwraps an error of its own handshake, and returns what is inside.
	return fmt.Errorf("%w", c.explain(err))
}

// SyscallConn is what go-redis looks at before it uses an idle connection.
func (c *newConn) SyscallConn() (syscall.RawConn, error) {
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return hiddenSocket{}, nil
}
