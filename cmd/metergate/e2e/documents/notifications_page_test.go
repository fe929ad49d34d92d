package documents

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

const notificationsPage = "docs/notifications.md"

// The receivers of the page accept what the gateway has signed, and nothing else.
func TestNotificationsPageHasReceiversThatVerify(t *testing.T) {
	root := testkit.ModuleRoot(t)
	for name, start := range map[string]func(t *testing.T, dir, addr string) *exec.Cmd{
		"Node.js": func(t *testing.T, dir, addr string) *exec.Cmd {
			node, modules := findProgram(t, "node"), filepath.Join(root, ".ci/npm/node_modules")
			needsFile(t, filepath.Join(modules, "standardwebhooks"))
			if err := os.Symlink(modules, filepath.Join(dir, "node_modules")); err != nil {
				t.Fatal(err)
			}
			testkit.WriteFile(t, filepath.Join(dir, "receiver.mjs"), codeBlocks(t, notificationsPage, "js")[0])
			cmd := exec.Command(node, "receiver.mjs")
			_, port, _ := net.SplitHostPort(addr)
			cmd.Env = append(os.Environ(), "PORT="+port)
			return cmd
		},
		"Python": func(t *testing.T, dir, addr string) *exec.Cmd {
			needsFile(t, "/usr/lib/python3/dist-packages/flask")
			testkit.WriteFile(t, filepath.Join(dir, "receiver.py"), codeBlocks(t, notificationsPage, "python")[0])
			_, port, _ := net.SplitHostPort(addr)
			cmd := exec.Command("/usr/bin/python3", "-u", "-m", "flask", "--app", "receiver", "run", "--port", port)
			// The module of Go has the library for Python as well.
			library, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/standard-webhooks/standard-webhooks/libraries").Output()
			if err != nil {
				t.Fatal(err)
			}
			cmd.Env = append(os.Environ(), "PYTHONDONTWRITEBYTECODE=1", "PYTHONPATH="+filepath.Join(strings.TrimSpace(string(library)), "python"))
			return cmd
		},
		"Go": func(t *testing.T, dir, addr string) *exec.Cmd {
			file, program := filepath.Join(dir, "receiver.go"), filepath.Join(dir, "receiver")
			testkit.WriteFile(t, file, strings.Replace(codeBlocks(t, notificationsPage, "go")[0], "127.0.0.1:3000", addr, 1))
			build := exec.Command("go", "build", "-o", program, file)
			build.Dir = root
			if out, err := build.CombinedOutput(); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			cmd := exec.Command(program)
			cmd.Env = os.Environ()
			return cmd
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir, addr := t.TempDir(), testkit.FreeAddress(t)
			const secret, other = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "whsec_b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xk"
			cmd := start(t, dir, addr)
			cmd.Dir, cmd.Env = dir, append(cmd.Env, "WEBHOOK_SECRET="+secret)
			log := filepath.Join(dir, "log")
			out, err := os.Create(log)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			cmd.Stdout, cmd.Stderr = out, out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			defer cmd.Wait()
			defer cmd.Process.Kill()
			testkit.EventuallyWithin(t, time.Minute, "the receiver listens", func() bool {
				conn, err := net.Dial("tcp", addr)
				if err == nil {
					conn.Close()
				}
				return err == nil
			})
			file := filepath.Join(dir, "gateway.yaml")
			for _, c := range []struct {
				secret string
				code   int
				says   string
			}{{secret, 0, "answered 204 "}, {other + " " + secret, 0, "answered 204 "}, {other, 1, "it answers 401 "}} {
				testkit.WriteFile(t, file, fmt.Sprintf("notify: { url: \"http://%s/metergate\", secret: %q }\n", addr, c.secret))
				if code, text := gatewaytest.Run(t, nil, "notify", "-test", "-config", file); code != c.code || !strings.Contains(text, c.says) {
					t.Errorf("signed with %s: exit status %d, %s", c.secret, code, text)
				}
			}
			testkit.Eventually(t, "the receiver prints both events", func() bool {
				text, err := os.ReadFile(log)
				return err == nil && strings.Count(string(text), "usage.test") == 2
			})
		})
	}
}

// needsFile skips the test, or fails it where all tests must run, if a file is not installed.
func needsFile(t *testing.T, file string) {
	t.Helper()
	if _, err := os.Stat(file); err == nil {
		return
	} else if os.Getenv(redistest.RequireEnv) != "" {
		t.Fatal(err)
	} else {
		t.Skip("run .ci/install: ", err)
	}
}
