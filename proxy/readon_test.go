package proxy_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/proxy"
	"metergate/quota"
	"metergate/quota/testkit"
)

// slowRest is a Store that takes its time for the second step.
type slowRest struct {
	proxy.Store
	pause    time.Duration
	answered atomic.Bool
}

func (s *slowRest) CommitRest(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	time.Sleep(s.pause)
	defer s.answered.Store(true)
	return s.Store.CommitRest(ctx, r)
}

// TestCostIsSettledBeforeTheEnd: when a client has the last byte of a body that has a length, or
// the end of another one, the store has answered.
func TestCostIsSettledBeforeTheEnd(t *testing.T) {
	const body = usage
	answer := func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", eventType) // each piece is sent at once, whether or not there is a length
		if r.URL.Path == "/tokens/length" {
			w.Header().Set("Content-Length", fmt.Sprint(len(body)))
		}
		for i := range body {
			io.WriteString(w, body[i:i+1])
			w.(http.Flusher).Flush()
		}
	}
	t.Run("from HTTP/1.1", func(t *testing.T) { testSettledBeforeTheEnd(t, len(body), setup{upstream: answer}) })
	t.Run("from HTTP/2", func(t *testing.T) { // it may tell of the end after the last byte
		testSettledBeforeTheEnd(t, len(body), setup{change: func(o *proxy.Options) {
			up := http2Upstream(t, answer)
			for i := range o.Routes {
				o.Routes[i].Upstream = up
			}
		}})
	})
}

func testSettledBeforeTheEnd(t *testing.T, length int, s setup) {
	store := &slowRest{Store: storeAt(t, nil), pause: 20 * time.Millisecond}
	s.store = store
	g := withTokens(t, s)
	for _, p := range g.protocols() {
		for _, c := range []struct {
			path string
			read int // bytes; -1: to the end
		}{{"length", length}, {"length", -1}, {"chunked", -1}} {
			store.answered.Store(false)
			res := p.send(t.Context(), t, "u", http.MethodPost, "/tokens/"+c.path)
			var err error
			if c.read < 0 {
				_, err = io.Copy(io.Discard, res.Body)
			} else {
				_, err = io.CopyN(io.Discard, res.Body, int64(c.read))
			}
			if err != nil || !store.answered.Load() {
				t.Errorf("%s %s: the client has %d bytes, error %v, before the store has answered", p.name, c.path, c.read, err)
			}
			res.Body.Close()
		}
	}
	g.eventuallySettled("u", 6*5)
}

// A model is an upstream that streams. It sends events as it is told, and ends its stream with the
// tokens that it is given.
type model struct {
	arrived chan string   // has the path of each request
	send    chan string   // has what to send
	gone    chan error    // has the state of the request's context when the handler returns
	end     chan struct{} // ends the stream
}

func newModel() *model {
	return &model{arrived: make(chan string, 1), send: make(chan string), gone: make(chan error, 1), end: make(chan struct{})}
}

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	m.arrived <- r.URL.Path
	defer func() { m.gone <- r.Context().Err() }()
	if r.URL.Path == "/tokens/late" {
		<-r.Context().Done()
		return
	}
	w.Header().Set("Content-Type", eventType)
	w.(http.Flusher).Flush()
	for {
		select {
		case text := <-m.send:
			if _, err := io.WriteString(w, text); err != nil {
				return
			}
			w.(http.Flusher).Flush()
		case <-m.end:
			return
		case <-r.Context().Done():
			return
		}
	}
}

const (
	hello = "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}]}\n\n"
	usage = "data: {\"choices\":[],\"usage\":{\"total_tokens\":4200}}\n\ndata: [DONE]\n\n"
)

// leave opens a stream, waits for its first event, and leaves. It returns false if the response did
// not begin in time.
func (p protocol) leave(t *testing.T, m *model, user string) bool {
	t.Helper()
	ctx, leave := context.WithCancel(t.Context())
	defer leave()
	res := p.send(ctx, t, user, http.MethodPost, "/tokens/chat")
	served := testkit.Receive(t, "the request is served", p.served)
	if res.StatusCode == http.StatusGatewayTimeout {
		<-m.arrived
		<-m.gone
		return false
	}
	testkit.Receive(t, "the request arrives", m.arrived)
	m.send <- hello
	got := make([]byte, len(hello))
	if _, err := io.ReadFull(res.Body, got); err != nil || string(got) != hello {
		t.Fatalf("%q, error %v", got, err)
	}
	leave()
	res.Body.Close()
	testkit.Receive(t, "the gateway notices", served.Done())
	return true
}

// stored is what a user has used and holds of the limit on units.
func (r *testGateway) stored(user string) quota.Count {
	r.t.Helper()
	s, err := r.store.Read(r.t.Context(), user, r.handler.PlansFor("units"))
	if err != nil {
		r.t.Fatal(err)
	}
	return s.Limits[0]
}

// TestClientThatLeavesIsChargedTheCost: a client that leaves in the middle of a stream is charged what
// the upstream reports at its end. Meanwhile the request keeps its places.
func TestClientThatLeavesIsChargedTheCost(t *testing.T) {
	m, inFlight := newModel(), proxy.NewInFlight()
	var log lockedBuffer
	g := withTokens(t, setup{upstream: m.ServeHTTP, change: func(o *proxy.Options) {
		o.InFlight, o.MaxUserInFlight, o.Log = inFlight, 1, slog.New(slog.NewTextHandler(&log, nil))
	}})
	for i, p := range g.protocols() {
		user := fmt.Sprint("user-", i)
		p.leave(t, m, user)
		for range 100 {
			m.send <- hello // so that the gateway's writes fail
		}
		if r := g.do(token(user, "units"), http.MethodPost, "/tokens/other", nil); r.StatusCode != http.StatusTooManyRequests {
			t.Errorf("%s: another request of the user gets %s", p.name, r.Status)
		}
		if l := g.stored(user); l.Used != 1 || l.Held != 19 {
			t.Errorf("%s: used %d, held %d while the stream is read on, want 1 and 19", p.name, l.Used, l.Held)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		if err := inFlight.WaitForCosts(ctx); err == nil {
			t.Errorf("%s: a shutdown would not wait", p.name)
		}
		cancel()
		m.send <- usage
		m.end <- struct{}{} // this stream alone
		if err := testkit.Receive(t, "the stream ends", m.gone); err != nil {
			t.Errorf("%s: the request to the upstream ended with the client: %v", p.name, err)
		}
		testkit.Eventually(t, "the request has ended", func() bool {
			ctx, cancel := context.WithTimeout(t.Context(), 0)
			defer cancel()
			return inFlight.WaitForCosts(ctx) == nil
		})
		g.eventuallySettled(user, 5)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the log says\n%s", &log)
		}
	})
	testkit.Eventually(t, "both requests are in the log with what they cost", func() bool {
		return strings.Count(log.String(), " cost=5 ") == 2
	})
}

// TestReadingOnEnds: the gateway does not read on for ever. What the request cost is missing then.
func TestReadingOnEnds(t *testing.T) {
	for name, c := range map[string]struct {
		timeout time.Duration
		maxBody int64
		floods  bool // the upstream sends without end
		stops   bool // the gateway stops
	}{
		"after the timeout": {timeout: 500 * time.Millisecond},
		"after max_body":    {maxBody: 100 << 10, floods: true},
		"when it stops":     {stops: true},
	} {
		m, inFlight := newModel(), proxy.NewInFlight()
		g := withTokens(t, setup{upstream: m.ServeHTTP, timeout: c.timeout, maxBody: c.maxBody,
			change: func(o *proxy.Options) { o.InFlight = inFlight }})
		for i, p := range g.protocols() {
			user := fmt.Sprint("user-", i)
			testkit.Eventually(t, "a response that begins in time", func() bool { return p.leave(t, m, user) })
			if c.stops {
				inFlight.StopReadingOn()
			}
			var ended error
			for waiting := true; waiting; {
				send := m.send
				if !c.floods {
					send = nil
				}
				select {
				case send <- strings.Repeat(hello, 100):
				case ended = <-m.gone:
					waiting = false
				case <-time.After(time.Minute):
					t.Fatalf("%s, %s: the gateway reads on", name, p.name)
				}
			}
			if ended == nil {
				t.Errorf("%s, %s: the upstream was not told", name, p.name)
			}
			g.eventuallySettled(user, 20)
		}
	}
}

// TestClientThatLeavesBeforeTheResponse ends the request to the upstream, as on every route.
func TestClientThatLeavesBeforeTheResponse(t *testing.T) {
	m := newModel()
	g := withTokens(t, setup{upstream: m.ServeHTTP})
	for _, p := range g.protocols() {
		ctx, leave := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() {
			defer close(done)
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/tokens/late", nil)
			req.Header.Set("Authorization", "Bearer "+token("u", "units"))
			if res, err := p.client.Do(req); err == nil {
				t.Errorf("%s: %s", p.name, res.Status)
				res.Body.Close()
			}
		}()
		testkit.Receive(t, "the request arrives", m.arrived)
		leave()
		<-done
		if err := testkit.Receive(t, "the upstream is told", m.gone); err == nil {
			t.Errorf("%s: the upstream was not told", p.name)
		}
		g.eventuallySettled("u", 0)
	}
}

// TestLeavingAtAnyMoment: a client that leaves while the response begins is charged its cost; what a
// response costs that cannot be read any more; or nothing.
func TestLeavingAtAnyMoment(t *testing.T) {
	leaving := make(chan context.CancelFunc, 1)
	g := withTokens(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		leave := <-leaving
		w.Header().Set("Content-Type", eventType)
		var both sync.WaitGroup
		both.Go(leave)
		io.WriteString(w, hello)
		w.(http.Flusher).Flush()
		both.Wait()
		io.WriteString(w, usage)
	}})
	for _, p := range g.protocols() {
		for range 100 {
			ctx, leave := context.WithCancel(t.Context())
			leaving <- leave
			req, _ := http.NewRequestWithContext(ctx, http.MethodPost, p.url+"/tokens/chat", nil)
			req.Header.Set("Authorization", "Bearer "+token("u", "units"))
			if res, err := p.client.Do(req); err == nil {
				io.Copy(io.Discard, res.Body)
				res.Body.Close()
			}
			<-ctx.Done()
		}
	}
	testkit.Eventually(t, "nothing is held", func() bool { return g.usage("u", "units").InFlight == 0 })
	e := g.usage("u", "units").Endpoints["report"]
	if over := *e.Units - 5*e.Used; over%15 != 0 || over < 0 || over > 15*e.Used {
		t.Errorf("%d requests are charged %d units; each costs 5, or 20 where it is not known", e.Used, *e.Units)
	}
}

// faultyRest is a Store that panics in the second step, once.
type faultyRest struct {
	proxy.Store
	panicked atomic.Bool
}

func (s *faultyRest) CommitRest(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	if !s.panicked.Swap(true) {
		panic("on purpose")
	}
	return s.Store.CommitRest(ctx, r)
}

// faultyBody is a ResponseWriter that panics when it gets the body.
type faultyBody struct{ http.ResponseWriter }

func (faultyBody) Write([]byte) (int, error)     { panic("on purpose") }
func (w faultyBody) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// TestPanicBetweenTheSteps: the rest is settled all the same. If the gateway panics before the body
// has ended, its cost is missing.
func TestPanicBetweenTheSteps(t *testing.T) {
	g := withTokens(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", eventType)
		io.WriteString(w, hello)
		w.(http.Flusher).Flush()
		if r.URL.Path == "/tokens/in-the-write" {
			<-r.Context().Done()
		}
		io.WriteString(w, usage)
	}})
	broken := g.options
	broken.Store = &faultyRest{Store: g.store}
	for name, c := range map[string]struct {
		options proxy.Options
		wrap    func(http.ResponseWriter) http.ResponseWriter
		units   int64
	}{
		"in-the-step":  {broken, func(w http.ResponseWriter) http.ResponseWriter { return w }, 5},
		"in-the-write": {g.options, func(w http.ResponseWriter) http.ResponseWriter { return faultyBody{w} }, 20},
	} {
		broken, err := proxy.New(c.options)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			broken.ServeHTTP(c.wrap(w), req)
		}))
		server.Config.ErrorLog = quiet
		server.Start()
		req, _ := http.NewRequest(http.MethodPost, server.URL+"/tokens/"+name, nil)
		req.Header.Set("Authorization", "Bearer "+token(name, "units"))
		if res, err := http.DefaultClient.Do(req); err == nil {
			if _, err := io.Copy(io.Discard, res.Body); err == nil {
				t.Errorf("%s: the client has the whole response", name)
			}
			res.Body.Close()
		}
		server.Close()
		g.wantSettled(name, c.units)
	}
}
