// Package redisstore keeps quotas in Redis, so that any number of gateways share them.
//
// Each call is one Lua script, which is atomic: one round trip to reserve, one to settle, one
// to read. Package script has the scripts and what Redis holds; package redisclient sends
// them; package redisurl reads the URL of the Redis. This package has the quota logic around
// them: reserve.go, settle.go, read.go and change.go each call one script, by way of ask.go.
//
// The scripts go by Redis's clock. A gateway sends the windows that it assumes to run, by
// Redis's time as it last saw it, and the plan override that it last saw for the user. If one
// of these is wrong, the script says so, and the gateway asks once more. So gateways with
// wrong clocks agree on what counts in which month.
package redisstore

import (
	"context"
	"crypto/tls"
	"fmt"
	"hash/maphash"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/redisurl"
	"metergate/quota/redisstore/script"
)

// Options say how to reach Redis and how to count. Only URL is required.
type Options struct {
	// URL says where Redis is, see package redisurl. Sentinels get the same user and
	// password, if they want any.
	URL string
	// TLS is for URLs with TLS, see SetTLS.
	TLS *tls.Config
	// Protocol is the version of Redis's protocol, 2 or 3; 0 means 3. A server that knows no 3
	// is spoken to in 2.
	Protocol int
	// Prefix is the first part of every key; empty means "metergate".
	Prefix string
	// Timeout is the longest wait for one reply, without the time in which the gateway
	// itself has no connection free; 0 means 250 ms.
	Timeout time.Duration
	// Calendar cuts time into windows; nil means UTC.
	Calendar *quota.Calendar
	// Keep is how long the counts of past windows stay, see quota.Window.RetainedUntil; 0 means
	// 400 days.
	Keep time.Duration
	// HistoryDays is for how many days what users have used on each is kept, up to
	// quota.MaxHistory; 0: no history is kept.
	HistoryDays int
	// BillingHours is for how many hours what users have used in each is kept for quota.Bills, up to
	// quota.MaxBillingHours; 0: for none.
	BillingHours int
	// InFlight is the most calls that are under way to one Redis at a time; 0 means 32.
	// Scripts take microseconds, so more calls would only wait in Redis instead of here.
	InFlight int
	// Now is the gateway's clock; nil means time.Now.
	Now func() time.Time
	// Log receives warnings about what does not fail a call; nil: nothing is logged.
	Log *slog.Logger
	// Memory keeps for the next process what data Redis has, so that their loss is noticed; nil:
	// a loss is not noticed.
	Memory Memory
	// RefuseDataLoss has DataLost return an error after a loss, until the data are back or
	// AcceptData is called.
	RefuseDataLoss bool
	// Offset is added to Redis's clock; nil means 0. Tests move time with it.
	Offset func() time.Duration

	// Only tests set these.
	scriptsOnly    bool          // no functions of Redis are used
	functionsFirst bool          // functions are tried for all users
	markersEvery   time.Duration // replaces deleteMarkersEvery unless it is 0
	neverRenews    bool          // places are not renewed, and rests not kept, in the background
}

// Store is a quota store in Redis. It is safe for concurrent use. Open makes one.
type Store struct {
	client   *redisclient.Client
	prefix   string
	id       string // of this gateway, in the keys of its trials
	timeout  time.Duration
	calendar *quota.Calendar
	keep     time.Duration
	history  int // see Options.HistoryDays
	billing  int // see Options.BillingHours
	now      func() time.Time
	offset   func() time.Duration
	log      *slog.Logger
	// redisAhead is how far Redis's clock was ahead of the gateway's when last seen, in ns.
	redisAhead atomic.Int64
	lost       atomic.Int64 // see LostHolds
	expired    atomic.Int64 // see ExpiredHolds

	overrides overrides
	plain     plainUsers
	layouts   layouts
	markers   markers
	watchers  watchers
	identity  identity
	connects  chan struct{} // see Connects
	places    places
	rests     rests
	index     crossingIndex

	weaknesses       weaknesses
	subscribeChecked atomic.Bool // see checkAnnouncements
	redisUser        string      // for advice

	refusesHeld bool // see RefuseHeld

	closing chan struct{} // closed when Close begins
	close   func() error
}

// Open prepares a store. It does not connect: a Redis that is down shows in the calls, and in
// Check. An error means that opt.URL cannot be used. It does not show the URL, which may hold
// a password.
func Open(opt Options) (*Store, error) {
	location, err := redisurl.Parse(opt.URL)
	if err != nil {
		return nil, fmt.Errorf("the store's URL %w", err)
	}
	if opt.HistoryDays < 0 || opt.HistoryDays > quota.MaxHistory {
		return nil, fmt.Errorf("opening the store: cannot keep a history of %d days", opt.HistoryDays)
	}
	if opt.BillingHours < 0 || opt.BillingHours > quota.MaxBillingHours {
		return nil, fmt.Errorf("opening the store: cannot keep %d hours for billing", opt.BillingHours)
	}
	s := &Store{
		prefix:    withDefault(opt.Prefix, "metergate"),
		timeout:   withDefault(opt.Timeout, 250*time.Millisecond),
		calendar:  opt.Calendar,
		keep:      withDefault(opt.Keep, 400*24*time.Hour),
		history:   opt.HistoryDays,
		billing:   opt.BillingHours,
		now:       opt.Now,
		offset:    opt.Offset,
		log:       opt.Log,
		overrides: overrides{seed: maphash.MakeSeed()},
		plain:     plainUsers{seed: maphash.MakeSeed(), all: opt.functionsFirst},
		connects:  make(chan struct{}, 1),
		places:    places{missing: make(chan struct{}, 1)},
		identity:  identity{memory: opt.Memory, refuses: opt.RefuseDataLoss},
		id:        quota.NewID(),
		redisUser: withDefault(location.Username, "default"),
		closing:   make(chan struct{}),
	}
	if s.calendar == nil {
		s.calendar = quota.NewCalendar(nil)
	}
	if s.now == nil {
		s.now = time.Now
	}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if s.offset == nil {
		s.offset = func() time.Duration { return 0 }
	}
	if err := s.loadIdentity(); err != nil {
		return nil, err
	}
	s.index = crossingIndex{store: s, wake: make(chan struct{}, 1), expected: map[string]time.Time{}, unlisted: map[string]time.Time{}}
	library := redisclient.Library{Name: script.LibraryName, Source: script.LibrarySource, Function: script.LibraryName}
	if opt.scriptsOnly {
		library = redisclient.Library{}
	}
	s.client = redisclient.New(redisclient.Options{
		Library: library, Location: location, TLS: opt.TLS, Protocol: opt.Protocol,
		Timeout: s.timeout, InFlight: withDefault(opt.InFlight, 32), Now: s.now,
		OnConnect: s.onConnect,
	})
	var background sync.WaitGroup
	background.Go(func() { s.deleteMarkersUntilClosed(withDefault(opt.markersEvery, deleteMarkersEvery)) })
	if !opt.neverRenews {
		background.Go(s.renewPlacesUntilClosed)
	}
	background.Go(s.giveBackPlaces)
	background.Go(s.index.listUntilClosed)
	if opt.Memory != nil {
		background.Go(s.watchData)
	}
	s.close = sync.OnceValue(func() error {
		close(s.closing)
		s.places.leaving.Close()
		background.Wait()
		s.watchers.close()
		return s.client.Close()
	})
	return s, nil
}

func withDefault[T comparable](value, def T) T {
	var zero T
	if value == zero {
		return def
	}
	return value
}

// SetTLS sets how new connections speak TLS, if the URL says that they do. A nil config trusts
// the system's authorities and shows no certificate. If config has no ServerName, certificates
// must be for the hosts in the URL, and a node that the cluster or a Sentinel names by its IP
// address may have the certificate of the first host. config must not be changed afterwards.
func (s *Store) SetTLS(config *tls.Config) { s.client.SetTLS(config) }

// Close deletes the markers that Forget has named, gives back the places of Leave, and closes
// the connections. Calls under way fail. Further calls of Close do nothing.
func (s *Store) Close() error { return s.close() }

// Partitions returns how many parts of the store may fail by themselves, 1 or more.
func (s *Store) Partitions() int { return s.client.Partitions() }

// Partition returns the part that has the user's counts, 0 to Partitions()-1.
func (s *Store) Partition(user string) int {
	if s.Partitions() == 1 {
		return 0
	}
	return s.client.Partition(script.Key(s.prefix, user))
}

// Now returns Redis's time as last seen.
func (s *Store) Now() time.Time { return s.now().Add(time.Duration(s.redisAhead.Load())) }

// onConnect is called with each new connection for scripts before it serves any: what is at the
// other end may not be what was there before. An error refuses the connection.
func (s *Store) onConnect(ctx context.Context, c *redis.Client) error {
	if err := s.checkConnection(ctx, c); err != nil {
		return err
	}
	select {
	case s.connects <- struct{}{}:
	default: // nobody has received the last one yet
	}
	s.places.renewSoon()
	s.index.forget()
	return nil
}

// Connects returns a channel that receives after the gateway has connected to a Redis, for the
// first time or again. It has room for one: several connections may show as one.
func (s *Store) Connects() <-chan struct{} { return s.connects }
