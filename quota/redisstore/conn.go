package redisstore

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"metergate/quota"
)

// exclusively runs one call of Redis in one of the store's slots, within the
// store's timeout. ctx ends the wait for a slot, but not the call: whether a
// script that was sent has run is known only from its answer.
func (s *Store) exclusively(ctx context.Context, call func(context.Context) error) error {
	select {
	case s.slots <- struct{}{}:
	default:
		timer := time.NewTimer(queueTimeout)
		defer timer.Stop()
		select {
		case s.slots <- struct{}{}:
		case <-timer.C:
			return quota.ErrOverloaded
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	defer func() { <-s.slots }()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.timeout)
	defer cancel()
	err := call(ctx)
	if errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, redis.ErrPoolExhausted) {
		return quota.ErrOverloaded
	}
	return err
}

// clientOptions makes go-redis keep the store's promises: one try, and never
// longer than the timeout. By default it sends a script up to four times and
// does not heed a deadline.
func clientOptions(ro *redis.Options, timeout time.Duration, connections int) *redis.Options {
	ro.ContextTimeoutEnabled = true
	ro.MaxRetries = -1
	ro.DialerRetries = 1
	ro.DialTimeout = timeout
	ro.ReadTimeout = timeout
	ro.WriteTimeout = timeout
	ro.PoolSize = connections
	ro.PoolTimeout = timeout
	ro.DisableIdentity = true
	ro.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	tlsConfig := ro.TLSConfig
	ro.Dialer = func(ctx context.Context, network, addr string) (net.Conn, error) {
		dialer := net.Dialer{Timeout: timeout, KeepAlive: 30 * time.Second}
		conn, err := dialer.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		conn = lateReader{conn}
		if tlsConfig == nil {
			return conn, nil
		}
		secure := tls.Client(conn, tlsConfig)
		if err := secure.HandshakeContext(ctx); err != nil {
			conn.Close()
			return nil, err
		}
		return secure, nil
	}
	return ro
}

// A lateReader looks once more when a deadline has passed. On a busy machine the
// answer may have been there in time, and only the goroutine that reads it was
// late; net.Conn then reports a timeout without looking. Such an answer counts:
// waiting for a processor is not a failure of Redis.
type lateReader struct{ net.Conn }

func (c lateReader) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || len(p) == 0 {
		return n, err
	}
	raw, rawErr := c.SyscallConn()
	if rawErr != nil {
		return n, err
	}
	late := 0
	// Control does not heed the deadline, and the descriptor does not block.
	rawErr = raw.Control(func(fd uintptr) { late, _ = syscall.Read(int(fd), p) })
	if rawErr != nil || late <= 0 {
		return n, err
	}
	return late, nil
}

// SyscallConn lets go-redis see whether an idle connection was closed, so that a
// restart of Redis costs no request.
func (c lateReader) SyscallConn() (syscall.RawConn, error) {
	sc, ok := c.Conn.(syscall.Conn)
	if !ok {
		return nil, errors.ErrUnsupported
	}
	return sc.SyscallConn()
}
