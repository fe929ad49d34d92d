package proxy_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"metergate/proxy"
	"metergate/quota"
)

// A stream may last longer than the timeout, and the lease: it is counted when it
// begins, and nobody ends it.
func TestStreamOutlivesTheTimeout(t *testing.T) {
	const timeout = 100 * time.Millisecond
	more := make(chan bool)
	r := newTestGateway(t, setup{timeout: timeout, upstream: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := range 3 {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			<-more
		}
	}})
	req, _ := http.NewRequest("POST", r.gateway.URL+"/api/analyze", nil)
	req.Header.Set("Authorization", "Bearer "+token("u", ""))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for i := range 3 {
		if !lines.Scan() || lines.Text() != fmt.Sprint("data: ", i) {
			t.Fatalf("event %d is %q, error %v", i, lines.Text(), lines.Err())
		}
		lines.Scan()
		r.want("u", "", 1)
		<-time.After(2 * timeout)
		more <- true
	}
	if lines.Scan() || lines.Err() != nil {
		t.Errorf("after the last event: %q, error %v", lines.Text(), lines.Err())
	}
	r.want("u", "", 1)
}

// An upload of 30 MiB that is slower than the timeout ends with 504, at any point,
// and holds nothing.
func TestUploadSlowerThanTheTimeout(t *testing.T) {
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

// After a 504 the connection of a request without a body is as good as before.
func TestTimeoutKeepsTheConnection(t *testing.T) {
	r := newTestGateway(t, setup{timeout: 100 * time.Millisecond, upstream: func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "slow" {
			<-r.Context().Done()
		}
	}})
	conn := r.dial()
	read := bufio.NewReader(conn)
	for _, method := range []string{"GET", "POST"} {
		for _, query := range []string{"", "?slow", ""} {
			path := map[string]string{"GET": "/api/lookup/7", "POST": "/api/analyze"}[method]
			fmt.Fprintf(conn, "%s %s%s HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 0\r\n\r\n", method, path, query, token("u", ""))
			res, err := http.ReadResponse(read, nil)
			if err != nil {
				t.Fatal(err)
			}
			io.Copy(io.Discard, res.Body)
			if res.StatusCode == 499 || res.Close || query == "?slow" && res.StatusCode != 504 {
				t.Errorf("%s %s: %s, close %v", method, query, res.Status, res.Close)
			}
		}
	}
}

// faulty panics where its fields say so.
type faulty struct {
	proxy.Store
	http.ResponseWriter
}

func (f faulty) Commit(context.Context, *quota.Reservation) (*quota.Snapshot, error) {
	panic("on purpose")
}

func (f faulty) WriteHeader(int) { panic("on purpose") }

// A panic before the count gives the unit back; one after it leaves the count: in
// both cases nothing is held, and the gateway serves on.
func TestPanic(t *testing.T) {
	r := newTestGateway(t, setup{})
	broken := r.options
	broken.Store = faulty{Store: r.store}
	for name, c := range map[string]struct {
		options proxy.Options
		wrap    func(http.ResponseWriter) http.ResponseWriter
		used    int64
	}{
		"before": {broken, func(w http.ResponseWriter) http.ResponseWriter { return w }, 0},
		"after":  {r.options, func(w http.ResponseWriter) http.ResponseWriter { return faulty{ResponseWriter: w} }, 1},
	} {
		g, err := proxy.New(c.options)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			g.ServeHTTP(c.wrap(w), req)
		}))
		server.Config.ErrorLog = quiet
		server.Start()
		req, _ := http.NewRequest("POST", server.URL+"/api/analyze", strings.NewReader("text"))
		req.Header.Set("Authorization", "Bearer "+token(name, ""))
		if res, err := http.DefaultClient.Do(req); err == nil {
			t.Errorf("%s: %s", name, res.Status)
		}
		server.Close()
		r.want(name, "", c.used)
	}
}

func TestNoContent(t *testing.T) {
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNoContent) }})
	res := r.do(token("u", ""), "POST", "/api/analyze", strings.NewReader("text"))
	if res.StatusCode != 204 || res.body != "" || res.Header.Get("X-Usage") != "1/100" {
		t.Errorf("%s, X-Usage %q, body %q", res.Status, res.Header.Get("X-Usage"), res.body)
	}
	r.want("u", "", 1)
}

// A body that the client breaks is the client's fault, and not the upstream's.
func TestBrokenBody(t *testing.T) {
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
