package bench

import (
	"fmt"
	"regexp"
	"strconv"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
)

// A sample is what a gateway uses at one moment.
type sample struct {
	inFlight       float64 // requests
	resident, heap float64 // bytes: in memory; of the Go heap, in use
	goroutines     float64
	descriptors    float64
}

// sampleColumns are the columns of tables of samples.
var sampleColumns = []struct {
	name  string
	value func(sample) float64
	text  func(float64) string
	// slack is what may come and go without being a leak: a pool that fills, or a late
	// garbage collection.
	slack float64
}{
	{"resident", func(s sample) float64 { return s.resident }, mebibytes, 8 << 20},
	{"heap in use", func(s sample) float64 { return s.heap }, mebibytes, 4 << 20},
	{"goroutines", func(s sample) float64 { return s.goroutines }, number, 20},
	{"descriptors", func(s sample) float64 { return s.descriptors }, number, 20},
}

func mebibytes(v float64) string { return fmt.Sprintf("%.1f MiB", v/(1<<20)) }

func valuesOf(samples []sample, value func(sample) float64) []float64 {
	values := make([]float64, len(samples))
	for i, s := range samples {
		values[i] = value(s)
	}
	return values
}

var sampleMetrics = regexp.MustCompile(`(?m)^(metergate_requests_in_flight|go_memstats_heap_inuse_bytes|go_goroutines) (\S+)$`)

// sampleOf measures a gateway from outside, and reads its metrics.
func sampleOf(t testing.TB, s *server) sample {
	t.Helper()
	status, body := gatewaytest.Get(s.admin+"/metrics", "")
	found := map[string]float64{}
	for _, m := range sampleMetrics.FindAllStringSubmatch(body, -1) {
		found[m[1]], _ = strconv.ParseFloat(m[2], 64)
	}
	if status != 200 || len(found) != 3 {
		t.Fatalf("GET /metrics of %s: status %d, and only the metrics %v", s.name, status, found)
	}
	return sample{
		inFlight:    found["metergate_requests_in_flight"],
		heap:        found["go_memstats_heap_inuse_bytes"],
		goroutines:  found["go_goroutines"],
		resident:    s.resident(t),
		descriptors: s.descriptors(t),
	}
}
