package bench

import (
	"fmt"
	"testing"

	"metergate/quota/redisstore/redistest"
)

// BenchmarkCompare sends the same load straight to an upstream, through proxies that only
// forward, and through proxies that meter, among them the gateway on Redis and on its embedded
// store. For every metered request the gateway verifies a token, reserves and settles in two
// limits, and sets its headers. Ratios compare with the bare proxy that keeps its connections,
// and once more with one that is tuned as the gateway is; those of Redis' time compare with the minimal
// pair of scripts.
func BenchmarkCompare(b *testing.B) {
	upstream := startRole(b, "upstream, no proxy", "upstream")
	servers := []*server{upstream, startBare(b, upstream.url()), startRole(b, tunedName, "tuned", upstream.url()),
		startRole(b, "bare, standard transport", "standard", upstream.url())}
	servers = append(servers, startPeers(b, upstream.url())...)
	checkMeters(b, startPair(b, upstream.url(), 3), true)
	servers = append(servers, startPair(b, upstream.url(), noLimit))
	onRedis := startOnRedis(b, upstream.url())
	onBolt, _ := startLoaded(b, "metergate, embedded", "embedded:"+b.TempDir(), upstream.url(), 2, loadPaths(1))
	servers = append(servers, onRedis, onBolt)
	for b.Loop() {
		all := inTurn(b, *rounds, servers, traffic{requests: loadRequests(100, loadPaths(1)...), connections: 32, lasts: *roundFor})
		fewFailed(b, all)
		bare := find(all, bareName)
		show(b, ratioTable(fmt.Sprintf("32 connections, %d rounds of %v", *rounds, *roundFor),
			[]column{cpuColumn, tunedColumn, redisColumn.comparedWith(pairName), rateColumn, p50Column, p99Column}, all, bare))
		againstTuned := func(name string) string {
			ratios := find(all, name).ratios(find(all, tunedName), cpuColumn)
			return fmt.Sprintf("; compared with the tuned one %s%s", ratio(median(ratios)), spread(ratios, ratio))
		}
		redisGoal.measured(b, find(all, onRedis.name).ratios(bare, cpuColumn), againstTuned(onRedis.name))
		scriptGoal.measured(b, find(all, onRedis.name).ratios(find(all, pairName), redisColumn), "")
		embeddedGoal.measured(b, find(all, onBolt.name).ratios(bare, cpuColumn), againstTuned(onBolt.name))
	}
	b.ReportMetric(0, "ns/op") // means nothing here
}

// noLimit is a limit that no load reaches.
const noLimit = 1_000_000_000

// BenchmarkRate sends 1,000 requests a second through the bare proxy and through the
// gateway, without waiting for responses. It shows what users notice of the gateway. The
// bare proxy that sends two PINGs to Redis for each request shows how much of that is two
// round trips, and the one with the minimal pair of scripts what exact counting adds at the least.
func BenchmarkRate(b *testing.B) {
	redis := redistest.Start(b)
	upstream := startRole(b, "upstream", "upstream")
	pings := startRole(b, "bare, two PINGs", "pings", upstream.url(), redis.URL())
	pings.redis = processOf(b, redis)
	servers := []*server{startBare(b, upstream.url()), pings, startPair(b, upstream.url(), noLimit), startOnRedis(b, upstream.url())}
	f := traffic{requests: loadRequests(100, loadPaths(1)...), connections: 32, rate: 1000, lasts: 5 * *roundFor}
	for b.Loop() {
		all := inTurn(b, *rounds, servers, f)
		fewFailed(b, all)
		show(b, differenceTable(fmt.Sprintf("%d requests/s, %d rounds of %v", f.rate, *rounds, f.lasts),
			[]column{p50Column, p90Column, p99Column, p999Column, cpuColumn, redisColumn, late50Column, late99Column}, all[0], all[1:]...))
		pair := all[2].more(all[1], p50Column)
		addedGoal.measured(b, all[3].more(all[1], p50Column), fmt.Sprintf("; the minimal pair adds %s%s", duration(median(pair)), spread(pair, duration)))
	}
	b.ReportMetric(0, "ns/op") // means nothing here
}

// fewFailed reports failed requests. It fails the benchmark if they are more than one in
// a thousand, because the other figures would then be misleading.
func fewFailed(t testing.TB, all []series) {
	t.Helper()
	for _, s := range all {
		for i, r := range s.rounds {
			if r.failed > 0 {
				t.Logf("%s: %d of %d requests failed in round %d", s.name, r.failed, r.sent, i+1)
			}
			if r.failed*1000 > r.sent {
				t.Fail()
			}
		}
	}
}
