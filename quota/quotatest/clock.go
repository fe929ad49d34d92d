package quotatest

import (
	"sync/atomic"
	"time"
)

// A Clock stands still until a test moves it. A store whose clock goes on by itself may be
// ahead of it by the real time since, and may round it. The suite stays 5 seconds away from
// every instant at which something changes.
type Clock struct{ at, offset atomic.Int64 } // ns

// NewClock returns a clock that stands at t.
func NewClock(t time.Time) *Clock {
	c := new(Clock)
	c.Set(t)
	return c
}

// Now is the clock's time.
func (c *Clock) Now() time.Time { return time.Unix(0, c.at.Load()).UTC() }

// Offset is what a store adds to the real time so that its clock goes on from where this one
// was set. It changes only with Set.
func (c *Clock) Offset() time.Duration { return time.Duration(c.offset.Load()) }

// Set moves the clock to t.
func (c *Clock) Set(t time.Time) {
	c.at.Store(t.UnixNano())
	c.offset.Store(int64(time.Until(t)))
}

// Advance moves the clock on.
func (c *Clock) Advance(d time.Duration) { c.Set(c.Now().Add(d)) }
