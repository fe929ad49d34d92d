package proxy

import (
	"errors"
	"slices"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"metergate/proxy/jwtauth"
	"metergate/proxy/tracing"
	"metergate/quota"
)

// Metrics are the metrics of a Gateway. No label holds anything that a client chooses.
type Metrics struct {
	requests    *prometheus.CounterVec
	duration    *prometheus.HistogramVec
	inFlight    prometheus.Gauge
	decisions   *prometheus.CounterVec
	counted     *prometheus.CounterVec
	released    *prometheus.CounterVec
	waiting     prometheus.Gauge
	waits       *prometheus.CounterVec
	units       *prometheus.CounterVec
	costMissing *prometheus.CounterVec
	costOverMax *prometheus.CounterVec
	upstream    *prometheus.HistogramVec
	unsettled   prometheus.Counter
	storeTime   *prometheus.HistogramVec
	unknownPlan prometheus.Counter
	// unauthorized counts requests that were answered 401 by the gateway.
	unauthorized prometheus.Counter
	tokens       *prometheus.CounterVec
	// overloaded counts requests that found no free place, see inflight.go.
	overloaded *prometheus.CounterVec
}

// requestBuckets go up to minutes: the service behind the gateway may call a model.
var requestBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120, 300}

// NewMetrics registers the metrics.
func NewMetrics(r prometheus.Registerer) *Metrics {
	f := promauto.With(r)
	m := &Metrics{
		requests: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_requests_total",
			Help: "Requests answered, by the pattern of their route, by method and by class of status."},
			[]string{"route", "method", "code"}),
		duration: f.NewHistogramVec(prometheus.HistogramOpts{Name: "metergate_request_duration_seconds",
			Help:    "Time from a request's headers to the end of its response.",
			Buckets: requestBuckets},
			[]string{"route"}),
		upstream: f.NewHistogramVec(prometheus.HistogramOpts{Name: "metergate_upstream_duration_seconds",
			Help:    "Time from sending a request to an upstream to the headers of its response or to the failure, all tries included.",
			Buckets: requestBuckets},
			[]string{"upstream"}),
		inFlight: f.NewGauge(prometheus.GaugeOpts{Name: "metergate_requests_in_flight",
			Help: "Requests being served now."}),
		decisions: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_decisions_total",
			Help: "Decisions on whether a request fits the quota: admitted, refused, throttled (too many attempts), crowded (too many requests of the user running), observed (above a soft limit, or would have been refused or throttled, but its plan or route only observes), unchecked (the store did not answer; admitted by the last known usage, above a limit or not), error."},
			[]string{"plan", "outcome"}),
		counted: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_counted_total",
			Help: "Requests counted, by endpoint."}, []string{"endpoint"}),
		waiting: f.NewGauge(prometheus.GaugeOpts{Name: "metergate_waiting_requests",
			Help: "Requests that wait for others of their user to end, because their plan has concurrent with a wait."}),
		waits: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_waits_total",
			Help: "Requests that have waited for others of their user to end, by outcome: admitted, refused, client_gone, error."}, []string{"outcome"}),
		units: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_units_total",
			Help: "Units charged, by endpoint; only if a route has a cost."}, []string{"endpoint"}),
		costMissing: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_cost_missing_total",
			Help: "Successful responses that did not report their cost, or not as one whole number, by endpoint."}, []string{"endpoint"}),
		costOverMax: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_cost_over_max_total",
			Help: "Successful responses that reported a higher cost than the most that the route charges, by endpoint."}, []string{"endpoint"}),
		released: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_released_total",
			Help: "Reservations given back, by reason: the upstream's status, timeout, unreachable, client_gone, body (the request body was too large or incomplete), other."},
			[]string{"reason"}),
		unsettled: f.NewCounter(prometheus.CounterOpts{Name: "metergate_unsettled_total",
			Help: "Successful requests that neither the store nor the journal recorded. They are counted only if the process keeps running until the store answers."}),
		unknownPlan: f.NewCounter(prometheus.CounterOpts{Name: "metergate_unknown_plan_total",
			Help: "Requests whose token names a plan that the configuration does not have or does not map; they get the default plan."}),
		unauthorized: f.NewCounter(prometheus.CounterOpts{Name: "metergate_unauthorized_total",
			Help: "Requests that the gateway answered 401: they had no token, or one that is not accepted."}),
		tokens: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_tokens_total",
			Help: "Tokens judged, by the name of their issuer and by outcome: accepted, refused, unavailable (the issuer's keys are not available). Only issuers with a name."},
			[]string{"issuer", "outcome"}),
		storeTime: f.NewHistogramVec(prometheus.HistogramOpts{Name: "metergate_store_duration_seconds",
			Help:    "Duration of a call to the store, including the wait for a connection.",
			Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 5}},
			[]string{"operation"}),
		overloaded: f.NewCounterVec(prometheus.CounterOpts{Name: "metergate_overload_refused_total",
			Help: "Requests refused because too many were running: in total (total), without a token (public), of the same user (per_user), or so many that there was no room for another connection to an upstream (connections)."},
			[]string{"reason"}),
	}
	// Every series begins at 0, so that the first event shows as an increase.
	for _, reason := range []string{"total", "public", "per_user", "connections"} {
		m.overloaded.WithLabelValues(reason)
	}
	for _, outcome := range []string{"admitted", "refused", "client_gone", "error"} {
		m.waits.WithLabelValues(outcome)
	}
	for _, reason := range releaseReasons {
		m.released.WithLabelValues(string(reason))
	}
	return m
}

// recordToken counts a token that was judged.
func (m *Metrics) recordToken(issuer string, err error) {
	outcome := "accepted"
	switch {
	case errors.Is(err, jwtauth.ErrNoKeys):
		outcome = "unavailable"
	case err != nil:
		outcome = "refused"
	}
	m.tokens.WithLabelValues(issuer, outcome).Inc()
}

// recordWait counts a request that has waited.
func (m *Metrics) recordWait(d *quota.Decision, err error) {
	outcome := "refused"
	switch {
	case err == errClientGone:
		outcome = "client_gone"
	case err != nil:
		outcome = "error"
	case d.Admitted:
		outcome = "admitted"
	}
	m.waits.WithLabelValues(outcome).Inc()
}

// recordMetrics adds a request that has ended to the metrics.
func (x *exchange) recordMetrics(duration time.Duration) {
	route, plan := "none", ""
	if x.route != nil {
		route = x.route.Pattern
	}
	if x.plan != nil {
		plan = x.plan.Name()
	}
	code := "aborted" // after a panic net/http cuts the connection
	if x.record.status != 0 {
		code = strconv.Itoa(x.record.status/100) + "xx"
	}
	m := x.g.metrics
	m.requests.WithLabelValues(route, knownMethod(x.in.Method), code).Inc()
	observe(m.duration.WithLabelValues(route), duration, x.span)
	if x.record.upstream > 0 {
		observe(m.upstream.WithLabelValues(x.route.UpstreamName), x.record.upstream, x.span)
	}
	if x.unknownPlan() != "" {
		m.unknownPlan.Inc()
	}
	if x.record.decision != "" {
		m.decisions.WithLabelValues(plan, x.record.decision).Inc()
	}
}

// observe adds a duration to a histogram. If span is sampled, its trace becomes the exemplar of the
// duration's bucket.
func observe(histogram prometheus.Observer, d time.Duration, span *tracing.Span) {
	if h, ok := histogram.(prometheus.ExemplarObserver); ok && span.IsSampled() {
		h.ObserveWithExemplar(d.Seconds(), prometheus.Labels{"trace_id": span.TraceID()})
		return
	}
	histogram.Observe(d.Seconds())
}

var knownMethods = []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}

// knownMethod keeps invented methods out of the labels. It returns no part of the request's first line, since a
// label would keep all of that line in memory.
func knownMethod(method string) string {
	if i := slices.Index(knownMethods, method); i >= 0 {
		return knownMethods[i]
	}
	return "other"
}
