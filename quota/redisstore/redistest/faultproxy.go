package redistest

import (
	"bufio"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A FaultProxy is the network between a client and a Redis, under the control of a test. It
// relays whole commands and whole replies, and knows which reply belongs to which command, so
// that a test can break the connection at an exact step. A new one does no harm. All methods
// may be called at any time. It ends with its test.
type FaultProxy struct {
	// Addr is HOST:PORT, to which clients connect.
	Addr string

	redis    atomic.Pointer[string] // HOST:PORT
	listener *net.TCPListener
	closed   chan struct{}
	running  sync.WaitGroup

	delay       atomic.Int64 // ns
	dropReplies atomic.Bool
	refuse      atomic.Bool

	mu        sync.Mutex
	conns     map[*relayedConn]bool
	onCommand func(Command) Fate
	onReply   func(Command, string) Fate
	healed    chan struct{} // closed and replaced by Heal
}

// A Fate is what becomes of a command, or of a reply.
type Fate int

const (
	// Pass relays it.
	Pass Fate = iota
	// Drop ends it here. Since the client then waits for it, nothing that comes after it on
	// the same connection could be told apart, and is dropped too.
	Drop
	// Cut closes the connection instead of relaying it.
	Cut
)

// StartFaultProxy starts a proxy for the Redis at addr.
func StartFaultProxy(t testing.TB, addr string) *FaultProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &FaultProxy{
		Addr:     l.Addr().String(),
		listener: l.(*net.TCPListener),
		closed:   make(chan struct{}),
		conns:    make(map[*relayedConn]bool),
		healed:   make(chan struct{}),
	}
	p.redis.Store(&addr)
	p.running.Go(p.accept)
	t.Cleanup(func() {
		close(p.closed)
		p.listener.Close()
		p.CutConnections()
		p.running.Wait()
	})
	return p
}

// URL returns the URL of the Redis through the proxy, as the configuration takes it.
func (p *FaultProxy) URL() string { return "redis://" + p.Addr }

// OnCommand has f decide on each command before Redis gets it; nil: commands pass. f is called
// for several connections at once. It may block, and so hold the command back, but not beyond
// Closed.
func (p *FaultProxy) OnCommand(f func(Command) Fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onCommand = f
}

// OnReply has f decide on each reply before the client gets it; nil: replies pass. By then the
// command has run. f may block, as in OnCommand.
func (p *FaultProxy) OnReply(f func(cmd Command, reply string) Fate) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.onReply = f
}

// Closed is closed when the proxy ends.
func (p *FaultProxy) Closed() <-chan struct{} { return p.closed }

// DelayReplies has replies arrive no sooner than d after their command was sent; 0: at once.
func (p *FaultProxy) DelayReplies(d time.Duration) { p.delay.Store(int64(d)) }

// DropReplies says whether all replies are dropped. Commands still run.
func (p *FaultProxy) DropReplies(drop bool) { p.dropReplies.Store(drop) }

// RefuseConnections says whether new connections are reset at once. Open connections stay.
func (p *FaultProxy) RefuseConnections(refuse bool) { p.refuse.Store(refuse) }

// SwitchTo has new connections lead to another Redis, as a name or a load balancer does after a
// failover. Open connections stay where they are.
func (p *FaultProxy) SwitchTo(addr string) { p.redis.Store(&addr) }

// AnswerOpen has all commands on the connections that are open now answered with an error, such
// as "READONLY You can't write", without asking Redis. New connections work.
func (p *FaultProxy) AnswerOpen(reply string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.answer.Store(&reply)
	}
}

// CutConnections closes all connections now, with whatever is on its way.
func (p *FaultProxy) CutConnections() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.cut()
	}
}

// Healed is closed by the next Heal.
func (p *FaultProxy) Healed() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.healed
}

// Heal ends all faults. A connection that has lost a reply relays no more replies; its client
// gives it up.
func (p *FaultProxy) Heal() {
	p.DelayReplies(0)
	p.DropReplies(false)
	p.RefuseConnections(false)
	p.OnCommand(nil)
	p.OnReply(nil)
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.healed)
	p.healed = make(chan struct{})
}

func (p *FaultProxy) accept() {
	for {
		client, err := p.listener.AcceptTCP()
		if err != nil {
			return
		}
		if p.refuse.Load() {
			reset(client)
			continue
		}
		p.running.Go(func() {
			server, err := net.DialTimeout("tcp", *p.redis.Load(), 10*time.Second)
			if err != nil {
				reset(client)
				return
			}
			c := &relayedConn{proxy: p, client: client, server: server.(*net.TCPConn),
				ended: make(chan struct{}), sent: make(chan sentCommand, 4096)}
			p.mu.Lock()
			p.conns[c] = true
			p.mu.Unlock()
			select {
			case <-p.closed: // CutConnections may have come too early for it
				c.cut()
			default:
			}
			p.running.Go(c.relayCommands)
			c.relayReplies()
			p.mu.Lock()
			delete(p.conns, c)
			p.mu.Unlock()
		})
	}
}

func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}

// A relayedConn is a client's connection and its counterpart to Redis.
type relayedConn struct {
	proxy          *FaultProxy
	client, server *net.TCPConn
	once           sync.Once
	ended          chan struct{}
	sent           chan sentCommand       // commands that Redis has yet to answer
	dropping       bool                   // no more replies are relayed
	listens        atomic.Bool            // it has subscribed to a channel
	answer         atomic.Pointer[string] // see AnswerOpen; nil: commands are relayed
}

type sentCommand struct {
	Command
	at time.Time
}

func (c *relayedConn) cut() {
	c.once.Do(func() {
		close(c.ended)
		c.client.Close()
		c.server.Close()
	})
}

// relayCommands relays from the client to Redis.
func (c *relayedConn) relayCommands() {
	r := bufio.NewReader(c.client)
	for dropping := false; ; {
		cmd, err := readFrame(r)
		if err != nil {
			// The client has closed, or was cut. What it sent still reaches Redis.
			c.server.CloseWrite()
			return
		}
		c.proxy.mu.Lock()
		decide := c.proxy.onCommand
		c.proxy.mu.Unlock()
		if decide != nil && !dropping {
			switch decide(Command(cmd.words)) {
			case Cut:
				c.cut()
				return
			case Drop:
				dropping = true
			}
		}
		if dropping {
			continue
		}
		if answer := c.answer.Load(); answer != nil {
			c.client.Write([]byte("-" + *answer + "\r\n"))
			continue
		}
		if !hasReply(cmd.words) {
			c.listens.Store(true)
		} else {
			select {
			case c.sent <- sentCommand{cmd.words, time.Now()}:
			case <-c.ended:
				return
			}
		}
		if _, err := c.server.Write(cmd.raw); err != nil {
			c.cut()
			return
		}
	}
}

// hasReply reports whether a command has one reply. Commands that subscribe get pushes
// instead.
func hasReply(words []string) bool {
	if len(words) == 0 {
		return false
	}
	switch strings.ToLower(words[0]) {
	case "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe":
		return false
	}
	return true
}

// isPush reports whether Redis says something that is not the reply to a command: a message, or
// that a channel was added or removed. Version 2 of the protocol has no mark for it.
func (c *relayedConn) isPush(f frame) bool {
	if f.raw[0] == '*' && c.listens.Load() && len(f.words) > 0 {
		switch f.words[0] {
		case "message", "pmessage", "subscribe", "psubscribe", "unsubscribe", "punsubscribe":
			return true
		}
	}
	return f.raw[0] == '>'
}

// relayReplies relays from Redis to the client.
func (c *relayedConn) relayReplies() {
	defer c.cut()
	r := bufio.NewReader(c.server)
	for {
		reply, err := readFrame(r)
		if err != nil {
			return
		}
		var cmd sentCommand
		if !c.isPush(reply) {
			select {
			case cmd = <-c.sent:
			case <-c.ended:
				return
			}
		}
		c.proxy.mu.Lock()
		decide := c.proxy.onReply
		c.proxy.mu.Unlock()
		if decide != nil && cmd.Command != nil && !c.dropping {
			switch decide(cmd.Command, string(reply.raw)) {
			case Cut:
				return
			case Drop:
				c.dropping = true
			}
		}
		if c.dropping = c.dropping || c.proxy.dropReplies.Load(); c.dropping {
			continue
		}
		if d := time.Duration(c.proxy.delay.Load()); d > 0 && cmd.Command != nil {
			timer := time.NewTimer(time.Until(cmd.at.Add(d)))
			select {
			case <-timer.C:
			case <-c.ended:
				timer.Stop()
				return
			}
		}
		// A client that has gone does not end the connection: what it sent may be on its
		// way to Redis.
		c.client.Write(reply.raw)
	}
}
