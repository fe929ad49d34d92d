// Package redistest runs real Redis servers for tests, each in a temporary folder on a free
// port: single ones, a cluster, and a master with a replica and Sentinels. A FaultProxy breaks
// the network between a client and a Redis at an exact step.
package redistest

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota/testkit"
)

const (
	// RequireEnv is the name of an environment variable. If it is set, a test fails where no
	// redis-server is installed, instead of being skipped. make test sets it.
	RequireEnv = "METERGATE_TEST_REQUIRE"
	// ServerEnv is the name of an environment variable: the path of the server that the tests
	// run, such as a valkey-server, instead of the redis-server that is installed.
	ServerEnv = "METERGATE_TEST_REDIS"
)

// A Server is one redis-server process. It ends with its test.
type Server struct {
	// Addr is HOST:PORT, on the loopback interface. It stays the same over Stop and Start.
	Addr string

	t    testing.TB
	dir  string
	args []string
	// conf is the configuration of a Sentinel; empty: the server is a Redis.
	conf string
	// password is for Do; empty: it does not authenticate.
	password string
	// authority is that of a server with TLS; nil: it has none.
	authority *Authority

	cmd  *exec.Cmd
	done chan struct{} // closed when cmd has ended
}

// Start runs a redis-server without persistence. The arguments, such as "--appendonly", "yes",
// come last on its command line. Where no redis-server is installed, the test is skipped, or
// fails if RequireEnv is set.
func Start(t testing.TB, args ...string) *Server {
	t.Helper()
	return (&Server{t: t, args: args}).launch(testkit.FreeAddress)
}

// launch starts a new server on an address that free finds.
func (s *Server) launch(free func(testing.TB) string) *Server {
	s.t.Helper()
	if _, err := exec.LookPath(program()); err != nil {
		if os.Getenv(RequireEnv) != "" || os.Getenv(ServerEnv) != "" {
			s.t.Fatalf("no Redis to run: %v", err)
		}
		s.t.Skip("redis-server is not installed")
	}
	s.dir = s.t.TempDir()
	s.t.Cleanup(s.Kill)
	// Another process may take the free port before redis-server does.
	var err error
	for range 10 {
		s.Addr = free(s.t)
		if err = s.start(); err == nil {
			return s
		}
	}
	if s.authority != nil && os.Getenv(ServerEnv) != "" && strings.Contains(err.Error(), "Bad directive") {
		s.t.Skipf("%s was built without TLS", program())
	}
	s.t.Fatalf("starting redis-server: %v", err)
	return nil
}

// program is the server that the tests run: a path, or a name to find in PATH.
func program() string {
	if path := os.Getenv(ServerEnv); path != "" {
		return path
	}
	return "redis-server"
}

// Needs skips the test if ServerEnv names a server that is older than a version of Redis, such as
// "6.2". Forks of Redis say which version they stand for. what is what the server lacks.
func (s *Server) Needs(t testing.TB, version, what string) {
	t.Helper()
	if s.Has(version) {
		return
	}
	got := s.info("INFO", "server")["redis_version"]
	if os.Getenv(ServerEnv) == "" {
		t.Fatalf("redis-server %s has no %s, which the test needs", got, what)
	}
	t.Skipf("%s stands for Redis %s, which has no %s: it came with Redis %s", program(), got, what, version)
}

// Has reports whether the server is of a version of Redis, such as "6.2", or of a later one.
func (s *Server) Has(version string) bool {
	return !olderVersion(s.info("INFO", "server")["redis_version"], version)
}

// olderVersion compares two versions, number by number.
func olderVersion(a, b string) bool {
	numbers := func(version string) (n []int) {
		for part := range strings.SplitSeq(version, ".") {
			number, _ := strconv.Atoi(part)
			n = append(n, number)
		}
		return n
	}
	return slices.Compare(numbers(a), numbers(b)) < 0
}

// TakeSlots gives a node of a cluster the slots from first to last.
func (s *Server) TakeSlots(first, last int) {
	s.t.Helper()
	args := []any{"CLUSTER", "ADDSLOTS"} // ADDSLOTSRANGE came with Redis 7
	for slot := first; slot <= last; slot++ {
		args = append(args, slot)
	}
	s.Do(args...)
}

// URL returns the URL of the server, as the configuration takes it.
func (s *Server) URL() string { return s.scheme() + "://" + s.Addr }

func (s *Server) scheme() string {
	if s.authority != nil {
		return "rediss"
	}
	return "redis"
}

// Start starts a stopped server again, on the same port with the same data.
func (s *Server) Start() {
	s.t.Helper()
	if err := s.start(); err != nil {
		s.t.Fatalf("starting redis-server again: %v", err)
	}
}

// Stop ends the server with SIGTERM, so that it can save its data.
func (s *Server) Stop() { s.end(syscall.SIGTERM) }

// Kill ends the server at once, as a crash would.
func (s *Server) Kill() { s.end(syscall.SIGKILL) }

// Pause stops the process without ending it: connections stay open, and nothing is answered.
// Resume lets it go on.
func (s *Server) Pause() {
	s.t.Helper()
	s.signal(syscall.SIGSTOP)
	testkit.Eventually(s.t, "every thread has stopped", func() bool { return !s.hasRunningThread() })
}

// hasRunningThread reports whether a thread of the process is not stopped. One thread takes the
// signal and stops the others, and until then they may reply. Without a /proc it is false.
func (s *Server) hasRunningThread() bool {
	stats, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", s.cmd.Process.Pid))
	return slices.ContainsFunc(stats, func(path string) bool {
		text, err := os.ReadFile(path)
		// The state follows the name, which is in parentheses.
		_, state, ok := bytes.Cut(text[bytes.LastIndexByte(text, ')')+1:], []byte(" "))
		return err == nil && ok && state[0] != 'T'
	})
}

// Resume ends a Pause.
func (s *Server) Resume() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := s.cmd.Process.Signal(sig); err != nil {
		s.t.Fatalf("%v to redis-server: %v", sig, err)
	}
}

func (s *Server) end(sig syscall.Signal) {
	if s.cmd == nil {
		return
	}
	s.cmd.Process.Signal(sig)
	<-s.done
	s.cmd = nil
}

// start runs the process and waits until it accepts connections.
func (s *Server) start() error {
	_, port, _ := net.SplitHostPort(s.Addr)
	settings := [][2]string{{"port", port}, {"bind", "127.0.0.1"}, {"dir", s.dir}}
	if s.authority != nil {
		settings = append([][2]string{{"port", "0"}, {"tls-port", port}}, append(settings[1:], s.authority.settings()...)...)
	}
	args, text := []string{}, ""
	for _, setting := range settings {
		args = append(args, "--"+setting[0], setting[1])
		text += setting[0] + " " + setting[1] + "\n"
	}
	args = append(append(args, "--save", "", "--daemonize", "no"), s.args...)
	if s.conf != "" {
		args = []string{filepath.Join(s.dir, "sentinel.conf"), "--sentinel"}
		text += s.conf
		if err := os.WriteFile(args[0], []byte(text), 0o600); err != nil {
			return err
		}
	}
	logPath := filepath.Join(s.dir, "redis.log")
	log, err := os.Create(logPath)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(program(), args...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() { cmd.Wait(); close(done) }()
	s.cmd, s.done = cmd, done
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		select {
		case <-done:
			text, _ := os.ReadFile(logPath)
			s.cmd = nil
			return fmt.Errorf("it ended:\n%s", text)
		default:
		}
		if s.pong() {
			return nil
		}
		time.Sleep(5 * time.Millisecond) // polling a process from outside
	}
	s.end(syscall.SIGKILL)
	return errors.New("no reply to PING within 30 s")
}

// ScriptCalls returns how many scripts and functions the server has been asked to run so far.
func (s *Server) ScriptCalls() int {
	s.t.Helper()
	conn, err := s.dial(10 * time.Second)
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "INFO commandstats\r\nQUIT\r\n")
	text, err := io.ReadAll(conn)
	if err != nil {
		s.t.Fatal(err)
	}
	total := 0
	for _, m := range regexp.MustCompile(`cmdstat_(?:eval|evalsha|fcall):calls=(\d+)`).FindAllSubmatch(text, -1) {
		n, _ := strconv.Atoi(string(m[1]))
		total += n
	}
	return total
}

// Do runs one command and returns the reply. An error fails the test.
func (s *Server) Do(args ...any) any {
	s.t.Helper()
	v, err := s.try(args...)
	if err != nil {
		s.t.Fatalf("%v to %s: %v", args, s.Addr, err)
	}
	return v
}

func (s *Server) try(args ...any) (v any, err error) {
	err = s.withConn(func(ctx context.Context, c *redis.Conn) (err error) {
		v, err = c.Do(ctx, args...).Result()
		return err
	})
	return v, err
}

// withConn calls use with a new connection.
func (s *Server) withConn(use func(context.Context, *redis.Conn) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	client := redis.NewClient(&redis.Options{
		Addr: s.Addr, Password: s.password, ContextTimeoutEnabled: true, MaxRetries: -1, DialerRetries: 1,
		DisableIdentity: true, Protocol: 2, ReadTimeout: 20 * time.Second,
		Dialer: func(context.Context, string, string) (net.Conn, error) { return s.dial(20 * time.Second) },
	})
	defer client.Close()
	conn := client.Conn()
	defer conn.Close()
	return use(ctx, conn)
}

// AwaitReplication waits until one replica has everything that this server has replied to. It
// writes a key beside key, in the same slot.
func (s *Server) AwaitReplication(key string) {
	s.t.Helper()
	err := s.withConn(func(ctx context.Context, c *redis.Conn) error {
		// WAIT waits for the writes of its own connection, and a replica takes all writes
		// in their order.
		if err := c.Set(ctx, key+":wait", 1, time.Minute).Err(); err != nil {
			return err
		}
		n, err := c.Wait(ctx, 1, 10*time.Second).Result()
		if err == nil && n < 1 {
			err = errors.New("no replica has it")
		}
		return err
	})
	if err != nil {
		s.t.Fatalf("waiting for the replica of %s: %v", s.Addr, err)
	}
}

// running reports whether the process runs, paused or not.
func (s *Server) running() bool { return s.cmd != nil }

// info returns the fields of one section of INFO, or of CLUSTER INFO.
func (s *Server) info(args ...any) map[string]string {
	text, _ := s.try(args...)
	fields := map[string]string{}
	for line := range strings.Lines(fmt.Sprint(text)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

func (s *Server) pong() bool {
	conn, err := s.dial(time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	fmt.Fprint(conn, "PING\r\n")
	line, _ := bufio.NewReader(conn).ReadString('\n')
	return strings.HasPrefix(line, "+PONG") || strings.HasPrefix(line, "-NOAUTH")
}

// dial connects to the server, for a time.
func (s *Server) dial(timeout time.Duration) (net.Conn, error) {
	conn, err := net.DialTimeout("tcp", s.Addr, timeout)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(timeout))
	if s.authority != nil {
		config := s.authority.ClientTLS(s.authority.Client)
		config.InsecureSkipVerify = true // the test may have given the server a bad certificate
		return tls.Client(conn, config), nil
	}
	return conn, nil
}
