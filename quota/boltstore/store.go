package boltstore

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
	"metergate/quota/internal/hub"
	"metergate/quota/internal/queue"
)

// Errors beyond those of package quota and those of the disk.
var (
	// ErrInUse: another process, or another Store of this one, has the file open.
	ErrInUse = errors.New("in use by another process; the embedded store serves one gateway, use Redis for several")
	// ErrClosed: the store was closed before the call.
	ErrClosed = errors.New("the embedded store is closed")
)

// Options configure a Store. The zero value is ready for use.
type Options struct {
	// Calendar divides time into windows; nil means UTC.
	Calendar *quota.Calendar
	// Keep is how long the counts of past windows are kept, see quota.Window.RetainedUntil;
	// 0 means 400 days. It also applies to counts that are already in the file.
	Keep time.Duration
	// HistoryDays is for how many days what users have used on each is kept, up to
	// quota.MaxHistory; 0: no history is kept.
	HistoryDays int
	// BillingHours is for how many hours what users have used in each is kept for quota.Bills, up to
	// quota.MaxBillingHours; 0: for none.
	BillingHours int
	// Timeout is how long Reserve waits at most until the terms of an account are on disk; 0: as long as that takes.
	Timeout time.Duration
	// Now is the clock; nil means time.Now. Tests set the time with it.
	Now func() time.Time
	// Log receives errors about the file that do not fail a call; nil: nothing is logged.
	Log *slog.Logger
}

// A Store is a quota store in a file. It is safe for concurrent use.
type Store struct {
	db *boltfile.File
	retention
	timeout time.Duration // see Options.Timeout
	now     func() time.Time

	seed   maphash.Seed
	shards [256]shard

	queue    queue.Queue[queuedWrite]
	watchers hub.Hub
	// dbUpdate, dbView and dbScan are db.Append, db.Latest and db.Scan; tests make them slow or let them fail.
	dbUpdate func(func(boltfile.Tx) error) error
	dbView   func(func(boltfile.Reader) error) error
	dbScan   func(func(*bolt.Tx) error) error
	// hasGrants and hasOverrides: the file has, or has had, grants and overrides. Before the
	// first one, reads do not look for them.
	hasGrants, hasOverrides atomic.Bool
	// cacheGeneration changes when nothing that is cached is valid any more, see cache.
	cacheGeneration atomic.Int64
	// crossings are those that nobody has ended.
	crossings crossingIndex
	// writeMu is held during a write, and until its number has been compared.
	writeMu sync.Mutex
	// lastWrite points to the result of the last write; nil: there was none.
	lastWrite atomic.Pointer[error]

	calls     sync.WaitGroup // calls that Close waits for
	writer    sync.WaitGroup // the goroutine of runWriter
	watcher   sync.WaitGroup // the goroutine that looks after the file, until closing is closed
	closing   chan struct{}
	closeOnce func() error
}

// Open opens the store in the folder dir, a file usage.db, and creates both if they do not
// exist, with permissions for this user alone. It returns ErrInUse at once if the file is
// open elsewhere, and an error if the file is damaged, is not a store or has an unknown format.
//
// A file that is damaged later makes all calls fail that need it, until it is opened again. One
// that is deleted or replaced is written again, from the one that is still open.
func Open(dir string, opt Options) (*Store, error) {
	if opt.Keep < 0 {
		return nil, fmt.Errorf("opening store: cannot keep counts for %v", opt.Keep)
	}
	if opt.HistoryDays < 0 || opt.HistoryDays > quota.MaxHistory {
		return nil, fmt.Errorf("opening store: cannot keep a history of %d days", opt.HistoryDays)
	}
	if opt.BillingHours < 0 || opt.BillingHours > quota.MaxBillingHours {
		return nil, fmt.Errorf("opening store: cannot keep %d hours for billing", opt.BillingHours)
	}
	db, err := openFile(dir, opt.HistoryDays > 0, opt.BillingHours > 0)
	if err != nil {
		return nil, fmt.Errorf("opening store: %w", err)
	}
	s := &Store{
		db:        db,
		retention: retention{opt.Calendar, opt.Keep, opt.HistoryDays, opt.BillingHours},
		timeout:   opt.Timeout,
		now:       opt.Now,
		seed:      maphash.MakeSeed(),
		dbUpdate:  db.Append,
		dbView:    db.Latest,
		dbScan:    db.Scan,
		closing:   make(chan struct{}),
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
	if err := errors.Join(s.detectChanges(), s.findCrossings()); err != nil {
		db.Close()
		return nil, fmt.Errorf("opening store: %w", err)
	}
	log := opt.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	s.watcher.Go(func() { db.Watch(s.closing, log, s.tryWrite, func(error) {}) })
	s.writer.Go(s.runWriter)
	s.closeOnce = sync.OnceValue(s.shutDown)
	return s, nil
}

// Watch sends to ch whenever the user's numbers may have changed, see quota.Store.
func (s *Store) Watch(user string, ch chan<- struct{}) (stop func()) {
	stop, _ = s.watchers.Watch(user, ch, nil)
	return stop
}

// Check returns ErrClosed, or the error of the last write if it failed. It does not try
// another write. It also returns an error for an hour after the file was deleted or replaced and
// had to be written again.
func (s *Store) Check(context.Context) error {
	sh, _, err := s.lockUser("")
	if err != nil {
		return err
	}
	sh.mu.Unlock()
	if last := s.lastWrite.Load(); last != nil && *last != nil {
		return *last
	}
	return s.db.Fault()
}

// Close waits for the writes under way and closes the file. Later calls of other methods
// return ErrClosed. Close can be called again and returns the same error.
func (s *Store) Close() error { return s.closeOnce() }

func (s *Store) shutDown() error {
	for i := range s.shards {
		sh := &s.shards[i]
		sh.mu.Lock()
		sh.closed = true
		sh.mu.Unlock()
	}
	s.calls.Wait()
	close(s.closing)
	s.watcher.Wait()
	// Callers that did not wait for their commit have left its hold in the queue.
	s.queue.Close()
	s.writer.Wait()
	return s.db.Close()
}

// userShard returns the shard that an account is in. All accounts of an organisation are in one, so
// that its lock covers a member and the pool.
func (s *Store) userShard(account string) *shard {
	if pool := quota.PoolOf(account); pool != "" {
		account = pool
	}
	return &s.shards[maphash.String(s.seed, account)%uint64(len(s.shards))]
}

// notify notifies the watchers of a user and, unless it is empty, of a pool.
func (s *Store) notify(user, pool string) {
	s.watchers.Notify(user)
	if pool != "" {
		s.watchers.Notify(pool)
	}
}

// lockUser locks the shard that the user is in, and returns it together with the time at
// which all that follows happens. With an error, which is ErrClosed, nothing is locked.
func (s *Store) lockUser(user string) (*shard, time.Time, error) {
	sh := s.userShard(user)
	sh.mu.Lock()
	now := s.now()
	if sh.closed {
		sh.mu.Unlock()
		return nil, now, ErrClosed
	}
	sh.sweep(now)
	return sh, now, nil
}

// beginCall begins a call that is about no shard, and returns the time; or ErrClosed. Without an error, the
// caller must call s.calls.Done, for which Close waits.
func (s *Store) beginCall() (time.Time, error) {
	sh, now, err := s.lockUser("")
	if err != nil {
		return now, err
	}
	s.calls.Add(1)
	sh.mu.Unlock()
	return now, nil
}
