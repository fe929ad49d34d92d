package redisclient

import (
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
	"metergate/quota/testkit"
)

// hold makes calls that wait in this order, not yet written. The client must have connected. wait waits for their end.
func hold(t *testing.T, c *Client, calls []func()) (p *pipeline, wait func()) {
	t.Helper()
	p = c.router.routes[0].Load()
	p.mu.Lock()
	p.writing = true // as if by another caller
	p.mu.Unlock()
	var running sync.WaitGroup
	for i, call := range calls {
		running.Go(call)
		testkit.Eventually(t, "the call waits", func() bool {
			p.mu.Lock()
			defer p.mu.Unlock()
			return len(p.waiting) == i+1
		})
	}
	return p, running.Wait
}

// together makes calls that are written together.
func together(t *testing.T, c *Client, calls []func()) {
	t.Helper()
	p, wait := hold(t, c, calls)
	for p.write() {
	}
	wait()
}

// TestCallsWrittenTogetherAreOneCommand checks that the calls of a function that wait for one write are one command, that each
// gets its own reply, and that all come in their order.
func TestCallsWrittenTogetherAreOneCommand(t *testing.T) {
	t.Parallel()
	server := startWithFunctions(t)
	c := newLibraryClient(t, server.URL(), patient)
	wantCalled(t, c, "add", "key:{0}", 0, 0)
	commands := func() string {
		fcalls, _, _ := countCommands(server, "fcall")
		evals, _, _ := countCommands(server, "evalsha")
		return fmt.Sprint(fcalls, " calls, ", evals, " scripts")
	}
	mustEcho(t, c)
	var calls []func()
	sum := int64(0)
	for n := range int64(resp.MostCalls) {
		sum += n
		calls = append(calls, func() { wantCalled(t, c, "add", "key:{"+strconv.FormatInt(n, 10)+"}", n, n*(n+1)/2) })
	}
	before := commands()
	together(t, c, calls)
	if before, after := before, commands(); before != "1 calls, 1 scripts" || after != "2 calls, 1 scripts" {
		t.Errorf("%d calls made of %q %q", len(calls), before, after)
	}

	// Those of other terms are in the same command. A script is a command of its own, between them.
	together(t, c, []func(){
		func() { wantCalled(t, c, "set", "key:{a}", 1, 1) },
		func() { wantCalled(t, c, "add", "key:{b}", 2, sum+2) },
		func() { wantCalled(t, c, "set", "key:{a}", 3, 1) },
		func() { mustEcho(t, c) },
		func() { wantCalled(t, c, "set", "key:{a}", 4, 1) },
		func() { wantCalled(t, c, "echo", "key:{c}", 5, 5) },
	})
	if after := commands(); after != "4 calls, 2 scripts" {
		t.Errorf("after the second round there were %q", after)
	}
	if got := server.Do("GET", "key:{a}"); got != "4" {
		t.Errorf("the last value set is %v, want 4", got)
	}

	// What differs in what all calls share is another command.
	shared := func(n int64) func() {
		return func() {
			var own resp.Args
			own.AddInt(n)
			var reply Reply
			if called, err := c.Call(ctx, "key:{1}", n, terms["echo"], &own, &reply); !called || err != nil || reply.Numbers[0] != n {
				t.Errorf("called %v, error %v, reply %v", called, err, reply.Numbers)
			}
		}
	}
	together(t, c, []func(){shared(1), shared(1), shared(2), shared(1)})
	if after := commands(); after != "7 calls, 2 scripts" {
		t.Errorf("after the third round there were %q", after)
	}
}

// TestCallThatFailsAmongOthers checks that a call that fails does no harm to those that are sent with it, that it is made once, and
// that its caller gets its error.
func TestCallThatFailsAmongOthers(t *testing.T) {
	t.Parallel()
	server := startWithFunctions(t)
	c := newLibraryClient(t, server.URL(), patient)
	wantCalled(t, c, "set", "key:{1}", 1, 1)
	_, _, alone := callFunction(ctx, c, "halfway", "key:{0}", 1)
	want, _, _ := strings.Cut(alone.Error(), " script:")
	fails := func() {
		if _, called, err := callFunction(ctx, c, "halfway", "key:{0}", 1); !called || !IsReply(err) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("called %v, error %v, want %s", called, err, want)
		}
	}
	var calls []func()
	for n := range int64(4) {
		calls = append(calls, func() { wantCalled(t, c, "set", "key:{"+strconv.FormatInt(n+1, 10)+"}", n+5, 1) }, fails)
	}
	before, _, _ := countCommands(server, "fcall")
	together(t, c, calls)
	for n := range 4 {
		if got := server.Do("GET", fmt.Sprintf("key:{%d}", n+1)); got != strconv.Itoa(n+5) {
			t.Errorf("key %d is %v", n+1, got)
		}
	}
	if n, _, _ := countCommands(server, "fcall"); n-before != 1 {
		t.Errorf("%d commands, want one", n-before)
	}
	if got := server.Do("GET", "key:{0}"); got != "5" {
		t.Errorf("after five calls that failed half-way, the key is %v, want 5", got)
	}
	if c.router.routes[0].Load().functions.oneByOne.Load() {
		t.Error("later calls are sent one by one")
	}
}

// TestRefusalOfCallsTogether checks a Redis that takes each call alone, but not several: a node of a cluster that was given as a
// single Redis has all keys, but refuses a command with keys of several slots.
func TestRefusalOfCallsTogether(t *testing.T) {
	t.Parallel()
	server := startWithFunctions(t, "--cluster-enabled", "yes")
	server.TakeSlots(0, 16383)
	c := newLibraryClient(t, server.URL(), patient)
	testkit.Eventually(t, "the node serves its slots", func() bool {
		_, called, err := callFunction(ctx, c, "set", "key:{1}", 1)
		return called && err == nil
	})
	refused := func(key string) func() {
		return func() {
			if _, called, err := callFunction(ctx, c, "set", key, 7); called || err != nil {
				t.Errorf("%s: called %v, error %v, want that a script runs instead", key, called, err)
			}
		}
	}
	together(t, c, []func(){refused("key:{1}"), refused("key:{2}"), refused("key:{3}")})
	if got := server.Do("GET", "key:{1}"); got != "1" {
		t.Errorf("a refused call has set the key to %v", got)
	}
	_, _, before := countCommands(server, "fcall")
	set := func(key string) func() { return func() { wantCalled(t, c, "set", key, 8, 1) } }
	together(t, c, []func(){set("key:{1}"), set("key:{2}"), set("key:{3}")})
	if _, _, after := countCommands(server, "fcall"); before == 0 || after != before {
		t.Errorf("%d commands were refused at first, then %d more", before, after-before)
	}
}

// TestCallsTogetherWithoutFunctions checks that calls that were sent together are not called where the functions are gone, and
// that scripts run instead.
func TestCallsTogetherWithoutFunctions(t *testing.T) {
	t.Parallel()
	server := startWithFunctions(t)
	c := newLibraryClient(t, server.URL(), patient)
	wantCalled(t, c, "set", "key:{1}", 1, 1)
	server.Do("FUNCTION", "FLUSH")
	var calls []func()
	for range 3 {
		calls = append(calls, func() {
			var reply Reply
			if called, err := c.Call(ctx, "key:{1}", 0, terms["echo"], new(resp.Args), &reply); called || err != nil {
				t.Errorf("called %v, error %v, want neither", called, err)
			}
			if deadline, ok := Instead(ctx, &reply).Deadline(); !ok {
				t.Errorf("the script has all time, until %v", deadline)
			}
		})
	}
	together(t, c, calls)
	mustEcho(t, c)
}

// TestBrokenConnectionEndsCallsThatWait checks that calls that were not written yet end with their connection.
func TestBrokenConnectionEndsCallsThatWait(t *testing.T) {
	t.Parallel()
	c := newLibraryClient(t, startWithFunctions(t).URL(), patient)
	wantCalled(t, c, "set", "key:{1}", 1, 1)
	cause := errors.New("broken on purpose")
	broken := func() {
		if _, called, err := callFunction(ctx, c, "set", "key:{1}", 2); !called || !errors.Is(err, cause) {
			t.Errorf("called %v, error %v, want %v", called, err, cause)
		}
	}
	p, wait := hold(t, c, []func(){broken, broken})
	p.fail(cause)
	wait()
	p.write() // by the caller who was about to
	wantCalled(t, c, "set", "key:{1}", 3, 1)
}

// TestReplyToOtherCalls checks that a reply with more answers than calls, or fewer, ends the connection, and that each call ends.
func TestReplyToOtherCalls(t *testing.T) {
	t.Parallel()
	server := startWithFunctions(t)
	for i, reply := range []string{"{{1}, {1}}", "{{1}, {1}, {1}, {1}}", "{1}", "{}"} {
		t.Run(reply, func(t *testing.T) {
			t.Parallel()
			name := fmt.Sprint("wrong", i)
			source := "#!lua name=" + name + "\nredis.register_function('" + name + "', function(keys) return #keys == 1 and {1} or " + reply + " end)"
			c := newClientWith(t, server.URL(), Options{Timeout: patient, InFlight: 32, Now: time.Now, Library: Library{name, source, name}})
			wantCalled(t, c, "set", "key:{1}", 1, 1)
			call := func() {
				broken := (*quota.BrokenConnectionError)(nil)
				if _, called, err := callFunction(ctx, c, "set", "key:{1}", 2); !called || !errors.As(err, &broken) || !errors.Is(err, errUnsolicited) {
					t.Errorf("called %v, error %v, want %v", called, err, errUnsolicited)
				}
			}
			together(t, c, []func(){call, call, call})
			wantCalled(t, c, "set", "key:{1}", 1, 1)
		})
	}
}

// TestReplyAfterTheEndIsNobodys checks a connection that breaks for whoever writes while the reader has the reply to the first of two
// commands. The second one must not get it.
func TestReplyAfterTheEndIsNobodys(t *testing.T) {
	t.Parallel()
	ours, theirs := net.Pipe()
	defer theirs.Close()
	p := newPipeline(&renewedConn{Conn: ours, renewal: new(renewal)}, &Client{timeout: patient, now: time.Now, onFailure: func() {}, inFlight: 2})
	var calls [2]*scriptCall
	for i := range calls {
		calls[i] = &scriptCall{done: make(chan error, 1)}
		p.places <- struct{}{}
		p.sent <- &batch{calls: calls[i : i+1]}
	}
	p.in.end = copy(p.in.buf, "*1\r\n:1\r\n")
	// This is what fail has done when it has taken the first command.
	p.mu.Lock()
	p.err = &quota.BrokenConnectionError{Err: io.ErrUnexpectedEOF}
	p.mu.Unlock()
	p.finish((<-p.sent).calls[0], p.err)
	if err := p.deliver(); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("the reader ends with %v", err)
	}
	for i, c := range calls {
		if err := <-c.done; !errors.Is(err, io.ErrUnexpectedEOF) || len(c.reply.Numbers) > 0 {
			t.Errorf("call %d ends with %v, error %v, want %v", i, c.reply.Numbers, err, io.ErrUnexpectedEOF)
		}
	}
}
