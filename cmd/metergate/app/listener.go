package app

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"metergate/cmd/metergate/sockets"
	"metergate/proxy"
	"metergate/quota/ratelog"
	"metergate/quota/rawsocket"
)

const (
	// acceptPause is the pause after a connection could not be accepted.
	acceptPause = 100 * time.Millisecond
	// shedInterval is how often idle connections are looked for while a client waits.
	shedInterval = 500 * time.Millisecond
	// recentTrouble is how long /readyz reports that clients had to wait.
	recentTrouble = 10 * time.Second
)

// A listener bounds the connections of a server, and goes on after an error of the system. One
// connection more than the bound is accepted, and then waits. As long as it does, the server
// closes the connections that are idle, and others after their response.
//
// The clients behind it wait in the system's queue. They are not refused, because with TLS
// an answer would cost more than what it says.
type listener struct {
	net.Listener
	server *http.Server
	most   *atomic.Int64 // 0: no bound
	open   atomic.Int64  // connections that the server has, and the one that waits
	closed chan struct{}
	close  func() error
	// proxies are the networks whose connections begin with a header of the PROXY protocol; nil: none.
	proxies func() []netip.Prefix
	room    chan struct{} // receives when a connection was closed
	tls     bool

	handsOver atomic.Bool // another process accepts connections from now on

	waiting  atomic.Bool // a connection waits for room
	shedding atomic.Bool // the server keeps no connection open between requests

	errors                atomic.Int64 // of accept
	troubleAt             atomic.Int64 // when a client had to wait, in Unix nanoseconds
	lastError             atomic.Pointer[string]
	errorLines, fullLines *ratelog.Line
	headerLines           *ratelog.Line
}

// newListener makes l the listener of a server. setting is the name of its setting; most
// bounds its connections, and may change; 0: it does not.
func newListener(l net.Listener, s *http.Server, setting string, most *atomic.Int64, log *slog.Logger) *listener {
	log = log.With("listener", setting)
	b := &listener{Listener: l, server: s, most: most, tls: s.TLSConfig != nil, closed: make(chan struct{}), room: make(chan struct{}, 1),
		errorLines: ratelog.New(log, slog.LevelError, "a connection could not be accepted"),
		fullLines:  ratelog.New(log, slog.LevelWarn, "clients wait: as many connections are open as this gateway has room for")}
	b.headerLines = ratelog.New(log, slog.LevelWarn, "a connection was closed: its peer is in proxy_protocol, and it does not begin with a header of the PROXY protocol")
	b.close = sync.OnceValue(func() error { close(b.closed); return l.Close() })
	return b
}

func (l *listener) Close() error { return l.close() }

// Accept returns the next connection, once there is room for it.
func (l *listener) Accept() (net.Conn, error) {
	conn, err := l.accept()
	if err != nil {
		return nil, err
	}
	c := l.counted(conn)
	if l.open.Add(1); !l.full() {
		return l.withHeader(c), nil
	}
	l.fullLines.Log("max", l.most.Load())
	l.waiting.Store(true)
	defer l.keepAliveIfRoom()
	defer l.waiting.Store(false)
	look := time.NewTicker(shedInterval)
	defer look.Stop()
	for l.full() {
		l.noteTrouble()
		l.shedding.Store(true)
		l.server.SetKeepAlivesEnabled(false) // closes the idle ones
		select {
		case <-l.room:
		case <-look.C:
		case <-l.closed:
			if l.handsOver.Load() {
				return l.withHeader(c), nil // the successor never sees it
			}
			c.Close()
			return nil, net.ErrClosed
		}
	}
	return l.withHeader(c), nil
}

// wantsHeader reports whether a connection has to begin with a header of the PROXY protocol.
func (l *listener) wantsHeader(c net.Conn) bool {
	return l.proxies != nil && sockets.IsFrom(l.proxies(), c.RemoteAddr())
}

// withHeader returns a connection that begins with a header of the PROXY protocol if its peer has to send
// one.
func (l *listener) withHeader(c net.Conn) net.Conn {
	if !l.wantsHeader(c) {
		return c
	}
	peer := sockets.Text(c.RemoteAddr())
	return sockets.NewProxied(c, sockets.HeaderTimeout, func(err error) {
		l.headerLines.Log("peer", peer, "error", err)
	})
}

// full reports whether more connections are open than the bound allows.
func (l *listener) full() bool {
	most := l.most.Load()
	return most > 0 && l.open.Load() > most
}

// accept accepts a connection. It tries again after an error, unless the socket is closed or
// unusable: Linux also reports here what is wrong with a single connection (accept(2)).
func (l *listener) accept() (net.Conn, error) {
	for {
		conn, err := l.Listener.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.EBADF) || errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENOTSOCK) {
			return conn, err
		}
		l.errors.Add(1)
		text := err.Error()
		l.lastError.Store(&text)
		l.noteTrouble()
		l.errorLines.Log("error", err)
		select {
		case <-time.After(acceptPause):
		case <-l.closed:
			return nil, net.ErrClosed
		}
	}
}

func (l *listener) noteTrouble() { l.troubleAt.Store(time.Now().UnixNano()) }

// fault says what has kept clients waiting during the last ten seconds; nil: nothing has.
func (l *listener) fault() error {
	if time.Since(time.Unix(0, l.troubleAt.Load())) > recentTrouble {
		return nil
	}
	if l.full() {
		return errors.New("clients wait: all connections that there is room for are open")
	}
	if text := l.lastError.Load(); text != nil {
		return errors.New("connections could not be accepted: " + *text)
	}
	return errors.New("clients have waited for a connection during the last ten seconds")
}

// connectionClosed makes room for the connection that waits.
func (l *listener) connectionClosed() {
	l.open.Add(-1)
	l.keepAliveIfRoom()
	select {
	case l.room <- struct{}{}:
	default:
	}
}

// keepAliveIfRoom lets connections stay open again, once an eighth of the room is free.
func (l *listener) keepAliveIfRoom() {
	most := l.most.Load()
	if !l.waiting.Load() && l.open.Load() <= most-most/8 && l.shedding.CompareAndSwap(true, false) {
		l.server.SetKeepAlivesEnabled(true)
	}
}

// counted returns a connection that l counts until it is closed.
func (l *listener) counted(conn net.Conn) net.Conn {
	var first firstByte
	// A ReadTimeout of the server would begin before the first byte.
	if !l.tls && l.server.ReadTimeout == 0 && !l.wantsHeader(conn) {
		first.wait = l.server.IdleTimeout
	}
	if unix, ok := conn.(*net.UnixConn); ok {
		return &unixConn{UnixConn: unix, count: count{listener: l}, first: first, writer: rawsocket.NewWriter(conn), reader: rawsocket.NewReader(conn)}
	}
	return &tcpConn{TCPConn: conn.(*net.TCPConn), count: count{listener: l}, first: first, writer: rawsocket.NewWriter(conn), reader: rawsocket.NewReader(conn)}
}

// A firstByte lets a client open a connection before it has a request, as browsers and pools of connections do. Until its
// first byte has come, such a connection may wait as long as one may wait for its next request. net/http alone
// gives it only the time for a header, and so may close it just when it is used. Over TLS, and after a header of the PROXY
// protocol, a connection still has only that time.
type firstByte struct {
	wait   time.Duration // 0: as with net/http alone
	came   bool
	header time.Duration // the time for the header, from the first byte on; 0: without bound
}

// deadline returns the read deadline to set in place of t.
func (f *firstByte) deadline(t time.Time, l *listener) time.Time {
	if f.came || f.wait == 0 {
		return t
	}
	left := time.Until(t)
	if left <= 0 || left >= f.wait || l.shedding.Load() {
		return t
	}
	f.header = left
	return time.Now().Add(f.wait)
}

// read notes the result of a read from c. From the first byte on, the header has its own time.
func (f *firstByte) read(n int, err error, c interface{ SetReadDeadline(time.Time) error }) (int, error) {
	if n > 0 && !f.came {
		f.came = true
		if f.header > 0 {
			err = cmp.Or(err, c.SetReadDeadline(time.Now().Add(f.header)))
		}
	}
	return n, err
}

// A count is that of one open connection.
type count struct {
	listener *listener
	closed   atomic.Bool
}

func (c *count) end() {
	if c.closed.CompareAndSwap(false, true) {
		c.listener.connectionClosed()
	}
}

// These two embed what they count, because net/http and the kernel do more with it than with a net.Conn.
type (
	tcpConn struct {
		*net.TCPConn
		count
		proxy.ReadHook
		first  firstByte
		writer *rawsocket.Writer
		reader *rawsocket.Reader
	}
	unixConn struct {
		*net.UnixConn
		count
		proxy.ReadHook
		first  firstByte
		writer *rawsocket.Writer
		reader *rawsocket.Reader
	}
)

func (c *tcpConn) Close() error {
	defer c.end()
	return c.TCPConn.Close()
}

func (c *unixConn) Close() error {
	defer c.end()
	return c.UnixConn.Close()
}

func (c *tcpConn) Read(p []byte) (int, error) {
	if !c.BeforeRead(len(p)) {
		return 0, nil
	}
	n, err := c.reader.Read(p)
	return c.first.read(n, err, c.TCPConn)
}

func (c *unixConn) Read(p []byte) (int, error) {
	if !c.BeforeRead(len(p)) {
		return 0, nil
	}
	n, err := c.reader.Read(p)
	return c.first.read(n, err, c.UnixConn)
}

func (c *tcpConn) SetReadDeadline(t time.Time) error {
	return c.TCPConn.SetReadDeadline(c.first.deadline(t, c.listener))
}

func (c *unixConn) SetReadDeadline(t time.Time) error {
	return c.UnixConn.SetReadDeadline(c.first.deadline(t, c.listener))
}

func (c *tcpConn) Write(p []byte) (int, error)  { return c.writer.Write(p) }
func (c *unixConn) Write(p []byte) (int, error) { return c.writer.Write(p) }

func (c *tcpConn) readHook() *proxy.ReadHook  { return &c.ReadHook }
func (c *unixConn) readHook() *proxy.ReadHook { return &c.ReadHook }

// withReadHook is the ConnContext of a server with a listener: it tells the requests of their connection's ReadHook.
func withReadHook(ctx context.Context, c net.Conn) context.Context {
	for {
		switch inner := c.(type) {
		case interface{ readHook() *proxy.ReadHook }:
			return proxy.WithReadHook(ctx, inner.readHook())
		case interface{ NetConn() net.Conn }: // TLS, or the PROXY protocol
			c = inner.NetConn()
		default:
			return ctx
		}
	}
}
