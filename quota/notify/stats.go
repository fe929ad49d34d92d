package notify

import (
	"sync/atomic"
	"time"

	"metergate/quota"
)

// counters are what a Sender counts.
type counters struct {
	sent, failed, gaveUp atomic.Int64
	waiting              atomic.Int64
	oldest               atomic.Pointer[time.Time] // nil: nothing waits
}

// note notes what the store says about what waits.
func (c *counters) note(claims quota.CrossingClaims) {
	c.waiting.Store(claims.Waiting)
	if claims.Oldest.IsZero() {
		c.oldest.Store(nil)
		return
	}
	c.oldest.Store(&claims.Oldest)
}

// Stats are about the events that a Sender has to deliver.
type Stats struct {
	Sent   int64 // accepted by the receiver
	Failed int64 // requests that were not accepted
	GaveUp int64 // events that were dropped
	// Waiting is how many accounts have events that were not accepted yet, and Age how old the first of
	// these is, as far as was seen when the store was last asked. Both are of all gateways.
	Waiting int64
	Age     time.Duration
}

// Stats returns the numbers since the Sender was made.
func (s *Sender) Stats() Stats {
	st := Stats{Sent: s.stats.sent.Load(), Failed: s.stats.failed.Load(), GaveUp: s.stats.gaveUp.Load(), Waiting: s.stats.waiting.Load()}
	if oldest := s.stats.oldest.Load(); oldest != nil {
		st.Age = max(0, s.storeNow().Sub(*oldest))
	}
	return st
}
