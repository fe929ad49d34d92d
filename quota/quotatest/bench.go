package quotatest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"metergate/quota"
)

// batchSize is how many requests are in flight at most. Setting up and clearing away is not
// measured, but stopping the timer takes time as well, so it is done for a batch at a time.
const batchSize = 100

// Benchmark measures each call of a store whose clock is the real one. The plan is that of the
// example configuration: two limits of all endpoints and one of a single endpoint.
func Benchmark(b *testing.B, s quota.Store) {
	bench := &storeBenchmark{store: s, plan: NewPlan("bench",
		quota.Limit{Amount: quota.MaxAmount, Period: quota.Month},
		quota.Limit{Amount: quota.MaxAmount, Period: quota.Minute},
		quota.Limit{Amount: quota.MaxAmount, Period: quota.Month, Endpoint: "analyze"})}
	for i := range 10 {
		bench.users = append(bench.users, fmt.Sprint("bench-", i))
	}
	b.Run("reserve", bench.measureReserve)
	b.Run("commit", func(b *testing.B) { bench.measureSettle(b, s.Commit) })
	b.Run("release", func(b *testing.B) { bench.measureSettle(b, s.Release) })
	b.Run("refused", bench.measureRefused)
	b.Run("read", bench.measureRead)
	b.Run("parallel request", bench.measureParallelRequests)
	b.Run("scan of 10000", bench.measureScan)
}

// measureScan measures a scan of the snapshots of 10,000 users.
func (s *storeBenchmark) measureScan(b *testing.B) {
	h := &harness{t: b, store: s.store}
	h.useByManyUsers(10_000)
	for b.Loop() {
		n := 0
		if err := s.store.ScanSnapshots(context.Background(), quota.SnapshotQuery{Plans: func(string) quota.PlanChoice { return s.plan.OnlyChoice() }},
			func(quota.UserSnapshot) error { n++; return nil }); err != nil || n < 10_000 {
			b.Fatalf("%d users, error %v", n, err)
		}
	}
}

type storeBenchmark struct {
	store quota.Store
	plan  *quota.Plan
	users []string
}

func (s *storeBenchmark) reserve(b *testing.B, n int) quota.Reservation {
	d, err := s.store.Reserve(context.Background(), request(s.users[n%len(s.users)], "analyze", s.plan))
	if err != nil || !d.Admitted {
		b.Fatalf("admitted %v, error %v", d.Admitted, err)
	}
	return d.Reservation
}

func (s *storeBenchmark) settle(b *testing.B, r quota.Reservation, settle func(context.Context, *quota.Reservation) (*quota.Snapshot, error)) {
	if _, err := settle(context.Background(), &r); err != nil {
		b.Fatal(err)
	}
	s.store.Forget(&r)
}

func (s *storeBenchmark) releaseAll(b *testing.B, rs []quota.Reservation) {
	for _, r := range rs {
		s.settle(b, r, s.store.Release)
	}
}

func (s *storeBenchmark) measureReserve(b *testing.B) {
	b.ReportAllocs()
	held := make([]quota.Reservation, 0, batchSize)
	for n := 0; b.Loop(); n++ {
		held = append(held, s.reserve(b, n))
		if len(held) == batchSize {
			b.StopTimer()
			s.releaseAll(b, held)
			held = held[:0]
			b.StartTimer()
		}
	}
	s.releaseAll(b, held)
}

func (s *storeBenchmark) measureSettle(b *testing.B, settle func(context.Context, *quota.Reservation) (*quota.Snapshot, error)) {
	b.ReportAllocs()
	var held []quota.Reservation
	for b.Loop() {
		if len(held) == 0 {
			b.StopTimer()
			for n := range batchSize {
				held = append(held, s.reserve(b, n))
			}
			b.StartTimer()
		}
		s.settle(b, held[len(held)-1], settle)
		held = held[:len(held)-1]
	}
	s.releaseAll(b, held)
}

func (s *storeBenchmark) measureRefused(b *testing.B) {
	b.ReportAllocs()
	none := NewPlan("none", quota.Limit{Amount: 0, Period: quota.Month})
	for b.Loop() {
		d, err := s.store.Reserve(context.Background(), request("refused", "analyze", none))
		if err != nil || d.Admitted {
			b.Fatalf("admitted %v, error %v", d.Admitted, err)
		}
	}
}

func (s *storeBenchmark) measureRead(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.store.Read(context.Background(), s.users[0], s.plan.OnlyChoice()); err != nil {
			b.Fatal(err)
		}
	}
}

// measureParallelRequests measures both calls of a request, for 32 users at a time for each
// processor.
func (s *storeBenchmark) measureParallelRequests(b *testing.B) {
	b.ReportAllocs()
	b.SetParallelism(32) // times GOMAXPROCS
	var next atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		user := fmt.Sprint("parallel-", next.Add(1))
		for pb.Next() {
			d, err := s.store.Reserve(context.Background(), request(user, "analyze", s.plan))
			if err != nil || !d.Admitted {
				b.Errorf("admitted %v, error %v", d.Admitted, err)
				return
			}
			if _, err := s.store.Commit(context.Background(), &d.Reservation); err != nil {
				b.Error(err)
				return
			}
			s.store.Forget(&d.Reservation)
		}
	})
}
