package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// directPair is a proxy with a directTransport in front of the handler, and how many
// connections the handler's server has seen.
func directPair(t *testing.T, handler http.HandlerFunc) (proxy *httptest.Server, connections *atomic.Int64) {
	t.Helper()
	connections = new(atomic.Int64)
	upstream := httptest.NewUnstartedServer(handler)
	upstream.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	upstream.Start()
	t.Cleanup(upstream.Close)
	transport := newDirectTransport(hostOf(upstream.URL))
	t.Cleanup(transport.CloseIdleConnections)
	proxy = httptest.NewServer(bareProxy(upstream.URL, transport))
	t.Cleanup(proxy.Close)
	return proxy, connections
}

// Every kind of request and response, one after another on one connection.
func TestDirectProxies(t *testing.T) {
	big := strings.Repeat("0123456789", 50_000)
	proxy, connections := directPair(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Length", r.Header.Get("Content-Length"))
		switch r.URL.Path {
		case "/204":
			w.WriteHeader(204)
		case "/304":
			w.Header().Set("Content-Length", "7")
			w.WriteHeader(304)
		case "/hints":
			w.Header().Set("Link", "</a.css>")
			w.WriteHeader(103)
			w.WriteHeader(102)
			io.WriteString(w, "hinted")
		case "/chunks":
			w.Header().Set("Trailer", "X-Sum")
			io.WriteString(w, "one ")
			http.NewResponseController(w).Flush()
			io.WriteString(w, "two")
			w.Header().Set("X-Sum", "7")
		default:
			w.Write(body)
		}
	})
	for _, c := range []struct {
		method, path, body string
		chunked            bool
		status             int
		want               string
	}{
		{method: "GET", path: "/", status: 200},
		{method: "POST", path: "/", body: "small", status: 200, want: "small"},
		{method: "POST", path: "/", body: "chunked", chunked: true, status: 200, want: "chunked"},
		{method: "POST", path: "/", body: big, status: 200, want: big},
		{method: "POST", path: "/", body: big, chunked: true, status: 200, want: big},
		{method: "GET", path: "/chunks", status: 200, want: "one two"},
		{method: "HEAD", path: "/chunks", status: 200},
		{method: "HEAD", path: "/hints", status: 200},
		{method: "GET", path: "/204", status: 204},
		{method: "GET", path: "/304", status: 304},
		{method: "GET", path: "/hints", status: 200, want: "hinted"},
	} {
		var body io.Reader
		if c.body != "" {
			body = strings.NewReader(c.body)
		}
		if c.chunked {
			body = io.MultiReader(body) // of unknown length
		}
		hints := 0
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{
			Got1xxResponse: func(int, textproto.MIMEHeader) error { hints++; return nil },
		})
		req, err := http.NewRequestWithContext(ctx, c.method, proxy.URL+c.path, body)
		if err != nil {
			t.Fatal(err)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatalf("%s %s: %v", c.method, c.path, err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != c.status || string(got) != c.want {
			t.Errorf("%s %s: status %d, %d bytes, error %v; want %d and %d bytes", c.method, c.path, res.StatusCode, len(got), err, c.status, len(c.want))
		}
		if c.path == "/hints" && hints != 2 {
			t.Errorf("%s %s: %d informational responses, want 2", c.method, c.path, hints)
		}
		if c.path == "/chunks" && c.method == "GET" && res.Trailer.Get("X-Sum") != "7" {
			t.Errorf("trailers: %v", res.Trailer)
		}
	}
	if n := connections.Load(); n != 1 {
		t.Errorf("%d connections to the upstream, want 1", n)
	}
}

// A part of the response arrives before the next one is there.
func TestDirectStreams(t *testing.T) {
	read := make(chan bool)
	proxy, _ := directPair(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		io.WriteString(w, "data: 1\n\n")
		http.NewResponseController(w).Flush()
		<-read
		io.WriteString(w, "data: 2\n\n")
	})
	res, err := http.Get(proxy.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	first := make([]byte, len("data: 1\n\n"))
	_, err = io.ReadFull(res.Body, first)
	close(read)
	rest, err2 := io.ReadAll(res.Body)
	if err = errors.Join(err, err2); err != nil || string(first)+string(rest) != "data: 1\n\ndata: 2\n\n" {
		t.Errorf("%q, then %q, error %v", first, rest, err)
	}
}

// directScript is a server that does with its connections, numbered from 1, what serve
// says, and then closes them.
func directScript(t *testing.T, serve func(n int, c net.Conn, r *bufio.Reader)) *directTransport {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for n := 1; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				serve(n, c, bufio.NewReader(c))
			}()
		}
	}()
	transport := newDirectTransport(l.Addr().String())
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

const directOK = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

// skip reads a request with its body; false: there is none.
func skip(r *bufio.Reader) bool {
	req, err := http.ReadRequest(r)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, req.Body)
	return err == nil
}

// directAsk returns the response's status and body.
func directAsk(t *testing.T, transport *directTransport, method string, body io.Reader) (int, string, error) {
	t.Helper()
	req, err := http.NewRequest(method, "http://"+transport.address+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return res.StatusCode, string(text), err
}

// After these responses a connection is not used again: bytes that are left over would be
// the next request's answer.
func TestDirectDoesNotReuse(t *testing.T) {
	for name, answer := range map[string]string{
		"more than its length":      directOK + directOK,
		"more than no content":      "HTTP/1.1 204 No Content\r\n\r\n" + directOK,
		"more than chunks":          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n" + directOK,
		"closed afterwards":         "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.0":                  "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"not read up to its end":    "HTTP/1.1 201 Created\r\nContent-Length: 20\r\n\r\nok, and something on",
		"its chunks not read to it": "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			var connections atomic.Int64
			transport := directScript(t, func(n int, c net.Conn, r *bufio.Reader) {
				connections.Add(1)
				for text := answer; skip(r); text = directOK {
					if n > 1 {
						text = directOK
					}
					io.WriteString(c, text)
				}
			})
			req, _ := http.NewRequest("GET", "http://"+transport.address+"/", nil)
			res, err := transport.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			if res.StatusCode == 201 {
				io.ReadFull(res.Body, make([]byte, 2))
			} else {
				io.Copy(io.Discard, res.Body)
			}
			res.Body.Close()
			if status, text, err := directAsk(t, transport, "GET", nil); status != 200 || text != "ok" || err != nil {
				t.Errorf("the next request: %d %q, error %v", status, text, err)
			}
			if n := connections.Load(); n != 2 {
				t.Errorf("%d connections, want 2", n)
			}
		})
	}
}

// What comes on an idle connection after the response has been read was not asked for.
func TestDirectLateBytes(t *testing.T) {
	read, late := make(chan bool), make(chan bool)
	transport := directScript(t, func(n int, c net.Conn, r *bufio.Reader) {
		for skip(r) {
			io.WriteString(c, directOK)
			if n == 1 {
				<-read
				io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
				late <- true
			}
		}
	})
	directAsk(t, transport, "GET", nil)
	read <- true
	<-late
	if status, _, err := directAsk(t, transport, "POST", strings.NewReader("body")); status != 200 || err != nil {
		t.Errorf("status %d, error %v", status, err)
	}
}

// The server closes a connection that was idle, before the next request is sent or when
// it has come.
func TestDirectClosedByServer(t *testing.T) {
	for _, c := range []struct {
		name, method, body string
		early              bool   // it closes before the request
		answer             string // what it sends first
		status             int    // 0: an error
		asked              int64  // requests that came after the first
	}{
		{name: "before it, with a body", method: "POST", body: "body", early: true, status: 200, asked: 1},
		{name: "after it", method: "GET", status: 200, asked: 2},
		{name: "after it, deletion", method: "DELETE", status: 200, asked: 2},
		{name: "after it, not idempotent", method: "POST", asked: 1},
		{name: "after it, with a body", method: "PUT", body: "body", asked: 1},
		{name: "within the status line", method: "GET", answer: "HTTP/1", asked: 1},
		{name: "within the body", method: "GET", answer: directOK[:len(directOK)-1], asked: 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			var asked atomic.Int64
			closed := make(chan bool, 1)
			transport := directScript(t, func(n int, conn net.Conn, r *bufio.Reader) {
				for i := 1; ; i++ {
					req, err := http.ReadRequest(r)
					if err != nil {
						return
					}
					asked.Add(1)
					io.Copy(io.Discard, req.Body)
					if n == 1 && i == 2 {
						io.WriteString(conn, c.answer)
						return
					}
					io.WriteString(conn, directOK)
					if n == 1 && c.early {
						conn.Close()
						closed <- true
						return
					}
				}
			})
			if status, _, err := directAsk(t, transport, "GET", nil); status != 200 {
				t.Fatal(status, err)
			}
			if c.early {
				<-closed
			}
			var body io.Reader
			if c.body != "" {
				body = io.MultiReader(strings.NewReader(c.body)) // sent again, it would be empty
			}
			status, _, err := directAsk(t, transport, c.method, body)
			if c.status == 0 && err == nil || c.status != 0 && (status != c.status || err != nil) {
				t.Errorf("status %d, error %v, want %d", status, err, c.status)
			}
			if n := asked.Load() - 1; n != c.asked {
				t.Errorf("sent %d times, want %d", n, c.asked)
			}
		})
	}
	t.Run("new connections", func(t *testing.T) {
		var asked atomic.Int64
		transport := directScript(t, func(n int, c net.Conn, r *bufio.Reader) {
			if skip(r) {
				asked.Add(1)
			}
		})
		if _, _, err := directAsk(t, transport, "GET", nil); err == nil || asked.Load() != 1 {
			t.Errorf("sent %d times, error %v, want once and an error", asked.Load(), err)
		}
	})
}

// A server refuses a body that it does not read, and closes.
func TestDirectEarlyAnswer(t *testing.T) {
	transport := directScript(t, func(n int, c net.Conn, r *bufio.Reader) {
		http.ReadRequest(r)
		io.WriteString(c, "HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\n\r\nno")
	})
	body := bytes.NewReader(make([]byte, 64<<20)) // more than all buffers take
	if status, text, err := directAsk(t, transport, "POST", body); status != 413 || text != "no" || err != nil {
		t.Errorf("%d %q, error %v, want 413", status, text, err)
	}
}

// The context's end, or the body's Close, ends what waits, and the connection.
func TestDirectCancel(t *testing.T) {
	errWhy := errors.New("why not")
	for _, c := range []struct {
		name   string
		answer string    // of the server, that then says no more
		body   io.Reader // of the request
		close  bool      // instead of cancelling
	}{
		{name: "while it waits"},
		{name: "while it writes", body: io.LimitReader(zeros{}, 1<<40)},
		{name: "while it reads the header", answer: "HTTP/1.1 200 OK\r\nContent"},
		{name: "while it reads the body", answer: directOK[:len(directOK)-1]},
		{name: "closed while it reads the body", answer: directOK[:len(directOK)-1], close: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			begun, given, ended := make(chan bool), make(chan bool), make(chan bool)
			transport := directScript(t, func(n int, conn net.Conn, r *bufio.Reader) {
				http.ReadRequest(r)
				io.WriteString(conn, c.answer)
				close(begun)
				<-given
				io.Copy(io.Discard, conn)
				close(ended)
			})
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			req, _ := http.NewRequestWithContext(ctx, "POST", "http://"+transport.address+"/", c.body)
			answered := make(chan *http.Response, 1)
			failed := make(chan error, 1)
			go func() {
				res, err := transport.RoundTrip(req)
				if err == nil {
					answered <- res
					_, err = io.Copy(io.Discard, res.Body)
				}
				failed <- err
			}()
			<-begun
			time.Sleep(20 * time.Millisecond) // until it blocks; sooner, it has to end as well
			if c.close {
				(<-answered).Body.Close()
			} else {
				cancel(errWhy)
			}
			err := within(t, "the request", failed)
			if !c.close && err != errWhy || err == nil {
				t.Errorf("error %v", err)
			}
			close(given)
			within(t, "the connection", ended)
			if n := len(transport.idle); n != 0 {
				t.Errorf("%d connections are kept", n)
			}
		})
	}
}

func within[T any](t *testing.T, what string, c <-chan T) (v T) {
	t.Helper()
	select {
	case v = <-c:
	case <-time.After(10 * time.Second):
		t.Fatal(what, " goes on")
	}
	return v
}

// A request that cannot be sent has its body closed, too.
func TestDirectClosesBody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	gone := newDirectTransport(l.Addr().String())
	for _, url := range []string{"http://" + gone.address + "/", "https://" + gone.address + "/", "http://elsewhere.test/"} {
		body := &closeCounter{Reader: strings.NewReader("body")}
		req, _ := http.NewRequest("POST", url, body)
		if _, err := gone.RoundTrip(req); err == nil || body.closed != 1 {
			t.Errorf("%s: error %v, body closed %d times", url, err, body.closed)
		}
	}
}

type closeCounter struct {
	io.Reader
	closed int
}

func (c *closeCounter) Close() error { c.closed++; return nil }
