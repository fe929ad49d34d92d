package boltstore

import (
	"context"

	"metergate/quota"
)

// SetupWarnings is nil: nothing in the setup of a file can cost counts.
func (s *Store) SetupWarnings(context.Context) []string { return nil }

// Weaknesses is nil: a file has none.
func (s *Store) Weaknesses() []quota.Weakness { return nil }

// LostHolds is 0: holds are in this process and cannot be lost without it.
func (s *Store) LostHolds() int64 { return 0 }

// ExpiredHolds is 0: the gateway that holds is alive, and settles what it holds.
func (s *Store) ExpiredHolds() int64 { return 0 }

// SubscribeFails is false: all changes are made by this process.
func (s *Store) SubscribeFails() bool { return false }

// FileReplaced is how often usage.db was deleted or replaced since Open.
func (s *Store) FileReplaced() int64 { return s.db.TimesReplaced() }

// FileSpace is the size of usage.db, and how much of that is free.
func (s *Store) FileSpace() (size, free int64) { return s.db.Space() }

// DataLosses is 0: a file that is gone is written again, see FileReplaced.
func (s *Store) DataLosses() int64 { return 0 }

// DataFault is nil, see DataLosses.
func (s *Store) DataFault() error { return nil }

// DataLost is nil, see DataLosses.
func (s *Store) DataLost() error { return nil }

// CheckData does nothing, see DataLosses.
func (s *Store) CheckData() {}

// AcceptData returns 0, see DataLosses.
func (s *Store) AcceptData(context.Context) (int, error) { return 0, nil }
