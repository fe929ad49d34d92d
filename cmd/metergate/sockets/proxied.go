package sockets

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pires/go-proxyproto"
)

// HeaderTimeout is how long a load balancer may take to send its header of the PROXY protocol.
const HeaderTimeout = 5 * time.Second

// headerBuffer has room for a header of version 1, which must come in one piece. Of version 2, the
// library accepts up to 4 KiB.
const headerBuffer = 512

// IsFrom reports whether an address belongs to one of the networks. The zero Prefix stands for all Unix
// sockets.
func IsFrom(networks []netip.Prefix, a net.Addr) bool {
	ip := netip.Addr{}
	if tcp, ok := a.(*net.TCPAddr); ok {
		ip = tcp.AddrPort().Addr().Unmap().WithZone("")
	}
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(ip) || !n.IsValid() && !ip.IsValid() })
}

// A Proxied is a connection from a load balancer that begins with a header of the PROXY protocol, which
// says where its client is. The header is read by the first RemoteAddr or Read, not when the connection is
// accepted: a load balancer that sends nothing holds up no other connection.
type Proxied struct {
	net.Conn
	timeout time.Duration
	refused func(error)

	once   sync.Once
	client net.Addr      // nil: the header has none
	rest   *bufio.Reader // what was read behind the header; nil: nothing
	err    error         // why there is no header; the connection is closed then
}

// NewProxied returns a connection whose header must arrive within timeout after it is first asked for. If
// it does not, or is not a valid header, the connection is closed and refused is called. refused is not
// called if the load balancer has only looked whether the port is open.
func NewProxied(conn net.Conn, timeout time.Duration, refused func(error)) *Proxied {
	return &Proxied{Conn: conn, timeout: timeout, refused: refused}
}

// readHeader reads the header once.
func (p *Proxied) readHeader() {
	p.once.Do(func() {
		p.Conn.SetReadDeadline(time.Now().Add(p.timeout))
		from := &counter{Reader: p.Conn}
		buffered := bufio.NewReaderSize(from, headerBuffer)
		acceptUnspecified(buffered)
		header, err := proxyproto.Read(buffered)
		if err != nil {
			p.err = err
			p.Conn.Close()
			if from.read > 0 || !errors.Is(err, proxyproto.ErrNoProxyProtocol) {
				p.refused(err)
			}
			return
		}
		p.Conn.SetReadDeadline(time.Time{})
		// LOCAL, which is for health checks, UNKNOWN and UNSPEC name no client, nor does a Unix socket.
		if source, _, ok := header.TCPAddrs(); ok && header.Command.IsProxy() {
			p.client = source
		}
		if buffered.Buffered() > 0 {
			p.rest = buffered
		}
	})
}

// acceptUnspecified makes a header of version 2 with command PROXY and family UNSPEC one of LOCAL, which names no
// client either. The specification (section 2.2) leaves to the receiver whether it accepts the former. The library does not.
func acceptUnspecified(r *bufio.Reader) {
	if first, _ := r.Peek(1); !bytes.HasPrefix(proxyproto.SIGV2, first) {
		return // of version 1, a whole header may be shorter than what follows
	}
	size := len(proxyproto.SIGV2) + 2
	head, err := r.Peek(size)
	if err == nil && bytes.HasPrefix(head, proxyproto.SIGV2) && head[size-2] == byte(proxyproto.PROXY) && head[size-1] == byte(proxyproto.UNSPEC) {
		head[size-2] = byte(proxyproto.LOCAL)
	}
}

// RemoteAddr is the address of the client, or else of the load balancer.
func (p *Proxied) RemoteAddr() net.Addr {
	p.readHeader()
	if p.client != nil {
		return p.client
	}
	return p.Conn.RemoteAddr()
}

// Read reads what follows the header.
func (p *Proxied) Read(b []byte) (int, error) {
	p.readHeader()
	if p.err != nil {
		return 0, p.err
	}
	if p.rest == nil {
		return p.Conn.Read(b)
	}
	n, err := p.rest.Read(b[:min(len(b), p.rest.Buffered())])
	if p.rest.Buffered() == 0 {
		p.rest = nil
	}
	return n, err
}

// NetConn returns the connection itself.
func (p *Proxied) NetConn() net.Conn { return p.Conn }

// CloseWrite is that of the connection.
func (p *Proxied) CloseWrite() error {
	if half, ok := p.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// A counter counts the bytes that were read.
type counter struct {
	io.Reader
	read int
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.Reader.Read(b)
	c.read += n
	return n, err
}
