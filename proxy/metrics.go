package proxy

import (
	"context"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"metergate/quota"
)

// Metrics are the numbers of a gateway. No label holds anything that a client
// chooses.
type Metrics struct {
	requests  *prometheus.CounterVec
	duration  *prometheus.HistogramVec
	inFlight  prometheus.Gauge
	decisions *prometheus.CounterVec
	counted   *prometheus.CounterVec
	released  *prometheus.CounterVec
	upstream  *prometheus.HistogramVec
	unsettled prometheus.Counter
	storeTime *prometheus.HistogramVec
	storeErrs *prometheus.CounterVec
	// overloaded counts what found no room, see inflight.go.
	overloaded *prometheus.CounterVec
}

// requestBuckets reach to minutes: what is behind the gateway may be a model.
var requestBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}

// Why a reservation is given back, as metergate_released_total has it. None: it is not.
const (
	counted             = ""
	released3xx         = "status_3xx"
	released4xx         = "status_4xx"
	released5xx         = "status_5xx"
	releasedTimeout     = "timeout"
	releasedUnreachable = "unreachable" // no response could be had
	releasedClientGone  = "client_gone"
	releasedBody        = "body" // the request's was too large, or broke off
	releasedOther       = "other"
)

var releaseReasons = []string{released3xx, released4xx, released5xx, releasedTimeout, releasedUnreachable, releasedClientGone, releasedBody, releasedOther}

// settlementOf is what the status of a response makes of a reservation.
func settlementOf(status int) string {
	switch status / 100 {
	case 2:
		return counted
	case 3:
		return released3xx
	case 4:
		return released4xx
	case 5:
		return released5xx
	}
	return releasedOther
}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	f := promauto.With(r)
	m := &Metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_requests_total",
			Help: "Requests answered, by the pattern of their route, method and class of status."},
			[]string{"route", "method", "code"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{Name: "metergate_request_duration_seconds",
			Help:    "Time from a request's headers to the end of its response.",
			Buckets: requestBuckets},
			[]string{"route"}),
		upstream: f.NewHistogramVec(prometheus.HistogramOpts{Name: "metergate_upstream_duration_seconds",
			Help:    "Time from sending a request to an upstream, all tries included, to the headers of its response or to their failure.",
			Buckets: requestBuckets},
			[]string{"upstream"}),
		inFlight: f.NewGauge(prometheus.GaugeOpts{Name: "metergate_requests_in_flight",
			Help: "Requests being served now."}),
		decisions: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_decisions_total",
			Help: "Answers to the question whether a request fits the quota: admitted, refused, throttled (too many attempts), observed (admitted, because plan or route observes; would have been refused or throttled), unchecked (the store did not answer; admitted by the last known usage), error."},
			[]string{"plan", "outcome"}),
		counted: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_counted_total",
			Help: "Requests counted, by endpoint."}, []string{"endpoint"}),
		released: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_released_total",
			Help: "Reservations given back, by reason: the upstream's status, timeout, unreachable, client_gone, body (of the request, too large or broken off), other."},
			[]string{"reason"}),
		unsettled: f.NewCounter(prometheus.CounterOpts{Name: "metergate_unsettled_total",
			Help: "Successful requests that neither the store nor the journal took. They are counted only if the process lives until the store answers."}),
		storeTime: f.NewHistogramVec(prometheus.HistogramOpts{Name: "metergate_store_duration_seconds",
			Help:    "Time of a call of the store, waiting for a connection included.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}},
			[]string{"operation"}),
		storeErrs: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_store_errors_total",
			Help: "Calls of the store that failed."}, []string{"operation"}),
		overloaded: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_overload_refused_total",
			Help: "Requests refused because too many were running, in all (total), of those without a token (public) or of their user (per_user)."},
			[]string{"reason"}),
	}
	// All that can be, so that the first one shows as a rise.
	for _, reason := range []string{"total", "public", "per_user"} {
		m.overloaded.WithLabelValues(reason)
	}
	for _, reason := range releaseReasons {
		m.released.WithLabelValues(reason)
	}
	for _, operation := range []string{"reserve", "commit", "release", "read"} {
		m.storeErrs.WithLabelValues(operation)
	}
	return m
}

// observe writes one request that has ended into the metrics.
func (x *exchange) observe(took time.Duration) {
	route, plan := "none", ""
	if x.route != nil {
		route = x.route.Pattern
	}
	if x.plan != nil {
		plan = x.plan.Name()
	}
	code := "aborted" // a panic: net/http cuts the connection
	if x.status != 0 {
		code = strconv.Itoa(x.status/100) + "xx"
	}
	m := x.g.metrics
	m.requests.WithLabelValues(route, knownMethod(x.in.Method), code).Inc()
	m.duration.WithLabelValues(route).Observe(took.Seconds())
	if x.took.upstream > 0 {
		m.upstream.WithLabelValues(x.route.UpstreamName).Observe(x.took.upstream.Seconds())
	}
	if x.outcome != "" {
		m.decisions.WithLabelValues(plan, x.outcome).Inc()
	}
}

// knownMethod keeps methods that clients make up out of the labels.
func knownMethod(method string) string {
	switch method {
	case "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS":
		return method
	}
	return "other"
}

// measured is a Store with metrics.
type measured struct {
	Store
	m *Metrics
}

func (s measured) observe(operation string, start time.Time, err *error) {
	s.m.storeTime.WithLabelValues(operation).Observe(time.Since(start).Seconds())
	if *err != nil {
		s.m.storeErrs.WithLabelValues(operation).Inc()
	}
}

func (s measured) Reserve(ctx context.Context, r quota.Request) (_ *quota.Decision, err error) {
	defer s.observe("reserve", time.Now(), &err)
	return s.Store.Reserve(ctx, r)
}

func (s measured) Commit(ctx context.Context, r *quota.Reservation) (_ *quota.Snapshot, err error) {
	defer s.observe("commit", time.Now(), &err)
	return s.Store.Commit(ctx, r)
}

func (s measured) Release(ctx context.Context, r *quota.Reservation) (_ *quota.Snapshot, err error) {
	defer s.observe("release", time.Now(), &err)
	return s.Store.Release(ctx, r)
}

func (s measured) Read(ctx context.Context, user string, t quota.PlanChoice) (_ quota.Snapshot, err error) {
	defer s.observe("read", time.Now(), &err)
	return s.Store.Read(ctx, user, t)
}
