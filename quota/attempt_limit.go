package quota

import (
	"fmt"
	"time"
)

// MaxAttempts is the largest AttemptLimit.Requests. A token then comes back every 100 µs at
// the fastest, so that rounding to a microsecond hardly matters.
const MaxAttempts = 10_000

// An AttemptLimit bounds how often a user may try, whatever becomes of the requests. A
// request that fails costs nothing of a Limit, but it costs the upstream work.
//
// It is a token bucket that holds Requests tokens. Each request takes one. An empty bucket
// fills evenly within Per. So Requests can come at once, and no more than
// Requests + t/TokenInterval in any time t. All that is stored of a bucket is the time at
// which it is full again, as in the generic cell rate algorithm (ITU-T I.371;
// ratelimits/gcra.go of letsencrypt/boulder is another example):
//
//	2 a minute, a token every 30 s    bucket full at    at 12:00:00
//	first attempt, at 12:00:00        12:00:30          one token left
//	second attempt                    12:01:00          none left
//	third attempt                     12:01:00          refused, for 30 s
//
// A user has one bucket for each AttemptLimit that has applied to them. If two limits shared
// a bucket, an attempt under the faster one would overwrite what the slower one remembers.
//
// In observe mode, an attempt passes an empty bucket and takes nothing from it, like one
// that is refused. So the numbers match what enforcement would do.
//
// The zero value is no bound.
type AttemptLimit struct {
	Requests int64         // 1 to MaxAttempts; 0: no bound
	Per      time.Duration // 1 s to 24 h
}

// String is like "120 times per minute", or "3 times per 5m0s" for a length that has no name.
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

// validate returns an error that says which field is out of bounds.
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

// TokenInterval is the time in which one token comes back, in whole microseconds, rounded
// up; 0: no bound.
func (a AttemptLimit) TokenInterval() time.Duration {
	if a.Requests == 0 {
		return 0
	}
	n := time.Duration(a.Requests) * time.Microsecond
	return (a.Per + n - 1) / n * time.Microsecond
}

// TakeToken takes a token at now from a bucket that is full at fullAt; the zero time stands
// for a bucket that was never used. It returns when the bucket will be full. If there was no
// token, it takes nothing and returns how long to wait for one.
//
// If the bucket would be full more than a TokenInterval later than an empty one, the clock
// that wrote fullAt has been set back since. The bucket then has one token, so that nobody
// waits for more than two TokenIntervals.
func (a AttemptLimit) TakeToken(fullAt, now time.Time) (newFullAt time.Time, wait time.Duration) {
	interval := a.TokenInterval()
	fill := time.Duration(a.Requests) * interval // the time to fill an empty bucket
	start := fullAt
	switch {
	case start.Before(now):
		start = now
	case start.After(now.Add(fill + interval)):
		start = now.Add(fill - interval)
	}
	newFullAt = start.Add(interval)
	if wait = newFullAt.Sub(now) - fill; wait > 0 {
		return fullAt, wait
	}
	return newFullAt, 0
}
