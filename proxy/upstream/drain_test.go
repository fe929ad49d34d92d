package upstream_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"metergate/proxy/upstream"
	"metergate/quota/testkit"
)

func drain(t *testing.T, p *upstream.Pool, url string) {
	t.Helper()
	if changed, err := p.Drain(url, upstream.Drain{Since: time.Now(), From: "10.0.0.9", Reason: "new kernel"}); err != nil || !changed {
		t.Fatalf("drain %s: changed %v, error %v", url, changed, err)
	}
}

// requests sends 50 requests and returns how many reached a host. None may fail.
func (n *network) requests(t *testing.T, p *upstream.Pool, name string) int {
	t.Helper()
	n.set(name, nil)
	for range 50 {
		want(t, p, newRequest("POST", "/", ""))
	}
	_, gets := n.counts(name)
	return gets
}

// A drained target gets no new requests, whatever its health; a running one ends by itself.
// Undrained, it comes back with slow start.
func TestDrainedTargetGetsNoNewRequests(t *testing.T) {
	for _, balance := range []upstream.Balance{upstream.LeastInFlight, upstream.RoundRobin} {
		synctest.Test(t, func(t *testing.T) {
			var log bytes.Buffer
			n := newNetwork(t, "a", "b")
			p := n.pool(t, upstream.Options{
				Balance: balance, Health: &upstream.Health{Path: "/healthz"}, Ejection: upstream.Ejection{ServerErrors: 1},
				Log: slog.New(slog.NewTextHandler(&log, nil)),
			}, "a", "b")
			p.Start()
			n.set("b", func(h *host) { h.health = 500 })
			time.Sleep(20 * time.Second)
			stream, err := p.RoundTrip(newRequest("GET", "/stream", "")) // on a: b is unhealthy
			if err != nil {
				t.Fatal(err)
			}
			n.set("b", func(h *host) { h.health = 200 })
			time.Sleep(20 * time.Second)
			drain(t, p, "http://a")
			if changed, err := p.Drain("http://a", upstream.Drain{}); changed || err != nil {
				t.Errorf("a second drain: changed %v, error %v", changed, err)
			}
			if got := n.requests(t, p, "a"); got != 0 {
				t.Errorf("the drained target got %d requests", got)
			}
			a := p.Targets()[0]
			if a.Drained == nil || a.Drained.Reason != "new kernel" || a.Drained.From != "10.0.0.9" || a.InFlight != 1 || a.Share != 0 || p.Targets()[1].Share != 1 {
				t.Errorf("drained: %+v", a)
			}

			// It becomes unhealthy and healthy again.
			n.set("a", func(h *host) { h.health = 500 })
			time.Sleep(20 * time.Second)
			n.set("a", func(h *host) { h.health = 200 })
			time.Sleep(20 * time.Second)
			if got := n.requests(t, p, "a"); got != 0 || !p.Targets()[0].Healthy {
				t.Errorf("healthy again, the drained target got %d requests", got)
			}
			// A failing target is not ejected while the others are drained.
			n.set("b", func(h *host) { h.status = 500 })
			for range 3 {
				send(p, newRequest("POST", "/", ""))
			}
			n.set("b", func(h *host) { h.status = 200 })
			if !p.Targets()[1].EjectedUntil.IsZero() {
				t.Error("the last target was ejected")
			}

			if strings.Contains(log.String(), "no requests left") {
				t.Error("a request is running, but the log says that none is left")
			}
			close(n.hosts["a"].end)
			if _, err := io.ReadAll(stream.Body); err != nil {
				t.Errorf("the running request: %v", err)
			}
			stream.Body.Close()
			if p.Targets()[0].InFlight != 0 || strings.Count(log.String(), `msg="drained target has no requests left" target=http://a`) != 1 {
				t.Errorf("%d in flight; log:\n%s", p.Targets()[0].InFlight, log.String())
			}

			if changed, err := p.Undrain("http://a", upstream.Drain{From: "10.0.0.9"}); !changed || err != nil {
				t.Errorf("undrain: changed %v, error %v", changed, err)
			}
			if changed, err := p.Undrain("http://a", upstream.Drain{}); changed || err != nil {
				t.Errorf("a second undrain: changed %v, error %v", changed, err)
			}
			if share := p.Targets()[0].Share; share < 0.05 || share > 0.15 {
				t.Errorf("undrained, its share is %v", share)
			}
			time.Sleep(10 * time.Second)
			if got := n.requests(t, p, "a"); got < 5 || got > 45 {
				t.Errorf("after slow start it got %d of 50 requests", got)
			}
			for _, line := range []string{`msg="target drained" target=http://a from=10.0.0.9 reason="new kernel" in_flight=1`, `msg="target undrained" target=http://a from=10.0.0.9`} {
				if !strings.Contains(log.String(), line) {
					t.Errorf("the log does not have %s:\n%s", line, log.String())
				}
			}
		})
	}
}

// An ejected target that is drained gets no trial when its ejection has run out, and is not
// the last resort.
func TestDrainedTargetGetsNoTrial(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, "a", "b", "c")
		p := n.pool(t, upstream.Options{Ejection: upstream.Ejection{ServerErrors: 1}, Health: &upstream.Health{Path: "/healthz"}}, "a", "b", "c")
		p.Start()
		n.set("a", func(h *host) { h.status = 500 })
		testkit.Eventually(t, "a is ejected", func() bool {
			send(p, newRequest("GET", "/", ""))
			return !p.Targets()[0].EjectedUntil.IsZero()
		})
		n.set("a", func(h *host) { h.status = 200 })
		drain(t, p, "http://a")
		time.Sleep(time.Minute)
		if got := n.requests(t, p, "a"); got != 0 {
			t.Errorf("it got %d requests after its ejection", got)
		}
		for _, name := range []string{"b", "c"} {
			n.set(name, func(h *host) { h.health = 500 })
		}
		time.Sleep(time.Minute)
		if _, err := p.RoundTrip(newRequest("GET", "/", "")); !errors.Is(err, upstream.ErrNoTarget) {
			t.Errorf("with the others unhealthy: %v", err)
		}
		for _, name := range []string{"b", "c"} {
			n.set(name, func(h *host) { h.health = 200 })
		}
		time.Sleep(time.Minute)
		p.Undrain("http://a", upstream.Drain{})
		if got := n.requests(t, p, "a"); got == 0 || !p.Targets()[0].EjectedUntil.IsZero() {
			t.Errorf("undrained, it got %d requests: %+v", got, p.Targets()[0])
		}
	})
}

// There is always another target that can serve.
func TestDrainRefusesLastTarget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, "a", "b", "c")
		p := n.pool(t, upstream.Options{Ejection: upstream.Ejection{ServerErrors: 1}, Health: &upstream.Health{Path: "/healthz"}}, "a", "b", "c")
		p.Start()
		refuse := func(why, url string, want error) {
			t.Helper()
			if changed, err := p.Drain(url, upstream.Drain{}); changed || !errors.Is(err, want) {
				t.Errorf("%s: changed %v, error %v, want %v", why, changed, err, want)
			}
		}
		refuse("unknown", "http://d", upstream.ErrUnknownTarget)
		if _, err := p.Undrain("http://d", upstream.Drain{}); !errors.Is(err, upstream.ErrUnknownTarget) {
			t.Errorf("undrain: %v", err)
		}
		drain(t, p, "http://a")
		n.set("b", func(h *host) { h.health = 500 })
		time.Sleep(time.Minute)
		refuse("a is drained, b unhealthy", "http://c", upstream.ErrLastTarget)
		n.set("b", func(h *host) { h.health, h.status = 200, 500 })
		time.Sleep(time.Minute)
		testkit.Eventually(t, "b is ejected", func() bool {
			send(p, newRequest("GET", "/", ""))
			return !p.Targets()[1].EjectedUntil.IsZero()
		})
		refuse("a is drained, b ejected", "http://c", upstream.ErrLastTarget)
		drain(t, p, "http://b")
		refuse("the others are drained", "http://c", upstream.ErrLastTarget)
	})
}

// A reload keeps the drain and the count of running requests. The pool before knows of
// drains that came after it.
func TestAdoptStateKeepsDrain(t *testing.T) {
	n := newNetwork(t, "a", "b")
	var log bytes.Buffer
	next := func(before *upstream.Pool, targets ...upstream.Target) *upstream.Pool {
		p := n.pool(t, upstream.Options{Balance: upstream.RoundRobin, Targets: targets, Log: slog.New(slog.NewTextHandler(&log, nil))})
		if before != nil {
			p.AdoptState(before)
			before.Retire()
		}
		return p
	}
	a, b := target("http://a"), target("http://b")
	first := next(nil, a)
	stream, err := first.RoundTrip(newRequest("GET", "/stream", ""))
	if err != nil {
		t.Fatal(err)
	}
	second := next(first, a, b)
	if in := second.Targets()[0].InFlight; in != 1 {
		t.Errorf("after a reload %d requests are in flight on a, want the one of the pool before", in)
	}
	drain(t, second, "http://a")
	if _, err := first.RoundTrip(newRequest("GET", "/", "")); !errors.Is(err, upstream.ErrNoTarget) {
		t.Errorf("the pool before, whose only target is drained: %v", err)
	}
	a.Weight = 7
	third := next(second, a, b)
	if third.Targets()[0].Drained == nil || n.requests(t, third, "a") != 0 {
		t.Errorf("after another reload: %+v", third.Targets()[0])
	}
	off := a
	off.Off = true
	fourth := next(third, off, b)
	if st := fourth.Targets()[0]; st.InFlight != 1 || st.Weight != 0 || st.Share != 0 || n.requests(t, fourth, "a") != 0 {
		t.Errorf("switched off: %+v", st)
	}
	if _, err := fourth.Drain("http://a", upstream.Drain{}); !errors.Is(err, upstream.ErrUnknownTarget) {
		t.Errorf("draining a target that is off: %v", err)
	}
	close(n.hosts["a"].end)
	io.ReadAll(stream.Body)
	stream.Body.Close()
	if in := fourth.Targets()[0].InFlight; in != 0 {
		t.Errorf("%d requests are in flight after the end", in)
	}
	fifth := next(next(fourth, b), a, b)
	if fifth.Targets()[0].Drained != nil || n.requests(t, fifth, "a") == 0 {
		t.Errorf("gone and back: %+v", fifth.Targets()[0])
	}
	drain(t, fifth, "http://a")
	sixth := next(fifth, a)
	if sixth.Targets()[0].Drained != nil || n.requests(t, sixth, "a") != 50 {
		t.Errorf("the only one left: %+v", sixth.Targets()[0])
	}
	if !strings.Contains(log.String(), "level=WARN msg=\"target undrained, because") {
		t.Errorf("log:\n%s", log.String())
	}
}

// Once a target is drained and has no request in flight, none reaches it, whatever was on its
// way to it.
func TestDrainIsCompleteWhenNothingIsInFlight(t *testing.T) {
	var gone atomic.Bool
	var broken atomic.Int64
	a := serve(t, func(http.ResponseWriter, *http.Request) {
		if gone.Load() {
			broken.Add(1)
		}
	})
	b := serve(t, nil)
	p := newPool(t, upstream.Options{}, a.URL, b.URL)
	var stop atomic.Bool
	var sent atomic.Int64
	var wait sync.WaitGroup
	for range 4 {
		wait.Go(func() {
			for !stop.Load() {
				if _, _, err := send(p, newRequest("POST", "/", "")); err != nil {
					t.Error(err)
					return
				}
				sent.Add(1)
			}
		})
	}
	for range 20 {
		drain(t, p, a.URL)
		testkit.Eventually(t, "no request is in flight", func() bool { return p.Targets()[0].InFlight == 0 })
		gone.Store(true)
		n := sent.Load()
		testkit.Eventually(t, "requests go on", func() bool { return sent.Load() > n+20 || t.Failed() })
		gone.Store(false)
		p.Undrain(a.URL, upstream.Drain{})
		n = sent.Load()
		testkit.Eventually(t, "requests go on", func() bool { return sent.Load() > n+20 || t.Failed() })
	}
	stop.Store(true)
	wait.Wait()
	if broken.Load() != 0 {
		t.Errorf("%d requests reached the drained target", broken.Load())
	}
}
