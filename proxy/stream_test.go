package proxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy"
	"metergate/proxy/jwtauth"
	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A stream is a client's side of GET /usage/stream.
type stream struct {
	t     *testing.T
	res   *http.Response
	lines *bufio.Scanner
	close func()
}

// An event is a server-sent event, or a comment.
type event struct {
	name, data string
	comment    bool
}

func (r *testGateway) stream(token string) *stream {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), time.Minute)
	req, _ := http.NewRequestWithContext(ctx, "GET", r.gateway.URL+"/usage/stream", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	s := &stream{t: r.t, res: res, lines: bufio.NewScanner(res.Body), close: func() { cancel(); res.Body.Close() }}
	r.t.Cleanup(s.close)
	return s
}

// next reads the next event. ok is false once the stream has ended.
func (s *stream) next() (e event, ok bool) {
	for s.lines.Scan() {
		switch name, value, _ := strings.Cut(s.lines.Text(), ": "); name {
		case "event":
			e.name = value
		case "data":
			e.data = value
		case ":":
			e.comment = true
		case "":
			if e != (event{}) {
				return e, true
			}
		}
	}
	return e, false
}

// usage reads the next usage object.
func (s *stream) usage() (u quota.Usage) {
	s.t.Helper()
	for {
		e, ok := s.next()
		if !ok {
			s.t.Fatalf("the stream ended: %v", s.lines.Err())
		}
		if e.comment {
			continue
		}
		if e.name != "usage" || json.Unmarshal([]byte(e.data), &u) != nil {
			s.t.Fatalf("event %+v, want usage", e)
		}
		return u
	}
}

// until reads until a usage object has these numbers.
func (s *stream) until(used, held int64) quota.Usage {
	s.t.Helper()
	for {
		if u := s.usage(); u.Used == used && u.InFlight == held {
			return u
		}
	}
}

func TestStreamSendsEachChange(t *testing.T) {
	release := make(chan bool)
	r := newTestGateway(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) { <-release }})
	tok := token("u", "")
	s := r.stream(tok)
	if s.res.StatusCode != 200 || s.res.Header.Get("Content-Type") != "text/event-stream" || s.res.Header.Get("Cache-Control") != "no-store, no-transform" {
		t.Errorf("%s %v", s.res.Status, s.res.Header)
	}
	first, now := s.usage(), r.usage("u", "")
	first.AsOf = now.AsOf
	if fmt.Sprint(first) == "" || first.Used != 0 || first.User != "u" || *first.Limit != 100 || len(first.Endpoints) != len(now.Endpoints) {
		t.Errorf("the first event is %+v", first)
	}
	other := r.stream(token("other", ""))
	other.usage()
	done := make(chan reply)
	go func() {
		res, _ := r.try(tok, "POST", "/api/analyze", nil)
		done <- res
	}()
	s.until(0, 1)
	release <- true
	s.until(1, 0)
	if res := <-done; res.StatusCode != 200 {
		t.Error(res.Status)
	}
	// Another user's stream does not show it: its own change comes next.
	go r.try(token("other", ""), "POST", "/api/analyze", nil)
	other.until(0, 1)
	release <- true
	other.until(1, 0)
}

// TestStreamCoalescesChanges: a client that does not read gets the newest state once it
// does, not every state in between.
func TestStreamCoalescesChanges(t *testing.T) {
	r := newTestGateway(t, setup{})
	tok := token("u", "enterprise")
	s := r.stream(tok)
	s.usage()
	const calls = 300
	var wait sync.WaitGroup
	for range 10 {
		wait.Go(func() {
			for range calls / 10 {
				r.try(tok, "POST", "/api/analyze", nil)
			}
		})
	}
	wait.Wait()
	events := 0
	for {
		events++
		if u := s.usage(); u.Used == calls && u.InFlight == 0 {
			break
		}
	}
	// Each call is two changes.
	if events > calls {
		t.Errorf("%d events for %d changes", events, 2*calls)
	}
}

func TestStreamsPerUserAreLimited(t *testing.T) {
	r := newTestGateway(t, setup{})
	tok := token("u", "")
	var open []*stream
	for {
		s := r.stream(tok)
		if s.res.StatusCode != 200 {
			body, _ := io.ReadAll(s.res.Body)
			if s.res.StatusCode != 429 || s.res.Header.Get("Retry-After") == "" || s.res.Header.Get("Content-Type") != "application/problem+json" {
				t.Errorf("one too many: %s %v %s", s.res.Status, s.res.Header, body)
			}
			break
		}
		s.usage()
		if open = append(open, s); len(open) > 1000 {
			t.Fatal("no limit")
		}
	}
	if s := r.stream(token("other", "")); s.res.StatusCode != 200 {
		t.Errorf("another user: %s", s.res.Status)
	}
	open[0].close()
	testkit.Eventually(t, "there is room for another", func() bool { return r.stream(tok).res.StatusCode == 200 })
	if res := r.do("", "GET", "/usage/stream", nil); res.StatusCode != 401 {
		t.Errorf("without a token: %s", res.Status)
	}
}

func TestStreamEndsAtShutdown(t *testing.T) {
	streams := proxy.NewStreams()
	r := newTestGateway(t, setup{change: func(o *proxy.Options) { o.Streams = streams }})
	s := r.stream(token("u", ""))
	s.usage()
	streams.End()
	if e, ok := s.next(); !ok || e.name != "end" || e.data != `{"reason":"shutting_down"}` {
		t.Errorf("event %+v, want end", e)
	}
	if e, ok := s.next(); ok {
		t.Errorf("after the end: %+v", e)
	}
	testkit.Eventually(t, "nothing is open", func() bool { return streams.Open() == 0 })
}

// slowStore lets a test do something during the first read of a stream.
type slowStore struct {
	proxy.Store
	first func()
}

func (s *slowStore) Read(ctx context.Context, user string, t quota.PlanChoice) (quota.Snapshot, error) {
	if f := s.first; f != nil {
		s.first = nil
		f()
	}
	return s.Store.Read(ctx, user, t)
}

// TestStreamSeesReloadWhileItBegins: a reload that comes while a stream begins is not
// missed.
func TestStreamSeesReloadWhileItBegins(t *testing.T) {
	streams := proxy.NewStreams()
	r := newTestGateway(t, setup{change: func(o *proxy.Options) { o.Streams = streams }})
	next := r.options
	next.Plans = map[string]*quota.Plan{"free": newPlan("free", quota.Limit{Amount: 200, Period: quota.Month})}
	g, err := proxy.New(next)
	if err != nil {
		t.Fatal(err)
	}
	slow := &slowStore{Store: r.store, first: func() { streams.Follow(g) }}
	first := r.options
	first.Store = slow
	old, err := proxy.New(first)
	if err != nil {
		t.Fatal(err)
	}
	r.gateway.Config.Handler = old
	s := r.stream(token("u", ""))
	for *s.usage().Limit != 200 {
	}
}

// TestStreamEndsWhenTokenNamesAnotherUser: after a reload the user may stand in another
// claim. An open stream ends, and one that is just beginning is answered with 404.
func TestStreamEndsWhenTokenNamesAnotherUser(t *testing.T) {
	streams := proxy.NewStreams()
	r := newTestGateway(t, setup{change: func(o *proxy.Options) { o.Streams = streams }})
	next := r.options
	var err error
	if next.Verifier, err = jwtauth.New(jwtauth.Options{Secret: secret, Algorithms: []string{"HS256"}, UserClaim: "account"}); err != nil {
		t.Fatal(err)
	}
	reloaded, err := proxy.New(next)
	if err != nil {
		t.Fatal(err)
	}
	token := hmacToken(secret, `{"alg":"HS256"}`, fmt.Sprintf(`{"sub":"u","account":"v","exp":%d}`, time.Now().Add(time.Hour).Unix()))
	s := r.stream(token)
	s.usage()
	streams.Follow(reloaded)
	if e, ok := s.next(); !ok || e.name != "end" || e.data != `{"reason":"reload"}` {
		t.Errorf("event %+v, want the end", e)
	}
	// This request still goes to the previous gateway.
	if res := r.do(token, "GET", "/usage/stream", nil); res.StatusCode != 404 {
		t.Errorf("a new stream: %s: %s", res.Status, res.body)
	}
}

// TestStreamShowsChangesOfOtherGateways: changes on another gateway arrive, including
// those made while the connection to Redis was down.
func TestStreamShowsChangesOfOtherGateways(t *testing.T) {
	redis := redistest.Start(t)
	faultProxy := redistest.StartFaultProxy(t, redis.Addr)
	open := func(url string) proxy.Store {
		remote, err := redisstore.Open(redisstore.Options{URL: url, Timeout: 5 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { remote.Close() })
		s, err := guard.New(guard.Options{Backend: remote, Timeout: 5 * time.Second, Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	here, there := newTestGateway(t, setup{store: open(faultProxy.URL())}), newTestGateway(t, setup{store: open(redis.URL())})
	tok := token("u", "")
	s := here.stream(tok)
	s.until(0, 0)
	there.do(tok, "POST", "/api/analyze", nil)
	s.until(1, 0)

	faultProxy.RefuseConnections(true)
	faultProxy.CutConnections()
	there.do(tok, "POST", "/api/analyze", nil)
	faultProxy.Heal()
	s.until(2, 0)
	there.do(tok, "POST", "/api/analyze", nil)
	s.until(3, 0)
}

// A recorder keeps what is written to it. It is for a bubble of synctest, where there is
// no network.
type recorder struct {
	mu   sync.Mutex
	text strings.Builder
	h    http.Header
}

func (r *recorder) Header() http.Header { return r.h }
func (r *recorder) WriteHeader(int)     {}
func (r *recorder) Flush()              {}
func (r *recorder) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.Write(p)
}

// take returns the events and comments that were written since the last call.
func (r *recorder) take() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	defer r.text.Reset()
	var lines []string
	for line := range strings.Lines(r.text.String()) {
		line = strings.TrimSpace(line)
		var u quota.Usage
		switch data, isData := strings.CutPrefix(line, "data: "); {
		case line == ":":
			lines = append(lines, "heartbeat")
		case isData && json.Unmarshal([]byte(data), &u) == nil && u.User != "":
			lines = append(lines, fmt.Sprintf("%d+%d", u.Limits[1].Used, u.InFlight))
		case isData:
			lines = append(lines, data)
		}
	}
	return strings.Join(lines, " ")
}

// TestStreamShowsWhatNobodyAnnounces: the stream sends heartbeats, and shows leases that
// expire, windows that end, and the end of its token.
func TestStreamShowsWhatNobodyAnnounces(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		time.Sleep(5 * time.Second) // to 5 seconds past a minute
		store, err := boltstore.Open(dir, boltstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		verifier, err := jwtauth.New(jwtauth.Options{Secret: secret, Algorithms: []string{"HS256"}})
		if err != nil {
			t.Fatal(err)
		}
		plan := newPlan("free", quota.Limit{Amount: 100, Period: quota.Month}, quota.Limit{Amount: 5, Period: quota.Minute})
		g, err := proxy.New(proxy.Options{
			Store: store, Verifier: verifier, Plans: map[string]*quota.Plan{"free": plan}, DefaultPlan: "free",
			Metrics: proxy.NewMetrics(prometheus.NewRegistry()), Log: slog.New(slog.DiscardHandler),
		})
		if err != nil {
			t.Fatal(err)
		}
		claims := jwt.MapClaims{"sub": "u", "exp": time.Now().Add(100 * time.Second).Unix()}
		tok, _ := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString(secret)
		req := httptest.NewRequestWithContext(t.Context(), "GET", "/usage/stream", nil)
		req.Header.Set("Authorization", "Bearer "+tok)
		rec := &recorder{h: http.Header{}}
		ended := make(chan bool)
		go func() { g.ServeHTTP(rec, req); close(ended) }()
		want := func(after time.Duration, what string) {
			t.Helper()
			time.Sleep(after)
			synctest.Wait()
			if got := rec.take(); got != what {
				t.Errorf("%v: got %q, want %q", time.Now().Format("05.000"), got, what)
			}
		}
		want(0, "0+0")
		want(15*time.Second, "heartbeat")
		request := func() quota.Request {
			return quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: plan.OnlyChoice(), Lease: 12 * time.Second}
		}
		d, err := store.Reserve(t.Context(), request())
		if err != nil {
			t.Fatal(err)
		}
		want(0, "0+1") // else it may be in one event with what follows
		if _, err := store.Commit(t.Context(), &d.Reservation); err != nil {
			t.Fatal(err)
		}
		want(time.Second, "1+0")
		if _, err := store.Reserve(t.Context(), request()); err != nil {
			t.Fatal(err)
		}
		want(time.Second, "1+1")
		want(10*time.Second, "")
		want(11*time.Second, "heartbeat 1+0") // the lease ran out 2 s ago or more: read again every 10 s
		want(16*time.Second, "heartbeat")     // 59 s
		want(2*time.Second, "0+0")            // a new minute
		want(40*time.Second, "heartbeat heartbeat")
		want(10*time.Second, `{"reason":"token_expired"}`)
		<-ended
		store.Close()
	})
}
