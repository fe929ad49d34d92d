package upstream_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"metergate/proxy/upstream"
)

// How a target is ejected and comes back, request by request.
func TestEjectionTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, "a", "b")
		p := n.pool(t, upstream.Options{Balance: upstream.RoundRobin}, "a", "b")
		n.set("a", func(h *host) { h.up = false })

		const s = time.Second
		for _, step := range []struct {
			wait  time.Duration
			up    bool
			count int // requests, none of which may fail
			dials int // to a, while it is down
			gets  int // to a, while it is up
			out   time.Duration
		}{
			{wait: 0, count: 4, dials: 2},
			{wait: 0, up: true, count: 2, gets: 1}, // a response ends the row of failures
			{wait: 0, count: 4, dials: 2},
			{wait: 0, count: 20, dials: 1, out: 10 * s},
			{wait: 9 * s, count: 20, dials: 0, out: 1 * s},
			{wait: 1 * s, count: 20, dials: 1, out: 20 * s},
			{wait: 20 * s, count: 20, dials: 1, out: 40 * s},
			{wait: 40 * s, count: 20, dials: 1, out: 80 * s},
			{wait: 80 * s, count: 20, dials: 1, out: 80 * s}, // the longest
			{wait: 79 * s, up: true, count: 20, gets: 0, out: 1 * s},
			{wait: 1 * s, up: true, count: 2, gets: 1},     // the trial
			{wait: 0, up: true, count: 110, gets: 10},      // 10 to 100
			{wait: 5 * s, up: true, count: 310, gets: 110}, // 55 to 100
			{wait: 5 * s, up: true, count: 100, gets: 50},
			// A repeat soon afterwards is longer; after 80 s without failures it is not.
			{wait: 0, count: 10, dials: 3, out: 80 * s},
			{wait: 80 * s, up: true, count: 2, gets: 1},
			{wait: 80 * s, count: 10, dials: 3, out: 10 * s},
		} {
			time.Sleep(step.wait)
			if !step.up {
				p.Retire() // otherwise idle connections would stay
			}
			n.set("a", func(h *host) { h.up = step.up })
			for range step.count {
				want(t, p, newRequest("POST", "/", ""))
			}
			dials, gets := n.counts("a")
			if step.up {
				dials = 0
			}
			var out time.Duration
			if until := p.Targets()[0].EjectedUntil; !until.IsZero() {
				out = time.Until(until).Round(s)
			}
			// While the share grows, the rules do not fix the exact turn.
			if dials != step.dials || gets < step.gets-1 || gets > step.gets+1 || out != step.out {
				t.Errorf("%+v: %d dials, %d requests, out for %s", step, dials, gets, out)
			}
		}
	})
}

// Only one request at a time is a trial; the others go to another target meanwhile. If
// its client gives up, the next request becomes the trial.
func TestOneTrialAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, "a", "b")
		p := n.pool(t, upstream.Options{Ejection: upstream.Ejection{ConnectionErrors: 1}}, "a", "b")
		n.set("a", func(h *host) { h.up = false })
		for range 50 {
			want(t, p, newRequest("GET", "/", ""))
		}
		time.Sleep(10 * time.Second)
		hold := make(chan bool)
		n.set("a", func(h *host) { h.up, h.hold = true, hold })
		for dials := 1; dials <= 2; dials++ {
			ctx, giveUp := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			var failed atomic.Int32
			for range 50 {
				wg.Go(func() {
					if _, _, err := send(p, newRequest("GET", "/", "").WithContext(ctx)); err != nil {
						failed.Add(1)
					}
				})
			}
			synctest.Wait()
			if got, _ := n.counts("a"); got != dials {
				t.Errorf("%d requests are on trial, want 1", got-dials+1)
			}
			giveUp()
			wg.Wait()
			if failed.Load() != 1 {
				t.Errorf("%d requests wait for the trial, want 1", failed.Load())
			}
		}
		close(hold)
		for range 50 {
			want(t, p, newRequest("GET", "/", ""))
		}
		if until := p.Targets()[0].EjectedUntil; !until.IsZero() {
			t.Error("a was not readmitted")
		}
	})
}

// 5xx responses in a row eject a target if that is configured; a good response ends the
// row.
func TestServerErrorsEjectIfConfigured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, c := range []struct {
			limit int
			left  bool
		}{{0, false}, {3, true}} {
			n := newNetwork(t, "a", "b")
			p := n.pool(t, upstream.Options{Balance: upstream.RoundRobin, Ejection: upstream.Ejection{ServerErrors: c.limit}}, "a", "b")
			for i := range 20 {
				n.set("a", func(h *host) {
					h.status = 503
					if i%3 == 2 {
						h.status = 200
					}
				})
				send(p, newRequest("GET", "/", ""))
				send(p, newRequest("GET", "/", ""))
			}
			if !p.Targets()[0].EjectedUntil.IsZero() {
				t.Errorf("limit %d: ejected after rows of 2", c.limit)
			}
			n.set("a", func(h *host) { h.status = 503 })
			for range 20 {
				send(p, newRequest("GET", "/", ""))
			}
			if got := !p.Targets()[0].EjectedUntil.IsZero(); got != c.left {
				t.Errorf("limit %d: ejected %t after a row of 10", c.limit, got)
			}
		}
	})
}

// The last target is not ejected, whatever it does.
func TestLastTargetIsNotEjected(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, "a", "b")
		p := n.pool(t, upstream.Options{Balance: upstream.RoundRobin}, "a", "b")
		n.set("a", func(h *host) { h.up = false })
		n.set("b", func(h *host) { h.up = false })
		for range 50 {
			if _, err := p.RoundTrip(newRequest("GET", "/", "")); err == nil || errors.Is(err, upstream.ErrNoTarget) {
				t.Fatalf("error %v, want the connection's", err)
			}
		}
		out := 0
		for _, s := range p.Targets() {
			if !s.EjectedUntil.IsZero() {
				out++
			}
		}
		if out != 1 {
			t.Errorf("%d of 2 are ejected", out)
		}
		// Without an alternative both are tried, so the first that comes back serves.
		for _, name := range []string{"a", "b"} {
			n.set(name, func(h *host) { h.up = true })
			want(t, p, newRequest("GET", "/", ""))
			p.Retire()
			n.set(name, func(h *host) { h.up = false })
		}
	})
}

// If the health checks take out the targets that are not ejected, the least recently
// ejected one is used.
func TestLeastRecentlyEjectedIsLastResort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, "a", "b", "c")
		p := n.pool(t, upstream.Options{
			Balance:  upstream.RoundRobin,
			Health:   &upstream.Health{Path: "/healthz", Interval: time.Second},
			Ejection: upstream.Ejection{ServerErrors: 1, For: time.Minute},
		}, "a", "b", "c")
		p.Start()
		for _, name := range []string{"b", "a"} {
			n.set(name, func(h *host) { h.status = 500 })
			for range 6 {
				send(p, newRequest("GET", "/", ""))
			}
			time.Sleep(time.Second)
		}
		n.set("c", func(h *host) { h.health = 500 })
		time.Sleep(3 * time.Second)
		for i, name := range []string{"b", "a", "b"} { // each failure makes it the most recently ejected
			time.Sleep(time.Millisecond)
			if _, body, err := send(p, newRequest("GET", "/", "")); body != name {
				t.Errorf("request %d went to %q (error %v), want %s: %+v", i, body, err, name, p.Targets())
			}
		}
		n.set("a", func(h *host) { h.status = 200 })
		for range 3 {
			if body := want(t, p, newRequest("GET", "/", "")); body != "a" {
				t.Errorf("a works again, but %s got the request", body)
			}
		}
	})
}

// A request that its client ends does not count against the target.
func TestClientFaultsDoNotEject(t *testing.T) {
	slow := serve(t, func(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	drain := serve(t, nil)
	p := newPool(t, upstream.Options{Balance: upstream.RoundRobin}, slow.URL, drain.URL)
	for range 10 {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Millisecond)
		_, _, err := send(p, newRequest("GET", "/", "").WithContext(ctx))
		if err != nil && !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want the context's", err)
		}
		cancel()
	}
	broken := errors.New("the client hung up")
	for range 10 {
		req := newRequest("POST", "/", "text")
		req.Body = io.NopCloser(io.MultiReader(req.Body, failing{broken}))
		req.ContentLength = -1
		if _, err := p.RoundTrip(req); !errors.Is(err, broken) {
			t.Errorf("error %v, want the body's", err)
		}
		if _, err := p.RoundTrip(newRequest("POST", "/", "", "Bad\x00name: x")); err == nil {
			t.Error("a header that cannot be sent was sent")
		}
	}
	for _, s := range p.Targets() {
		if !s.EjectedUntil.IsZero() {
			t.Errorf("ejected: %+v", s)
		}
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
