package redisstore

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/redistest"
)

func TestReadResult(t *testing.T) {
	for _, c := range []struct {
		text string
		want string // numbers and text, or the error
	}{
		{"*0\r\n", "[] "},
		{"*3\r\n:0\r\n:-7\r\n:1796083200000\r\n", "[0 -7 1796083200000] "},
		{"*3\r\n:2\r\n$5\r\na\r\nbc\r\n:9\r\n", "[2 0 9] a\r\nbc"},
		{"*1\r\n$0\r\n\r\n", "[0] "},
		{"-NOSCRIPT No matching script.\r\n", "NOSCRIPT No matching script."},
		{":1\r\n", errProtocol.Error()},
		{"+OK\r\n", errProtocol.Error()},
		{"*-1\r\n", errProtocol.Error()},
		{"*1\r\n*0\r\n", errProtocol.Error()},
		{"*4\r\n:1\r\n$-1\r\n_\r\n$2\r\n42\r\n", "[1 0 0 42] "},
		{"*1\r\n$-2\r\n", errProtocol.Error()},
		{"*1\r\n_1\r\n", errProtocol.Error()},
		{"*1\r\n:\r\n", errProtocol.Error()},
		{"*1\n:1\n", errProtocol.Error()},
		{"\r\n", errProtocol.Error()},
		{"*99999999\r\n", errProtocol.Error()},
		{"*2\r\n:1\r\n", "EOF"},
		{"*1\r\n$5\r\nab", "unexpected EOF"},
		{"*1", "EOF"},
	} {
		var r result
		got := ""
		if err := readResult(bufio.NewReader(strings.NewReader(c.text)), &r); err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprint(r.numbers, " ", r.text)
		}
		if got != c.want {
			t.Errorf("%q is read as %q, want %q", c.text, got, c.want)
		}
	}
}

// connections is how many have been made to a Redis.
func connections(r *redistest.Server) int {
	var n int
	for line := range strings.Lines(fmt.Sprint(r.Do("INFO", "stats"))) {
		fmt.Sscanf(line, "total_connections_received:%d", &n)
	}
	return n
}

// Whatever is late or lost, who gets an answer gets their own.
func TestAnswersAreNotMixedUp(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	past := openStore(t, redis.URL())
	for i := range 10 {
		for range i {
			admit(t, past, fmt.Sprint("user-", i))
		}
	}
	c := redistest.Connect(t, redis.Addr)
	const timeout = 20 * time.Millisecond
	s := openWith(t, c.URL(), timeout, 8)
	var n atomic.Int64
	c.OnReply(func(cmd redistest.Command, _ string) redistest.Fate {
		switch i := n.Add(1); {
		case cmd.Script() != redistest.Read:
		case i%211 == 0:
			return redistest.Swallow
		case i%157 == 0:
			return redistest.Cut
		case i%53 == 0: // about the timeout
			select {
			case <-time.After(timeout/2 + time.Duration(i%10)*timeout/10):
			case <-c.Closed():
			}
		}
		return redistest.Pass
	})
	var wait sync.WaitGroup
	var answered atomic.Int64
	deadline := time.Now().Add(time.Minute)
	for worker := range 16 {
		wait.Go(func() {
			for i := worker; answered.Load() < 500 && time.Now().Before(deadline); i++ {
				snap, err := s.Read(ctx, fmt.Sprint("user-", i%10), plan.OnlyChoice())
				if err != nil {
					continue
				}
				answered.Add(1)
				if got := snap.Total.Held; got != int64(i%10) {
					t.Errorf("user-%d has %d held, want %[1]d", i%10, got)
				}
			}
		})
	}
	wait.Wait()
	if answered.Load() < 500 {
		t.Errorf("%d reads were answered within a minute, want 500", answered.Load())
	}
}

// Many calls take one connection, and one more for the scripts that Redis had to learn.
func TestOneConnection(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	s := openStore(t, redis.URL())
	before := connections(redis)
	use := func() {
		var wait sync.WaitGroup
		for i := range 200 {
			wait.Go(func() {
				r := admit(t, s, fmt.Sprint("user-", i))
				if _, err := s.Commit(ctx, &r); err != nil {
					t.Error(err)
				}
			})
		}
		wait.Wait()
	}
	admit(t, s, "first")
	first := admit(t, s, "first")
	if _, err := s.Commit(ctx, &first); err != nil {
		t.Fatal(err)
	}
	use()
	// Each look at them is a connection, too.
	if n := connections(redis) - before - 1; n != 2 {
		t.Errorf("%d connections, want 2", n)
	}
	if err := s.client.ScriptFlush(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	admit(t, s, "first")
	calls := redis.Calls()
	admit(t, s, "first")
	if n := redis.Calls() - calls; n != 1 {
		t.Errorf("a script that Redis knows again takes %d calls, want 1", n)
	}
}

// Calls that break with their connection know it, and the next one has another.
func TestBrokenTogether(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	c := redistest.Connect(t, redis.Addr)
	s := openWith(t, c.URL(), time.Minute, 16)
	wantState(t, s, "u", 0, 0)
	const n = 8
	arrived := make(chan bool)
	var lost atomic.Int64
	c.OnCommand(func(cmd redistest.Command) redistest.Fate {
		if lost.Add(1) < n {
			return redistest.Pass
		}
		close(arrived)
		return redistest.Swallow
	})
	c.SwallowReplies(true)
	errs := make(chan error, n)
	for range n {
		go func() {
			_, err := s.Read(ctx, "u", plan.OnlyChoice())
			errs <- err
		}()
	}
	<-arrived
	c.Heal()
	c.CutAll()
	var first *quota.BrokenConnectionError
	for range n {
		var broken *quota.BrokenConnectionError
		if err := <-errs; !errors.As(err, &broken) || first != nil && broken != first {
			t.Errorf("error %v, want one and the same *quota.BrokenConnectionError", err)
		}
		first = broken
	}
	wantState(t, s, "u", 0, 0)
}

// Who has less time than the timeout gives up sooner, and nobody else does.
func TestLessTime(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	c := redistest.Connect(t, redis.Addr)
	s := openWith(t, c.URL(), time.Minute, 0)
	for range 2 { // the first call has Redis learn the script
		wantState(t, s, "u", 0, 0)
	}
	before := s.lines.slots[0].Load()
	hold, held := make(chan bool), make(chan bool)
	c.OnReply(func(redistest.Command, string) redistest.Fate {
		close(held)
		<-hold
		c.OnReply(nil)
		return redistest.Pass
	})
	other := make(chan error)
	go func() { _, err := s.Read(ctx, "u", plan.OnlyChoice()); other <- err }()
	<-held
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := s.Read(short, "u", plan.OnlyChoice()); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
	}
	close(hold)
	if err := <-other; err != nil {
		t.Errorf("a call with time enough: %v", err)
	}
	if s.lines.slots[0].Load() != before || !before.usable() {
		t.Error("the connection was given up")
	}
}

// A connection without answers is given up, also when nobody has waited for so long.
func TestNobodyWaits(t *testing.T) {
	t.Parallel()
	c := redistest.Connect(t, redistest.Start(t).Addr)
	s := openWith(t, c.URL(), 4*short, 2)
	for range 2 {
		wantState(t, s, "u", 0, 0)
	}
	p := s.lines.slots[0].Load()
	c.SwallowReplies(true)
	for range 2 { // takes all slots
		less, cancel := context.WithTimeout(ctx, time.Millisecond)
		if _, err := s.Read(less, "u", plan.OnlyChoice()); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
		}
		cancel()
	}
	c.Heal()
	select {
	case <-p.retired:
	case <-time.After(bound):
		t.Fatal("the connection is not given up")
	}
	wantState(t, s, "u", 0, 0)
}

// Close ends what is under way.
func TestCloseEndsCalls(t *testing.T) {
	t.Parallel()
	c := redistest.Connect(t, redistest.Start(t).Addr)
	s := openWith(t, c.URL(), time.Minute, 0)
	wantState(t, s, "u", 0, 0)
	sent := make(chan bool, 1)
	c.OnReply(func(redistest.Command, string) redistest.Fate { sent <- true; return redistest.Swallow })
	done := make(chan error)
	go func() { _, err := s.Read(ctx, "u", plan.OnlyChoice()); done <- err }()
	<-sent
	s.Close()
	if err := <-done; !errors.Is(err, errClosed) {
		t.Errorf("a call under way ends with %v, want %v", err, errClosed)
	}
	if _, err := s.Read(ctx, "u", plan.OnlyChoice()); !errors.Is(err, errClosed) {
		t.Errorf("a call after Close: %v, want %v", err, errClosed)
	}
}

// A call that finds no connection tries one, once: with more tries, which go-redis makes
// by default, every call of an outage would wait for their pauses.
func TestOneConnectionIsTried(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var tried atomic.Int64
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			tried.Add(1)
			conn.Close()
		}
	}()
	s := openWith(t, "redis://"+l.Addr().String(), patient, 0)
	if _, err := s.Reserve(ctx, newRequest("u")); err == nil {
		t.Error("a reserve without a Redis had no error")
	}
	if n := tried.Load(); n != 1 {
		t.Errorf("one call has tried %d connections", n)
	}
}
