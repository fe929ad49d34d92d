package boltstore

import (
	"fmt"
	"time"

	"metergate/quota/internal/boltfile"
)

// A queuedWrite is a hold to be counted, a change to be made, terms to be set, or another write; the others
// are nil.
type queuedWrite struct {
	hold   *hold
	change *pendingChange
	terms  *pendingTerms
	other  *pendingWrite
}

// runWriter brings to disk what is queued until the queue is closed. A single write is made at
// once; those that arrive while the disk is busy share one.
func (s *Store) runWriter() {
	for {
		batch := s.queue.TakeAll()
		if len(batch) == 0 {
			return
		}
		err := s.writeBatch(batch)
		s.lastWrite.Store(&err)
		for _, w := range batch {
			if w.hold != nil {
				s.finishCommit(w.hold, err)
				continue
			}
			if w.terms != nil {
				w.terms.err = err
				s.endTermsWrite(w.terms.user, w.terms.done)
				continue
			}
			if w.other != nil {
				w.other.err = err
				close(w.other.done)
				continue
			}
			if err != nil {
				w.change.err = err
			}
			s.endTermsWrite(w.change.user, w.change.done)
		}
	}
}

// A pendingWrite is a write that waits for the writer, and what its caller waits for.
type pendingWrite struct {
	apply func(tx boltfile.Tx, now time.Time) (created int, err error) // returns how many keys it has created
	done  chan struct{}                                                // closed when err is final
	err   error
}

// write makes a write, and returns when it is on disk or has failed. Writes that arrive while the disk is busy
// share one, so an error of apply fails other calls as well.
func (s *Store) write(apply func(boltfile.Tx, time.Time) (created int, err error)) error {
	if _, err := s.beginCall(); err != nil {
		return err
	}
	defer s.calls.Done()
	w := &pendingWrite{apply: apply, done: make(chan struct{})}
	s.queue.Add(queuedWrite{other: w})
	<-w.done
	return w.err
}

// writeBatch makes one write of a batch. It returns when the write is on disk or has failed.
func (s *Store) writeBatch(batch []queuedWrite) error {
	s.writeMu.Lock()
	defer s.writeMu.Unlock()
	var write struct { // one allocation
		number    int64
		crossings crossingRecorder
	}
	if h := batch[0].hold; h != nil {
		// The log could take the counts of a damaged file, which would be lost with it.
		if err := s.checkFile(h.user, ""); err != nil {
			return err
		}
	}
	// A disk that fails at the very end leaves a write that every reader sees, but that a
	// crash may undo. Its holds keep their number: they count as used. When they are committed
	// again, another write brings them to disk without counting them twice. After any other
	// failure the holds lose the number and are held as before. The next commit of the file has
	// that number or a higher one, so this happens before it.
	giveBack := func(seen int64) {
		for _, w := range batch {
			if w.hold != nil && write.number > seen {
				w.hold.writeNumber.CompareAndSwap(write.number, 0)
			}
		}
	}
	err := s.dbUpdate(func(tx boltfile.Tx) error {
		tx.IfItFails(giveBack)
		write.number = s.db.Number(tx.Tx)
		now, created := s.now(), 0
		write.crossings = crossingRecorder{tx: tx, retention: s.retention, now: now}
		for _, w := range batch {
			if w.change != nil {
				if err := w.change.apply(&write.crossings); err != nil {
					return err
				}
				created += 2*len(w.change.change.Counts) + 2 // also of the day; their sum, and the entry of the audit log
				continue
			}
			if w.terms != nil {
				if err := w.terms.apply(tx, s.calendar, now); err != nil {
					return err
				}
				created += 2
				continue
			}
			if w.other != nil {
				n, err := w.other.apply(tx, now)
				if err != nil {
					return err
				}
				created += n
				continue
			}
			if w.hold.writeNumber.Load() != 0 {
				continue // a failed write has left it in the file, see below
			}
			n, err := countUp(tx, w.hold, now, s.retention)
			if err != nil {
				return err
			}
			created += n
			if err := write.crossings.recordHold(w.hold); err != nil {
				return err
			}
			w.hold.writeNumber.Store(write.number)
		}
		created += 2 * len(write.crossings.accounts)
		// Delete twice as much as was added, so that old keys become fewer.
		return prune(tx, now, s.retention, 2*created+100)
	})
	// Of a write that failed, they may be seen as well. An account without any is found out when it is claimed.
	s.crossings.add(write.crossings.accounts, write.crossings.now)
	s.endCached(batch, err)
	if err == nil {
		return nil
	}
	return fmt.Errorf("writing to %s: %w", s.db.Path(), err)
}

// endCached ends what is cached and not valid after the write of a batch.
func (s *Store) endCached(batch []queuedWrite, err error) {
	all := err != nil
	for _, w := range batch {
		all = all || w.other != nil
		if w.change != nil {
			sh := s.userShard(w.change.user)
			sh.mu.Lock()
			sh.cache.remove(w.change.user)
			sh.mu.Unlock()
		}
	}
	if all {
		s.cacheGeneration.Add(1)
	}
}

// endTermsWrite closes done. If it is that of a write of terms, requests for the account go on.
func (s *Store) endTermsWrite(account string, done chan struct{}) {
	sh := s.userShard(account)
	sh.mu.Lock()
	if sh.termsWrites[account] == done {
		delete(sh.termsWrites, account)
	}
	sh.mu.Unlock()
	close(done)
}

// finishCommit settles h, except for its rest, or leaves it held after an error, and wakes the callers
// that wait for it.
func (s *Store) finishCommit(h *hold, err error) {
	sh := s.userShard(h.user)
	sh.mu.Lock()
	c := h.commit
	h.commit = nil
	if err == nil {
		sh.cache.count(h)
		sh.settle(h.user, h.id)
		if h.rest > 0 {
			sh.addHold(newRest(h, h.rest))
		}
	}
	sh.mu.Unlock()
	c.err = err
	close(c.done)
	if err == nil {
		s.notify(h.user, h.pool)
	}
}
