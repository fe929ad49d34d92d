// Package scans answers questions about all users: who is close to a limit, how many users each plan has,
// and whom other numbers would block. Each takes one scan of the store, whose memory does not grow with
// the users.
//
// Several administrators may look at once. Those who ask the same share a scan, and what it has found is
// kept for a moment, so that the next pages of a list need no other one. Few scans run at a time. One that
// nobody waits for any more ends.
package scans

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"metergate/quota"
)

const (
	// maxRunning is how many scans run at a time, and maxWaiting how many more wait for their turn.
	maxRunning, maxWaiting = 2, 8
	// freshFor is how long the answer of a scan is given to others who ask the same, and keptFor how long
	// it is kept for the next pages of a list.
	freshFor, keptFor = time.Second, 15 * time.Second
	// maxKept is how many answers are kept.
	maxKept = 8
	// workFor and restFor have a scan leave processors to requests: after so long it rests.
	workFor, restFor = 4 * time.Millisecond, 4 * time.Millisecond
	// firstPage and nextPages are when somebody who waits is told what was found so far.
	firstPage, nextPages = 250 * time.Millisecond, 500 * time.Millisecond
)

// ErrBusy says that no further scan can wait for its turn.
var ErrBusy = errors.New("too many scans")

// A Store has the users. It is the part of quota.Store that scans need, and that is its contract.
type Store interface {
	Read(ctx context.Context, user string, plans quota.PlanChoice) (quota.Snapshot, error)
	ClaimedPlan(ctx context.Context, user string) (plan string, err error)
	ScanSnapshots(ctx context.Context, query quota.SnapshotQuery, yield func(quota.UserSnapshot) error) error
}

// A Clock tells the store's time.
type Clock interface {
	Now() time.Time
}

// Scans are those of one gateway.
type Scans struct {
	store Store
	clock Clock
	slots chan struct{}
	mu    sync.Mutex
	scans []*scan // under way, or with an answer that is kept: the oldest first
	// changes counts the calls of Changed.
	changes int
}

// New returns Scans of a store.
func New(store Store, clock Clock) *Scans {
	return &Scans{store: store, clock: clock, slots: make(chan struct{}, maxRunning)}
}

// A Question is about all users: a *Search, a *Plans or a *Check.
type Question interface {
	// key is the same for questions that one scan answers, but for the page that is wanted.
	key() string
	// plans are those of the configuration that the question is about.
	plans() PlanSet
	// collector returns what a scan collects for the question.
	collector() collector
	// fits reports whether a collector has, or will have, what the question wants.
	fits(c collector, done bool) bool
	// keep is for how long the answer of a scan is good for the question.
	keep() time.Duration
	// page returns the answer, as far as the scan has come.
	page(c collector, p Progress) any
}

// PlanSet are the plans of a configuration: what may apply to a user whose token claims none. The default
// plan, which is Claimed, is another *quota.Plan after each reload.
type PlanSet quota.PlanChoice

// claimedBy returns the plans that may apply to a user whose token claims a plan.
func (p PlanSet) claimedBy(claimed string) quota.PlanChoice {
	plans := quota.PlanChoice(p)
	if found := p.ByName[claimed]; found != nil {
		plans.Claimed = found
	}
	return plans
}

// A collector keeps what a scan finds. Only wants is called while other methods may run.
type collector interface {
	query() quota.SnapshotQuery
	add(quota.UserSnapshot)
}

// Progress says how far a scan has come. It is part of each answer.
type Progress struct {
	Scanned int64     `json:"scanned"` // users that the scan has come to
	Done    bool      `json:"done"`    // the scan has come to its end: the answer is complete
	AsOf    time.Time `json:"as_of"`   // when the scan began; the numbers are not older
}

// A scan is one pass over the store for those who ask the same.
type scan struct {
	question Question // of who came first
	plan     *quota.Plan
	began    time.Time
	cancel   context.CancelFunc
	done     chan struct{}
	scanned  atomic.Int64

	mu    sync.Mutex
	found collector
	err   error // once it is done

	// These belong to Scans.mu.
	followers int
	changes   int       // those that the scan shows
	ended     time.Time // by the gateway's clock; zero: it is under way
}

// Ask answers a question. While the scan runs, it calls early from time to time with what is known so far,
// unless early is nil; an error of early ends it. Errors are ErrBusy, and those of ctx, early and the store.
func (s *Scans) Ask(ctx context.Context, q Question, early func(page any) error) (any, error) {
	sc, err := s.join(q)
	if err != nil {
		return nil, err
	}
	defer s.leave(sc)
	timer := time.NewTimer(firstPage)
	defer timer.Stop()
	for {
		select {
		case <-sc.done:
			if sc.err != nil {
				return nil, sc.err
			}
			return sc.page(q, true), nil
		case <-timer.C:
			if early == nil {
				continue // the timer does not fire again
			}
			if err := early(sc.page(q, false)); err != nil {
				return nil, err
			}
			timer.Reset(nextPages)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (sc *scan) page(q Question, done bool) any {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return q.page(sc.found, Progress{sc.scanned.Load(), done, sc.began})
}

// join returns the scan that answers a question, which it starts if there is none.
func (s *Scans) join(q Question) (*scan, error) {
	plan := q.plans().Claimed
	s.mu.Lock()
	defer s.mu.Unlock()
	underWay := 0
	for _, sc := range slices.Backward(s.scans) {
		if sc.ended.IsZero() {
			underWay++
		}
		isCurrent := sc.changes == s.changes || q.keep() > freshFor
		if isCurrent && sc.plan == plan && sc.question.key() == q.key() && sc.answers(q) {
			sc.followers++
			return sc, nil
		}
	}
	if underWay >= maxRunning+maxWaiting {
		return nil, ErrBusy
	}
	ctx, cancel := context.WithCancel(context.Background())
	sc := &scan{question: q, plan: plan, began: s.clock.Now().Truncate(time.Millisecond), cancel: cancel, done: make(chan struct{}), found: q.collector(), followers: 1, changes: s.changes}
	s.scans = append(s.scans, sc)
	go s.run(ctx, sc)
	return sc, nil
}

// Changed says that an administrator has changed something of a user. Whoever asks from now on sees it.
func (s *Scans) Changed() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes++
}

// answers reports whether the scan has, or will have, what a question wants.
func (sc *scan) answers(q Question) bool {
	sc.mu.Lock()
	defer sc.mu.Unlock()
	return q.fits(sc.found, !sc.ended.IsZero()) && (sc.ended.IsZero() || time.Since(sc.ended) < q.keep())
}

// leave ends a scan that nobody follows any more.
func (s *Scans) leave(sc *scan) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if sc.followers--; sc.followers == 0 && sc.ended.IsZero() {
		sc.cancel()
		s.remove(sc)
	}
}

// remove forgets a scan. The caller holds s.mu.
func (s *Scans) remove(sc *scan) {
	s.scans = slices.DeleteFunc(s.scans, func(other *scan) bool { return other == sc })
}

// run scans the store once it is the scan's turn.
func (s *Scans) run(ctx context.Context, sc *scan) {
	defer sc.cancel()
	select {
	case s.slots <- struct{}{}:
		sc.err = s.scan(ctx, sc)
		<-s.slots
	case <-ctx.Done():
		sc.err = ctx.Err()
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	sc.ended = time.Now()
	close(sc.done)
	if sc.err != nil {
		s.remove(sc)
		return
	}
	time.AfterFunc(keptFor, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.remove(sc)
	})
	kept := 0
	for _, other := range slices.Backward(s.scans) {
		if !other.ended.IsZero() {
			if kept++; kept > maxKept {
				s.remove(other)
			}
		}
	}
}

// scan scans the store.
func (s *Scans) scan(ctx context.Context, sc *scan) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("scanning users: %v", p)
		}
	}()
	query := sc.found.query()
	wanted := query.Wanted
	query.Wanted = func(account string) bool {
		sc.scanned.Add(1)
		return wanted == nil || wanted(account)
	}
	resumed := time.Now()
	add := func(u quota.UserSnapshot) error {
		if time.Since(resumed) > workFor {
			time.Sleep(restFor)
			resumed = time.Now()
		}
		sc.mu.Lock()
		defer sc.mu.Unlock()
		sc.found.add(u)
		return nil
	}
	if seeded, ok := sc.found.(seeded); ok {
		if err := seeded.seed(ctx, s.store, add); err != nil {
			return err
		}
	}
	return s.store.ScanSnapshots(ctx, query, add)
}

// A seeded collector wants some users first.
type seeded interface {
	seed(ctx context.Context, store Store, add func(quota.UserSnapshot) error) error
}
