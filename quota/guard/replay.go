package guard

import (
	"context"
	"errors"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"metergate/quota"
)

const (
	// closeTimeout bounds the last attempt to send what waits, when the Store is closed. The
	// rest stays in the journal for the next process.
	closeTimeout = 2 * time.Second
	// forgetAfter is how long the store must recognise a commit that came from the journal:
	// copies of the call that was not answered may still arrive.
	forgetAfter = time.Minute
)

// runOutbox sends what waits for the backend whenever there is something, until the
// Store is closed.
func (s *Store) runOutbox() {
	forget := time.NewTicker(forgetAfter / 2)
	defer forget.Stop()
	for {
		select {
		case <-s.outbox.wake:
		case <-forget.C:
			s.forgetReplayed()
			continue
		case <-s.closing:
			s.sendAll(time.Now().Add(closeTimeout)) // a last attempt
			return
		}
		for !s.sendAll(time.Time{}) {
			// A breaker that closes signals as well, but all of them may be closed.
			select {
			case <-time.After(probeEvery):
			case <-s.closing:
				s.sendAll(time.Now().Add(closeTimeout))
				return
			}
		}
	}
}

// sendAll sends what waits and reports whether nothing is left. Once the Store is closing, it
// gives up at deadline; zero means at once.
func (s *Store) sendAll(deadline time.Time) (done bool) {
	giveUp := func() bool {
		select {
		case <-s.closing:
			return deadline.IsZero() || time.Now().After(deadline)
		default:
			return false
		}
	}
	done = true
	for _, user := range s.ledger.usersWithBacklog() {
		if giveUp() {
			return false
		}
		if s.breaker(user).openError() != nil || s.replayInTime(user, time.After(s.timeout)) != nil {
			done = false
		}
	}
	for _, release := range s.outbox.takeReleases() {
		if giveUp() {
			return false // the leases end by themselves
		}
		if s.backend.Now().Before(release.due) && s.sendRelease(&release.Reservation) != nil {
			s.outbox.putBackRelease(release)
			done = false
		}
	}
	return done
}

// sendRelease releases r in the backend. An error means that it should be tried again.
func (s *Store) sendRelease(r *quota.Reservation) error {
	call, err := s.beginSettling(context.Background(), opRelease, r.User)
	if err != nil {
		return err
	}
	_, err = s.backend.Release(call, r)
	s.recordResult(call, err)
	return err
}

// errTooMany: see replayInTime.
var errTooMany = errors.New("the journal has too many counts of this user, or of the members of their organisation, to replay in time")

// replayInTime counts everything that waits of a user. It waits until timeout; a replay that takes longer
// goes on in the background.
func (s *Store) replayInTime(user string, timeout <-chan time.Time) error {
	// A replay that was already running may have missed the last entry: repeat it.
	for {
		if own, _ := s.ledger.backlog(user); own <= 0 {
			return nil
		}
		select {
		case r := <-s.replays.DoChan(user, func() (any, error) { return nil, s.replay(user) }):
			if r.Err != nil {
				return r.Err
			}
		case <-timeout:
			return errTooMany
		}
	}
}

// replayPoolInTime is replayInTime for all members of the pool that a user shares, or that they are: what
// one member has used must not be given to another.
func (s *Store) replayPoolInTime(user string, timeout <-chan time.Time) error {
	pool := quota.PoolOf(user)
	if pool == "" {
		pool = user
	}
	// The first replay may have been running already, and have missed an entry.
	for range 2 {
		if _, ofMembers := s.ledger.backlog(pool); ofMembers <= 0 {
			return nil
		}
		select {
		case r := <-s.replays.DoChan(pool, func() (any, error) { return nil, s.replayMembers(pool) }):
			if r.Err != nil {
				return r.Err
			}
		case <-timeout:
			return errTooMany
		}
	}
	return nil
}

// membersAtOnce bounds the members of an organisation whose counts are sent at once.
const membersAtOnce = 16

// replayMembers counts everything that waits of the members of a pool. A member whose data cannot be used
// keeps no other one waiting.
func (s *Store) replayMembers(pool string) error {
	var group errgroup.Group
	group.SetLimit(membersAtOnce)
	for _, member := range s.ledger.membersWithBacklog(pool) {
		group.Go(func() error {
			_, err, _ := s.replays.Do(member, func() (any, error) { return nil, s.replay(member) })
			if errors.Is(err, quota.ErrUserData) {
				return nil
			}
			return err
		})
	}
	return group.Wait()
}

// replay counts everything that waits of a user: first what is in the outbox, then what is
// in the journal.
func (s *Store) replay(user string) error {
	for {
		ws := s.outbox.userCommits(user)
		if len(ws) == 0 {
			break
		}
		if err := s.sendCommits(user, ws); err != nil {
			return err
		}
		s.outbox.removeCommits(user, len(ws))
	}
	if s.journal == nil {
		return nil
	}
	for {
		ws, err := s.journal.userEntries(user, MaxReplay)
		if err != nil {
			s.unreadable.Do(func() {
				s.log.Error("the journal cannot be read; the counts in it wait until the gateway starts with a good one", "error", err)
			})
			return err
		}
		if len(ws) == 0 {
			return nil
		}
		if err := s.sendCommits(user, ws); err != nil {
			return err
		}
		s.journal.remove(ws)
		s.outbox.addReplayed(ws, s.backend.Now().Add(forgetAfter))
	}
}

// sendCommits counts commits of one user in the backend, and drops those of which no
// window and no day is kept any more. It fills in the rests that requests leave held because their responses have
// not ended; those of a process that died have.
func (s *Store) sendCommits(user string, ws []settlement) error {
	now := s.backend.Now()
	isKept := func(w quota.Window) bool { return now.Before(w.RetainedUntil(s.keep)) }
	var kept, dropped []settlement
	for i := range ws {
		w := &ws[i]
		if rest, ok := s.ledger.rest(user, w.ID); ok && !w.isRest {
			w.Reservation = rest.Reservation
		}
		switch {
		case !slices.ContainsFunc(w.Windows, isKept) && !slices.ContainsFunc(w.PoolWindows, isKept) && !s.keepsDay(w.Date, now) && !w.BillHour.IsKept(s.billingHours, quota.BillHourAt(now)):
			dropped = append(dropped, *w)
			s.forgetRest(w)
		default:
			kept = append(kept, *w)
		}
	}
	if err := s.sendKept(user, kept); err != nil {
		return err
	}
	s.ledger.removeUnsent(user, kept, true)
	s.ledger.removeUnsent(user, dropped, false)
	s.stats.replayed.Add(int64(len(kept)))
	s.stats.dropped.Add(int64(len(dropped)))
	s.stats.backlog.Add(-int64(len(ws)))
	if len(dropped) > 0 {
		s.logs.dropped.Log("dropped", len(dropped), "dropped_in_total", s.stats.dropped.Load())
	}
	return nil
}

// sendKept counts commits of one user in the backend.
func (s *Store) sendKept(user string, ws []settlement) error {
	if len(ws) == 0 {
		return nil
	}
	if err := s.findPlans(user, ws); err != nil {
		return err
	}
	var requests, rests []quota.Reservation
	for i := range ws {
		if w := &ws[i]; w.isRest {
			rests = append(rests, w.Reservation)
		} else {
			requests = append(requests, w.Reservation)
		}
	}
	call, err := s.beginSettling(context.Background(), opReplay, user)
	if err != nil {
		return err
	}
	if err = s.backend.Replay(call, user, requests, rests); !s.recordResult(call, err) {
		return err
	}
	return nil
}

// findPlans fills in the plans of commits that come from the journal, if there are thresholds to reach. The
// plan that a token claimed stands in the journal or, if an older release has written it, in the backend.
func (s *Store) findPlans(user string, ws []settlement) error {
	if s.plansFor == nil || !s.plansFor(user, "").Notifies() {
		return nil
	}
	asked, stored := false, ""
	for i := range ws {
		w := &ws[i]
		if w.Plans.Claimed != nil {
			continue // it was in memory
		}
		claimed := w.claimed
		if claimed == "" && !asked {
			call, err := s.beginSettling(context.Background(), opReplay, user)
			if err != nil {
				return err
			}
			stored, err = s.backend.ClaimedPlan(call, user)
			if !s.recordResult(call, err) {
				return err
			}
			asked = true
		}
		if claimed == "" {
			claimed = stored
		}
		w.Plans = s.plansFor(user, claimed)
	}
	return nil
}

// keepsDay reports whether the backend keeps the numbers of a day at now.
func (s *Store) keepsDay(date quota.Date, now time.Time) bool {
	return s.historyDays > 0 && date.IsKept(s.historyDays, s.calendar.DateAt(now))
}

// forgetReplayed lets the backend forget commits that came from the journal some time
// ago and are no longer in it: no call for them will come again.
func (s *Store) forgetReplayed() {
	for _, p := range s.outbox.takeForgettable(s.backend.Now()) {
		if s.journal.isRemoved(&p.settlement) {
			s.backend.Forget(&p.Reservation)
		}
	}
}
