package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"metergate/internal/testkit"

	"github.com/rogpeppe/go-internal/testscript"
)

// binary is the program, built as users build it: without the race detector.
var binary string

func TestMain(m *testing.M) {
	// In a script, and only there, the test binary is the program.
	testscript.Main(buildFirst{m}, map[string]func(){"metergate": main})
}

// buildFirst builds the program before the tests run.
type buildFirst struct{ m *testing.M }

func (b buildFirst) Run() int {
	dir, err := os.MkdirTemp("", "metergate-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "metergate")
	if out, err := exec.Command("go", "build", "-o", binary, ".").CombinedOutput(); err != nil {
		panic("building the program: " + err.Error() + "\n" + string(out))
	}
	return b.m.Run()
}

// A process is one gateway, or one demo, of its own.
type process struct {
	t      testing.TB
	cmd    *exec.Cmd
	url    string // of the public listener
	admin  string
	output *output
	done   chan struct{}
	code   int // once done is closed
}

// output keeps what a process prints and lets tests wait for a line.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{}
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// until waits for text that find accepts.
func (p *process) until(find func(text string) bool) {
	p.t.Helper()
	deadline := time.After(60 * time.Second)
	for {
		p.output.mu.Lock()
		changed, text := p.output.changed, p.output.text.String()
		p.output.mu.Unlock()
		if find(text) {
			return
		}
		select {
		case <-changed:
		case <-p.done:
			if !find(p.output.String()) {
				p.t.Fatalf("the process ended with %d:\n%s", p.code, p.output)
			}
			return
		case <-deadline:
			p.t.Fatalf("not within 60 s; the process printed:\n%s", text)
		}
	}
}

// start runs the program. It is killed at the end of the test.
func start(t testing.TB, env []string, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command(binary, args...), output: &output{changed: make(chan struct{})}, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.cmd.Wait()
		p.code = p.cmd.ProcessState.ExitCode()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-p.done
		if t.Failed() {
			t.Logf("%s printed:\n%s", strings.Join(args, " "), testkit.LastLines(p.output.String(), 30))
		}
	})
	return p
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// serveYAML is a configuration on free ports; its variables come from the
// environment.
const serveYAML = `
listen: 127.0.0.1:0
shutdown_timeout: 30s
admin: { listen: 127.0.0.1:0 }
store: { url: "${STORE}", timeout: "${STORE_TIMEOUT:-250ms}", on_failure: "${ON_FAILURE:-deny}", journal: "${JOURNAL:-journal}" }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256] } }
default_plan: free
plans:
  free: { limits: [{ requests: 100, per: month }, { requests: 20, per: month, endpoint: image-analysis }] }
  enterprise: { limits: [] }
  tries: { attempts: { requests: 5, per: minute } }
upstreams:
  analysis: { targets: [{ url: "${UPSTREAM}" }], timeout: 60s }
routes:
  - { match: "POST /api/analyze",        endpoint: analyze,        upstream: analysis }
  - { match: "POST /api/image-analysis", endpoint: image-analysis, upstream: analysis }
  - { match: "GET /api/status",          upstream: analysis }
log: { level: "${LEVEL:-warn}" }
`

// patient is for tests that are about anything but time: on a busy machine Redis may
// not get a processor for a while.
const patient = "STORE_TIMEOUT=20s"

// startGateway runs a gateway with serveYAML and waits until it serves.
func startGateway(t testing.TB, store, upstream string, env ...string) *process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(file, []byte(serveYAML), 0o600); err != nil {
		t.Fatal(err)
	}
	env = append([]string{"STORE=" + store, "UPSTREAM=" + upstream, "LEVEL=info"}, env...)
	p := start(t, env, "serve", "-config", file)
	p.serving()
	return p
}

// serving waits until a gateway serves, and notes where.
func (p *process) serving() {
	p.t.Helper()
	p.until(func(text string) bool {
		lines := bufio.NewScanner(strings.NewReader(text))
		for lines.Scan() {
			var line struct{ Msg, Listen, Admin string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
				p.url, p.admin = "http://"+line.Listen, "http://"+line.Admin
				return true
			}
		}
		return false
	})
}

// get reads a URL with an optional token; status 0: no answer.
func get(url, token string) (status int, body string) {
	req, err := http.NewRequest("GET", url, nil)
	if err != nil {
		panic(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(text)
}
