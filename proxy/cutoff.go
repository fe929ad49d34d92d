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
	mu      sync.Mutex
	timer   *time.Timer
	stopped bool
	expired bool
}

// start begins the time d, after which the cutoff cancels the request with
// errUpstreamTimeout and ends the read of its body:
//
//   - The transport does not return before that read has ended, and a client may hold
//     its body back for ever.
//   - With HTTP/1 the read may hang in a write, that of "100 Continue".
//   - A request without a body has no such read. net/http has one in its place, to
//     notice that the client goes. It must not time out: all later requests on the
//     connection would begin with a cancelled context.
func (c *cutoff) start(d time.Duration, w http.ResponseWriter, r *http.Request, cancel context.CancelCauseFunc) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timer = time.AfterFunc(d, func() {
		// Under the lock, so that it cannot affect the connection's next request.
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.stopped {
			return
		}
		c.expired = true
		cancel(errUpstreamTimeout)
		if r.ContentLength == 0 {
			return
		}
		control := http.NewResponseController(w)
		control.SetReadDeadline(time.Now())
		if r.ProtoMajor == 1 {
			control.SetWriteDeadline(time.Now()) // the next write sets another one
		}
	})
}

// stop ends the cutoff: from now on it does nothing. It reports whether that was in
// time; false means that the time was up.
func (c *cutoff) stop() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	c.timer.Stop()
	return !c.expired
}
