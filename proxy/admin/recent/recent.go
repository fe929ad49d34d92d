// Package recent keeps what a gateway has done in the last hour, in memory, for the overview of the admin
// API. A [Sampler] reads the gateway's own metrics every ten seconds; a request costs nothing more for it.
//
// # Points
//
// A [Point] has what was counted in one step of ten seconds: the difference of two readings. A step is
// unknown if nobody read at its end, because the process or the machine slept, or if a counter has become
// less. So what was counted during a long sleep does not show as a spike. It is in the sums of the hour
// nevertheless.
//
// # Quantiles
//
// Quantiles of durations are estimated from the buckets of a histogram, as Prometheus does in
// histogram_quantile: evenly within the bucket. So they are as exact as the bucket is narrow. A request that
// took longer than the last bound counts as one that took just that long.
package recent

import (
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	// Step is the time from one reading to the next.
	Step = 10 * time.Second
	// maxPoints is an hour.
	maxPoints = 360
)

// A Sampler reads metrics while it is on. The methods may be called concurrently.
type Sampler struct {
	metrics prometheus.Gatherer

	running sync.Mutex // held while it is turned on or off
	stop    chan struct{}
	ended   chan struct{}

	mu     sync.Mutex // guards what follows
	last   reading
	points []Point // at most maxPoints, the oldest first
}

// New returns a Sampler that is off. It reads the metrics of package proxy.
func New(metrics prometheus.Gatherer) *Sampler { return &Sampler{metrics: metrics} }

// Set turns the Sampler on or off. What it kept is gone when it is turned off.
func (s *Sampler) Set(on bool) {
	s.running.Lock()
	defer s.running.Unlock()
	if on == (s.stop != nil) {
		return
	}
	if on {
		s.reset(read(s.metrics, time.Now()))
		s.stop, s.ended = make(chan struct{}), make(chan struct{})
		go s.run(s.stop, s.ended)
		return
	}
	close(s.stop)
	<-s.ended
	s.stop = nil
	s.reset(reading{})
}

func (s *Sampler) run(stop, ended chan struct{}) {
	defer close(ended)
	tick := time.NewTicker(Step)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			s.add(read(s.metrics, time.Now()))
		}
	}
}

// reset forgets all points; the next one begins at a reading.
func (s *Sampler) reset(from reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last, s.points = from, nil
}

// add adds the points from the last reading to the next one. The clock that counts is the wall clock: a
// machine that slept for an hour has an hour of unknown points.
func (s *Sampler) add(next reading) {
	s.mu.Lock()
	defer s.mu.Unlock()
	elapsed := next.at.Round(0).Sub(s.last.at.Round(0)) // without the monotonic clock, which stops in a sleep
	steps := int((elapsed + Step/2) / Step)
	switch {
	case elapsed < 0 || steps > maxPoints:
		s.last, s.points = next, nil // the clock was set, or all that was known is over
		return
	case steps == 0:
		return // the next reading has it
	}
	for range steps - 1 {
		s.points = append(s.points, Point{})
	}
	p := Point{known: steps == 1}
	if !next.counts.sub(s.last.counts, &p.counts) {
		p = Point{}
	}
	s.last, s.points = next, append(s.points, p)
	s.points = slices.Delete(s.points, 0, max(0, len(s.points)-maxPoints))
}

// A Point is what was counted in a step.
type Point struct {
	counts
	known bool // its counts are those of one step
}

// Hour returns the sums of what was counted in the last hour, or since the Sampler is on.
func (s *Sampler) Hour() Hour {
	s.mu.Lock()
	defer s.mu.Unlock()
	var sum counts
	for _, p := range s.points {
		sum.add(p.counts)
	}
	refused := maps.Clone(noRefusals)
	for i, name := range refusals {
		refused[name] = sum.refused[i]
	}
	return Hour{
		Requests: sum.requests(), Class2xx: sum.classes[2], Class3xx: sum.classes[3], Class4xx: sum.classes[4], Class5xx: sum.classes[5],
		Aborted: sum.classes[0], Admitted: sum.admitted, Refused: refused, Unauthorized: sum.unauthorized,
		P50: sum.quantile(0.5), P95: sum.quantile(0.95), P99: sum.quantile(0.99),
	}
}

// Series returns the points of the last hour, the oldest first.
func (s *Sampler) Series() Series {
	s.mu.Lock()
	defer s.mu.Unlock()
	r := Series{StepSeconds: int(Step / time.Second), To: s.last.at.UTC().Truncate(time.Millisecond),
		Requests: Values{}, Errors: Values{}, Refused: Values{}, P50: Values{}, P95: Values{}, P99: Values{}}
	for _, p := range s.points {
		v := p.values(r.To)
		r.Requests, r.Errors, r.Refused = append(r.Requests, v.Requests), append(r.Errors, v.Errors), append(r.Refused, v.Refused)
		r.P50, r.P95, r.P99 = append(r.P50, v.P50), append(r.P95, v.P95), append(r.P99, v.P99)
	}
	return r
}

// Newest returns the values of the last point; ok is false if there is none yet.
func (s *Sampler) Newest() (v PointValues, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.points) == 0 {
		return v, false
	}
	return s.points[len(s.points)-1].values(s.last.at.UTC().Truncate(time.Millisecond)), true
}

// values are those of a point that ended at a time.
func (p *Point) values(at time.Time) PointValues {
	if !p.known {
		return PointValues{at, unknown, unknown, unknown, unknown, unknown, unknown}
	}
	refused := int64(0)
	for _, n := range p.refused {
		refused += n
	}
	return PointValues{at, Value(p.requests()), Value(p.errors()), Value(refused), p.quantile(0.5), p.quantile(0.95), p.quantile(0.99)}
}

// unknown is written as null.
var unknown = Value(math.NaN())
