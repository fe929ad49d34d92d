package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
)

// ErrNoConnection means that there was no room for another connection to a target: the
// bound of [Connections] is reached, or the system has no descriptor or buffer left.
// Nothing was sent, and the target is not at fault.
var ErrNoConnection = errors.New("no room for another connection to a target")

// Connections bounds the connections of all pools of a process together, so that they do not
// take the file descriptors that the rest of the process needs. A connection that would be
// one too many closes the idle ones first. There is no bound before SetMax.
type Connections struct {
	max, open atomic.Int64

	mu    sync.Mutex
	pools map[*Pool]struct{} // between Start and Retire
}

// NewConnections returns a count of no connections.
func NewConnections() *Connections { return &Connections{pools: map[*Pool]struct{}{}} }

// SetMax sets the bound, from the next connection on; 0: none.
func (c *Connections) SetMax(n int) { c.max.Store(int64(n)) }

// Open is how many connections are open.
func (c *Connections) Open() int { return int(c.open.Load()) }

// dial opens a connection and counts it until it is closed. Error: ErrNoConnection, or that of
// the network. c may be nil: nothing is counted.
func (c *Connections) dial(ctx context.Context, d *dialer, network, addr string) (net.Conn, error) {
	if c == nil {
		return d.connect(ctx, network, addr)
	}
	if !c.take() {
		c.closeIdle()
		if !c.take() {
			return nil, fmt.Errorf("%w: %d are open, and none of them is idle", ErrNoConnection, c.Open())
		}
	}
	conn, err := d.connect(ctx, network, addr)
	if err != nil {
		c.open.Add(-1)
		if isShortage(err) {
			err = fmt.Errorf("%w: %w", ErrNoConnection, err)
		}
		return nil, err
	}
	return &countedConn{streamConn: conn.(streamConn), count: c}, nil
}

// take counts a connection, unless that would be one too many.
func (c *Connections) take() bool {
	for {
		open, most := c.open.Load(), c.max.Load()
		if most > 0 && open >= most {
			return false
		}
		if c.open.CompareAndSwap(open, open+1) {
			return true
		}
	}
}

func (c *Connections) add(p *Pool) {
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.pools[p] = struct{}{}
	}
}

func (c *Connections) remove(p *Pool) {
	if c != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.pools, p)
	}
}

func (c *Connections) closeIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for p := range c.pools {
		p.closeIdle()
	}
}

// isShortage reports whether a connection failed for want of something on this machine.
func isShortage(err error) bool {
	for _, e := range []syscall.Errno{syscall.EMFILE, syscall.ENFILE, syscall.ENOBUFS, syscall.ENOMEM} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// A streamConn is a *net.TCPConn or *net.UnixConn.
type streamConn interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
}

// A countedConn is a connection that its Connections counts until it is closed.
type countedConn struct {
	streamConn
	count  *Connections
	closed atomic.Bool
}

func (c *countedConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		defer c.count.open.Add(-1)
	}
	return c.streamConn.Close()
}
