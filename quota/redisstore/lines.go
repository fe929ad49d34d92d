package redisstore

import (
	"context"
	"maps"
	"net"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/singleflight"
)

// Lines lead from keys to the pipe of the Redis that has them. In a cluster that is
// learned slot by slot from go-redis, which knows the cluster, and holds as long as
// the calls get answers: after a failure, or an answer that is an error, it is asked
// again.
type lines struct {
	slots []atomic.Pointer[pipe] // one for each slot of a cluster, or a single one
	// Who waits for a line may give up; it is laid all the same.
	laying  singleflight.Group // one a slot
	dialing singleflight.Group // one a Redis
	ctx     context.Context    // ends when close is called
	cancel  context.CancelFunc
	running sync.WaitGroup // of readers

	mu     sync.Mutex
	closed bool
	pipes  map[*pipe]string // all that have not ended; the address of their Redis
}

func newLines(client redis.UniversalClient) *lines {
	n := 1
	if _, ok := client.(*redis.ClusterClient); ok {
		n = slots
	}
	l := &lines{slots: make([]atomic.Pointer[pipe], n), pipes: make(map[*pipe]string)}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	return l
}

// slot is that of a key, 0 if there are none.
func (l *lines) slot(key string) int {
	if len(l.slots) == 1 {
		return 0
	}
	return int(slotOf(key))
}

// usable returns a pipe to the Redis at an address that takes calls, nil if there is
// none.
func (l *lines) usable(addr string) *pipe {
	l.mu.Lock()
	defer l.mu.Unlock()
	for p, at := range l.pipes {
		if at == addr && p.usable() {
			return p
		}
	}
	return nil
}

// line returns a new line for a key. It waits for it until a time; then the line is
// still being laid.
func (s *Store) line(key string, until time.Time) (*pipe, error) {
	slot := s.lines.slot(key)
	done := s.lines.laying.DoChan(strconv.Itoa(slot), func() (any, error) {
		p, err := s.lay(key)
		if err != nil {
			s.failed()
			return nil, err
		}
		s.lines.slots[slot].Store(p)
		return p, nil
	})
	timer := time.NewTimer(time.Until(until))
	defer timer.Stop()
	select {
	case laid := <-done:
		if s.lines.ctx.Err() != nil {
			return nil, errClosed
		}
		if laid.Err != nil {
			return nil, laid.Err
		}
		return laid.Val.(*pipe), nil
	case <-timer.C:
		return nil, s.noAnswer()
	}
}

// lay returns the pipe to the Redis that has a key, and connects if there is none.
func (s *Store) lay(key string) (*pipe, error) {
	ctx, cancel := context.WithTimeout(s.lines.ctx, s.timeout+setupTimeout)
	defer cancel()
	node, ok := s.client.(*redis.Client)
	if !ok {
		var err error
		if node, err = s.client.(*redis.ClusterClient).MasterForKey(ctx, key); err != nil {
			return nil, err
		}
	}
	o := *node.Options()
	laid, err, _ := s.lines.dialing.Do(o.Addr, func() (any, error) {
		if p := s.lines.usable(o.Addr); p != nil {
			return p, nil
		}
		return s.dial(ctx, o)
	})
	if err != nil {
		return nil, err
	}
	return laid.(*pipe), nil
}

// dial makes a pipe. go-redis says hello, as the options want it: it knows of
// passwords, databases and versions.
func (s *Store) dial(ctx context.Context, o redis.Options) (*pipe, error) {
	dial := o.Dialer
	var conn net.Conn
	o.PoolSize, o.PipelinePoolSize = 1, -1
	o.MaxRetries = -1 // these have been through go-redis once, where -1 became 0, which is 3
	o.Dialer = func(ctx context.Context, network, addr string) (c net.Conn, err error) {
		c, err = dial(ctx, network, addr)
		conn = c
		return c, err
	}
	client := redis.NewClient(&o)
	if err := client.Ping(ctx).Err(); err != nil {
		client.Close()
		return nil, err
	}
	// Now the connection is idle, and go-redis does not come back to it.
	p := newPipe(conn, s.inFlight, s)
	l := s.lines
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		client.Close()
		return nil, errClosed
	}
	conn.SetDeadline(time.Time{})
	l.pipes[p] = o.Addr
	l.running.Go(func() {
		p.read()
		client.Close()
		l.mu.Lock()
		delete(l.pipes, p)
		l.mu.Unlock()
	})
	return p, nil
}

// close breaks all lines. Calls under way fail.
func (l *lines) close() {
	l.cancel()
	l.mu.Lock()
	l.closed = true
	open := slices.Collect(maps.Keys(l.pipes))
	l.mu.Unlock()
	for _, p := range open {
		p.fail(errClosed)
	}
	l.running.Wait()
}
