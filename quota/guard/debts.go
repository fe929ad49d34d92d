package guard

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"metergate/quota"
)

const (
	probeEvery = 200 * time.Millisecond
	// maxReleases bounds the releases that wait. What they would give back ends
	// with its lease anyway.
	maxReleases = 10_000
	// maxLoose bounds the commits that wait in memory because no journal takes them.
	maxLoose = 100_000
	// closeTimeout bounds the last try to count what the journal holds. The rest stays
	// in it for the next process.
	closeTimeout = 2 * time.Second
	// forgetAfter is how long the store has to recognise a count that came from the
	// journal: copies of the call that was not answered may still arrive.
	forgetAfter = time.Minute
	// maxReplayed bounds the replayed counts that wait for it.
	maxReplayed = 200_000
)

// debts are what is to be done when the store answers again, besides what the
// journal has on disk.
type debts struct {
	wake     chan struct{} // one slot: there is something to do
	mu       sync.Mutex
	loose    map[string][]quota.Reservation // commits by user that no journal has taken
	kept     int                            // how many they are
	releases []release
	replayed []release // to be forgotten
}

type release struct {
	r     quota.Reservation
	until time.Time // when its lease has run out
}

func (d *debts) call() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// keep keeps a commit in memory. False: there are too many already.
func (d *debts) keep(r *quota.Reservation) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.kept >= maxLoose {
		return false
	}
	if d.loose == nil {
		d.loose = map[string][]quota.Reservation{}
	}
	d.loose[r.User] = append(d.loose[r.User], *r)
	d.kept++
	return true
}

// looseOf returns some of a user's commits that no journal has taken.
func (d *debts) looseOf(user string) []quota.Reservation {
	d.mu.Lock()
	defer d.mu.Unlock()
	rs := d.loose[user]
	return slices.Clone(rs[:min(len(rs), MaxReplay)])
}

// drop ends what looseOf returned.
func (d *debts) drop(user string, n int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.kept -= n
	if d.loose[user] = d.loose[user][n:]; len(d.loose[user]) == 0 {
		delete(d.loose, user)
	}
}

// releaseLater gives r back when the store answers, before its lease runs out.
func (s *Store) releaseLater(r *quota.Reservation) {
	s.debts.mu.Lock()
	defer s.debts.mu.Unlock()
	if len(s.debts.releases) < maxReleases {
		s.debts.releases = append(s.debts.releases, release{*r, s.Remote.Now().Add(r.Lease)})
		s.debts.call()
	}
}

// probe asks the store until it answers.
func (s *Store) probe(b *breaker) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	began := time.Now()
	for {
		select {
		case <-tick.C:
		case <-s.closing:
			return
		}
		ctx, cancel := context.WithTimeout(context.Background(), s.Timeout)
		err := s.Remote.Probe(ctx, b.probeUser())
		cancel()
		if errors.Is(err, quota.ErrOverloaded) {
			continue
		}
		b.probed(err)
		if err == nil {
			s.Log.Info("the store answers again", "after", time.Since(began).Round(time.Millisecond).String(), "backlog", s.stats.backlog.Load())
			s.debts.call()
			s.watchers.NotifyAll()
			return
		}
	}
}

// payDebts counts what the journal holds and releases what waits, whenever there is
// something and the store answers.
func (s *Store) payDebts() {
	forget := time.NewTicker(forgetAfter / 2)
	defer forget.Stop()
	for {
		select {
		case <-s.debts.wake:
		case <-forget.C:
			s.forgetReplayed()
			continue
		case <-s.closing:
			s.payAll(time.Now().Add(closeTimeout)) // a last try
			return
		}
		for !s.payAll(time.Time{}) {
			// A breaker that closes calls too, but there may be none that is open.
			select {
			case <-time.After(probeEvery):
			case <-s.closing:
				s.payAll(time.Now().Add(closeTimeout))
				return
			}
		}
	}
}

// forgetReplayed has the store forget what came from the journal some time ago and
// is removed from it, so that no call for it will come again.
func (s *Store) forgetReplayed() {
	s.debts.mu.Lock()
	defer s.debts.mu.Unlock()
	now := s.Remote.Now()
	due := 0
	for due < len(s.debts.replayed) && !now.Before(s.debts.replayed[due].until) {
		if r := &s.debts.replayed[due].r; s.Journal.removed(r) {
			s.Remote.Forget(r)
		}
		due++
	}
	s.debts.replayed = slices.Delete(s.debts.replayed, 0, due)
}

// payAll reports whether nothing is left to do. It gives up when the store is closing
// and, then, at until.
func (s *Store) payAll(until time.Time) bool {
	done := true
	late := func() bool {
		select {
		case <-s.closing:
			return until.IsZero() || time.Now().After(until)
		default:
			return false
		}
	}
	for _, user := range s.ledger.debtors() {
		if late() {
			return false
		}
		if s.breaker(user).isOpen() != nil || s.payUser(user) != nil {
			done = false
		}
	}
	s.debts.mu.Lock()
	releases := s.debts.releases
	s.debts.releases = nil
	s.debts.mu.Unlock()
	for _, rel := range releases {
		if late() {
			return false // leases end by themselves
		}
		if !s.Remote.Now().Before(rel.until) {
			continue // it has ended by itself
		}
		call, err := s.breaker(rel.r.User).enter(context.Background())
		if err == nil {
			_, err = s.Remote.Release(call, &rel.r)
			s.answered(call, rel.r.User, err)
		}
		if err != nil {
			done = false
			s.debts.mu.Lock()
			s.debts.releases = append(s.debts.releases, rel)
			s.debts.mu.Unlock()
		}
	}
	return done
}

// payUser counts what the journal has of a user, before anything else is asked
// about him. It waits no longer than the store's timeout.
func (s *Store) payUser(user string) error {
	if s.ledger.owes(user) == 0 {
		return nil
	}
	timer := time.NewTimer(s.Timeout)
	defer timer.Stop()
	// Once more where the replay had begun before the last entry was made.
	for s.ledger.owes(user) > 0 {
		paid := s.replays.DoChan(user, func() (any, error) { return nil, s.replay(user) })
		select {
		case r := <-paid:
			if r.Err != nil {
				return r.Err
			}
		case <-timer.C:
			return errors.New("the journal has too many counts of this user to replay in time")
		}
	}
	return nil
}

// replay counts all that is owed of a user.
func (s *Store) replay(user string) error {
	for {
		rs := s.debts.looseOf(user)
		if len(rs) == 0 {
			break
		}
		if err := s.count(user, rs); err != nil {
			return err
		}
		s.debts.drop(user, len(rs))
	}
	if s.Journal == nil {
		return nil
	}
	for {
		rs, err := s.Journal.of(user, MaxReplay)
		if err != nil || len(rs) == 0 {
			return err
		}
		if err := s.count(user, rs); err != nil {
			return err
		}
		s.Journal.remove(rs)
		s.debts.mu.Lock()
		for _, r := range rs {
			if len(s.debts.replayed) < maxReplayed {
				s.debts.replayed = append(s.debts.replayed, release{r, s.Remote.Now().Add(forgetAfter)})
			}
		}
		s.debts.mu.Unlock()
	}
}

// count counts entries of one user, and drops those that nobody could read.
func (s *Store) count(user string, rs []quota.Reservation) error {
	now := s.Remote.Now()
	old := func(r quota.Reservation) bool {
		return !slices.ContainsFunc(r.Windows, func(w quota.Window) bool { return now.Before(w.RetainedUntil(s.Keep)) })
	}
	dropped := slices.Collect(func(yield func(quota.Reservation) bool) {
		for _, r := range rs {
			if old(r) && !yield(r) {
				return
			}
		}
	})
	counted := slices.DeleteFunc(slices.Clone(rs), old)
	if len(counted) > 0 {
		call, err := s.breaker(user).enter(context.Background())
		if err != nil {
			return err
		}
		if err = s.Remote.Replay(call, user, counted); !s.answered(call, user, err) {
			return err
		}
	}
	s.ledger.paid(user, counted, true)
	s.ledger.paid(user, dropped, false)
	s.stats.replayed.Add(int64(len(counted)))
	s.stats.dropped.Add(int64(len(dropped)))
	s.stats.backlog.Add(-int64(len(rs)))
	if len(dropped) > 0 {
		s.Log.Warn("the journal had counts of windows that nobody can read any more", "dropped", len(dropped))
	}
	return nil
}
