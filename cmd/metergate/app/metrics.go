package app

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy"
)

func buildInfo(version, commit string) prometheus.Collector {
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "metergate_build_info", Help: "Always 1; the labels have the version and commit that run.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit},
	})
	g.Set(1)
	return g
}

func openStreams(s *proxy.Streams) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "metergate_streams_open", Help: "Open streams of usage.",
	}, func() float64 { return float64(s.Open()) })
}

// connectionMetrics are about the connections of clients, and the bounds that follow from what
// the process may use.
type connectionMetrics struct{ app *App }

var (
	connectionsDesc = prometheus.NewDesc("metergate_connections_open",
		"Connections to a listener: listen (public) or admin.listen. More than the maximum means that clients wait.", []string{"listener"}, nil)
	maxConnectionsDesc = prometheus.NewDesc("metergate_connections_max",
		"How many connections to a listener there is room for, by file descriptors and memory. +Inf: there is no bound.", []string{"listener"}, nil)
	acceptErrorsDesc = prometheus.NewDesc("metergate_accept_errors_total",
		"Connections to a listener that could not be accepted, such as for want of a file descriptor.", []string{"listener"}, nil)
	maxInFlightDesc = prometheus.NewDesc("metergate_requests_in_flight_max",
		"How many requests may be served at once: max_in_flight.total, or less if memory or file descriptors are not enough.", nil, nil)
)

// Describe implements prometheus.Collector.
func (m connectionMetrics) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{connectionsDesc, maxConnectionsDesc, acceptErrorsDesc, maxInFlightDesc} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (m connectionMetrics) Collect(ch chan<- prometheus.Metric) {
	for setting, l := range map[string]*listener{"listen": m.app.public, "admin.listen": m.app.admin} {
		most := math.Inf(1)
		if n := l.most.Load(); n > 0 {
			most = float64(n)
		}
		ch <- prometheus.MustNewConstMetric(connectionsDesc, prometheus.GaugeValue, float64(l.open.Load()), setting)
		ch <- prometheus.MustNewConstMetric(maxConnectionsDesc, prometheus.GaugeValue, most, setting)
		ch <- prometheus.MustNewConstMetric(acceptErrorsDesc, prometheus.CounterValue, float64(l.errors.Load()), setting)
	}
	ch <- prometheus.MustNewConstMetric(maxInFlightDesc, prometheus.GaugeValue, float64(m.app.reloader.current.Load().capacity.requests))
}

// storeMetrics are about the store and its guard.
type storeMetrics struct{ store *store }

var (
	openDesc = prometheus.NewDesc("metergate_store_breakers_open",
		"Open circuit breakers: parts of the store that do not answer and are not called. 1 if the whole store is down; up to 16 with a cluster.", nil, nil)
	faultDesc = prometheus.NewDesc("metergate_store_fault",
		"1 while something is wrong with the store: it does not count (cannot_count), it deletes counts when its memory is full (evicts_counts), or gateways do not hear of each other's changes at once (no_announcements). GET /readyz says what to change.", []string{"fault"}, nil)
	failedCallsDesc = prometheus.NewDesc("metergate_store_errors_total",
		"Calls that the store did not answer, whatever became of the request. Those that an open circuit breaker does not send are among them.", []string{"operation"}, nil)
	backlogDesc = prometheus.NewDesc("metergate_journal_backlog",
		"Counts in the journal that wait for the store.", nil, nil)
	journaledDesc = prometheus.NewDesc("metergate_journal_written_total",
		"Counts written to the journal because the store did not answer.", nil, nil)
	replayedDesc = prometheus.NewDesc("metergate_journal_replayed_total",
		"Counts replayed from the journal into the store.", nil, nil)
	droppedDesc = prometheus.NewDesc("metergate_journal_dropped_total",
		"Counts dropped from the journal because their window is no longer kept.", nil, nil)
	lostDesc = prometheus.NewDesc("metergate_store_holds_lost_total",
		"Requests counted although the store no longer had their hold: it lost the hold, or the lease ran out.", nil, nil)
	expiredDesc = prometheus.NewDesc("metergate_store_leases_expired_total",
		"Holds that nobody had settled when their lease ran out: their gateway died.", nil, nil)
	subscribeFailsDesc = prometheus.NewDesc("metergate_store_subscribe_fails",
		"1 while Redis serves calls but does not let the gateway subscribe to changes: streams show those made on other gateways up to 12 s late.", nil, nil)
	dataLostDesc = prometheus.NewDesc("metergate_store_data_lost",
		"1 after Redis was found to have lost its data: it was emptied, replaced or restored from a backup. 0 once the data are back or were accepted, and with on_data_loss: continue after an hour.", nil, nil)
	dataLossesDesc = prometheus.NewDesc("metergate_store_data_losses_total",
		"How often Redis was found to have lost its data; in a cluster, for each master.", nil, nil)
	uncheckedDesc = prometheus.NewDesc("metergate_unchecked_total",
		"Requests admitted by the last known usage because the store did not answer.", nil, nil)
	journalErrorsDesc = prometheus.NewDesc("metergate_journal_errors_total",
		"Counts that could not be written to the journal, or whose journal was deleted or replaced. Until they are on disk or in the store they are lost with the process.", nil, nil)
	fileBytesDesc = prometheus.NewDesc("metergate_file_bytes",
		"Size of journal.db or usage.db.", []string{"file"}, nil)
	fileFreeDesc = prometheus.NewDesc("metergate_file_free_bytes",
		"Part of journal.db or usage.db that is free for later counts. When it is a quarter of the file and at least 16 MiB, the file is compacted.", []string{"file"}, nil)
	fileReplacedDesc = prometheus.NewDesc("metergate_file_replaced_total",
		"How often journal.db or usage.db was deleted or replaced while the gateway had it open, and had to be written again.", []string{"file"}, nil)
)

// Describe implements prometheus.Collector.
func (m storeMetrics) Describe(ch chan<- *prometheus.Desc) {
	prometheus.DescribeByCollect(m, ch)
}

// Collect implements prometheus.Collector.
func (m storeMetrics) Collect(ch chan<- prometheus.Metric) {
	st := m.store.Stats()
	gauge := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(v), labels...)
	}
	counter := func(d *prometheus.Desc, v int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	gauge(openDesc, int64(st.OpenBreakers))
	for fault, there := range m.store.faultNames() {
		value := 0.0
		if there {
			value = 1
		}
		ch <- prometheus.MustNewConstMetric(faultDesc, prometheus.GaugeValue, value, fault)
	}
	for operation, n := range st.FailedCalls {
		counter(failedCallsDesc, n, operation)
	}
	gauge(backlogDesc, st.Backlog)
	flag := func(d *prometheus.Desc, set bool) {
		if set {
			gauge(d, 1)
		} else {
			gauge(d, 0)
		}
	}
	flag(subscribeFailsDesc, m.store.backend.SubscribeFails())
	flag(dataLostDesc, m.store.backend.DataFault() != nil)
	counter(dataLossesDesc, m.store.backend.DataLosses())
	counter(journaledDesc, st.Journaled)
	counter(replayedDesc, st.Replayed)
	counter(droppedDesc, st.Dropped)
	counter(journalErrorsDesc, st.JournalErrors)
	counter(fileReplacedDesc, st.JournalReplaced, "journal.db")
	counter(fileReplacedDesc, m.store.backend.FileReplaced(), "usage.db")
	size, free := m.store.backend.FileSpace()
	for _, f := range []struct {
		name       string
		size, free int64
	}{{"journal.db", st.JournalSize, st.JournalFree}, {"usage.db", size, free}} {
		if f.size > 0 {
			gauge(fileBytesDesc, f.size, f.name)
			gauge(fileFreeDesc, f.free, f.name)
		}
	}
	counter(uncheckedDesc, st.Unchecked)
	counter(lostDesc, m.store.backend.LostHolds())
	counter(expiredDesc, m.store.backend.ExpiredHolds())
}

// targetMetrics are about the targets of the upstreams in force.
type targetMetrics struct{ reloader *reloader }

var (
	targetUpDesc = prometheus.NewDesc("metergate_upstream_target_up",
		"1 if a target gets requests, 0 if a failed health check, an ejection or a drain keeps it out.", []string{"upstream", "target"}, nil)
	targetDrainedDesc = prometheus.NewDesc("metergate_upstream_target_drained",
		"1 if an operator has drained a target, otherwise 0.", []string{"upstream", "target"}, nil)
	targetInFlightDesc = prometheus.NewDesc("metergate_upstream_target_requests_in_flight",
		"Requests that a target is serving, also one of weight 0.", []string{"upstream", "target"}, nil)
)

// Describe implements prometheus.Collector.
func (m targetMetrics) Describe(ch chan<- *prometheus.Desc) {
	ch <- targetUpDesc
	ch <- targetDrainedDesc
	ch <- targetInFlightDesc
}

// Collect implements prometheus.Collector.
func (m targetMetrics) Collect(ch chan<- prometheus.Metric) {
	for name, pool := range m.reloader.current.Load().upstreams {
		for _, t := range pool.Targets() {
			ch <- prometheus.MustNewConstMetric(targetInFlightDesc, prometheus.GaugeValue, float64(t.InFlight), name, t.URL)
			if t.Weight == 0 {
				continue
			}
			up, drained := 0.0, 0.0
			switch {
			case t.Drained != nil:
				drained = 1
			case t.Healthy && t.EjectedUntil.IsZero():
				up = 1
			}
			ch <- prometheus.MustNewConstMetric(targetUpDesc, prometheus.GaugeValue, up, name, t.URL)
			ch <- prometheus.MustNewConstMetric(targetDrainedDesc, prometheus.GaugeValue, drained, name, t.URL)
		}
	}
}
