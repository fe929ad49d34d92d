package boltstore

import (
	"context"
	"time"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// Replay commits reservations of one user in one write, see Commit, and then the rests of others in
// another one, see CommitRest.
func (s *Store) Replay(ctx context.Context, _ string, requests, rests []quota.Reservation) error {
	if err := s.replay(ctx, requests, s.startCommit); err != nil {
		return err
	}
	return s.replay(ctx, rests, func(r *quota.Reservation) (*pendingCommit, error) { return s.startRest(ctx, r) })
}

// replay starts to commit each of rs, and waits for all of them.
func (s *Store) replay(ctx context.Context, rs []quota.Reservation, start func(*quota.Reservation) (*pendingCommit, error)) error {
	commits := make([]*pendingCommit, 0, len(rs))
	for i := range rs {
		c, err := start(&rs[i])
		if err != nil {
			return err
		}
		defer s.calls.Done()
		commits = append(commits, c)
	}
	for _, c := range commits {
		if err := c.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Probe tries a write that changes nothing. Errors are those of the disk.
func (s *Store) Probe(context.Context, string) error { return s.tryWrite() }

func (s *Store) tryWrite() error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	return s.dbUpdate(func(boltfile.Tx) error { return nil })
}

// Connects is nil: there is nothing to connect to.
func (s *Store) Connects() <-chan struct{} { return nil }

// Partition is always 0: the store fails as a whole.
func (s *Store) Partition(string) int { return 0 }

// Partitions is 1.
func (s *Store) Partitions() int { return 1 }

// Now is the store's clock.
func (s *Store) Now() time.Time { return s.now() }
