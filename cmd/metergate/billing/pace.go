package billing

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// A pace keeps all requests of a run below a rate, and stops them all while a receiver wants to be left
// alone.
type pace struct {
	limiter *rate.Limiter

	mu     sync.Mutex
	paused time.Time // until then
}

func newPace(perSecond float64) *pace {
	return &pace{limiter: rate.NewLimiter(rate.Limit(perSecond), 1)}
}

// pause stops all requests for a time.
func (p *pace) pause(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if until := time.Now().Add(d); until.After(p.paused) {
		p.paused = until
	}
}

// next waits until a request may be sent.
func (p *pace) next(ctx context.Context) error {
	for {
		p.mu.Lock()
		wait := time.Until(p.paused)
		p.mu.Unlock()
		if wait <= 0 {
			return p.limiter.Wait(ctx)
		}
		if err := sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// sleep waits, and returns the cause if the context ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

const (
	firstBackoff = 500 * time.Millisecond
	maxBackoff   = 30 * time.Second
)

// backoff returns how long to wait after so many failures, 1 or more: exponential, with jitter, so that
// workers do not come back together.
func (s *Sender) backoff(failures int) time.Duration {
	d := min(maxBackoff, s.firstBackoff<<min(10, failures-1))
	return d/2 + rand.N(d/2)
}
