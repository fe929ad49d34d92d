package boltstore

import (
	"fmt"
	"sync/atomic"
	"testing"

	"metergate/quota"
	"metergate/quota/quotatest"
)

func BenchmarkStore(b *testing.B) { quotatest.Benchmark(b, open(b, b.TempDir(), Options{})) }

// BenchmarkSharedWrites measures how many commits of 64 concurrent users share one sync.
func BenchmarkSharedWrites(b *testing.B) {
	s, p := open(b, b.TempDir(), Options{}), plan(quota.MaxAmount)
	before := countWrites(b, s)
	b.SetParallelism(32) // times GOMAXPROCS
	var users atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		user := fmt.Sprint("user-", users.Add(1))
		for pb.Next() {
			count(b, s, admit(b, s, request(user, p)))
		}
	})
	b.ReportMetric(float64(b.N)/float64(countWrites(b, s)-before), "commits/write")
}
