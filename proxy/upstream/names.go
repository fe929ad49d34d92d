package upstream

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"sync"
	"time"
)

// retryNameAfter is how long the last address of a name is used without looking the name up
// again, once that has failed: a lookup may take until the time to connect is over.
const retryNameAfter = 5 * time.Second

// A nameBook keeps the last address of each name. Connections are renewed all the time, so
// without it an outage of the name servers would be one of the targets.
type nameBook struct {
	retryAfter time.Duration // retryNameAfter, but for tests

	mu   sync.Mutex
	last map[string]*lastAddress // by network and HOST:PORT
}

type lastAddress struct {
	address string
	retry   time.Time // when to look the name up again; zero: lookups succeed
}

func newNameBook() *nameBook {
	return &nameBook{retryAfter: retryNameAfter, last: map[string]*lastAddress{}}
}

// dial connects to a host. If its address cannot be found, it uses the last one.
func (b *nameBook) dial(ctx context.Context, d *net.Dialer, network, addr string, log *slog.Logger) (net.Conn, error) {
	if last := b.withoutLookup(network, addr); last != "" {
		return d.DialContext(ctx, network, last)
	}
	conn, err := d.DialContext(ctx, network, addr)
	if err == nil {
		b.found(network, addr, conn.RemoteAddr(), log)
		return conn, nil
	}
	var lookup *net.DNSError
	if !errors.As(err, &lookup) || ctx.Err() != nil && context.Cause(ctx) == context.Canceled {
		return nil, err
	}
	last := b.lookupFailed(network, addr, err, log)
	if last == "" {
		return nil, err
	}
	return d.DialContext(ctx, network, last)
}

// withoutLookup returns the last address of a name if a lookup has failed a moment ago. When it
// is time to try again, only one caller does.
func (b *nameBook) withoutLookup(network, addr string) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.last[network+" "+addr]
	if l == nil || l.retry.IsZero() {
		return ""
	}
	if now := time.Now(); now.After(l.retry) {
		l.retry = now.Add(b.retryAfter)
		return ""
	}
	return l.address
}

// found notes the address of a name.
func (b *nameBook) found(network, addr string, at net.Addr, log *slog.Logger) {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.last[network+" "+addr]
	if l == nil {
		l = new(lastAddress)
		b.last[network+" "+addr] = l
	}
	if !l.retry.IsZero() {
		log.Info("the address of a target can be found again", "target", addr, "address", at.String())
	}
	l.address, l.retry = at.String(), time.Time{}
}

// lookupFailed returns the last address of a name; empty: there is none.
func (b *nameBook) lookupFailed(network, addr string, err error, log *slog.Logger) string {
	b.mu.Lock()
	defer b.mu.Unlock()
	l := b.last[network+" "+addr]
	if l == nil {
		return ""
	}
	if l.retry.IsZero() {
		log.Warn("the address of a target cannot be found; the last one stays in use", "target", addr, "address", l.address, "error", err)
	}
	l.retry = time.Now().Add(b.retryAfter)
	return l.address
}

// adopt takes over what another book knows.
func (b *nameBook) adopt(from *nameBook) {
	from.mu.Lock()
	defer from.mu.Unlock()
	b.mu.Lock()
	defer b.mu.Unlock()
	for name, l := range from.last {
		known := *l
		b.last[name] = &known
	}
}
