package upstream_test

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"strings"
	"testing"
	"time"

	"metergate/proxy/upstream"
)

// A target may answer and close without reading the rest of an upload. Its response
// arrives although the upload breaks, and does not count against the target.
func TestEarlyResponseSurvivesBrokenUpload(t *testing.T) {
	settings := http2Server(t)
	settings.NextProtos = nil
	for protocol, secure := range map[string]bool{"http": false, "https": true} {
		for _, response := range []string{
			"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
			"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 5\r\n\r\nlarge",
			"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlarge", // closed all the same
			"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 401 Unauthorized\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
		} {
			answer := func(c net.Conn) {
				defer c.Close()
				if secure {
					c = tls.Server(c, settings)
				}
				http.ReadRequest(bufio.NewReader(c))
				io.WriteString(c, response)
			}
			targets := []string{protocol + "://" + serveRaw(t, answer), protocol + "://" + serveRaw(t, answer)}
			p := newPool(t, upstream.Options{Balance: upstream.RoundRobin, TLS: &tls.Config{InsecureSkipVerify: true}}, targets...)
			for i := range 40 {
				p.Retire() // closes idle connections: the target may be about to close them
				res, body, err := send(p, newUpload(300<<10<<(i%4)))
				if err != nil {
					t.Errorf("%s %q: upload %d: %v", protocol, response, i, err)
					continue
				}
				if !strings.Contains(response, fmt.Sprintf("\r\n\r\n%s", body)) || !strings.Contains(response, fmt.Sprint(" ", res.StatusCode, " ")) {
					t.Errorf("%s %q: %s %q", protocol, response, res.Status, body)
				}
			}
			for _, s := range p.Targets() {
				if !s.EjectedUntil.IsZero() || s.InFlight != 0 {
					t.Errorf("%s %q: %+v", protocol, response, s)
				}
			}
		}
	}
}

// With HTTP/2 the target resets the stream of the upload, not the connection.
func TestEarlyResponseSurvivesResetStream(t *testing.T) {
	for _, status := range []int{200, 413} {
		s := serve(t, nil, withHTTP2)
		s.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			io.WriteString(w, "early")
		})
		p := newPool(t, upstream.Options{TLS: &tls.Config{InsecureSkipVerify: true}}, s.URL)
		for i := range 40 {
			res, body, err := send(p, newUpload(300<<10<<(i%4)))
			if err != nil || res.StatusCode != status || body != "early" || res.ProtoMajor != 2 {
				t.Errorf("upload %d: %+v %q, error %v", i, res, body, err)
			}
		}
	}
}

// A target that closes without a response has failed, whatever became of the upload.
func TestBrokenUploadWithoutResponseEjects(t *testing.T) {
	closes := func(c net.Conn) {
		defer c.Close()
		http.ReadRequest(bufio.NewReader(c))
	}
	p := newPool(t, upstream.Options{Balance: upstream.RoundRobin}, "http://"+serveRaw(t, closes), "http://"+serveRaw(t, closes))
	for range 6 {
		if res, _, err := send(p, newUpload(4<<20)); err == nil {
			t.Errorf("got %s", res.Status)
		}
	}
	if s := p.Targets(); s[0].EjectedUntil.IsZero() == s[1].EjectedUntil.IsZero() {
		t.Errorf("want one of two ejected: %+v", s)
	}
}

// newUpload makes a POST with a body of size bytes.
func newUpload(size int64) *http.Request {
	req := newRequest("POST", "/upload", "text")
	req.Body = arrived{io.LimitReader(zeros{}, size)}
	req.ContentLength = size
	return req
}

// zeros is an endless body.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// On an upgraded connection a failed write ends the exchange: nothing waits for a
// response any more.
func TestUpgradedConnectionEndsWithTarget(t *testing.T) {
	closes := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "echo")
		w.WriteHeader(http.StatusSwitchingProtocols)
		if conn, _, err := http.NewResponseController(w).Hijack(); err == nil {
			conn.Close()
		}
	})
	p := newPool(t, upstream.Options{}, closes.URL)
	front := serve(t, (&httputil.ReverseProxy{Transport: p, Rewrite: func(*httputil.ProxyRequest) {}}).ServeHTTP)
	conn, err := net.Dial("tcp", front.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 101 {
		t.Fatalf("%+v, error %v", res, err)
	}
	if _, err := io.Copy(conn, zeros{}); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the client is still connected")
	}
}
