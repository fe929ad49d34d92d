package recent

import (
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// The reasons for which requests are refused, in the order of counts.refused.
const (
	quotaExceeded = iota
	attempts
	concurrency
	noStore
	overload
	reasons
)

var refusals = [reasons]string{"quota-exceeded", "attempts", "concurrency", "store", "overload"}

// noRefusals has all reasons.
var noRefusals = func() map[string]int64 {
	all := map[string]int64{}
	for _, name := range refusals {
		all[name] = 0
	}
	return all
}()

// refusedBy are the outcomes of a decision that refuse a request.
var refusedBy = map[string]int{"refused": quotaExceeded, "throttled": attempts, "crowded": concurrency, "error": noStore}

// streamRoute is the route of the streams of usage. They last for hours, which says nothing about how
// long requests take.
const streamRoute = "/usage/stream"

// counts are numbers that only grow, until the process ends.
type counts struct {
	classes      [6]int64 // requests by the first digit of their status; 0: aborted
	admitted     int64
	refused      [reasons]int64
	unauthorized int64
	// buckets are how many requests took at most as long as each of bounds, cumulatively; timed is how many
	// there are in all.
	bounds  []float64 // seconds
	buckets []int64
	timed   int64
}

// A reading is what the counts were at a time.
type reading struct {
	at time.Time
	counts
}

// read reads the metrics of package proxy. A metric that is not there yet is 0.
func read(metrics prometheus.Gatherer, at time.Time) reading {
	r := reading{at: at}
	families, _ := metrics.Gather() // with an error, what could be read
	for _, f := range families {
		for _, m := range f.Metric {
			r.addMetric(f.GetName(), m)
		}
	}
	return r
}

func (c *counts) addMetric(name string, m *dto.Metric) {
	n := int64(m.GetCounter().GetValue())
	switch name {
	case "metergate_requests_total":
		class := 0
		if code := label(m, "code"); len(code) == 3 && code[0] >= '1' && code[0] <= '5' {
			class = int(code[0] - '0')
		}
		c.classes[class] += n
	case "metergate_decisions_total":
		if reason, refused := refusedBy[label(m, "outcome")]; refused {
			c.refused[reason] += n
		} else {
			c.admitted += n
		}
	case "metergate_overload_refused_total":
		c.refused[overload] += n
	case "metergate_unauthorized_total":
		c.unauthorized += n
	case "metergate_request_duration_seconds":
		if !strings.HasSuffix(label(m, "route"), streamRoute) {
			c.addHistogram(m.GetHistogram())
		}
	}
}

func (c *counts) addHistogram(h *dto.Histogram) {
	if c.bounds == nil {
		for _, b := range h.Bucket {
			if bound := b.GetUpperBound(); !math.IsInf(bound, 1) {
				c.bounds = append(c.bounds, bound)
			}
		}
		c.buckets = make([]int64, len(c.bounds))
	}
	for i := range min(len(c.bounds), len(h.Bucket)) { // all have the same bounds
		c.buckets[i] += int64(h.Bucket[i].GetCumulativeCount())
	}
	c.timed += int64(h.GetSampleCount())
}

func label(m *dto.Metric, name string) string {
	for _, l := range m.Label {
		if l.GetName() == name {
			return l.GetValue()
		}
	}
	return ""
}

func (c *counts) requests() (n int64) {
	for _, class := range c.classes {
		n += class
	}
	return n
}

// errors are the requests that failed for a fault of the gateway or the upstream.
func (c *counts) errors() int64 { return c.classes[5] + c.classes[0] }

// each calls f with each number of c and its counterpart in d, which has the same bounds.
func (c *counts) each(d *counts, f func(*int64, int64)) {
	for i := range c.classes {
		f(&c.classes[i], d.classes[i])
	}
	for i := range c.refused {
		f(&c.refused[i], d.refused[i])
	}
	for i := range c.buckets {
		f(&c.buckets[i], d.buckets[i])
	}
	f(&c.admitted, d.admitted)
	f(&c.unauthorized, d.unauthorized)
	f(&c.timed, d.timed)
}

// withBounds gives counts without a histogram the bounds of another, with nothing counted.
func (c *counts) withBounds(bounds []float64) {
	if c.bounds == nil {
		c.bounds, c.buckets = bounds, make([]int64, len(bounds))
	}
}

// add adds d to c.
func (c *counts) add(d counts) {
	c.withBounds(d.bounds)
	d.withBounds(c.bounds)
	c.each(&d, func(n *int64, m int64) { *n += m })
}

// sub sets difference to c - before, and reports whether no number of it is negative: nothing has
// begun again at 0.
func (c counts) sub(before counts, difference *counts) (ok bool) {
	*difference, ok = c, true
	difference.buckets = slices.Clone(c.buckets)
	difference.withBounds(before.bounds)
	before.withBounds(difference.bounds)
	difference.each(&before, func(n *int64, m int64) {
		*n -= m
		ok = ok && *n >= 0
	})
	return ok
}

// quantile estimates the duration within which a part q of the requests has ended, in milliseconds with
// three digits.
func (c *counts) quantile(q float64) Value {
	if c.timed == 0 || len(c.bounds) == 0 {
		return unknown
	}
	rank := q * float64(c.timed)
	i, _ := slices.BinarySearchFunc(c.buckets, rank, func(n int64, rank float64) int {
		if float64(n) < rank {
			return -1
		}
		return 1
	})
	if i == len(c.bounds) {
		return threeDigits(c.bounds[i-1] * 1000)
	}
	from, below := 0.0, int64(0)
	if i > 0 {
		from, below = c.bounds[i-1], c.buckets[i-1]
	}
	return threeDigits((from + (c.bounds[i]-from)*(rank-float64(below))/float64(c.buckets[i]-below)) * 1000)
}

// threeDigits rounds a number to three significant digits.
func threeDigits(x float64) Value {
	if x == 0 {
		return 0
	}
	scale := math.Pow(10, 2-math.Floor(math.Log10(x)))
	return Value(math.Round(x*scale) / scale)
}
