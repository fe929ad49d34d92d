package admin_test

import (
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"metergate/proxy/admin"
)

// samples returns the samples of a text by name and labels, without what OpenMetrics writes in another way:
// exemplars, and the .0 of whole numbers.
func samples(text string) map[string]string {
	found := map[string]string{}
	for line := range strings.Lines(text) {
		line, _, _ = strings.Cut(strings.TrimSpace(line), " # ")
		if i := strings.LastIndexByte(line, ' '); i > 0 && !strings.HasPrefix(line, "#") {
			name := regexp.MustCompile(`(le|quantile)="([0-9]+)\.0"`).ReplaceAllString(line[:i], `$1="$2"`)
			found[name] = strings.TrimSuffix(line[i+1:], ".0")
		}
	}
	return found
}

// Both formats have the same series with the same numbers. Exemplars are in OpenMetrics alone, and there are no
// series of creation times.
func TestMetricsInBothFormatsAreTheSame(t *testing.T) {
	registry := prometheus.NewRegistry()
	counter := prometheus.NewCounter(prometheus.CounterOpts{Name: "metergate_things_total", Help: "Things."})
	histogram := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "metergate_duration_seconds", Help: "Time.", Buckets: []float64{.5, 1, 10}})
	registry.MustRegister(counter, histogram, collectors.NewBuildInfoCollector())
	counter.Add(3)
	histogram.(prometheus.ExemplarObserver).ObserveWithExemplar(.7, prometheus.Labels{"trace_id": "0af7651916cd43dd8448eb211c80319c"})
	r := newTestAPI(t, func(o *admin.Options) { o.Registry = registry })
	ask := func(accept string) (kind, text string) {
		_, header, text := r.do(http.MethodGet, "/metrics", "", "Accept: "+accept)
		return header.Get("Content-Type"), text
	}
	kind, plain := ask("text/plain")
	if !strings.HasPrefix(kind, "text/plain; version=0.0.4") || strings.Contains(plain, "trace_id") || strings.HasSuffix(plain, "# EOF\n") {
		t.Errorf("%s\n%s", kind, plain)
	}
	// As Prometheus asks.
	kind, open := ask("application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2")
	if !strings.HasPrefix(kind, "application/openmetrics-text; version=1.0.0") || !strings.HasSuffix(open, "# EOF\n") {
		t.Errorf("%s\n%s", kind, open)
	}
	if !strings.Contains(open, `le="1.0"} 1 # {trace_id="0af7651916cd43dd8448eb211c80319c"} 0.7`) || strings.Contains(open, "_created") {
		t.Errorf("no exemplar, or a time of creation:\n%s", open)
	}
	if diff := cmp.Diff(samples(plain), samples(open)); diff != "" || len(samples(open)) < 8 {
		t.Errorf("-text +OpenMetrics:\n%s", diff)
	}
}
