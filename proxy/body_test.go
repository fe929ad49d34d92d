package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy"
	"metergate/quota/testkit"
)

func TestBodyOverMaxBodyAnswers413(t *testing.T) {
	r := newTestGateway(t, setup{maxBody: 1000, upstream: func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
	}})
	tok := token("u", "")
	post := func(n int, chunked bool) reply {
		var body io.Reader = bytes.NewReader(make([]byte, n))
		if chunked {
			body = io.MultiReader(body) // hides its length
		}
		return r.do(tok, "POST", "/api/analyze", body)
	}
	for _, chunked := range []bool{false, true} {
		if res := post(1000, chunked); res.StatusCode != 200 {
			t.Errorf("1000 bytes, chunked %v: %s", chunked, res.Status)
		}
		if res := post(1001, chunked); res.StatusCode != 413 || !strings.Contains(res.body, "1 KB") {
			t.Errorf("1001 bytes, chunked %v: %s %s", chunked, res.Status, res.body)
		}
	}
	r.want("u", "", 2)
	calls, sent := r.store.calls.Load(), len(r.requests())
	post(1001, false)
	if r.store.calls.Load() != calls || len(r.requests()) != sent {
		t.Error("a body that is too large by its Content-Length cost a call of the store or the upstream")
	}
}

// TestUploadEndsAtTimeout: an upload that takes longer than the timeout is ended, and
// nothing stays held.
func TestUploadEndsAtTimeout(t *testing.T) {
	r := newTestGateway(t, setup{timeout: 100 * time.Millisecond, upstream: func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	}})
	conn := r.dial()
	io.WriteString(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "+token("u", "")+"\r\nContent-Length: 1000000\r\n\r\nthe first bytes")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != 504 {
		t.Fatalf("%v, error %v; want 504", res, err)
	}
	r.want("u", "", 0)
}

// TestLargeUploadEndsAtTimeout: an upload of 30 MiB that is slower than the timeout ends
// with 504, at whatever byte, and nothing stays held.
func TestLargeUploadEndsAtTimeout(t *testing.T) {
	r := newTestGateway(t, setup{timeout: 150 * time.Millisecond, upstream: func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
	}})
	conn := r.dial()
	fmt.Fprintf(conn, "POST /api/image-analysis HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n", token("u", ""), 30<<20)
	answered := make(chan *http.Response)
	go func() {
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Error(err)
		}
		answered <- res
	}()
	piece := make([]byte, 8<<10)
	for sending := true; sending; {
		select {
		case res := <-answered:
			if res == nil || res.StatusCode != 504 || !res.Close {
				t.Errorf("%+v, want 504 and the connection's end", res)
			}
			sending = false
		case <-time.After(5 * time.Millisecond):
			conn.Write(piece) // fails once the gateway has closed
		}
	}
	r.want("u", "", 0)
}

// TestMalformedBodyAnswers400: a body that the client breaks is the client's fault, not
// the upstream's.
func TestMalformedBodyAnswers400(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(io.Discard, r.Body); err != nil {
			panic(http.ErrAbortHandler)
		}
	}})
	for name, chunks := range map[string]string{"at once": "zz\r\n", "later": "5\r\nhello\r\nzz\r\n"} {
		conn := r.dial()
		fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n%s", token("u", ""), chunks)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != 400 || !res.Close || res.Header.Get("X-Usage") != "0/100" {
			t.Errorf("%s: %v, error %v; want 400 and 0/100", name, res, err)
		}
	}
	r.want("u", "", 0)
}

// TestCancelledUploadIsNoMalformedBody: a client of HTTP/2 that cancels its upload, or is gone, is
// logged with status 499 as well. The gateway may notice that in the body or in the context first.
func TestCancelledUploadIsNoMalformedBody(t *testing.T) {
	const rounds = 20
	var log logged
	arrived := make(chan bool)
	registry := prometheus.NewRegistry()
	g := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) {
			io.ReadFull(r.Body, make([]byte, 4))
			arrived <- true
			io.Copy(io.Discard, r.Body)
		},
		change: func(o *proxy.Options) {
			log.to(slog.LevelInfo)(o)
			o.Metrics = proxy.NewMetrics(registry)
		},
	})
	client, url := g.http2Client()
	var conn net.Conn
	client.Transport.(*http.Transport).DialContext = func(ctx context.Context, network, addr string) (_ net.Conn, err error) {
		conn, err = new(net.Dialer).DialContext(ctx, network, addr)
		return conn, err
	}
	for i := range 2 * rounds {
		ctx, cancel := context.WithCancel(t.Context())
		body, write := io.Pipe()
		go func() {
			io.WriteString(write, "text")
			<-arrived
			if i < rounds {
				cancel()
			} else {
				conn.Close()
			}
		}()
		req, _ := http.NewRequestWithContext(ctx, "POST", url+"/api/analyze", body)
		req.Header.Set("Authorization", "Bearer "+token("u", ""))
		if res, err := client.Do(req); err == nil {
			t.Fatal(res.Status)
		}
		write.Close()
		cancel()
		if got := log.line(t, i+1); got["status"] != 499. || got["error"] != "the client is gone" {
			t.Errorf("request %d: %v", i, got)
		}
	}
	if n := series(t, registry)[`metergate_released_total{reason="client_gone"}`]; n != 2*rounds {
		t.Errorf("%v reservations of clients that are gone were given back, want %d", n, 2*rounds)
	}
	g.want("u", "", 0)
}

// TestShortBodyIsCutOff: a body that ends too early is the client's fault, however much of it came with the header.
func TestShortBodyIsCutOff(t *testing.T) {
	registry := prometheus.NewRegistry()
	g := newTestGateway(t, setup{change: func(o *proxy.Options) { o.Metrics = proxy.NewMetrics(registry) }})
	const body = "0123456789"
	for n := range len(body) {
		conn := g.dial()
		fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", token("u", ""), len(body), body[:n])
		conn.(*net.TCPConn).CloseWrite()
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != 400 {
			t.Errorf("%d of %d bytes: %v, error %v", n, len(body), res, err)
		}
	}
	if n := series(t, registry)[`metergate_released_total{reason="body"}`]; n != float64(len(body)) {
		t.Errorf("%v reservations were given back because of the body, want %d", n, len(body))
	}
	g.want("u", "", 0)
}

// TestUpstreamGetsAllButTheLastByte: the gateway does not keep a short body that has not wholly arrived.
func TestUpstreamGetsAllButTheLastByte(t *testing.T) {
	for _, body := range []string{"1", "0123456789"} {
		came := make(chan string, 1)
		g := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
			most := make([]byte, len(body)-1)
			io.ReadFull(r.Body, most)
			came <- string(most)
			io.Copy(w, r.Body)
		}})
		conn := g.dial()
		most, last := body[:len(body)-1], body[len(body)-1:]
		fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: %d\r\n\r\n%s", token("u", ""), len(body), most)
		if got := testkit.Receive(t, "the upstream has the request", came); got != most {
			t.Errorf("the upstream has %q", got)
		}
		io.WriteString(conn, last)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(res.Body); string(got) != last || err != nil {
			t.Errorf("%s %q, error %v", res.Status, got, err)
		}
	}
}
