package operating

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

const damageYAML = `
listen: 127.0.0.1:0
admin: { listen: "127.0.0.1:0" }
store: { url: "${STORE}", journal: "${JOURNAL:-unused}", on_failure: "${ON_FAILURE:-allow}" }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256] } }
default_plan: free
plans: { free: { limits: [{ requests: 100, per: month }] } }
upstreams: { analysis: { targets: [{ url: "${UPSTREAM}" }] } }
routes: [{ match: "POST /api/analyze", endpoint: analyze, upstream: analysis }]
`

// A damaged file, of the store or of the journal, ends the start with status 1 and one line that
// names the file and the cure.
func TestStartRefusesDamagedFile(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	redis := redistest.Start(t).URL()
	for name, files := range map[string]struct{ store, journal, damaged string }{
		"usage.db":   {"embedded:DIR", "DIR/unused", "usage.db"},
		"journal.db": {redis, "DIR", "journal.db"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			inDir := func(s string) string { return strings.ReplaceAll(s, "DIR", dir) }
			config := filepath.Join(t.TempDir(), "gateway.yaml")
			testkit.WriteFile(t, config, damageYAML)
			env := []string{"STORE=" + inDir(files.store), "JOURNAL=" + inDir(files.journal), "UPSTREAM=" + upstream.URL}
			g := gatewaytest.StartFile(t, env, config)
			for range 20 {
				gatewaytest.Post(http.DefaultClient, g.URL+"/api/analyze", testkit.Token("u", "free"))
			}
			g.Signal(syscall.SIGTERM)
			g.Wait()
			path := filepath.Join(dir, files.damaged)
			whole, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			for what, size := range map[string]int{"cut to half": len(whole) / 2, "cut to three pages": 3 * os.Getpagesize(), "cut to a page": os.Getpagesize()} {
				data := whole[:size]
				if what == "cut to half" { // the second half has nothing but free pages
					data = append(make([]byte, 0, size), whole[:4*os.Getpagesize()]...)
					data = append(data, make([]byte, size-len(data))...)
				}
				if err := os.WriteFile(path, data, 0o600); err != nil {
					t.Fatal(err)
				}
				code, output := gatewaytest.Run(t, env, "serve", "-config", config)
				lines := strings.Split(strings.TrimSpace(output), "\n")
				if code != 1 || len(lines) != 1 || !strings.Contains(output, path+" is damaged") || !strings.Contains(output, "move it away") {
					t.Errorf("%s: exit status %d, output:\n%s\nwant status 1, and one line with the file and the cure", what, code, output)
				}
			}
		})
	}
}

// A usage.db that is damaged while the gateway serves is a store that does not answer: on_failure
// says what happens to requests, and the log names the file.
func TestDamageWhileServingIsAnOutage(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	for onFailure, want := range map[string]int{"allow": 200, "deny": 503} {
		t.Run(onFailure, func(t *testing.T) {
			dir, config := t.TempDir(), filepath.Join(t.TempDir(), "gateway.yaml")
			testkit.WriteFile(t, config, damageYAML)
			g := gatewaytest.StartFile(t, []string{"STORE=embedded:" + dir, "UPSTREAM=" + upstream.URL, "ON_FAILURE=" + onFailure}, config)
			post := func(user string) int {
				return gatewaytest.Post(http.DefaultClient, g.URL+"/api/analyze", testkit.Token(user, "free"))
			}
			for range 20 {
				if status := post("u"); status != 200 {
					t.Fatalf("before: %d", status)
				}
			}
			path := filepath.Join(dir, "usage.db")
			file, err := os.OpenFile(path, os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			info, err := file.Stat()
			if err != nil {
				t.Fatal(err)
			}
			begin := int64(2 * os.Getpagesize())
			if _, err := file.WriteAt(make([]byte, info.Size()-begin), begin); err != nil {
				t.Fatal(err)
			}
			for range 20 {
				for _, user := range []string{"u", "v"} {
					if status := post(user); status != want {
						t.Errorf("%s after the damage: %d, want %d", user, status, want)
					}
				}
			}
			g.WaitForText("the gateway cannot count in the store")
			g.Signal(syscall.SIGTERM)
			if code := g.Wait(); code != 1 {
				t.Errorf("exit status %d, want 1", code)
			}
			if log := g.Output(); !strings.Contains(log, path+" is damaged") || strings.Contains(log, "goroutine ") {
				t.Errorf("the log does not name %s, or has a stack trace:\n%s", path, testkit.LastLines(log, 20))
			}
		})
	}
}
