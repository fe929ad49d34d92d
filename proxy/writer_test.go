package proxy_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota/testkit"
)

// oneConn is a net.Listener with one connection.
type oneConn chan net.Conn

func (l oneConn) Accept() (net.Conn, error) {
	c, ok := <-l
	if !ok {
		return nil, net.ErrClosed
	}
	return c, nil
}

func (l oneConn) Close() error   { close(l); return nil }
func (l oneConn) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// pipe serves a connection without a buffer: each write waits until it is read. gone is
// closed once the gateway has closed the connection.
func (r *testGateway) pipe() (client net.Conn, gone chan bool) {
	client, server := net.Pipe()
	gone = make(chan bool)
	s := &http.Server{Handler: r.handler, ErrorLog: quiet, ConnState: func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			close(gone)
		}
	}}
	l := make(oneConn, 1)
	l <- server
	go s.Serve(l)
	r.t.Cleanup(func() { s.Close(); client.Close() })
	return client, gone
}

// TestClientThatDoesNotReadIsCutOff: a client that stops reading holds up neither the
// upstream nor a goroutine.
func TestClientThatDoesNotReadIsCutOff(t *testing.T) {
	for _, proto := range []int{1, 2} {
		t.Run(fmt.Sprint("HTTP/", proto), func(t *testing.T) {
			ended := make(chan bool)
			r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
				defer close(ended)
				for piece := make([]byte, 32<<10); ; {
					if _, err := w.Write(piece); err != nil {
						return
					}
				}
			}})
			r.handler.SetBounds(200*time.Millisecond, time.Minute)
			client, url := r.secure(proto)
			req, _ := http.NewRequest("POST", url+"/api/analyze", nil)
			req.Header.Set("Authorization", "Bearer "+token("u", ""))
			res, err := client.Do(req)
			if err != nil || res.ProtoMajor != proto {
				t.Fatal(res, err)
			}
			defer res.Body.Close()
			testkit.Receive(t, "the upstream is told", ended)
			if n, err := io.Copy(io.Discard, res.Body); err == nil {
				t.Errorf("%d bytes, and no error", n)
			}
			r.want("u", "", 1)
		})
	}
}

// secure serves the gateway over TLS with HTTP/1 or HTTP/2.
func (r *testGateway) secure(proto int) (*http.Client, string) {
	s := httptest.NewUnstartedServer(r.handler)
	s.EnableHTTP2 = proto == 2
	s.Config.WriteTimeout = 5 * time.Second // for the handshake; must not touch what the gateway forwards
	s.Config.ErrorLog = quiet
	s.StartTLS()
	r.t.Cleanup(s.Close)
	return s.Client(), s.URL
}

// TestPausingStreamAndSlowReaderAreNotCutOff: a stream may pause for longer than one
// write may take, and a client may read slowly as long as it reads.
func TestPausingStreamAndSlowReaderAreNotCutOff(t *testing.T) {
	const stall = 3 * time.Second // which a busy machine keeps nobody waiting for
	for _, proto := range []int{1, 2} {
		t.Run(fmt.Sprint("silent, HTTP/", proto), func(t *testing.T) {
			t.Parallel()
			r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", "text/event-stream")
				for i := range 2 {
					<-time.After(2 * stall)
					fmt.Fprintf(w, "data: %d\n\n", i)
					w.(http.Flusher).Flush()
				}
				<-time.After(2 * stall)
			}})
			r.handler.SetBounds(stall, time.Minute)
			client, url := r.secure(proto)
			req, _ := http.NewRequest("POST", url+"/api/analyze", nil)
			req.Header.Set("Authorization", "Bearer "+token("u", ""))
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, err := io.ReadAll(res.Body)
			if want := "data: 0\n\ndata: 1\n\n"; string(body) != want || err != nil {
				t.Errorf("%q, error %v; want %q", body, err, want)
			}
		})
	}
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		const size = 4 << 20
		r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) { w.Write(make([]byte, size)) }})
		r.handler.SetBounds(stall, time.Minute)
		conn, _ := r.pipe()
		go fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\n\r\n", token("u", ""))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		// In total this takes twice as long as one write may take.
		total := 0
		for piece := make([]byte, size/16); err == nil; {
			<-time.After(2 * stall / 16)
			var n int
			n, err = io.ReadFull(res.Body, piece)
			total += n
		}
		if total != size {
			t.Errorf("%d bytes, want %d: %v", total, size, err)
		}
	})
}

// TestClientThatDoesNotReadOwnAnswersIsCutOff: the gateway's own answers wait for a
// client no longer than others do.
func TestClientThatDoesNotReadOwnAnswersIsCutOff(t *testing.T) {
	for name, request := range map[string]string{
		"usage":   "GET /usage HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n",
		"stream":  "GET /usage/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n",
		"file":    "GET /usage/client.js HTTP/1.1\r\nHost: x\r\n\r\n",
		"problem": "GET /nowhere HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestGateway(t, setup{})
			r.handler.SetBounds(200*time.Millisecond, time.Minute)
			conn, gone := r.pipe()
			io.WriteString(conn, strings.Replace(request, "{token}", token("u", ""), 1))
			testkit.Receive(t, "the connection is closed", gone)
		})
	}
}

// TestClientThatDoesNotReadContinueIsCutOff: net/http writes "100 Continue" when the body
// is first read, which is one second after the upstream was asked and has said nothing. A
// client that does not read it holds its unit no longer than the route's timeout.
func TestClientThatDoesNotReadContinueIsCutOff(t *testing.T) {
	asked := make(chan bool)
	r := newTestGateway(t, setup{timeout: 3 * time.Second, upstream: func(w http.ResponseWriter, r *http.Request) {
		conn, _, _ := w.(http.Hijacker).Hijack()
		defer conn.Close()
		close(asked)
		io.Copy(io.Discard, conn)
	}})
	r.handler.SetBounds(200*time.Millisecond, time.Minute)
	conn, gone := r.pipe()
	fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n", token("u", ""))
	testkit.Receive(t, "the upstream is asked", asked)
	testkit.Receive(t, "the connection is closed", gone)
	r.want("u", "", 0)
}

// TestEndlessSlowBodyIsCutOff: a body that comes one byte at a time, for ever, ends with
// the route's timeout. The rest of a body after an answer that did not need it ends with
// lingerTimeout.
func TestEndlessSlowBodyIsCutOff(t *testing.T) {
	for name, c := range map[string]struct {
		token   string
		timeout time.Duration
		status  int
	}{
		"to the upstream": {token("u", ""), 200 * time.Millisecond, 504},
		"after a 401":     {"", time.Minute, 401},
	} {
		t.Run(name, func(t *testing.T) {
			r := newTestGateway(t, setup{timeout: c.timeout, upstream: func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) }})
			r.handler.SetBounds(time.Minute, 200*time.Millisecond)
			conn := r.dial()
			fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n", c.token)
			var closed atomic.Bool
			sent := make(chan error)
			go func() {
				for {
					if _, err := io.WriteString(conn, "1\r\na\r\n"); err != nil || closed.Load() {
						sent <- err
						return
					}
					time.Sleep(5 * time.Millisecond)
				}
			}()
			read := bufio.NewReader(conn)
			m, status, err := readResponse(read, "POST")
			if err != nil || status != c.status {
				t.Errorf("%+v, error %v, want %d", m, err, c.status)
			}
			_, err = read.ReadByte()
			if timeout := net.Error(nil); err == nil || errors.As(err, &timeout) && timeout.Timeout() {
				t.Errorf("the connection is not closed: %v", err)
			}
			closed.Store(true)
			<-sent
		})
	}
}

// TestResetDuringInformationalResponse: net/http still reads the header of an informational response when the client
// has reset the stream and the header is made ready for the next response. Only the race detector tells.
func TestResetDuringInformationalResponse(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		for range 30 {
			for i := range 60 {
				w.Header().Set(fmt.Sprint("X-Hint-", i), "v")
			}
			w.WriteHeader(http.StatusEarlyHints)
		}
	}})
	client, url := r.secure(2)
	for round := range 5 {
		var requests sync.WaitGroup
		for range 20 {
			requests.Go(func() {
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				hints := 0
				trace := &httptrace.ClientTrace{Got1xxResponse: func(int, textproto.MIMEHeader) error {
					if hints++; hints > 5*round {
						cancel()
					}
					return nil
				}}
				req, _ := http.NewRequestWithContext(httptrace.WithClientTrace(ctx, trace), "GET", url+"/api/health", nil)
				if res, err := client.Do(req); err == nil {
					res.Body.Close()
				}
			})
		}
		requests.Wait()
	}
}
