package quotatest

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"metergate/quota"
)

// Benchmark measures each call of a store whose clock is the real one, with a plan as
// the example has it: two limits of all endpoints, one of a single one.
func Benchmark(b *testing.B, s quota.Store) {
	p := NewPlan("bench", quota.Limit{Requests: quota.MaxRequests, Period: quota.Month},
		quota.Limit{Requests: quota.MaxRequests, Period: quota.Minute},
		quota.Limit{Requests: quota.MaxRequests, Period: quota.Month, Endpoint: "analyze"})
	none := NewPlan("none", quota.Limit{Requests: 0, Period: quota.Month})
	ctx := context.Background()
	must := func(b *testing.B, err error) {
		if err != nil {
			b.Fatal(err)
		}
	}
	reserve := func(b *testing.B, user string) quota.Reservation {
		d, err := s.Reserve(ctx, request(user, "analyze", p))
		if err != nil || !d.Admitted {
			b.Fatalf("admitted %v, error %v", d.Admitted, err)
		}
		return d.Reservation
	}
	settle := func(b *testing.B, r quota.Reservation, call func(context.Context, *quota.Reservation) (*quota.Snapshot, error)) {
		_, err := call(ctx, &r)
		must(b, err)
		s.Forget(&r)
	}
	// Nobody has very many requests in flight. What goes before and after is not
	// measured, for a batch at a time, since to stop the clock takes its time, too.
	const batch = 100
	users := make([]string, 10)
	for i := range users {
		users[i] = fmt.Sprint("bench-", i)
	}
	b.Run("reserve", func(b *testing.B) {
		b.ReportAllocs()
		held := make([]quota.Reservation, 0, batch)
		for n := 0; b.Loop(); n++ {
			held = append(held, reserve(b, users[n%len(users)]))
			if len(held) == batch {
				b.StopTimer()
				for _, r := range held {
					settle(b, r, s.Release)
				}
				held = held[:0]
				b.StartTimer()
			}
		}
		for _, r := range held {
			settle(b, r, s.Release)
		}
	})
	for _, end := range []struct {
		name string
		call func(context.Context, *quota.Reservation) (*quota.Snapshot, error)
	}{{"commit", s.Commit}, {"release", s.Release}} {
		b.Run(end.name, func(b *testing.B) {
			b.ReportAllocs()
			var held []quota.Reservation
			for b.Loop() {
				if len(held) == 0 {
					b.StopTimer()
					for n := range batch {
						held = append(held, reserve(b, users[n%len(users)]))
					}
					b.StartTimer()
				}
				settle(b, held[len(held)-1], end.call)
				held = held[:len(held)-1]
			}
			for _, r := range held {
				settle(b, r, s.Release)
			}
		})
	}
	b.Run("refused", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			d, err := s.Reserve(ctx, request("refused", "analyze", none))
			if err != nil || d.Admitted {
				b.Fatalf("admitted %v, error %v", d.Admitted, err)
			}
		}
	})
	b.Run("read", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			_, err := s.Read(ctx, users[0], p.OnlyChoice())
			must(b, err)
		}
	})
	// Both calls of a request, of 32 users at a time for each processor.
	b.Run("parallel request", func(b *testing.B) {
		b.ReportAllocs()
		b.SetParallelism(32) // times GOMAXPROCS
		var next atomic.Int64
		b.RunParallel(func(pb *testing.PB) {
			user := fmt.Sprint("parallel-", next.Add(1))
			for pb.Next() {
				d, err := s.Reserve(ctx, request(user, "analyze", p))
				if err != nil || !d.Admitted {
					b.Errorf("admitted %v, error %v", d.Admitted, err)
					return
				}
				if _, err := s.Commit(ctx, &d.Reservation); err != nil {
					b.Error(err)
					return
				}
				s.Forget(&d.Reservation)
			}
		})
	})
}
