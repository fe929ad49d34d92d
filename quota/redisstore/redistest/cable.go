package redistest

import (
	"bufio"
	"crypto/sha1"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota/redisstore/script"
)

// A Cable is the network between a client and a Redis, in the hands of a test. It
// relays whole commands and whole replies, and tells which reply is whose, so that
// it can be cut at an exact step. A new one does no harm. All methods may be called
// at any time. It ends with its test.
type Cable struct {
	// Addr is host:port, where clients connect.
	Addr string

	redis    string
	listener *net.TCPListener
	closed   chan struct{}
	running  sync.WaitGroup

	delay   atomic.Int64 // ns
	swallow atomic.Bool
	refuse  atomic.Bool

	mu        sync.Mutex
	links     map[*link]bool
	onCommand func(Command) Fate
	onReply   func(Command, string) Fate
}

// A Fate is what becomes of a command, or of a reply.
type Fate int

const (
	// Pass lets it through.
	Pass Fate = iota
	// Swallow ends it here. Since the client then waits, nothing that comes after
	// it on the same connection could be told apart, and is swallowed too.
	Swallow
	// Cut closes the connection instead.
	Cut
)

// Connect lays a cable to the Redis at addr.
func Connect(t testing.TB, addr string) *Cable {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &Cable{
		Addr:     l.Addr().String(),
		redis:    addr,
		listener: l.(*net.TCPListener),
		closed:   make(chan struct{}),
		links:    make(map[*link]bool),
	}
	c.running.Go(c.accept)
	t.Cleanup(func() {
		close(c.closed)
		c.listener.Close()
		c.CutAll()
		c.running.Wait()
	})
	return c
}

// URL is what the configuration takes.
func (c *Cable) URL() string { return "redis://" + c.Addr }

// OnCommand has f decide on each command before Redis gets it; nil: they pass. f is
// called for several connections at once. It may block, and so hold the command,
// but not beyond Closed.
func (c *Cable) OnCommand(f func(Command) Fate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onCommand = f
}

// OnReply has f decide on each reply before the client gets it; nil: they pass. By
// then the command has run. f may block, as in OnCommand.
func (c *Cable) OnReply(f func(cmd Command, reply string) Fate) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.onReply = f
}

// Closed is closed when the cable ends.
func (c *Cable) Closed() <-chan struct{} { return c.closed }

// Delay has replies arrive no sooner than d after their command was sent; 0 ends
// it.
func (c *Cable) Delay(d time.Duration) { c.delay.Store(int64(d)) }

// SwallowReplies says whether replies are swallowed. Commands still run.
func (c *Cable) SwallowReplies(yes bool) { c.swallow.Store(yes) }

// Refuse says whether new connections are reset at once. Those that stand stay.
func (c *Cable) Refuse(yes bool) { c.refuse.Store(yes) }

// CutAll closes all connections now, with whatever is on its way.
func (c *Cable) CutAll() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for l := range c.links {
		l.cut()
	}
}

// Heal ends all faults. Connections that lost a reply stay deaf; their client
// gives them up.
func (c *Cable) Heal() {
	c.Delay(0)
	c.SwallowReplies(false)
	c.Refuse(false)
	c.OnCommand(nil)
	c.OnReply(nil)
}

func (c *Cable) accept() {
	for {
		client, err := c.listener.AcceptTCP()
		if err != nil {
			return
		}
		if c.refuse.Load() {
			reset(client)
			continue
		}
		c.running.Go(func() {
			server, err := net.DialTimeout("tcp", c.redis, 10*time.Second)
			if err != nil {
				reset(client)
				return
			}
			l := &link{c: c, client: client, server: server.(*net.TCPConn),
				ended: make(chan struct{}), sent: make(chan sent, 4096)}
			c.mu.Lock()
			c.links[l] = true
			c.mu.Unlock()
			select {
			case <-c.closed: // CutAll may have come too early for it
				l.cut()
			default:
			}
			c.running.Go(l.commands)
			l.replies()
			c.mu.Lock()
			delete(c.links, l)
			c.mu.Unlock()
		})
	}
}

func reset(conn *net.TCPConn) {
	conn.SetLinger(0)
	conn.Close()
}

// A link is one connection.
type link struct {
	c              *Cable
	client, server *net.TCPConn
	once           sync.Once
	ended          chan struct{}
	sent           chan sent // commands that Redis has yet to answer
	deaf           bool      // nothing more is relayed to the client; of replies
}

type sent struct {
	Command
	at time.Time
}

func (l *link) cut() {
	l.once.Do(func() {
		close(l.ended)
		l.client.Close()
		l.server.Close()
	})
}

// commands relays from the client to Redis.
func (l *link) commands() {
	r := bufio.NewReader(l.client)
	for mute := false; ; {
		cmd, err := readFrame(r)
		if err != nil {
			// The client has closed, or was cut. What it sent still reaches Redis.
			l.server.CloseWrite()
			return
		}
		l.c.mu.Lock()
		decide := l.c.onCommand
		l.c.mu.Unlock()
		if decide != nil && !mute {
			switch decide(Command(cmd.words)) {
			case Cut:
				l.cut()
				return
			case Swallow:
				mute = true
			}
		}
		if mute {
			continue
		}
		if answered(cmd.words) {
			select {
			case l.sent <- sent{cmd.words, time.Now()}:
			case <-l.ended:
				return
			}
		}
		if _, err := l.server.Write(cmd.raw); err != nil {
			l.cut()
			return
		}
	}
}

// answered says whether a command has one reply; those to subscribe have pushes.
func answered(words []string) bool {
	if len(words) == 0 {
		return false
	}
	switch strings.ToLower(words[0]) {
	case "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe":
		return false
	}
	return true
}

// replies relays from Redis to the client.
func (l *link) replies() {
	defer l.cut()
	r := bufio.NewReader(l.server)
	for {
		reply, err := readFrame(r)
		if err != nil {
			return
		}
		var cmd sent
		if reply.raw[0] != '>' { // not a push
			select {
			case cmd = <-l.sent:
			case <-l.ended:
				return
			}
		}
		l.c.mu.Lock()
		decide := l.c.onReply
		l.c.mu.Unlock()
		if decide != nil && cmd.Command != nil && !l.deaf {
			switch decide(cmd.Command, string(reply.raw)) {
			case Cut:
				return
			case Swallow:
				l.deaf = true
			}
		}
		if l.deaf = l.deaf || l.c.swallow.Load(); l.deaf {
			continue
		}
		if d := time.Duration(l.c.delay.Load()); d > 0 && cmd.Command != nil {
			timer := time.NewTimer(time.Until(cmd.at.Add(d)))
			select {
			case <-timer.C:
			case <-l.ended:
				timer.Stop()
				return
			}
		}
		// A client that has gone does not end the link: what it sent may be on its
		// way to Redis.
		l.client.Write(reply.raw)
	}
}

// A Command is what a client sends: a name and its arguments.
type Command []string

// The scripts of redisstore, as Command.Script names them.
const (
	Read    = "read"
	Reserve = "reserve"
	Commit  = "commit"  // settle.lua, to count
	Release = "release" // settle.lua, to give back
	Change  = "change"
)

// Script says which script of redisstore a command runs; empty: none of them. It goes by the
// SHA-1 of the script.
func (c Command) Script() string {
	if len(c) < 4 {
		return ""
	}
	sha := ""
	switch strings.ToLower(c[0]) {
	case "evalsha":
		sha = c[1]
	case "eval":
		sum := sha1.Sum([]byte(c[1]))
		sha = hex.EncodeToString(sum[:])
	}
	switch sha {
	case script.Read.Hash():
		return Read
	case script.Reserve.Hash():
		return Reserve
	case script.Change.Hash():
		return Change
	case script.Settle.Hash():
		return settleUse(c[4:])
	}
	return ""
}

// settleUse says what settle.lua is used for with these arguments: its own begin at index
// rest-1, and the fourth of them is the count of the first reservation.
func settleUse(args []string) string {
	fields, err := strconv.Atoi(args[5])
	if err != nil {
		return ""
	}
	if rest := 7 + fields; args[rest+3] == "1" {
		return Commit
	}
	return Release
}

// A frame is one value of Redis's protocol, as it came, and its strings.
type frame struct {
	raw   []byte
	words []string
}

// readFrame reads a value, with all that is in it.
func readFrame(r *bufio.Reader) (f frame, err error) {
	for left := 1; left > 0; left-- {
		line, err := r.ReadBytes('\n')
		if err != nil {
			return f, err
		}
		f.raw = append(f.raw, line...)
		if len(line) < 3 {
			return f, fmt.Errorf("a line of %d bytes", len(line))
		}
		text := string(line[1 : len(line)-2])
		n, numErr := strconv.Atoi(text)
		switch line[0] {
		case '+', '-', ':', '_', '#', ',', '(':
			f.words = append(f.words, text)
		case '$', '=', '!':
			if numErr != nil {
				return f, numErr
			}
			if n < 0 {
				f.words = append(f.words, "")
				continue
			}
			body := make([]byte, n+2)
			if _, err := io.ReadFull(r, body); err != nil {
				return f, err
			}
			f.raw = append(f.raw, body...)
			f.words = append(f.words, string(body[:n]))
		case '*', '~', '>', '%', '|':
			if numErr != nil {
				return f, numErr
			}
			if line[0] == '%' || line[0] == '|' {
				n *= 2
			}
			if line[0] == '|' {
				n++ // attributes stand before the value that they are of
			}
			left += max(n, 0)
		default:
			return f, fmt.Errorf("a value of kind %q", line[0])
		}
	}
	return f, nil
}
