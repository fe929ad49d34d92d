package upstream_test

import (
	"errors"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"metergate/proxy/upstream"
)

// Two failed checks in a row take a target out. One successful check brings it back,
// with a share that grows.
func TestHealthChecksTimeline(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t, "a", "b")
		p := n.pool(t, upstream.Options{Balance: upstream.RoundRobin, Health: &upstream.Health{Path: "/healthz"}}, "a", "b")
		p.Start()
		p.Start() // a second call does nothing
		synctest.Wait()
		n.mu.Lock()
		if checks := n.hosts["a"].checks; checks != 1 {
			t.Errorf("%d checks at the start, want 1", checks)
		}
		n.mu.Unlock()
		const s = time.Second
		for _, step := range []struct {
			wait    time.Duration
			status  int // of a's checks after the wait
			healthy bool
			gets    int // of 110 requests, to a
		}{
			{1 * s, 200, true, 55},
			{0, 500, true, 55},
			{5 * s, 200, true, 55}, // one failure
			{5 * s, 500, true, 55},
			{10 * s, 302, false, 0}, // two
			{50 * s, 204, false, 0},
			{3 * s, 204, false, 0},
			{1 * s, 204, true, 10},
			{10 * s, 404, true, 55},
			{10 * s, 404, false, 0},
		} {
			time.Sleep(step.wait)
			synctest.Wait()
			n.set("a", func(h *host) { h.health = step.status })
			for range 110 {
				want(t, p, newRequest("GET", "/", ""))
			}
			_, gets := n.counts("a")
			if st := p.Targets()[0]; st.Healthy != step.healthy || gets < step.gets-1 || gets > step.gets+1 {
				t.Errorf("%+v: a got %d, %+v", step, gets, st)
			}
		}
		n.set("b", func(h *host) { h.health = 500 })
		time.Sleep(10 * s)
		synctest.Wait()
		if _, err := p.RoundTrip(newRequest("POST", "/", "text")); !errors.Is(err, upstream.ErrNoTarget) {
			t.Errorf("no target is healthy, but the error is %v", err)
		}
		for _, st := range p.Targets() {
			if st.CheckError == nil {
				t.Errorf("%+v has no CheckError", st)
			}
		}
	})
}

// On real connections: the path of a check, its timeout, a target that refuses
// connections.
func TestHealthChecksOverNetwork(t *testing.T) {
	var hang atomic.Bool
	checked := make(chan string)
	s := serve(t, func(w http.ResponseWriter, r *http.Request) {
		select {
		case checked <- r.RequestURI + " " + r.Host:
		case <-r.Context().Done():
		}
		if hang.Load() {
			<-r.Context().Done()
		}
	})
	p := newPool(t, upstream.Options{
		Host:   "api.internal",
		Health: &upstream.Health{Path: "/health%20z?full", Interval: time.Millisecond, Timeout: 200 * time.Millisecond},
	}, s.URL+"/api/", refused(t))
	p.Start()
	for range 3 {
		if got := <-checked; got != "/api/health%20z?full api.internal" {
			t.Errorf("the check got %s", got)
		}
	}
	hang.Store(true)
	for p.Targets()[0].Healthy || p.Targets()[1].Healthy {
		<-checked
	}
	if _, err := p.RoundTrip(newRequest("GET", "/", "")); !errors.Is(err, upstream.ErrNoTarget) {
		t.Errorf("error %v", err)
	}
	hang.Store(false)
	for !p.Targets()[0].Healthy {
		<-checked
	}
	p.Retire()
	before := len(s.got())
	p.Start() // after Retire it does nothing
	if len(s.got()) != before {
		t.Error("a check after Retire")
	}
}
