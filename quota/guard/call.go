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

// A callContext is the context of one call to the backend. It has the values of its
// parent, but it does not end with it: a client that leaves does not undo what the store
// should do.
type callContext struct {
	context.Context
	breakerOpened <-chan struct{}
	deadline      time.Time // zero: the store's timeout alone applies
}

func (c callContext) Deadline() (time.Time, bool) { return c.deadline, !c.deadline.IsZero() }

func (c callContext) Done() <-chan struct{} { return c.breakerOpened }

func (c callContext) Err() error {
	select {
	case <-c.breakerOpened:
		return errBreakerOpened
	default:
		return nil
	}
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

// beginCallAfterReplay is beginCall for the user's breaker, after everything that waits for
// the store has been counted for this user. The replay and the call together take no longer
// than the store's timeout.
func (s *Store) beginCallAfterReplay(ctx context.Context, user string) (callContext, error) {
	call, err := s.breaker(user).beginCall(ctx)
	if err != nil || s.ledger.backlog(user) == 0 || s.backend.DataLost() != nil {
		return call, err
	}
	call.deadline = time.Now().Add(s.timeout)
	return call, s.replayInTime(user)
}

// beginSettling is beginCall for a call that settles. Settlements wait while the data that they belong
// to are lost: the right data may come back, and what was sent to others would be gone then.
func (s *Store) beginSettling(ctx context.Context, user string) (callContext, error) {
	if err := s.backend.DataLost(); err != nil {
		return callContext{}, err
	}
	return s.breaker(user).beginCall(ctx)
}

// recordResult records how a call to the backend ended, and reports whether the store
// answered it. A result that says nothing about the store has no effect.
func (s *Store) recordResult(call callContext, user string, err error) bool {
	b := s.breaker(user)
	switch {
	case quota.StoreResponded(err):
		b.recordSuccess()
		return true
	case errors.Is(err, quota.ErrOverloaded) || errors.Is(err, errBreakerOpened):
	case !call.deadline.IsZero() && errors.Is(err, context.DeadlineExceeded): // it had less than the timeout
	case b.recordFailure(user, err):
		keptIn := "the journal"
		if s.journal == nil {
			keptIn = "memory only"
		}
		onFailure := "deny"
		if s.allowOnFailure {
			onFailure = "allow"
		}
		s.log.Error("the store does not answer; new counts are kept in "+keptIn, "on_failure", onFailure, "error", err)
		s.background.Go(func() { s.probe(b) })
		s.watchers.NotifyAll()
	}
	return false
}

// probeEvery is the time between two probes, and between two attempts to send what waits.
const probeEvery = 200 * time.Millisecond

// probe asks the backend until it answers, and then closes the breaker.
func (s *Store) probe(b *breaker) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-tick.C:
		case <-s.closing:
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), s.timeout)
		err := s.backend.Probe(ctx, b.probeUser())
		cancel()
		if errors.Is(err, quota.ErrOverloaded) {
			continue // it says nothing about the store
		}
		b.recordProbe(err)
		if err == nil {
			s.log.Info("the store answers again", "after", time.Since(began).Round(time.Millisecond).String(), "backlog", s.stats.backlog.Load())
			s.outbox.signal()
			s.watchers.NotifyAll()
			return
		}
	}
}
