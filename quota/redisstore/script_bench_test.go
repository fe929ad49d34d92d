package redisstore

import (
	"fmt"
	"testing"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// scriptTime returns what Redis has spent on scripts since its statistics were reset, in µs. It
// does not depend on the network, and only a little on the machine's load.
func scriptTime(b *testing.B, s *Store) float64 {
	stats, err := commands(s).InfoMap(ctx, "commandstats").Result()
	if err != nil {
		b.Fatal(err)
	}
	var calls int
	var micros float64
	if _, err := fmt.Sscanf(stats["Commandstats"]["cmdstat_evalsha"], "calls=%d,usec=%f", &calls, &micros); err != nil {
		b.Fatal(err)
	}
	return micros
}

// BenchmarkScripts measures the two calls of a request, one after the other, under a plan with
// one limit and under one with eight.
func BenchmarkScripts(b *testing.B) {
	s := openStore(b, redistest.Start(b).URL())
	eight := []quota.Limit{}
	for _, per := range []quota.Period{quota.Month, quota.Week, quota.Day, quota.Hour} {
		for _, endpoint := range []string{"", "analyze"} {
			eight = append(eight, quota.Limit{Amount: quota.MaxAmount, Period: per, Endpoint: endpoint})
		}
	}
	for name, p := range map[string]*quota.Plan{
		"one limit":    quotatest.NewPlan("one", eight[0]),
		"eight limits": quotatest.NewPlan("eight", eight...),
	} {
		b.Run(name, func(b *testing.B) {
			if err := commands(s).ConfigResetStat(ctx).Err(); err != nil {
				b.Fatal(err)
			}
			n := 0
			for b.Loop() {
				n++
				r := requestBy(p, fmt.Sprint("user-", n%100))
				d, err := s.Reserve(ctx, r)
				if err != nil || !d.Admitted {
					b.Fatalf("admitted %v, error %v", d.Admitted, err)
				}
				if _, err := s.Commit(ctx, &d.Reservation); err != nil {
					b.Fatal(err)
				}
				s.Forget(&d.Reservation)
			}
			b.ReportMetric(scriptTime(b, s)/float64(n), "redis-µs/op")
		})
	}
}
