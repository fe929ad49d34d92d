package guard

import (
	"context"
	"time"

	"metergate/quota"
)

// What an administrator does goes through to the store, or fails with its error, at
// once while the breaker is open: nothing of it is kept for later. What the journal here
// has of the user is counted before, so that a reset or a set of counts ends it, too.
// Counts that come later all the same are added to what was set: those in the journals
// of other gateways after an outage, and those of requests whose commit went into this
// one's at that very time.

// Change makes a change, see the remote store's. After an error that is not one of
// package quota's it may have been made: one with an ID can be sent again.
func (s *Store) ApplyChange(ctx context.Context, user string, t quota.PlanChoice, c quota.Change) (quota.Snapshot, error) {
	call, err := s.enter(ctx, user)
	if err != nil {
		return quota.Snapshot{}, err
	}
	snapshot, err := s.Remote.ApplyChange(call, user, t, c)
	s.answered(call, user, err)
	if err == nil {
		s.ledger.learn(user, &snapshot)
	}
	return snapshot, err
}

// ReadAt is Read for the windows of another time. It is never stale.
func (s *Store) ReadAt(ctx context.Context, user string, t quota.PlanChoice, at time.Time) (quota.Snapshot, error) {
	call, err := s.enter(ctx, user)
	if err != nil {
		return quota.Snapshot{}, err
	}
	snapshot, err := s.Remote.ReadAt(call, user, t, at)
	s.answered(call, user, err)
	return snapshot, err
}

// ClaimedPlan returns the name of the plan by the user's token when he was last admitted;
// empty: the store knows none.
func (s *Store) ClaimedPlan(ctx context.Context, user string) (string, error) {
	call, err := s.breaker(user).enter(ctx)
	if err != nil {
		return "", err
	}
	plan, err := s.Remote.ClaimedPlan(call, user)
	s.answered(call, user, err)
	return plan, err
}

// AuditLog returns the changes of a user, the newest first.
func (s *Store) AuditLog(ctx context.Context, user string) ([]quota.AuditEntry, error) {
	call, err := s.breaker(user).enter(ctx)
	if err != nil {
		return nil, err
	}
	entries, err := s.Remote.AuditLog(call, user)
	s.answered(call, user, err)
	return entries, err
}

// ScanUsers calls yield with all users who have something counted in the window of kind per
// that an instant lies in. What the journals hold is not in it. A breaker that is open
// ends it at once, since some users could not be read; a scan that fails opens none.
func (s *Store) ScanUsers(ctx context.Context, per quota.Period, at time.Time, yield func(quota.UserUsage) error) error {
	for i := range s.breakers {
		if err := s.breakers[i].isOpen(); err != nil {
			return err
		}
	}
	return s.Remote.ScanUsers(ctx, per, at, yield)
}
