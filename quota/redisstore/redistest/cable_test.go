package redistest

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore"
	"metergate/quota/testkit"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A wire is a client that sends what it is told to.
type wire struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

func dial(t testing.TB, addr string) *wire {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return &wire{t, conn, bufio.NewReader(conn)}
}

// send sends commands in one write, without waiting.
func (w *wire) send(commands ...string) {
	w.t.Helper()
	var b strings.Builder
	for _, c := range commands {
		b.WriteString(encode(strings.Fields(c)...))
	}
	if _, err := io.WriteString(w.conn, b.String()); err != nil {
		w.t.Fatal(err)
	}
}

func encode(words ...string) string {
	var b strings.Builder
	b.WriteString("*" + strconv.Itoa(len(words)) + "\r\n")
	for _, word := range words {
		b.WriteString("$" + strconv.Itoa(len(word)) + "\r\n" + word + "\r\n")
	}
	return b.String()
}

// reply reads one reply, and returns its words; "gone": the connection has ended; "none": there
// is no reply before the deadline.
func (w *wire) reply() string {
	f, err := readFrame(w.in)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return "none"
	}
	if err != nil {
		return "gone"
	}
	return strings.Join(f.words, " ")
}

func (w *wire) want(replies ...string) {
	w.t.Helper()
	for _, want := range replies {
		if got := w.reply(); got != want {
			w.t.Fatalf("the reply is %q, want %q", got, want)
		}
	}
}

// wantRefused connects where connections are reset. Go's Dial may see the reset already.
func wantRefused(t testing.TB, addr string) {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		return
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("the connection stands")
	}
}

// direct is a client beside the cable, for looking at a number in Redis.
type direct struct{ *wire }

func newDirect(t testing.TB, redis *Server) direct { return direct{dial(t, redis.Addr)} }

func (d direct) set(n string) { d.t.Helper(); d.send("set number " + n); d.want("OK") }

func (d direct) wantNumber(when, want string) {
	d.t.Helper()
	d.send("get number")
	if got := d.reply(); got != want {
		d.t.Errorf("%s the number is %s, want %s", when, got, want)
	}
}

func TestCableRelaysPipelines(t *testing.T) {
	redis := Start(t)
	newDirect(t, redis).set("0")
	w := dial(t, Connect(t, redis.Addr).Addr)
	w.send("hello 3", "incr number", "get nothing", "nonsense", "incr number")
	if got := w.reply(); !strings.Contains(got, "redis") {
		t.Errorf("hello: %q", got)
	}
	w.want("1", "")
	if got := w.reply(); !strings.Contains(got, "unknown command") {
		t.Errorf("nonsense: %q", got)
	}
	w.want("2")
}

func TestCableRelaysMessages(t *testing.T) {
	redis := Start(t)
	d := newDirect(t, redis)
	w := dial(t, Connect(t, redis.Addr).Addr)
	w.send("hello 3", "subscribe news", "ping")
	w.reply()
	w.want("subscribe news 1", "PONG")
	d.send("publish news flood")
	d.want("1")
	w.want("message news flood")
	w.send("ping")
	w.want("PONG")
}

func TestCableSwallowsAReply(t *testing.T) {
	redis := Start(t)
	d := newDirect(t, redis)
	d.set("0")
	c := Connect(t, redis.Addr)
	w := dial(t, c.Addr)
	ran := make(chan string)
	c.OnReply(func(cmd Command, reply string) Fate {
		ran <- strings.Join(cmd, " ") + ": " + reply
		return Swallow
	})
	w.send("incr number")
	if got := <-ran; got != "incr number: :1\r\n" {
		t.Errorf("the hook saw %q", got)
	}
	c.Heal()
	d.wantNumber("after the command", "1")
	again := dial(t, c.Addr)
	again.send("incr number")
	again.want("2")
	w.conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
	w.want("none")
}

func TestCableSwallowsAllReplies(t *testing.T) {
	c := Connect(t, Start(t).Addr)
	c.SwallowReplies(true)
	w := dial(t, c.Addr)
	w.send("ping")
	w.conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
	w.want("none")
}

func TestCableDelaysReplies(t *testing.T) {
	c := Connect(t, Start(t).Addr)
	w := dial(t, c.Addr)
	c.Delay(300 * time.Millisecond)
	start := time.Now()
	pings := make([]string, 100)
	for i := range pings {
		pings[i] = "ping"
	}
	w.send(pings...)
	for range pings {
		w.want("PONG")
	}
	// The replies of a pipeline wait together.
	if took := time.Since(start); took < 300*time.Millisecond || took > 15*time.Second {
		t.Errorf("100 pings in a pipeline took %v, want 300ms", took)
	}
}

func TestCableCutsBeforeTheCommandRuns(t *testing.T) {
	redis := Start(t)
	d := newDirect(t, redis)
	d.set("0")
	c := Connect(t, redis.Addr)
	w := dial(t, c.Addr)
	c.OnCommand(func(Command) Fate { return Cut })
	w.send("incr number")
	w.want("gone")
	d.wantNumber("after the cut", "0")
}

func TestCableCutsAfterTheCommandHasRun(t *testing.T) {
	redis := Start(t)
	d := newDirect(t, redis)
	d.set("0")
	c := Connect(t, redis.Addr)
	w := dial(t, c.Addr)
	c.OnReply(func(Command, string) Fate { return Cut })
	w.send("incr number")
	w.want("gone")
	d.wantNumber("after the cut", "1")
}

func TestCableCutsAllConnections(t *testing.T) {
	c := Connect(t, Start(t).Addr)
	a, b := dial(t, c.Addr), dial(t, c.Addr)
	for _, w := range []*wire{a, b} {
		w.send("ping")
		w.want("PONG")
	}
	c.CutAll()
	a.want("gone")
	b.want("gone")
	again := dial(t, c.Addr)
	again.send("ping")
	again.want("PONG")
}

func TestCableRefusesOnlyNewConnections(t *testing.T) {
	c := Connect(t, Start(t).Addr)
	old := dial(t, c.Addr)
	old.send("ping")
	old.want("PONG")
	c.Refuse(true)
	wantRefused(t, c.Addr)
	old.send("ping")
	old.want("PONG")
}

// TestCableHoldsACommand checks that what a client sent before it hung up still runs.
func TestCableHoldsACommand(t *testing.T) {
	redis := Start(t)
	d := newDirect(t, redis)
	d.set("0")
	c := Connect(t, redis.Addr)
	arrived, goOn, ran := make(chan bool), make(chan bool), make(chan bool)
	c.OnCommand(func(Command) Fate { arrived <- true; <-goOn; return Pass })
	c.OnReply(func(Command, string) Fate { close(ran); return Pass })
	w := dial(t, c.Addr)
	w.send("incr number")
	<-arrived
	w.conn.Close()
	d.wantNumber("while the command is held", "0")
	close(goOn)
	<-ran
	d.wantNumber("when the command has run", "1")
}

func TestCableWithoutARedisRefuses(t *testing.T) {
	c := Connect(t, testkit.FreeAddress(t))
	wantRefused(t, c.Addr)
}

// TestScriptNamesWhatTheStoreRuns has a store run each script twice: the first time it sends
// the source of a script, afterwards only its SHA-1.
func TestScriptNamesWhatTheStoreRuns(t *testing.T) {
	c := Connect(t, Start(t).Addr)
	s, err := redisstore.Open(redisstore.Options{URL: c.URL(), Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var mu sync.Mutex
	var seen []string
	c.OnCommand(func(cmd Command) Fate {
		if strings.HasPrefix(strings.ToLower(cmd[0]), "eval") {
			mu.Lock()
			seen = append(seen, strings.ToLower(cmd[0])+" "+cmd.Script())
			mu.Unlock()
		} else if name := cmd.Script(); name != "" {
			t.Errorf("%v is taken for the script %s", cmd, name)
		}
		return Pass
	})
	ctx := context.Background()
	terms := quotatest.NewPlan("p", quota.Limit{Requests: 10, Period: quota.Month}).OnlyChoice()
	reserve := func() *quota.Reservation {
		d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: terms, Lease: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		return &d.Reservation
	}
	for range 2 {
		_, errCommit := s.Commit(ctx, reserve())
		_, errRelease := s.Release(ctx, reserve())
		errReplay := s.Replay(ctx, "u", []quota.Reservation{*reserve()})
		_, errRead := s.Read(ctx, "u", terms)
		_, errChange := s.ApplyChange(ctx, "u", terms, quota.Change{Action: quota.ActionReset})
		if err := errors.Join(errCommit, errRelease, errReplay, errRead, errChange); err != nil {
			t.Fatal(err)
		}
	}
	once := []string{
		"evalsha reserve", "evalsha commit", "evalsha reserve", "evalsha release", "evalsha reserve", "evalsha commit",
		"evalsha read", "evalsha change", "evalsha read", // a change reads afterwards
	}
	want := slices.Concat(once, once)
	for _, name := range []string{"reserve", "commit", "read", "change"} { // those that Redis has to learn
		i := slices.Index(want, "evalsha "+name)
		want = slices.Insert(want, i+1, "eval "+name)
	}
	mu.Lock()
	defer mu.Unlock()
	// By way of go-redis, a script that Redis does not know is tried by its SHA-1 first.
	got := slices.Compact(seen)
	if diff := cmp.Diff(slices.Compact(want), got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := (Command{"hdel", "key", "field"}).Script(); got != "" {
		t.Errorf("HDEL is the script %q", got)
	}
	if got := (Command)(nil).Script(); got != "" {
		t.Errorf("nothing is the script %q", got)
	}
	if got := (Command{"evalsha", strings.Repeat("0", 40), "1", "key"}).Script(); got != "" {
		t.Errorf("an unknown script is %q", got)
	}
}
