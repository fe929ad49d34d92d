// Package redisclient runs the scripts and functions of many callers on one Redis, a Redis Cluster
// or a Redis behind Sentinels, and keeps its promises about time while any of these fail.
//
// # Two ways to Redis
//
// Client.Run is the hot path. All scripts for one Redis share one connection (a pipeline):
// they are written as they come, without waiting for earlier replies, and Redis replies in
// their order. Callers that arrive together share one write. The request itself is written
// by its caller, so no goroutine has to be woken for it. A lone caller also reads the reply.
//
// Client.Call is the same for the function of a library, which Redis 7 and later keep. Unlike a script, it
// can keep what it has computed for the next call. Calls that are written together are one command. Each new
// connection of a pipeline loads the library if Redis does not have it. Where there are no functions, Call says so, and
// its caller runs a script.
//
// Client.Do is for everything else: it lends a connection of go-redis's pool to a function.
// A script goes this way too when its pipeline cannot serve it, because a cluster has moved its
// key for example.
//
// # Why not go-redis alone
//
// Its pool takes one connection for each call, with a write, a read and two wake-ups each: 72
// to 162 µs of processor time a call, where a shared connection takes 22 to 65 µs. Its
// AutoPipeline takes 31 to 136 µs, is marked experimental in 9.23, and by default retries a
// failed batch as a whole. A batch of its own pipelines returns when its slowest node has
// replied. The figures are in docs/performance-notes.md.
//
// For the calls that do go through it, some defaults are changed. By default go-redis sends a
// script up to four times, retries dials, and ignores the deadline of a context. Its Sentinel
// client listens to a single Sentinel, and its cluster client keeps asking a dead node.
// clientOptions, failover and hook say what is done about each.
//
// # What it guarantees
//
//   - A call returns within Options.Timeout, or at its context's deadline if that is earlier.
//     Before that it may wait for a free place, five seconds at most. That wait does not
//     count: it is the gateway's own lack of capacity, and ends in quota.ErrOverloaded.
//   - A script is sent once. If Redis does not know it, it is sent once more with its source, on the
//     same connection. If the reply is another error that comes before the script has written
//     anything, it is sent once more by way of go-redis: a cluster may have moved the key. Scripts
//     must be safe to run twice. A function is sent once, and never by way of go-redis.
//   - After an error the script may have run, may still run later, or may never run. Only
//     after quota.ErrOverloaded, or if the context was cancelled, it was certainly not sent.
//     The end of its context does not stop a script that has been sent.
//   - Calls that fail with their shared connection return the same
//     *quota.BrokenConnectionError, so that a caller can tell one fault from many.
//   - A connection that breaks, or owes a reply for longer than the timeout, gets no new
//     calls.
//   - After a reply that says that a Redis, or a connection to it, serves no such call, such as
//     READONLY or NOAUTH, the connections to it are made anew, at most once a second.
//   - After a failover the next calls reach the new master, without a restart. A master that
//     a replica has replaced gets no more calls, even if it still runs.
package redisclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"metergate/quota"
	"metergate/quota/redisstore/redisurl"
)

// Options say where Redis is and how long to wait for it. All fields but TLS, Protocol,
// OnConnect and Library are required.
type Options struct {
	Location redisurl.Location
	// TLS is for connections to a Location with TLS, see SetTLS.
	TLS *tls.Config
	// Protocol is the version of Redis's protocol, 2 or 3; 0 means 3. A server that knows no 3
	// is spoken to in 2.
	Protocol int
	// Timeout is the longest wait for one reply, without the time in which the gateway
	// itself has no place free.
	Timeout time.Duration
	// InFlight is how many scripts may be under way on one Redis at a time, and how many
	// pooled connections Do may use.
	InFlight int
	// Now is the clock by which Reply says when a script was sent and answered.
	Now func() time.Time
	// OnConnect, unless it is nil, is called with each new connection that scripts are to share,
	// in a cluster with those to each master, before any script is sent on it. The client has only
	// this connection, and must not be used after OnConnect has returned. An error refuses the
	// connection: calls that wait for it fail with the error.
	OnConnect func(context.Context, *redis.Client) error
	// Library has the functions for Call. It is loaded once OnConnect has accepted a connection.
	Library Library
}

// Client is a client of one Redis, or of one cluster. It is safe for concurrent use.
type Client struct {
	redis         redis.UniversalClient
	location      redisurl.Location
	secure        *secureDialer // nil: no TLS
	router        *router
	timeout       time.Duration
	now           func() time.Time
	inFlight      int
	onFailure     func() // is told that a call failed; does not wait
	onConnect     func(context.Context, *redis.Client) error
	library       Library
	libraryPause  time.Duration // the constant, except in tests
	libraryBreaks atomic.Int64  // how many connections in a row have broken while they loaded the library
	libraryAt     atomic.Int64  // then, when a connection may load it again, in ns since 1970

	lentAt atomic.Int64 // when a script was last run by way of go-redis, in ns since 1970

	tasks   chan task // to the workers
	stopped chan struct{}
	workers sync.WaitGroup
	// closeRedis closes what New has started for redis.
	closeRedis func() error
}

const (
	// setupTimeout is how much longer than its caller a call may take. To make a
	// connection, or to load a script, takes several replies. The caller gives up, the
	// call goes on, and the next one finds it done. So a slow Redis is slow, not down.
	setupTimeout = 2 * time.Second
	// queueTimeout bounds the wait for a free place. A request that waits longer finds a
	// gateway that has more to do than it can.
	queueTimeout = 5 * time.Second
	// maxLate bounds the allowance for a process that gets no processor, see await.
	maxLate = time.Second
)

// errClosed reports a call of a closed client.
var errClosed = errors.New("the store is closed")

// New prepares a client. It does not connect: a Redis that is down shows in the calls.
// Close ends the client.
func New(opt Options) *Client {
	// go-redis writes each failed dial to stderr, for the whole process. The caller gets
	// the error, and has a log.
	logging.Disable()
	c := &Client{
		location: opt.Location, timeout: opt.Timeout, now: opt.Now, inFlight: opt.InFlight, onConnect: opt.OnConnect,
		library: opt.Library, libraryPause: libraryPause, tasks: make(chan task), stopped: make(chan struct{}),
	}
	if c.onConnect == nil {
		c.onConnect = func(context.Context, *redis.Client) error { return nil }
	}
	c.secure = newSecureDialer(opt.Location, opt.TLS)
	c.redis, c.onFailure, c.closeRedis = connect(opt, c.secure)
	c.router = newRouter(c.redis)
	for range c.inFlight {
		c.workers.Go(c.work)
	}
	return c
}

// Close closes all connections. Calls under way fail. It must be called once.
func (c *Client) Close() error {
	close(c.stopped)
	c.router.close() // ends the scripts under way
	err := c.closeRedis()
	c.workers.Wait()
	return err
}

// SetTLS sets how new connections speak TLS, if the location says that they do. A nil config
// trusts the system's authorities and shows no certificate. A config without a ServerName wants
// the name that is dialled, or that of the first host. config must not be changed afterwards.
func (c *Client) SetTLS(config *tls.Config) {
	if c.secure != nil {
		c.secure.set(config)
	}
}

// IsCluster reports whether this is a Redis Cluster.
func (c *Client) IsCluster() bool {
	_, ok := c.redis.(*redis.ClusterClient)
	return ok
}

// A task is a function for a worker. There are as many workers as pooled connections, so
// that a caller who waits for a worker waits for the gateway, not for Redis.
type task struct {
	ctx  context.Context
	run  func(context.Context) error
	done chan error
}

func (c *Client) work() {
	for {
		select {
		case t := <-c.tasks:
			ctx, cancel := context.WithTimeout(t.ctx, c.timeout+setupTimeout)
			t.done <- t.run(ctx)
			cancel()
		case <-c.stopped:
			return
		}
	}
}

// Do runs fn, which may call Redis as often as its context allows, and waits for it as long
// as the timeout, or until ctx's deadline if that is earlier. After an error fn may still
// run: the caller must not look at what fn writes. The end of ctx ends the wait for a
// worker, but not fn, since only a reply tells whether something that was sent has run.
// Errors: quota.ErrOverloaded, ctx's, and fn's, which may become a *WrongKindError.
func (c *Client) Do(ctx context.Context, fn func(context.Context, redis.UniversalClient) error) error {
	run := func(ctx context.Context) error { return fn(ctx, c.redis) }
	t := task{context.WithoutCancel(ctx), run, make(chan error, 1)}
	select {
	case c.tasks <- t:
	default:
		timer := time.NewTimer(queueTimeout)
		defer timer.Stop()
		select {
		case c.tasks <- t:
		case <-timer.C:
			return quota.ErrOverloaded
		case <-ctx.Done():
			return ctx.Err()
		case <-c.stopped:
			return errClosed
		}
	}
	deadline := earlierDeadline(ctx, time.Now().Add(c.timeout))
	timer := time.NewTimer(time.Hour)
	done, err := await(t.done, timer, deadline)
	if !done {
		return c.timeoutError()
	}
	if errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) {
		return quota.ErrOverloaded
	}
	return c.explain(err)
}

// EachMaster runs fn, as Do does, for every master: of a cluster for all of them at once.
// fn must be safe for that. It returns one of the errors.
func (c *Client) EachMaster(ctx context.Context, fn func(context.Context, *redis.Client) error) error {
	return c.Do(ctx, func(ctx context.Context, r redis.UniversalClient) error {
		cluster, ok := r.(*redis.ClusterClient)
		if !ok {
			return fn(ctx, r.(*redis.Client))
		}
		var masters atomic.Int64
		err := cluster.ForEachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
			masters.Add(1)
			return fn(ctx, master)
		})
		if err == nil && masters.Load() == 0 {
			err = errors.New("no node of the cluster has any slots")
		}
		return err
	})
}

// KeyOnEachMaster returns keys of which each master has one. The key for a number must not depend on
// anything else, and must have a hash tag. A single Redis has key(0).
func (c *Client) KeyOnEachMaster(ctx context.Context, key func(n int) string) ([]string, error) {
	cluster, ok := c.redis.(*redis.ClusterClient)
	if !ok {
		return []string{key(0)}, nil
	}
	var mu sync.Mutex
	missing := map[string]bool{} // masters, by address
	if err := c.EachMaster(ctx, func(_ context.Context, master *redis.Client) error {
		mu.Lock()
		defer mu.Unlock()
		missing[master.Options().Addr] = true
		return nil
	}); err != nil {
		return nil, err // the call may still be under way, and write to missing
	}
	var keys []string
	for n := 0; len(missing) > 0; n++ {
		if n > 8*slots {
			return nil, fmt.Errorf("no key was found for %d of the masters", len(missing))
		}
		master, err := cluster.MasterForKey(ctx, key(n))
		if err != nil {
			return nil, err
		}
		if addr := master.Options().Addr; missing[addr] {
			delete(missing, addr)
			keys = append(keys, key(n))
		}
	}
	return keys, nil
}

// earlierDeadline returns a time, or ctx's deadline if that is earlier.
func earlierDeadline(ctx context.Context, end time.Time) time.Time {
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	return end
}

// A deadlineContext has an earlier deadline than its parent, but is not done when that has
// passed. It hands a deadline on without a timer of its own.
type deadlineContext struct {
	context.Context
	deadline time.Time
}

func (c deadlineContext) Deadline() (time.Time, bool) { return c.deadline, true }

func (c *Client) timeoutError() error {
	return c.secure.explainTimeout(fmt.Errorf("no answer within %v: %w", c.timeout, context.DeadlineExceeded))
}

// await waits for the end of a call until a deadline, with a timer that it sets and stops.
// Not done: the call is still under way.
func await(call <-chan error, timer *time.Timer, deadline time.Time) (done bool, err error) {
	timer.Reset(time.Until(deadline))
	defer timer.Stop()
	select {
	case err = <-call:
		return true, err
	case <-timer.C:
	}
	// On a busy machine the reply may have been there in time, and only the goroutine that
	// reads it was late, just as this one is. Waiting for a processor is not a failure of
	// Redis.
	select {
	case err = <-call:
		return true, err
	case <-time.After(min(time.Since(deadline), maxLate)):
		return false, nil
	}
}
