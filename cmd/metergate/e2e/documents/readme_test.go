package documents

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

	"metergate/cmd/metergate/gatewaytest"
	"metergate/config"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// The commands of the README work as they are pasted into one shell, one block after the
// other. The test changes the ports, which may be taken here, and leaves the building out,
// which has been done.
func TestReadmeCommandsWork(t *testing.T) {
	var scripts []string
	for _, script := range codeBlocks(t, "README.md", "sh") {
		if strings.Contains(script, "curl") { // not the demo, which another test runs
			scripts = append(scripts, script)
		}
	}
	if len(scripts) != 2 || !strings.Contains(scripts[1], "redis-server") {
		t.Fatalf("%d blocks with curl, want 2, the second with Redis", len(scripts))
	}
	t.Run("embedded", func(t *testing.T) {
		checkReadmeOutput(t, runReadme(t, scripts[0]))
	})
	t.Run("redis", func(t *testing.T) {
		redistest.Start(t).Stop() // skips, or fails, where it is not installed
		out := runReadme(t, scripts[0]+"echo the second block\n"+scripts[1])
		first, second, _ := strings.Cut(out, "the second block\n")
		checkReadmeOutput(t, first)
		checkReadmeOutput(t, second)
	})
}

// The configurations of the README are valid.
func TestReadmeConfigurationIsValid(t *testing.T) {
	blocks := codeBlocks(t, "README.md", "yaml")
	if len(blocks) == 0 {
		t.Fatal("there is none")
	}
	for _, block := range blocks {
		_, err := config.Parse("README.md", []byte(block), func(name string) (string, bool) {
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

// runReadme runs a script of the README in a folder of its own and returns what it
// printed. It ends what the script leaves running.
func runReadme(t *testing.T, script string) (printed string) {
	dir := newFolder(t, "gateway.yaml")
	config := testkit.ReadFile(t, "gateway.yaml")
	ports := strings.NewReplacer(
		":8080", ":"+freePort(t), ":9090", ":"+freePort(t), ":9000", ":"+freePort(t), ":6379", ":"+freePort(t))
	testkit.WriteFile(t, filepath.Join(dir, "gateway.yaml"), ports.Replace(string(config)))
	script = ports.Replace(script)
	script = strings.ReplaceAll(script, "go build ./cmd/metergate\n", "")
	script = strings.ReplaceAll(script, "healthcheck ", "healthcheck -admin http://127.0.0.1"+ports.Replace(":9090")+" ")
	script = strings.ReplaceAll(script, "redis-server ", "redis-server --port "+strings.TrimPrefix(ports.Replace(":6379"), ":")+" ")
	cmd := exec.Command("bash", "-c", script)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// A file and no pipe: a pipe stays open until everything that the script started has
	// ended.
	output, err := os.Create(filepath.Join(dir, "printed"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill := func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	timeout := time.AfterFunc(time.Minute, kill)
	defer timeout.Stop()
	state, err := cmd.Process.Wait()
	kill()
	out, _ := os.ReadFile(output.Name())
	if err != nil || !state.Success() {
		t.Errorf("%v, error %v", state, err)
	}
	return string(out)
}

// checkReadmeOutput compares what a block of the README printed with the response that the
// README shows.
func checkReadmeOutput(t *testing.T, out string) {
	t.Helper()
	for _, want := range []string{"HTTP/1.1 200 OK", "X-Usage: 1/5000", `Ratelimit-Policy: "month";q=5000;w=`, `{"words":2,`} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in what was printed:\n%s", want, out)
		}
	}
	checkShownResponse(t, out)
}

// checkShownResponse compares the response that the README shows with one that was
// printed, but for what depends on the time of the run and for the request's id.
func checkShownResponse(t *testing.T, printed string) {
	t.Helper()
	changing := regexp.MustCompile(`(?m)\b(t|w)=\d+|^(Date|X-Request-Id|X-Ratelimit-Reset): .*`)
	rest, lines := changing.ReplaceAllString(strings.ReplaceAll(printed, "\r", ""), "$1$2"), 0
	for _, block := range codeBlocks(t, "README.md", "") {
		if !strings.HasPrefix(block, "HTTP/") {
			continue
		}
		for line := range strings.Lines(changing.ReplaceAllString(block, "$1$2")) {
			at := linePattern(strings.TrimSuffix(line, "\n")).FindStringIndex(rest)
			if at == nil {
				t.Fatalf("the README shows the line %s, and the command went on to print:\n%s", line, rest)
			}
			rest = rest[at[1]:]
			lines++
		}
	}
	if lines < 10 {
		t.Errorf("compared %d lines of a response", lines)
	}
}

func freePort(t *testing.T) string {
	_, port, _ := net.SplitHostPort(testkit.FreeAddress(t))
	return port
}

// The commands that the demo prints work when they are pasted, and its users have the
// counts that it names.
func TestDemoCommandsWork(t *testing.T) {
	demo := gatewaytest.Start(t, nil, "demo", "-listen", "127.0.0.1:0", "-data", t.TempDir())
	demo.WaitForText("Ctrl-C stops")
	var script []string
	for line := range strings.Lines(demo.Output()) {
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
	demo.Signal(syscall.SIGTERM)
	if demo.Wait() != 0 {
		t.Errorf("exit status %d", demo.Wait())
	}
}
