package bucket

import (
	"fmt"
	"testing"
	"time"

	"metergate/quota"
)

var (
	noon  = time.Date(2026, 11, 17, 12, 0, 0, 0, time.UTC)
	limit = quota.AttemptLimit{Requests: 2, Per: time.Minute}
)

func TestTakeTokenKeepsUsersApart(t *testing.T) {
	var s Set
	for _, user := range []string{"u", "v"} {
		for i, want := range []time.Duration{0, 0, 30 * time.Second, 30 * time.Second} {
			if got := s.TakeToken(user, limit, noon); got != want {
				t.Errorf("attempt %d of %s: wait %v, want %v", i+1, user, got, want)
			}
		}
	}
	if got := s.TakeToken("u", limit, noon.Add(30*time.Second)); got != 0 {
		t.Errorf("after 30 s the wait is %v", got)
	}
	for range 100 {
		if got := s.TakeToken("w", quota.AttemptLimit{}, noon); got != 0 {
			t.Errorf("without a limit the wait is %v", got)
		}
	}
	if len(s.fullAt) != 2 {
		t.Errorf("%d buckets, want those of u and v", len(s.fullAt))
	}
}

// A hundred thousand users, one after the other, leave at most twice as many buckets as are
// not full.
func TestTakeTokenRemovesFullBuckets(t *testing.T) {
	var s Set
	for i := range 100_000 {
		// 300 of them come within the 30 s in which a token comes back.
		s.TakeToken(fmt.Sprint(i), limit, noon.Add(time.Duration(i)*100*time.Millisecond))
		if len(s.fullAt) > 601 {
			t.Fatalf("%d buckets after %d users", len(s.fullAt), i+1)
		}
	}
}

// However many users come at once, memory is bounded.
func TestTakeTokenBoundsMemory(t *testing.T) {
	var s Set
	for i := range 10 * MaxBuckets {
		if wait := s.TakeToken(fmt.Sprint(i), limit, noon); wait != 0 {
			t.Fatalf("the first attempt of a user waits %v", wait)
		}
		if len(s.fullAt) > MaxBuckets {
			t.Fatalf("%d buckets, want at most %d", len(s.fullAt), MaxBuckets)
		}
	}
	if len(s.fullAt) < MaxBuckets/2 {
		t.Errorf("%d buckets are left of %d users", len(s.fullAt), 10*MaxBuckets)
	}
}
