package guard

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/singleflight"

	"metergate/quota"
	"metergate/quota/internal/hub"
)

// A Remote is a store that can fail: one of package boltstore or redisstore. It keeps
// the contract of quota.Store; the methods below are what the guard needs beyond it.
type Remote interface {
	quota.Store

	// Replay commits up to MaxReplay reservations of one user. Each counts once, as with
	// Commit. With an error, some of them may have been counted.
	Replay(ctx context.Context, user string, rs []quota.Reservation) error
	// Probe writes something without effect where the user's counts are stored. It
	// succeeds when calls for the user would.
	Probe(ctx context.Context, user string) error
	// Partition is the part of the store that has the user's counts, 0 to
	// Partitions()-1. Parts may fail independently, so each has a circuit breaker.
	Partition(user string) int
	Partitions() int
	// Ping asks every part for a sign of life.
	Ping(context.Context) error
	// Now is the store's time, as last seen.
	Now() time.Time
}

// MaxReplay bounds a call of Remote.Replay: the store may do nothing else
// meanwhile.
const MaxReplay = 200

// Options are what a Store needs.
type Options struct {
	Remote Remote
	// Journal keeps commits that the remote store does not answer. The Store closes
	// it. nil: they are kept in memory, as many as fit, and Commit returns an error.
	Journal *Journal
	// AllowOnFailure lets a request pass when the store does not answer its reserve and the
	// last known usage permits. False: the reserve returns the error. One that is observed
	// passes in either case.
	AllowOnFailure bool
	// Timeout is the longest to wait for one answer of the remote store.
	Timeout time.Duration
	// Calendar and Keep are the remote store's.
	Calendar *quota.Calendar
	Keep     time.Duration
	Log      *slog.Logger // nil: nothing is logged
}

// Store is a remote store that keeps counting when that one does not answer. It is
// safe for concurrent use.
type Store struct {
	Options
	breakers []breaker
	ledger   *ledger
	debts    debts
	stats    stats
	watchers hub.Hub // of what happens here and not in the remote store

	replays    singleflight.Group // one a user
	background sync.WaitGroup
	closing    chan struct{}
	close      func() error
}

// New wraps a store. What the journal holds is counted from now on, in the
// background. Error: the journal cannot be read.
func New(o Options) (*Store, error) {
	s := &Store{
		Options:  o,
		breakers: make([]breaker, o.Remote.Partitions()),
		ledger:   newLedger(o.Calendar),
		debts:    debts{wake: make(chan struct{}, 1)},
		closing:  make(chan struct{}),
	}
	if s.Log == nil {
		s.Log = slog.New(slog.DiscardHandler)
	}
	if o.Journal != nil {
		if err := o.Journal.each(s.owe); err != nil {
			return nil, err
		}
	}
	s.background.Go(s.payDebts)
	s.close = sync.OnceValue(s.shutDown)
	s.debts.call()
	return s, nil
}

// owe notes an entry of the journal.
func (s *Store) owe(r *quota.Reservation) {
	s.ledger.journaled(r)
	s.stats.backlog.Add(1)
}

// breaker is that of a user.
func (s *Store) breaker(user string) *breaker { return &s.breakers[s.Remote.Partition(user)] }

// answered notes how a call of the remote store ended, and reports whether it was
// answered. What says nothing about the store changes nothing.
func (s *Store) answered(c call, user string, err error) bool {
	b := s.breaker(user)
	switch {
	case quota.StoreResponded(err):
		b.success()
		return true
	case errors.Is(err, quota.ErrOverloaded) || errors.Is(err, errOpened):
	case !c.until.IsZero() && errors.Is(err, context.DeadlineExceeded): // it had less than its time
	case b.failure(user, err):
		where := "the journal"
		if s.Journal == nil {
			where = "memory alone"
		}
		s.Log.Error("the store does not answer; what succeeds is kept in "+where, "on_failure_allow", s.AllowOnFailure, "error", err)
		s.background.Go(func() { s.probe(b) })
		s.watchers.NotifyAll()
	}
	return false
}

// enter returns the context for a call about a user, after all that is owed of him
// has been counted. Both together take no longer than the store's timeout.
func (s *Store) enter(ctx context.Context, user string) (call, error) {
	c, err := s.breaker(user).enter(ctx)
	if err != nil || s.ledger.owes(user) == 0 {
		return c, err
	}
	c.until = time.Now().Add(s.Timeout)
	return c, s.payUser(user)
}

// Reserve asks the remote store, or decides without it, see the package comment.
// An error is the remote store's, or quota.ErrOverloaded; then the request must not
// pass, and there is nothing to settle.
func (s *Store) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	call, err := s.enter(ctx, r.User)
	if err != nil {
		return s.decideAlone(r, err)
	}
	d, err := s.Remote.Reserve(call, r)
	switch {
	case s.answered(call, r.User, err):
		switch {
		case d.Admitted:
			s.ledger.admitted(d)
		case err == nil:
			s.ledger.learn(r.User, &d.Snapshot)
		}
		return d, err
	case errors.Is(err, quota.ErrOverloaded), errors.Is(err, errOpened): // nothing was sent
		return s.decide(&d.Reservation, err)
	}
	unanswered := &d.Reservation
	d, err = s.decide(unanswered, err)
	if !d.Admitted {
		// Its reserve may be on its way, or done.
		s.releaseLater(unanswered)
	}
	return d, err
}

// decideAlone decides on a request that the store was not asked about.
func (s *Store) decideAlone(r quota.Request, cause error) (*quota.Decision, error) {
	now := s.Remote.Now()
	p := r.Plans.Effective(s.ledger.override(r.User, now))
	return s.decide(&quota.Reservation{Request: r, Plan: p, Windows: s.Calendar.WindowsAt(p.Periods(), now)}, cause)
}

// decide admits a request, or not, without an answer of the store. It leaves r as it is.
func (s *Store) decide(r *quota.Reservation, cause error) (*quota.Decision, error) {
	d := &quota.Decision{Reservation: *r}
	if !s.AllowOnFailure && !r.InObserveMode(r.Plan) || errors.Is(cause, quota.ErrOverloaded) {
		return d, cause
	}
	d.Reservation.Unchecked = true
	s.ledger.admit(d, s.Remote.Now())
	if d.Admitted {
		s.stats.unchecked.Add(1)
		s.watchers.Notify(r.User)
	}
	return d, nil
}

// errNoJournal: neither the store nor a journal has a count on disk.
var errNoJournal = errors.New("the store cannot be written, and it has no journal")

// Commit counts r, in the remote store or in the journal. The snapshot of a count
// in the journal is stale. An error means that neither took it: it will be counted
// only if the process lives until the store is back.
func (s *Store) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	if call, err := s.breaker(r.User).enter(ctx); err == nil {
		snapshot, err := s.Remote.Commit(call, r)
		if s.answered(call, r.User, err) {
			s.ledger.settled(r)
			s.ledger.learn(r.User, snapshot)
			return snapshot, nil
		}
	}
	return s.commitLater(r)
}

// commitLater has a count wait for the store, in the journal or in memory.
func (s *Store) commitLater(r *quota.Reservation) (*quota.Snapshot, error) {
	var err error
	if s.Journal != nil {
		err = s.Journal.add(r)
	} else {
		err = errNoJournal
	}
	switch {
	case err == nil:
		s.stats.journaled.Add(1)
	case s.debts.keep(r):
		s.stats.journalErrors.Add(1)
	default:
		s.stats.journalErrors.Add(1)
		s.ledger.settled(r)
		return nil, err // memory is full, too
	}
	s.owe(r)
	s.watchers.Notify(r.User)
	s.debts.call()
	if err != nil {
		return nil, err
	}
	return s.lastKnown(r), nil
}

// lastKnown is what can be said without the store of the user of r.
func (s *Store) lastKnown(r *quota.Reservation) *quota.Snapshot {
	snapshot, _ := s.ledger.read(r.User, r.Plans, s.Remote.Now())
	return &snapshot
}

// Release gives r back, in the remote store or later. The snapshot is stale when
// it is later. It returns no error.
func (s *Store) Release(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	s.ledger.settled(r)
	if call, err := s.breaker(r.User).enter(ctx); err == nil {
		snapshot, err := s.Remote.Release(call, r)
		if s.answered(call, r.User, err) {
			s.ledger.learn(r.User, snapshot)
			return snapshot, nil
		}
	}
	s.releaseLater(r)
	s.watchers.Notify(r.User)
	return s.lastKnown(r), nil
}

// Forget is the remote store's.
func (s *Store) Forget(r *quota.Reservation) { s.Remote.Forget(r) }

// Read returns a user's state, the last known one if the store does not answer.
// The error is the store's when nothing is known.
func (s *Store) Read(ctx context.Context, user string, t quota.PlanChoice) (quota.Snapshot, error) {
	call, err := s.enter(ctx, user)
	if err == nil {
		var snapshot quota.Snapshot
		snapshot, err = s.Remote.Read(call, user, t)
		if s.answered(call, user, err) {
			s.ledger.learn(user, &snapshot)
			return snapshot, nil
		}
	}
	if errors.Is(err, quota.ErrOverloaded) {
		return quota.Snapshot{}, err
	}
	if snapshot, ok := s.ledger.read(user, t, s.Remote.Now()); ok {
		return snapshot, nil
	}
	return quota.Snapshot{}, err
}

// Watch sends to ch, without waiting, whenever a user's numbers may have changed,
// until stop is called: on whichever gateway, or because the store has ceased to
// answer or answers again. ch should have a capacity of 1. Announcements can be
// lost: read from time to time besides.
func (s *Store) Watch(user string, ch chan<- struct{}) (stop func()) {
	here, _ := s.watchers.Watch(user, ch, nil)
	there := s.Remote.Watch(user, ch)
	return func() { here(); there() }
}

// Ping asks the remote store, unless a breaker knows better.
func (s *Store) Ping(ctx context.Context) error {
	for i := range s.breakers {
		if err := s.breakers[i].isOpen(); err != nil {
			return err
		}
	}
	return s.Remote.Ping(ctx)
}

// Close ends the work in the background, after a last try to count what the
// journal holds, and closes the journal; not the remote store.
func (s *Store) Close() error { return s.close() }

func (s *Store) shutDown() error {
	close(s.closing)
	s.background.Wait()
	if s.Journal == nil {
		return nil
	}
	return s.Journal.close()
}

// Stats are the numbers of a Store since New.
type Stats struct {
	OpenBreakers  int   // breakers that are open
	Backlog       int64 // counts that wait for the store
	Journaled     int64 // counts that have gone to the journal
	Replayed      int64 // counts that have come from there into the store
	Dropped       int64 // counts that were too old to be read by anybody
	Unchecked     int64 // requests that passed without an answer of the store
	JournalErrors int64 // counts that no journal took
}

type stats struct {
	backlog, journaled, replayed, dropped, unchecked, journalErrors atomic.Int64
}

// Stats returns the numbers of now.
func (s *Store) Stats() Stats {
	st := Stats{
		Backlog:       s.stats.backlog.Load(),
		Journaled:     s.stats.journaled.Load(),
		Replayed:      s.stats.replayed.Load(),
		Dropped:       s.stats.dropped.Load(),
		Unchecked:     s.stats.unchecked.Load(),
		JournalErrors: s.stats.journalErrors.Load(),
	}
	for i := range s.breakers {
		if s.breakers[i].isOpen() != nil {
			st.OpenBreakers++
		}
	}
	return st
}
