package bench

import (
	"fmt"
	"testing"

	"metergate/quota/redisstore/redistest"
)

// BenchmarkCosts compares gateways whose requests cost 5 units, in two limits on units, with one
// that only counts requests, on Redis and on the embedded store. Each has a Redis of its own, whose
// processor time is shown as well.
func BenchmarkCosts(b *testing.B) {
	upstream := startRole(b, "upstream", "upstream")
	start := func(store string) (servers []*server) {
		for _, c := range []struct{ name, quantity, cost string }{
			{"no costs", "requests", ""},
			{"a fixed cost", "units", ", cost: 5"},
			{"a cost from a header", "units", ", cost: { max: 20, from: header X-Report-Cost }"},
		} {
			url, redis := "embedded:"+b.TempDir(), (*server)(nil)
			if store == "Redis" {
				r := redistest.Start(b)
				url, redis = r.URL(), processOf(b, r)
			}
			limits := ""
			for _, l := range loadLimits[:2] {
				limits += fmt.Sprintf("      - { %s: 1000000000, %s }\n", c.quantity, l)
			}
			s, _ := startConfigured(b, c.name, url, upstream.url(), limits,
				"  - { match: \"POST /api/analyze\", endpoint: analyze, upstream: analysis"+c.cost+" }\n")
			s.redis = redis
			servers = append(servers, s)
		}
		return servers
	}
	f := traffic{requests: loadRequests(100, "/api/analyze?cost=5"), connections: 32, lasts: *roundFor}
	for b.Loop() {
		for _, store := range []string{"Redis", "embedded"} {
			columns := []column{cpuColumn}
			if store == "Redis" {
				columns = append(columns, redisColumn, bothColumn)
			}
			all := inTurn(b, *rounds, start(store), f)
			fewFailed(b, all)
			show(b, ratioTable(fmt.Sprintf("%s, %d rounds of %v", store, *rounds, *roundFor), append(columns, rateColumn), all, all[0]))
		}
	}
	b.ReportMetric(0, "ns/op") // means nothing here
}
