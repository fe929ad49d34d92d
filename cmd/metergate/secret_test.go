package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"metergate/quota/redisstore/redistest"
)

const secretYAML = `
listen: 127.0.0.1:0
shutdown_timeout: 5s
admin: { listen: 127.0.0.1:0, token: "${ADMIN_TOKEN}" }
store: { url: "redis://${REDIS_USER}:${REDIS_PASSWORD}@${REDIS}/0", journal: journal, timeout: 100ms }
auth: { jwt: { secret: "${JWT_SECRET}", jwks_url: "${KEYS}?key=planted-5-of-the-key-server", algorithms: [HS256, RS256] } }
default_plan: free
plans: { free: { limits: [{ requests: 100, per: month }] } }
upstreams: { analysis: { targets: [{ url: "${UPSTREAM}" }] } }
routes:
  - { match: "POST /api/analyze", endpoint: analyze, upstream: analysis }
  - { match: "POST /api/{rest...}", upstream: analysis }
log: { level: debug }
`

// TestSecretsStayInside plants secrets wherever a gateway is given some, has it fail in
// all the ways that write about them, and looks for them in all that it says: its log,
// its answers, what its commands print and what ps shows.
func TestSecretsStayInside(t *testing.T) {
	const (
		jwtSecret  = "planted-1-jwt-secret-0123456789abcdef"
		adminToken = "planted-2-admin-token"
		password   = "planted-3-redis-password"
		guess      = "planted-4-guessed-admin-token"
		keysKey    = "planted-5-of-the-key-server"
	)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/api/cut" {
			panic(http.ErrAbortHandler)
		}
	}))
	defer upstream.Close()
	keys := httptest.NewServer(http.NotFoundHandler())
	defer keys.Close()
	redis := redistest.Start(t, "--requirepass", "another-password")
	dir := t.TempDir()
	file := filepath.Join(dir, "gateway.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(secretYAML)
	env := []string{"JWT_SECRET=" + jwtSecret, "ADMIN_TOKEN=" + adminToken, "METERGATE_ADMIN_TOKEN=" + adminToken,
		"REDIS_USER=default", "REDIS_PASSWORD=" + password, "REDIS=" + redis.Addr, "KEYS=" + keys.URL, "UPSTREAM=" + upstream.URL}
	var said strings.Builder
	command := func(args ...string) string {
		cmd := exec.Command(binary, args...)
		cmd.Env = append(os.Environ(), env...)
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	token := strings.TrimSpace(command("token", "-config", file, "-user", "alice"))
	if strings.Count(token, ".") != 2 {
		t.Fatalf("no token: %s", token)
	}
	signature := token[strings.LastIndexByte(token, '.')+1:]

	g := start(t, env, "serve", "-config", file)
	g.serving()
	call := func(method, url string, fields ...string) {
		t.Helper()
		req, err := http.NewRequest(method, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := 0; i < len(fields); i += 2 {
			req.Header.Set(fields[i], fields[i+1])
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		fmt.Fprintln(&said, res.Status, res.Header, string(body))
	}
	bearer := "Bearer " + token
	for range 3 { // the third finds the breaker open, perhaps
		call("POST", g.url+"/api/analyze", "Authorization", bearer)
	}
	call("GET", g.url+"/usage", "Authorization", bearer)
	call("POST", g.url+"/api/cut", "Authorization", bearer)
	call("POST", g.url+"/api/other?access_token="+token, "Authorization", bearer)
	call("POST", g.url+"/api/analyze", "Authorization", bearer+"x")
	call("POST", g.url+"/api/analyze", "Authorization", bearer+", "+token)
	call("POST", g.url+"/api/analyze", "Authorization", "Basic "+signature)
	call("POST", g.url+"/api/analyze?access_token="+token)
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		call("GET", g.admin+path)
	}
	for range 3 {
		call("GET", g.admin+"/admin/config", "Authorization", "Bearer "+guess)
	}
	call("GET", g.admin+"/admin/config", "Authorization", "Bearer "+adminToken)
	if !strings.Contains(said.String(), `"token":"[redacted]"`) || !strings.Contains(said.String(), `"default_plan":"free"`) {
		t.Error("GET /admin/config does not show the configuration")
	}
	for i, broken := range []string{
		strings.Replace(secretYAML, `"${JWT_SECRET}"`, jwtSecret[:30], 1),
		strings.Replace(secretYAML, `"${JWT_SECRET}"`, jwtSecret+","+jwtSecret, 1),
		strings.Replace(secretYAML, `"${JWT_SECRET}"`, jwtSecret+": "+jwtSecret, 1),
		strings.Replace(secretYAML, `"${JWT_SECRET}"`, "["+jwtSecret+"]", 1),
		strings.Replace(secretYAML, `"${JWT_SECRET}"`, "!"+jwtSecret, 1),
		strings.Replace(secretYAML, `secret: "${JWT_SECRET}"`, `secret_file: "${JWT_SECRET}"`, 1),
		strings.Replace(secretYAML, `"${ADMIN_TOKEN}"`, `"${ADMIN_TOKEN} with a blank"`, 1),
		strings.Replace(secretYAML, `@${REDIS}/0`, `@${REDIS}/zero`, 1),
		strings.Replace(secretYAML, `:${REDIS_PASSWORD}@`, `:${REDIS_PASSWORD}#%zz@`, 1),
		strings.Replace(secretYAML, `"redis://`, `"amqp://`, 1),
		strings.Replace(secretYAML, `${KEYS}`, `http://issuer.example/keys`, 1),
	} {
		write(broken)
		out := command("validate", "-config", file)
		if !strings.Contains(out, file+":") {
			t.Errorf("%d: not a fault: %s", i, out)
		}
		fmt.Fprintln(&said, out)
		call("POST", g.admin+"/admin/reload", "Authorization", "Bearer "+adminToken)
	}
	write(strings.Replace(secretYAML, "${KEYS}", "http://127.0.0.1:1/other", 1))
	call("POST", g.admin+"/admin/reload", "Authorization", "Bearer "+adminToken)
	fmt.Fprintln(&said, command("validate", "-config", file, "-online"))
	write(secretYAML)
	fmt.Fprintln(&said, command("validate", "-config", file, "-online"), command("healthcheck", "-config", file))
	if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", g.cmd.Process.Pid)); err == nil {
		said.Write(args)
	}
	g.signal(syscall.SIGTERM)
	<-g.done
	for what, text := range map[string]string{"the answers": said.String(), "the log": g.output.String()} {
		for _, planted := range []string{jwtSecret[:20], adminToken, password, guess, keysKey, signature} {
			if i := strings.Index(text, planted); i >= 0 {
				t.Errorf("%s: %s is in ...%s...", what, planted, text[max(0, i-300):min(len(text), i+300)])
			}
		}
	}
	if log := g.output.String(); !strings.Contains(log, "the store does not answer") && !strings.Contains(log, "cannot be reached") {
		t.Error("the store was to refuse the password")
	}
}
