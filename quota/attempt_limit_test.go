package quota

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestTokenIntervalIsRoundedUp(t *testing.T) {
	for _, c := range []struct {
		a    AttemptLimit
		want time.Duration
	}{
		{AttemptLimit{}, 0},
		{AttemptLimit{120, time.Minute}, 500 * time.Millisecond},
		{AttemptLimit{1, 24 * time.Hour}, 24 * time.Hour},
		{AttemptLimit{10_000, time.Second}, 100 * time.Microsecond},
		// A remainder is rounded up, so that tokens never come too often.
		{AttemptLimit{7, time.Minute}, 8_571_429 * time.Microsecond},
		{AttemptLimit{9_999, time.Second}, 101 * time.Microsecond},
	} {
		if err := c.a.validate(); err != nil {
			t.Errorf("%v: %v", c.a, err)
		}
		if got := c.a.TokenInterval(); got != c.want {
			t.Errorf("%d per %v: a token every %v, want %v", c.a.Requests, c.a.Per, got, c.want)
		}
	}
}

func TestNewPlanRefusesAttemptLimit(t *testing.T) {
	for _, a := range []AttemptLimit{
		{Requests: 1}, {Per: time.Minute}, {-1, time.Minute}, {10_001, time.Minute},
		{1, time.Second - 1}, {1, 24*time.Hour + 1}, {1, -time.Minute},
	} {
		if _, err := NewPlan(PlanOptions{Name: "p", WarnAt: 80, Attempts: a}); err == nil {
			t.Errorf("%d attempts per %v make a plan", a.Requests, a.Per)
		}
	}
}

// A timeline with 2 attempts a minute.
func TestTakeTokenTimeline(t *testing.T) {
	a, start := AttemptLimit{2, time.Minute}, time.Date(2026, 11, 17, 12, 0, 0, 0, time.UTC)
	var full time.Time
	for i, step := range []struct {
		at, wait time.Duration
	}{
		{0, 0}, {0, 0}, {0, 30 * time.Second}, // both tokens at once
		{10 * time.Second, 20 * time.Second}, // a refusal took nothing
		{30 * time.Second, 0}, {30 * time.Second, 30 * time.Second},
		{59 * time.Second, time.Second}, {time.Minute, 0},
		{2 * time.Minute, 0}, {2 * time.Minute, 0}, {2 * time.Minute, 30 * time.Second}, // full again
		{time.Hour, 0}, {time.Hour, 0}, {time.Hour, 30 * time.Second}, // and never more than full
	} {
		var wait time.Duration
		if full, wait = a.TakeToken(full, start.Add(step.at)); wait != step.wait {
			t.Errorf("step %d, +%v: wait %v, want %v", i, step.at, wait, step.wait)
		}
	}
}

func drawAttemptLimit(t *rapid.T) AttemptLimit {
	per := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, 24 * time.Hour}).Draw(t, "per")
	return AttemptLimit{rapid.Int64Range(1, 40).Draw(t, "requests"), per}
}

// However a user tries, from any admitted attempt to any later one there are no more than a
// full bucket holds, plus the tokens that came back in between.
func TestTakeTokenNeverAdmitsMore(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawAttemptLimit(t)
		now := time.Date(2026, 11, 17, 12, 0, 0, 0, time.UTC)
		var full time.Time
		var passed []time.Time
		for _, step := range rapid.SliceOfN(rapid.Int64Range(0, int64(2*a.TokenInterval())), 1, 200).Draw(t, "steps") {
			if step%3 > 0 { // most attempts come at once
				now = now.Add(time.Duration(step).Truncate(time.Microsecond))
			}
			after, wait := a.TakeToken(full, now)
			if wait > 0 {
				if !after.Equal(full) {
					t.Fatal("a refused attempt has changed the bucket")
				}
				continue
			}
			full = after
			passed = append(passed, now)
			for i, first := range passed {
				// Only whole intervals count: a token can be taken once it is complete.
				if n, most := int64(len(passed)-i), a.Requests+int64(now.Sub(first)/a.TokenInterval()); n > most {
					t.Fatalf("%d attempts passed within %v, at most %d may", n, now.Sub(first), most)
				}
			}
		}
	})
}

// A user who was away for the whole time has a full bucket at once. After the wait that was
// reported an attempt passes, and a microsecond before it does not.
func TestTakeTokenNeverAdmitsLess(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := drawAttemptLimit(t)
		now := time.Date(2026, 11, 17, 12, 0, 0, 0, time.UTC)
		var full time.Time
		for range rapid.IntRange(1, 4).Draw(t, "rounds") {
			for i := range a.Requests {
				var wait time.Duration
				if full, wait = a.TakeToken(full, now); wait > 0 {
					t.Fatalf("attempt %d of %d at once has to wait %v", i+1, a.Requests, wait)
				}
			}
			for range 3 {
				now = now.Add(time.Duration(rapid.Int64Range(0, int64(a.TokenInterval())-1).Draw(t, "pause")).Truncate(time.Microsecond))
				_, wait := a.TakeToken(full, now)
				if wait <= 0 || wait > a.TokenInterval() {
					t.Fatalf("with an empty bucket the wait is %v, a token comes every %v", wait, a.TokenInterval())
				}
				if _, early := a.TakeToken(full, now.Add(wait-time.Microsecond)); early != time.Microsecond {
					t.Fatalf("a microsecond before the end of the wait of %v, it is %v", wait, early)
				}
				now = now.Add(wait)
				if full, wait = a.TakeToken(full, now); wait != 0 {
					t.Fatalf("after the wait it is still %v", wait)
				}
			}
			now = now.Add(time.Duration(a.Requests) * a.TokenInterval())
		}
	})
}

// A bucket that was kept under a slower limit, or before the clock was set back, keeps nobody
// out for longer than the present limit would.
func TestTakeTokenAfterClockSetBack(t *testing.T) {
	now := time.Date(2026, 11, 17, 12, 0, 0, 0, time.UTC)
	full := now.Add(20 * time.Hour)
	a := AttemptLimit{120, time.Minute}
	full, wait := a.TakeToken(full, now)
	if wait != 0 {
		t.Errorf("the first attempt waits %v", wait)
	}
	full, wait = a.TakeToken(full, now)
	if wait != a.TokenInterval() {
		t.Errorf("the second attempt waits %v, want %v", wait, a.TokenInterval())
	}
	// A clock that jitters gives no tokens away.
	if _, wait = a.TakeToken(full, now.Add(-time.Millisecond)); wait != a.TokenInterval()+time.Millisecond {
		t.Errorf("a millisecond earlier an attempt waits %v, want %v more than %v", wait, time.Millisecond, a.TokenInterval())
	}
}
