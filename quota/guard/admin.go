package guard

import (
	"context"
	"time"

	"metergate/quota"
)

// Administration goes through to the backend, or fails with its error; at once while
// the circuit breaker is open. Nothing of it is kept for later. Counts of the user in this
// gateway's journal are sent first, so that a reset or a set of counts covers them. Counts that
// arrive later are added to what was set: those in the journals of other gateways after an
// outage, and those whose commit goes into this journal at the same moment.

// ApplyChange makes a change in the backend, see quota.Store.
func (s *Store) ApplyChange(ctx context.Context, user string, plans quota.PlanChoice, change quota.Change) (quota.Snapshot, error) {
	call, err := s.beginCallAfterReplay(ctx, opChange, user)
	if err != nil {
		return quota.Snapshot{}, err
	}
	snapshot, err := s.backend.ApplyChange(call, user, plans, change)
	s.recordResult(call, err)
	if err == nil {
		s.ledger.recordSnapshot(user, &snapshot)
		if change.Action == quota.ActionReset || change.Action == quota.ActionSetCounts {
			s.ledger.forgetHistory(user)
		}
	}
	return snapshot, err
}

// ReadAt reads the windows of another time from the backend. The result is never
// stale.
func (s *Store) ReadAt(ctx context.Context, user string, plans quota.PlanChoice, at time.Time) (quota.Snapshot, error) {
	call, err := s.beginCallAfterReplay(ctx, opRead, user)
	if err != nil {
		return quota.Snapshot{}, err
	}
	snapshot, err := s.backend.ReadAt(call, user, plans, at)
	s.recordResult(call, err)
	return snapshot, err
}

// ClaimedPlan asks the backend, see quota.Store.
func (s *Store) ClaimedPlan(ctx context.Context, user string) (string, error) {
	call, err := s.beginCall(ctx, opRead, user)
	if err != nil {
		return "", err
	}
	plan, err := s.backend.ClaimedPlan(call, user)
	s.recordResult(call, err)
	return plan, err
}

// Running asks the backend, see quota.Store.
func (s *Store) Running(ctx context.Context, account string) (int64, error) {
	call, err := s.beginCall(ctx, opRead, account)
	if err != nil {
		return 0, err
	}
	n, err := s.backend.Running(call, account)
	s.recordResult(call, err)
	return n, err
}

// AuditLog asks the backend, see quota.Store.
func (s *Store) AuditLog(ctx context.Context, user string) ([]quota.AuditEntry, error) {
	call, err := s.beginCall(ctx, opRead, user)
	if err != nil {
		return nil, err
	}
	entries, err := s.backend.AuditLog(call, user)
	s.recordResult(call, err)
	return entries, err
}

// ScanUsers scans the backend, see quota.Store. It does not include what the journals
// have. It fails at once if any circuit breaker is open, since some users could not be read.
// A scan that fails opens no circuit breaker.
func (s *Store) ScanUsers(ctx context.Context, windows quota.WindowQuery, yield func(quota.UserUsage) error) error {
	return scan(s, yield, s.openError, func(yield func(quota.UserUsage) error) error {
		return s.backend.ScanUsers(ctx, windows, yield)
	})
}

// ScanMembers is ScanUsers for the members of one organisation, whose counts are in one part of the
// backend.
func (s *Store) ScanMembers(ctx context.Context, org string, windows quota.WindowQuery, yield func(quota.UserUsage) error) error {
	return scan(s, yield, s.breaker(quota.PoolAccount(org)).openError, func(yield func(quota.UserUsage) error) error {
		return s.backend.ScanMembers(ctx, org, windows, yield)
	})
}

// ScanSnapshots scans the backend like ScanUsers.
func (s *Store) ScanSnapshots(ctx context.Context, query quota.SnapshotQuery, yield func(quota.UserSnapshot) error) error {
	openError := s.openError
	if query.Org != "" {
		openError = s.breaker(quota.PoolAccount(query.Org)).openError
	}
	return scan(s, yield, openError, func(yield func(quota.UserSnapshot) error) error {
		return s.backend.ScanSnapshots(ctx, query, yield)
	})
}

// scan scans the backend unless openError returns an error.
func scan[T any](s *Store, yield func(T) error, openError func() error, scan func(func(T) error) error) error {
	if err := openError(); err != nil {
		s.stats.failed[opScan].Add(1)
		return err
	}
	yieldFailed := false
	err := scan(func(found T) error {
		err := yield(found)
		yieldFailed = err != nil
		return err
	})
	if !yieldFailed && !quota.StoreResponded(err) {
		s.stats.failed[opScan].Add(1)
	}
	return err
}
