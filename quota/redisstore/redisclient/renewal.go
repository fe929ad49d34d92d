package redisclient

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota/redisstore/resp"
)

// A renewal makes the connections to one address of a Redis anew after a reply that concerns
// the connection, see isConnectionFault: a name, a load balancer or a proxy may lead new
// connections to a Redis that works, while the open ones stay with one that does not. go-redis
// keeps such connections in its pool for ever. Call has connections made anew when the library is no
// longer there.
//
// All connections that are open by then become stale, since they have most likely the same
// fault. An idle one is closed when go-redis looks at it before the next use. One in use is
// closed when its call has ended, so that a renewal breaks no call.
//
// A renewal is a redis.Hook that sees all replies of its client. It makes no more than one a
// renewEvery: if new connections have the fault as well, they are not the cure.
type renewal struct {
	dial dialFunc
	// generation counts the renewals. A connection of an earlier one is stale.
	generation atomic.Int64

	mu   sync.Mutex
	last time.Time // of the last renewal
	// held has the connections that are in use for as long as they live, with what to do when
	// they become stale.
	held map[*renewedConn]func()
}

type dialFunc = func(ctx context.Context, network, addr string) (net.Conn, error)

const renewEvery = time.Second

// newRedis returns go-redis's client for one address, with a renewal of its connections. It
// changes o.Dialer.
func newRedis(o *redis.Options) *redis.Client {
	r := &renewal{dial: o.Dialer, held: make(map[*renewedConn]func())}
	o.Dialer = r.dialConn
	c := redis.NewClient(o)
	c.AddHook(r)
	return c
}

// connectionFaults are the first words of replies by which a Redis says that it, or this
// connection to it, cannot serve any such call. Another Redis at the same address may.
var connectionFaults = []string{
	"READONLY", "NOAUTH", "WRONGPASS", "NOPERM", // a replica; not logged in, or without the right
	"LOADING", "MASTERDOWN", "CLUSTERDOWN", "NOREPLICAS", "MISCONF", // in no state to serve, or to write
}

// IsReply reports whether an error is a reply of a Redis.
func IsReply(err error) bool {
	reply, text := redis.Error(nil), resp.ErrorReply("")
	return errors.As(err, &reply) || errors.As(err, &text)
}

// isConnectionFault reports whether an error is a reply that a new connection may cure.
func isConnectionFault(err error) bool {
	var text string
	if reply := resp.ErrorReply(""); errors.As(err, &reply) {
		text = string(reply)
	} else if reply := redis.Error(nil); errors.As(err, &reply) {
		text = reply.Error()
	} else {
		return false
	}
	word, _, _ := strings.Cut(text, " ")
	for _, fault := range connectionFaults {
		// Before Redis 7 the error of a command inside of a script comes after a -.
		if word == fault || word == "ERR" && strings.Contains(text, ": -"+fault+" ") {
			return true
		}
	}
	return false
}

// see renews the connections if an error says that this may help.
func (r *renewal) see(err error) {
	if err != nil && isConnectionFault(err) {
		r.renew()
	}
}

func (r *renewal) renew() {
	r.mu.Lock()
	if time.Since(r.last) < renewEvery {
		r.mu.Unlock()
		return
	}
	r.last = time.Now()
	r.generation.Add(1)
	held := r.held
	r.held = make(map[*renewedConn]func())
	r.mu.Unlock()
	for _, onStale := range held {
		onStale()
	}
}

// A connHolder keeps one connection in use for as long as that lives. It stands in the context
// of a dial under holderKey.
type connHolder interface{ hold(*renewedConn) }

type holderKey struct{}

func (r *renewal) dialConn(ctx context.Context, network, addr string) (net.Conn, error) {
	c := &renewedConn{renewal: r, generation: r.generation.Load()}
	var err error
	if c.Conn, err = r.dial(ctx, network, addr); err != nil {
		return nil, err
	}
	if holder, ok := ctx.Value(holderKey{}).(connHolder); ok {
		holder.hold(c)
	}
	return c, nil
}

// ProcessHook implements redis.Hook.
func (r *renewal) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		err := next(ctx, cmd)
		r.see(err)
		return err
	}
}

// ProcessPipelineHook implements redis.Hook.
func (r *renewal) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		err := next(ctx, cmds)
		for _, cmd := range cmds {
			r.see(cmd.Err())
		}
		return err
	}
}

// DialHook implements redis.Hook.
func (r *renewal) DialHook(next redis.DialHook) redis.DialHook { return next }

// A renewedConn is a connection that a renewal may make stale.
type renewedConn struct {
	net.Conn
	renewal    *renewal
	generation int64
}

func (c *renewedConn) isStale() bool { return c.generation != c.renewal.generation.Load() }

// whenStale has f called, once, when c becomes stale, unless c is closed before. f must not
// wait.
func (c *renewedConn) whenStale(f func()) {
	r := c.renewal
	r.mu.Lock()
	if !c.isStale() {
		r.held[c] = f
		r.mu.Unlock()
		return
	}
	r.mu.Unlock()
	f()
}

func (c *renewedConn) Close() error {
	c.renewal.mu.Lock()
	delete(c.renewal.held, c)
	c.renewal.mu.Unlock()
	return c.Conn.Close()
}

// SyscallConn is what go-redis looks at before it uses an idle connection. A stale one counts
// as closed, so that it costs no call. TLS hides the socket, and is taken to be open.
func (c *renewedConn) SyscallConn() (syscall.RawConn, error) {
	if c.isStale() {
		return nil, net.ErrClosed
	}
	if sc, ok := c.Conn.(syscall.Conn); ok {
		return sc.SyscallConn()
	}
	return hiddenSocket{}, nil
}
