package direct_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

var errOther = errors.New("handed on")

// Only what can be served in the caller's goroutine is; and nothing that is invalid, so that
// http.Transport says what is wrong with it.
func TestServesOnlyEasyRequests(t *testing.T) {
	s := listen(t, answering(ok))
	for name, change := range map[string]func(*http.Request){
		"TLS":                    func(r *http.Request) { r.URL.Scheme = "https" },
		"an upgrade":             func(r *http.Request) { r.Header.Set("Upgrade", "websocket") },
		"Expect":                 func(r *http.Request) { r.Header.Set("Expect", "100-continue") },
		"Connection":             func(r *http.Request) { r.Header.Set("Connection", "close") },
		"Close":                  func(r *http.Request) { r.Close = true },
		"CONNECT":                func(r *http.Request) { r.Method = "CONNECT" },
		"a body from elsewhere":  func(r *http.Request) { r.Body, r.ContentLength = io.NopCloser(strings.NewReader("a")), 1 },
		"a body without length":  func(r *http.Request) { r.Body, r.ContentLength = inMemory("a"), -1 },
		"a body of length 0":     func(r *http.Request) { r.Body, r.ContentLength = inMemory("a"), 0 },
		"a length without body":  func(r *http.Request) { r.ContentLength = 1 },
		"trailers":               func(r *http.Request) { r.Trailer = http.Header{"A": nil} },
		"chunks":                 func(r *http.Request) { r.TransferEncoding = []string{"chunked"} },
		"a method with a line":   func(r *http.Request) { r.Method = "GET / HTTP/1.1\r\n\r\nGET" },
		"a name with a line":     func(r *http.Request) { r.Header["A\r\nB"] = []string{"c"} },
		"a value with a line":    func(r *http.Request) { r.Header["A"] = []string{"b\r\nC: d"} },
		"a header without names": func(r *http.Request) { r.Header = nil },
		"no host":                func(r *http.Request) { r.URL.Host = "" },
		"a host to translate":    func(r *http.Request) { r.URL.Host = "bücher.example" },
	} {
		c := newClient(t)
		req := newRequest("GET", s.address, "")
		change(req)
		if _, err := c.RoundTrip(req); !errors.Is(err, errOther) || c.other.Load() != 1 {
			t.Errorf("%s: error %v", name, err)
		}
	}
	if n := s.conns.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// The bytes of a request are those of http.Transport.
func TestRequestIsThatOfHTTPTransport(t *testing.T) {
	got := make(chan string, 1)
	s := listen(t, func(c net.Conn, r *bufio.Reader) {
		for {
			var head strings.Builder
			for !strings.HasSuffix(head.String(), "\r\n\r\n") {
				b, err := r.ReadByte()
				if err != nil {
					return
				}
				head.WriteByte(b)
			}
			if strings.Contains(head.String(), "Content-Length: 4") {
				io.CopyN(&head, r, 4)
			}
			got <- head.String()
			if strings.HasPrefix(head.String(), "HEAD ") {
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
			} else {
				io.WriteString(c, ok)
			}
		}
	})
	transport := &http.Transport{DisableCompression: true}
	defer transport.CloseIdleConnections()
	c := newClient(t)
	for _, method := range []string{"", "GET", "HEAD", "POST", "PUT", "DELETE", "PURGE"} {
		for _, body := range []string{"", "text"} {
			for _, host := range []string{"", "other.example", "in valid", "[fe80::1%25lo]:80"} {
				var sent [2]string
				for i, rt := range []http.RoundTripper{c, transport} {
					req := newRequest(method, s.address, body)
					req.Method, req.Host = method, host
					req.Header = http.Header{"B": {"1", "2"}, "A": {" x "}, "User-Agent": {"me"}, "lower": {"y"}, "Content-Length": {"9"}, "Host": {"no"}}
					res, err := rt.RoundTrip(req)
					if err != nil {
						t.Fatal(err)
					}
					io.Copy(io.Discard, res.Body)
					res.Body.Close()
					sent[i] = <-got
				}
				if sent[0] != sent[1] {
					t.Errorf("%q\nhttp.Transport: %q", sent[0], sent[1])
				}
			}
		}
	}
	if n := c.other.Load(); n != 0 {
		t.Errorf("%d requests were handed on", n)
	}
}

// A connection carries the next request only if nothing is left of the one before.
func TestReuse(t *testing.T) {
	head := "HTTP/1.1 200 OK\r\n"
	for _, test := range []struct {
		method, response string
		conns            int32 // for three requests
	}{
		{"GET", ok, 1},
		{"POST", ok, 1},
		{"GET", head + "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 1},
		{"GET", head + "Transfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n", 1},
		{"HEAD", head + "Content-Length: 2\r\n\r\n", 1},
		{"GET", "HTTP/1.1 204 No Content\r\n\r\n", 1},
		{"GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 1},
		{"GET", "HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + ok, 1},
		{"GET", head + "Connection: close\r\nContent-Length: 2\r\n\r\nok", 3},
		{"GET", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", 3},
		{"GET", ok + "more", 3},
		{"GET", ok + ok, 3},
		{"HEAD", head + "Content-Length: 2\r\n\r\nok", 3},
		{"GET", "HTTP/1.1 204 No Content\r\n\r\nok", 3},
		{"GET", "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n", 3},
	} {
		s, c := listen(t, answering(test.response)), newClient(t)
		for range 3 {
			if _, _, err := c.get(t, newRequest(test.method, s.address, "")); err != nil {
				t.Errorf("%s %q: %v", test.method, test.response, err)
			}
		}
		if n := s.conns.Load(); n != test.conns {
			t.Errorf("%s %q: %d connections", test.method, test.response, n)
		}
	}
}

// What a server sends unasked is never a response, however late it comes.
func TestUnsolicitedBytesEndConnection(t *testing.T) {
	t.Parallel()
	late, sent := make(chan bool), make(chan bool)
	s := listen(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(c, ok)
			<-late
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad")
			sent <- true
		}
	})
	c := newClient(t)
	var lines lockedBuffer
	c.Log = slog.New(slog.NewTextHandler(&lines, &slog.HandlerOptions{Level: slog.LevelDebug}))
	for range 3 {
		if _, body, err := c.get(t, newRequest("GET", s.address, "")); body != "ok" || err != nil {
			t.Fatalf("%q, error %v", body, err)
		}
		late <- true
		<-sent
	}
	if n := s.conns.Load(); n != 3 {
		t.Errorf("%d connections", n)
	}
	// Twice it is noticed by the next request, then by the sweep.
	eventually(t, "the log has three lines", func() bool { return strings.Count(lines.text(), `nbad"`) == 3 })
}

// An unread rest is not read on, and ends the connection.
func TestCloseBeforeEnd(t *testing.T) {
	s := listen(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nbegin")
		io.Copy(io.Discard, r) // until the client closes
	})
	c := newClient(t)
	res, err := c.RoundTrip(newRequest("GET", s.address, ""))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 5)
	if _, err := io.ReadFull(res.Body, p); err != nil {
		t.Fatal(err)
	}
	read := make(chan error)
	go func() {
		_, err := res.Body.Read(p)
		read <- err
	}()
	res.Body.Close()
	if err := <-read; err == nil || err == io.EOF {
		t.Errorf("the Read under way ended with %v", err)
	}
	if _, err := res.Body.Read(p); !errors.Is(err, http.ErrBodyReadAfterClose) && err == nil {
		t.Errorf("the next Read ended with %v", err)
	}
	eventually(t, "the connection is closed", func() bool { return c.open.Load() == 0 })
}

// A request is sent again by net/http's rules: once, if its connection had been used and broke.
func TestRetry(t *testing.T) {
	for _, test := range []struct {
		method, key, body string
		sent              int32
	}{
		{"GET", "", "", 3}, {"HEAD", "", "", 3}, {"OPTIONS", "", "", 3}, {"", "", "", 3},
		{"POST", "Idempotency-Key", "", 3}, {"POST", "X-Idempotency-Key", "", 3},
		{"POST", "", "", 2}, {"PUT", "", "", 2}, {"DELETE", "", "", 2}, {"GET", "", "text", 2}, {"POST", "Idempotency-Key", "text", 2},
	} {
		var requests atomic.Int32
		s := listen(t, func(c net.Conn, r *bufio.Reader) {
			for {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				io.Copy(io.Discard, req.Body)
				if requests.Add(1) > 1 {
					return // each but the first
				}
				io.WriteString(c, ok)
			}
		})
		c := newClient(t)
		if _, _, err := c.get(t, newRequest("GET", s.address, "")); err != nil {
			t.Fatal(err)
		}
		req := newRequest("GET", s.address, test.body)
		req.Method = test.method
		if test.key != "" {
			req.Header.Set(test.key, "k")
		}
		if _, _, err := c.get(t, req); !errors.Is(err, io.EOF) {
			t.Errorf("%+v: error %v", test, err)
		}
		if n := requests.Load(); n != test.sent {
			t.Errorf("%+v: the server got %d requests", test, n)
		}
	}
}

// A connection that the server has closed is not used: not even a POST fails.
func TestClosedIdleConnectionIsNotUsed(t *testing.T) {
	closed := make(chan bool)
	s := listen(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, ok)
		c.Close()
		closed <- true
	})
	c := newClient(t)
	for i := range 10 {
		if _, _, err := c.get(t, newRequest("POST", s.address, "")); err != nil {
			t.Errorf("request %d: %v", i, err)
		}
		<-closed // over loopback, the client's side knows by then
	}
}

// A closed or old connection does not stay open until its next use.
func TestSweep(t *testing.T) {
	t.Parallel()
	s := listen(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, ok)
	})
	c := newClient(t)
	c.get(t, newRequest("GET", s.address, ""))
	eventually(t, "the connection that the server has closed is closed", func() bool { return c.open.Load() == 0 })

	s = listen(t, answering(ok))
	c = newClient(t)
	c.IdleTimeout = time.Millisecond
	c.get(t, newRequest("GET", s.address, ""))
	eventually(t, "the old connection is closed", func() bool { return c.open.Load() == 0 })
	c.get(t, newRequest("GET", s.address, "")) // the sweep starts again
	eventually(t, "the old connection is closed", func() bool { return c.open.Load() == 0 })
}

func TestMaxIdle(t *testing.T) {
	var waiting atomic.Int32
	all := make(chan bool)
	s := listen(t, func(c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		if waiting.Add(1) == 10 {
			close(all)
		}
		<-all
		io.WriteString(c, ok)
		io.Copy(io.Discard, r)
	})
	c := newClient(t)
	c.MaxIdle = 3
	ended := make(chan error)
	for range 10 {
		go func() {
			_, _, err := c.get(t, newRequest("GET", s.address, ""))
			ended <- err
		}()
	}
	for range 10 {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	if n := c.open.Load(); n != 3 {
		t.Errorf("%d connections are open", n)
	}
}

// A connection that becomes idle after CloseIdleConnections is closed as well.
func TestCloseIdleConnections(t *testing.T) {
	answer := make(chan bool, 1)
	s := listen(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n")
			<-answer
			io.WriteString(c, "ok")
		}
	})
	c := newClient(t)
	res, err := c.RoundTrip(newRequest("GET", s.address, ""))
	if err != nil {
		t.Fatal(err)
	}
	c.CloseIdleConnections()
	answer <- true
	if body, err := io.ReadAll(res.Body); string(body) != "ok" || err != nil {
		t.Errorf("%q, error %v", body, err)
	}
	if n := c.open.Load(); n != 0 {
		t.Errorf("%d connections are open", n)
	}
	answer <- true
	c.get(t, newRequest("GET", s.address, ""))
	if n := c.open.Load(); n != 1 {
		t.Errorf("then %d connections are open", n)
	}
}

var errGone = errors.New("the client is gone")

// The context's end ends a request wherever it is, and its cause is the error.
func TestContextEnds(t *testing.T) {
	reached := make(chan bool, 1)
	hold := func(say string) func(net.Conn, *bufio.Reader) {
		return func(c net.Conn, r *bufio.Reader) {
			if say == "unread" {
				r.Peek(1)
				reached <- true
				<-t.Context().Done()
				return
			}
			http.ReadRequest(r)
			io.WriteString(c, say)
			reached <- true
			io.Copy(io.Discard, r)
		}
	}
	for name, test := range map[string]struct {
		say, body string
		dial      bool
	}{
		"dial":    {dial: true},
		"send":    {say: "unread", body: strings.Repeat("x", 32<<20)},
		"wait":    {},
		"header":  {say: "HTTP/1.1 200 OK\r\nContent-"},
		"1xx":     {say: "HTTP/1.1 103 Early Hints\r\n\r\n"},
		"body":    {say: "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nbegin"},
		"chunk":   {say: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nbegin"},
		"trailer": {say: "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: "},
	} {
		s, c := listen(t, hold(test.say)), newClient(t)
		if test.dial {
			before := func(ctx context.Context) {
				reached <- true
				<-ctx.Done() // CloseIdleConnections, at the end
			}
			c.beforeDial.Store(&before)
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		ended := make(chan error)
		go func() {
			_, _, err := c.get(t, newRequest("POST", s.address, test.body).WithContext(ctx))
			ended <- err
		}()
		<-reached
		cancel(errGone)
		if err := <-ended; !errors.Is(err, errGone) {
			t.Errorf("%s: error %v", name, err)
		}
		eventually(t, name+": the connection is closed", func() bool { return c.open.Load() == 0 })
	}
}

// A request whose context has ended is not sent.
func TestEndedContextSendsNothing(t *testing.T) {
	s, c := listen(t, answering(ok)), newClient(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errGone)
	if _, err := c.RoundTrip(newRequest("GET", s.address, "").WithContext(ctx)); !errors.Is(err, errGone) || s.conns.Load() != 0 {
		t.Errorf("error %v, %d connections", err, s.conns.Load())
	}
}

// A server may answer before it has read the request, and never read it.
func TestAnswerWhileSending(t *testing.T) {
	s := listen(t, func(c net.Conn, r *bufio.Reader) {
		r.Peek(1)
		io.WriteString(c, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nok")
		<-t.Context().Done()
	})
	c := newClient(t)
	res, body, err := c.get(t, newRequest("POST", s.address, strings.Repeat("x", 32<<20)))
	if err != nil || res.StatusCode != 413 || body != "ok" {
		t.Fatalf("%+v %q, error %v", res, body, err)
	}
	if n := c.open.Load(); n != 0 {
		t.Errorf("%d connections are open", n)
	}
}

// The whole of a long request arrives, though the socket does not take it at once.
func TestLongRequest(t *testing.T) {
	var got atomic.Int64
	s := listen(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			n, _ := io.Copy(io.Discard, req.Body)
			got.Add(n)
			io.WriteString(c, ok)
		}
	})
	c := newClient(t)
	for range 3 {
		if _, _, err := c.get(t, newRequest("POST", s.address, strings.Repeat("x", 32<<20))); err != nil {
			t.Fatal(err)
		}
	}
	if got.Load() != 3*32<<20 {
		t.Errorf("the server got %d bytes", got.Load())
	}
}

// The response's header is bounded, that of informational responses as well.
func TestHeaderIsBounded(t *testing.T) {
	for _, part := range []string{"HTTP/1.1 200 OK\r\nA: " + strings.Repeat("x", 1<<20), strings.Repeat("HTTP/1.1 103 Early\r\nA: "+strings.Repeat("x", 1000)+"\r\n\r\n", 1000)} {
		s := listen(t, func(c net.Conn, r *bufio.Reader) {
			http.ReadRequest(r)
			for {
				if _, err := io.WriteString(c, part); err != nil {
					return
				}
				if i := strings.LastIndex(part, "\n"); i < len(part)-1 {
					part = strings.Repeat("x", 1<<20)
				}
			}
		})
		c := newClient(t)
		if _, _, err := c.get(t, newRequest("GET", s.address, "")); err == nil || !strings.Contains(err.Error(), "bytes") {
			t.Errorf("%.30q: error %v", part, err)
		}
	}
}

// The hooks of httptrace are called in their order.
func TestTrace(t *testing.T) {
	s := listen(t, answering("HTTP/1.1 103 Early Hints\r\nLink: a\r\n\r\n"+ok))
	c := newClient(t)
	for i := range 2 {
		var got []string
		note := func(format string, args ...any) { got = append(got, fmt.Sprintf(format, args...)) }
		trace := &httptrace.ClientTrace{
			GetConn:              func(at string) { note("GetConn %t", at == s.address) },
			GotConn:              func(i httptrace.GotConnInfo) { note("GotConn %t %t", i.Reused, i.WasIdle) },
			GotFirstResponseByte: func() { note("GotFirstResponseByte") },
			Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
				note("Got1xxResponse %d %s", code, h.Get("Link"))
				return nil
			},
			WroteHeaders: func() { note("WroteHeaders") },
			WroteRequest: func(i httptrace.WroteRequestInfo) { note("WroteRequest %v", i.Err) },
		}
		req := newRequest("GET", s.address, "")
		if _, _, err := c.get(t, req.WithContext(httptrace.WithClientTrace(t.Context(), trace))); err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("GetConn true, GotConn %t %[1]t, WroteHeaders, WroteRequest <nil>, GotFirstResponseByte, Got1xxResponse 103 a", i > 0)
		if s := strings.Join(got, ", "); s != want {
			t.Errorf("%s\nwant %s", s, want)
		}
	}
}

// A hook that refuses an informational response ends the request.
func TestTraceRefuses1xx(t *testing.T) {
	s, c := listen(t, answering("HTTP/1.1 103 Early Hints\r\n\r\n"+ok)), newClient(t)
	trace := &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error { return errGone }}
	if _, err := c.RoundTrip(newRequest("GET", s.address, "").WithContext(httptrace.WithClientTrace(t.Context(), trace))); !errors.Is(err, errGone) {
		t.Errorf("error %v", err)
	}
}

// A request that waits for a new connection takes one that another request no longer needs.
// The new one is for the next request.
func TestFreedConnectionGoesToWaitingRequest(t *testing.T) {
	answer := make(chan bool)
	s := listen(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			<-answer
			io.WriteString(c, ok)
		}
	})
	c := newClient(t)
	first := make(chan error)
	go func() {
		_, _, err := c.get(t, newRequest("GET", s.address, ""))
		first <- err
	}()
	eventually(t, "the first request has a connection", func() bool { return s.conns.Load() == 1 })
	dialing, goOn := make(chan bool), make(chan bool)
	before := func(context.Context) {
		dialing <- true
		<-goOn
	}
	c.beforeDial.Store(&before)
	second := make(chan error)
	go func() {
		_, _, err := c.get(t, newRequest("GET", s.address, ""))
		second <- err
	}()
	<-dialing
	answer <- true
	answer <- true
	if err := errors.Join(<-first, <-second); err != nil {
		t.Error(err)
	}
	close(goOn)
	eventually(t, "the new connection is open", func() bool { return c.open.Load() == 2 })
}

// Trailers are there after the body's end.
func TestTrailers(t *testing.T) {
	s, c := listen(t, answering("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n\r\n2\r\nok\r\n0\r\nA: b\r\n\r\n")), newClient(t)
	res, body, err := c.get(t, newRequest("GET", s.address, ""))
	if err != nil || body != "ok" || res.Trailer.Get("A") != "b" {
		t.Errorf("%q %v, error %v", body, res.Trailer, err)
	}
}

// A request whose body is not as long as it says is not sent at all.
func TestWrongLengthSendsNothing(t *testing.T) {
	var requests atomic.Int32
	s := listen(t, func(c net.Conn, r *bufio.Reader) {
		for {
			if _, err := http.ReadRequest(r); err != nil {
				return
			}
			requests.Add(1)
			io.WriteString(c, ok)
		}
	})
	c := newClient(t)
	c.get(t, newRequest("GET", s.address, ""))
	for _, length := range []int64{3, 5} {
		req := newRequest("POST", s.address, "text")
		req.ContentLength = length
		if _, _, err := c.get(t, req); err == nil {
			t.Errorf("length %d: no error", length)
		}
	}
	if n := requests.Load(); n != 1 {
		t.Errorf("the server got %d requests", n)
	}
}

// If nothing of a request could be sent, it is sent on another connection, even a POST with a body.
func TestNothingSentIsSentAgain(t *testing.T) {
	var bodies atomic.Int32
	s := listen(t, func(c net.Conn, r *bufio.Reader) {
		for {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			if text, _ := io.ReadAll(req.Body); string(text) == "text" {
				bodies.Add(1)
			}
			io.WriteString(c, ok)
		}
	})
	c := newClient(t)
	c.get(t, newRequest("GET", s.address, ""))
	req := newRequest("POST", s.address, "text")
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) {
		if i.Reused {
			i.Conn.(*counted).CloseWrite() // then a write fails with EPIPE
		}
	}}
	if _, body, err := c.get(t, req.WithContext(httptrace.WithClientTrace(t.Context(), trace))); body != "ok" || err != nil {
		t.Errorf("%q, error %v", body, err)
	}
	if bodies.Load() != 1 || s.conns.Load() != 2 {
		t.Errorf("%d requests, %d connections", bodies.Load(), s.conns.Load())
	}
}

// Inspect sees what net/http hides, and its error ends the request.
func TestInspect(t *testing.T) {
	s := listen(t, answering("HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nConnection: close, X\r\nContent-Length: 2\r\n\r\nok"))
	c := newClient(t)
	var fail error
	c.Inspect = func(res *http.Response, head []byte) error {
		if res.StatusCode != 200 || !strings.Contains(string(head), "\r\nConnection: close, X\r\n") {
			t.Errorf("%+v %q", res, head)
		}
		return fail
	}
	if _, body, err := c.get(t, newRequest("GET", s.address, "")); body != "ok" || err != nil {
		t.Errorf("%q, error %v", body, err)
	}
	fail = errGone
	if _, err := c.RoundTrip(newRequest("GET", s.address, "")); !errors.Is(err, errGone) || c.open.Load() != 0 {
		t.Errorf("error %v, %d connections", err, c.open.Load())
	}
}

// A request that is sent again waits for a new connection of its own: one that another request no longer needs may be as
// dead as the first was.
func TestRetryTakesNoUsedConnection(t *testing.T) {
	var conns atomic.Int32
	answer := make(chan bool)
	s := listen(t, func(c net.Conn, r *bufio.Reader) {
		first := conns.Add(1) == 1
		if _, err := http.ReadRequest(r); err != nil {
			return
		}
		if first {
			<-answer
		}
		io.WriteString(c, ok)
		http.ReadRequest(r) // and closes
	})
	c := newClient(t)
	ended := make(chan error)
	get := func() {
		_, _, err := c.get(t, newRequest("GET", s.address, ""))
		ended <- err
	}
	go get()
	eventually(t, "the first request has a connection", func() bool { return conns.Load() == 1 })
	go get()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	dialing, goOn := make(chan bool), make(chan bool)
	before := func(context.Context) {
		dialing <- true
		<-goOn
	}
	c.beforeDial.Store(&before)
	again := make(chan error)
	go func() {
		_, _, err := c.get(t, newRequest("GET", s.address, ""))
		again <- err
	}()
	<-dialing
	close(answer)
	if err := <-ended; err != nil { // its connection is free
		t.Error(err)
	}
	close(goOn)
	if err := <-again; err != nil {
		t.Error(err)
	}
}
