package guard

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"

	"metergate/quota"
	"metergate/quota/internal/hub"
)

// A Backend is a store that can fail: one of package boltstore or redisstore. It keeps
// the contract of quota.Store; the methods below are what the guard needs beyond it.
type Backend interface {
	quota.Store

	// Replay commits up to MaxReplay requests and rests of one user. Each counts once, as with
	// Commit and CommitRest. With an error, some of them may have been counted.
	Replay(ctx context.Context, user string, requests, rests []quota.Reservation) error
	// Probe does what requests do, without effect, where the user's counts are stored. It
	// succeeds when calls for other users there would.
	Probe(ctx context.Context, user string) error
	// Check does the same in every part.
	Check(context.Context) error
	// Occupy takes a place, as soon as the store can be reached and even if none is left, for a
	// request that was admitted without an answer of it. Leave gives the place back. It does not
	// block.
	Occupy(*quota.Reservation)
	// Connects receives after the store was connected to, for the first time or again: what was
	// true of it may be so no more. nil: there is nothing to connect to.
	Connects() <-chan struct{}
	// Partition is the part of the store that has the user's counts, 0 to
	// Partitions()-1. Parts may fail independently, so each has a circuit breaker.
	Partition(user string) int
	Partitions() int
	// Now is the store's time, as last seen.
	Now() time.Time
	// DataLost returns why no request may be admitted, other than in observe mode, and nothing
	// settled: the store has lost data, and the operator wants to decide what to do. nil: all is
	// well. It is cheap.
	DataLost() error
	// CheckData has the store look for such a loss soon. It does not wait.
	CheckData()
}

// MaxReplay is the most reservations in one call of Backend.Replay: the store may do
// nothing else during the call.
const MaxReplay = 200

// Options configure a Store.
type Options struct {
	Backend Backend
	// Journal keeps the commits that the backend does not answer. The Store closes
	// it. nil: they are kept in memory, as many as fit, and Commit returns an error.
	Journal *Journal
	// AllowOnFailure admits a request when the backend does not answer its reserve,
	// if the last known usage permits. False: the reserve returns the store's error.
	// Requests in observe mode are admitted in either case.
	AllowOnFailure bool
	// Timeout is the longest wait for one answer of the backend.
	Timeout time.Duration
	// Calendar, Keep and HistoryDays are those of the backend.
	Calendar    *quota.Calendar
	Keep        time.Duration
	HistoryDays int
	// BillingHours is that of the backend as well.
	BillingHours int
	// PlansFor returns the plans that may apply to an account whose token claimed a plan of this name when it
	// was last counted, empty: unknown. It is asked for accounts whose counts are replayed, so that they reach
	// thresholds; nil: nothing is notified of any.
	PlansFor func(account, claimed string) quota.PlanChoice
	// CheckEvery is how often the backend is checked, beside each time that it was connected to.
	// 0: only when Check is called.
	CheckEvery time.Duration
	Log        *slog.Logger // nil: nothing is logged
}

// A Store keeps counting when its backend does not answer. It keeps the
// contract of quota.Store, except for what the package comment says of an outage. It is
// safe for concurrent use.
type Store struct {
	backend        Backend
	journal        *Journal // nil: there is none
	allowOnFailure bool
	timeout        time.Duration
	calendar       *quota.Calendar
	keep           time.Duration
	historyDays    int
	billingHours   int
	plansFor       func(account, claimed string) quota.PlanChoice
	log            *slog.Logger
	logs           logs

	breakers []breaker // one for each partition
	health   health
	ledger   *ledger
	outbox   outbox
	stats    stats
	watchers hub.Hub // of changes here that the backend does not report

	replays    singleflight.Group // one for each user, and for each pool
	unreadable sync.Once          // the journal cannot be read, and that was logged
	leftBehind sync.Once          // the same of the journal of another process
	background sync.WaitGroup
	closing    chan struct{}
	closeOnce  func() error
}

// New returns a guarded store, which replays the journal in the background. It returns an
// error if the journal cannot be read.
func New(o Options) (*Store, error) {
	s := &Store{
		backend:        o.Backend,
		journal:        o.Journal,
		allowOnFailure: o.AllowOnFailure,
		timeout:        o.Timeout,
		calendar:       o.Calendar,
		keep:           o.Keep,
		historyDays:    o.HistoryDays,
		billingHours:   o.BillingHours,
		plansFor:       o.PlansFor,
		log:            o.Log,
		breakers:       make([]breaker, o.Backend.Partitions()),
		ledger:         newLedger(o.Calendar),
		outbox:         outbox{wake: make(chan struct{}, 1)},
		closing:        make(chan struct{}),
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	s.logs = newLogs(s.log)
	if s.journal != nil {
		if err := s.journal.forEach(s.noteUnsent); err != nil {
			return nil, err
		}
	}
	if s.journal != nil {
		s.background.Go(s.watchJournal)
	}
	s.background.Go(s.runOutbox)
	if o.CheckEvery > 0 {
		s.background.Go(func() { s.keepChecking(o.CheckEvery) })
	}
	s.closeOnce = sync.OnceValue(s.shutDown)
	s.outbox.signal()
	return s, nil
}

// Reserve asks the backend, or decides without it, see the package comment. An error
// is that of the backend, or quota.ErrOverloaded. Then the request must not pass, and
// there is nothing to settle.
func (s *Store) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	lost := s.backend.DataLost()
	if lost != nil {
		if d := s.refuseAfterLoss(r); d != nil {
			return d, lost
		}
	}
	call, err := s.beginCallAfterReplay(ctx, opReserve, r.User)
	if err != nil {
		return s.decideWithoutAsking(r, err)
	}
	if lost == nil {
		call.data = s.backend
	}
	d, err := s.backend.Reserve(call, r)
	answered := s.recordResult(call, err)
	if lost = s.backend.DataLost(); lost != nil && (err != nil || d.Admitted) && !r.InObserveMode(d.Reservation.Plan) {
		s.releaseLater(&d.Reservation) // the call has shown the loss
		s.backend.Leave(&d.Reservation)
		return &quota.Decision{Reservation: d.Reservation}, lost
	}
	switch {
	case answered:
		switch {
		case d.Admitted:
			s.suspectLoss(s.ledger.recordAdmitted(d))
		case err == nil:
			s.suspectLoss(s.ledger.recordSnapshot(r.User, &d.Snapshot))
		}
		return d, err
	case errors.Is(err, quota.ErrOverloaded), errors.Is(err, errBreakerOpened), errors.Is(err, errOtherData): // nothing was sent
		return s.decide(&d.Reservation, err)
	}
	unanswered := &d.Reservation
	d, err = s.decide(unanswered, err)
	if !d.Admitted {
		// The store may have carried out the reserve, or may still do so.
		s.releaseLater(unanswered)
		s.backend.Leave(unanswered)
	}
	return d, err
}

// refuseAfterLoss refuses a request because the backend has lost data; nil: it is in observe mode. If it were inlined, its
// copy of the reservation would be on the stack while the backend is called.
//
//go:noinline
func (s *Store) refuseAfterLoss(r quota.Request) *quota.Decision {
	d := s.reservationWithoutAsking(r)
	if d.InObserveMode(d.Plan) {
		return nil
	}
	return &quota.Decision{Reservation: d}
}

// suspectLoss has the backend look for a loss of data when less of a user's quota is used than before.
func (s *Store) suspectLoss(fell bool) {
	if fell {
		s.backend.CheckData()
	}
}

// decideWithoutAsking decides about a request that the backend was not asked about,
// because of cause.
func (s *Store) decideWithoutAsking(r quota.Request, cause error) (*quota.Decision, error) {
	d := s.reservationWithoutAsking(r)
	return s.decide(&d, cause)
}

// reservationWithoutAsking is a reservation for a request, as far as it is known without the backend.
func (s *Store) reservationWithoutAsking(r quota.Request) quota.Reservation {
	now := s.backend.Now()
	p := r.Plans.Effective(s.ledger.override(r.User, now))
	terms := s.ledger.terms(r.User, r.Plans, p, now)
	d := quota.Reservation{Request: r, Plan: p, Windows: terms.WindowsAt(s.calendar, p.Periods(), now)}
	if s.historyDays > 0 {
		d.Date = s.calendar.DateAt(now)
	}
	if s.billingHours > 0 {
		d.BillHour = quota.BillHourAt(now)
	}
	if pool := quota.PoolOf(r.User); pool != "" {
		terms := s.ledger.terms(pool, r.Plans, p, now)
		d.PoolWindows = terms.WindowsAt(s.calendar, p.PoolPeriods(), now)
	}
	return d
}

// decide admits a request, or not, without an answer of the backend. It does not
// change r.
func (s *Store) decide(r *quota.Reservation, cause error) (*quota.Decision, error) {
	d := &quota.Decision{Reservation: *r}
	if !s.allowOnFailure && !r.InObserveMode(r.Plan) || errors.Is(cause, quota.ErrOverloaded) {
		return d, cause
	}
	d.Reservation.Unchecked = true
	s.ledger.decide(d, s.backend.Now())
	if d.Admitted {
		if r.Plan.ConcurrencyLimit().Requests > 0 {
			s.backend.Occupy(&d.Reservation)
		}
		s.stats.unchecked.Add(1)
		s.notify(r.User)
	}
	return d, nil
}

// errNoJournal: neither the store nor a journal has the count on disk.
var errNoJournal = errors.New("the store cannot be written, and there is no journal")

// Commit counts r, in the backend or in the journal. After a count in the journal the
// snapshot is stale. An error means that neither took it: it will be counted only if the
// process is still running when the store is back.
func (s *Store) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	if call, err := s.beginSettling(ctx, opCommit, r.User); err == nil {
		snapshot, err := s.backend.Commit(call, r)
		if s.recordResult(call, err) {
			s.recordCommit(r, snapshot)
			return snapshot, nil
		}
	}
	return s.commitLater(&settlement{Reservation: *r})
}

// recordCommit takes note of a commit that the backend has carried out. If it were inlined, its copy of the reservation
// would be on the stack while the backend is called, where the stack of a request is deepest.
//
//go:noinline
func (s *Store) recordCommit(r *quota.Reservation, snapshot *quota.Snapshot) {
	s.suspectLoss(s.ledger.recordCounted(&settlement{Reservation: *r}, snapshot))
}

// CommitRest settles the rest of r, likewise. If the commit of r had to wait for the store, so has this
// one: they reach it in their order, and it recognises both for as long as copies of either may arrive.
func (s *Store) CommitRest(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	rest := &settlement{Reservation: *r, isRest: true}
	if !s.ledger.hasWaited(r) {
		if call, err := s.beginSettling(ctx, opCommitRest, r.User); err == nil {
			snapshot, err := s.backend.CommitRest(call, r)
			if s.recordResult(call, err) {
				s.suspectLoss(s.ledger.recordCounted(rest, snapshot))
				return snapshot, nil
			}
		}
	}
	return s.commitLater(rest)
}

// commitLater keeps a commit until the store is back, in the journal or, if that fails, in
// the outbox.
func (s *Store) commitLater(w *settlement) (*quota.Snapshot, error) {
	err := errNoJournal
	if s.journal != nil {
		err = s.journal.add(w)
	}
	switch {
	case err == nil:
		s.stats.journaled.Add(1)
	case s.outbox.addCommit(w):
		s.stats.journalErrors.Add(1)
	default: // memory is full as well
		s.stats.journalErrors.Add(1)
		s.ledger.endHold(w, true)
		s.forgetRest(w)
		return nil, err
	}
	s.noteUnsent(w)
	s.notify(w.User)
	s.outbox.signal()
	if err != nil {
		return nil, err
	}
	return s.lastKnown(&w.Reservation), nil
}

// forgetRest lets the backend give up a rest that it will not be told to count.
func (s *Store) forgetRest(w *settlement) {
	if w.isRest {
		s.backend.Forget(&w.Reservation)
	}
}

// notify notifies the watchers of a user and of the pool of a member.
func (s *Store) notify(user string) {
	s.watchers.Notify(user)
	if pool := quota.PoolOf(user); pool != "" {
		s.watchers.Notify(pool)
	}
}

// noteUnsent notes a commit that waits for the store.
func (s *Store) noteUnsent(w *settlement) {
	s.ledger.addUnsent(w)
	if s.stats.backlog.Add(1) == 1 {
		s.stats.backlogSince.Store(time.Now().UnixNano())
	}
}

// lastKnown is what is known without the store of the user of r.
func (s *Store) lastKnown(r *quota.Reservation) *quota.Snapshot {
	snapshot, _ := s.ledger.estimate(r.User, r.Plans, s.backend.Now())
	return &snapshot
}

// Release gives r back, in the backend or later; if later, the snapshot is stale. It
// returns no error.
func (s *Store) Release(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	s.ledger.endRunning(r)
	if call, err := s.beginSettling(ctx, opRelease, r.User); err == nil {
		snapshot, err := s.backend.Release(call, r)
		if s.recordResult(call, err) {
			s.suspectLoss(s.ledger.recordSnapshot(r.User, snapshot))
			return snapshot, nil
		}
	}
	s.releaseLater(r)
	s.notify(r.User)
	return s.lastKnown(r), nil
}

// releaseLater gives r back when the store is back, unless its lease has run out by then.
func (s *Store) releaseLater(r *quota.Reservation) {
	if s.outbox.addRelease(r, s.backend.Now().Add(r.Lease)) {
		s.outbox.signal()
	}
}

// Leave passes the call on to the backend. It tells watchers here at once.
func (s *Store) Leave(r *quota.Reservation) {
	s.ledger.leave(r)
	s.backend.Leave(r)
	s.notify(r.User)
}

// Forget passes the call on to the backend.
func (s *Store) Forget(r *quota.Reservation) {
	if r.RestUnits() > 0 {
		s.ledger.endHold(&settlement{Reservation: *r, isRest: true}, false) // if CommitRest came first
	}
	s.backend.Forget(r)
}

// Read returns a user's state, which is the last known one if the store does not answer. It
// returns the store's error if nothing is known.
func (s *Store) Read(ctx context.Context, user string, plans quota.PlanChoice) (quota.Snapshot, error) {
	call, err := s.beginCallAfterReplay(ctx, opRead, user)
	if err == nil {
		var snapshot quota.Snapshot
		snapshot, err = s.backend.Read(call, user, plans)
		if s.recordResult(call, err) {
			s.suspectLoss(s.ledger.recordSnapshot(user, &snapshot))
			return snapshot, nil
		}
	}
	if errors.Is(err, quota.ErrOverloaded) {
		return quota.Snapshot{}, err
	}
	if snapshot, ok := s.ledger.estimate(user, plans, s.backend.Now()); ok {
		return snapshot, nil
	}
	return quota.Snapshot{}, err
}

// History returns what an account has used on the last days. If the store does not answer, that is what
// it last reported plus what was counted here since, marked as stale, or the store's error if it was
// not asked for all of these days before, today included.
func (s *Store) History(ctx context.Context, account string, days int) (quota.History, error) {
	if days < 1 || days > s.historyDays {
		return quota.History{}, quota.ErrNotKept
	}
	call, err := s.beginCallAfterReplay(ctx, opRead, account)
	if err == nil {
		var h quota.History
		h, err = s.backend.History(call, account, days)
		if s.recordResult(call, err) {
			if err == nil {
				s.ledger.recordHistory(account, &h)
			}
			return h, err
		}
	}
	if errors.Is(err, quota.ErrOverloaded) {
		return quota.History{}, err
	}
	if h, ok := s.ledger.history(account, days, s.backend.Now()); ok {
		return h, nil
	}
	return quota.History{}, err
}

// Watch sends to ch as quota.Store says. It also does so when the store ceases to answer and
// when it is back.
func (s *Store) Watch(user string, ch chan<- struct{}) (stop func()) {
	stopHere, _ := s.watchers.Watch(user, ch, nil)
	stopBackend := s.backend.Watch(user, ch)
	return func() { stopHere(); stopBackend() }
}

// Close ends the work in the background, after a last attempt to send what waits for the
// store, and closes the journal. It does not close the backend.
func (s *Store) Close() error { return s.closeOnce() }

func (s *Store) shutDown() error {
	close(s.closing)
	s.background.Wait()
	if s.journal == nil {
		return nil
	}
	return s.journal.Close()
}
