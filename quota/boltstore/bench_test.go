package boltstore

import (
	"fmt"
	"sync/atomic"
	"testing"

	"metergate/quota"
	"metergate/quota/quotatest"
)

func BenchmarkStore(b *testing.B) { quotatest.Benchmark(b, open(b, b.TempDir(), Options{})) }

// How many of the calls of 64 users at a time share a sync of the disk.
func BenchmarkSharedWrites(b *testing.B) {
	s, p := open(b, b.TempDir(), Options{}), plan(quota.MaxRequests)
	before := writes(b, s)
	b.SetParallelism(32) // times GOMAXPROCS
	var users atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		user := fmt.Sprint("user-", users.Add(1))
		for pb.Next() {
			count(b, s, admit(b, s, request(user, p)))
		}
	})
	b.ReportMetric(float64(b.N)/float64(writes(b, s)-before), "commits/write")
}
