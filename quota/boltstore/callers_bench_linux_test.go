package boltstore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"metergate/quota"
)

// BenchmarkCallers measures the processor time, kernel included, of a reserve and a commit by callers that each wait for
// their count to be on disk.
func BenchmarkCallers(b *testing.B) {
	for _, callers := range []int{1, 32, 512} {
		b.Run(fmt.Sprint(callers), func(b *testing.B) {
			s, p := open(b, b.TempDir(), Options{}), plan(quota.MaxAmount)
			var left atomic.Int64
			work := func(n int64) {
				left.Store(n)
				var wait sync.WaitGroup
				for i := range callers {
					user := fmt.Sprint("user-", i)
					wait.Go(func() {
						for left.Add(-1) >= 0 {
							count(b, s, admit(b, s, request(user, p)))
						}
					})
				}
				wait.Wait()
			}
			work(int64(4 * callers))
			b.ResetTimer()
			before, written := processorTime(), countWrites(b, s)
			work(int64(b.N))
			b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/op")
			b.ReportMetric(float64(b.N)/float64(countWrites(b, s)-written), "commits/write")
		})
	}
}

func processorTime() int64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return u.Utime.Nano() + u.Stime.Nano()
}
