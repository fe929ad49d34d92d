// Package gatewaytest runs the program metergate as a process of its own and talks to
// it as its users do. The tests of whole processes share it:
//
//	process.go     start a process, read its output, stop it
//	gateway.go     gateways with ready-made configurations
//	tls.go         gateways behind TLS, certificates, clients that trust them
//	client.go      requests to the public listener and to the admin API
//	metrics.go     what a gateway's metrics and the system say about it
//	http2.go       a client that sends any HTTP/2 frames
//	keyserver.go   an issuer that signs tokens and publishes its key
//	workload.go    requests of all kinds, and a record of how they must be counted
//	flags.go       flags of the tests
//
// A package of tests has to call [Main] in its TestMain.
package gatewaytest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"metergate/quota/testkit"
)

var (
	program         string
	dependOnProgram sync.Once
)

// Program is the path of the program, which [Main] has built as users build it: without
// the race detector.
func Program() string {
	if program == "" {
		panic("gatewaytest: TestMain must call gatewaytest.Main")
	}
	return program
}

// Main builds the program, runs the tests of a package and exits.
func Main(m *testing.M) { os.Exit(Build(m).Run()) }

// Build returns a value that builds the program and then runs the tests. It is [Main]
// for a TestMain that calls testscript.Main.
func Build(m *testing.M) interface{ Run() int } { return buildFirst{m} }

type buildFirst struct{ m *testing.M }

func (b buildFirst) Run() int {
	dir, err := os.MkdirTemp("", "metergate-test-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // another user may have to run the program
		panic(err)
	}
	program = filepath.Join(dir, "metergate")
	if out, err := exec.Command("go", "build", "-o", program, "metergate/cmd/metergate").CombinedOutput(); err != nil {
		panic("building the program: " + err.Error() + "\n" + string(out))
	}
	return b.m.Run()
}

// A Process is one run of the program.
type Process struct {
	T     testing.TB
	Cmd   *exec.Cmd
	URL   string // of a gateway's public listener, once it serves
	Admin string // URL of its admin listener, once it serves

	output output
	done   chan struct{}
	code   int // once done is closed
}

// Start runs the program with arguments, and with env in addition to the environment
// of the test. The process is killed when the test ends. If the test has failed, its log
// gets the last lines that the process printed.
func Start(t testing.TB, env []string, args ...string) *Process {
	t.Helper()
	cmd := exec.Command(Program(), args...)
	cmd.Env = append(os.Environ(), env...)
	return StartCommand(t, cmd)
}

// StartCommand is [Start] for a command that runs the program in a way of its own: as
// another user, or with limits. The command must become the program, by exec.
func StartCommand(t testing.TB, cmd *exec.Cmd) *Process {
	t.Helper()
	dependOnProgram.Do(func() { testkit.DependOn(t, "cmd/metergate", "config", "proxy", "quota") })
	p := &Process{T: t, Cmd: cmd, output: output{changed: make(chan struct{})}, done: make(chan struct{})}
	p.Cmd.Stdout, p.Cmd.Stderr = &p.output, &p.output
	if err := p.Cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		p.Cmd.Wait()
		p.code = p.Cmd.ProcessState.ExitCode()
		close(p.done)
	}()
	t.Cleanup(func() {
		p.Kill()
		if t.Failed() {
			t.Logf("%s printed:\n%s", strings.Join(cmd.Args[1:], " "), testkit.LastLines(p.Output(), 30))
		}
	})
	return p
}

// Run runs the program to its end, and returns its exit status and what it printed.
func Run(t testing.TB, env []string, args ...string) (code int, output string) {
	t.Helper()
	p := Start(t, env, args...)
	return p.Wait(), p.Output()
}

// Restart runs the program once more with the arguments and the environment of p, which
// must have ended, and waits until it serves.
func (p *Process) Restart() *Process {
	p.T.Helper()
	again := Start(p.T, p.Cmd.Env, p.Cmd.Args[1:]...)
	again.WaitUntilServing()
	return again
}

// Wait waits until the process has ended, and returns its exit status; -1 if a signal
// ended it.
func (p *Process) Wait() int {
	<-p.done
	return p.code
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Signal sends the process a signal.
func (p *Process) Signal(s syscall.Signal) {
	p.T.Helper()
	if err := p.Cmd.Process.Signal(s); err != nil {
		p.T.Fatal(err)
	}
}

// Kill ends the process at once, without a graceful shutdown, and waits until it has
// ended. Several goroutines may call it.
func (p *Process) Kill() {
	p.Cmd.Process.Kill()
	<-p.done
}

// Output returns what the process has printed so far.
func (p *Process) Output() string {
	text, _ := p.output.read()
	return text
}

// TakeOutput returns what the process has printed, and forgets all but the last lines,
// which [Start] shows when the test fails.
func (p *Process) TakeOutput() string { return p.output.take() }

// WaitForText waits until the process has printed a text.
func (p *Process) WaitForText(want string) {
	p.T.Helper()
	p.WaitForOutput(func(text string) bool { return strings.Contains(text, want) })
}

// WaitForOutput waits until accept is true for what the process has printed.
func (p *Process) WaitForOutput(accept func(text string) bool) {
	p.T.Helper()
	deadline := time.After(time.Minute)
	for {
		text, changed := p.output.read()
		if accept(text) {
			return
		}
		select {
		case <-changed:
		case <-p.done:
			if !accept(p.Output()) {
				p.T.Fatalf("the process ended with exit status %d; it printed:\n%s", p.code, p.Output())
			}
			return
		case <-deadline:
			p.T.Fatalf("not within 60 s; the process printed:\n%s", text)
		}
	}
}

// WaitUntilServing waits until a gateway serves, and sets URL and Admin from its log.
func (p *Process) WaitUntilServing() {
	p.T.Helper()
	p.WaitForOutput(func(text string) bool {
		for lines := bufio.NewScanner(strings.NewReader(text)); lines.Scan(); {
			var line struct{ Msg, Listen, Admin string }
			if json.Unmarshal(lines.Bytes(), &line) == nil && line.Msg == "serving" {
				p.URL, p.Admin = "http://"+line.Listen, "http://"+line.Admin
				return true
			}
		}
		return false
	})
}

// output collects what a process prints. Its methods may be called at any time.
type output struct {
	mu      sync.Mutex
	text    bytes.Buffer
	changed chan struct{} // closed and replaced by each Write
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	close(o.changed)
	o.changed = make(chan struct{})
	return o.text.Write(p)
}

// read returns the text, and a channel that is closed when there is more.
func (o *output) read() (text string, changed <-chan struct{}) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String(), o.changed
}

func (o *output) take() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	text := o.text.String()
	o.text = *bytes.NewBufferString(testkit.LastLines(text, 30))
	return text
}
