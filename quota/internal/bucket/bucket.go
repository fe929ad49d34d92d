// Package bucket keeps the token buckets of attempt limits in memory.
package bucket

import (
	"time"

	"metergate/quota"
)

// MaxBuckets bounds the buckets of a Set. If more users than that have a bucket that is not
// full, half of them, chosen arbitrarily, start again with a full one.
const MaxBuckets = 4096

// A Set has the buckets of many users. The zero value is ready: all buckets are full. It is
// not safe for concurrent use.
type Set struct {
	fullAt map[key]time.Time // when a bucket is full again; full ones may be missing
	room   int               // how many buckets there may be before removeFull is due
}

type key struct {
	user  string
	limit quota.AttemptLimit
}

// TakeToken takes a token from the bucket that a user has for a limit. It returns 0 or, if
// there was no token, how long to wait for one.
func (s *Set) TakeToken(user string, limit quota.AttemptLimit, now time.Time) (wait time.Duration) {
	if limit.Requests == 0 {
		return 0
	}
	k := key{user, limit}
	fullAt, wait := limit.TakeToken(s.fullAt[k], now)
	if wait > 0 {
		return wait
	}
	if s.fullAt == nil {
		s.fullAt = make(map[key]time.Time)
	}
	s.fullAt[k] = fullAt
	if len(s.fullAt) > s.room {
		s.removeFull(now)
	}
	return 0
}

// removeFull removes the buckets that are full. It is due again only when the Set has
// doubled, so that TakeToken costs little on average.
func (s *Set) removeFull(now time.Time) {
	for k, fullAt := range s.fullAt {
		if !fullAt.After(now) {
			delete(s.fullAt, k)
		}
	}
	if len(s.fullAt) >= MaxBuckets {
		for k := range s.fullAt {
			if len(s.fullAt) <= MaxBuckets/2 {
				break
			}
			delete(s.fullAt, k)
		}
	}
	s.room = min(MaxBuckets, max(64, 2*len(s.fullAt)))
}
