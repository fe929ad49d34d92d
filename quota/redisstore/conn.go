package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"metergate/quota"
)

// setupTimeout is how much longer than its caller a call may take. A connection that
// has to be made, and a script that has to be loaded, take several answers of Redis;
// who waits for them gives up, they go on, and the next call finds them done. So a
// slow Redis is slow, and not down.
const setupTimeout = 2 * time.Second

// errClosed: the store was closed before the call.
var errClosed = errors.New("the store is closed")

// A job is a call of Redis for a worker. There are as many workers as connections:
// who waits for one waits for the gateway, not for Redis.
type job struct {
	ctx  context.Context
	call func(context.Context) error
	done chan error
}

func (s *Store) work() {
	for {
		select {
		case j := <-s.jobs:
			ctx, cancel := context.WithTimeout(j.ctx, s.timeout+setupTimeout)
			j.done <- j.call(ctx)
			cancel()
		case <-s.stopped:
			return
		}
	}
}

// exclusively has a worker run one call of Redis, and waits for it as long as the
// store's timeout, or until ctx's deadline when that is earlier. Then the call may
// still be under way: what it writes must not be looked at after an error. ctx ends
// the wait for a worker, but not the call: whether a script that was sent has run is
// known only from its answer.
func (s *Store) exclusively(ctx context.Context, call func(context.Context) error) error {
	j := job{context.WithoutCancel(ctx), call, make(chan error, 1)}
	select {
	case s.jobs <- j:
	default:
		timer := time.NewTimer(queueTimeout)
		defer timer.Stop()
		select {
		case s.jobs <- j:
		case <-timer.C:
			return quota.ErrOverloaded
		case <-ctx.Done():
			return ctx.Err()
		case <-s.stopped:
			return errClosed
		}
	}
	until := endOf(ctx, s.timeout)
	timer := time.NewTimer(time.Hour)
	answered, err := await(j.done, timer, until)
	if !answered {
		return s.noAnswer()
	}
	if errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) {
		return quota.ErrOverloaded
	}
	return err
}

// endOf is when a call has to be answered that is sent now.
func endOf(ctx context.Context, timeout time.Duration) time.Time {
	end := time.Now().Add(timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(end) {
		end = d
	}
	return end
}

// A sooner is a context with a deadline that is none of its parent's: it is not done
// when that has passed.
type sooner struct {
	context.Context
	deadline time.Time
}

func (s sooner) Deadline() (time.Time, bool) { return s.deadline, true }

func (s *Store) noAnswer() error {
	return fmt.Errorf("no answer within %v: %w", s.timeout, context.DeadlineExceeded)
}

// await waits for the end of a call until a time, by a timer that it sets and stops.
func await(done <-chan error, timer *time.Timer, until time.Time) (answered bool, err error) {
	timer.Reset(time.Until(until))
	defer timer.Stop()
	select {
	case err = <-done:
		return true, err
	case <-timer.C:
	}
	// On a busy machine the answer may have been there in time, and only the goroutine
	// that reads it was late, as this one is then. Waiting for a processor is not a
	// failure of Redis.
	select {
	case err = <-done:
		return true, err
	case <-time.After(min(time.Since(until), maxLate)):
		return false, nil
	}
}

// maxLate bounds the allowance for a process that gets no processor.
const maxLate = time.Second

// connect prepares the client for a target; close ends it. It dials nothing yet.
// failed is to be told of calls that failed on connections that are not the client's.
func connect(t target, timeout time.Duration, connections int) (client redis.UniversalClient, failed func(), close func() error) {
	ro := clientOptions(t.options, timeout, connections)
	switch {
	case len(t.cluster) > 0:
		cluster := redis.NewClusterClient(clusterOptions(ro, t.cluster))
		// By itself it notices a failover when a node redirects it, and a node that is
		// dead does not: it would ask that one again for up to a minute.
		reload := func() { cluster.ReloadState(context.Background()) }
		cluster.AddHook(hook{once: true, failed: reload})
		return cluster, reload, cluster.Close
	case len(t.sentinels) > 0:
		f := newFailover(t, ro, timeout)
		one := redis.NewClient(ro)
		one.AddHook(hook{failed: f.suspect})
		return one, f.suspect, func() error {
			defer f.close()
			return one.Close()
		}
	}
	one := redis.NewClient(ro)
	return one, func() {}, one.Close
}

// clientOptions makes go-redis keep the store's promises: one try, and never
// longer than the timeout. By default it sends a script up to four times and
// does not heed a deadline.
func clientOptions(ro *redis.Options, timeout time.Duration, connections int) *redis.Options {
	ro.ContextTimeoutEnabled = true
	ro.MaxRetries = -1
	ro.DialerRetries = 1
	ro.DialTimeout = timeout + setupTimeout
	ro.ReadTimeout = timeout + setupTimeout
	ro.WriteTimeout = timeout + setupTimeout
	ro.PoolSize = connections
	ro.PoolTimeout = timeout
	ro.DisableIdentity = true
	ro.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	tlsConfig := ro.TLSConfig
	ro.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialer := net.Dialer{Timeout: timeout + setupTimeout, KeepAlive: 30 * time.Second}
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil || tlsConfig == nil {
			return conn, err
		}
		config := tlsConfig.Clone()
		config.ServerName = serverName(addr, tlsConfig.ServerName)
		secure := tls.Client(conn, config)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		return secure, nil
	}
	return ro
}

// clusterOptions carries the options of one Redis over to a cluster. Redirects
// are followed, up to three for a call, as a slot that moves needs. Routing by the
// server's table of commands is off: each call would look into it under one lock,
// and while it cannot be fetched, try to without heeding the call's deadline.
func clusterOptions(ro *redis.Options, nodes []string) *redis.ClusterOptions {
	return &redis.ClusterOptions{
		Addrs:                    nodes,
		Username:                 ro.Username,
		Password:                 ro.Password,
		Dialer:                   ro.Dialer,
		ContextTimeoutEnabled:    ro.ContextTimeoutEnabled,
		MaxRetries:               ro.MaxRetries,
		DialerRetries:            ro.DialerRetries,
		DialTimeout:              ro.DialTimeout,
		ReadTimeout:              ro.ReadTimeout,
		WriteTimeout:             ro.WriteTimeout,
		PoolSize:                 ro.PoolSize,
		PoolTimeout:              ro.PoolTimeout,
		DisableIdentity:          ro.DisableIdentity,
		MaintNotificationsConfig: ro.MaintNotificationsConfig,
		DisableRoutingPolicies:   true,
	}
}

// serverName is the name that the certificate of a dialled address must have. A
// cluster or a Sentinel may name nodes by addresses that no certificate has: when
// the URL has a name, that one holds for them.
func serverName(addr, first string) string {
	host, _, err := net.SplitHostPort(addr)
	if err != nil || net.ParseIP(host) != nil && net.ParseIP(first) == nil {
		return first
	}
	return host
}

// A hook sees each command and what became of it.
type hook struct {
	// once keeps a cluster's client from sending a command again after a network
	// error, which by default it does up to three times, until the deadline.
	once bool
	// failed is told that a command failed; it does not wait.
	failed func()
}

func (h hook) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if h.once {
			cmd = single{cmd}
		}
		err := next(ctx, cmd)
		if err != nil && !redis.HasErrorPrefix(err, "NOSCRIPT") {
			h.failed()
		}
		return err
	}
}

func (h hook) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h hook) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}

// A single command is not sent again, except to where a redirect points.
type single struct{ redis.Cmder }

func (single) NoRetry() bool { return true }

// eachMaster calls fn for the master of each part of the keys, at once in a
// cluster, and returns one of the errors.
func (s *Store) eachMaster(ctx context.Context, fn func(context.Context, *redis.Client) error) error {
	cluster, ok := s.client.(*redis.ClusterClient)
	if !ok {
		return fn(ctx, s.client.(*redis.Client))
	}
	var masters atomic.Int64
	err := cluster.ForEachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
		masters.Add(1)
		return fn(ctx, c)
	})
	if err == nil && masters.Load() == 0 {
		err = errors.New("no node of the cluster has any slots")
	}
	return err
}
