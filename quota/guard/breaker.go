package guard

import (
	"context"
	"errors"
	"sync"

	"metergate/quota"
)

// A breaker is the circuit breaker of one partition of the backend. While it is open
// only the probe asks the store, and only a probe that succeeds closes it. The zero value is
// closed and ready.
type breaker struct {
	mu         sync.Mutex
	open       bool
	failures   int                          // in a row
	lastErr    error                        // of the last failure
	lastUser   string                       // whose call failed last
	brokenConn *quota.BrokenConnectionError // the last connection that broke
	// opened is closed when the breaker opens; nil: no call has asked for it.
	opened chan struct{}
}

// failuresToOpen is how many failures in a row open a breaker. A single failure is not an
// outage: a connection breaks when a server restarts, and a reply can be lost.
const failuresToOpen = 5

// openError returns why the breaker is open, nil if it is closed.
func (b *breaker) openError() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		return b.lastErr
	}
	return nil
}

// recordFailure records a call of a user that the store did not answer, and reports whether
// it has opened the breaker. Calls that ended with the same broken connection are one
// failure.
func (b *breaker) recordFailure(user string, err error) (opened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if broken := (*quota.BrokenConnectionError)(nil); errors.As(err, &broken) {
		if broken == b.brokenConn {
			return false
		}
		b.brokenConn = broken
	}
	b.failures++
	b.lastErr, b.lastUser = err, user
	if b.open || b.failures < failuresToOpen {
		return false
	}
	b.setOpen()
	return true
}

// openNow opens the breaker because a probe for a user has failed, and reports whether it was
// closed.
func (b *breaker) openNow(user string, err error) (opened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		return false
	}
	b.lastErr, b.lastUser = err, user
	b.setOpen()
	return true
}

// setOpen opens the breaker. The caller holds b.mu.
func (b *breaker) setOpen() {
	b.open = true
	if b.opened != nil {
		close(b.opened)
		b.opened = nil
	}
}

// recordSuccess records a call that the store answered. It does not close an open breaker: a
// call that was already under way says nothing about the next one.
func (b *breaker) recordSuccess() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures = 0
}

// recordProbe records how a probe ended. A probe that succeeded closes the breaker.
func (b *breaker) recordProbe(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open = err != nil; b.open {
		b.lastErr = err
	} else {
		b.failures = 0
	}
}

// probeUser is the user to probe for: the one whose call failed last.
func (b *breaker) probeUser() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.lastUser
}

// beginCall returns the context for a call to the backend, or why the breaker is open.
// The context ends when the breaker opens, so that calls that wait for a free connection do
// not wait in vain. It does not interrupt what has already been sent.
func (b *breaker) beginCall(ctx context.Context) (*callContext, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		return nil, b.lastErr
	}
	if b.opened == nil {
		b.opened = make(chan struct{})
	}
	return &callContext{Context: ctx, breakerOpened: b.opened}, nil
}
