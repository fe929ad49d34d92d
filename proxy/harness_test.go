package proxy_test

import (
	"context"
	"encoding/json"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy"
	"metergate/proxy/jwtauth"
	"metergate/proxy/upstream"
	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/testkit"
)

// quiet discards what net/http logs about panics that are made on purpose.
var quiet = log.New(io.Discard, "", 0)

var secret = []byte(testkit.Secret)

// token signs a token for an hour; an empty plan leaves the claim out.
func token(user, plan string) string { return testkit.Token(user, plan) }

// A testGateway is a gateway in front of an upstream, on loopback, with a real store.
type testGateway struct {
	t       *testing.T
	store   *counting
	plans   map[string]*quota.Plan
	options proxy.Options
	handler *proxy.Gateway
	gateway *httptest.Server
	target  *url.URL
	// sent has the requests that reached the upstream, in order.
	mu   sync.Mutex
	sent []*http.Request
}

type setup struct {
	upstream http.HandlerFunc // nil: 200 "ok"
	timeout  time.Duration    // 0: a minute
	maxBody  int64            // 0: 32 MiB
	store    proxy.Store      // nil: the embedded one
	routes   []proxy.Route    // more routes; their upstream is filled in
	change   func(*proxy.Options)
}

var endpoints = []string{"analyze", "image-analysis", "lookup"}

func newPlan(name string, limits ...quota.Limit) *quota.Plan {
	p, err := quota.NewPlan(quota.PlanOptions{Name: name, Limits: limits, Endpoints: endpoints, WarnAt: 80})
	if err != nil {
		panic(err)
	}
	return p
}

func newTestGateway(t *testing.T, s setup) *testGateway {
	t.Helper()
	r := &testGateway{t: t, plans: map[string]*quota.Plan{
		"free": newPlan("free", quota.Limit{Amount: 100, Period: quota.Month},
			quota.Limit{Amount: 20, Period: quota.Month, Endpoint: "image-analysis"}),
		"one":        newPlan("one", quota.Limit{Amount: 1, Period: quota.Month}),
		"enterprise": newPlan("enterprise"),
	}}
	if s.upstream == nil {
		s.upstream = func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }
	}
	behind := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.mu.Lock()
		r.sent = append(r.sent, req)
		r.mu.Unlock()
		s.upstream(w, req)
	}))
	t.Cleanup(behind.Close)
	r.target, _ = url.Parse(behind.URL)
	if s.timeout == 0 {
		s.timeout = time.Minute
	}
	if s.maxBody == 0 {
		s.maxBody = 32 << 20
	}
	up, err := upstream.New(upstream.Options{Targets: []upstream.Target{{URL: r.target}}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Retire)

	if s.store == nil {
		s.store = storeAt(t, nil)
	}
	r.store = &counting{Store: s.store}
	verifier, err := jwtauth.New(jwtauth.Options{Secret: secret, Algorithms: []string{"HS256"}})
	if err != nil {
		t.Fatal(err)
	}
	r.options = proxy.Options{
		Store: r.store, Verifier: verifier, Plans: r.plans, DefaultPlan: "free",
		Routes: []proxy.Route{
			{Pattern: "POST /api/analyze", Endpoint: "analyze"},
			{Pattern: "POST /api/image-analysis", Endpoint: "image-analysis"},
			{Pattern: "GET /api/lookup/{id}", Endpoint: "lookup"},
			{Pattern: "GET /api/status"},
			{Pattern: "GET /api/health", Public: true},
		},
		UpgradeURL: "https://example.com/pricing",
		Metrics:    proxy.NewMetrics(prometheus.NewRegistry()),
		Log:        testkit.Log(t),
	}
	r.options.Routes = append(r.options.Routes, s.routes...)
	for i := range r.options.Routes {
		route := &r.options.Routes[i]
		route.Upstream, route.Timeout, route.MaxBody = up, s.timeout, s.maxBody
		route.Targets = []string{behind.URL}
	}
	if s.change != nil {
		s.change(&r.options)
	}
	g, err := proxy.New(r.options)
	if err != nil {
		t.Fatal(err)
	}
	r.handler = g
	r.gateway = httptest.NewUnstartedServer(g)
	// As the program has it.
	r.gateway.Config.DisableGeneralOptionsHandler = true
	r.gateway.Config.MaxHeaderBytes = 64 << 10
	r.gateway.Config.ReadHeaderTimeout = 10 * time.Second
	r.gateway.Config.WriteTimeout = time.Minute
	r.gateway.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
		return proxy.WithReadHook(ctx, &c.(*hookedConn).ReadHook)
	}
	r.gateway.Listener = hookedListener{r.gateway.Listener}
	r.gateway.Start()
	t.Cleanup(r.gateway.Close)
	return r
}

// A hookedListener gives its connections a ReadHook, as the program's listener does.
type hookedListener struct{ net.Listener }

type hookedConn struct {
	net.Conn
	proxy.ReadHook
}

func (l hookedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &hookedConn{Conn: c}, nil
}

func (c *hookedConn) Read(p []byte) (int, error) {
	if !c.BeforeRead(len(p)) {
		return 0, nil
	}
	return c.Conn.Read(p)
}

// CloseWrite is that of TCP.
func (c *hookedConn) CloseWrite() error { return c.Conn.(*net.TCPConn).CloseWrite() }

// storeAt is an embedded store with a clock of its own.
func storeAt(t *testing.T, now func() time.Time) *boltstore.Store {
	t.Helper()
	s, err := boltstore.Open(t.TempDir(), boltstore.Options{Now: now})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// midMonth is a time that is far from the end of every period but the minute.
func midMonth() time.Time { return time.Date(2026, 11, 12, 12, 30, 0, 0, time.UTC) }

// A reply is a response that has been read.
type reply struct {
	*http.Response
	body string
}

// do sends a request; fields are "Name: value". An empty token sends none.
func (r *testGateway) do(token, method, path string, body io.Reader, fields ...string) reply {
	r.t.Helper()
	res, err := r.try(token, method, path, body, fields...)
	if err != nil {
		r.t.Fatalf("%s %s: %v", method, path, err)
	}
	return res
}

func (r *testGateway) try(token, method, path string, body io.Reader, fields ...string) (reply, error) {
	req, err := http.NewRequest(method, r.gateway.URL, body)
	if err != nil {
		return reply{}, err
	}
	// As it stands, not as package url would write it. With two slashes in front it
	// goes into the absolute form; Opaque takes them for a host.
	req.URL.Opaque = path
	if strings.HasPrefix(path, "//") {
		req.URL.Opaque = "//" + r.gateway.Listener.Addr().String() + path
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		return reply{}, err
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	return reply{res, string(text)}, err
}

// usage reads a user's usage object.
func (r *testGateway) usage(user, plan string) quota.Usage {
	r.t.Helper()
	res := r.do(token(user, plan), "GET", "/usage", nil)
	var u quota.Usage
	if err := json.Unmarshal([]byte(res.body), &u); err != nil || res.StatusCode != 200 {
		r.t.Fatalf("GET /usage: %s %v: %s", res.Status, err, res.body)
	}
	return u
}

// want checks what a user has used and holds.
func (r *testGateway) want(user, plan string, used int64) {
	r.t.Helper()
	if u := r.usage(user, plan); u.Used != used || u.InFlight != 0 {
		r.t.Errorf("%s has used %d and holds %d, want %d and 0", user, u.Used, u.InFlight, used)
	}
}

func (r *testGateway) requests() []*http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent
}

// counting is a Store that counts its calls.
type counting struct {
	proxy.Store
	calls atomic.Int64
}

func (c *counting) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	c.calls.Add(1)
	return c.Store.Reserve(ctx, r)
}

func (c *counting) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	c.calls.Add(1)
	return c.Store.Commit(ctx, r)
}

func (c *counting) CommitRest(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	c.calls.Add(1)
	return c.Store.CommitRest(ctx, r)
}

func (c *counting) Release(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	c.calls.Add(1)
	return c.Store.Release(ctx, r)
}

func (c *counting) Read(ctx context.Context, user string, t quota.PlanChoice) (quota.Snapshot, error) {
	c.calls.Add(1)
	return c.Store.Read(ctx, user, t)
}

// answerStatus answers with the status in the query's status parameter.
func answerStatus(w http.ResponseWriter, r *http.Request) {
	status, _ := strconv.Atoi(r.URL.Query().Get("status"))
	if status/100 == 3 {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(status)
}

// dial opens a raw connection to the gateway. A read that waits for 30 s fails.
func (r *testGateway) dial() net.Conn {
	r.t.Helper()
	conn, err := net.Dial("tcp", r.gateway.Listener.Addr().String())
	if err != nil {
		r.t.Fatal(err)
	}
	conn.SetDeadline(time.Now().Add(30 * time.Second))
	r.t.Cleanup(func() { conn.Close() })
	return conn
}
