package proxy

import (
	"time"

	"metergate/quota"
)

const (
	// rereadEvery is how often a stream reads when nothing is announced: announcements
	// of the store can be lost.
	rereadEvery = 10 * time.Second
	// commentEvery is how long a stream stays silent.
	commentEvery = 15 * time.Second
	// windowJitter spreads the reads of all streams when a minute ends.
	windowJitter = 250 * time.Millisecond
	// A stream reads once per readGap on average. It may be readBurst reads ahead of that.
	readGap   = 50 * time.Millisecond
	readBurst = 4
	// sharedGap is the least time from what a stream has read and written last to a read because of
	// a call of another member of the user's organisation: five in a second at most.
	sharedGap = 200 * time.Millisecond
)

// A streamSchedule decides when a usage stream reads the user's usage, writes a comment
// and ends. It is arithmetic alone: its callers have the clock and do the work.
//
// A change is read at once. Many changes in a short time share a read: after a burst of
// readBurst+1 reads there is one per readGap, and it has all changes before it.
//
//	change at  0 ms   read at  0 ms
//	           1               1     (the burst)
//	           ...
//	           4               4
//	           5, 6, 7         50    (one read for three changes)
//
// Members of an organisation also see what the others use. These may be many, so a change of theirs
// is read only after sharedGap.
type streamSchedule struct {
	expires  time.Time // of the token; zero: never
	readAt   time.Time // when to read next
	lastRead time.Time
	// pacedAt is when the reads so far would be done if there had been one per readGap.
	pacedAt time.Time
}

// A streamStep is what a stream does now.
type streamStep int

const (
	stepWait streamStep = iota
	stepRead
	stepExpire // tell the client that its token has expired, and end
)

// wakeAt returns when the stream has to look at its schedule again if nothing changes
// before. written is when it has last written something.
func (s *streamSchedule) wakeAt(written time.Time) time.Time {
	wake := written.Add(commentEvery)
	if s.readAt.Before(wake) {
		wake = s.readAt
	}
	if !s.expires.IsZero() && s.expires.Before(wake) {
		wake = s.expires
	}
	return wake
}

// next returns what to do at now. If it is too early for a read that is due, it puts the
// read off.
func (s *streamSchedule) next(now time.Time) streamStep {
	earliest := s.pacedAt.Add(-readBurst * readGap)
	switch {
	case !s.expires.IsZero() && !now.Before(s.expires):
		return stepExpire
	case now.Before(s.readAt):
		return stepWait
	case now.Before(earliest):
		s.readAt = earliest
		return stepWait
	}
	return stepRead
}

// noteChange has a change of the user's own numbers read as soon as the pace allows.
func (s *streamSchedule) noteChange(now time.Time) { s.readAt = now }

// noteSharedChange has a change of the shared numbers read. written is when the stream has last
// written something.
func (s *streamSchedule) noteSharedChange(written, now time.Time) {
	last := written
	if last.Before(s.lastRead) {
		last = s.lastRead
	}
	due := last.Add(sharedGap)
	if due.Before(now) {
		due = now
	}
	if due.Before(s.readAt) {
		s.readAt = due
	}
}

// noteRead notes a read at now, and when to read again if nothing is announced.
func (s *streamSchedule) noteRead(now, again time.Time) {
	s.readAt, s.lastRead = again, now
	if s.pacedAt.Before(now) {
		s.pacedAt = now
	}
	s.pacedAt = s.pacedAt.Add(readGap)
}

// needsComment reports whether the stream has been silent for long enough at now.
func (s *streamSchedule) needsComment(written, now time.Time) bool {
	return now.Sub(written) >= commentEvery
}

// rereadAfter returns how long after a read of s to read again if nothing is announced:
// until the first of its windows has ended, but not longer than rereadEvery. jitter, 0 to
// 1, spreads the streams.
func rereadAfter(s *quota.Snapshot, jitter float64) time.Duration {
	wait := rereadEvery - time.Duration(jitter*float64(rereadEvery/10))
	windowEnds := func(c *quota.Count) {
		if left := c.Window.End.Sub(s.At); left > 0 && left < wait {
			wait = left + time.Duration(jitter*float64(windowJitter))
		}
	}
	windowEnds(&s.Total)
	for i := range s.Limits {
		windowEnds(&s.Limits[i])
	}
	return wait
}
