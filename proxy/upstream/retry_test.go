package upstream_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"weak"

	"metergate/proxy/upstream"
	"metergate/quota/testkit"
)

// With roundRobin the first target gets the first request.
var roundRobin = upstream.Options{Balance: upstream.RoundRobin}

// If a target cannot be reached, any request is retried on another one.
func TestUnreachableTargetIsRetried(t *testing.T) {
	alive := serve(t, nil)
	silent := serveRaw(t, func(c net.Conn) { c.Close() })
	for _, dead := range []string{refused(t), "https://" + silent} { // no TCP, no TLS
		for _, method := range []string{"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "POST", "PATCH"} {
			for _, body := range []string{"", "text"} {
				before := len(alive.got())
				want(t, newPool(t, roundRobin, dead, alive.URL), newRequest(method, "/x", body))
				if got := alive.got()[before:]; len(got) != 1 || got[0] != strings.TrimSpace(method+" /x "+body) {
					t.Errorf("%s %s %q: the other target got %q", dead, method, body, got)
				}
			}
		}
	}
}

// There is only one retry, and never on the same target.
func TestRetryOnceOnAnotherTarget(t *testing.T) {
	alive := serve(t, nil)
	a, b := refused(t), refused(t)
	if _, err := newPool(t, roundRobin, a, b, alive.URL).RoundTrip(newRequest("GET", "/", "")); err == nil {
		t.Error("a third target was tried")
	}
	broken := serve(t, abort)
	if _, err := newPool(t, roundRobin, broken.URL).RoundTrip(newRequest("GET", "/", "")); err == nil || len(broken.got()) != 1 {
		t.Errorf("error %v; the only target got %q", err, broken.got())
	}
}

// If a target closes the connection after it has received the request, only a repeatable
// request is retried. The targets' own logs show what arrived.
func TestBrokenConnectionIsRetriedIfRepeatable(t *testing.T) {
	for _, c := range []struct {
		name, method, body string
		fields             []string
		again              bool
	}{
		{name: "GET", method: "GET", again: true},
		{name: "HEAD", method: "HEAD", again: true},
		{name: "OPTIONS", method: "OPTIONS", again: true},
		{name: "TRACE", method: "TRACE", again: true},
		{name: "PUT", method: "PUT", again: true},
		{name: "DELETE", method: "DELETE", again: true},
		{name: "POST", method: "POST"},
		{name: "PATCH", method: "PATCH"},
		{name: "an invented method", method: "BREW"},
		{name: "POST with a body", method: "POST", body: "text"},
		{name: "POST with a key", method: "POST", fields: []string{"Idempotency-Key: 1"}, again: true},
		{name: "POST with an empty key", method: "POST", fields: []string{"Idempotency-Key: "}},
		{name: "POST with another key", method: "POST", fields: []string{"X-Idempotency-Key: 1"}},
		{name: "PUT whose body was read", method: "PUT", body: "text"},
		{name: "POST with a key whose body was read", method: "POST", body: "text", fields: []string{"Idempotency-Key: 1"}},
		{name: "PUT whose body is held back", method: "PUT", body: "text", fields: []string{"Expect: 100-continue"}, again: true},
		{name: "POST whose body is held back", method: "POST", body: "text", fields: []string{"Expect: 100-continue"}},
	} {
		for _, protocol := range []string{"HTTP/1.1", "HTTP/1.1 on a used connection", "HTTP/2"} {
			if protocol == "HTTP/2" && c.fields != nil && strings.HasPrefix(c.fields[0], "Expect") {
				continue // with HTTP/2, net/http sends the body without waiting
			}
			var change []func(*httptest.Server)
			if protocol == "HTTP/2" {
				change = append(change, withHTTP2)
			}
			var dying atomic.Bool
			dies := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if !dying.Load() {
					return
				}
				// abort would wait for a body that is held back.
				if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
					conn.Close()
					return
				}
				abort(w, r)
			}, change...)
			other := serve(t, func(w http.ResponseWriter, r *http.Request) { io.Copy(w, r.Body) }, change...)
			o := roundRobin
			o.TLS = &tls.Config{InsecureSkipVerify: true}
			p := newPool(t, o, dies.URL, other.URL)
			if protocol != "HTTP/1.1" {
				want(t, p, newRequest("GET", "/warm", ""))
				want(t, p, newRequest("GET", "/warm", ""))
			}
			first, second := len(dies.got()), len(other.got())
			dying.Store(true)
			res, body, err := send(p, newRequest(c.method, "/x", c.body, c.fields...))
			if (err == nil) != c.again {
				t.Errorf("%s, %s: error %v", c.name, protocol, err)
			}
			if err == nil && c.body != "" && body != c.body {
				t.Errorf("%s, %s: the other target got the body %q, status %s", c.name, protocol, body, res.Status)
			}
			// On a reused connection net/http itself may retry, on the same target.
			most := 1
			if c.again && protocol == "HTTP/1.1 on a used connection" {
				most = 2
			}
			if sent := len(dies.got()) - first; sent < 1 || sent > most {
				t.Errorf("%s, %s: it was sent %d times to the target that died", c.name, protocol, sent)
			}
			if got := len(other.got()) - second; c.again != (got == 1) || got > 1 {
				t.Errorf("%s, %s: it was sent %d times to the other target", c.name, protocol, got)
			}
			dies.Close()
			other.Close()
			p.Retire()
		}
	}
}

// net/http retries a request whose key has no value, but does not send such a key. The
// pool must not let it retry.
func TestKeyWithoutValueIsNotRetried(t *testing.T) {
	var n atomic.Int32
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) > 1 {
			abort(w, r)
		}
	})
	p := newPool(t, upstream.Options{}, s.URL)
	want(t, p, newRequest("GET", "/warm", ""))
	req := newRequest("POST", "/x", "")
	req.Header["Idempotency-Key"] = nil
	if _, err := p.RoundTrip(req); err == nil || len(s.got()) != 2 {
		t.Errorf("error %v; sent: %q", err, s.got())
	}
}

// All keys reach the target, even those that are hidden from net/http, and the caller's
// header does not change.
func TestIdempotencyKeysReachTarget(t *testing.T) {
	var got http.Header
	s := serve(t, func(w http.ResponseWriter, r *http.Request) { got = r.Header })
	req := newRequest("POST", "/", "", "X-Idempotency-Key: 1", "X-Idempotency-Key: 2", "Idempotency-Key: ")
	before := req.Header.Clone()
	want(t, newPool(t, upstream.Options{}, s.URL), req)
	for name, values := range before {
		if strings.Join(got[name], ",") != strings.Join(values, ",") || len(got[name]) != len(values) {
			t.Errorf("%s: the target got %q", name, got[name])
		}
		if len(req.Header[name]) != len(values) {
			t.Errorf("%s: the caller's header is %q", name, req.Header)
		}
	}
}

// After the first byte of a response there is no retry.
func TestNoRetryAfterFirstByte(t *testing.T) {
	for _, start := range []string{"HTTP/1.1 103 Early Hints\r\n\r\n", "HTTP/1.1 200 OK\r\nConte", "H"} {
		broken := serveRaw(t, func(c net.Conn) {
			defer c.Close()
			http.ReadRequest(bufio.NewReader(c))
			io.WriteString(c, start)
		})
		other := serve(t, nil)
		p := newPool(t, roundRobin, "http://"+broken, other.URL)
		if _, err := p.RoundTrip(newRequest("GET", "/", "")); err == nil || len(other.got()) > 0 {
			t.Errorf("%q: error %v, the other target got %q", start, err, other.got())
		}
	}
}

// http2Server has the certificate and the TLS settings of an HTTP/2 server.
func http2Server(t *testing.T) *tls.Config {
	s := httptest.NewUnstartedServer(nil)
	s.EnableHTTP2 = true
	s.StartTLS()
	t.Cleanup(s.Close)
	return s.TLS
}

// net/http sends any request again if its HTTP/2 stream was reset with PROTOCOL_ERROR,
// although the target may have acted upon it. The pool only lets it repeat what is
// repeatable.
func TestHTTP2ProtocolErrorDoesNotRepeatPOST(t *testing.T) {
	settings := http2Server(t)
	for _, c := range []struct {
		method string
		body   string
		fields []string
		twice  bool
	}{
		{method: "POST"},
		{method: "POST", body: "text"},
		{method: "POST", fields: []string{"Idempotency-Key: 1"}, twice: true},
		{method: "GET", twice: true},
	} {
		ctx, cancel := context.WithCancel(t.Context())
		var requests atomic.Int32
		addr := serveRaw(t, func(conn net.Conn) {
			resetStreams(tls.Server(conn, settings), func() bool {
				if requests.Add(1) == 2 {
					cancel() // net/http would go on for a minute
				}
				return false
			})
		})
		p := newPool(t, upstream.Options{TLS: &tls.Config{InsecureSkipVerify: true}}, "https://"+addr)
		_, err := p.RoundTrip(newRequest(c.method, "/", c.body, c.fields...).WithContext(ctx))
		cancel()
		if n := requests.Load(); err == nil || (n > 1) != c.twice || n == 0 {
			t.Errorf("%s %q %q: sent %d times, error %v", c.method, c.body, c.fields, n, err)
		}
	}
}

// The same if the connection, and then the server, is gone: a refused second connection
// does not mean that nothing was sent on the first.
func TestHTTP2ProtocolErrorThenRefusedConnection(t *testing.T) {
	settings := http2Server(t)
	for range 20 {
		var requests atomic.Int32
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			conn, err := l.Accept()
			l.Close()
			if err != nil {
				return
			}
			resetStreams(tls.Server(conn, settings), func() (end bool) { return requests.Add(1) == 1 })
		})
		other := serve(t, nil, withHTTP2)
		o := roundRobin
		o.TLS = &tls.Config{InsecureSkipVerify: true}
		p := newPool(t, o, "https://"+l.Addr().String(), other.URL)
		if _, err := p.RoundTrip(newRequest("POST", "/", "")); err == nil || len(other.got()) > 0 || requests.Load() != 1 {
			t.Errorf("error %v; %d sent, then %q", err, requests.Load(), other.got())
		}
		wg.Wait()
	}
}

// An http.Transport that has given up may still try to read and close the body. It must
// not disturb the next attempt.
func TestFailedAttemptLosesBody(t *testing.T) {
	p := newPool(t, roundRobin, "http://a", "http://b")
	var first io.ReadCloser
	p.AnswerAll(transport(func(req *http.Request) (*http.Response, error) {
		if first == nil {
			first = req.Body
			httptrace.ContextClientTrace(req.Context()).GetConn("a:80")
			return nil, io.EOF
		}
		first.Close()
		if n, err := first.Read(make([]byte, 10)); n > 0 || err == nil {
			t.Errorf("it reads %d bytes", n)
		}
		if body, err := io.ReadAll(req.Body); string(body) != "text" {
			t.Errorf("the next attempt reads %q, %v", body, err)
		}
		req.Body.Close()
		return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
	}))
	want(t, p, newRequest("POST", "/", "text"))
}

// If a connection breaks before a byte is written, net/http dials again: not even a POST
// with a body fails, although there is no other target.
func TestNothingWrittenIsSentAgain(t *testing.T) {
	s := serve(t, nil)
	p := newPool(t, upstream.Options{}, s.URL)
	var broken atomic.Bool
	p.SetDial(func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if broken.Load() {
			return c, err
		}
		return breaking{c, &broken}, err
	})
	want(t, p, newRequest("GET", "/warm", ""))
	broken.Store(true)
	want(t, p, newRequest("POST", "/x", "text"))
	if got := s.got(); len(got) != 2 || got[1] != "POST /x text" {
		t.Errorf("the target got %q", got)
	}
}

// A breaking connection fails all writes once it is broken.
type breaking struct {
	net.Conn
	broken *atomic.Bool
}

func (b breaking) Write(p []byte) (int, error) {
	if b.broken.Load() {
		return 0, syscall.EPIPE
	}
	return b.Conn.Write(p)
}

type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(r *http.Request) (*http.Response, error) { return t(r) }

// resetStreams is an HTTP/2 server that resets each stream with PROTOCOL_ERROR once it
// has received the headers, and stops when seen returns true. RFC 9113 section 4.1
// defines the format.
func resetStreams(conn net.Conn, seen func() (end bool)) {
	const settings, headers, reset = 4, 1, 3
	defer conn.Close()
	io.CopyN(io.Discard, conn, int64(len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")))
	conn.Write([]byte{0, 0, 0, settings, 0, 0, 0, 0, 0})
	for {
		var h [9]byte
		if _, err := io.ReadFull(conn, h[:]); err != nil {
			return
		}
		length := int64(h[0])<<16 | int64(h[1])<<8 | int64(h[2])
		io.CopyN(io.Discard, conn, length)
		switch {
		case h[3] == settings && h[4] == 0:
			conn.Write([]byte{0, 0, 0, settings, 1, 0, 0, 0, 0})
		case h[3] == headers:
			end := seen()
			frame := append([]byte{0, 0, 4, reset, 0}, h[5:9]...)
			conn.Write(binary.BigEndian.AppendUint32(frame, 1))
			if end {
				return
			}
		}
	}
}

// serveRaw starts a server that hands each connection to handle, and returns its address.
func serveRaw(t testing.TB, handle func(net.Conn)) (addr string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { handle(c) })
		}
	})
	t.Cleanup(func() { l.Close(); running.Wait() })
	return l.Addr().String()
}

// A request that is sent to another target has its header, although it may have lost it to save memory.
func TestRetriedRequestHasItsHeader(t *testing.T) {
	var got []string
	alive := serve(t, func(_ http.ResponseWriter, r *http.Request) { got = append(got, r.Method+" "+r.Header.Get("X-A")) })
	broken := serve(t, abort)
	for _, c := range []struct{ method, first string }{
		{"POST", refused(t)}, // not sent
		{"PUT", broken.URL},  // sent
	} {
		got = nil
		p := newPool(t, roundRobin, c.first, alive.URL)
		res, err := p.RoundTripFor(newRequest(c.method, "/", "", "X-A: a"), "", nil)
		if err != nil {
			t.Fatalf("%s: %v", c.method, err)
		}
		res.Body.Close()
		if want := c.method + " a"; len(got) != 1 || got[0] != want {
			t.Errorf("the other target got %q, want %q", got, want)
		}
	}
}

// While a request waits for its response, the memory of its header is free, unless it may be sent again.
func TestHeaderOfSentRequestIsFreed(t *testing.T) {
	arrived, open := make(chan bool), make(chan bool)
	slow := serve(t, func(http.ResponseWriter, *http.Request) { arrived <- true; <-open })
	p := newPool(t, roundRobin, slow.URL)
	req := newRequest("POST", "/", "", "X-A: a")
	kept := weak.Make(&req.Header["X-A"][0])
	var waiting sync.WaitGroup
	defer waiting.Wait()
	defer close(open)
	waiting.Go(func() {
		res, err := p.RoundTripFor(req, "", nil)
		if err != nil {
			t.Error(err)
			return
		}
		res.Body.Close()
	})
	testkit.Receive(t, "the request reaches the target", arrived)
	testkit.Eventually(t, "the header is freed", func() bool { runtime.GC(); return kept.Value() == nil })
}
