package redisclient

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A plannedCall is a call of TestReadingIsNeverLost, and what its Redis does about it.
type plannedCall struct {
	after, within time.Duration // since the caller's last one; its deadline
	delay, pause  time.Duration // before Redis replies, and between the two parts of its reply
	split         int           // bytes of the first part
}

func drawCall(t *rapid.T) plannedCall {
	duration := func(name string, choices ...time.Duration) time.Duration {
		return rapid.SampledFrom(choices).Draw(t, name) + time.Duration(rapid.IntRange(0, 999).Draw(t, name+", µs"))*time.Microsecond
	}
	return plannedCall{
		after:  duration("after", 0, 0, quiet/2, quiet, 3*quiet),
		within: duration("within", time.Millisecond, 10*time.Millisecond, pipedTimeout, 2*pipedTimeout),
		delay:  duration("delay", 0, 0, 0, 5*time.Millisecond, pipedTimeout/2),
		pause:  duration("pause", 0, 0, 0, 5*time.Millisecond),
		split:  rapid.IntRange(1, 6).Draw(t, "split"),
	}
}

const pipedTimeout = 100 * time.Millisecond

// A pipedRedis is the other end of a pipeline over a net.Pipe, which holds nothing: a reply is under way
// until somebody has read it. A command is a number, and so is its reply.
type pipedRedis struct {
	conn  net.Conn
	calls []plannedCall
	ended sync.WaitGroup

	mu      sync.Mutex
	replied map[int]time.Time // when the last part of a reply is there, if the first part is read at once
}

// startPiped makes a pipeline and its Redis in the bubble of a test.
func startPiped(calls []plannedCall, looks bool) (*pipeline, *pipedRedis) {
	ours, theirs := net.Pipe()
	conn := &renewedConn{Conn: ours, renewal: new(renewal)}
	p := newPipeline(conn, &Client{timeout: pipedTimeout, now: time.Now, onFailure: func() {}, inFlight: 100})
	if looks {
		p.in.raw, p.reading = hiddenSocket{}, false // which seems open
		<-p.handed
	}
	r := &pipedRedis{conn: theirs, calls: calls, replied: make(map[int]time.Time)}
	r.ended.Go(p.attend)
	r.ended.Go(r.serve)
	return p, r
}

func (r *pipedRedis) serve() {
	commands := make(chan int, 100)
	go func() {
		defer close(commands)
		for in := bufio.NewScanner(r.conn); in.Scan(); {
			n, _ := strconv.Atoi(in.Text())
			commands <- n
		}
	}()
	for n := range commands {
		c, reply := r.calls[n], fmt.Sprintf("*1\r\n:%d\r\n", n)
		time.Sleep(c.delay)
		r.mu.Lock()
		r.replied[n] = time.Now().Add(c.pause)
		r.mu.Unlock()
		io.WriteString(r.conn, reply[:c.split])
		time.Sleep(c.pause)
		io.WriteString(r.conn, reply[c.split:])
	}
}

// run makes the call of a number, and checks that it returns in time, and with its reply if that came in time.
func (r *pipedRedis) run(t *rapid.T, p *pipeline, n int) {
	sent := time.Now()
	deadline := sent.Add(min(r.calls[n].within, pipedTimeout))
	ctx, cancel := context.WithDeadline(context.Background(), sent.Add(r.calls[n].within))
	defer cancel()
	// Not from the pool: its timers are not of this bubble.
	c := &scriptCall{command: fmt.Append(nil, n, "\n"), done: make(chan error, 1), timer: time.NewTimer(time.Hour)}
	defer c.timer.Stop()
	done, err := p.run(ctx, c)
	if late := time.Since(deadline); late > 0 {
		t.Errorf("call %d returns %v after its deadline", n, late)
	}
	r.mu.Lock()
	replied, isReplied := r.replied[n]
	r.mu.Unlock()
	switch {
	case done && errors.Is(err, errRetired): // another call was never answered
	case done && err != nil:
		t.Errorf("call %d: %v", n, err)
	case done && c.reply.Numbers[0] != int64(n):
		t.Errorf("call %d got the reply to %d", n, c.reply.Numbers[0])
	case !done && isReplied && replied.Before(deadline):
		t.Errorf("call %d timed out after %v, though its reply had come after %v", n, time.Since(sent), replied.Sub(sent))
	}
}

// TestReadingIsNeverLost checks that somebody reads as long as a reply may come, whoever calls and gives
// up meanwhile: each call returns by its deadline, and with its reply if that was there. Afterwards the
// end of the connection is noticed.
func TestReadingIsNeverLost(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		callers := rapid.SliceOfN(rapid.SliceOfN(rapid.Custom(drawCall), 1, 6), 1, 5).Draw(rt, "callers")
		looks := rapid.IntRange(0, 9).Draw(rt, "looks") > 0
		var all []plannedCall
		for _, calls := range callers {
			all = append(all, calls...)
		}
		synctest.Test(t, func(*testing.T) {
			p, redis := startPiped(all, looks)
			var running sync.WaitGroup
			first := 0
			for _, calls := range callers {
				start := first
				running.Go(func() {
					for i, c := range calls {
						time.Sleep(c.after)
						redis.run(rt, p, start+i)
					}
				})
				first += len(calls)
			}
			running.Wait()
			time.Sleep(time.Duration(len(all))*pipedTimeout + 3*quiet) // until all calls are answered
			redis.conn.Close()
			synctest.Wait()
			if p.usable() {
				rt.Error("nobody has noticed that the connection is closed")
				p.fail(errClosed)
			}
			redis.ended.Wait()
		})
	})
}

// TestLoneCallersReadThemselves checks that no other goroutine is woken for a caller who is alone, and that
// the attendant reads while nobody calls.
func TestLoneCallersReadThemselves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := startPiped([]plannedCall{{split: 1}}, true)
		defer p.fail(errClosed)
		reads := func() bool {
			synctest.Wait()
			p.mu.Lock()
			defer p.mu.Unlock()
			return p.reading
		}
		for range 3 {
			c := &scriptCall{command: []byte("0\n"), done: make(chan error, 1), timer: time.NewTimer(time.Hour)}
			sent := time.Now()
			if done, err := p.run(t.Context(), c); !done || err != nil || time.Since(sent) > 0 {
				t.Fatalf("done %v after %v, error %v", done, time.Since(sent), err)
			}
			if reads() {
				t.Fatal("somebody reads, and would have to be woken for the next call")
			}
			time.Sleep(quiet / 2)
		}
		time.Sleep(2 * quiet)
		if !reads() {
			t.Error("nobody reads while nobody calls")
		}
	})
}

// TestClosedConnectionCostsNoCall checks that a call is not sent on a connection that was closed, or on which
// Redis has said something unasked, while nobody read, or while the attendant reads but has not run since.
func TestClosedConnectionCostsNoCall(t *testing.T) {
	t.Parallel()
	closeIt := func(server net.Conn) { server.Close() }
	for name, spoil := range map[string]func(server net.Conn){
		"closed":                      closeIt,
		"closed while somebody reads": closeIt,
		"unsolicited":                 func(server net.Conn) { io.WriteString(server, "*1\r\n:1\r\n") },
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		ours, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer ours.Close()
		server, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer server.Close()
		p := newPipeline(&renewedConn{Conn: ours, renewal: new(renewal)}, &Client{timeout: patient, now: time.Now, onFailure: func() {}, inFlight: 1})
		if err := p.in.look(); err != nil {
			t.Fatalf("%s: an open connection is taken for a closed one: %v", name, err)
		}
		p.reading = strings.HasSuffix(name, "reads")
		spoil(server) // and no attendant reads
		testkit.Eventually(t, name, func() bool { return p.in.look() != nil })
		c := &scriptCall{command: []byte("0\n"), done: make(chan error, 1), timer: time.NewTimer(time.Hour)}
		if done, err := p.run(ctx, c); !done || err != errRetired {
			t.Errorf("%s: done %v, error %v, want that nothing is sent", name, done, err)
		}
	}
}

// TestIdleConnectionIsNoticed checks that the end of a connection that nobody uses is noticed.
func TestIdleConnectionIsNoticed(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	c := newClient(t, server.URL(), patient, 8)
	mustEcho(t, c)
	p := c.router.routes[0].Load()
	for line := range strings.Lines(fmt.Sprint(server.Do("CLIENT", "LIST"))) {
		var id int
		if fmt.Sscanf(line, "id=%d", &id); strings.Contains(line, "cmd=eval") {
			server.Do("CLIENT", "KILL", "ID", id)
		}
	}
	select {
	case <-p.ended:
	case <-time.After(bound):
		t.Fatal("nobody has noticed that Redis closed the connection")
	}
	mustEcho(t, c)
}

// TestAnsweredCallerDoesNotRead checks that a caller whose call is answered before the caller looks for a
// reader does not become the reader: nothing more would come.
func TestAnsweredCallerDoesNotRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p, _ := startPiped([]plannedCall{{split: 1}}, true)
		defer p.fail(errClosed)
		time.Sleep(3 * quiet) // until the attendant reads
		c := &scriptCall{command: []byte("0\n"), done: make(chan error, 1)}
		p.places <- struct{}{}
		if err := p.send(c); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if len(c.done) == 0 || p.becomeReader(c) {
			t.Errorf("%d replies have come; the caller goes on reading", len(c.done))
		}
	})
}

// TestBurstsAreAnswered makes a few calls at a time, again and again, so that readers take turns.
func TestBurstsAreAnswered(t *testing.T) {
	t.Parallel()
	c := newClient(t, redistest.Start(t).URL(), patient, 8)
	mustEcho(t, c)
	for range 1000 {
		var burst sync.WaitGroup
		for i := range 3 {
			burst.Go(func() {
				if got, err := callEcho(ctx, c, int64(i)); err != nil || got != int64(i) {
					t.Errorf("the call of %d got %d, error %v", i, got, err)
				}
			})
		}
		if burst.Wait(); t.Failed() {
			return
		}
	}
}
