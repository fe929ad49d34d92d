package redisstore

import (
	"fmt"
	"strconv"
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

// processorTime returns what the process of Redis has used so far, in µs. Other processes disturb it
// less than scriptTime, since it does not go on while Redis has to wait for a processor.
func processorTime(b *testing.B, s *Store) (micros float64) {
	stats, err := commands(s).InfoMap(ctx, "cpu").Result()
	if err != nil {
		b.Fatal(err)
	}
	for _, name := range []string{"used_cpu_user", "used_cpu_sys"} {
		seconds, err := strconv.ParseFloat(stats["CPU"][name], 64)
		if err != nil {
			b.Fatal(err)
		}
		micros += 1e6 * seconds
	}
	return micros
}

// BenchmarkScripts measures the two calls of a request, one after the other: under a plan with
// one limit and under one with eight, on requests; on units, of which a request holds 20 and is
// charged 5; and on requests, where requests cost the same. With a rest, a request makes a third call: it
// is charged 5 in the first step, and 5 in the second.
func BenchmarkScripts(b *testing.B) {
	s := openStore(b, redistest.Start(b).URL())
	limits := func(q quota.Quantity) (eight []quota.Limit) {
		for _, per := range []quota.Period{quota.Month, quota.Week, quota.Day, quota.Hour} {
			for _, endpoint := range []string{"", "analyze"} {
				eight = append(eight, quota.Limit{Amount: quota.MaxAmount, Period: per, Endpoint: endpoint, Quantity: q})
			}
		}
		return eight
	}
	for _, c := range []struct {
		name   string
		plan   *quota.Plan
		priced bool
		rest   bool
	}{
		{"one limit", quotatest.NewPlan("one", limits(quota.Requests)[0]), false, false},
		{"one limit, with a cost", quotatest.NewWeightedPlan("one", limits(quota.Requests)[0]), true, false},
		{"one limit on units, with a cost", quotatest.NewWeightedPlan("one", limits(quota.Units)[0]), true, false},
		{"one limit on units, with a rest", quotatest.NewWeightedPlan("one", limits(quota.Units)[0]), true, true},
		{"eight limits", quotatest.NewPlan("eight", limits(quota.Requests)...), false, false},
		{"eight limits on units, with a cost", quotatest.NewWeightedPlan("eight", limits(quota.Units)...), true, false},
	} {
		b.Run(c.name, func(b *testing.B) {
			if err := commands(s).ConfigResetStat(ctx).Err(); err != nil {
				b.Fatal(err)
			}
			n, before := 0, processorTime(b, s)
			for b.Loop() {
				n++
				r := requestBy(c.plan, fmt.Sprint("user-", n%100))
				if c.priced {
					r.Units = 20
				}
				d, err := s.Reserve(ctx, r)
				if err != nil || !d.Admitted {
					b.Fatalf("admitted %v, error %v", d.Admitted, err)
				}
				if c.priced {
					d.Reservation.Unused = 15
				}
				if c.rest {
					d.Reservation.Rest, d.Reservation.RestCharged = 15, 5
				}
				if _, err := s.Commit(ctx, &d.Reservation); err != nil {
					b.Fatal(err)
				}
				if c.rest {
					if _, err := s.CommitRest(ctx, &d.Reservation); err != nil {
						b.Fatal(err)
					}
				}
				s.Forget(&d.Reservation)
			}
			b.ReportMetric((processorTime(b, s)-before)/float64(n), "redis-cpu-µs/op")
			b.ReportMetric(scriptTime(b, s)/float64(n), "redis-µs/op")
		})
	}
}
