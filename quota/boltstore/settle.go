package boltstore

import (
	"context"
	"time"

	"metergate/quota"
)

// Commit counts r, see quota.Store. It returns when the count is on disk. Errors are
// ErrClosed, that of ctx while the count is still being written, and those of the disk. After
// the latter two Commit can be called again, and counts once.
func (s *Store) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	c, err := s.startCommit(r)
	if err != nil {
		return nil, err
	}
	defer s.calls.Done()
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	s.noteFirstUse(ctx, r)
	sh := s.userShard(r.User)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return s.stateAfterCount(sh, r)
}

// startCommit queues r for the writer, unless it is queued already, and returns the commit
// to wait for; nil if r is settled. If it returns no error, the caller must call
// s.calls.Done, for which Close waits.
func (s *Store) startCommit(r *quota.Reservation) (*pendingCommit, error) {
	sh, _, err := s.lockUser(r.User)
	if err != nil {
		return nil, err
	}
	defer sh.mu.Unlock()
	s.calls.Add(1)
	if sh.isSettled(r.User, r.ID) {
		return nil, nil
	}
	h := sh.holds[r.User][r.ID]
	if h == nil {
		h = &hold{user: r.User, id: r.ID}
	}
	if h.commit == nil {
		if len(r.PoolWindows) > 0 {
			h.pool = quota.PoolOf(r.User)
		}
		sh.addHold(h)
		h.poolWindows = r.PoolWindows
		h.endpoint, h.date, h.hour, h.windows = r.Endpoint, r.Date, r.BillHour, r.Windows
		h.units, h.charged, h.rest = r.HeldUnits(), r.ChargedUnits(), r.RestUnits()
		if h.rest > 0 && sh.hasRestTaken(r.User, r.ID) {
			h.units, h.rest = h.units-h.rest, 0
		}
		if r.Plans.Claimed != nil {
			h.claimedPlan = r.Plans.Claimed.Name()
		}
		h.setPlans(r.Plans)
		h.commit = &pendingCommit{done: make(chan struct{})}
		s.queue.Add(queuedWrite{hold: h})
	}
	return h.commit, nil
}

// CommitRest settles the rest of r, see quota.Store. What it charges is on disk when it returns; if
// that is nothing, nothing is written. Errors are those of Commit, and it can be called again as well.
func (s *Store) CommitRest(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	c, err := s.startRest(ctx, r)
	if err != nil {
		return nil, err
	}
	defer s.calls.Done()
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	sh := s.userShard(r.User)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return s.stateAfterCount(sh, r)
}

// startRest is startCommit for the rest of r. It waits for a Commit of r that is under way.
func (s *Store) startRest(ctx context.Context, r *quota.Reservation) (*pendingCommit, error) {
	for {
		sh, _, err := s.lockUser(r.User)
		if err != nil {
			return nil, err
		}
		first := sh.holds[r.User][r.ID]
		if first == nil || first.commit == nil {
			s.calls.Add(1)
			c := s.queueRest(sh, r, first)
			sh.mu.Unlock()
			return c, nil
		}
		under := first.commit
		sh.mu.Unlock()
		select {
		case <-under.done:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// queueRest queues the rest of r for the writer, unless it is queued already, and returns the commit to
// wait for; nil if it is settled. The shard must be locked. request is the hold of r if it is not
// counted yet; then it gives its rest away.
func (s *Store) queueRest(sh *shard, r *quota.Reservation, request *hold) *pendingCommit {
	id := restID(r.ID)
	if sh.isSettled(r.User, id) {
		return nil
	}
	h := sh.holds[r.User][id]
	if h == nil {
		pool := ""
		if len(r.PoolWindows) > 0 {
			pool = quota.PoolOf(r.User)
		}
		h = newRest(&hold{user: r.User, pool: pool, id: r.ID, endpoint: r.Endpoint, date: r.Date, hour: r.BillHour, windows: r.Windows, poolWindows: r.PoolWindows}, r.RestUnits())
		if request != nil {
			request.units -= h.units
			request.rest = 0
		}
		sh.addHold(h)
	}
	if h.commit != nil {
		return h.commit
	}
	if h.charged = r.ChargedRest(); h.charged == 0 {
		sh.settle(r.User, id)
		s.notify(r.User, h.pool)
		return nil
	}
	h.setPlans(r.Plans)
	h.commit = &pendingCommit{done: make(chan struct{})}
	s.queue.Add(queuedWrite{hold: h})
	return h.commit
}

// Release gives back what r holds, see quota.Store. A reservation that is being counted stays
// counted. Nothing is written to disk, and the context is ignored. Errors are ErrClosed, when
// nothing was done, and those of the disk, when the unit was given back and only the Snapshot
// could not be read.
func (s *Store) Release(_ context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	sh, now, err := s.lockUser(r.User)
	if err != nil {
		return nil, err
	}
	defer sh.mu.Unlock()
	if h := sh.holds[r.User][r.ID]; h == nil || !h.isCommitting() {
		pool := ""
		if h != nil {
			pool = h.pool
		}
		sh.settle(r.User, r.ID)
		s.notify(r.User, pool)
	}
	return s.stateAfter(sh, r, now)
}

// stateAfterCount is the state of the user of r after a Commit of it, nil with an error. The writer has looked for
// damage. The user's shard sh must be locked.
func (s *Store) stateAfterCount(sh *shard, r *quota.Reservation) (*quota.Snapshot, error) {
	now := s.now()
	snapshot, _, err := s.readSnapshot(sh, r.User, r.Plans, now, now, onlyReading)
	if err != nil {
		return nil, err
	}
	return &snapshot, nil
}

// stateAfter is the state of the user of r after a Release of it, nil with an
// error. The user's shard sh must be locked.
func (s *Store) stateAfter(sh *shard, r *quota.Reservation, now time.Time) (*quota.Snapshot, error) {
	snapshot, err := s.snapshot(sh, r.User, r.Plans, now, now, onlyReading)
	if err != nil {
		return nil, err
	}
	return &snapshot, nil
}

// Forget drops what the store remembers to recognise repeated calls for r. Without Forget it
// does so after 10 to 20 minutes.
func (s *Store) Forget(r *quota.Reservation) {
	sh := s.userShard(r.User)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.forget(r.User, r.ID)
	if r.RestUnits() == 0 {
		return
	}
	id := restID(r.ID)
	sh.forget(r.User, id)
	if h := sh.holds[r.User][id]; h != nil && h.commit == nil { // no CommitRest has come
		sh.removeHold(r.User, id)
	}
}
