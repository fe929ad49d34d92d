package quotatest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
)

// three attempts at once, and one more each 20 minutes.
var threeAnHour = quota.AttemptLimit{Requests: 3, Per: time.Hour}

func testAttemptsAreBounded(t *testing.T, b *harness) {
	p := NewAttemptLimitedPlan("p", threeAnHour, quota.Limit{Requests: 10, Period: quota.Month})
	b.use(1, "u", "analyze", p)
	b.release(b.admit("u", "report", p))
	held := b.admit("u", "analyze", p)
	for range 3 {
		b.wantSnapshot(b.throttle("u", p, 20*time.Minute), "1+1 1+1 [1 0 0]")
	}
	b.wantState("u", p, "1+1 1+1 [1 0 0]")
	b.wantSnapshot(b.release(held), "1+0 1+0 [1 0 0]")
	b.throttle("u", p, 20*time.Minute) // a failure gives no attempt back
	b.use(3, "v", "analyze", p)        // another user has his own
}

func testLimitRefusesAttempt(t *testing.T, b *harness) {
	p := NewAttemptLimitedPlan("p", threeAnHour, quota.Limit{Requests: 1, Period: quota.Month})
	b.use(1, "u", "analyze", p)
	b.refuse("u", "analyze", p)
	b.refuse("u", "analyze", p)
	b.wantSnapshot(b.throttle("u", p, 20*time.Minute), "1+0 1+0 [1 0 0]")
}

func testRepeatedAttempt(t *testing.T, b *harness) {
	p := NewAttemptLimitedPlan("p", threeAnHour)
	first := request("u", "analyze", p)
	for range 5 {
		if d := b.reserve(first); !d.Admitted {
			t.Fatalf("refused for %v when sent again", d.AttemptWait)
		}
	}
	b.admit("u", "analyze", p)
	b.admit("u", "analyze", p)
	b.throttle("u", p, 20*time.Minute)
	// It is still held, and then settled, whether there are attempts or not.
	r := b.reserve(first).Reservation
	b.wantSnapshot(b.commit(r), "1+2 [1 0 0]")
	if d, err := b.store.Reserve(context.Background(), first); d.Admitted || !errors.Is(err, quota.ErrSettled) {
		t.Errorf("reserving what was counted: admitted %v, error %v; want false, %v", d.Admitted, err, quota.ErrSettled)
	}
}

func testConcurrentAttempts(t *testing.T, b *harness) {
	p := NewAttemptLimitedPlan("p", quota.AttemptLimit{Requests: 40, Per: 24 * time.Hour}, quota.Limit{Requests: 25, Period: quota.Month})
	var admitted, refused, throttled atomic.Int64
	var wait sync.WaitGroup
	for range 200 {
		wait.Go(func() {
			switch d, err := b.store.Reserve(context.Background(), request("u", "analyze", p)); {
			case err != nil:
				t.Errorf("Reserve: %v", err)
			case d.Admitted:
				admitted.Add(1)
			case d.AttemptWait > 0:
				throttled.Add(1)
			default:
				refused.Add(1)
			}
		})
	}
	wait.Wait()
	if admitted.Load() != 25 || refused.Load() != 15 || throttled.Load() != 160 {
		t.Errorf("of 200 at once %d were admitted, %d refused by the limit, %d by the attempts; want 25, 15, 160",
			admitted.Load(), refused.Load(), throttled.Load())
	}
	b.wantState("u", p, "0+25 0+25 [0 0 0]")
}

func testAttemptsRefill(t *testing.T, b *harness) {
	p := NewAttemptLimitedPlan("p", threeAnHour)
	b.use(3, "u", "analyze", p)
	b.clock.Advance(10 * time.Minute)
	b.throttle("u", p, 10*time.Minute)
	b.clock.Advance(10*time.Minute + 5*time.Second)
	b.use(1, "u", "analyze", p)
	b.throttle("u", p, 20*time.Minute-5*time.Second)
	b.clock.Advance(41 * time.Minute)
	b.use(2, "u", "analyze", p)
	b.throttle("u", p, 19*time.Minute-5*time.Second)
	b.clock.Advance(48 * time.Hour) // full, and no more
	b.use(3, "u", "analyze", p)
	b.throttle("u", p, 20*time.Minute)
}

func testAttemptLimitChange(t *testing.T, b *harness) {
	free, slow := NewPlan("free"), NewAttemptLimitedPlan("slow", quota.AttemptLimit{Requests: 2, Per: 24 * time.Hour})
	quick := NewAttemptLimitedPlan("quick", quota.AttemptLimit{Requests: 2, Per: 10 * time.Minute})
	b.use(5, "u", "analyze", free) // not bounded, not noted
	b.use(2, "u", "analyze", slow)
	b.throttle("u", slow, 12*time.Hour)
	b.use(5, "u", "analyze", free)
	// Each rule has a bucket of its own: the quicker one is not held up by the other, and
	// does not fill that up, however often a user changes between them.
	const round = 10*time.Minute + 5*time.Second
	for i := range time.Duration(3) {
		b.use(2, "u", "analyze", quick)
		b.throttle("u", quick, 5*time.Minute)
		b.clock.Advance(round)
		b.throttle("u", slow, 12*time.Hour-(i+1)*round)
	}
	b.clock.Advance(12*time.Hour - 3*round + 5*time.Second)
	b.use(1, "u", "analyze", slow)
	b.throttle("u", slow, 12*time.Hour-5*time.Second)
}
