package redistest

import (
	"bufio"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"metergate/internal/testkit"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A wire is a plain client.
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
		b.WriteString(resp(strings.Fields(c)...))
	}
	if _, err := io.WriteString(w.conn, b.String()); err != nil {
		w.t.Fatal(err)
	}
}

func resp(words ...string) string {
	var b strings.Builder
	b.WriteString("*" + strconv.Itoa(len(words)) + "\r\n")
	for _, word := range words {
		b.WriteString("$" + strconv.Itoa(len(word)) + "\r\n" + word + "\r\n")
	}
	return b.String()
}

// reply reads one, and its words; "gone": the connection has ended.
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

// refused: Go's Dial may see the reset already.
func refused(t testing.TB, addr string) {
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

func TestCable(t *testing.T) {
	redis := Start(t)
	past := dial(t, redis.Addr) // not through a cable
	past.send("set number 0")
	past.want("OK")
	number := func() string { past.send("get number"); return past.reply() }
	set := func(n string) { past.send("set number " + n); past.want("OK") }

	t.Run("pipelines pass", func(t *testing.T) {
		set("0")
		c := Connect(t, redis.Addr)
		w := dial(t, c.Addr)
		w.send("hello 3", "incr number", "get nothing", "nonsense", "incr number")
		if got := w.reply(); !strings.Contains(got, "redis") {
			t.Errorf("hello: %q", got)
		}
		w.want("1", "")
		if got := w.reply(); !strings.Contains(got, "unknown command") {
			t.Errorf("nonsense: %q", got)
		}
		w.want("2")
	})
	t.Run("messages pass", func(t *testing.T) {
		c := Connect(t, redis.Addr)
		w := dial(t, c.Addr)
		w.send("hello 3", "subscribe news", "ping")
		w.reply()
		w.want("subscribe news 1", "PONG")
		past.send("publish news flood")
		past.want("1")
		w.want("message news flood")
		w.send("ping")
		w.want("PONG")
	})
	t.Run("swallow", func(t *testing.T) {
		set("0")
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
		if got := number(); got != "1" {
			t.Errorf("the number is %s, want 1", got)
		}
		again := dial(t, c.Addr)
		again.send("incr number")
		again.want("2")
		w.conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
		w.want("none")
	})
	t.Run("swallow all", func(t *testing.T) {
		c := Connect(t, redis.Addr)
		c.SwallowReplies(true)
		w := dial(t, c.Addr)
		w.send("ping")
		w.conn.SetDeadline(time.Now().Add(50 * time.Millisecond))
		w.want("none")
	})
	t.Run("delay", func(t *testing.T) {
		c := Connect(t, redis.Addr)
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
		// Those of a pipeline wait together.
		if took := time.Since(start); took < 300*time.Millisecond || took > 15*time.Second {
			t.Errorf("100 pings in a pipeline took %v, want 300ms", took)
		}
	})
	t.Run("cut before it runs", func(t *testing.T) {
		set("0")
		c := Connect(t, redis.Addr)
		w := dial(t, c.Addr)
		c.OnCommand(func(Command) Fate { return Cut })
		w.send("incr number")
		w.want("gone")
		if got := number(); got != "0" {
			t.Errorf("the number is %s, want 0", got)
		}
	})
	t.Run("cut after it has run", func(t *testing.T) {
		set("0")
		c := Connect(t, redis.Addr)
		w := dial(t, c.Addr)
		c.OnReply(func(Command, string) Fate { return Cut })
		w.send("incr number")
		w.want("gone")
		if got := number(); got != "1" {
			t.Errorf("the number is %s, want 1", got)
		}
	})
	t.Run("cut all", func(t *testing.T) {
		c := Connect(t, redis.Addr)
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
	})
	t.Run("refuse", func(t *testing.T) {
		c := Connect(t, redis.Addr)
		old := dial(t, c.Addr)
		old.send("ping")
		old.want("PONG")
		c.Refuse(true)
		refused(t, c.Addr)
		old.send("ping")
		old.want("PONG")
	})
	// What a client sent before it hung up still runs.
	t.Run("hold", func(t *testing.T) {
		set("0")
		c := Connect(t, redis.Addr)
		arrived, hold, ran := make(chan bool), make(chan bool), make(chan bool)
		c.OnCommand(func(Command) Fate { arrived <- true; <-hold; return Pass })
		c.OnReply(func(Command, string) Fate { close(ran); return Pass })
		w := dial(t, c.Addr)
		w.send("incr number")
		<-arrived
		w.conn.Close()
		if got := number(); got != "0" {
			t.Errorf("the number is %s while the command is held, want 0", got)
		}
		close(hold)
		<-ran
		if got := number(); got != "1" {
			t.Errorf("the number is %s, want 1", got)
		}
	})
	t.Run("no Redis", func(t *testing.T) {
		c := Connect(t, testkit.FreeAddress(t))
		refused(t, c.Addr)
	})
}

func TestScript(t *testing.T) {
	call := func(own ...string) Command {
		return append(Command{"evalsha", "sha", "1", "key", "0", "user", "0 pro", "1", "2",
			"6", "2", "used/2026", "held/2026", "used/2026-11", "held/2026-11", "used/2026/analyze", "held/2026/analyze"}, own...)
	}
	none := func(own ...string) Command {
		return append(Command{"evalsha", "sha", "1", "key", "0", "user", "*", "0", "9", "0", "0"}, own...)
	}
	for _, c := range []struct {
		cmd  Command
		want string
	}{
		{call(), Read},
		{call("lease/id", "done/id", "attempts/120/500000", "12000", "analyze 2026 2026-11", "120", "500000", "0", "free", "100", "-1"), Reserve},
		{call("lease/id", "done/id", "attempts/0/0", "12000", "analyze 2026 2026-11", "0", "0", "0", "free", "100"), ""},
		{none("lease/id", "done/id", "attempts/0/0", "12000", "analyze", "0", "0", "0", "free"), Reserve},
		{none("1", "2026", "9", "", "fp", "{}", "1", "1", "1", "1", "1", "reset"), Change},
		{none("0", "", "fp", "{}", "1", "1", "1", "1", "1", "set_plan", "0", "pro"), Change},
		{call("1", "lease/id", "done/id", "1", "analyze", "1", "2026", "9"), Commit},
		{call("2", "lease/id", "done/id", "1", "analyze", "1", "2026", "9", "lease/id2", "done/id2", "1", "analyze", "0"), Commit},
		{call("1", "lease/id", "done/id", "0", "analyze", "1", "2026", "9"), Release},
		{call("1", "lease/id", "done/id", "0", "analyze", "1", "2026"), ""},
		{call("something", "else"), ""},
		{none("1", "lease/id", "done/id", "1", "analyze", "0"), Commit},
		{Command{"evalsha", "sha", "1", "key"}, ""},
		{Command{"hdel", "key", "field"}, ""},
		{nil, ""},
	} {
		if got := c.cmd.Script(); got != c.want {
			t.Errorf("%v is %q, want %q", c.cmd, got, c.want)
		}
	}
}
