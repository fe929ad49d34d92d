package notify

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"metergate/quota"
	"metergate/quota/ratelog"
)

const (
	pollEvery    = time.Second
	postsAtOnce  = 8
	claimsAtOnce = 64
	// probeClaims are claimed to try a dead receiver: the first of them that has an event tries it.
	probeClaims = 8
	// claimTime is how long an account's events are sent under one claim: what is sent last must have been answered
	// before another gateway can claim it.
	claimTime = quota.ClaimLife - postTimeout - 2*time.Second
	// giveUpAfter is how long it is tried to deliver an event.
	giveUpAfter = 24 * time.Hour
	// storeTimeout bounds a call to the store, beside what the store does itself.
	storeTimeout = 5 * time.Second
	// stopTimeout bounds the wait for requests to the receiver when the Sender stops.
	stopTimeout = 2 * time.Second
)

// Options are what a Sender is made of.
type Options struct {
	Store quota.Crossings
	// StoreNow is the time by the store's clock, which dates crossings.
	StoreNow func() time.Time
	Log      *slog.Logger
	// PollEvery is how often the store is asked; 0: every second.
	PollEvery time.Duration
	// Now is the time by the gateway's clock; nil: time.Now.
	Now func() time.Time
	// NameOf returns what stands for a user or an organisation in the log; nil or an empty text: nothing.
	NameOf func(id string) string
}

// A Sender delivers crossings. Create it with New.
type Sender struct {
	store     quota.Crossings
	storeNow  func() time.Time
	now       func() time.Time
	pollEvery time.Duration
	log       *slog.Logger
	nameOf    func(id string) string
	lines     logLines

	receiver atomic.Pointer[Receiver]
	health   health
	stats    counters

	mu       sync.Mutex
	failures failureCounts
	running  bool // it was started

	queue       chan claimed
	pending     atomic.Int64 // claims that have not ended
	more        atomic.Bool  // the last poll got as many claims as it asked for
	wake        chan struct{}
	stopTimeout time.Duration // stopTimeout, except in tests
	stopping    chan struct{}
	stopOnce    sync.Once
	workers     sync.WaitGroup
	postUntil   context.Context // ends requests to the receiver
	endPosts    context.CancelFunc
}

// A claimed is a claim in the queue.
type claimed struct {
	quota.CrossingClaim
	at time.Time
	// rest is how long the account rests if nothing of it is sent.
	rest time.Duration
	// isProbe: it may try a dead receiver.
	isProbe bool
}

type logLines struct{ failed, died, revived, store, notDropped, notGivenUp, notReleased *ratelog.Line }

// New returns a Sender that sends nothing until SetReceiver.
func New(o Options) *Sender {
	s := &Sender{
		store: o.Store, storeNow: o.StoreNow, now: o.Now, pollEvery: o.PollEvery, log: o.Log, nameOf: o.NameOf,
		failures: failureCounts{},
		queue:    make(chan claimed, claimsAtOnce),
		wake:     make(chan struct{}, 1),
		stopping: make(chan struct{}), stopTimeout: stopTimeout,
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.pollEvery == 0 {
		s.pollEvery = pollEvery
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.nameOf == nil {
		s.nameOf = func(string) string { return "" }
	}
	s.health.now = s.now
	s.postUntil, s.endPosts = context.WithCancel(context.Background())
	line := func(level slog.Level, message string) *ratelog.Line {
		return ratelog.NewEvery(s.log, level, time.Minute, message)
	}
	s.lines = logLines{
		failed:  line(slog.LevelWarn, "a notification was not delivered; it will be sent again"),
		died:    line(slog.LevelWarn, "the receiver of notifications does not accept them; they wait in the store"),
		revived: line(slog.LevelInfo, "the receiver of notifications accepts them again"),
		store:   line(slog.LevelWarn, "the store does not say which notifications are to be sent"),

		notDropped:  line(slog.LevelWarn, "a notification was delivered, but the store did not drop it; it may be sent again"),
		notGivenUp:  line(slog.LevelWarn, "a notification is too old to be sent, but the store did not drop it; the gateway tries again"),
		notReleased: line(slog.LevelWarn, "the store did not release the notifications of a user; what is left of them is sent after 30 seconds"),
	}
	return s
}

// SetReceiver says where events are sent from now on; nil: nowhere, they stay in the store. It must not be
// called after Stop.
func (s *Sender) SetReceiver(r *Receiver) {
	before := s.receiver.Swap(r)
	if before != nil && before != r {
		before.close()
	}
	s.health.forget()
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.failures)
	if r == nil || s.running {
		return
	}
	s.running = true
	s.workers.Add(1 + postsAtOnce)
	go s.poll()
	for range postsAtOnce {
		go s.work()
	}
}

// Stop sends no further event, and waits for those that are being sent, some seconds at most. What is left is
// for other gateways, or for the next process.
func (s *Sender) Stop(ctx context.Context) error {
	s.stopOnce.Do(func() { close(s.stopping) })
	defer time.AfterFunc(s.stopTimeout, s.endPosts).Stop()
	defer s.endPosts()
	ended := make(chan struct{})
	go func() {
		s.workers.Wait()
		close(ended)
	}()
	select {
	case <-ended:
	case <-ctx.Done():
		return ctx.Err()
	}
	if r := s.receiver.Load(); r != nil {
		r.close()
	}
	return nil
}

func (s *Sender) isStopping() bool {
	select {
	case <-s.stopping:
		return true
	default:
		return false
	}
}

// poll claims accounts until the Sender stops.
func (s *Sender) poll() {
	defer s.workers.Done()
	defer close(s.queue)
	tick := time.NewTicker(s.pollEvery)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
		case <-s.wake:
		case <-s.stopping:
			return
		}
		if s.receiver.Load() != nil {
			s.claim()
		}
	}
}

// claim claims accounts, as many as are of use now, and puts them into the queue. Its numbers are asked for
// in any case.
func (s *Sender) claim() {
	most := claimsAtOnce - int(s.pending.Load())
	if most <= 0 {
		return
	}
	var c claimed
	if dead, probe := s.health.isDead(); dead {
		switch oldest := s.stats.oldest.Load(); {
		case probe:
			most, c.isProbe = min(most, probeClaims), true
		case oldest != nil && s.storeNow().Sub(*oldest) > giveUpAfter:
			c.rest = time.Minute // they are looked through for what is to be given up
		default:
			most = 0
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	claims, err := s.store.ClaimCrossings(ctx, most)
	if err != nil {
		s.lines.store.Log("error", err)
		return
	}
	s.stats.note(claims)
	s.more.Store(len(claims.Claims) == most && most > 0 && !c.isProbe && c.rest == 0)
	c.at = s.now()
	s.pending.Add(int64(len(claims.Claims)))
	for _, claim := range claims.Claims {
		c.CrossingClaim = claim
		s.queue <- c // there is room
	}
}

// work delivers what is claimed.
func (s *Sender) work() {
	defer s.workers.Done()
	for c := range s.queue {
		again := s.deliver(c)
		ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
		if err := s.store.EndClaim(ctx, c.CrossingClaim, again); err != nil {
			s.lines.notReleased.Log("error", err) // the claim ends by itself
		}
		cancel()
		if s.pending.Add(-1) <= claimsAtOnce/2 && s.more.Load() {
			s.ask()
		}
	}
}

// ask makes poll ask the store at once.
func (s *Sender) ask() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// deliver sends the events of an account, the oldest first, until one is not accepted. It returns how long the
// account has to wait if something is left.
func (s *Sender) deliver(c claimed) (again time.Duration) {
	if s.isStopping() || s.isLate(c) {
		return c.rest
	}
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	crossings, err := s.store.CrossingsOf(ctx, c.Account)
	cancel()
	if err != nil {
		s.lines.store.Log("error", err)
		return s.delay(c.Account, 0)
	}
	for _, crossing := range crossings {
		age := s.storeNow().Sub(crossing.At)
		if age > giveUpAfter {
			s.giveUp(crossing)
			continue
		}
		receiver := s.receiver.Load()
		if receiver == nil || s.isStopping() || s.isLate(c) || !s.health.mayPost(c.isProbe) {
			return c.rest
		}
		delivered, retryAfter := s.post(receiver, crossing)
		if !delivered {
			if s.isStopping() {
				return c.rest
			}
			return max(retryAfter, s.delay(c.Account, age))
		}
		if err := s.end(crossing); err != nil {
			s.lines.notDropped.Log("id", crossing.ID, "error", err)
			return s.delay(c.Account, age)
		}
	}
	s.mu.Lock()
	delete(s.failures, c.Account)
	s.mu.Unlock()
	return 0
}

// isLate reports whether another request to the receiver could outlast a claim.
func (s *Sender) isLate(c claimed) bool { return s.now().Sub(c.at) > claimTime }

// post sends the event of a crossing.
func (s *Sender) post(receiver *Receiver, c quota.Crossing) (delivered bool, retryAfter time.Duration) {
	sent := s.now()
	answer, err := receiver.Post(s.postUntil, eventOf(c))
	switch {
	case err == nil:
		s.stats.sent.Add(1)
		if s.health.succeeded(sent) {
			s.lines.revived.Log()
			s.ask()
		}
	case s.postUntil.Err() != nil: // the gateway stops
	default:
		s.stats.failed.Add(1)
		s.lines.failed.Log("id", c.ID, "error", err)
		if answer.refusesEvent() {
			if s.health.refused(sent) {
				s.ask()
			}
		} else if s.health.failed(sent, answer.retryAfter) {
			s.lines.died.Log("error", err)
		}
	}
	return err == nil, answer.retryAfter
}

// giveUp drops a crossing that is too old. Each has a line in the log: it is all that is left of the event.
func (s *Sender) giveUp(c quota.Crossing) {
	if err := s.end(c); err != nil {
		s.lines.notGivenUp.Log("id", c.ID, "error", err)
		return
	}
	attributes := []any{"id", c.ID}
	org, user := quota.SplitAccount(c.Account)
	for _, who := range []struct{ key, id string }{{"user", user}, {"org", org}} {
		if name := s.nameOf(who.id); who.id != "" && name != "" {
			attributes = append(attributes, who.key, name)
		}
	}
	attributes = append(attributes, "limit", c.Limit, "threshold", c.Threshold)
	if !c.ResetsAt.IsZero() {
		attributes = append(attributes, "resets_at", c.ResetsAt.UTC())
	}
	s.log.Error("a notification was given up, because the receiver has not accepted it for 24 hours", attributes...)
	s.stats.gaveUp.Add(1)
}

// end takes a crossing out of the store.
func (s *Sender) end(c quota.Crossing) error {
	ctx, cancel := context.WithTimeout(context.Background(), storeTimeout)
	defer cancel()
	return s.store.EndCrossings(ctx, c.Account, []string{c.ID})
}

// delay counts a failure of an account, and returns how long it has to wait.
func (s *Sender) delay(account string, age time.Duration) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return delayAfter(s.failures.add(account), age, rand.Float64())
}
