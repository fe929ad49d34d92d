package boltstore

import (
	"fmt"
	"sync/atomic"
	"testing"

	"metergate/quota"
)

// A request's two calls: one after the other, and those of 64 users at a time,
// who share the disk's syncs.
func BenchmarkReserveCommit(b *testing.B) {
	b.Run("alone", func(b *testing.B) {
		s, p := open(b, b.TempDir(), Options{}), plan(quota.MaxRequests)
		for b.Loop() {
			count(b, s, admit(b, s, request("u", p)))
		}
	})
	b.Run("parallel", func(b *testing.B) {
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
	})
}

// What a request costs that is not counted: no disk.
func BenchmarkReserveRelease(b *testing.B) {
	s, p := open(b, b.TempDir(), Options{}), plan(quota.MaxRequests)
	var users atomic.Int64
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		user := fmt.Sprint("user-", users.Add(1))
		for pb.Next() {
			if _, err := s.Release(ctx, admit(b, s, request(user, p))); err != nil {
				b.Error(err)
			}
		}
	})
}
