package redisstore

import (
	"strings"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
)

// BenchmarkPauses measures the processor time of Redis for a request of a user who pauses between two requests, the figures of
// docs/performance-notes.md. Run it once:
//
//	go test ./quota/redisstore -run '^$' -bench Pauses -benchtime 1x
func BenchmarkPauses(b *testing.B) {
	const users, rounds = 100, 40
	month := quota.Limit{Amount: quota.MaxAmount, Period: quota.Month}
	for _, second := range []quota.Period{quota.Day, quota.Minute} {
		p := quotatest.NewPlan("p", month, quota.Limit{Amount: quota.MaxAmount, Period: second})
		b.Run("month and "+second.String(), func(b *testing.B) {
			for b.Loop() {
				for _, pause := range []time.Duration{time.Second, 20 * time.Second, 2 * time.Minute, 10 * time.Minute, 2 * time.Hour} {
					h := newHistoryBench(b, p, 1)
					h.begin()
					// Counts of minutes stay for two hours: only then as many end as begin.
					warm := min(600, max(rounds, int(3*time.Hour/pause)))
					var times []float64 // µs a request
					for round := range warm + rounds {
						h.advance(pause)
						h.request(h.without, "u", users, 0, func(requests func()) {
							before := processorTime(b, h.without)
							requests()
							if round >= warm {
								times = append(times, (processorTime(b, h.without)-before)/users)
							}
						})
					}
					sum := 0.0
					for _, t := range times {
						sum += t
					}
					b.ReportMetric(sum/rounds, "µs-each-"+strings.NewReplacer("h0m0s", "h", "m0s", "m").Replace(pause.String()))
				}
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}
