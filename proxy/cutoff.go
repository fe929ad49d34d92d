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
// may hold its body back for ever. In HTTP/1 that read may hang in a write, of
// "100 Continue". A request without a body has no such read, but net/http has one, to
// see whether the client goes: if that times out, all requests that follow on the
// connection begin with a context that is cancelled.
func startCutoff(d time.Duration, x *exchange, cancel context.CancelCauseFunc) *cutoff {
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
			if x.in.ContentLength == 0 {
				return
			}
			control := http.NewResponseController(x.w)
			control.SetReadDeadline(time.Now())
			if x.in.ProtoMajor == 1 {
				control.SetWriteDeadline(time.Now()) // until the next write
			}
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
