package quota

import (
	"fmt"
	"time"
)

// MaxAttempts bounds an AttemptLimit: a token then comes back no faster than every 100 µs,
// beside which the microsecond that it is rounded to is little.
const MaxAttempts = 10_000

// An AttemptLimit bounds how often a user may try, whatever becomes of the request: one that
// fails costs nothing of a limit, but the upstream had the work.
//
// It is a bucket of Requests tokens, from which each request takes one. An empty
// bucket fills up evenly in Per. So Requests come through at once, and over any time
// t no more than Requests + t/Interval. All that is kept of a bucket is the time at
// which it is full again, as the generic cell rate algorithm has it (ITU-T I.371;
// ratelimits/gcra.go of letsencrypt/boulder is another of its kind):
//
//	2 a minute, a token every 30 s    bucket full at    at 12:00:00
//	first attempt, at 12:00:00        12:00:30          one token left
//	second attempt                    12:01:00          none left
//	third attempt                     12:01:00          refused, for 30 s
//
// A user has a bucket for each rule that has applied to him: if two shared one, a token of
// the plan with the quicker one would have the slower one's forgotten.
//
// An attempt that is observed passes an empty bucket and takes nothing from it, like one
// that is refused: so as many would be blocked as if they were.
//
// The zero value bounds nothing.
type AttemptLimit struct {
	Requests int64         // 1 to MaxAttempts; 0: no bound
	Per      time.Duration // 1 s to 24 h
}

// String is like "120 times per minute"; of lengths that are no word, "3 times per 5m0s".
func (a AttemptLimit) String() string {
	per := a.Per.String()
	switch a.Per {
	case time.Second:
		per = "second"
	case time.Minute:
		per = "minute"
	case time.Hour:
		per = "hour"
	case 24 * time.Hour:
		per = "day"
	}
	if a.Requests == 1 {
		return "once per " + per
	}
	return fmt.Sprintf("%d times per %s", a.Requests, per)
}

// validate returns what is wrong with a.
func (a AttemptLimit) validate() error {
	switch {
	case a == AttemptLimit{}:
		return nil
	case a.Requests < 1 || a.Requests > MaxAttempts:
		return fmt.Errorf("requests must be 1 to %d, got %d", MaxAttempts, a.Requests)
	case a.Per < time.Second || a.Per > 24*time.Hour:
		return fmt.Errorf("per must be 1s to 24h, got %v", a.Per)
	}
	return nil
}

// TokenInterval is the time in which a token comes back, whole microseconds; 0: no bound.
func (a AttemptLimit) TokenInterval() time.Duration {
	if a.Requests == 0 {
		return 0
	}
	n := time.Duration(a.Requests) * time.Microsecond
	return (a.Per + n - 1) / n * time.Microsecond
}

// TakeToken takes a token at now from a bucket that is full at full; the zero time is that
// of one never used. It returns when the bucket is full now or, when there was no
// token, how long to wait for one; then nothing is taken.
//
// A bucket that would be full later than an empty one, by more than a TokenInterval, was
// kept by a clock that has been set back. It has one token. So nobody waits for more than
// two TokenIntervals.
func (a AttemptLimit) TakeToken(full, now time.Time) (after time.Time, wait time.Duration) {
	interval := a.TokenInterval()
	fill := time.Duration(a.Requests) * interval // the time to fill an empty bucket
	start := full
	switch {
	case start.Before(now):
		start = now
	case start.After(now.Add(fill + interval)):
		start = now.Add(fill - interval)
	}
	after = start.Add(interval)
	if wait = after.Sub(now) - fill; wait > 0 {
		return full, wait
	}
	return after, 0
}
