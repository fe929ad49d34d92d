// Package boltstore keeps quotas in one file on disk, for a gateway that runs
// alone: no server to run, nothing lost in a crash. Several gateways share their
// quotas in Redis, see package redisstore.
//
// What is used is in the file, see file.go for its layout. What is held is in
// memory and dies with the process, as do the requests that hold it; attempts do,
// too. A commit returns when its count is on disk; those that come at the same time
// share one write, see writer.go. So that nothing is seen in both places at once, or
// in neither, a hold that is being counted knows the number of the write that counts
// it, see holds.go.
package boltstore

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/internal/hub"
	"metergate/quota/internal/queue"
)

// Errors besides those of package quota and those of the disk.
var (
	// ErrInUse: another process, or another Store of this one, has the file open.
	ErrInUse = errors.New("in use by another process; the embedded store serves one gateway, use Redis for several")
	// ErrClosed: the store was closed before the call.
	ErrClosed = errors.New("the embedded store is closed")
)

// Options say how to count. The zero value is good.
type Options struct {
	// Calendar cuts time into windows; nil means UTC.
	Calendar *quota.Calendar
	// Keep is how long the counts of past windows stay, see quota.Window.RetainedUntil;
	// 0 means 400 days. It holds for what is in the file already, too.
	Keep time.Duration
	// Now is the clock; nil means time.Now. Tests move time with it.
	Now func() time.Time
}

// Store is a quota store in a file. It is safe for concurrent use.
type Store struct {
	db       *bolt.DB
	calendar *quota.Calendar
	keep     time.Duration
	now      func() time.Time

	seed   maphash.Seed
	shards [256]shard

	queue    queue.Queue[*hold] // to be counted
	watchers hub.Hub
	// update and view are those of db; tests make them slow or let them fail.
	update, view func(func(*bolt.Tx) error) error
	// granted and overridden: there are, or have been, grants and overrides. Until then
	// nobody looks for them.
	granted, overridden atomic.Bool
	// writes is held through a write, and until its number has been looked at.
	writes sync.Mutex
	// lastWrite is how the last write ended; nil: none has failed.
	lastWrite atomic.Pointer[error]

	commits sync.WaitGroup // the calls of Commit and Change under way
	writer  sync.WaitGroup // the goroutine that writes
	close   func() error
}

// Open opens the store in the folder dir, usage.db in it, and makes both when
// they are not there, readable by nobody else. Errors: ErrInUse, at once; a file
// that is not a store, or one of another version of the format; those of the
// disk.
func Open(dir string, opt Options) (*Store, error) {
	if opt.Keep < 0 {
		return nil, fmt.Errorf("opening store: cannot keep counts for %v", opt.Keep)
	}
	db, err := openFile(dir)
	if err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	s := &Store{
		db:       db,
		calendar: opt.Calendar,
		keep:     opt.Keep,
		now:      opt.Now,
		seed:     maphash.MakeSeed(),
		update:   db.Update,
		view:     db.View,
	}
	if s.calendar == nil {
		s.calendar = quota.NewCalendar(nil)
	}
	if s.keep == 0 {
		s.keep = 400 * 24 * time.Hour
	}
	if s.now == nil {
		s.now = time.Now
	}
	if err := s.lookForChanges(); err != nil {
		db.Close()
		return nil, fmt.Errorf("opening store: %w", err)
	}
	s.writer.Go(s.write)
	s.close = sync.OnceValue(s.shutDown)
	return s, nil
}

// Reserve holds one unit for r in every limit of its plan that applies, or none, if
// the plan's Attempts let the user try; whatever comes of that, it was an attempt. One
// that is observed it holds in any case. It is safe to send twice: an id that is held
// is admitted again, in the windows in which it is held. Nothing is written to disk.
// Errors: quota.ErrSettled, ErrClosed, ctx's and those of the disk; then the request
// holds nothing more than before, and the Decision holds a Reservation to settle.
func (s *Store) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	if err := ctx.Err(); err != nil {
		return &quota.Decision{Reservation: s.reservation(r, r.Plans.Claimed, s.now())}, err
	}
	sh, now, err := s.enter(r.User)
	d := &quota.Decision{Reservation: s.reservation(r, r.Plans.Claimed, now)}
	if err != nil {
		return d, err
	}
	defer sh.mu.Unlock()
	h := sh.holds[r.User][r.ID]
	if sh.isSettled(r.User, r.ID) || h != nil && h.committing() {
		return d, quota.ErrSettled
	}
	if d.Snapshot, err = s.snapshot(sh, r.User, r.Plans, now, now); err != nil {
		return d, err
	}
	p := d.Snapshot.Plan
	if p != d.Reservation.Plan {
		d.Reservation = s.reservation(r, p, now)
	}
	if h != nil && now.Before(h.until) {
		d.Admitted = true
		d.Reservation.Windows = h.windows
		if r.InObserveMode(p) {
			d.WouldBlock = d.Snapshot.WouldBlock(r.Endpoint, false)
		}
		return d, nil
	}
	wait, observed := sh.attempts.TakeToken(r.User, p.AttemptLimit(), now), r.InObserveMode(p)
	if !observed {
		d.AttemptWait = wait
	}
	if observed || wait == 0 && d.Snapshot.Admits(r.Endpoint) {
		d.Admitted = true
		sh.add(&hold{
			user: r.User, id: r.ID, endpoint: r.Endpoint,
			windows: d.Reservation.Windows, until: now.Add(r.Lease),
		})
		for i, l := range p.Limits() {
			if l.AppliesTo(r.Endpoint) {
				d.Snapshot.Limits[i].Held++
			}
		}
		d.Snapshot.Total.Held++
		if observed {
			d.WouldBlock = d.Snapshot.WouldBlock(r.Endpoint, wait > 0)
		}
		s.watchers.Notify(r.User)
	}
	return d, nil
}

// Commit counts r in its windows, except in those whose counts are not kept any
// more, see quota.Window.RetainedUntil. When it returns without an error, the count is
// on disk and every later call sees it. It is safe to send twice, and it counts
// what is not held any more. Errors: ErrClosed; ctx's, while the count goes on
// its way; those of the disk. After either of the latter two Commit can be called
// again and counts once.
func (s *Store) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	c, err := s.startCommit(r)
	if err != nil {
		return nil, err
	}
	defer s.commits.Done()
	if err := c.wait(ctx); err != nil {
		return nil, err
	}
	sh := s.shard(r.User)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	return s.settled(sh, r, s.now())
}

// startCommit queues r for the writer, unless it is queued already, and returns
// the commit to wait for; nil: r is settled. Without an error the caller must call
// s.commits.Done, for which Close waits.
func (s *Store) startCommit(r *quota.Reservation) (*commit, error) {
	sh, _, err := s.enter(r.User)
	if err != nil {
		return nil, err
	}
	defer sh.mu.Unlock()
	s.commits.Add(1)
	if sh.isSettled(r.User, r.ID) {
		return nil, nil
	}
	h := sh.holds[r.User][r.ID]
	if h == nil {
		h = &hold{user: r.User, id: r.ID}
		sh.add(h)
	}
	if h.commit == nil {
		h.endpoint, h.windows = r.Endpoint, r.Windows
		if r.Plans.Claimed != nil {
			h.claimed = r.Plans.Claimed.Name()
		}
		h.commit = &commit{done: make(chan struct{})}
		s.queue.Add(h)
	}
	return h.commit, nil
}

// Release gives back what r holds. It is safe to send twice, and before the
// Reserve that it overtook. What is being counted stays counted. Nothing is
// written to disk and ctx is not asked. Errors: ErrClosed, before anything is
// done; those of the disk, when the unit is given back and only the Snapshot
// could not be read.
func (s *Store) Release(_ context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	sh, now, err := s.enter(r.User)
	if err != nil {
		return nil, err
	}
	defer sh.mu.Unlock()
	if h := sh.holds[r.User][r.ID]; h == nil || !h.committing() {
		sh.settle(r.User, r.ID)
		s.watchers.Notify(r.User)
	}
	return s.settled(sh, r, now)
}

// settled is the state of the user of r after a Commit or a Release of it, nil after
// an error.
func (s *Store) settled(sh *shard, r *quota.Reservation, now time.Time) (*quota.Snapshot, error) {
	snapshot, err := s.snapshot(sh, r.User, r.Plans, now, now)
	if err != nil {
		return nil, err
	}
	return &snapshot, nil
}

// Forget says that no call for r will come again. The store drops what it keeps to
// recognise a repeated call; without Forget it does so after 10 to 20 minutes.
func (s *Store) Forget(r *quota.Reservation) {
	sh := s.shard(r.User)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.forget(r.User, r.ID)
}

// Watch sends to ch, without waiting, whenever the user's numbers may have changed,
// until stop is called. ch should have a capacity of 1. A lease that runs out is
// not noticed: read from time to time besides.
func (s *Store) Watch(user string, ch chan<- struct{}) (stop func()) {
	stop, _ = s.watchers.Watch(user, ch, nil)
	return stop
}

// Read returns what user has used and holds now, laid out by the plan that applies.
// Errors: ErrClosed, ctx's and those of the disk.
func (s *Store) Read(ctx context.Context, user string, t quota.PlanChoice) (quota.Snapshot, error) {
	return s.readAt(ctx, user, t, time.Time{})
}

// readAt reads in the windows of a time; zero: now.
func (s *Store) readAt(ctx context.Context, user string, t quota.PlanChoice, at time.Time) (quota.Snapshot, error) {
	if err := ctx.Err(); err != nil {
		return quota.Snapshot{}, err
	}
	sh, now, err := s.enter(user)
	if err != nil {
		return quota.Snapshot{}, err
	}
	defer sh.mu.Unlock()
	if at.IsZero() {
		at = now
	}
	return s.snapshot(sh, user, t, now, at)
}

// Ping returns ErrClosed, or the error of the last write when it failed; it does
// not try another.
func (s *Store) Ping(context.Context) error {
	sh, _, err := s.enter("")
	if err != nil {
		return err
	}
	sh.mu.Unlock()
	if last := s.lastWrite.Load(); last != nil {
		return *last
	}
	return nil
}

// Close waits for the writes under way and closes the file. Later calls of the
// other methods return ErrClosed; Close itself can be called again and returns
// the same.
func (s *Store) Close() error { return s.close() }

func (s *Store) shutDown() error {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.closed = true
		sh.mu.Unlock()
	}
	s.commits.Wait()
	// Callers who did not wait to the end have left their holds in the queue.
	s.queue.Close()
	s.writer.Wait()
	return s.db.Close()
}

// shard returns the shard that user is in.
func (s *Store) shard(user string) *shard {
	return &s.shards[maphash.String(s.seed, user)%uint64(len(s.shards))]
}

// enter locks the shard that user is in and returns it with the time, by which
// all goes on until it is unlocked. With an error, ErrClosed, it is not locked.
func (s *Store) enter(user string) (*shard, time.Time, error) {
	sh := s.shard(user)
	sh.mu.Lock()
	now := s.now()
	if sh.closed {
		sh.mu.Unlock()
		return nil, now, ErrClosed
	}
	sh.sweep(now)
	return sh, now, nil
}

func (s *Store) reservation(r quota.Request, p *quota.Plan, now time.Time) quota.Reservation {
	return quota.Reservation{Request: r, Plan: p, Windows: s.calendar.WindowsAt(p.Periods(), now)}
}

// snapshot reads the state of user, whose shard is sh and locked by the caller, as of
// now and in the windows that at lies in.
func (s *Store) snapshot(sh *shard, user string, t quota.PlanChoice, now, at time.Time) (quota.Snapshot, error) {
	var p *quota.Plan
	var override quota.Override
	var counters []quota.Counter
	var counts []quota.Count
	var write int64
	err := s.view(func(tx *bolt.Tx) error {
		write = int64(tx.ID())
		key := append(make([]byte, 0, 128), user...)
		if s.overridden.Load() {
			override = overrideIn(tx.Bucket(plansBucket), key).ActiveAt(now)
		}
		p = t.Effective(override)
		counters = p.Counters()
		counts = make([]quota.Count, len(counters))
		used := tx.Bucket(usedBucket)
		var grants *bolt.Bucket
		if s.granted.Load() {
			grants = tx.Bucket(grantsBucket)
		}
		for i, c := range counters {
			w := s.calendar.WindowAt(c.Period, at)
			key = appendKey(key[:0], user, w.ID, c.Endpoint)
			counts[i] = quota.Count{Window: w, Used: number(used.Get(key))}
			if grants != nil && i < len(p.Limits()) {
				counts[i].Granted = number(grants.Get(key))
			}
		}
		return nil
	})
	if err != nil {
		return quota.Snapshot{}, fmt.Errorf("reading usage: %w", err)
	}
	// Not before the file was looked at, see hold.
	for _, h := range sh.holds[user] {
		if !h.heldAfter(write, now) {
			continue
		}
		for i, c := range counters {
			if h.in(c.Endpoint, counts[i].Window) {
				counts[i].Held++
			}
		}
	}
	snapshot := p.NewSnapshot(now.In(s.calendar.Location()), counts)
	snapshot.Override = override
	return snapshot, nil
}
