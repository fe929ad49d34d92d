package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// Backup returns a copy of usage.db in one state, which is gone when the result is closed. It shows
// every account as it was at the same instant, during the call: all that was acknowledged before the call is in it. Holds, places, token buckets and the IDs of settled reservations are in memory and not in it.
//
// It is written beside usage.db while calls go on. Calls wait only while the last few keys are copied. One
// backup is made at a time. Errors are quota.ErrNoSpace, ErrClosed and those of ctx and of the disk.
func (s *Store) Backup(ctx context.Context) (*os.File, error) {
	if _, err := s.beginCall(); err != nil {
		return nil, err
	}
	defer s.calls.Done()
	copied, err := s.db.Backup(ctx)
	if errors.Is(err, boltfile.ErrNoSpace) {
		return nil, fmt.Errorf("%w: %w", quota.ErrNoSpace, err)
	}
	return copied, err
}
