package main

import (
	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy"
)

func openStreams(s *proxy.Streams) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "metergate_streams_open", Help: "Streams of usage that are open.",
	}, func() float64 { return float64(s.Open()) })
}

// guardMetrics shows what the store and package guard do.
type guardMetrics struct{ store *guardedStore }

var (
	openDesc = prometheus.NewDesc("metergate_store_breakers_open",
		"Parts of the store that do not answer and are not asked, 1 for the whole of it; of a cluster up to 16.", nil, nil)
	backlogDesc = prometheus.NewDesc("metergate_journal_backlog",
		"Counts that wait in the journal for the store.", nil, nil)
	journaledDesc = prometheus.NewDesc("metergate_journal_written_total",
		"Counts that have gone to the journal because the store did not answer.", nil, nil)
	replayedDesc = prometheus.NewDesc("metergate_journal_replayed_total",
		"Counts that have come from the journal into the store.", nil, nil)
	droppedDesc = prometheus.NewDesc("metergate_journal_dropped_total",
		"Counts in the journal that were too old to be read by anybody.", nil, nil)
	lostDesc = prometheus.NewDesc("metergate_store_holds_lost_total",
		"Requests counted whose hold the store did not have any more: it lost it, or the lease ran out.", nil, nil)
	expiredDesc = prometheus.NewDesc("metergate_store_leases_expired_total",
		"Holds in the store that nobody had settled when their lease ran out: their gateway died.", nil, nil)
	uncheckedDesc = prometheus.NewDesc("metergate_unchecked_total",
		"Requests that passed while the store did not answer, by the last known usage.", nil, nil)
	journalErrorsDesc = prometheus.NewDesc("metergate_journal_errors_total",
		"Counts that no journal took; they wait in memory, and die with the process.", nil, nil)
)

// Describe names the metrics.
func (m guardMetrics) Describe(ch chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(m, ch)
}

// Collect reads them.
func (m guardMetrics) Collect(ch chan<- prometheus.Metric) {
	st := m.store.Stats()
	gauge := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v))
	}
	counter := func(d *prometheus.Desc, v int64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v))
	}
	gauge(openDesc, int64(st.OpenBreakers))
	gauge(backlogDesc, st.Backlog)
	counter(journaledDesc, st.Journaled)
	counter(replayedDesc, st.Replayed)
	counter(droppedDesc, st.Dropped)
	counter(journalErrorsDesc, st.JournalErrors)
	counter(uncheckedDesc, st.Unchecked)
	counter(lostDesc, m.store.lost())
	counter(expiredDesc, m.store.expired())
}

// targetMetrics shows the targets of the upstreams in force.
type targetMetrics struct{ reloader *reloader }

var (
	targetUpDesc = prometheus.NewDesc("metergate_upstream_target_up",
		"1 if a target gets requests, 0 if checks or failed requests keep it out.", []string{"upstream", "target"}, nil)
	targetInFlightDesc = prometheus.NewDesc("metergate_upstream_target_requests_in_flight",
		"Requests that a target is serving.", []string{"upstream", "target"}, nil)
)

// Describe names the metrics.
func (m targetMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- targetUpDesc
	ch <- targetInFlightDesc
}

// Collect reads them.
func (m targetMetrics) Collect(ch chan<- prometheus.Metric) {
	for name, pool := range m.reloader.current.Load().upstreams {
		for _, t := range pool.Targets() {
			up := 0.0
			if t.Healthy && t.EjectedUntil.IsZero() {
				up = 1
			}
			ch <- prometheus.MustNewConstMetric(targetUpDesc, prometheus.GaugeValue, up, name, t.URL)
			ch <- prometheus.MustNewConstMetric(targetInFlightDesc, prometheus.GaugeValue, float64(t.InFlight), name, t.URL)
		}
	}
}
