// Package bucket keeps the buckets of quota.AttemptLimit in memory.
package bucket

import (
	"time"

	"metergate/quota"
)

// MaxBuckets bounds the buckets of a Set. Where so many users have one that is not full,
// half of them, whoever they are, start anew with a full one.
const MaxBuckets = 4096

// A Set has the buckets of many users. The zero value is empty and ready. It is not
// safe for concurrent use.
type Set struct {
	full map[key]time.Time // when one is; one that is full now need not be there
	room int               // how many buckets there may be before it is tidied up
}

type key struct {
	user string
	rule quota.AttemptLimit
}

// TakeToken takes a token from a user's bucket. It returns 0 or, when there was none, how
// long to wait for one.
func (s *Set) TakeToken(user string, a quota.AttemptLimit, now time.Time) (wait time.Duration) {
	if a.Requests == 0 {
		return 0
	}
	k := key{user, a}
	full, wait := a.TakeToken(s.full[k], now)
	if wait > 0 {
		return wait
	}
	if s.full == nil {
		s.full = make(map[key]time.Time)
	}
	s.full[k] = full
	if len(s.full) > s.room {
		s.tidy(now)
	}
	return 0
}

// tidy forgets the buckets that are full. Since it leaves room for as many as it
// leaves, a call of TakeToken costs little on average.
func (s *Set) tidy(now time.Time) {
	for k, full := range s.full {
		if !full.After(now) {
			delete(s.full, k)
		}
	}
	if len(s.full) >= MaxBuckets {
		for k := range s.full {
			if len(s.full) <= MaxBuckets/2 {
				break
			}
			delete(s.full, k)
		}
	}
	s.room = min(MaxBuckets, max(64, 2*len(s.full)))
}
