package notify

import (
	"math/rand/v2"
	"sync"
	"time"
)

const (
	// failuresInARow are as many as there can be of events that were sent at the same time.
	failuresInARow = postsAtOnce
	// maxProbeDelay bounds the time between two tries of a dead receiver. It is the longest time for which
	// it can be back without getting events.
	maxProbeDelay = time.Minute
)

// health says whether the receiver is to get events. It is dead after some failures in a row, or once it has said
// with Retry-After that it wants to be left alone. A dead receiver gets one event at a time; the first that it
// accepts makes it alive. So does the first that it refuses for what the event says, see [Answer.refusesEvent].
type health struct {
	now func() time.Time

	mu       sync.Mutex
	failures int // in a row
	dead     bool
	wasDead  bool      // it was dead, or the receiver before it, and no event was accepted since then
	since    time.Time // when it was found dead, or took the place of another
	probes   int       // that have failed since then
	next     time.Time // when it may be tried again
}

// isDead reports whether the receiver is dead, and whether it is time for a try.
func (h *health) isDead() (dead, probe bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.dead, h.dead && !h.now().Before(h.next)
}

// mayPost reports whether an event may be sent. A try may, when its time has come; then the next one
// has to wait until this one has ended.
func (h *health) mayPost(isProbe bool) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if !h.dead {
		return true
	}
	if !isProbe || now.Before(h.next) {
		return false
	}
	h.next = now.Add(postTimeout + time.Second)
	return true
}

// succeeded notes that an event that was sent at a time was accepted, and reports whether the receiver was dead
// and is alive.
func (h *health) succeeded(sent time.Time) (revived bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if sent.Before(h.since) {
		return false // it was accepted before the receiver failed, or by the one before
	}
	revived = h.dead || h.wasDead
	h.failures, h.dead, h.wasDead, h.probes = 0, false, false, 0
	return revived
}

// refused notes that an event that was sent at a time was refused for what it says. A receiver that can tell is
// alive. It reports whether it was dead.
func (h *health) refused(sent time.Time) (revived bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.dead || sent.Before(h.since) {
		return false
	}
	h.failures, h.dead, h.wasDead, h.probes = 0, false, true, 0
	return true
}

// failed notes that an event that was sent at a time was not accepted, and what Retry-After says. It reports
// whether the receiver was alive and is dead.
func (h *health) failed(sent time.Time, retryAfter time.Duration) (died bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	now := h.now()
	if sent.Before(h.since) { // it was on its way when the receiver was found dead, or was another one
		if until := now.Add(retryAfter); h.dead && until.After(h.next) {
			h.next = until
		}
		return false
	}
	h.failures++
	switch {
	case !h.dead && retryAfter == 0 && h.failures < failuresInARow:
		return false
	case !h.dead:
		died, h.dead, h.since, h.probes = true, true, now, 0
	}
	delay := min(maxProbeDelay, time.Second<<min(h.probes, 10))
	delay -= time.Duration(rand.Int64N(int64(delay / 4)))
	h.next = now.Add(max(delay, retryAfter))
	h.probes++
	return died
}

// forget takes another receiver for alive.
func (h *health) forget() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wasDead = h.wasDead || h.dead
	h.failures, h.dead, h.probes, h.since = 0, false, 0, h.now()
}
