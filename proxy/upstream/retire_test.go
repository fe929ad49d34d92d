package upstream_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"metergate/proxy/upstream"
)

// conns counts a server's connections.
type conns struct {
	mu   sync.Mutex
	open map[net.Conn]bool
	none chan bool // gets a value whenever the last one is closed
}

func countConns(s *httptest.Server) *conns {
	c := &conns{open: map[net.Conn]bool{}, none: make(chan bool, 100)}
	s.Config.ConnState = func(conn net.Conn, state http.ConnState) {
		c.mu.Lock()
		defer c.mu.Unlock()
		switch state {
		case http.StateNew:
			c.open[conn] = true
		case http.StateClosed, http.StateHijacked:
			if delete(c.open, conn); len(c.open) == 0 {
				c.none <- true
			}
		}
	}
	return c
}

// Retire closes connections as soon as they are idle.
func TestRetireClosesIdleConnections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, "a")
		p := n.pool(t, upstream.Options{}, "a")
		open := func(when string, want int) {
			t.Helper()
			synctest.Wait() // no time passes
			n.mu.Lock()
			defer n.mu.Unlock()
			if got := n.hosts["a"].open; got != want {
				t.Errorf("%s: %d connections, want %d", when, got, want)
			}
		}
		stream, err := p.RoundTrip(newRequest("GET", "/stream", ""))
		if err != nil {
			t.Fatal(err)
		}
		want(t, p, newRequest("GET", "/", ""))
		open("before Retire", 2)
		p.Retire()
		open("after Retire", 1)
		time.Sleep(time.Minute)
		want(t, p, newRequest("GET", "/late", ""))
		open("after a late request", 2)
		close(n.hosts["a"].end)
		io.ReadAll(stream.Body)
		stream.Body.Close()
		open("after the stream", 0)
	})
}

// A retired pool closes idle connections, lets a stream end by itself, and leaves nothing
// behind. (TestMain checks for goroutines.)
func TestRetireLetsStreamsEnd(t *testing.T) {
	for _, proto := range []string{"HTTP/1.1", "HTTP/2.0"} {
		for _, end := range []string{"read", "closed early", "client gone"} {
			more := make(chan bool)
			var open *conns
			s := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/stream" {
					io.WriteString(w, r.Proto)
					return
				}
				for i := range 3 {
					fmt.Fprintln(w, i)
					w.(http.Flusher).Flush()
					select {
					case <-more:
					case <-r.Context().Done():
						return
					}
				}
			}, func(s *httptest.Server) {
				open = countConns(s)
				s.EnableHTTP2 = proto == "HTTP/2.0"
			})
			p := newPool(t, upstream.Options{
				TLS:    &tls.Config{InsecureSkipVerify: true},
				Health: &upstream.Health{Path: "/healthz", Interval: time.Millisecond},
			}, s.URL)
			p.Start()
			if got := want(t, p, newRequest("GET", "/", "")); got != proto {
				t.Fatalf("%s, want %s", got, proto)
			}
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			res, err := p.RoundTrip(newRequest("GET", "/stream", "").WithContext(ctx))
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewScanner(res.Body)
			lines.Scan()
			p.Retire()
			want(t, p, newRequest("GET", "/late", "")) // a late request is still served
			if n := p.Targets()[0].InFlight; n != 1 {
				t.Errorf("%s, %s: %d in flight", proto, end, n)
			}
			switch end {
			case "read":
				for i := 1; i < 3; i++ {
					more <- true
					if !lines.Scan() || lines.Text() != fmt.Sprint(i) {
						t.Errorf("%s: after Retire the stream gave %q, %v", proto, lines.Text(), lines.Err())
					}
				}
				more <- true
				if lines.Scan() || lines.Err() != nil {
					t.Errorf("%s: %q, %v", proto, lines.Text(), lines.Err())
				}
			case "client gone":
				cancel()
			}
			for len(open.none) > 0 {
				<-open.none
			}
			res.Body.Close()
			for left := 1; left > 0; {
				select {
				case <-open.none:
				case <-time.After(10 * time.Second):
					t.Fatalf("%s, %s: a connection is still open", proto, end)
				}
				open.mu.Lock()
				left = len(open.open)
				open.mu.Unlock()
			}
			s.Close()
		}
	}
}
