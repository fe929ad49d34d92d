package bench

import (
	"fmt"
	"testing"
)

// BenchmarkConnections shows how the processor time of a request depends on how many are under way,
// and on how many users send them, for the bare proxy and for those that count exactly.
func BenchmarkConnections(b *testing.B) {
	upstream := startRole(b, "upstream", "upstream")
	onBolt, _ := startLoaded(b, "metergate, embedded", "embedded:"+b.TempDir(), upstream.url(), 2, loadPaths(1))
	servers := []*server{startBare(b, upstream.url()), startPair(b, upstream.url(), noLimit), startOnRedis(b, upstream.url()), onBolt}
	for _, p := range peers {
		if p.name == luaName && p.missing() == "" {
			servers = append(servers, p.start(b, upstream.url(), noLimit))
		}
	}
	few, short := max(3, (*rounds+1)/2), *roundFor/2 // there are seven sizes
	measure := func(users, connections int) []series {
		f := traffic{requests: loadRequests(users, loadPaths(1)...), connections: connections, lasts: short}
		all := inTurn(b, few, servers, f)
		fewFailed(b, all)
		return all
	}
	showAll := func(what string, sizes []string, all [][]series) {
		for _, c := range []column{cpuColumn, redisColumn.comparedWith(pairName), rateColumn, p50Column} {
			show(b, sizeTable(fmt.Sprintf("%s, %d rounds of %v, by %s", c.name, few, short, what), c, sizes, all, bareName))
		}
	}
	for b.Loop() {
		var sizes []string
		var all [][]series
		for _, n := range []int{1, 2, 8, 64, 512} {
			sizes, all = append(sizes, fmt.Sprint(n)), append(all, measure(100, n))
		}
		showAll("connections", sizes, all)
		sizes, all = nil, nil
		for _, n := range []int{1, 10_000} {
			sizes, all = append(sizes, fmt.Sprint(n)), append(all, measure(n, 32))
		}
		showAll("users, 32 connections", sizes, all)
	}
	b.ReportMetric(0, "ns/op") // means nothing here
}
