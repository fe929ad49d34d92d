package bucket

import (
	"fmt"
	"testing"
	"time"

	"metergate/quota"
)

var (
	noon = time.Date(2026, 11, 17, 12, 0, 0, 0, time.UTC)
	rule = quota.AttemptLimit{Requests: 2, Per: time.Minute}
)

func TestUsersHaveTheirOwn(t *testing.T) {
	var s Set
	for _, user := range []string{"u", "v"} {
		for i, want := range []time.Duration{0, 0, 30 * time.Second, 30 * time.Second} {
			if got := s.TakeToken(user, rule, noon); got != want {
				t.Errorf("attempt %d of %s: wait %v, want %v", i+1, user, got, want)
			}
		}
	}
	if got := s.TakeToken("u", rule, noon.Add(30*time.Second)); got != 0 {
		t.Errorf("after 30 s the wait is %v", got)
	}
	for range 100 {
		if got := s.TakeToken("w", quota.AttemptLimit{}, noon); got != 0 {
			t.Errorf("without a bound one waits %v", got)
		}
	}
	if len(s.full) != 2 {
		t.Errorf("%d buckets, want those of u and v", len(s.full))
	}
}

// A hundred thousand users, one after the other, leave no more than those whose buckets are not
// full, and as many again.
func TestFullBucketsGo(t *testing.T) {
	var s Set
	for i := range 100_000 {
		// 300 of them within the 30 s that a token takes.
		s.TakeToken(fmt.Sprint(i), rule, noon.Add(time.Duration(i)*100*time.Millisecond))
		if len(s.full) > 601 {
			t.Fatalf("%d buckets after %d users", len(s.full), i+1)
		}
	}
}

// And however many come at once, memory is bounded.
func TestMost(t *testing.T) {
	var s Set
	for i := range 10 * MaxBuckets {
		if wait := s.TakeToken(fmt.Sprint(i), rule, noon); wait != 0 {
			t.Fatalf("the first attempt of a user waits %v", wait)
		}
		if len(s.full) > MaxBuckets {
			t.Fatalf("%d buckets, at most %d may be", len(s.full), MaxBuckets)
		}
	}
	if len(s.full) < MaxBuckets/2 {
		t.Errorf("%d buckets are left of %d users", len(s.full), 10*MaxBuckets)
	}
}
