package redisstore

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// A failover dials the master that a group of Sentinels names, and closes the
// connections to one that is no longer it.
//
// It stands in for go-redis's failover client, which listens to one Sentinel: when
// that one is lost with the master's machine, nothing tells of the failover, and
// every idle connection costs a call its timeout before one dials (with 9.23 and
// 32 connections, 34 calls in a row). Here every Sentinel is asked at once. They
// are asked at each dial, whenever a call has failed, and every second, because a
// master that was cut off from them takes writes that will be lost until its
// clients leave it.
type failover struct {
	name      string
	sentinels []*redis.Client
	timeout   time.Duration
	dial      func(ctx context.Context, network, addr string) (net.Conn, error)
	wake      chan struct{} // one place: several failures are one question
	closing   chan struct{}
	watcher   sync.WaitGroup

	mu     sync.Mutex
	master sighting
	conns  map[*masterConn]struct{}
}

// A sighting is what a Sentinel says.
type sighting struct {
	addr string // HOST:PORT of the master; empty: not known
	// epoch grows with each failover. A Sentinel with a lower one is behind.
	epoch int64
	err   error
}

const (
	watchEvery = time.Second
	// watchPause keeps a row of failures from becoming a row of questions.
	watchPause = 100 * time.Millisecond
)

// newFailover makes the dialer of ro one that asks t's Sentinels first. The
// Sentinels get the same user and password where they want any.
func newFailover(t target, ro *redis.Options, timeout time.Duration) *failover {
	f := &failover{
		name: t.master, timeout: timeout, dial: ro.Dialer,
		wake: make(chan struct{}, 1), closing: make(chan struct{}),
		conns: make(map[*masterConn]struct{}),
	}
	for _, addr := range t.sentinels {
		// Half of the time is left for the master.
		so := clientOptions(&redis.Options{Addr: addr, TLSConfig: t.options.TLSConfig}, timeout/2, 2)
		so.PipelinePoolSize = -1 // the two connections serve
		so.OnConnect = func(ctx context.Context, c *redis.Conn) error { return offer(ctx, c, ro.Username, ro.Password) }
		f.sentinels = append(f.sentinels, redis.NewClient(so))
	}
	ro.Addr = "sentinel:" + t.master
	ro.Dialer = f.dialMaster
	f.watcher.Go(f.watch)
	return f
}

// offer authenticates where that is wanted. A Sentinel without a password answers
// with an error, and works all the same; one with another password says so when
// it is asked.
func offer(ctx context.Context, c *redis.Conn, user, password string) error {
	if password == "" {
		return nil
	}
	auth := c.Auth(ctx, password)
	if user != "" {
		auth = c.AuthACL(ctx, user, password)
	}
	if answer := redis.Error(nil); errors.As(auth.Err(), &answer) {
		return nil
	}
	return auth.Err()
}

func (f *failover) close() {
	close(f.closing)
	f.watcher.Wait()
	for _, c := range f.sentinels {
		c.Close()
	}
}

// suspect has the Sentinels asked soon, because a call failed. It does not wait.
func (f *failover) suspect() {
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

func (f *failover) watch() {
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-f.closing:
			return
		case <-f.wake:
		case <-tick.C:
		}
		f.mu.Lock()
		idle := len(f.conns) == 0
		f.mu.Unlock()
		if !idle {
			f.find(context.Background())
		}
		select {
		case <-f.closing:
			return
		case <-time.After(watchPause):
		}
	}
}

// find asks all Sentinels for the master.
func (f *failover) find(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, f.timeout/2)
	defer cancel()
	answers := make(chan sighting, len(f.sentinels))
	for _, c := range f.sentinels {
		go func() { answers <- f.ask(ctx, c) }()
	}
	f.mu.Lock()
	known := f.master
	f.mu.Unlock()
	s, err := choose(known, func(yield func(sighting) bool) {
		for range f.sentinels {
			if !yield(<-answers) {
				return
			}
		}
	})
	if err != nil {
		return "", fmt.Errorf("no Sentinel names the master %q: %w", f.name, err)
	}
	f.note(s)
	return s.addr, nil
}

// choose takes the first answer that is not behind what is known, or else the
// least old one. When none answers, the master is where it was.
func choose(known sighting, answers iter.Seq[sighting]) (sighting, error) {
	var best sighting
	var errs []error
	for s := range answers {
		switch {
		case s.err != nil:
			errs = append(errs, s.err)
		case s.epoch >= known.epoch:
			return s, nil
		case best.addr == "" || s.epoch > best.epoch:
			best = s
		}
	}
	switch {
	case best.addr != "":
		return best, nil
	case known.addr != "":
		return known, nil
	}
	return sighting{}, errors.Join(errs...)
}

func (f *failover) ask(ctx context.Context, c *redis.Client) sighting {
	// The first command names a promoted replica before the second does, which
	// alone tells the epoch.
	addr := redis.NewStringSliceCmd(ctx, "sentinel", "get-master-addr-by-name", f.name)
	group := redis.NewMapStringStringCmd(ctx, "sentinel", "master", f.name)
	pipe := c.Pipeline()
	pipe.Process(ctx, addr)
	pipe.Process(ctx, group)
	_, err := pipe.Exec(ctx)
	if errors.Is(err, redis.Nil) {
		err = errors.New("there is none of this name")
	}
	if err == nil && len(addr.Val()) != 2 {
		err = errors.New("it has no address")
	}
	if err != nil {
		return sighting{err: fmt.Errorf("%s: %w", c.Options().Addr, err)}
	}
	epoch, _ := strconv.ParseInt(group.Val()["config-epoch"], 10, 64)
	return sighting{addr: net.JoinHostPort(addr.Val()[0], addr.Val()[1]), epoch: epoch}
}

// note keeps where the master is. Connections to another one are closed: what
// is under way on them may never be answered, or be lost.
func (f *failover) note(s sighting) {
	f.mu.Lock()
	moved := s.addr != f.master.addr
	f.master = s
	var gone []*masterConn
	if moved {
		for c := range f.conns {
			if c.addr != s.addr {
				gone = append(gone, c)
			}
		}
	}
	f.mu.Unlock()
	for _, c := range gone {
		c.Close()
	}
}

func (f *failover) dialMaster(ctx context.Context, network, _ string) (net.Conn, error) {
	addr, err := f.find(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := f.dial(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	c := &masterConn{Conn: conn, addr: addr, of: f}
	f.mu.Lock()
	stays := addr == f.master.addr
	if stays {
		f.conns[c] = struct{}{}
	}
	f.mu.Unlock()
	if !stays {
		c.Close()
		return nil, fmt.Errorf("%s ceased to be the master while it was dialled", addr)
	}
	return c, nil
}

// A masterConn is a connection to a master.
type masterConn struct {
	net.Conn
	addr   string
	of     *failover
	closed atomic.Bool
}

func (c *masterConn) Close() error {
	c.closed.Store(true)
	c.of.mu.Lock()
	delete(c.of.conns, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

// SyscallConn is what go-redis looks at before it takes an idle connection: one
// that was closed here costs no call. TLS hides the socket, and is taken for good.
func (c *masterConn) SyscallConn() (syscall.RawConn, error) {
	if c.closed.Load() {
		return nil, net.ErrClosed
	}
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return unseen{}, nil
}

// unseen is a socket that is not looked at.
type unseen struct{}

func (unseen) Control(func(uintptr)) error    { return nil }
func (unseen) Read(func(uintptr) bool) error  { return nil }
func (unseen) Write(func(uintptr) bool) error { return nil }
