package direct

import (
	"context"
	"net/http/httptrace"
	"slices"
	"time"
)

// sweepEvery is how long a connection stays open after its server has closed it, or after its
// time is up.
const sweepEvery = time.Second

// A host has the unused connections to it, and the requests that wait for one.
type host struct {
	addr    string
	idle    []*conn // the one used last is taken first
	waiting []*dial // oldest first
}

// A dial connects for a request. The request takes whichever comes first: the new connection,
// or, unless it is fresh, one that another request no longer needs.
type dial struct {
	host   *host
	fresh  bool
	cancel context.CancelFunc
	got    chan gotConn // of one
}

type gotConn struct {
	*conn
	err error
}

// connect returns a connection for a request; if fresh is true, not one that was used before.
func (t *Transport) connect(ctx context.Context, trace *httptrace.ClientTrace, addr string, fresh bool) (*conn, error) {
	if trace != nil && trace.GetConn != nil {
		trace.GetConn(addr)
	}
	for {
		c, err := t.takeOrDial(ctx, addr, fresh)
		if err != nil {
			return nil, err
		}
		info := httptrace.GotConnInfo{Conn: c.Conn, Reused: c.reused}
		if !c.since.IsZero() {
			info.WasIdle, info.IdleTime = true, time.Since(c.since)
		}
		if info.WasIdle && info.IdleTime >= t.IdleTimeout {
			t.discard(c)
			continue
		}
		if trace != nil && trace.GotConn != nil {
			trace.GotConn(info)
		}
		return c, nil
	}
}

func (t *Transport) takeOrDial(ctx context.Context, addr string, fresh bool) (*conn, error) {
	t.mu.Lock()
	t.closeIdle = false
	h := t.hosts[addr]
	if h == nil {
		if t.hosts == nil {
			t.hosts, t.dials = map[string]*host{}, map[*dial]struct{}{}
		}
		h = &host{addr: addr}
		t.hosts[addr] = h
	}
	if last := len(h.idle) - 1; last >= 0 && !fresh {
		c := h.idle[last]
		h.idle[last] = nil
		h.idle = h.idle[:last]
		t.mu.Unlock()
		return c, nil
	}
	// It goes on when the request has ended: the next one can use the connection.
	dialCtx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	d := &dial{host: h, fresh: fresh, cancel: cancel, got: make(chan gotConn, 1)}
	h.waiting = append(h.waiting, d)
	t.dials[d] = struct{}{}
	t.mu.Unlock()
	go t.dial(dialCtx, d)
	select {
	case got := <-d.got:
		return got.conn, got.err
	case <-ctx.Done():
	}
	t.mu.Lock()
	gone := d.leave()
	t.mu.Unlock()
	if !gone { // it got something meanwhile
		if got := <-d.got; got.err == nil {
			t.release(got.conn)
		}
	}
	return nil, context.Cause(ctx)
}

func (t *Transport) dial(ctx context.Context, d *dial) {
	defer d.cancel()
	var c *conn
	raw, err := t.Dial(ctx, "tcp", d.host.addr)
	if err == nil {
		c, err = newConn(raw, d.host)
	}
	t.mu.Lock()
	delete(t.dials, d)
	mine := d.leave()
	if mine {
		d.got <- gotConn{c, err}
	}
	t.mu.Unlock()
	if !mine && err == nil {
		t.release(c)
	}
}

// leave takes d from those that wait. It reports whether it still was among them.
func (d *dial) leave() bool {
	i := slices.Index(d.host.waiting, d)
	if i >= 0 {
		d.host.waiting = slices.Delete(d.host.waiting, i, i+1)
	}
	return i >= 0
}

// release gives a connection to the request that has waited longest of those that take a used one, or makes it idle.
func (t *Transport) release(c *conn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := c.host
	c.reused = true
	if i := slices.IndexFunc(h.waiting, func(d *dial) bool { return !d.fresh }); i >= 0 {
		c.since = time.Time{}
		h.waiting[i].got <- gotConn{conn: c}
		h.waiting = slices.Delete(h.waiting, i, i+1)
		return
	}
	if t.closeIdle || len(h.idle) >= t.MaxIdle {
		c.Close()
		return
	}
	c.since = time.Now()
	h.idle = append(h.idle, c)
	if t.sweeper == nil {
		t.sweeper = time.AfterFunc(sweepEvery, t.sweep)
	}
}

// sweep closes the connections that their servers have closed, and those that are too old.
// It runs as long as there are idle ones.
func (t *Transport) sweep() {
	t.mu.Lock()
	defer t.mu.Unlock()
	left := 0
	for _, h := range t.hosts {
		h.idle = slices.DeleteFunc(h.idle, func(c *conn) bool { return !t.keep(c, time.Since(c.since)) })
		left += len(h.idle)
	}
	if left > 0 {
		t.sweeper.Reset(sweepEvery)
	} else {
		t.sweeper = nil
	}
}

// keep discards a connection that cannot carry another request. It reports whether it can.
func (t *Transport) keep(c *conn, idleFor time.Duration) bool {
	if c.look() == errNothingYet && idleFor < t.IdleTimeout {
		return true
	}
	t.discard(c)
	return false
}

// discard closes an unused connection. If its server has sent something, which would be taken for the next response, that is
// logged.
func (t *Transport) discard(c *conn) {
	if c.look() == nil {
		text := make([]byte, maxLogged)
		n, _ := c.Conn.Read(text) // does not wait
		t.logUnsolicited(c, text[:n])
	}
	c.Close()
}

// maxLogged is how much the log has of what a server sends unasked, in bytes.
const maxLogged = 100

func (t *Transport) logUnsolicited(c *conn, text []byte) {
	if t.Log != nil {
		t.Log.Debug("the target sent more than its response", "target", c.host.addr, "begins", string(text))
	}
}

// CloseIdleConnections closes the connections that are idle now, and those that become idle
// before the next request. It cancels dials for which no request waits any more.
func (t *Transport) CloseIdleConnections() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.closeIdle = true
	for _, h := range t.hosts {
		for _, c := range h.idle {
			c.Close()
		}
		h.idle = nil
	}
	for d := range t.dials {
		if !slices.Contains(d.host.waiting, d) {
			d.cancel()
		}
	}
}
