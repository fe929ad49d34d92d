package boltstore

import (
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// write counts what is queued until the queue is closed. A lone hold is written
// at once; those that come while the disk is busy are written together.
func (s *Store) write() {
	for {
		batch := s.queue.TakeAll()
		if len(batch) == 0 {
			return
		}
		err := s.apply(batch)
		s.lastWrite.Store(&err)
		for _, h := range batch {
			s.finish(h, err)
		}
	}
}

// apply counts batch in one write. It returns when that is on disk or has failed.
func (s *Store) apply(batch []*hold) error {
	s.writes.Lock()
	defer s.writes.Unlock()
	var number int64
	err := s.update(func(tx *bolt.Tx) error {
		number = int64(tx.ID())
		now, created := s.now(), 0
		for _, h := range batch {
			if h.write.Load() != 0 {
				continue // it is in the file since a write that failed, see below
			}
			n, err := countUp(tx, h, now, s.keep)
			if err != nil {
				return err
			}
			created += n
			h.write.Store(number)
		}
		// Twice what has been added, so that what is old gets less and less.
		return prune(tx, now, s.keep, 2*created+100)
	})
	if err == nil {
		return nil
	}
	// The number of a write that has failed is that of the next one, too, which has to
	// wait. A disk that fails at the very end leaves a write that every reader sees, but
	// that a crash may undo. Its holds keep their number: they are used, and when
	// they come again another write brings them to disk without counting them
	// twice. All others are held as before.
	seen := int64(0)
	s.db.View(func(tx *bolt.Tx) error { seen = int64(tx.ID()); return nil })
	if number > seen {
		for _, h := range batch {
			h.write.CompareAndSwap(number, 0)
		}
	}
	return fmt.Errorf("counting in %s: %w", s.db.Path(), err)
}

// finish settles h, or leaves it held after an error, and answers those who wait
// for it.
func (s *Store) finish(h *hold, err error) {
	sh := s.shard(h.user)
	sh.mu.Lock()
	c := h.commit
	h.commit = nil
	if err == nil {
		sh.settle(h.user, h.id)
	}
	sh.mu.Unlock()
	c.err = err
	close(c.done)
	if err == nil {
		s.watchers.Notify(h.user)
	}
}
