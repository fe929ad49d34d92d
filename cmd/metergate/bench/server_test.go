package bench

import (
	"bytes"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A server is a process under load. It is killed when its test ends.
type server struct {
	name    string
	address string // HOST:PORT of the listener that the load goes to
	admin   string // URL of a gateway's admin listener; empty: it is no gateway
	pid     int
	redis   *server // the process of the Redis that only this server uses; nil: that is not measured
}

// url is the address of s as a proxy in front of it needs it.
func (s *server) url() string { return "http://" + s.address }

// startServer runs the command for an address to listen on, and waits until it accepts
// connections there. Its output goes to a file, like that of a service.
func startServer(t testing.TB, name string, command func(address string) *exec.Cmd) *server {
	t.Helper()
	printed := filepath.Join(t.TempDir(), "printed")
	// Another process may take a free port before the server uses it.
	for range 3 {
		s := &server{name: name, address: testkit.FreeAddress(t)}
		cmd := command(s.address)
		out, err := os.Create(printed)
		if err != nil {
			t.Fatal(err)
		}
		cmd.Stdout, cmd.Stderr = out, out
		err = cmd.Start()
		out.Close()
		if err != nil {
			t.Fatalf("starting %s: %v", name, err)
		}
		ended := make(chan struct{})
		go func() { cmd.Wait(); close(ended) }()
		s.pid = cmd.Process.Pid
		t.Cleanup(func() { cmd.Process.Kill(); <-ended })
		if accepts(s.address, ended) {
			return s
		}
		cmd.Process.Kill()
		<-ended
	}
	text, _ := os.ReadFile(printed)
	t.Fatalf("%s does not serve; it printed:\n%s", name, testkit.LastLines(string(text), 30))
	return nil
}

// accepts waits at most a minute until a connection can be made.
func accepts(address string, ended <-chan struct{}) bool {
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); {
		if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			conn.Close()
			return true
		}
		select {
		case <-ended:
			return false
		case <-time.After(5 * time.Millisecond): // polling a process from outside
		}
	}
	return false
}

// loadYAML is a configuration for gateways under load. The verbs are the limits of its
// only plan, and its routes. No limit is ever reached.
const loadYAML = `
listen: ${LISTEN}
shutdown_timeout: 30s
admin: { listen: "${ADMIN}", token: "` + gatewaytest.AdminToken + `" }
store: { url: "${STORE}", on_failure: "${ON_FAILURE:-deny}", timeout: "${STORE_TIMEOUT:-250ms}", journal: journal }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256] } }
default_plan: load
plans:
  load:
    attempts: { requests: 10000, per: second }
    limits:
%s
upstreams:
  analysis: { targets: [{ url: "${UPSTREAM}" }], timeout: 60s }
routes:
%s
log: { level: info }
`

// loadLimits are the limits that a plan under load can have. Most tests take the first
// two, like the plan of the example.
var loadLimits = []string{
	"per: month", "per: minute", "per: day", "per: hour", "per: week", "per: year",
	"per: month, endpoint: analyze", "per: day, endpoint: analyze",
}

// loadPaths returns the paths of n routes, all of the same endpoint.
func loadPaths(n int) []string {
	paths := []string{"/api/analyze"}
	for i := 1; i < n; i++ {
		paths = append(paths, fmt.Sprint("/api/analyze/", i))
	}
	return paths
}

// startLoaded runs a gateway with the first of loadLimits and with paths, and returns the
// file with its configuration.
func startLoaded(t testing.TB, name, store, upstream string, limits int, paths []string, env ...string) (_ *server, file string) {
	t.Helper()
	var plan, routes strings.Builder
	for _, l := range loadLimits[:limits] {
		fmt.Fprintf(&plan, "      - { requests: 1000000000, %s }\n", l)
	}
	for _, path := range paths {
		fmt.Fprintf(&routes, "  - { match: \"POST %s\", endpoint: analyze, upstream: analysis }\n", path)
	}
	return startConfigured(t, name, store, upstream, plan.String(), routes.String(), env...)
}

// startOnRedis runs a gateway as startLoaded does, on a Redis that only it uses.
func startOnRedis(t testing.TB, upstream string, env ...string) *server {
	t.Helper()
	redis := redistest.Start(t)
	s, _ := startLoaded(t, "metergate, Redis", redis.URL(), upstream, 2, loadPaths(1), env...)
	s.redis = processOf(t, redis)
	return s
}

// startConfigured runs a gateway with these limits and routes, in YAML, and returns the file with
// its configuration.
func startConfigured(t testing.TB, name, store, upstream, limits, routes string, env ...string) (_ *server, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, loadYAML, limits, routes), 0o600); err != nil {
		t.Fatal(err)
	}
	var admin string
	s := startServer(t, name, func(address string) *exec.Cmd {
		admin = testkit.FreeAddress(t)
		cmd := exec.Command(gatewaytest.Program(), "serve", "-config", file)
		cmd.Env = append(os.Environ(), "LISTEN="+address, "ADMIN="+admin, "STORE="+store, "UPSTREAM="+upstream)
		cmd.Env = append(cmd.Env, env...)
		return cmd
	})
	s.admin = "http://" + admin
	return s, file
}

// processOf is the process of a Redis.
func processOf(t testing.TB, redis *redistest.Server) *server {
	t.Helper()
	id := regexp.MustCompile(`process_id:(\d+)`).FindStringSubmatch(fmt.Sprint(redis.Do("INFO", "server")))
	if id == nil {
		t.Fatal("INFO has no process_id")
	}
	pid, err := strconv.Atoi(id[1])
	if err != nil {
		t.Fatal(err)
	}
	return &server{name: "redis-server", address: redis.Addr, pid: pid}
}

// cpu is the processor time that the process has used.
func (s *server) cpu(t testing.TB) time.Duration {
	t.Helper()
	used, err := processorTime(s.pid)
	if err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	return used
}

// redisCPU is the processor time that its Redis has used, if that is measured.
func (s *server) redisCPU(t testing.TB) time.Duration {
	if s.redis == nil {
		return 0
	}
	return s.redis.cpu(t)
}

var residentLine = regexp.MustCompile(`VmRSS:\s+(\d+) kB`)

// resident is how much of the process is in memory, in bytes.
func (s *server) resident(t testing.TB) float64 {
	t.Helper()
	kib := residentLine.FindStringSubmatch(s.proc(t, "status"))
	if kib == nil {
		t.Fatalf("%s has no VmRSS", s.name)
	}
	n, _ := strconv.ParseFloat(kib[1], 64)
	return n * 1024
}

// descriptors is how many files and sockets the process has open.
func (s *server) descriptors(t testing.TB) float64 {
	t.Helper()
	open, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", s.pid))
	if err != nil {
		t.Fatal(err)
	}
	return float64(len(open))
}

func (s *server) proc(t testing.TB, file string) string {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", s.pid, file))
	if err != nil {
		t.Fatalf("%s: %v", s.name, err)
	}
	return string(text)
}

// connectionsThatFit returns how many of the wanted connections a proxy can serve, each
// with one to the upstream, within the limit of open files. It raises that limit as far
// as this process may, and fails the test if less than half of the connections fit.
func connectionsThatFit(t testing.TB, wanted int) int {
	t.Helper()
	const others = 250 // listeners, Redis, logs
	need := uint64(2*wanted + others)
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		t.Fatal(err)
	}
	if limit.Max < need && syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: need, Max: need}) == nil {
		limit.Max = need
	}
	// Once set here, the limit is inherited by the processes that this one starts.
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit.Max, Max: limit.Max}); err != nil {
		t.Fatal(err)
	}
	fit := min(wanted, (int(limit.Max)-others)/2)
	if fit < wanted/2 {
		t.Fatalf("%d open files are allowed, too few for %d connections: run ulimit -n %d first", limit.Max, wanted, need)
	}
	if fit < wanted {
		t.Logf("%d connections instead of %d: only %d open files are allowed (ulimit -n)", fit, wanted, limit.Max)
	}
	return fit
}

// machine describes the machine and the programs that are measured.
func machine() string {
	cpu := "unknown processor"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		if m := regexp.MustCompile(`model name\s*: (.*)`).FindSubmatch(text); m != nil {
			cpu = string(m[1])
		}
	}
	kernel, _ := os.ReadFile("/proc/sys/kernel/osrelease")
	load, _ := os.ReadFile("/proc/loadavg")
	about := fmt.Sprintf("%d CPUs (%s), Linux %s, %s", runtime.NumCPU(), cpu, bytes.TrimSpace(kernel), runtime.Version())
	for _, ask := range [][]string{{"redis-server", "--version"}, {"nginx", "-v"}, {"haproxy", "-v"}, {"caddy", "version"}} {
		if out, err := exec.Command(ask[0], ask[1:]...).CombinedOutput(); err == nil {
			about += ", " + ask[0] + " " + regexp.MustCompile(`\d+\.\d+\.\d+`).FindString(string(out))
		}
	}
	return about + "; load average before: " + strings.Join(strings.Fields(string(load))[:1], "")
}

// hostOf returns the host and port of a URL.
func hostOf(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		panic(err)
	}
	return u.Host
}
