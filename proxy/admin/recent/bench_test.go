package recent

import (
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/collectors"
)

// What a tick costs, which comes every ten seconds, on a gateway with 100 routes.
func BenchmarkTick(b *testing.B) {
	g := newGateway()
	g.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	for route := range 100 {
		name := fmt.Sprint("POST /api/", route)
		for _, code := range []string{"2xx", "4xx", "5xx"} {
			g.requests.WithLabelValues(name, "POST", code).Inc()
		}
		g.duration.WithLabelValues(name).Observe(0.1)
	}
	s := New(g.registry)
	at := time.Now()
	b.ReportAllocs()
	for b.Loop() {
		at = at.Add(Step)
		s.add(read(s.metrics, at))
	}
}

// What an overview costs: the sums and the series of a whole hour.
func BenchmarkHourAndSeries(b *testing.B) {
	g := newGateway()
	s := g.started()
	for i := range maxPoints {
		g.answer(10, "2xx", 0.1)
		s.readAt(start, time.Duration(i+1)*Step)
	}
	b.ReportAllocs()
	for b.Loop() {
		s.Hour()
		s.Series()
	}
}
