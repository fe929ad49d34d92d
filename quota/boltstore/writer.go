package boltstore

import (
	"fmt"

	bolt "go.etcd.io/bbolt"
)

// runWriter counts the holds in the queue until it is closed. A single hold is written at once;
// holds that arrive while the disk is busy share one write.
func (s *Store) runWriter() {
	for {
		batch := s.queue.TakeAll()
		if len(batch) == 0 {
			return
		}
		err := s.writeBatch(batch)
		s.lastWrite.Store(&err)
		for _, h := range batch {
			s.finishCommit(h, err)
		}
	}
}

// writeBatch counts a batch of holds in one write. It returns when the write is on disk or has
// failed.
func (s *Store) writeBatch(batch []*hold) error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	var number int64
	err := s.dbUpdate(func(tx *bolt.Tx) error {
		number = int64(tx.ID())
		now, created := s.now(), 0
		for _, h := range batch {
			if h.writeNumber.Load() != 0 {
				continue // a failed write has left it in the file, see below
			}
			n, err := countUp(tx, h, now, s.keep)
			if err != nil {
				return err
			}
			created += n
			h.writeNumber.Store(number)
		}
		// Delete twice as much as was added, so that old keys become fewer.
		return prune(tx, now, s.keep, 2*created+100)
	})
	if err == nil {
		return nil
	}
	// The next write has the same number as the one that failed; writeMu makes it wait.
	//
	// A disk that fails at the very end leaves a write that every reader sees, but that a
	// crash may undo. Its holds keep their number: they count as used. When they are committed
	// again, another write brings them to disk without counting them twice. After any other
	// failure the holds lose the number and are held as before.
	seen := int64(0)
	s.db.View(func(tx *bolt.Tx) error { seen = int64(tx.ID()); return nil })
	if number > seen {
		for _, h := range batch {
			h.writeNumber.CompareAndSwap(number, 0)
		}
	}
	return fmt.Errorf("counting in %s: %w", s.db.Path(), err)
}

// finishCommit settles h, or leaves it held after an error, and wakes the callers that wait for
// it.
func (s *Store) finishCommit(h *hold, err error) {
	sh := s.userShard(h.user)
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
