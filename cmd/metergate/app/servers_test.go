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
	"metergate/proxy"
	"metergate/proxy/admin"
	"metergate/proxy/jwtauth"
	"metergate/quota"
	"metergate/quota/testkit"
)

// A pipe is a listener in memory. Each connection is a net.Pipe: one end cannot write what
// the other does not read. It works with the fake time of synctest.
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

// addressed is a net.Pipe with a remote address, which http.Server needs.
type addressed struct{ net.Conn }

func (addressed) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1} }

// connectionLife runs client on a connection to s and returns how long that took, in the
// fake time of synctest. client returns when the connection has ended.
func connectionLife(t *testing.T, s *http.Server, client func(t *testing.T, conn net.Conn)) (took time.Duration) {
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
		time.Sleep(2 * time.Second) // lets sleeping goroutines notice the end
	})
	return took
}

// testCertificate returns the certificate that httptest uses.
func testCertificate() tls.Certificate {
	s := httptest.NewTLSServer(nil)
	defer s.Close()
	return s.TLS.Certificates[0]
}

// readFunc is an io.Reader made of a function.
type readFunc func(p []byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }

// fakeUpstream is an http.RoundTripper without connections.
type fakeUpstream func(*http.Request) (*http.Response, error)

func (f fakeUpstream) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// newGateway returns the public handler in front of an upstream that answers 200 with the
// body that upstream returns. The path /nowhere has no route.
func newGateway(t *testing.T, upstream func(r *http.Request) io.Reader) http.Handler {
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
			Upstream: fakeUpstream(func(r *http.Request) (*http.Response, error) {
				res := &http.Response{StatusCode: 200, ProtoMajor: 1, ProtoMinor: 1, Header: http.Header{}, Request: r,
					Body: io.NopCloser(upstream(r)), ContentLength: -1}
				if path == "/endless" {
					res.ContentLength = 1 << 40 // without a length, ReverseProxy writes under a lock, which stops synctest's time
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

// forever is longer than any bound: an open stream may last so long.
const forever = 3 * time.Hour

// responseBody returns the body of the upstream's response, by the path of the request.
func responseBody(r *http.Request) io.Reader {
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
}

// newHTTP2 starts HTTP/2 on a connection, without deadlines.
func newHTTP2(t *testing.T, conn net.Conn, settings ...http2.Setting) *gatewaytest.HTTP2Conn {
	t.Helper()
	c, err := gatewaytest.NewHTTP2Conn(conn, settings...)
	if err != nil {
		t.Fatal(err)
	}
	c.Conn.SetDeadline(time.Time{})
	return c
}

// sendGET sends a request without a body.
func sendGET(t *testing.T, c *gatewaytest.HTTP2Conn, path string) {
	t.Helper()
	if _, err := c.SendRequest("GET", path, "", true); err != nil {
		t.Fatal(err)
	}
}

// answerPings answers pings until the connection or stream 1 has ended, and reports
// whether the server has reset the stream.
func answerPings(c *gatewaytest.HTTP2Conn) (reset bool) {
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

// withoutWindow returns a client that requests a path and gives the server no window for
// the response. Its stream must be reset.
func withoutWindow(path string) func(t *testing.T, conn net.Conn) {
	return func(t *testing.T, conn net.Conn) {
		c := newHTTP2(t, conn, http2.Setting{ID: http2.SettingInitialWindowSize})
		sendGET(t, c, path)
		if !answerPings(c) {
			t.Error("the stream was not reset")
		}
	}
}

// withPatience returns a client that requests a path and waits for the whole response.
// Its stream must not be reset.
func withPatience(path string) func(t *testing.T, conn net.Conn) {
	return func(t *testing.T, conn net.Conn) {
		c := newHTTP2(t, conn)
		sendGET(t, c, path)
		if answerPings(c) {
			t.Error("the stream was reset")
		}
	}
}

// drainConn reads until the connection ends.
func drainConn(r io.Reader) { io.Copy(io.Discard, r) }

// A connection on which a client sends nothing, or reads nothing, ends. A connection with
// a good reason to be idle goes on.
func TestPublicServerEndsIdleConnections(t *testing.T) {
	certificate := testCertificate()
	gateway := newGateway(t, responseBody)
	for _, c := range []struct {
		name    string
		secure  bool
		client  func(t *testing.T, conn net.Conn)
		seconds int
	}{
		{"sends nothing", false, func(t *testing.T, conn net.Conn) { drainConn(conn) }, 10},
		{"sends a header that never ends", false, func(t *testing.T, conn net.Conn) {
			go func() {
				io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n")
				for {
					time.Sleep(time.Second)
					if _, err := io.WriteString(conn, "X-A: b\r\n"); err != nil {
						return
					}
				}
			}()
			drainConn(conn)
		}, 10},
		{"sends no second request", false, func(t *testing.T, conn net.Conn) {
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: a\r\n\r\n")
			drainConn(conn)
		}, 120},
		{"sends no handshake", true, func(t *testing.T, conn net.Conn) { drainConn(conn) }, 10},
		{"sends no preface", true, func(t *testing.T, conn net.Conn) {
			drainConn(tls.Client(conn, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}}))
		}, 10},
		{"HTTP/2, answers no ping", true, func(t *testing.T, conn net.Conn) { drainConn(newHTTP2(t, conn).Conn) }, 45},
		{"HTTP/2, sends a header that never ends", true, func(t *testing.T, conn net.Conn) {
			c := newHTTP2(t, conn)
			go func() {
				c.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: c.EncodeHeaders(":method", "GET")})
				for {
					time.Sleep(time.Second)
					if c.WriteContinuation(1, false, c.EncodeHeaders("x", "y")) != nil {
						return
					}
				}
			}()
			drainConn(c.Conn)
		}, 45},
		{"HTTP/2, answers pings but sends no request", true, func(t *testing.T, conn net.Conn) { answerPings(newHTTP2(t, conn)) }, 121}, // one second more for the GOAWAY
		{"HTTP/2, reads nothing", true, func(t *testing.T, conn net.Conn) {
			sendGET(t, newHTTP2(t, conn), "/endless")
			<-serverClosed(conn)
		}, 35}, // five seconds more for the end of TLS
		{"HTTP/2, gives no window for a response of the upstream", true, withoutWindow("/endless"), 60},
		{"HTTP/2, gives no window for a response of the gateway", true, withoutWindow("/nowhere"), 60},
		{"HTTP/2, waits for a slow upstream", true, withPatience("/slow"), 100},
		{"HTTP/2, has a stream on which nothing happens", true, withPatience("/stream"), int(forever / time.Second)},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newPublicServer(gateway, 2*time.Minute, nil, log.New(io.Discard, "", 0))
			if c.secure {
				s = newPublicServer(gateway, 2*time.Minute, func() *tls.Certificate { return &certificate }, s.ErrorLog)
			}
			if took, want := connectionLife(t, s, c.client), time.Duration(c.seconds)*time.Second; took < want || took > want+time.Second {
				t.Errorf("the connection ended after %v, want %v", took, want)
			}
		})
	}
}

// tokenOnly is an admin.Gateway that does nothing but check the token.
type tokenOnly struct{ admin.Gateway }

func (tokenOnly) Tokens() admin.Tokens {
	return admin.Tokens{Admin: "an-admin-token-for-tests-0123456789"}
}
func (tokenOnly) ReloadConfig() ([]string, error) { return nil, nil }

// The admin server has bounds as well, but a list of all users may take an hour.
func TestAdminServerEndsIdleConnections(t *testing.T) {
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
		{"sends nothing", small, func(conn net.Conn) { io.Copy(io.Discard, conn) }, 10},
		{"sends no body", small, func(conn net.Conn) {
			io.WriteString(conn, "POST /admin/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n")
			io.Copy(io.Discard, conn)
		}, 30},
		{"reads nothing", small, func(conn net.Conn) {
			io.WriteString(conn, "GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
			<-serverClosed(conn)
		}, 30},
		{"reads a long list", list, func(conn net.Conn) {
			io.WriteString(conn, "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
			all, err := io.ReadAll(conn)
			if n := bytes.Count(all, []byte("a user")); n != 360 || err != nil {
				t.Errorf("%d users, error %v", n, err)
			}
		}, 3600},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newAdminServer(c.handler, log.New(io.Discard, "", 0))
			took := connectionLife(t, s, func(_ *testing.T, conn net.Conn) { c.client(conn) })
			if want := time.Duration(c.seconds) * time.Second; took < want || took > want+time.Second {
				t.Errorf("the connection ended after %v, want %v", took, want)
			}
		})
	}
}

// serverClosed returns a channel that is closed once the other end of a net.Pipe is. It
// reads nothing.
func serverClosed(conn net.Conn) <-chan struct{} {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		for {
			// An empty write fails once the other end is closed.
			if _, err := conn.Write(nil); err != nil {
				return
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	return closed
}

// The error of an address that cannot be listened on says what to do.
func TestListenErrorSaysWhatToDo(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for address, want := range map[string]string{
		taken.Addr().String(): "listen: " + taken.Addr().String() + ": address already in use; stop the other program, or set listen to another address",
		"192.0.2.1:8080":      "listen: 192.0.2.1:8080: cannot assign requested address; set listen to an address of this machine",
	} {
		_, err := New(Options{}).listen("listen", address, nil, nil)
		if err == nil || err.Error() != want {
			t.Errorf("error %v, want %s", err, want)
		}
	}
}
