package proxy

import (
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// TestInFlightAdmitsExactlyTheLimit: of many that come at once, exactly as many get in as
// there are places, and nothing is left once they have gone.
func TestInFlightAdmitsExactlyTheLimit(t *testing.T) {
	f := NewInFlight()
	const limit, userLimit, users, each = 500, 3, 200, 20
	var total, perUser atomic.Int64
	var came, done sync.WaitGroup
	came.Add(users * each)
	leave := make(chan bool)
	for i := range users * each {
		user := strconv.Itoa(i % users)
		done.Go(func() {
			in, userIn := f.tryAdd(limit), f.tryAddUser(user, userLimit)
			if in {
				total.Add(1)
			}
			if userIn {
				perUser.Add(1)
			}
			came.Done()
			<-leave
			if in {
				f.remove()
			}
			if userIn {
				f.removeUser(user)
			}
		})
	}
	came.Wait()
	if total.Load() != limit || perUser.Load() != users*userLimit {
		t.Errorf("%d and %d got in, want %d and %d", total.Load(), perUser.Load(), limit, users*userLimit)
	}
	close(leave)
	done.Wait()
	if n := f.total.Load(); n != 0 {
		t.Errorf("%d are counted", n)
	}
	for i := range f.shards {
		if n := len(f.shards[i].users); n != 0 {
			t.Errorf("shard %d has %d users", i, n)
		}
	}
	// With room for one there are never two.
	var inside atomic.Int64
	for range 4 {
		done.Go(func() {
			for range 200_000 {
				if f.tryAdd(1) {
					if inside.Add(1) > 1 {
						t.Error("two are in")
					}
					inside.Add(-1)
					f.remove()
				}
			}
		})
	}
	done.Wait()
	if n := f.total.Load(); n != 0 {
		t.Errorf("%d are counted", n)
	}
	// A request that is refused takes no place, not even for a moment: while one is in, a
	// second one always fits under a limit of 2, however many try under a limit of 1.
	f.tryAdd(1)
	stop := make(chan bool)
	for range 3 {
		done.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if f.tryAdd(1) {
						t.Error("one is in already")
						return
					}
				}
			}
		})
	}
	for range 200_000 {
		if !f.tryAdd(2) {
			t.Error("there was room for a second")
			break
		}
		f.remove()
	}
	close(stop)
	done.Wait()
	f.remove()
	for range 100 {
		if !f.tryAdd(1) || f.tryAdd(1) || !f.tryAddUser("u", 1) || f.tryAddUser("u", 1) {
			t.Fatal("one at a time")
		}
		f.remove()
		f.removeUser("u")
	}
	// Requests are counted even without a limit: a reload may bring one.
	for range 5 {
		if !f.tryAddUser("u", 0) {
			t.Fatal("no limit")
		}
	}
	if f.tryAddUser("u", 5) {
		t.Error("a sixth got in")
	}
}

func BenchmarkInFlight(b *testing.B) {
	f := NewInFlight()
	var n atomic.Int64
	b.RunParallel(func(pb *testing.PB) {
		user := "user-" + strconv.FormatInt(n.Add(1), 10)
		for pb.Next() {
			f.tryAdd(1000)
			f.tryAddUser(user, 1000)
			f.removeUser(user)
			f.remove()
		}
	})
}
