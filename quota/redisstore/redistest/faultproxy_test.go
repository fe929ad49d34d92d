package redistest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

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

// direct is a client beside the faultProxy, for looking at a number in Redis.
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

func TestFaultProxyRelaysPipelines(t *testing.T) {
	redis := Start(t)
	newDirect(t, redis).set("0")
	w := dial(t, StartFaultProxy(t, redis.Addr).Addr)
	w.send("time", "incr number", "get nothing", "nonsense", "incr number")
	if got := w.reply(); !regexp.MustCompile(`^\d{10} \d+$`).MatchString(got) {
		t.Errorf("time: %q", got)
	}
	w.want("1", "")
	if got := w.reply(); !strings.Contains(got, "unknown command") {
		t.Errorf("nonsense: %q", got)
	}
	w.want("2")
}

// TestFaultProxyRelaysMessages tests both versions of Redis's protocol.
func TestFaultProxyRelaysMessages(t *testing.T) {
	redis := Start(t)
	t.Run("version 2", func(t *testing.T) {
		testMessages(t, redis, dial(t, StartFaultProxy(t, redis.Addr).Addr), "pong ")
	})
	t.Run("version 3", func(t *testing.T) {
		redis.Needs(t, "6", "HELLO")
		w := dial(t, StartFaultProxy(t, redis.Addr).Addr)
		w.send("hello 3")
		if got := w.reply(); !strings.Contains(got, "proto 3") {
			t.Errorf("hello: %q", got)
		}
		testMessages(t, redis, w, "PONG")
	})
}

func testMessages(t *testing.T, redis *Server, w *wire, pong string) {
	d := newDirect(t, redis)
	w.send("subscribe news", "ping")
	w.want("subscribe news 1", pong)
	d.send("publish news flood")
	d.want("1")
	w.want("message news flood")
	w.send("unsubscribe news", "ping")
	w.want("unsubscribe news 0", "PONG")
}

func TestFaultProxyDropsAReply(t *testing.T) {
	redis := Start(t)
	d := newDirect(t, redis)
	d.set("0")
	c := StartFaultProxy(t, redis.Addr)
	w := dial(t, c.Addr)
	ran := make(chan string)
	c.OnReply(func(cmd Command, reply string) Fate {
		ran <- strings.Join(cmd, " ") + ": " + reply
		return Drop
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

func TestFaultProxyDropsAllReplies(t *testing.T) {
	c := StartFaultProxy(t, Start(t).Addr)
	c.DropReplies(true)
	w := dial(t, c.Addr)
	w.send("ping")
	w.conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
	w.want("none")
}

func TestFaultProxyDelaysReplies(t *testing.T) {
	c := StartFaultProxy(t, Start(t).Addr)
	w := dial(t, c.Addr)
	c.DelayReplies(300 * time.Millisecond)
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

func TestFaultProxyCutsBeforeTheCommandRuns(t *testing.T) {
	redis := Start(t)
	d := newDirect(t, redis)
	d.set("0")
	c := StartFaultProxy(t, redis.Addr)
	w := dial(t, c.Addr)
	c.OnCommand(func(Command) Fate { return Cut })
	w.send("incr number")
	w.want("gone")
	d.wantNumber("after the cut", "0")
}

func TestFaultProxyCutsAfterTheCommandHasRun(t *testing.T) {
	redis := Start(t)
	d := newDirect(t, redis)
	d.set("0")
	c := StartFaultProxy(t, redis.Addr)
	w := dial(t, c.Addr)
	c.OnReply(func(Command, string) Fate { return Cut })
	w.send("incr number")
	w.want("gone")
	d.wantNumber("after the cut", "1")
}

func TestFaultProxyCutsAllConnections(t *testing.T) {
	c := StartFaultProxy(t, Start(t).Addr)
	a, b := dial(t, c.Addr), dial(t, c.Addr)
	for _, w := range []*wire{a, b} {
		w.send("ping")
		w.want("PONG")
	}
	c.CutConnections()
	a.want("gone")
	b.want("gone")
	again := dial(t, c.Addr)
	again.send("ping")
	again.want("PONG")
}

func TestFaultProxyRefusesOnlyNewConnections(t *testing.T) {
	c := StartFaultProxy(t, Start(t).Addr)
	old := dial(t, c.Addr)
	old.send("ping")
	old.want("PONG")
	c.RefuseConnections(true)
	wantRefused(t, c.Addr)
	old.send("ping")
	old.want("PONG")
}

// TestFaultProxyHoldsACommand checks that what a client sent before it hung up still runs.
func TestFaultProxyHoldsACommand(t *testing.T) {
	redis := Start(t)
	d := newDirect(t, redis)
	d.set("0")
	c := StartFaultProxy(t, redis.Addr)
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

func TestFaultProxyWithoutARedisRefuses(t *testing.T) {
	c := StartFaultProxy(t, testkit.FreeAddress(t))
	wantRefused(t, c.Addr)
}
