package proxy

import (
	"context"
	"net/http"
	"sync"
	"time"
)

// A cutoff ends the wait for an upstream's response when its time is up. The
// transport's ResponseHeaderTimeout would start only after the upload.
type cutoff struct {
	mu    sync.Mutex
	timer *time.Timer
	ended bool // by stop
	fired bool // by the time
}

// startCutoff cancels a request with errUpstreamTimeout after d, and the read of
// its body, too: the transport does not return before that has ended, and a client
// may hold its body back for ever.
func startCutoff(d time.Duration, w http.ResponseWriter, cancel context.CancelCauseFunc) *cutoff {
	c := new(cutoff)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(d, func() {
		// Under the lock, so that it cannot hit the connection's next request.
		c.mu.Lock()
		defer c.mu.Unlock()
		if !c.ended {
			c.fired = true
			cancel(errUpstreamTimeout)
			http.NewResponseController(w).SetReadDeadline(time.Now())
		}
	})
	return c
}

// stop ends the cutoff: from now on it does nothing. False: the time was up.
func (c *cutoff) stop() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.timer.Stop()
	return !c.fired
}
