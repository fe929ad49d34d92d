package guard

import (
	"context"
	"errors"
	"time"

	"metergate/quota"
)

// errBreakerOpened: the circuit breaker opened while the call waited for a connection.
// Nothing was sent.
var errBreakerOpened = errors.New("the store does not answer other calls")

// errOtherData: the loss of data became known while the call waited for a connection, which may
// lead to other data. Nothing was sent.
var errOtherData = errors.New("the store does not have the data that it had when the call began")

// A callContext is the context of one call to the backend. It has the values of its
// parent, but it does not end with it: a client that leaves does not undo what the store
// should do.
type callContext struct {
	context.Context
	breakerOpened <-chan struct{}
	deadline      time.Time // zero: the store's timeout alone applies
	// data are what the call belongs to: it must not be sent once they are lost. nil: it may go
	// to others.
	data interface{ DataLost() error }
	op   operation
	user string
}

func (c *callContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

func (c *callContext) Done() <-chan struct{} { return c.breakerOpened }

// Err is also what a backend asks once it has the connection for the call.
func (c *callContext) Err() error {
	select {
	case <-c.breakerOpened:
		return errBreakerOpened
	default:
	}
	if c.data != nil && c.data.DataLost() != nil {
		return errOtherData
	}
	return nil
}

// breaker is the circuit breaker of the partition that has a user's counts.
func (s *Store) breaker(user string) *breaker { return &s.breakers[s.backend.Partition(user)] }

// openError returns why some circuit breaker is open, nil if none is.
func (s *Store) openError() error {
	for i := range s.breakers {
		if err := s.breakers[i].openError(); err != nil {
			return err
		}
	}
	return nil
}

// beginCall begins a call for a user, see breaker.beginCall.
func (s *Store) beginCall(ctx context.Context, op operation, user string) (*callContext, error) {
	call, err := s.breaker(user).beginCall(ctx)
	if err != nil {
		s.stats.failed[op].Add(1)
		return nil, err
	}
	call.op, call.user = op, user
	return call, nil
}

// beginCallAfterReplay is beginCall after everything that waits for the store has been counted
// for this user, and for the members of their organisation. The replay and the call together take no
// longer than the store's timeout.
func (s *Store) beginCallAfterReplay(ctx context.Context, op operation, user string) (*callContext, error) {
	call, err := s.beginCall(ctx, op, user)
	if err != nil {
		return call, err
	}
	if own, ofMembers := s.ledger.backlog(user); own == 0 && ofMembers == 0 || s.backend.DataLost() != nil {
		return call, nil
	}
	call.deadline = time.Now().Add(s.timeout)
	timeout := time.After(s.timeout)
	if err = s.replayPoolInTime(user, timeout); err == nil {
		err = s.replayInTime(user, timeout)
	}
	if err != nil {
		s.stats.failed[op].Add(1)
	}
	return call, err
}

// beginSettling is beginCall for a call that settles. Settlements wait while the data that they belong
// to are lost: the right data may come back, and what was sent to others would be gone then.
func (s *Store) beginSettling(ctx context.Context, op operation, user string) (*callContext, error) {
	if err := s.backend.DataLost(); err != nil {
		return nil, err
	}
	call, err := s.beginCall(ctx, op, user)
	if err != nil {
		return nil, err
	}
	call.data = s.backend
	return call, nil
}

// recordResult records how a call to the backend ended, and reports whether the store
// answered it. A result that says nothing about the store has no effect on the breaker.
func (s *Store) recordResult(call *callContext, err error) bool {
	b := s.breaker(call.user)
	if quota.StoreResponded(err) {
		b.recordSuccess()
		return true
	}
	s.stats.failed[call.op].Add(1)
	switch {
	case errors.Is(err, quota.ErrOverloaded), errors.Is(err, errBreakerOpened), errors.Is(err, errOtherData):
	case errors.Is(err, quota.ErrContended): // the store has answered each time
	case errors.Is(err, quota.ErrUserData):
		s.logs.userData.Log("error", err)
	case !call.deadline.IsZero() && errors.Is(err, context.DeadlineExceeded): // it had less than the timeout
	case b.recordFailure(call.user, err):
		s.onOpened(b, err)
	}
	return false
}

// onOpened is called after a breaker has opened because of err.
func (s *Store) onOpened(b *breaker, err error) {
	s.beginOutage(err)
	s.background.Go(func() { s.probe(b) })
	s.watchers.NotifyAll()
}

// probeEvery is the time between two probes, and between two attempts to send what waits.
const probeEvery = 200 * time.Millisecond

// probe asks the backend until it answers, and then closes the breaker. A probe does what requests
// do, so that it succeeds only when they would. Each of its calls has the store's timeout.
func (s *Store) probe(b *breaker) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.closing:
			return
		}
		err, closed := s.untilClosed(func() error { return s.backend.Probe(context.Background(), b.probeUser()) })
		if closed {
			return
		}
		if errors.Is(err, quota.ErrOverloaded) {
			continue // it says nothing about the store
		}
		b.recordProbe(err)
		if err == nil {
			s.outbox.signal()
			s.watchers.NotifyAll()
			s.Check(context.Background())
			return
		}
		s.stats.failed[opProbe].Add(1)
	}
}
