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

// BenchmarkClaimCrossings measures how long the writer may have to wait for a claim while so many accounts have
// crossings.
func BenchmarkClaimCrossings(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		accounts := make([]string, n)
		for i := range accounts {
			accounts[i] = fmt.Sprint("user-", i)
		}
		for _, most := range []int{0, 64} {
			b.Run(fmt.Sprintf("%d accounts, at most %d", n, most), func(b *testing.B) {
				clock := quotatest.NewClock(noon)
				s := open(b, b.TempDir(), Options{Now: clock.Now})
				s.crossings.add(accounts, noon)
				b.ReportAllocs()
				for b.Loop() {
					clock.Advance(quota.ClaimLife) // what was claimed is due again
					claims, err := s.ClaimCrossings(ctx, most)
					if err != nil || len(claims.Claims) != most || claims.Waiting != int64(n) {
						b.Fatalf("%d claims, %d wait, error %v", len(claims.Claims), claims.Waiting, err)
					}
				}
			})
		}
	}
}
