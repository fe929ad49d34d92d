package documents

import (
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"

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

// runReadme runs a script of the README in a folder of its own and returns what it printed.
// The script must leave nothing behind that git would see in a clone.
func runReadme(t *testing.T, script string) (printed string) {
	t.Helper()
	p := newPastes(t)
	script = strings.ReplaceAll(script, "go build ./cmd/metergate\n", "")
	printed, state := p.run(script)
	if !state.Success() {
		t.Errorf("%v", state)
	}
	p.checkNothingLeft()
	return printed
}

// A gateway that cannot start ends the commands of the README with the reason.
func TestReadmeCommandsEndWithoutGateway(t *testing.T) {
	for _, script := range codeBlocks(t, "README.md", "sh") {
		if !strings.Contains(script, "go build") {
			continue
		}
		p := newPastes(t)
		taken := httptest.NewUnstartedServer(http.NotFoundHandler())
		defer taken.Close()
		taken.Listener.Close()
		var err error
		if taken.Listener, err = net.Listen("tcp", p.ports.Replace("127.0.0.1:8080")); err != nil {
			t.Fatal(err)
		}
		taken.Start()
		script = strings.ReplaceAll(script, "go build ./cmd/metergate\n", "")
		script = strings.ReplaceAll(script, "-wait 10s", "-wait 1s")
		printed, _ := p.run(script)
		for _, want := range []string{"address already in use", "not ready after 1s", "HTTP/1.1 404"} {
			if !strings.Contains(printed, want) {
				t.Errorf("no %q in:\n%s", want, printed)
			}
		}
		return
	}
	t.Error("the README has no block that builds the program")
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
	if got, want := strings.Join(seen, " "), "1/100 1/100 2/100 5/5000 6/5000 99/100 100/100 100/100"; got != want {
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
