package main

import (
	"crypto/tls"
	"io"
	"log"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
)

// A pipe is a listener in memory, of which each connection is a net.Pipe: what one end
// does not read the other cannot write. Time in it can be synctest's.
type pipe struct {
	conns  chan net.Conn
	closed chan struct{}
}

func (p *pipe) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipe) Close() error   { close(p.closed); return nil }
func (p *pipe) Addr() net.Addr { return &net.TCPAddr{} }

func (p *pipe) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- addressed{server}
	return client
}

// addressed is a net.Pipe with an address, for http.Server wants one.
type addressed struct{ net.Conn }

func (addressed) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// timeline runs client on a connection to s in time that only passes when all wait, and
// returns how long it took. Client returns when the connection has ended.
func timeline(t *testing.T, s *http.Server, client func(t *testing.T, conn net.Conn)) (took time.Duration) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipe{make(chan net.Conn), make(chan struct{})}
		done := make(chan error)
		go func() {
			if s.TLSConfig != nil {
				done <- s.ServeTLS(l, "", "")
			} else {
				done <- s.Serve(l)
			}
		}()
		began := time.Now()
		conn := l.dial()
		client(t, conn)
		took = time.Since(began)
		conn.Close()
		s.Close()
		<-done
		time.Sleep(2 * time.Second) // who slept notices that it is over
	})
	return took
}

// When a connection ends that gives nothing, or takes nothing, and that one goes on that
// has its reasons.
func TestPublicBounds(t *testing.T) {
	p := validPair(t)
	certificate, err := tls.X509KeyPair(p.cert, p.key)
	if err != nil {
		t.Fatal(err)
	}
	const forever = 3 * time.Hour // as an open stream may last
	handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/stream":
			w.(http.Flusher).Flush()
			select {
			case <-r.Context().Done():
			case <-time.After(forever):
			}
		case "/endless":
			for block := make([]byte, 16<<10); r.Context().Err() == nil; {
				if _, err := w.Write(block); err != nil {
					return
				}
			}
		}
	})
	raw := func(t *testing.T, conn net.Conn) *rawHTTP2 {
		c, err := newRawHTTP2(conn)
		if err != nil {
			t.Fatal(err)
		}
		c.conn.SetDeadline(time.Time{})
		return c
	}
	drain := func(r io.Reader) { io.Copy(io.Discard, r) }
	answer := func(c *rawHTTP2) {
		c.read(func(f http2.Frame) bool {
			if ping, ok := f.(*http2.PingFrame); ok && !ping.IsAck() {
				c.WritePing(true, ping.Data)
			}
			return false
		})
	}
	for _, c := range []struct {
		name    string
		secure  bool
		client  func(t *testing.T, conn net.Conn)
		seconds int
	}{
		{"no byte of a request", false, func(t *testing.T, conn net.Conn) { drain(conn) }, 10},
		{"a header that does not end", false, func(t *testing.T, conn net.Conn) {
			go func() {
				io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n")
				for {
					time.Sleep(time.Second)
					if _, err := io.WriteString(conn, "X-A: b\r\n"); err != nil {
						return
					}
				}
			}()
			drain(conn)
		}, 10},
		{"no next request", false, func(t *testing.T, conn net.Conn) {
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			drain(conn)
		}, 120},
		{"no handshake", true, func(t *testing.T, conn net.Conn) { drain(conn) }, 10},
		{"no preface", true, func(t *testing.T, conn net.Conn) {
			drain(tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}))
		}, 10},
		{"HTTP/2, no answer to a ping", true, func(t *testing.T, conn net.Conn) { drain(raw(t, conn).conn) }, 45},
		{"HTTP/2, a header that does not end", true, func(t *testing.T, conn net.Conn) {
			c := raw(t, conn)
			go func() {
				c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.fields(":method", "GET")})
				for {
					time.Sleep(time.Second)
					if c.WriteContinuation(1, false, c.fields("x", "y")) != nil {
						return
					}
				}
			}()
			drain(c.conn)
		}, 45},
		{"HTTP/2, no request, but answers to pings", true, func(t *testing.T, conn net.Conn) { answer(raw(t, conn)) }, 121}, // one for the GOAWAY
		{"HTTP/2, takes no byte", true, func(t *testing.T, conn net.Conn) {
			c := raw(t, conn)
			if _, err := c.request("GET", "/endless", "", true); err != nil {
				t.Fatal(err)
			}
			<-serverClosed(conn)
		}, 35}, // five for TLS to say goodbye
		{"HTTP/2, a stream on which nothing happens", true, func(t *testing.T, conn net.Conn) {
			c := raw(t, conn)
			if _, err := c.request("GET", "/stream", "", true); err != nil {
				t.Fatal(err)
			}
			var ended time.Duration
			began := time.Now()
			c.read(func(f http2.Frame) bool {
				if ping, ok := f.(*http2.PingFrame); ok && !ping.IsAck() {
					c.WritePing(true, ping.Data)
				}
				data, ok := f.(*http2.DataFrame)
				ended = time.Since(began)
				return ok && data.StreamEnded()
			})
			if ended != forever {
				t.Errorf("it ended after %v", ended)
			}
		}, int(forever / time.Second)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := publicServer(handler, nil, log.New(io.Discard, "", 0))
			if c.secure {
				s = publicServer(handler, func() *tls.Certificate { return &certificate }, s.ErrorLog)
			}
			if took, want := timeline(t, s, c.client), time.Duration(c.seconds)*time.Second; took < want || took > want+time.Second {
				t.Errorf("the connection ended after %v, want %v", took, want)
			}
		})
	}
}

// serverClosed is closed when the other end of a net.Pipe is. Nothing is read meanwhile.
func serverClosed(conn net.Conn) <-chan struct{} {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for {
			// A write of nothing says whether the other end is there.
			if _, err := conn.Write(nil); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	return closed
}
