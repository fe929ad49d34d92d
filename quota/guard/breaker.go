package guard

import (
	"context"
	"errors"
	"sync"
	"time"

	"metergate/quota"
)

// A breaker is open while a store does not answer. Then nobody asks it but the
// probe, which ends that.
type breaker struct {
	mu     sync.Mutex
	failed int                          // calls in a row
	err    error                        // of the last of them
	user   string                       // whose call it was
	broken *quota.BrokenConnectionError // the last connection that broke
	open   bool
	// opened is closed when the breaker opens; nil: nobody has asked for it.
	opened chan struct{}
}

// failuresToOpen is how many calls in a row must fail. One is not an outage: a
// connection breaks when a server restarts, and a reply may be lost.
const failuresToOpen = 5

// isOpen returns why the breaker is open, nil if it is not.
func (b *breaker) isOpen() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		return b.err
	}
	return nil
}

// failure notes a call that was not answered, and reports whether that has opened
// the breaker. Calls that broke with their connection are one failure.
func (b *breaker) failure(user string, err error) (opened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if broken := (*quota.BrokenConnectionError)(nil); errors.As(err, &broken) {
		if broken == b.broken {
			return false
		}
		b.broken = broken
	}
	b.failed++
	b.err, b.user = err, user
	if b.open || b.failed < failuresToOpen {
		return false
	}
	b.open = true
	if b.opened != nil {
		close(b.opened)
		b.opened = nil
	}
	return true
}

// success notes a call that was answered. It does not close an open breaker: a
// call that had been on its way says nothing about the next one.
func (b *breaker) success() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failed = 0
}

// probed notes how a probe ended. A good one closes the breaker.
func (b *breaker) probed(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open = err != nil; b.open {
		b.err = err
	} else {
		b.failed = 0
	}
}

// probeUser is the user for whom to probe.
func (b *breaker) probeUser() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.user
}

// errOpened: the breaker has opened while a call waited for a connection. Nothing
// was sent.
var errOpened = errors.New("the store does not answer other calls")

// enter returns a context for a call of the store: it is done when the breaker
// opens, so that who waits for one of few connections does not wait in vain. What
// has been sent is not ended by it. Not ok: the breaker is open.
func (b *breaker) enter(ctx context.Context) (call, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open {
		return call{}, b.err
	}
	if b.opened == nil {
		b.opened = make(chan struct{})
	}
	return call{Context: ctx, opened: b.opened}, nil
}

// A call is the context of one. Of its parent it has the values: whether the client
// is still there does not matter to the store.
type call struct {
	context.Context
	opened <-chan struct{}
	until  time.Time // when the answer has to be there; zero: after the store's timeout
}

func (c call) Deadline() (time.Time, bool) { return c.until, !c.until.IsZero() }

func (c call) Done() <-chan struct{} { return c.opened }

func (c call) Err() error {
	select {
	case <-c.opened:
		return errOpened
	default:
		return nil
	}
}
