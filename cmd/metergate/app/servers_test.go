package app

import (
	"bytes"
	"crypto/tls"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/net/http2"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/internal/testkit"
	"metergate/proxy"
	"metergate/proxy/admin"
	"metergate/proxy/jwtauth"
	"metergate/quota"
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

// testCertificate returns the certificate that httptest uses.
func testCertificate() tls.Certificate {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return s.TLS.Certificates[0]
}

// readFunc is an io.Reader.
type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// roundTrip is an http.RoundTripper, an upstream without connections.
type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// boundedGateway is the public handler, in front of an upstream that answers 200 with
// what it returns. All but /nowhere goes there.
func boundedGateway(t *testing.T, upstream func(r *http.Request) io.Reader) http.Handler {
	t.Helper()
	verifier, err := jwtauth.New(jwtauth.Options{Secret: []byte(testkit.Secret), Algorithms: []string{"HS256"}})
	if err != nil {
		t.Fatal(err)
	}
	free, err := quota.NewPlan(quota.PlanOptions{Name: "free", WarnAt: 80})
	if err != nil {
		t.Fatal(err)
	}
	o := proxy.Options{
		Verifier: verifier, Plans: map[string]*quota.Plan{"free": free}, DefaultPlan: "free",
		Metrics: proxy.NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler),
	}
	for _, path := range []string{"/{$}", "/slow", "/stream", "/endless"} {
		o.Routes = append(o.Routes, proxy.Route{Pattern: path, Public: true, Timeout: 2 * time.Minute, MaxBody: 1 << 20,
			Upstream: roundTrip(func(r *http.Request) (*http.Response, error) {
				res := &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: r,
					Body: io.NopCloser(upstream(r)), ContentLength: -1}
				if path == "/endless" {
					res.ContentLength = 1 << 40 // without it ReverseProxy writes under a lock, which stops synctest's time
				}
				return res, r.Context().Err()
			})})
	}
	g, err := proxy.New(o)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// When a connection ends that gives nothing, or takes nothing, and that one goes on that
// has its reasons.
func TestPublicBounds(t *testing.T) {
	certificate := testCertificate()
	const forever = 3 * time.Hour // as an open stream may last
	gateway := boundedGateway(t, func(r *http.Request) io.Reader {
		wait := func(d time.Duration) {
			select {
			case <-r.Context().Done():
			case <-time.After(d):
			}
		}
		switch r.URL.Path {
		case "/slow":
			wait(100 * time.Second)
		case "/stream":
			return io.MultiReader(strings.NewReader("first"), readFunc(func([]byte) (int, error) { wait(forever); return 0, io.EOF }))
		case "/endless":
			return gatewaytest.Zeros{}
		}
		return strings.NewReader("")
	})
	raw := func(t *testing.T, conn net.Conn, settings ...http2.Setting) *gatewaytest.HTTP2Conn {
		c, err := gatewaytest.NewHTTP2Conn(conn, settings...)
		if err != nil {
			t.Fatal(err)
		}
		c.Conn.SetDeadline(time.Time{})
		return c
	}
	drain := func(r io.Reader) { io.Copy(io.Discard, r) }
	// answer answers pings until the connection, or stream 1, has ended.
	answer := func(c *gatewaytest.HTTP2Conn) (reset bool) {
		c.ReadUntil(func(f http2.Frame) bool {
			switch f := f.(type) {
			case *http2.PingFrame:
				if !f.IsAck() {
					c.WritePing(true, f.Data)
				}
			case *http2.RSTStreamFrame:
				reset = true
			}
			return reset || f.Header().StreamID == 1 && f.Header().Flags.Has(http2.FlagDataEndStream)
		})
		return reset
	}
	get := func(t *testing.T, c *gatewaytest.HTTP2Conn, path string) {
		if _, err := c.SendRequest("GET", path, "", true); err != nil {
			t.Fatal(err)
		}
	}
	// held asks for path and gives no room for the answer.
	held := func(path string) func(t *testing.T, conn net.Conn) {
		return func(t *testing.T, conn net.Conn) {
			c := raw(t, conn, http2.Setting{ID: http2.SettingInitialWindowSize})
			get(t, c, path)
			if !answer(c) {
				t.Error("the stream was not reset")
			}
		}
	}
	// patient asks for path and wants all of the answer.
	patient := func(path string) func(t *testing.T, conn net.Conn) {
		return func(t *testing.T, conn net.Conn) {
			c := raw(t, conn)
			get(t, c, path)
			if answer(c) {
				t.Error("the stream was reset")
			}
		}
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
		{"HTTP/2, no answer to a ping", true, func(t *testing.T, conn net.Conn) { drain(raw(t, conn).Conn) }, 45},
		{"HTTP/2, a header that does not end", true, func(t *testing.T, conn net.Conn) {
			c := raw(t, conn)
			go func() {
				c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.EncodeHeaders(":method", "GET")})
				for {
					time.Sleep(time.Second)
					if c.WriteContinuation(1, false, c.EncodeHeaders("x", "y")) != nil {
						return
					}
				}
			}()
			drain(c.Conn)
		}, 45},
		{"HTTP/2, no request, but answers to pings", true, func(t *testing.T, conn net.Conn) { answer(raw(t, conn)) }, 121}, // one for the GOAWAY
		{"HTTP/2, takes no byte", true, func(t *testing.T, conn net.Conn) {
			get(t, raw(t, conn), "/endless")
			<-serverClosed(conn)
		}, 35}, // five for TLS to say goodbye
		{"HTTP/2, gives no room for an answer of the upstream", true, held("/endless"), 60},
		{"HTTP/2, gives no room for an answer of the gateway", true, held("/nowhere"), 60},
		{"HTTP/2, waits for a slow upstream", true, patient("/slow"), 100},
		{"HTTP/2, a stream on which nothing happens", true, patient("/stream"), int(forever / time.Second)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newPublicServer(gateway, nil, log.New(io.Discard, "", 0))
			if c.secure {
				s = newPublicServer(gateway, func() *tls.Certificate { return &certificate }, s.ErrorLog)
			}
			if took, want := timeline(t, s, c.client), time.Duration(c.seconds)*time.Second; took < want || took > want+time.Second {
				t.Errorf("the connection ended after %v, want %v", took, want)
			}
		})
	}
}

// tokenOnly is an admin.Gateway that does nothing but check the token.
type tokenOnly struct{ admin.Gateway }

func (tokenOnly) AdminToken() string              { return "an-admin-token-for-tests-0123456789" }
func (tokenOnly) ReloadConfig() ([]string, error) { return nil, nil }

// The admin listener has bounds too, and a list of all users that takes an hour.
func TestAdminBounds(t *testing.T) {
	small := admin.Handler(admin.Options{Gateway: tokenOnly{}})
	list := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		for range 360 {
			control.SetWriteDeadline(time.Now().Add(10 * time.Second))
			io.WriteString(w, "a user\n")
			control.Flush()
			select {
			case <-time.After(10 * time.Second):
			case <-r.Context().Done():
				return
			}
		}
	})
	for _, c := range []struct {
		name    string
		handler http.Handler
		client  func(conn net.Conn)
		seconds int
	}{
		{"no byte of a request", small, func(conn net.Conn) { io.Copy(io.Discard, conn) }, 10},
		{"no body", small, func(conn net.Conn) {
			io.WriteString(conn, "POST /admin/reload HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
			io.Copy(io.Discard, conn)
		}, 30},
		{"takes no byte", small, func(conn net.Conn) {
			io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: a\r\n\r\n")
			<-serverClosed(conn)
		}, 30},
		{"a long list", list, func(conn net.Conn) {
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
			all, err := io.ReadAll(conn)
			if n := bytes.Count(all, []byte("a user")); n != 360 || err != nil {
				t.Errorf("%d users, error %v", n, err)
			}
		}, 3600},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newAdminServer(c.handler, log.New(io.Discard, "", 0))
			took := timeline(t, s, func(_ *testing.T, conn net.Conn) { c.client(conn) })
			if want := time.Duration(c.seconds) * time.Second; took < want || took > want+time.Second {
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
