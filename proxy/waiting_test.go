package proxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy"
	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A gate is an upstream that holds its requests back until the test lets them go.
type gate struct {
	mu            sync.Mutex
	running, most int
	order         []string // the X-N headers of the requests, in order of arrival
	bodies        []string // likewise
	arrived       chan struct{}
	open          chan int // a status for each request
	ended         chan struct{}
	end           func() // answers all requests, so that a test that has failed can end
}

func newGate() *gate {
	g := &gate{arrived: make(chan struct{}, 1000), open: make(chan int, 1000), ended: make(chan struct{})}
	g.end = sync.OnceFunc(func() { close(g.ended) })
	return g
}

func (g *gate) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	g.mu.Lock()
	g.running++
	g.most = max(g.most, g.running)
	g.order = append(g.order, r.Header.Get("X-N"))
	g.bodies = append(g.bodies, string(body))
	g.mu.Unlock()
	g.arrived <- struct{}{}
	status := http.StatusServiceUnavailable
	select {
	case status = <-g.open:
	case <-g.ended:
	}
	g.mu.Lock()
	g.running--
	g.mu.Unlock()
	w.WriteHeader(status)
}

// lastBody returns the body of the request that arrived last.
func (g *gate) lastBody() string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.bodies[len(g.bodies)-1]
}

func (g *gate) waitForArrivals(t *testing.T, n int) {
	t.Helper()
	for range n {
		select {
		case <-g.arrived:
		case <-time.After(30 * time.Second):
			t.Fatal("a request has not reached the upstream")
		}
	}
}

// boundedPlan is a plan that bounds the requests that run at once.
func boundedPlan(t *testing.T, c quota.ConcurrencyLimit, limits ...quota.Limit) *quota.Plan {
	t.Helper()
	p, err := quota.NewPlan(quota.PlanOptions{Name: "bounded", Limits: limits, Concurrent: c, Endpoints: endpoints, WarnAt: 80})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// withConcurrency adds a plan that bounds the requests that run at once.
func withConcurrency(t *testing.T, g *gate, c quota.ConcurrencyLimit, s setup, limits ...quota.Limit) *testGateway {
	if s.upstream == nil {
		s.upstream = g.ServeHTTP
	}
	change := s.change
	s.change = func(o *proxy.Options) {
		if change != nil {
			change(o)
		}
		o.Plans["bounded"], o.InFlight = boundedPlan(t, c, limits...), proxy.NewInFlight()
	}
	r := newTestGateway(t, s)
	t.Cleanup(g.end)
	return r
}

// send starts a request; its status comes on the channel, 0 after an error.
func send(ctx context.Context, g *testGateway, n int, body io.Reader) <-chan int {
	return sendAs(ctx, g, "bounded", n, body)
}

// sendAs is send with a token of another plan.
func sendAs(ctx context.Context, g *testGateway, plan string, n int, body io.Reader) <-chan int {
	return sendWith(ctx, http.DefaultClient, g.gateway.URL, plan, n, body)
}

// sendWith is sendAs with a client of its own, to a server of the gateway.
func sendWith(ctx context.Context, client *http.Client, url, plan string, n int, body io.Reader) <-chan int {
	status := make(chan int, 1)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/api/analyze", body)
	if err != nil {
		panic(err)
	}
	req.Header.Set("Authorization", "Bearer "+token("u", plan))
	req.Header.Set("X-N", fmt.Sprint(n))
	go func() {
		res, err := client.Do(req)
		if err != nil {
			status <- 0
			return
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		status <- res.StatusCode
	}()
	return status
}

// waitForWaiting waits until so many requests are in line.
func waitForWaiting(t *testing.T, g *testGateway, n int64) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprint(n, " requests in line"), func() bool { return g.options.InFlight.Waiting() == n })
}

// TestWaitIsInOrderOfArrival: of those who wait on one gateway, the first gets the next place.
func TestWaitIsInOrderOfArrival(t *testing.T) {
	up := newGate()
	g := withConcurrency(t, up, quota.ConcurrencyLimit{Requests: 1, Wait: 30 * time.Second}, setup{})
	var statuses []<-chan int
	for i := range 6 {
		statuses = append(statuses, send(t.Context(), g, i, nil))
		if i == 0 {
			up.waitForArrivals(t, 1)
		} else {
			waitForWaiting(t, g, int64(i))
		}
	}
	for i := range 6 {
		up.open <- 200
		if got := <-statuses[i]; got != 200 {
			t.Errorf("request %d: status %d", i, got)
		}
	}
	if got := strings.Join(up.order, ""); got != "012345" || up.most != 1 {
		t.Errorf("they ran in the order %s, %d at once", got, up.most)
	}
	g.want("u", "bounded", 6)
}

func TestNoWaitIsRefusedAtOnce(t *testing.T) {
	up := newGate()
	g := withConcurrency(t, up, quota.ConcurrencyLimit{Requests: 3}, setup{}, quota.Limit{Amount: 50, Period: quota.Month})
	var running []<-chan int
	for i := range 3 {
		running = append(running, send(t.Context(), g, i, nil))
	}
	up.waitForArrivals(t, 3)
	r := g.do(token("u", "bounded"), http.MethodPost, "/api/analyze", nil)
	var p struct {
		Type, Reason, Detail string
		Usage                quota.Usage
	}
	if err := json.Unmarshal([]byte(r.body), &p); err != nil {
		t.Fatal(err)
	}
	if r.StatusCode != 429 || p.Type != "about:blank" || p.Reason != "concurrency" || r.Header.Get("Retry-After") != "1" || p.Usage.InFlight != 3 {
		t.Errorf("status %d, %v, %+v", r.StatusCode, r.Header, p)
	}
	if got := r.Header.Get("RateLimit-Policy"); !strings.HasSuffix(got, `, "concurrent";q=3;qu="concurrent-requests"`) {
		t.Errorf("RateLimit-Policy: %s", got)
	}
	if want := "You already have 3 requests running, and the bounded plan allows no more at once. Try again when one of them has finished. This request was not counted."; p.Detail != want {
		t.Errorf("detail %q", p.Detail)
	}
	for range running {
		up.open <- 200
	}
	for _, status := range running {
		if got := <-status; got != 200 {
			t.Errorf("status %d", got)
		}
	}
	g.want("u", "bounded", 3)
}

// TestWaitForHeldUnits: a request for which only running ones hold the last units waits for them to
// be given back, and is refused as soon as they are counted.
func TestWaitForHeldUnits(t *testing.T) {
	for _, c := range []struct{ outcome, want, used int }{{503, 200, 1}, {200, 429, 1}} {
		up := newGate()
		g := withConcurrency(t, up, quota.ConcurrencyLimit{Requests: 5, Wait: 30 * time.Second}, setup{}, quota.Limit{Amount: 1, Period: quota.Month})
		first := send(t.Context(), g, 0, nil)
		up.waitForArrivals(t, 1)
		second := send(t.Context(), g, 1, nil)
		waitForWaiting(t, g, 1)
		up.open <- c.outcome
		<-first
		if c.want == 200 {
			up.waitForArrivals(t, 1)
			up.open <- 200
		}
		if got := <-second; got != c.want {
			t.Errorf("after a %d, the one that waited got %d, want %d", c.outcome, got, c.want)
		}
		g.want("u", "bounded", int64(c.used))
	}
}

// chunked hides the length of a text, so that it is sent in chunks.
func chunked(text string) io.Reader { return io.MultiReader(strings.NewReader(text)) }

// TestGoneWhileWaiting: a client that leaves takes no place, no count and no call of the upstream.
func TestGoneWhileWaiting(t *testing.T) {
	text := strings.Repeat("x", 30_000)
	for name, body := range map[string]func(context.Context) io.Reader{
		"without a body": func(context.Context) io.Reader { return nil },
		"with a body":    func(context.Context) io.Reader { return strings.NewReader(text) },
		"chunked":        func(context.Context) io.Reader { return chunked(text) },
		"unfinished": func(ctx context.Context) io.Reader {
			r, w := io.Pipe()
			go io.WriteString(w, text)
			context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
			return r
		},
	} {
		for _, proto := range []int{1, 2} {
			t.Run(fmt.Sprintf("%s, HTTP/%d", name, proto), func(t *testing.T) {
				up, registry := newGate(), prometheus.NewRegistry()
				measured := setup{change: func(o *proxy.Options) { o.Metrics = proxy.NewMetrics(registry) }}
				g := withConcurrency(t, up, quota.ConcurrencyLimit{Requests: 1, Wait: 30 * time.Second}, measured, quota.Limit{Amount: 9, Period: quota.Month})
				client, url := http.DefaultClient, g.gateway.URL
				if proto == 2 {
					client, url = g.http2Client()
				}
				first := send(t.Context(), g, 0, nil)
				up.waitForArrivals(t, 1)
				ctx, leave := context.WithCancel(t.Context())
				gone := sendWith(ctx, client, url, "bounded", 1, body(ctx))
				waitForWaiting(t, g, 1)
				leave()
				if got := <-gone; got != 0 {
					t.Errorf("status %d", got)
				}
				waitForWaiting(t, g, 0)
				testkit.Eventually(t, "the wait has ended because the client is gone, and not by itself", func() bool {
					return series(t, registry)[`metergate_waits_total{outcome="client_gone"}`] == 1
				})
				up.open <- 200
				<-first
				up.open <- 200
				if got := <-send(t.Context(), g, 2, strings.NewReader("more")); got != 200 {
					t.Errorf("the next one got %d", got)
				}
				if got := strings.Join(up.order, ""); got != "02" {
					t.Errorf("the upstream got %s, want 02", got)
				}
				g.want("u", "bounded", 2)
			})
		}
	}
}

// TestBodyArrivesAfterWait: the whole body of a request that has waited reaches the upstream as it was
// sent, whatever of it was read ahead.
func TestBodyArrivesAfterWait(t *testing.T) {
	up := newGate()
	g := withConcurrency(t, up, quota.ConcurrencyLimit{Requests: 1, Wait: 30 * time.Second}, setup{})
	h2, h2URL := g.http2Client()
	const bound = 64 << 10
	for _, size := range []int{1, 50_000, bound - 1, bound, bound + 1, bound + 2, 10 * bound} {
		text := strings.Repeat("0123456789", size/10+1)[:size]
		for name, length := range map[string]int{"length": size, "chunked": -1} {
			for _, proto := range []int{1, 2} {
				what := fmt.Sprintf("%d bytes, %s, HTTP/%d", size, name, proto)
				var body io.Reader = strings.NewReader(text)
				if length < 0 {
					body = chunked(text)
				}
				client, url := http.DefaultClient, g.gateway.URL
				if proto == 2 {
					client, url = h2, h2URL
				}
				first := send(t.Context(), g, 0, nil)
				up.waitForArrivals(t, 1)
				second := sendWith(t.Context(), client, url, "bounded", 1, body)
				waitForWaiting(t, g, 1)
				up.open <- 200
				up.open <- 200
				<-first
				if got := <-second; got != 200 {
					t.Errorf("%s: status %d", what, got)
				}
				up.waitForArrivals(t, 1)
				requests := g.requests()
				if got, announced := up.lastBody(), requests[len(requests)-1].ContentLength; got != text || announced != int64(length) {
					t.Errorf("%s: the upstream got %d bytes, %d announced", what, len(got), announced)
				}
			}
		}
	}
}

// TestBodyIsNotHeldBackAfterWait: what a client sends of an unfinished body reaches the upstream at
// once, although it may be short enough to be read ahead.
func TestBodyIsNotHeldBackAfterWait(t *testing.T) {
	up, parts := newGate(), make(chan string, 2)
	g := withConcurrency(t, up, quota.ConcurrencyLimit{Requests: 1, Wait: 30 * time.Second}, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-N") != "1" {
			up.ServeHTTP(w, r)
			return
		}
		for range 2 {
			part := make([]byte, 4)
			io.ReadFull(r.Body, part)
			parts <- string(part)
		}
	}})
	first := send(t.Context(), g, 0, nil)
	up.waitForArrivals(t, 1)
	body, write := io.Pipe()
	second := send(t.Context(), g, 1, body)
	io.WriteString(write, "text")
	waitForWaiting(t, g, 1)
	up.open <- 200
	<-first
	if got := testkit.Receive(t, "the first part", parts); got != "text" {
		t.Errorf("the first part is %q", got)
	}
	io.WriteString(write, "more")
	if got := testkit.Receive(t, "the second part", parts); got != "more" {
		t.Errorf("the second part is %q", got)
	}
	write.Close()
	if got := <-second; got != 200 {
		t.Errorf("status %d", got)
	}
}

// TestHeaderIsNotHeldBackAfterWait: the upstream gets the header as soon as the request has its turn, although the
// client has sent nothing of the body yet.
func TestHeaderIsNotHeldBackAfterWait(t *testing.T) {
	up, arrived := newGate(), make(chan string, 1)
	g := withConcurrency(t, up, quota.ConcurrencyLimit{Requests: 1, Wait: 30 * time.Second}, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-N") == "0" {
			up.ServeHTTP(w, r)
			return
		}
		arrived <- "the header"
		io.Copy(w, r.Body)
	}})
	first := send(t.Context(), g, 0, nil)
	up.waitForArrivals(t, 1)
	conn := g.dial()
	fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Length: 4\r\n\r\n", token("u", "bounded"))
	waitForWaiting(t, g, 1)
	up.open <- 200
	<-first
	testkit.Receive(t, "the header", arrived)
	io.WriteString(conn, "text")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%+v, error %v", res, err)
	}
	if body, _ := io.ReadAll(res.Body); string(body) != "text" {
		t.Errorf("got %q", body)
	}
}

// TestMalformedChunksEndTheWait: the client is there, and learns why.
func TestMalformedChunksEndTheWait(t *testing.T) {
	up := newGate()
	g := withConcurrency(t, up, quota.ConcurrencyLimit{Requests: 1, Wait: 30 * time.Second}, setup{})
	first := send(t.Context(), g, 0, nil)
	up.waitForArrivals(t, 1)
	conn := g.dial()
	fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntext\r\n", token("u", "bounded"))
	waitForWaiting(t, g, 1)
	io.WriteString(conn, "zz\r\n")
	if m, status, err := readResponse(bufio.NewReader(conn), "POST"); err != nil || status != 400 {
		t.Errorf("%+v, error %v", m, err)
	}
	waitForWaiting(t, g, 0)
	up.open <- 200
	<-first
	g.want("u", "bounded", 1)
}

// TestRefusedAfterWaitGetsItsAnswer: a client whose chunked body is not at its end when the wait is over
// gets its 429.
func TestRefusedAfterWaitGetsItsAnswer(t *testing.T) {
	for name, rest := range map[string]string{"small": "0\r\n\r\n", "unfinished": "", "long": strings.Repeat("2000\r\n"+strings.Repeat("x", 0x2000)+"\r\n", 20)} {
		up := newGate()
		g := withConcurrency(t, up, quota.ConcurrencyLimit{Requests: 1, Wait: 10 * time.Millisecond}, setup{})
		first := send(t.Context(), g, 0, nil)
		up.waitForArrivals(t, 1)
		conn := g.dial()
		fmt.Fprintf(conn, "POST /api/analyze HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nTransfer-Encoding: chunked\r\n\r\n4\r\ntext\r\n%s", token("u", "bounded"), rest)
		if m, status, err := readResponse(bufio.NewReader(conn), "POST"); err != nil || status != 429 {
			t.Errorf("%s: %+v, error %v", name, m, err)
		}
		up.open <- 200
		<-first
		g.want("u", "bounded", 1)
	}
}

// TestConcurrencyAcrossGateways: two gateways on one Redis never let more than the bound through,
// and everybody who can wait passes.
func TestConcurrencyAcrossGateways(t *testing.T) {
	url := redistest.Start(t).URL()
	up := newGate()
	gatewayOn := func() *testGateway {
		s, err := redisstore.Open(redisstore.Options{URL: url, Timeout: 10 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return withConcurrency(t, up, quota.ConcurrencyLimit{Requests: 3, Wait: 30 * time.Second}, setup{store: s})
	}
	a, b := gatewayOn(), gatewayOn()
	var statuses []<-chan int
	for i := range 6 {
		statuses = append(statuses, send(t.Context(), a, i, nil), send(t.Context(), b, i, nil))
	}
	for range 12 {
		up.waitForArrivals(t, 1)
		up.open <- 200
	}
	for _, status := range statuses {
		if got := <-status; got != 200 {
			t.Errorf("status %d", got)
		}
	}
	if up.most > 3 {
		t.Errorf("%d ran at once, want at most 3", up.most)
	}
	a.want("u", "bounded", 12)
}

// A lossyBackend loses its answer to one Reserve. What the guard then does to undo that Reserve
// takes until settle is closed.
type lossyBackend struct {
	*boltstore.Store
	lose   atomic.Bool
	lost   atomic.Pointer[string] // the ID of that reservation
	settle chan struct{}
	undone chan string // what has been done to undo it
}

func (b *lossyBackend) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	d, err := b.Store.Reserve(ctx, r)
	if b.lose.CompareAndSwap(true, false) {
		b.lost.Store(&r.ID)
		return &quota.Decision{Reservation: d.Reservation}, context.DeadlineExceeded
	}
	return d, err
}

func (b *lossyBackend) isLost(r *quota.Reservation) bool {
	lost := b.lost.Load()
	return lost != nil && *lost == r.ID
}

func (b *lossyBackend) Release(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	if b.isLost(r) {
		<-b.settle
		defer func() { b.undone <- "release" }()
	}
	return b.Store.Release(ctx, r)
}

func (b *lossyBackend) Leave(r *quota.Reservation) {
	if b.isLost(r) && r.Plan != nil { // Redis learns of it in the background, too
		go func() {
			<-b.settle
			b.Store.Leave(r)
			b.undone <- "leave"
		}()
		return
	}
	b.Store.Leave(r)
}

// TestTriesHaveTheirOwnIDs: what undoes a try that the store did not answer must not undo the one
// that was admitted after the wait.
func TestTriesHaveTheirOwnIDs(t *testing.T) {
	b := &lossyBackend{Store: storeAt(t, nil), settle: make(chan struct{}), undone: make(chan string, 10)}
	store, err := guard.New(guard.Options{Backend: b, AllowOnFailure: true, Timeout: time.Minute, Calendar: quota.NewCalendar(nil), Keep: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	settle := sync.OnceFunc(func() { close(b.settle) })
	t.Cleanup(settle)
	up := newGate()
	g := withConcurrency(t, up, quota.ConcurrencyLimit{Requests: 1, Wait: 30 * time.Second}, setup{store: store}, quota.Limit{Amount: 9, Period: quota.Month})
	first := send(t.Context(), g, 0, nil)
	up.waitForArrivals(t, 1)
	b.lose.Store(true)
	second := send(t.Context(), g, 1, nil)
	waitForWaiting(t, g, 1)
	up.open <- 200
	<-first
	up.waitForArrivals(t, 1) // it has the place now
	settle()
	for range 2 {
		testkit.Receive(t, "the lost try is undone", b.undone)
	}
	third := send(t.Context(), g, 2, nil)
	waitForWaiting(t, g, 1)
	for _, status := range []<-chan int{second, third} {
		up.open <- 200
		if got := <-status; got != 200 {
			t.Errorf("status %d", got)
		}
	}
	if up.most != 1 {
		t.Errorf("%d ran at once", up.most)
	}
	g.want("u", "bounded", 3)
}

// A deafStore tells watchers of no change until hear is closed.
type deafStore struct {
	*boltstore.Store
	hear chan struct{}
	left chan struct{} // a request has given its place back
}

func (d *deafStore) Watch(user string, ch chan<- struct{}) (stop func()) {
	changed, ended := make(chan struct{}, 1), make(chan struct{})
	stopInner := d.Store.Watch(user, changed)
	go func() {
		select {
		case <-d.hear:
		case <-ended:
			return
		}
		for {
			select {
			case <-changed:
			case <-ended:
				return
			}
			select {
			case ch <- struct{}{}:
			default:
			}
		}
	}()
	return func() { stopInner(); close(ended) }
}

func (d *deafStore) Leave(r *quota.Reservation) {
	d.Store.Leave(r)
	d.left <- struct{}{}
}

// TestOverrideKeepsOrder: under a plan that an administrator has chosen, a new request does not
// overtake those in line, although the plan of the token lets nobody wait.
func TestOverrideKeepsOrder(t *testing.T) {
	store := &deafStore{Store: storeAt(t, nil), hear: make(chan struct{}), left: make(chan struct{}, 10)}
	up := newGate()
	g := withConcurrency(t, up, quota.ConcurrencyLimit{Requests: 1, Wait: 30 * time.Second}, setup{store: store})
	if _, err := store.ApplyChange(t.Context(), "u", quota.PlanChoice{Claimed: g.plans["free"], ByName: g.plans}, quota.Change{Action: quota.ActionSetPlan, Plan: "bounded"}); err != nil {
		t.Fatal(err)
	}
	first := sendAs(t.Context(), g, "free", 0, nil)
	up.waitForArrivals(t, 1)
	second := sendAs(t.Context(), g, "free", 1, nil)
	waitForWaiting(t, g, 1)
	up.open <- 200
	<-first
	testkit.Receive(t, "the place is free, and the one in line has not heard of it", store.left)
	third := sendAs(t.Context(), g, "free", 2, nil)
	testkit.Eventually(t, "the new request has joined the line, or the one before it has left", func() bool {
		return g.options.InFlight.Waiting() == 2 || len(g.requests()) > 1
	})
	close(store.hear)
	up.open <- 200
	up.open <- 200
	for _, status := range []<-chan int{second, third} {
		if got := <-status; got != 200 {
			t.Errorf("status %d", got)
		}
	}
	if got := strings.Join(up.order, ""); got != "012" {
		t.Errorf("they ran in the order %s", got)
	}
}

// TestUsedUpQuotaIsRefusedWithoutWaiting: what a limit refuses by its count does not wait in line
// to be told so. Nobody else pays for that with a call of the store.
func TestUsedUpQuotaIsRefusedWithoutWaiting(t *testing.T) {
	up := newGate()
	g := withConcurrency(t, up, quota.ConcurrencyLimit{Requests: 1, Wait: 30 * time.Second},
		setup{change: func(o *proxy.Options) { o.Plans["none"] = newPlan("none", quota.Limit{Period: quota.Month}) }},
		quota.Limit{Amount: 9, Period: quota.Month}, quota.Limit{Amount: 1, Period: quota.Month, Endpoint: "image-analysis"})
	image := func(user, plan string, want int, calls int64) {
		t.Helper()
		before := g.store.calls.Load()
		r := g.do(token(user, plan), http.MethodPost, "/api/image-analysis", nil)
		if n := g.store.calls.Load() - before; r.StatusCode != want || n != calls {
			t.Errorf("%s of %s: status %d, %d calls of the store, want %d and %d", user, plan, r.StatusCode, n, want, calls)
		}
	}
	up.open <- 200
	image("u", "bounded", 200, 2)
	first := send(t.Context(), g, 0, nil)
	up.waitForArrivals(t, 2)
	second := send(t.Context(), g, 1, nil)
	waitForWaiting(t, g, 1)
	image("u", "bounded", 429, 2)
	image("v", "none", 403, 1)
	waitForWaiting(t, g, 1)
	up.open <- 200
	up.open <- 200
	for _, status := range []<-chan int{first, second} {
		if got := <-status; got != 200 {
			t.Errorf("status %d", got)
		}
	}
	g.want("u", "bounded", 3)
}
