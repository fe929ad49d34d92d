package app

import (
	"fmt"
	"reflect"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/config"
	"metergate/proxy/tracing"
)

// A traced is what a generation needs to trace requests; the zero value: nothing is traced.
type traced struct {
	tracer    *tracing.Tracer
	collector *tracing.Collector
}

// buildTracing returns what traces requests by a configuration. If that has not changed, it is taken over
// from the generation before, with its connections.
func (b *builder) buildTracing(cfg *config.Config, before *generation) (t traced, err error) {
	c := cfg.Tracing
	switch {
	case c == nil:
		return traced{}, nil
	case before != nil && reflect.DeepEqual(before.cfg.Tracing, c):
		return before.traced, nil
	}
	if t.collector, err = newCollector(c, b.version); err != nil {
		return traced{}, err
	}
	if t.tracer, err = b.traces.NewTracer(tracing.TracerOptions{Service: c.Service, Version: b.version, Sample: c.Sample}); err != nil {
		return traced{}, fmt.Errorf("tracing: %w", err)
	}
	return t, nil
}

// newCollector returns the collector of a configuration.
func newCollector(c *config.Tracing, version string) (*tracing.Collector, error) {
	tls, err := c.TLS.Client()
	if err != nil {
		return nil, fmt.Errorf("tracing.tls: %w", err)
	}
	return tracing.NewCollector(tracing.CollectorOptions{
		URL: c.Endpoint(), Header: c.RequestHeaders(), UserAgent: "metergate/" + version, Timeout: c.Timeout, TLS: tls,
	}), nil
}

// traceMetrics are about the spans that the gateway sends, where it sends any.
type traceMetrics struct{ app *App }

var (
	spansSentDesc = prometheus.NewDesc("metergate_spans_sent_total",
		"Spans that the collector of tracing.url has accepted.", nil, nil)
	spansDroppedDesc = prometheus.NewDesc("metergate_spans_dropped_total",
		"Spans that were dropped, by reason: full (more waited than there is room for), failed (the collector did not accept them in time), rejected (by the collector).", []string{"reason"}, nil)
)

// Describe implements prometheus.Collector.
func (traceMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- spansSentDesc
	ch <- spansDroppedDesc
}

// Collect implements prometheus.Collector.
func (m traceMetrics) Collect(ch chan<- prometheus.Metric) {
	if m.app.reloader.current.Load().traced.tracer == nil {
		return
	}
	st := m.app.reloader.builder.traces.Stats()
	ch <- prometheus.MustNewConstMetric(spansSentDesc, prometheus.CounterValue, float64(st.Sent))
	for reason, n := range map[string]int64{"full": st.Full, "failed": st.Failed, "rejected": st.Rejected} {
		ch <- prometheus.MustNewConstMetric(spansDroppedDesc, prometheus.CounterValue, float64(n), reason)
	}
}
