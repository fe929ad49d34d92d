package boltstore

import "context"

// SetupWarnings is nil: nothing in the setup of a file can cost counts.
func (s *Store) SetupWarnings(context.Context) []string { return nil }

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
