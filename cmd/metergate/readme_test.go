package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"metergate/config"
	"metergate/internal/testkit"
	"metergate/quota/redisstore/redistest"
)

var shellBlock = regexp.MustCompile("(?s)```sh\n(.*?)```")

// The README's commands work as they are pasted, but for the ports, which may be
// taken here, and the building, which has been done.
func TestREADME(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	ran := 0
	for _, block := range shellBlock.FindAllStringSubmatch(string(text), -1) {
		script := block[1]
		if !strings.Contains(script, "curl") {
			continue // the demo, which TestDemo runs
		}
		ran++
		name := "embedded"
		if strings.Contains(script, "redis-server") {
			name = "redis"
		}
		t.Run(name, func(t *testing.T) {
			if name == "redis" {
				redistest.Start(t).Stop() // skips, or fails, where it is not installed
			}
			runREADME(t, script)
		})
	}
	if ran != 2 {
		t.Errorf("%d blocks with curl, want 2", ran)
	}
}

// The README's configuration is a valid one.
func TestREADMEConfiguration(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Fatal("there is none")
	}
	for _, block := range blocks {
		_, err := config.Parse("README.md", block[1], func(name string) (string, bool) {
			if name == "JWT_SECRET" {
				return testkit.Secret, true
			}
			return "", false
		})
		if err != nil {
			t.Error(err)
		}
	}
}

func runREADME(t *testing.T, script string) {
	dir := t.TempDir()
	if err := os.Symlink(binary, filepath.Join(dir, "metergate")); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile("../../gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ports := strings.NewReplacer(
		":8080", ":"+freePort(t), ":9090", ":"+freePort(t), ":9000", ":"+freePort(t), ":6379", ":"+freePort(t))
	if err := os.WriteFile(filepath.Join(dir, "gateway.yaml"), []byte(ports.Replace(string(config))), 0o600); err != nil {
		t.Fatal(err)
	}
	script = ports.Replace(script)
	script = strings.ReplaceAll(script, "go build ./cmd/metergate\n", "")
	script = strings.ReplaceAll(script, "healthcheck;", "healthcheck -admin http://127.0.0.1"+ports.Replace(":9090")+";")
	script = strings.ReplaceAll(script, "redis-server ", "redis-server --port "+strings.TrimPrefix(ports.Replace(":6379"), ":")+" ")
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = dir
	// What the script leaves running ends with it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A file, and no pipe: what was written is there when the script has ended.
	printed, err := os.Create(filepath.Join(dir, "printed"))
	if err != nil {
		t.Fatal(err)
	}
	defer printed.Close()
	cmd.Stdout, cmd.Stderr = printed, printed
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	timeout := time.AfterFunc(time.Minute, kill)
	defer timeout.Stop()
	state, err := cmd.Process.Wait()
	kill()
	out, _ := os.ReadFile(printed.Name())
	if err != nil || !state.Success() {
		t.Errorf("%v, error %v", state, err)
	}
	for _, want := range []string{"HTTP/1.1 200 OK", "X-Usage: 1/5000", `Ratelimit-Policy: "month";q=5000;w=`, `{"words":2,`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in what was printed:\n%s", want, out)
		}
	}
}

func freePort(t *testing.T) string {
	_, port, _ := net.SplitHostPort(testkit.FreeAddress(t))
	return port
}

// The demo's lines work when pasted, and its users have what it says.
func TestDemo(t *testing.T) {
	demo := start(t, nil, "demo", "-listen", "127.0.0.1:0", "-data", t.TempDir())
	demo.until(func(text string) bool { return strings.Contains(text, "Ctrl-C stops") })
	var script []string
	for line := range strings.Lines(demo.output.String()) {
		if regexp.MustCompile(`^(curl|echo|for) `).MatchString(line) {
			script = append(script, line)
		}
	}
	out, err := exec.Command("bash", "-ec", strings.Join(script, "")).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var seen []string
	for _, m := range regexp.MustCompile(`(?m)^usage: (.*)$`).FindAllSubmatch(out, -1) {
		seen = append(seen, string(m[1]))
	}
	if got, want := strings.Join(seen, " "), "1/100 1/100 2/100 99/100 100/100 100/100"; got != want {
		t.Errorf("usage lines %q, want %q:\n%s", got, want, out)
	}
	for _, want := range []string{`"format":"png"`, `"used":2,`, `"status":429`, `"upgrade_url"`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %s in:\n%s", want, out)
		}
	}
	demo.signal(syscall.SIGTERM)
	<-demo.done
	if demo.code != 0 {
		t.Errorf("exit status %d", demo.code)
	}
}
