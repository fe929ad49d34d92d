package redisclient

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/resp"
	"metergate/quota/testkit"
)

// library has a function for tests, which does what its terms say: add keeps a sum between calls, echo returns its argument, set
// writes its argument to its key, and halfway adds to its key before it fails.
var library = Library{Name: "test1", Function: "serve1", Source: `#!lua name=test1
local sum = 0
local serve = {
  add = function(_, n) sum = sum + n return {sum} end,
  echo = function(_, n) return {tonumber(n)} end,
  set = function(key, n) redis.call('SET', key, n) return {1} end,
  halfway = function(key, n) redis.call('INCRBY', key, n) redis.call('SET') return {1} end,
}
redis.register_function('serve1', function(keys, args)
  if #keys == 1 then
    return serve[args[2]](keys[1], args[3])
  end
  local replies, own = {}, 3 + args[2]:byte(1)
  for i, key in ipairs(keys) do
    local terms, number = args[2]:byte(2 * i, 2 * i + 1)
    local served, reply = pcall(serve[args[2 + terms]], key, args[own])
    replies[i], own = served and reply or {err = reply .. ' in user_function'}, own + number
  end
  return replies
end)
`}

// terms has the terms of the library, which calls share.
var terms = map[string]*resp.Args{"add": termsOf("add"), "echo": termsOf("echo"), "set": termsOf("set"), "halfway": termsOf("halfway")}

func termsOf(text string) *resp.Args {
	t := new(resp.Args)
	t.AddString(text)
	return t
}

// startWithFunctions starts a Redis that has functions.
func startWithFunctions(t testing.TB, args ...string) *redistest.Server {
	t.Helper()
	server := redistest.Start(t, args...)
	server.Needs(t, "7", "functions")
	return server
}

// newLibraryClient is newClient with the library.
func newLibraryClient(t testing.TB, url string, timeout time.Duration) *Client {
	t.Helper()
	return newClientWith(t, url, Options{Timeout: timeout, InFlight: 32, Now: time.Now, Library: library})
}

// callFunction calls a function on a key, and returns the number that it returns.
func callFunction(ctx context.Context, c *Client, function, key string, n int64) (got int64, called bool, err error) {
	var args resp.Args
	args.AddInt(n)
	var reply Reply
	called, err = c.Call(ctx, key, 0, terms[function], &args, &reply)
	if called && err == nil {
		got = reply.Numbers[0]
	}
	return got, called, err
}

// wantCalled checks that a function returns a number.
func wantCalled(t testing.TB, c *Client, function, key string, n, want int64) {
	t.Helper()
	if got, called, err := callFunction(ctx, c, function, key, n); got != want || !called || err != nil {
		t.Fatalf("%s of %d on %s: %d, called %v, error %v, want %d", function, n, key, got, called, err, want)
	}
}

// wantNotCalled checks that a function is not called, and that a script runs instead.
func wantNotCalled(t testing.TB, c *Client) {
	t.Helper()
	if _, called, err := callFunction(ctx, c, "set", "key:{1}", 8); called || err != nil {
		t.Fatalf("called %v, error %v, want neither", called, err)
	}
	mustEcho(t, c)
}

// countCommands returns what INFO says of a command, such as "fcall": how often it has run, how often that
// has failed, and how often it was refused.
func countCommands(server *redistest.Server, command string) (run, failed, refused int) {
	for line := range strings.Lines(fmt.Sprint(server.Do("INFO", "commandstats"))) {
		if rest, ok := strings.CutPrefix(line, "cmdstat_"+command+":"); ok {
			fmt.Sscanf(rest[strings.Index(rest, "rejected_calls"):], "rejected_calls=%d,failed_calls=%d", &refused, &failed)
			fmt.Sscanf(rest, "calls=%d", &run)
		}
	}
	return run, failed, refused
}

// TestCallKeepsValues checks that what a function keeps is there in the next call, on the same connection,
// and stays when another gateway loads the library.
func TestCallKeepsValues(t *testing.T) {
	t.Parallel()
	server := startWithFunctions(t)
	first := newLibraryClient(t, server.URL(), patient)
	before := countConnections(server)
	wantCalled(t, first, "add", "key:{1}", 3, 3)
	wantCalled(t, first, "add", "key:{1}", 4, 7)
	if n := countConnections(server) - before - 1; n != 1 {
		t.Errorf("%d connections, want 1", n)
	}
	wantCalled(t, newLibraryClient(t, server.URL(), patient), "add", "key:{1}", 5, 12)
	if run, failed, _ := countCommands(server, "function|load"); run != 2 || failed != 1 {
		t.Errorf("the library was sent %d times, and refused %d times, want 2 and 1", run, failed)
	}
	for _, command := range []string{"eval", "evalsha"} {
		if n, _, _ := countCommands(server, command); n > 0 {
			t.Errorf("%s was sent %d times", command, n)
		}
	}
}

// TestCallGetsItsOwnReply mixes functions and scripts on one connection.
func TestCallGetsItsOwnReply(t *testing.T) {
	t.Parallel()
	c := newLibraryClient(t, startWithFunctions(t).URL(), patient)
	var wait sync.WaitGroup
	for i := range int64(400) {
		wait.Go(func() {
			if got, called, err := callFunction(ctx, c, "echo", "key:{1}", i); got != i || !called || err != nil {
				t.Errorf("the call of %d got %d, called %v, error %v", i, got, called, err)
			}
		})
		wait.Go(func() {
			if got, err := callEcho(ctx, c, -i); err != nil || got != -i {
				t.Errorf("the script of %d got %d, error %v", -i, got, err)
			}
		})
	}
	wait.Wait()
}

// TestNoLibraryIsNeverLoaded checks that a client without a library sends nothing for one.
func TestNoLibraryIsNeverLoaded(t *testing.T) {
	t.Parallel()
	p := redistest.StartFaultProxy(t, redistest.Start(t).Addr)
	c := newClient(t, p.URL(), patient, 8)
	var mu sync.Mutex
	var sent []string
	p.OnCommand(func(cmd redistest.Command) redistest.Fate {
		mu.Lock()
		defer mu.Unlock()
		sent = append(sent, strings.ToLower(cmd[0]))
		return redistest.Pass
	})
	if called, err := c.Call(ctx, "key:{1}", 0, terms["echo"], new(resp.Args), new(Reply)); called || err != nil {
		t.Errorf("called %v, error %v", called, err)
	}
	if c.router.routes[0].Load() != nil {
		t.Error("it has connected")
	}
	mustEcho(t, c)
	mu.Lock()
	defer mu.Unlock()
	if got := strings.Join(sent, " "); got != "hello ping evalsha eval" {
		t.Errorf("sent: %s", got)
	}
}

// TestLostLibraryIsLoadedAgain checks that a library that somebody has deleted is loaded again, by way of a
// new connection, and that a script runs meanwhile.
func TestLostLibraryIsLoadedAgain(t *testing.T) {
	t.Parallel()
	server := startWithFunctions(t)
	c := newLibraryClient(t, server.URL(), patient)
	wantCalled(t, c, "add", "key:{1}", 1, 1)
	before := countConnections(server)
	server.Do("FUNCTION", "FLUSH")
	for range 3 {
		wantNotCalled(t, c) // the connection is young
	}
	if at := time.Unix(0, c.router.routes[0].Load().functions.retryAt.Load()); time.Until(at) > time.Minute || time.Until(at) < 0 {
		t.Errorf("the library is loaded again at %v, want within a minute", at)
	}
	c.router.routes[0].Load().functions.retryAt.Store(1) // the minute has passed
	wantNotCalled(t, c)
	wantCalled(t, c, "add", "key:{1}", 2, 2)
	if n := countConnections(server) - before - 2; n != 1 { // one for each command of the test
		t.Errorf("%d more connections, want 1", n)
	}
}

// TestConnectionThatBreaksOverLibrary checks that what closes a connection that is to load a library, or never answers, fails no
// call: scripts run on another connection. It is left alone with the library for longer each time.
func TestConnectionThatBreaksOverLibrary(t *testing.T) {
	for name, fate := range map[string]redistest.Fate{"cut": redistest.Cut, "no answer": redistest.Drop} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := redistest.StartFaultProxy(t, startWithFunctions(t).Addr)
			var loads atomic.Int64
			p.OnCommand(func(cmd redistest.Command) redistest.Fate {
				if strings.EqualFold(cmd[0], "function") {
					loads.Add(1)
					return fate
				}
				return redistest.Pass
			})
			c := newLibraryClient(t, p.URL(), 2*time.Second)
			state := func() *functions { return &c.router.routes[0].Load().functions }
			for i := range 3 {
				wantNotCalled(t, c)
				mustEcho(t, c)
				if n := loads.Load(); n != int64(i+1) {
					t.Fatalf("%d connections have loaded the library, want %d", n, i+1)
				}
				if pause, want := time.Until(time.Unix(0, state().retryAt.Load())), 2*time.Minute<<i; pause > want || pause < want-time.Minute {
					t.Errorf("the library is loaded again in %v, want %v", pause, want)
				}
				c.libraryAt.Store(1) // the pause is over
				state().retryAt.Store(1)
				wantNotCalled(t, c)
				testkit.Eventually(t, "there is a new connection", func() bool {
					mustEcho(t, c)
					return state().retryAt.Load() != 1
				})
				c.router.routes[0].Load().conn.renewal.mu.Lock()
				c.router.routes[0].Load().conn.renewal.last = time.Time{}
				c.router.routes[0].Load().conn.renewal.mu.Unlock()
			}
			p.OnCommand(nil)
			c.libraryAt.Store(1)
			state().retryAt.Store(1)
			wantNotCalled(t, c)
			wantCalled(t, c, "set", "key:{1}", 9, 1)
		})
	}
}

// TestCallWithoutFunctions checks servers that have no functions, or do not let their user load or call any.
func TestCallWithoutFunctions(t *testing.T) {
	t.Parallel()
	t.Run("an old server", func(t *testing.T) {
		c := newLibraryClient(t, "redis://"+miniredis.RunT(t).Addr(), patient)
		wantNotCalled(t, c)
		wantNotCalled(t, c)
	})
	for name, args := range map[string][]string{"FUNCTION is renamed": {"FUNCTION", ""}, "FCALL is renamed": {"FCALL", ""}} {
		t.Run(name, func(t *testing.T) {
			server := startWithFunctions(t, append([]string{"--rename-command"}, args...)...)
			c := newLibraryClient(t, server.URL(), patient)
			wantNotCalled(t, c)
			wantNotCalled(t, c)
		})
	}
	for name, c := range map[string]struct {
		rights  []any
		refused int // FCALLs
	}{
		"no FCALL":         {[]any{"+@all", "-fcall"}, 1},
		"no FUNCTION LOAD": {[]any{"+@all", "-function|load"}, 0},
		"no FUNCTION":      {[]any{"+@all", "-function"}, 0},
		"neither":          {[]any{"-@all", "+hello", "+ping", "+eval", "+evalsha"}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			server := startWithFunctions(t)
			server.Do(append([]any{"ACL", "SETUSER", "store", "on", ">secret", "~*", "&*"}, c.rights...)...)
			client := newLibraryClient(t, "redis://store:secret@"+server.Addr, patient)
			before := countConnections(server)
			for range 3 {
				wantNotCalled(t, client)
			}
			if run, _, refused := countCommands(server, "fcall"); run > 0 || refused != c.refused {
				t.Errorf("FCALL has run %d times, and was refused %d times, want 0 and %d", run, refused, c.refused)
			}
			if n := countConnections(server) - before - 2; n != 1 {
				t.Errorf("%d connections, want 1", n)
			}
		})
	}
}

// TestCallOnReplica checks that a Redis that takes no writes does not take the function either, neither one
// that has become a replica nor one that was a replica when the connection was made, and that such a
// connection serves scripts.
func TestCallOnReplica(t *testing.T) {
	t.Parallel()
	server := startWithFunctions(t)
	c := newLibraryClient(t, server.URL(), patient)
	wantCalled(t, c, "set", "key:{1}", 7, 1)
	server.Do("REPLICAOF", "127.0.0.1", "1") // nobody listens there
	wantNotCalled(t, c)
	late := newLibraryClient(t, server.URL(), patient)
	wantNotCalled(t, late)
	p := late.router.routes[0].Load()
	wantNotCalled(t, late)
	if late.router.routes[0].Load() != p || !p.usable() {
		t.Error("a connection to a replica does not stay")
	}
	server.Do("REPLICAOF", "NO", "ONE")
	wantCalled(t, c, "set", "key:{1}", 7, 1)
}

// TestCallWithoutMemory checks that a Redis without memory refuses the function before it begins, and that it
// is called again afterwards on the same connection.
func TestCallWithoutMemory(t *testing.T) {
	t.Parallel()
	server := startWithFunctions(t)
	c := newLibraryClient(t, server.URL(), patient)
	wantCalled(t, c, "set", "key:{1}", 7, 1)
	server.Do("CONFIG", "SET", "maxmemory", "1")
	wantNotCalled(t, c)
	wantNotCalled(t, newLibraryClient(t, server.URL(), patient))
	server.Do("CONFIG", "SET", "maxmemory", "0")
	if got := server.Do("GET", "key:{1}"); got != "7" {
		t.Errorf("the key is %v, want 7", got)
	}
	p := c.router.routes[0].Load()
	wantCalled(t, c, "set", "key:{1}", 9, 1)
	if c.router.routes[0].Load() != p {
		t.Error("the connection was made anew")
	}
}

// TestCallReturnsErrorOfFunction checks that a call that failed in the middle of a function counts as made: to
// run a script afterwards could count twice.
func TestCallReturnsErrorOfFunction(t *testing.T) {
	t.Parallel()
	server := startWithFunctions(t)
	c := newLibraryClient(t, server.URL(), patient)
	_, called, err := callFunction(ctx, c, "halfway", "key:{1}", 2)
	if !called || !IsReply(err) || !strings.Contains(err.Error(), "user_function") {
		t.Errorf("called %v, error %v, want that of the function", called, err)
	}
	if got := server.Do("GET", "key:{1}"); got != "2" {
		t.Errorf("the key is %v, want 2", got)
	}
	wantCalled(t, c, "set", "key:{1}", 7, 1)
}

// TestFunctionRefusedAtFirstWrite: Redis 7 refuses such a function before it begins, but says so in the same
// words where only its first write was refused.
func TestFunctionRefusedAtFirstWrite(t *testing.T) {
	for reply, want := range map[string]bool{
		"READONLY You can't write against a read only replica.":                                                     false,
		"NOREPLICAS Not enough good replicas to write. script: set1, on @user_function:4.":                          false,
		"ERR The user executing the script can't run this command or subcommand script: set1, on @user_function:4.": true,
		"OOM command not allowed when used memory > 'maxmemory'. script: set1, on @user_function:4.":                true,
		"ERR user_function:4: attempt to index a nil value script: set1, on @user_function:4.":                      true,
		"ERR Function not found": false,
	} {
		if got := mayHaveChanged(reply); got != want {
			t.Errorf("%s: may have changed something: %v, want %v", reply, got, want)
		}
	}
}

// TestCallIsBounded checks a Redis that does not answer, neither the call nor the library.
func TestCallIsBounded(t *testing.T) {
	t.Parallel()
	wantTimeout := func(t *testing.T, c *Client) {
		t.Helper()
		start := time.Now()
		_, called, err := callFunction(ctx, c, "set", "key:{1}", 8)
		if !called || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) > bound {
			t.Errorf("called %v, error %v after %v, want %v", called, err, time.Since(start), context.DeadlineExceeded)
		}
	}
	wantWorks := func(t *testing.T, c *Client) {
		t.Helper()
		testkit.Eventually(t, "it works again", func() bool {
			_, called, err := callFunction(ctx, c, "set", "key:{1}", 9)
			return called && err == nil
		})
	}
	t.Run("the call", func(t *testing.T) {
		t.Parallel()
		server := startWithFunctions(t)
		c := newLibraryClient(t, server.URL(), short)
		wantWorks(t, c)
		server.Pause()
		wantTimeout(t, c)
		server.Resume()
		wantWorks(t, c)
	})
}

// TestFaultWhileLoadingRefusesConnection checks that a connection is not used on which Redis refuses not only
// the library, but everything: go-redis may have closed it.
func TestFaultWhileLoadingRefusesConnection(t *testing.T) {
	t.Parallel()
	p := redistest.StartFaultProxy(t, startWithFunctions(t).Addr)
	var pings atomic.Int64
	p.OnCommand(func(cmd redistest.Command) redistest.Fate {
		if strings.EqualFold(cmd[0], "ping") && pings.Add(1) == 2 {
			p.AnswerOpen(faultReplies[0])
		}
		return redistest.Pass
	})
	c := newLibraryClient(t, p.URL(), patient)
	if _, called, err := callFunction(ctx, c, "set", "key:{1}", 8); !called || err == nil || err.Error() != faultReplies[0] {
		t.Errorf("called %v, error %v, want %s", called, err, faultReplies[0])
	}
	p.OnCommand(nil)
	wantCalled(t, c, "set", "key:{1}", 9, 1)
}

// TestLibraryIsLoadedOnceRedisCan checks that a connection that was made while Redis took no writes, but not one whose user may
// not load a library, is made anew after a while.
func TestLibraryIsLoadedOnceRedisCan(t *testing.T) {
	t.Parallel()
	server := startWithFunctions(t, "--maxmemory-policy", "noeviction")
	server.Do("CONFIG", "SET", "maxmemory", 1)
	c := newLibraryClient(t, server.URL(), patient)
	wantNotCalled(t, c)
	server.Do("CONFIG", "SET", "maxmemory", 0)
	state := &c.router.routes[0].Load().functions
	if state.retryAt.Load() == 0 {
		t.Fatal("it is never loaded")
	}
	state.retryAt.Store(1) // the pause is over
	wantNotCalled(t, c)
	wantCalled(t, c, "set", "key:{1}", 9, 1)
	server.Do("ACL", "SETUSER", "store", "on", ">secret", "~*", "&*", "+@all", "-function|load")
	forbidden := newLibraryClient(t, "redis://store:secret@"+server.Addr, patient)
	server.Do("FUNCTION", "FLUSH")
	wantNotCalled(t, forbidden)
	if at := forbidden.router.routes[0].Load().functions.retryAt.Load(); at != 0 {
		t.Errorf("a library that may not be loaded is tried again at %d", at)
	}
}

// TestScriptInsteadHasTheSameTime checks that a function and a script that is run instead have the time of one call.
func TestScriptInsteadHasTheSameTime(t *testing.T) {
	t.Parallel()
	c := newLibraryClient(t, startWithFunctions(t).URL(), patient)
	wantCalled(t, c, "add", "key:{1}", 1, 1)
	reply, err := new(Reply), error(nil)
	before := time.Now()
	if _, err = c.Call(ctx, "key:{1}", 0, terms["echo"], new(resp.Args), reply); err != nil {
		t.Fatal(err)
	}
	after := time.Now()
	deadline, ok := Instead(ctx, reply).Deadline()
	if !ok || deadline.Before(before.Add(patient)) || deadline.After(after.Add(patient)) {
		t.Errorf("the deadline is %v after the call, want %v", deadline.Sub(before), patient)
	}
	if _, ok := Instead(ctx, new(Reply)).Deadline(); ok {
		t.Error("there is a deadline without a call")
	}
}

// TestScriptHasAllTimeIfNothingWasCalled checks that a script has the time of a call of its own where no function was sent.
func TestScriptHasAllTimeIfNothingWasCalled(t *testing.T) {
	t.Parallel()
	c := newLibraryClient(t, "redis://"+miniredis.RunT(t).Addr(), patient)
	for range 20 {
		mustEcho(t, c) // what it used is used again
		reply := new(Reply)
		if called, err := c.Call(ctx, "key:{1}", 0, terms["echo"], new(resp.Args), reply); called || err != nil {
			t.Fatalf("called %v, error %v, want neither", called, err)
		}
		if deadline, ok := Instead(ctx, reply).Deadline(); ok {
			t.Fatalf("the script must end at %v", deadline)
		}
	}
}

// TestCallLooksAtContext checks that a call is not sent if its context has ended.
func TestCallLooksAtContext(t *testing.T) {
	t.Parallel()
	server := startWithFunctions(t)
	c := newLibraryClient(t, server.URL(), patient)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	if _, called, err := callFunction(ended, c, "set", "key:{1}", 8); !called || !errors.Is(err, context.Canceled) {
		t.Errorf("called %v, error %v, want %v", called, err, context.Canceled)
	}
	if run, _, _ := countCommands(server, "fcall"); run > 0 {
		t.Errorf("it was sent %d times", run)
	}
}

// TestCallInCluster checks that each master loads the library, and that a call of a key that has moved is
// left to Run, which finds where the key is.
func TestCallInCluster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, false)
	cluster.Nodes[0].Needs(t, "7", "functions")
	c := newLibraryClient(t, cluster.URL(), patient)
	keys, err := c.KeyOnEachMaster(ctx, func(n int) string { return "key:{" + strconv.Itoa(n) + "}" })
	if err != nil || len(keys) != 3 {
		t.Fatalf("the keys are %q, error %v", keys, err)
	}
	for _, key := range keys {
		wantCalled(t, c, "add", key, 5, 5) // each master has a sum of its own
	}
	key := "key:{1}" // that of echo
	wantCalled(t, c, "set", key, 7, 1)
	move := cluster.StartSlotMove(int(Slot(key)))
	move.Finish()
	wantNotCalled(t, c)
	testkit.Eventually(t, "the new master is called", func() bool { // go-redis learns of it in the background
		_, called, err := callFunction(ctx, c, "set", key, 9)
		if !called {
			mustEcho(t, c)
		}
		return called && err == nil
	})
	if got := move.To.Do("GET", key); got != "9" {
		t.Errorf("the new master has %v, want 9", got)
	}
}

// TestCallAfterFailover checks that functions are called on the replica that Sentinels have promoted, which has
// the library from its master.
func TestCallAfterFailover(t *testing.T) {
	t.Parallel()
	g := redistest.StartSentinel(t, "")
	g.Servers[0].Needs(t, "7", "functions")
	c := newLibraryClient(t, g.URL(), patient)
	wantCalled(t, c, "set", "key:{1}", 7, 1)
	old := g.Master()
	old.AwaitReplication("key:{1}")
	g.Failover()
	testkit.Eventually(t, "the new master is called", func() bool {
		_, called, err := callFunction(ctx, c, "set", "key:{1}", 9)
		return called && err == nil && g.Master().Do("GET", "key:{1}") == "9"
	})
	if run, failed, _ := countCommands(g.Master(), "function|load"); run < 2 || failed != run-1 {
		t.Errorf("the library was sent %d times, and refused %d times, want that it was there", run, failed)
	}
}
