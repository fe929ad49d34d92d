package upstream_test

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"

	"go.uber.org/goleak"

	"metergate/proxy/upstream"
	"metergate/quota/testkit"
)

// No test may leave a goroutine behind.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A server is a target on loopback that logs what reached it.
type server struct {
	*httptest.Server
	mu  sync.Mutex
	log []string // method, target, body
}

// serve starts a server; a nil handler answers 200. The server reads each request's body
// first, unless there is an Expect header.
func serve(t testing.TB, h http.HandlerFunc, change ...func(*httptest.Server)) *server {
	s := new(server)
	s.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		line := r.Method + " " + r.RequestURI
		if r.Header.Get("Expect") == "" {
			body, _ := io.ReadAll(r.Body)
			line = strings.TrimSpace(line + " " + string(body))
		}
		s.mu.Lock()
		s.log = append(s.log, line)
		s.mu.Unlock()
		if h != nil {
			h(w, r)
		}
	}))
	s.Config.ErrorLog = log.New(io.Discard, "", 0)
	for _, c := range change {
		c(s.Server)
	}
	if s.TLS != nil || s.EnableHTTP2 {
		s.StartTLS()
	} else {
		s.Start()
	}
	t.Cleanup(s.Close)
	return s
}

func withHTTP2(s *httptest.Server) { s.EnableHTTP2 = true }

func (s *server) got() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string{}, s.log...)
}

// abort closes the connection, or resets the stream, without a response.
func abort(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// target makes a Target of weight 1.
func target(u string) upstream.Target {
	parsed, err := url.Parse(u)
	if err != nil {
		panic(err)
	}
	return upstream.Target{URL: parsed}
}

// refused returns a URL where nobody listens.
func refused(t testing.TB) string { return "http://" + testkit.FreeAddress(t) }

func newPool(t testing.TB, o upstream.Options, urls ...string) *upstream.Pool {
	t.Helper()
	for _, u := range urls {
		o.Targets = append(o.Targets, target(u))
	}
	p, err := upstream.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Retire)
	return p
}

// newRequest makes a request as a reverse proxy has it: the body is only a Reader.
// fields are "Name: value".
func newRequest(method, path, body string, fields ...string) *http.Request {
	var r io.Reader
	if body != "" {
		r = arrived{strings.NewReader(body)}
	}
	req, err := http.NewRequest(method, "http://client.example"+path, r)
	if err != nil {
		panic(err)
	}
	req.ContentLength = int64(len(body))
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	return req
}

// An arrived body never waits for its client.
type arrived struct{ io.Reader }

func (arrived) Close() error                 { return nil }
func (arrived) NotifyBeforeWait(func()) bool { return true }

// send sends a request and reads the response.
func send(p *upstream.Pool, req *http.Request) (res *http.Response, body string, err error) {
	if res, err = p.RoundTrip(req); err != nil {
		return nil, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res, string(b), err
}

// want sends a request, requires status 200 and returns the body.
func want(t testing.TB, p *upstream.Pool, req *http.Request) (body string) {
	t.Helper()
	res, body, err := send(p, req)
	if err != nil {
		t.Fatalf("%s %s: %v", req.Method, req.URL.Path, err)
	}
	if res.StatusCode != 200 {
		t.Fatalf("%s %s: %s", req.Method, req.URL.Path, res.Status)
	}
	return body
}

// A network connects hosts by pipes. Nothing in it waits for the outside world, so time
// passes in a synctest bubble.
type network struct {
	mu    sync.Mutex
	hosts map[string]*host
}

// A host is a server of a network.
type host struct {
	name  string
	conns chan net.Conn
	// closed: it listens no more. A transport may still dial then, for a request that has ended.
	closed chan struct{}
	up     bool
	end    chan bool // closed to end a stream
	// hold, if not nil, delays connections until it is closed.
	hold  chan bool
	dials int
	open  int // connections
	// gets counts requests; checks, which go to /healthz, count apart.
	gets, checks int
	// status and health are the statuses of responses to requests and checks.
	status, health int
}

// newNetwork starts hosts that answer 200. They stop when the test ends.
func newNetwork(t *testing.T, names ...string) *network {
	n := &network{hosts: map[string]*host{}}
	for _, name := range names {
		h := &host{name: name, conns: make(chan net.Conn), closed: make(chan struct{}), end: make(chan bool), up: true, status: 200, health: 200}
		n.hosts[name] = h
		s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.mu.Lock()
			defer n.mu.Unlock()
			if r.URL.Path == "/stream" {
				w.(http.Flusher).Flush()
				n.mu.Unlock()
				<-h.end
				n.mu.Lock()
				return
			}
			if r.URL.Path == "/healthz" {
				h.checks++
				w.WriteHeader(h.health)
				return
			}
			h.gets++
			w.WriteHeader(h.status)
			io.WriteString(w, name)
		}), ConnState: func(_ net.Conn, state http.ConnState) {
			n.mu.Lock()
			defer n.mu.Unlock()
			switch state {
			case http.StateNew:
				h.open++
			case http.StateClosed:
				h.open--
			}
		}}
		served := make(chan error)
		go func() { served <- s.Serve(h) }()
		t.Cleanup(func() { s.Close(); <-served })
	}
	return n
}

func (n *network) dial(ctx context.Context, _, addr string) (net.Conn, error) {
	n.mu.Lock()
	h := n.hosts[strings.TrimSuffix(addr, ":80")]
	h.dials++
	up, hold := h.up, h.hold
	n.mu.Unlock()
	if hold != nil {
		<-hold
	}
	if up {
		ours, theirs := net.Pipe()
		select {
		case h.conns <- theirs:
			return ours, nil
		case <-h.closed:
		}
	}
	return nil, &net.OpError{Op: "dial", Net: "tcp", Err: syscall.ECONNREFUSED}
}

// pool makes a Pool of hosts.
func (n *network) pool(t *testing.T, o upstream.Options, names ...string) *upstream.Pool {
	for _, name := range names {
		o.Targets = append(o.Targets, target("http://"+name))
	}
	p, err := upstream.New(o)
	if err != nil {
		t.Fatal(err)
	}
	p.SetDial(n.dial)
	t.Cleanup(p.Retire)
	return p
}

// set changes a host and resets its counters.
func (n *network) set(name string, change func(*host)) {
	n.mu.Lock()
	defer n.mu.Unlock()
	h := n.hosts[name]
	h.dials, h.gets = 0, 0
	if change != nil {
		change(h)
	}
}

func (n *network) counts(name string) (dials, gets int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.hosts[name].dials, n.hosts[name].gets
}

func (h *host) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.closed:
		return nil, net.ErrClosed
	}
}

func (h *host) Close() error   { close(h.closed); return nil }
func (h *host) Addr() net.Addr { return &net.UnixAddr{Name: h.name} }
