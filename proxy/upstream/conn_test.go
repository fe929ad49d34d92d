package upstream_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"metergate/proxy/upstream"
)

// Some targets send more than their response: a body after HEAD, 204 or 304, or bytes after
// the end of one (golang/go#68653). It must not become the response of the request that gets
// the connection next, which may be another user's.
func TestExtraBytesAreNoOtherRequestsResponse(t *testing.T) {
	const extra = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nextra"
	secure := http2Server(t)
	secure.NextProtos = nil
	for protocol, rounds := range map[string]int{"http": 100, "https": 10} { // a new connection in each
		for name, response := range map[string]string{
			"HEAD":    fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", len(extra)),
			"204":     "HTTP/1.1 204 No Content\r\n\r\n",
			"304":     "HTTP/1.1 304 Not Modified\r\n\r\n",
			"length":  "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
			"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
		} {
			t.Run(name+", "+protocol, func(t *testing.T) {
				p := newPool(t, upstream.Options{TLS: &tls.Config{InsecureSkipVerify: true}}, protocol+"://"+serveRaw(t, func(c net.Conn) {
					defer c.Close()
					if protocol == "https" {
						c = tls.Server(c, secure)
					}
					for read := bufio.NewReader(c); ; {
						req, err := http.ReadRequest(read)
						switch {
						case err != nil:
							return
						case req.URL.Path == "/odd":
							io.WriteString(c, response+extra)
						default:
							fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(req.URL.Path), req.URL.Path)
						}
					}
				}))
				method := http.MethodGet
				if name == http.MethodHead {
					method = name
				}
				var clients sync.WaitGroup
				for client := range 8 {
					clients.Go(func() {
						for i := range rounds {
							if _, _, err := send(p, newRequest(method, "/odd", "")); err != nil {
								t.Error(err)
							}
							path := fmt.Sprintf("/%d/%d", client, i)
							if _, body, err := send(p, newRequest("GET", path, "")); body != path || err != nil {
								t.Errorf("GET %s: %q, error %v", path, body, err)
							}
						}
					})
				}
				clients.Wait()
				if s := p.Targets()[0]; !s.EjectedUntil.IsZero() || s.InFlight != 0 {
					t.Errorf("%+v", s)
				}
			})
		}
	}
}

// A target that closes the connection has failed, although the client has yet to send its
// body, and may never do so.
func TestClosedConnectionEndsHeldUpload(t *testing.T) {
	closes := func(c net.Conn) {
		http.ReadRequest(bufio.NewReader(c))
		c.Close()
	}
	p := newPool(t, upstream.Options{Ejection: upstream.Ejection{ConnectionErrors: 1}}, "http://"+serveRaw(t, closes), "http://"+serveRaw(t, closes))
	for _, size := range []int64{100, -1} {
		body, client := io.Pipe()
		req := newRequest("POST", "/upload", "text")
		req.Body, req.ContentLength = body, size
		ended := make(chan error)
		go func() {
			_, _, err := send(p, req)
			ended <- err
		}()
		select {
		case err := <-ended:
			if err == nil {
				t.Errorf("size %d: no error", size)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("size %d: the pool waits for the body", size)
		}
		client.Close()
	}
	if s := p.Targets(); s[0].EjectedUntil.IsZero() && s[1].EjectedUntil.IsZero() {
		t.Errorf("no target is ejected: %+v", s)
	}
}

// A target may close a connection just as a request arrives on it. With an idle timeout that
// is shorter than the target's, the pool closes it first, and the request gets another one.
func TestIdleTimeoutClosesConnections(t *testing.T) {
	ended := make(chan bool, 1)
	p := newPool(t, upstream.Options{IdleTimeout: 50 * time.Millisecond}, "http://"+serveRaw(t, func(c net.Conn) {
		defer c.Close()
		read := bufio.NewReader(c)
		if _, err := http.ReadRequest(read); err != nil {
			return
		}
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		_, err := http.ReadRequest(read) // it gets no answer
		ended <- err == io.EOF
	}))
	for range 3 {
		want(t, p, newRequest("POST", "/", ""))
		if !<-ended {
			t.Error("the connection was used again")
		}
	}
}
