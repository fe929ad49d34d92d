package upstream_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"metergate/proxy/upstream"
	"metergate/quota/testkit"
)

// serveH2C starts a server that speaks HTTP/2 without TLS and nothing else, and returns its URL as a target.
func serveH2C(t testing.TB, h http.HandlerFunc) (*httptest.Server, string) {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s, "h2c" + strings.TrimPrefix(s.URL, "http")
}

// socketPath returns a short path: that of a test's folder may be too long.
func socketPath(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "mg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "api.sock")
}

func serveUnix(t testing.TB, path string, h http.HandlerFunc) (s *httptest.Server, target string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s = httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	s.Start()
	t.Cleanup(s.Close)
	return s, "unix:" + path
}

func echo(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	fmt.Fprint(w, r.Proto, " ", r.Host, " ", r.Method, " ", r.RequestURI, " ", string(body))
}

// Targets of all schemes get the request as the client sent it; the response names the target.
func TestSchemesOfTargets(t *testing.T) {
	plain := serve(t, echo)
	_, h2c := serveH2C(t, echo)
	_, unix := serveUnix(t, socketPath(t), echo)
	for name, c := range map[string]struct {
		url     string
		options upstream.Options
		want    string
		named   string // by the response
	}{
		"http":                    {plain.URL, upstream.Options{}, "HTTP/1.1 " + plain.Listener.Addr().String() + " POST /a%20b?c=1 ", plain.URL + "/a%20b?c=1"},
		"h2c":                     {h2c, upstream.Options{}, "HTTP/2.0 " + h2c[6:] + " POST /a%20b?c=1 text", h2c},
		"h2c with a path":         {h2c + "/v1/", upstream.Options{}, "HTTP/2.0 " + h2c[6:] + " POST /v1/a%20b?c=1 text", h2c + "/v1/"},
		"h2c with a host":         {h2c, upstream.Options{Host: "api.internal"}, "HTTP/2.0 api.internal POST /a%20b?c=1 text", h2c},
		"unix":                    {unix, upstream.Options{}, "HTTP/1.1 localhost POST /a%20b?c=1 text", unix},
		"unix with a host":        {unix, upstream.Options{Host: "api.internal"}, "HTTP/1.1 api.internal POST /a%20b?c=1 text", unix},
		"unix, the client's host": {unix, upstream.Options{KeepHost: true}, "HTTP/1.1 client.example POST /a%20b?c=1 text", unix},
	} {
		for _, bounded := range []bool{false, true} {
			if bounded {
				c.options.Connections = upstream.NewConnections()
			}
			p := newPool(t, c.options, c.url)
			res, body, err := send(p, newRequest("POST", "/a%20b?c=1", "text"))
			if err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if name != "http" && body != c.want || res.Request.URL.String() != c.named || p.Targets()[0].URL != c.url {
				t.Errorf("%s: %q from %s; want %q from %s", name, body, res.Request.URL, c.want, c.named)
			}
			if bounded && c.options.Connections.Open() != 1 {
				t.Errorf("%s: %d connections are counted", name, c.options.Connections.Open())
			}
		}
	}
}

// Body and answer stream in both directions at once over h2c, and trailers pass, as gRPC needs.
func TestH2CStreamsInBothDirections(t *testing.T) {
	_, h2c := serveH2C(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "Grpc-Status")
		w.Header().Set("Content-Type", "application/grpc")
		w.WriteHeader(200)
		http.NewResponseController(w).Flush()
		for lines := bufio.NewScanner(r.Body); lines.Scan(); {
			fmt.Fprintln(w, "echo", lines.Text())
			http.NewResponseController(w).Flush()
		}
		w.Header().Set("Grpc-Status", "0"+r.Trailer.Get("Grpc-Timeout"))
	})
	p := newPool(t, upstream.Options{}, h2c)
	body, write := io.Pipe()
	req := newRequest("POST", "/", "", "Te: trailers")
	req.Body, req.ContentLength = body, -1
	res, err := p.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	lines := bufio.NewScanner(res.Body)
	for i := range 3 {
		fmt.Fprintln(write, i)
		if !lines.Scan() || lines.Text() != fmt.Sprint("echo ", i) {
			t.Fatalf("after line %d: %q, %v", i, lines.Text(), lines.Err())
		}
	}
	write.Close()
	if lines.Scan() || lines.Err() != nil || res.Trailer.Get("Grpc-Status") != "0" {
		t.Errorf("at the end: %q, %v, trailers %v", lines.Text(), lines.Err(), res.Trailer)
	}
}

// One pool has targets of all schemes. One that is gone is ejected and tried again; a request that is
// not repeatable is never sent twice.
func TestMixedSchemesFailOver(t *testing.T) {
	var posts sync.Map
	count := func(w http.ResponseWriter, r *http.Request) {
		n, _ := posts.LoadOrStore(r.Header.Get("X-Test-Id"), new(atomic.Int64))
		n.(*atomic.Int64).Add(1)
	}
	path := socketPath(t)
	plain := serve(t, count)
	one, h2c := serveH2C(t, count)
	two, unix := serveUnix(t, path, count)
	p := newPool(t, upstream.Options{Balance: upstream.RoundRobin, Ejection: upstream.Ejection{ConnectionErrors: 1, For: 50 * time.Millisecond}, MaxConnectionAge: 200 * time.Millisecond},
		plain.URL, h2c, unix)
	id := 0
	round := func() {
		for range 10 {
			id++
			method := []string{"GET", "POST"}[id%2]
			if _, _, err := send(p, newRequest(method, "/", "", fmt.Sprint("X-Test-Id: ", id))); err != nil && method == "GET" {
				t.Errorf("a GET failed: %v", err)
			}
		}
	}
	round()
	one.CloseClientConnections()
	round()
	plain.CloseClientConnections()
	round()
	two.Close()
	testkit.Eventually(t, "the target of the closed socket is ejected", func() bool { round(); return !p.Targets()[2].EjectedUntil.IsZero() })
	serveUnix(t, path, count)
	testkit.Eventually(t, "it is back", func() bool { round(); return p.Targets()[2].EjectedUntil.IsZero() })
	posts.Range(func(id, n any) bool {
		if got := n.(*atomic.Int64).Load(); got > 1 {
			t.Errorf("request %s arrived %d times", id, got)
		}
		return true
	})
}

// A stream that the server has refused, or reset after it had acted, is not sent again over h2c
// either, unless it is repeatable.
func TestH2CDoesNotRepeat(t *testing.T) {
	var arrived atomic.Int64
	_, h2c := serveH2C(t, func(http.ResponseWriter, *http.Request) {
		arrived.Add(1)
		panic(http.ErrAbortHandler)
	})
	_, other := serveH2C(t, echo)
	p := newPool(t, upstream.Options{Balance: upstream.RoundRobin}, h2c, other)
	if _, _, err := send(p, newRequest("POST", "/", "text")); err == nil || arrived.Load() != 1 {
		t.Errorf("error %v after %d arrivals", err, arrived.Load())
	}
	want(t, p, newRequest("POST", "/", "")) // on the other
	if got := want(t, p, newRequest("GET", "/", "")); !strings.HasPrefix(got, "HTTP/2.0") || arrived.Load() != 2 {
		t.Errorf("a GET: %q after %d arrivals", got, arrived.Load())
	}
}

// A target of h2c that does not speak HTTP/2 is one that cannot be reached.
func TestH2CNeedsHTTP2(t *testing.T) {
	p := newPool(t, upstream.Options{Balance: upstream.RoundRobin, Ejection: upstream.Ejection{ConnectionErrors: 1}},
		"h2c"+strings.TrimPrefix(serve(t, nil).URL, "http"), serve(t, nil).URL)
	for range 4 {
		want(t, p, newRequest("GET", "/", ""))
	}
	if p.Targets()[0].EjectedUntil.IsZero() {
		t.Error("it is not ejected")
	}
}

// Health checks reach targets of all schemes.
func TestHealthChecksOfAllSchemes(t *testing.T) {
	var sick atomic.Bool
	health := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/healthz" && sick.Load() {
			w.WriteHeader(500)
		}
	}
	_, h2c := serveH2C(t, health)
	_, unix := serveUnix(t, socketPath(t), health)
	p := newPool(t, upstream.Options{Health: &upstream.Health{Path: "/healthz", Interval: 10 * time.Millisecond, Timeout: 10 * time.Second}}, h2c, unix)
	p.Start()
	for _, want := range []bool{true, false, true} {
		sick.Store(!want)
		testkit.Eventually(t, fmt.Sprint("both are healthy: ", want), func() bool {
			return p.Targets()[0].Healthy == want && p.Targets()[1].Healthy == want
		})
	}
}

// A socket whose queue is full does not fail: the connection waits.
func TestFullSocketQueueIsWaitedFor(t *testing.T) {
	path := socketPath(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if raw, err := l.(*net.UnixListener).SyscallConn(); err != nil {
		t.Fatal(err)
	} else if err := raw.Control(func(fd uintptr) { syscall.Listen(int(fd), 1) }); err != nil { // the shortest queue
		t.Fatal(err)
	}
	var full []net.Conn
	defer func() {
		for _, c := range full {
			c.Close()
		}
	}()
	for {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		c, err := new(net.Dialer).DialContext(ctx, "unix", path)
		cancel()
		if err != nil {
			break
		}
		full = append(full, c)
	}
	p := newPool(t, upstream.Options{}, "unix:"+path)
	answered := make(chan error)
	go func() {
		_, _, err := send(p, newRequest("GET", "/", ""))
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Fatalf("with a full queue: %v", err)
	case <-time.After(100 * time.Millisecond):
	}
	s := &http.Server{Handler: http.HandlerFunc(echo)}
	go s.Serve(l)
	defer s.Close()
	if err := testkit.Receive(t, "the answer", answered); err != nil {
		t.Error(err)
	}
}

func TestTargetURLsAreChecked(t *testing.T) {
	long := "/" + strings.Repeat("x", upstream.MaxSocketPath)
	for text, say := range map[string]string{
		"h2c://":               "must have a host",
		"unix:api.sock":        "must be unix: and the absolute path of a socket",
		"unix://run/api.sock":  "must be unix: and the absolute path of a socket",
		"unix:":                "must be unix: and the absolute path of a socket",
		"unix:/a?b":            "must not have a user, query or fragment",
		"unix:" + long:         fmt.Sprintf("the path of a socket may have at most %d bytes, and this one has %d", upstream.MaxSocketPath, len(long)),
		"ftp://a":              "must start with http://, https://, h2c:// or unix:",
		"unix:" + long[1:][:1]: "must be unix: and the absolute path of a socket",
	} {
		u, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := upstream.New(upstream.Options{Targets: []upstream.Target{{URL: u}}}); err == nil || !strings.Contains(err.Error(), say) {
			t.Errorf("%s: %v; want %q", text, err, say)
		}
	}
	var failed *upstream.TargetError
	missing := newPool(t, upstream.Options{}, "unix:/nowhere/api.sock")
	if _, _, err := send(missing, newRequest("GET", "/", "")); !errors.As(err, &failed) || failed.URL.String() != "unix:/nowhere/api.sock" || !strings.Contains(err.Error(), "/nowhere/api.sock") {
		t.Errorf("a socket that is not there: %v", err)
	}
}
