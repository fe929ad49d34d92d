package recent

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// A gateway has the metrics that a Sampler reads.
type gateway struct {
	registry     *prometheus.Registry
	requests     *prometheus.CounterVec
	decisions    *prometheus.CounterVec
	overload     *prometheus.CounterVec
	unauthorized prometheus.Counter
	duration     *prometheus.HistogramVec
}

func newGateway() *gateway {
	g := &gateway{registry: prometheus.NewRegistry()}
	f := promauto.With(g.registry)
	g.requests = f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_requests_total"}, []string{"route", "method", "code"})
	g.decisions = f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_decisions_total"}, []string{"plan", "outcome"})
	g.overload = f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_overload_refused_total"}, []string{"reason"})
	g.unauthorized = f.NewCounter(prometheus.CounterOpts{Name: "metergate_unauthorized_total"})
	g.duration = f.NewHistogramVec(prometheus.HistogramOpts{Name: "metergate_request_duration_seconds", Buckets: []float64{.1, .2, .4, 1}}, []string{"route"})
	return g
}

// answer counts n requests with a status class, each of which took so many seconds.
func (g *gateway) answer(n int, code string, seconds float64) {
	g.requests.WithLabelValues("/api/", "GET", code).Add(float64(n))
	for range n {
		g.duration.WithLabelValues("/api/").Observe(seconds)
	}
}

// readAt adds a reading of the metrics that is so long after the start.
func (s *Sampler) readAt(start time.Time, after time.Duration) {
	s.add(read(s.metrics, start.Add(after)))
}

var start = time.Date(2026, time.November, 24, 12, 0, 0, 0, time.UTC)

// started returns a Sampler that has read the metrics once, and whose readings the test makes.
func (g *gateway) started() *Sampler {
	s := New(g.registry)
	s.reset(read(g.registry, start))
	return s
}

func text(t *testing.T, v any) string {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func want(t *testing.T, what string, got any, want string) {
	t.Helper()
	if got := text(t, got); got != want {
		t.Errorf("%s:\n%s\nwant\n%s", what, got, want)
	}
}

// What was there before the sampler was on does not count. The quantiles are computed by hand.
func TestSamplerCountsByStep(t *testing.T) {
	g := newGateway()
	g.answer(1000, "2xx", 0.05)
	s := g.started()
	want(t, "at first", s.Series(), `{"step_s":10,"to":"2026-11-24T12:00:00Z","requests":[],"errors":[],"refused":[],"p50_ms":[],"p95_ms":[],"p99_ms":[]}`)
	if _, ok := s.Newest(); ok {
		t.Error("there is a point already")
	}

	g.answer(8, "2xx", 0.15)
	g.answer(2, "4xx", 0.3)
	g.decisions.WithLabelValues("free", "admitted").Add(8)
	g.decisions.WithLabelValues("free", "refused").Add(2)
	s.readAt(start, 10*time.Second)
	s.readAt(start, 20*time.Second)
	g.answer(1, "5xx", 70) // over the last bound
	g.requests.WithLabelValues("none", "GET", "aborted").Inc()
	g.decisions.WithLabelValues("free", "unchecked").Inc()
	for i, outcome := range []string{"throttled", "crowded", "error"} {
		g.decisions.WithLabelValues("free", outcome).Add(float64(i + 1))
	}
	g.overload.WithLabelValues("total").Add(4)
	g.overload.WithLabelValues("per_user").Add(1)
	g.unauthorized.Add(6)
	s.readAt(start, 30*time.Second)

	// Of ten requests, 8 took 100 to 200 ms and 2 took 200 to 400 ms. The 5th is at 100 + 100*5/8 =
	// 162.5 ms, the 9.5th at 200 + 200*1.5/2 = 350 ms, the 9.9th at 200 + 200*1.9/2 = 390 ms. A request over the last
	// bound counts as one of that, 1 s.
	want(t, "the series", s.Series(), `{"step_s":10,"to":"2026-11-24T12:00:30Z","requests":[10,0,2],"errors":[0,0,2],"refused":[2,0,11],`+
		`"p50_ms":[163,null,1000],"p95_ms":[350,null,1000],"p99_ms":[390,null,1000]}`)
	newest, ok := s.Newest()
	if !ok {
		t.Error("there is no newest point")
	}
	want(t, "the newest", newest, `{"at":"2026-11-24T12:00:30Z","requests":2,"errors":2,"refused":11,"p50_ms":1000,"p95_ms":1000,"p99_ms":1000}`)
	// Of eleven requests the 5.5th is at 100 + 100*5.5/8 = 168.75 ms.
	want(t, "the hour", s.Hour(), `{"requests":12,"2xx":8,"3xx":0,"4xx":2,"5xx":1,"aborted":1,"admitted":9,`+
		`"refused":{"attempts":1,"concurrency":2,"overload":5,"quota-exceeded":2,"store":3},"unauthorized":6,"p50_ms":169,"p95_ms":1000,"p99_ms":1000}`)
}

// Streams of usage last for hours, and are left out of the durations.
func TestSamplerLeavesStreamsOut(t *testing.T) {
	g := newGateway()
	s := g.started()
	g.duration.WithLabelValues("GET /usage/stream").Observe(3000)
	g.answer(1, "2xx", 0.1)
	s.readAt(start, Step)
	if p := s.Hour().P99; p > 100 {
		t.Errorf("the 99th percentile is %v ms", p)
	}
}

// A sampler that slept, a clock that was set and a counter that began again at 0 leave unknown points,
// never one with everything in it. The sums of the hour have what was counted in a sleep.
func TestSamplerShowsNoSpikes(t *testing.T) {
	g := newGateway()
	s := g.started()
	g.answer(10, "2xx", 0.1)
	s.readAt(start, 14*time.Second) // late
	g.answer(5, "2xx", 0.1)
	s.readAt(start, 20*time.Second)
	g.answer(900, "2xx", 0.1)
	s.readAt(start, 50*time.Second) // two readings are missing
	g.answer(7, "2xx", 0.1)
	s.readAt(start, 60*time.Second)
	want(t, "after a sleep", s.Series().Requests, `[10,5,null,null,null,7]`)
	if h := s.Hour(); h.Requests != 922 {
		t.Errorf("the hour has %d requests", h.Requests)
	}
	s.readAt(start, 63*time.Second) // so early that it is no step
	g.answer(3, "2xx", 0.1)
	s.readAt(start, 70*time.Second)
	want(t, "after an early reading", s.Series().Requests, `[10,5,null,null,null,7,3]`)

	g.requests.Reset()
	g.answer(2, "2xx", 0.1)
	s.readAt(start, 80*time.Second)
	g.answer(4, "2xx", 0.1)
	s.readAt(start, 90*time.Second)
	want(t, "after a reset", s.Series().Requests, `[10,5,null,null,null,7,3,null,4]`)

	s.readAt(start, 50*time.Second)
	want(t, "after the clock was set back", s.Series().Requests, `[]`)
	g.answer(1, "2xx", 0.1)
	s.readAt(start, time.Minute)
	s.readAt(start, 2*time.Hour)
	want(t, "after a sleep of more than an hour", s.Series().Requests, `[]`)
}

// There are never more points than those of an hour.
func TestSamplerIsBounded(t *testing.T) {
	g := newGateway()
	s := g.started()
	for i := range 1000 {
		g.requests.WithLabelValues("/api/", "GET", "2xx").Add(float64(i))
		s.readAt(start, time.Duration(i+1)*Step)
	}
	r := s.Series()
	if len(r.Requests) != 360 || len(r.P99) != 360 || r.Requests[0] != 640 || r.Requests[359] != 999 || cap(s.points) > 4*maxPoints {
		t.Errorf("%d points from %v to %v, room for %d", len(r.Requests), r.Requests[0], r.Requests[len(r.Requests)-1], cap(s.points))
	}
}

// It reads by itself every ten seconds while it is on. When it is off it does nothing, and has forgotten all.
func TestSamplerRunsWhileItIsOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGateway()
		s := New(g.registry)
		s.Set(false)
		s.Set(true)
		s.Set(true)
		for range 3 {
			g.answer(2, "2xx", 0.1)
			time.Sleep(Step)
			synctest.Wait()
		}
		want(t, "three steps", s.Series().Requests, `[2,2,2]`)
		s.Set(false)
		g.answer(100, "2xx", 0.1)
		time.Sleep(time.Minute)
		want(t, "off", s.Series().Requests, `[]`)
		if h := s.Hour(); h.Requests != 0 || !math.IsNaN(float64(h.P50)) {
			t.Errorf("off: %+v", h)
		}
		s.Set(true)
		time.Sleep(Step)
		synctest.Wait()
		want(t, "on again", s.Series().Requests, `[0]`)
		s.Set(false)
	})
}

// What is unknown is null, and can be read back.
func TestValuesAreJSON(t *testing.T) {
	var back Values
	vs := Values{0, 1.5, unknown, 1e6}
	if err := json.Unmarshal([]byte(text(t, vs)), &back); err != nil || len(back) != 4 || !math.IsNaN(float64(back[2])) || back[1] != 1.5 {
		t.Errorf("%v, error %v", back, err)
	}
	for from, want := range map[float64]string{162.5: "163", 0.51234: "0.512", 123456: "123000", 9.996: "10", 0: "0"} {
		if got := fmt.Sprint(text(t, threeDigits(from))); got != want {
			t.Errorf("%v: %s, want %s", from, got, want)
		}
	}
}
