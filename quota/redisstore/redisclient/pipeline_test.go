package redisclient

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// TestRunGetsItsOwnReply checks that whatever is late or lost, a caller who gets a reply gets
// the reply to the caller's own script.
func TestRunGetsItsOwnReply(t *testing.T) {
	t.Parallel()
	faultProxy := redistest.StartFaultProxy(t, redistest.Start(t).Addr)
	const timeout = 20 * time.Millisecond
	c := newClient(t, faultProxy.URL(), timeout, 8)
	var n atomic.Int64
	faultProxy.OnReply(func(cmd redistest.Command, _ string) redistest.Fate {
		switch i := n.Add(1); {
		case !isScript(cmd):
		case i%211 == 0:
			return redistest.Drop
		case i%157 == 0:
			return redistest.Cut
		case i%53 == 0: // about the timeout
			select {
			case <-time.After(timeout/2 + time.Duration(i%10)*timeout/10):
			case <-faultProxy.Closed():
			}
		}
		return redistest.Pass
	})
	var wait sync.WaitGroup
	var answered atomic.Int64
	deadline := time.Now().Add(time.Minute)
	for worker := range 16 {
		wait.Go(func() {
			for i := int64(worker); answered.Load() < 500 && time.Now().Before(deadline); i += 16 {
				got, err := callEcho(ctx, c, i)
				if err != nil {
					continue
				}
				answered.Add(1)
				if got != i {
					t.Errorf("the call of %d got the reply to %d", i, got)
				}
			}
		})
	}
	wait.Wait()
	if answered.Load() < 500 {
		t.Errorf("%d calls were answered within a minute, want 500", answered.Load())
	}
}

// countConnections returns how many connections have been made to a Redis.
func countConnections(r *redistest.Server) int {
	var n int
	for line := range strings.Lines(fmt.Sprint(r.Do("INFO", "stats"))) {
		fmt.Sscanf(line, "total_connections_received:%d", &n)
	}
	return n
}

// TestRunSharesOneConnection checks that many calls take one connection, on which Redis also learns
// the script.
func TestRunSharesOneConnection(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := newClient(t, server.URL(), patient, 32)
	before := countConnections(server)
	mustEcho(t, c)
	mustEcho(t, c)
	var wait sync.WaitGroup
	for i := range 400 {
		wait.Go(func() {
			if got, err := callEcho(ctx, c, int64(i)); err != nil || got != int64(i) {
				t.Errorf("the call of %d got %d, error %v", i, got, err)
			}
		})
	}
	wait.Wait()
	// Each look at the number of connections is a connection, too.
	if n := countConnections(server) - before - 1; n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	err := c.Do(ctx, func(ctx context.Context, r redis.UniversalClient) error { return r.ScriptFlush(ctx).Err() })
	if err != nil {
		t.Fatal(err)
	}
	mustEcho(t, c)
	calls := server.ScriptCalls()
	mustEcho(t, c)
	if n := server.ScriptCalls() - calls; n != 1 {
		t.Errorf("a script that Redis has learned again takes %d calls, want 1", n)
	}
}

// TestBrokenConnectionIsOneFault checks that calls that fail with their connection return one
// error, and that the next call makes another connection.
func TestBrokenConnectionIsOneFault(t *testing.T) {
	t.Parallel()
	faultProxy := redistest.StartFaultProxy(t, redistest.Start(t).Addr)
	c := newClient(t, faultProxy.URL(), time.Minute, 16)
	mustEcho(t, c)
	const n = 8
	arrived := make(chan bool)
	var lost atomic.Int64
	faultProxy.OnCommand(func(cmd redistest.Command) redistest.Fate {
		if lost.Add(1) < n {
			return redistest.Pass
		}
		close(arrived)
		return redistest.Drop
	})
	faultProxy.DropReplies(true)
	errs := make(chan error, n)
	for range n {
		go func() {
			_, err := callEcho(ctx, c, 1)
			errs <- err
		}()
	}
	<-arrived
	faultProxy.Heal()
	faultProxy.CutConnections()
	var first *quota.BrokenConnectionError
	for range n {
		var broken *quota.BrokenConnectionError
		if err := <-errs; !errors.As(err, &broken) || first != nil && broken != first {
			t.Errorf("error %v, want one and the same *quota.BrokenConnectionError", err)
		}
		first = broken
	}
	mustEcho(t, c)
}

// TestEarlierDeadlineConcernsOnlyItsCall checks that a caller with less time than the timeout
// gives up sooner, and that the other callers do not.
func TestEarlierDeadlineConcernsOnlyItsCall(t *testing.T) {
	t.Parallel()
	faultProxy := redistest.StartFaultProxy(t, redistest.Start(t).Addr)
	c := newClient(t, faultProxy.URL(), time.Minute, 32)
	for range 2 { // the first call has Redis learn the script
		mustEcho(t, c)
	}
	before := c.router.routes[0].Load()
	goOn, held := make(chan bool), make(chan bool)
	faultProxy.OnReply(func(redistest.Command, string) redistest.Fate {
		close(held)
		<-goOn
		faultProxy.OnReply(nil)
		return redistest.Pass
	})
	other := make(chan error)
	go func() { _, err := callEcho(ctx, c, 1); other <- err }()
	<-held
	hurried, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if _, err := callEcho(hurried, c, 2); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
	}
	close(goOn)
	if err := <-other; err != nil {
		t.Errorf("a call with enough time: %v", err)
	}
	if c.router.routes[0].Load() != before || !before.usable() {
		t.Error("the connection was given up")
	}
}

// TestSilentConnectionIsRetired checks that a connection without replies is given up, even if
// no caller has waited for the whole timeout.
func TestSilentConnectionIsRetired(t *testing.T) {
	t.Parallel()
	faultProxy := redistest.StartFaultProxy(t, redistest.Start(t).Addr)
	c := newClient(t, faultProxy.URL(), 4*short, 2)
	for range 2 {
		mustEcho(t, c)
	}
	p := c.router.routes[0].Load()
	var dropped atomic.Int64
	faultProxy.OnReply(func(redistest.Command, string) redistest.Fate { dropped.Add(1); return redistest.Drop })
	for range 2 { // takes all places
		hurried, cancel := context.WithTimeout(ctx, short/5) // it must be enough to send the call
		if _, err := callEcho(hurried, c, 1); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
		}
		cancel()
	}
	testkit.Eventually(t, "a reply is dropped, and with it all that follow", func() bool { return dropped.Load() > 0 })
	faultProxy.Heal()
	select {
	case <-p.retired:
	case <-time.After(bound):
		t.Fatal("the connection is not given up")
	}
	mustEcho(t, c)
}

// TestRunDialsOnce checks that a call without a connection tries one, once. With more tries,
// which go-redis makes by default, every call of an outage would wait for their pauses.
func TestRunDialsOnce(t *testing.T) {
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
	c := newClient(t, "redis://"+l.Addr().String(), patient, 32)
	if _, err := callEcho(ctx, c, 1); err == nil {
		t.Error("a call without a Redis had no error")
	}
	if n := tried.Load(); n != 1 {
		t.Errorf("one call has tried %d connections", n)
	}
}
