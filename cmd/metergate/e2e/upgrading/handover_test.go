package upgrading

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A succession is a line of processes that take over from each other on the same sockets. They share a log.
type succession struct {
	*testing.T
	dir     string
	program string // what is upgraded to
	url     string
	admin   string
	log     string // its file
	env     []string
	served  int // how many processes have served
}

// servingLine is the last line of the log at a start.
type servingLine struct {
	Msg, Listen, Admin string
	PID                int
}

func startSuccession(t *testing.T, store, upstream, more string) *succession {
	dir := t.TempDir()
	s := &succession{T: t, dir: dir, program: filepath.Join(dir, "metergate"), log: filepath.Join(dir, "log")}
	s.install(gatewaytest.Program())
	s.env = append(os.Environ(), "STORE="+store, "UPSTREAM="+upstream, "LEVEL=info", "ON_FAILURE=allow", "STORE_TIMEOUT=5s")
	text := strings.Replace(gatewaytest.BasicYAML, "admin: { listen: 127.0.0.1:0 }", `admin: { listen: 127.0.0.1:0, token: "`+gatewaytest.AdminToken+`" }`, 1)
	testkit.WriteFile(t, filepath.Join(dir, "gateway.yaml"), more+text)
	t.Cleanup(func() {
		for _, line := range s.serving() {
			if !hasEnded(line.PID) {
				syscall.Kill(line.PID, syscall.SIGKILL)
			}
		}
		if t.Failed() {
			t.Logf("the log:\n%s", testkit.LastLines(s.withoutRequests(), 60))
		}
	})
	s.again()
	return s
}

// again starts a process that takes over from nobody.
func (s *succession) again() {
	s.Helper()
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		s.Fatal(err)
	}
	defer log.Close()
	s.url, s.served = "", len(s.serving())
	cmd := exec.Command(s.program, "serve", "-config", filepath.Join(s.dir, "gateway.yaml"))
	cmd.Env, cmd.Stdout, cmd.Stderr = s.env, log, log // a file: the processes outlive each other
	if err := cmd.Start(); err != nil {
		s.Fatal(err)
	}
	go cmd.Wait()
	s.awaitNext()
}

// install puts a program in the place of the one that runs.
func (s *succession) install(program string) {
	s.Helper()
	if err := os.Remove(s.program); err != nil && !os.IsNotExist(err) {
		s.Fatal(err)
	}
	if err := os.Symlink(program, s.program); err != nil {
		s.Fatal(err)
	}
}

func (s *succession) text() string {
	data, err := os.ReadFile(s.log)
	if err != nil {
		s.Fatal(err)
	}
	return string(data)
}

func (s *succession) withoutRequests() string {
	var rest strings.Builder
	for line := range strings.Lines(s.text()) {
		if !strings.Contains(line, `"msg":"request"`) {
			rest.WriteString(line)
		}
	}
	return rest.String()
}

// serving returns the lines of the processes that have served so far.
func (s *succession) serving() (lines []servingLine) {
	for text := range strings.Lines(s.text()) {
		var line servingLine
		if json.Unmarshal([]byte(text), &line) == nil && line.Msg == "serving" {
			lines = append(lines, line)
		}
	}
	return lines
}

// awaitNext waits until the next process serves, and returns its PID.
func (s *succession) awaitNext() int {
	s.Helper()
	var line servingLine
	testkit.EventuallyWithin(s, time.Minute, "the next process serves", func() bool {
		lines := s.serving()
		if len(lines) > s.served {
			line = lines[len(lines)-1]
		}
		return len(lines) > s.served
	})
	s.served++
	url, admin := "http://"+line.Listen, "http://"+line.Admin
	if s.url == "" {
		s.url, s.admin = url, admin
	} else if url != s.url || admin != s.admin {
		s.Errorf("the next process serves on %s and %s, want %s and %s", url, admin, s.url, s.admin)
	}
	return line.PID
}

func (s *succession) await(text string, times int) {
	s.Helper()
	testkit.EventuallyWithin(s, time.Minute, fmt.Sprintf("the log says %q %d times", text, times), func() bool { return strings.Count(s.text(), text) >= times })
}

// pid is that of the last process that serves.
func (s *succession) pid() int {
	lines := s.serving()
	return lines[len(lines)-1].PID
}

func (s *succession) signal(pid int, sig syscall.Signal) {
	s.Helper()
	if err := syscall.Kill(pid, sig); err != nil && (sig != syscall.SIGKILL || err != syscall.ESRCH) {
		s.Fatal(err)
	}
}

// hasEnded reports whether a process has ended; nobody may have waited for it. While other threads of a zombie
// still end, it has its children and its files.
func hasEnded(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true
	}
	_, state, _ := strings.Cut(string(data), ") ")
	threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
	return strings.HasPrefix(state, "Z") && len(threads) <= 1
}

func (s *succession) awaitEnd(pid int) {
	s.Helper()
	testkit.EventuallyWithin(s, time.Minute, "the process before has ended", func() bool { return hasEnded(pid) })
}

// A crowd sends requests until it is stopped: some on connections that it keeps, some on new ones, with a
// body that is never sent twice.
type crowd struct {
	s            *succession
	stop         context.CancelFunc
	clients      sync.WaitGroup
	good, failed atomic.Int64
	mu           sync.Mutex
	faults       []string
}

func (s *succession) startCrowd() *crowd {
	ctx, stop := context.WithCancel(context.Background())
	c := &crowd{s: s, stop: stop}
	token, url := testkit.Token("u", "enterprise"), s.url+"/api/analyze"
	for i := range 6 {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: i%3 == 0}, Timeout: time.Minute}
		c.clients.Go(func() {
			defer client.CloseIdleConnections()
			for ctx.Err() == nil {
				req, _ := http.NewRequest("POST", url, io.NopCloser(strings.NewReader("text")))
				req.Header.Set("Authorization", "Bearer "+token)
				res, err := client.Do(req)
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				if err == nil && res.StatusCode == 200 {
					c.good.Add(1)
					continue
				}
				c.failed.Add(1)
				c.mu.Lock()
				c.faults = append(c.faults, fmt.Sprint(res, err))
				c.mu.Unlock()
			}
		})
	}
	s.Cleanup(c.end)
	c.more(50)
	return c
}

// more waits until the crowd has sent some more requests.
func (c *crowd) more(n int64) {
	c.s.Helper()
	before := c.good.Load()
	testkit.EventuallyWithin(c.s, time.Minute, "more requests", func() bool { return c.good.Load() >= before+n })
}

func (c *crowd) end() {
	c.stop()
	c.clients.Wait()
}

// wantExact ends the crowd and checks that nothing has failed and that every 2xx was counted once.
func (c *crowd) wantExact() {
	c.s.Helper()
	c.end()
	if c.failed.Load() > 0 {
		c.s.Errorf("%d of %d requests failed, the first with %s", c.failed.Load(), c.failed.Load()+c.good.Load(), c.faults[0])
	}
	c.s.wantUsed(c.good.Load())
}

// used is what the gateway says that the crowd has used; -1: it does not answer.
func (s *succession) used() int64 {
	status, body := gatewaytest.Get(s.url+"/usage", testkit.Token("u", "enterprise"))
	var u quota.Usage
	if status != 200 || json.Unmarshal([]byte(body), &u) != nil || u.Stale {
		return -1
	}
	return u.Used
}

func (s *succession) wantUsed(want int64) {
	s.Helper()
	var got int64
	testkit.EventuallyWithin(s, time.Minute, fmt.Sprintf("%d are used", want), func() bool { got = s.used(); return got >= want })
	if got != want {
		s.Errorf("%d used, and clients saw %d responses with 2xx", got, want)
	}
}

// A watcher follows the usage of the crowd, and connects again when its stream ends.
type watcher struct{ last, streams atomic.Int64 }

func (s *succession) startWatcher() *watcher {
	w := new(watcher)
	ctx, stop := context.WithCancel(context.Background())
	var watching sync.WaitGroup
	watching.Go(func() {
		for ctx.Err() == nil {
			req, _ := http.NewRequestWithContext(ctx, "GET", s.url+"/usage/stream", nil)
			req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "enterprise"))
			res, err := http.DefaultClient.Do(req)
			if err != nil {
				continue
			}
			w.streams.Add(1)
			for lines := bufio.NewScanner(res.Body); lines.Scan(); {
				data, ok := strings.CutPrefix(lines.Text(), "data: ")
				var u quota.Usage
				if ok && json.Unmarshal([]byte(data), &u) == nil && u.User != "" {
					w.last.Store(u.Used)
				}
			}
			res.Body.Close()
		}
	})
	s.Cleanup(func() { stop(); watching.Wait() })
	return w
}

// Under load the program is upgraded several times. No request fails, each is counted once, and streams of
// usage go on in the new process.
func TestUpgradeRefusesNobody(t *testing.T) {
	for name, store := range map[string]func(*testing.T) string{
		"Redis":    func(t *testing.T) string { return redistest.Start(t).URL() },
		"embedded": func(*testing.T) string { return "embedded:data" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSuccession(t, store(t), gatewaytest.StartUpstream(t, "ok").URL, "")
			c, w := s.startCrowd(), s.startWatcher()
			for range gatewaytest.Times(2, 20) {
				before := s.pid()
				s.signal(before, syscall.SIGUSR2)
				s.awaitNext()
				c.more(50)
				s.awaitEnd(before)
			}
			c.wantExact()
			if n := w.streams.Load(); n <= int64(gatewaytest.Times(2, 20)) {
				t.Errorf("%d streams, want one for each process", n)
			}
			testkit.Eventually(t, "the stream shows all", func() bool { return w.last.Load() == c.good.Load() })
			if text := s.withoutRequests(); strings.Contains(text, `"ERROR"`) {
				t.Error("the log has errors")
			}
			s.signal(s.pid(), syscall.SIGTERM)
			s.awaitEnd(s.pid())
		})
	}
}

// An upgrade that does not come to serve leaves the process that serves as it is, says why, and can be tried
// again. No request fails meanwhile.
func TestUpgradeThatFailsChangesNothing(t *testing.T) {
	for name, store := range map[string]func(*testing.T) string{
		"Redis":    func(t *testing.T) string { return redistest.Start(t).URL() },
		"embedded": func(*testing.T) string { return "embedded:data" },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startSuccession(t, store(t), gatewaytest.StartUpstream(t, "ok").URL, "")
			file := filepath.Join(s.dir, "gateway.yaml")
			config, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, first := s.startCrowd(), s.pid()
			failures := 0
			fails := func(why string, sig ...syscall.Signal) {
				t.Helper()
				for _, sig := range append(sig, syscall.SIGUSR2) {
					s.signal(first, sig)
				}
				failures++
				s.await("the upgrade failed", failures)
				if text := s.withoutRequests(); !strings.Contains(text, why) {
					t.Errorf("the log does not say %q", why)
				}
				c.more(20)
			}
			testkit.WriteFile(t, file, "listen: nowhere\n")
			fails("gateway.yaml:1: listen: must be HOST:PORT")
			testkit.WriteFile(t, file, config)
			s.install(s.script("crash", "kill -9 $$\n"))
			fails("signal: killed")
			s.install(filepath.Join(s.dir, "nothing"))
			fails("no such file or directory")
			if name == "embedded" {
				// It dies when the other process has stopped, which then starts again.
				s.install(s.dyingProgram(""))
				fails("this process starts again")
				if s.awaitNext() != first {
					t.Error("another process serves")
				}
				c.more(20)
			}
			// Of two upgrades at once, the second waits for the first, and a process that leaves begins none.
			s.install(gatewaytest.Program())
			begun := strings.Count(s.text(), "an upgrade begins")
			s.signal(first, syscall.SIGUSR2)
			s.await("an upgrade begins", begun+1)
			s.signal(first, syscall.SIGUSR2)
			if s.awaitNext() == first {
				t.Error("the same process serves")
			}
			c.more(20)
			s.awaitEnd(first)
			c.wantExact()
			if n := len(s.serving()); n != s.served {
				t.Errorf("%d processes have served, want %d", n, s.served)
			}
		})
	}
}

// dyingProgram says that it is prepared, and ends when the process before it has stopped, after some commands.
func (s *succession) dyingProgram(commands string) string {
	return s.script("late", `say=$(echo "$METERGATE_HANDOVER" | sed 's/.*"say":\([0-9]*\).*/\1/')
hear=$(echo "$METERGATE_HANDOVER" | sed 's/.*"hear":\([0-9]*\).*/\1/')
eval "echo prepared >&$say"
eval "read go <&$hear"
`+commands+"\nexit 7\n")
}

// A process that can neither hand over nor start again ends, and says why.
func TestUpgradeWithoutAWayBackEnds(t *testing.T) {
	t.Parallel()
	s := startSuccession(t, "embedded:data", gatewaytest.StartUpstream(t, "ok").URL, "")
	first := s.pid()
	s.install(s.dyingProgram("echo something else >" + filepath.Join(s.dir, "data", "usage.db")))
	s.signal(first, syscall.SIGUSR2)
	s.awaitEnd(first)
	if text := s.withoutRequests(); !strings.Contains(text, "this process starts again") || !strings.Contains(text, "usage.db is damaged") {
		t.Error("the log does not say why the process ended")
	}
}

// Redis is away, and both processes write to their journals. Whichever of them is killed, and whenever, each
// 2xx is counted once when Redis is back.
func TestUpgradeInAnOutageLosesNothing(t *testing.T) {
	random := gatewaytest.NewRandom(t)
	for round := range gatewaytest.Times(3, 40) {
		redis := redistest.Start(t)
		between := redistest.StartFaultProxy(t, redis.Addr)
		s := startSuccession(t, between.URL(), gatewaytest.StartUpstream(t, "ok").URL, "")
		c, first := s.startCrowd(), s.pid()
		between.RefuseConnections(true)
		between.CutConnections()
		c.more(50)
		pause := time.Duration(random.IntN(400)) * time.Millisecond
		s.signal(first, syscall.SIGUSR2)
		switch round % 3 {
		case 0: // nobody is killed
			s.awaitNext()
			c.more(50)
		case 1: // the first process, while it finishes
			s.awaitNext()
			time.Sleep(pause)
			s.signal(first, syscall.SIGKILL)
			c.more(50)
		case 2: // the second one, at any time
			s.await("an upgrade begins", 1)
			time.Sleep(pause)
			var line struct {
				PID int `json:"new_pid"`
			}
			for text := range strings.Lines(s.text()) {
				if strings.Contains(text, "an upgrade begins") {
					json.Unmarshal([]byte(text), &line)
				}
			}
			s.signal(line.PID, syscall.SIGKILL)
			if !strings.Contains(s.text(), "the new process serves") {
				s.await("the upgrade failed", 1)
			}
		}
		c.end()
		between.Heal()
		if hasEnded(s.pid()) || round%3 == 2 { // nobody serves, or not for long
			for _, line := range s.serving() {
				syscall.Kill(line.PID, syscall.SIGKILL)
			}
			s.again()
		}
		if round%3 == 0 {
			s.awaitEnd(first)
			s.wantUsed(c.good.Load())
			testkit.Eventually(t, "one journal is left", func() bool {
				_, err := os.Stat(filepath.Join(s.dir, "journal", "journal.db.next"))
				return os.IsNotExist(err)
			})
			continue
		}
		// Requests whose answers were lost with the process may have been counted.
		testkit.EventuallyWithin(t, time.Minute, "all that clients saw is counted", func() bool { return s.used() >= c.good.Load() })
		if used := s.used(); used > c.good.Load()+c.failed.Load() {
			t.Errorf("%d used, and clients saw %d responses with 2xx and %d failures", used, c.good.Load(), c.failed.Load())
		}
	}
}
