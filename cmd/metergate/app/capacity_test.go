package app

import (
	"strings"
	"testing"

	"metergate/cmd/metergate/host"
	"metergate/config"
)

// What fits is bounded by the least of the configuration, the memory and the open files.
func TestCapacityFitsMemoryAndDescriptors(t *testing.T) {
	const mib = 1 << 20
	automatic := config.MaxInFlight{Total: 10_000, Automatic: true}
	fixed := func(n int) config.MaxInFlight { return config.MaxInFlight{Total: n} }
	for _, c := range []struct {
		name   string
		set    config.MaxInFlight
		limits host.Limits
		tls    bool
		// The bounds: from and to, because what a request needs will be measured again.
		requests, connections [2]int
		warns                 string // empty: nothing
	}{
		{"no limits", automatic, host.Limits{}, false, [2]int{10_000, 10_000}, [2]int{0, 0}, ""},
		{"large", automatic, host.Limits{Memory: 8192 * mib, Descriptors: 1 << 20}, false, [2]int{10_000, 10_000}, [2]int{100_000, 1 << 20}, ""},
		{"a small container", automatic, host.Limits{Memory: 96 * mib, Descriptors: 1 << 20}, false, [2]int{400, 700}, [2]int{700, 1300}, ""},
		{"a small container with TLS", automatic, host.Limits{Memory: 96 * mib}, true, [2]int{300, 500}, [2]int{500, 800}, ""},
		{"smaller than the process", automatic, host.Limits{Memory: 16 * mib}, false, [2]int{1, 10}, [2]int{2, 20}, ""},
		{"more than fits, on purpose", fixed(5000), host.Limits{Memory: 96 * mib, MemoryFrom: "the container"}, false, [2]int{5000, 5000}, [2]int{5001, 5100}, "max_in_flight.total is 5000, but the container has 96 MiB"},
		{"few files", automatic, host.Limits{Descriptors: 256}, false, [2]int{90, 96}, [2]int{90, 98}, "LimitNOFILE=20066"},
		{"enough files for many", automatic, host.Limits{Descriptors: 20_000}, false, [2]int{9900, 9999}, [2]int{9900, 10_000}, ""},
		{"files for less than was set", fixed(5000), host.Limits{Descriptors: 4096}, false, [2]int{2000, 2016}, [2]int{2000, 2020}, "--ulimit nofile=10066"},
		{"a low bound leaves files to connections", fixed(10), host.Limits{Descriptors: 1024}, false, [2]int{10, 10}, [2]int{930, 950}, ""},
		{"nearly no files", automatic, host.Limits{Descriptors: 20}, false, [2]int{1, 1}, [2]int{1, 1}, "LimitNOFILE"},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := &config.Config{MaxInFlight: c.set, Upstreams: map[string]config.Upstream{"u": {Targets: make([]config.Target, 2)}}}
			if c.tls {
				cfg.TLS = &config.TLS{}
			}
			got := capacityOf(cfg, c.limits)
			if got.requests < c.requests[0] || got.requests > c.requests[1] || got.connections < c.connections[0] || got.connections > c.connections[1] {
				t.Errorf("%d requests and %d connections; want %v and %v", got.requests, got.connections, c.requests, c.connections)
			}
			if warnings := strings.Join(got.warnings, "\n"); c.warns == "" && warnings != "" || !strings.Contains(warnings, c.warns) {
				t.Errorf("warnings %q, want %q", warnings, c.warns)
			}
			if d := c.limits.Descriptors; d > 100 && ownDescriptors+got.connections+got.upstreamConnections > d {
				t.Errorf("%d connections of clients and %d to upstreams do not leave %d of %d descriptors", got.connections, got.upstreamConnections, ownDescriptors, d)
			}
		})
	}
}

// Streams of events have descriptors of their own, so that they keep no health check waiting. Without an
// admin token, no streams are served and no descriptors are set aside.
func TestCapacityHasRoomForEvents(t *testing.T) {
	cfg := &config.Config{MaxInFlight: config.MaxInFlight{Total: 10_000, Automatic: true}}
	without := capacityOf(cfg, host.Limits{Descriptors: 1024})
	cfg.Admin.Token = "a token"
	with := capacityOf(cfg, host.Limits{Descriptors: 1024})
	if without.requests != 480 || with.requests != 464 || without.adminConnections != 16 || with.adminConnections != 48 {
		t.Errorf("without a token %+v, with one %+v", without, with)
	}
}
