package operating

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

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/apikeys"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

const secretYAML = `
listen: 127.0.0.1:0
shutdown_timeout: 5s
admin: { listen: 127.0.0.1:0, token: "${ADMIN_TOKEN}", viewer_token: "${VIEWER_TOKEN}" }
store: { url: "redis://${REDIS_USER}:${REDIS_PASSWORD}@${REDIS}/0", journal: journal, timeout: 100ms }
auth:
  jwt:
    - { name: app, issuer: app, secret: "${JWT_SECRET}", jwks_url: "${KEYS}?key=planted-5-of-the-key-server", algorithms: [HS256, RS256] }
    - { issuer: other, x509_url: "${KEYS}/certs?key=planted-5-of-the-key-server", algorithms: [RS256], plans: { gold: free }, require: { azp: [web] } }
  cookie: { name: session, origins: ["https://app.example.com"] }
  query_param: access_token
  api_keys: { file: keys.yaml }
default_plan: free
plans: { free: { limits: [{ requests: 100, per: month }] } }
upstreams: { analysis: { targets: [{ url: "${UPSTREAM}" }] } }
routes:
  - { match: "POST /api/analyze", endpoint: analyze, upstream: analysis }
  - { match: "POST /api/{rest...}", upstream: analysis }
  - { match: "GET /ws/{rest...}", upstream: analysis, upgrade: allow }
log: { level: debug }
`

// Secrets that the test plants: a gateway and its commands know them, or are told them by
// clients, and must never show them.
const (
	plantedJWTSecret  = "planted-1-jwt-secret-0123456789abcdef"
	plantedAdminToken = "planted-2-admin-token"
	plantedPassword   = "planted-3-redis-password"
	plantedGuess      = "planted-4-guessed-admin-token"
	plantedKeysKey    = "planted-5-of-the-key-server"
	plantedAPIKey     = "mg_planted6apikey0123456789"
	plantedBadAPIKey  = "mg_planted7unknownapikey0123456789"
	plantedCookie     = "planted-8-cookie"
	plantedQueryToken = "planted-9-query-token"

	plantedViewerToken = "planted-10-viewer-token"
)

// plantedKeyFile has the API key that is planted.
func plantedKeyFile() string {
	k := apikeys.NewKey(plantedAPIKey)
	k.ID, k.User = "ci-1", "alice"
	line, _ := k.FileLine()
	return line + "\n"
}

// A secretive is a gateway with planted secrets, and everything that it and its commands
// have said except for the log.
type secretive struct {
	*testing.T
	gateway *gatewaytest.Process
	file    string
	env     []string
	said    strings.Builder
}

// command runs the program and returns what it prints.
func (s *secretive) command(args ...string) string {
	cmd := exec.Command(gatewaytest.Program(), args...)
	cmd.Env = append(os.Environ(), s.env...)
	out, _ := cmd.CombinedOutput()
	return string(out)
}

// request sends a request with headers, names and values in turn, and keeps the response.
func (s *secretive) request(method, url string, headers ...string) {
	s.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		s.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.Fatal(err)
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	fmt.Fprintln(&s.said, res.Status, res.Header, string(body))
}

// A gateway with planted secrets fails in all the ways that write about them. None of the
// secrets shows in its log, in its responses, in what its commands print, or in ps.
func TestSecretsStayInside(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if got := fmt.Sprint(r.URL, r.Header["Cookie"], r.Header["X-Api-Key"], r.Header["Referer"]); strings.Contains(got, "planted") || strings.Contains(got, "session=") ||
			strings.Contains(got, "access_token") || strings.Contains(r.Header.Get("Authorization"), "mg_") {
			t.Errorf("the upstream got %s", got)
		}
		if r.URL.Path == "/api/cut" {
			panic(http.ErrAbortHandler)
		}
	}))
	defer upstream.Close()
	keys := httptest.NewServer(http.NotFoundHandler())
	defer keys.Close()
	redis := redistest.Start(t, "--requirepass", "another-password")
	s := &secretive{T: t, file: filepath.Join(t.TempDir(), "gateway.yaml"), env: []string{
		"JWT_SECRET=" + plantedJWTSecret, "ADMIN_TOKEN=" + plantedAdminToken, "VIEWER_TOKEN=" + plantedViewerToken, "METERGATE_ADMIN_TOKEN=" + plantedAdminToken,
		"REDIS_USER=default", "REDIS_PASSWORD=" + plantedPassword, "REDIS=" + redis.Addr, "KEYS=" + keys.URL, "UPSTREAM=" + upstream.URL}}
	testkit.WriteFile(t, s.file, secretYAML)
	keyFile := filepath.Join(filepath.Dir(s.file), "keys.yaml")
	testkit.WriteFile(t, keyFile, plantedKeyFile())
	token := strings.TrimSpace(s.command("token", "-config", s.file, "-user", "alice"))
	if strings.Count(token, ".") != 2 {
		t.Fatalf("no token: %s", token)
	}
	signature := token[strings.LastIndexByte(token, '.')+1:]
	s.gateway = gatewaytest.StartFile(t, s.env, s.file).Process

	s.sendTokens(token, signature)
	s.readAdminListener()
	s.loadBrokenFiles()
	s.loadBrokenKeyFiles(keyFile)
	if args, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", s.gateway.Cmd.Process.Pid)); err == nil {
		s.said.Write(args)
	}
	s.gateway.Signal(syscall.SIGTERM)
	s.gateway.Wait()
	for what, text := range map[string]string{"the responses": s.said.String(), "the log": s.gateway.Output()} {
		for _, planted := range []string{plantedJWTSecret[:20], plantedAdminToken, plantedPassword, plantedGuess, plantedKeysKey, signature,
			plantedAPIKey[3:], plantedBadAPIKey[3:], plantedCookie, plantedQueryToken, plantedViewerToken} {
			if i := strings.Index(text, planted); i >= 0 {
				t.Errorf("%s: %s is in ...%s...", what, planted, text[max(0, i-300):min(len(text), i+300)])
			}
		}
	}
	if log := s.gateway.Output(); !strings.Contains(log, "the gateway cannot count in the store") {
		t.Error("the store should have refused the password")
	}
}

// sendTokens sends good and bad tokens, in good and bad places.
func (s *secretive) sendTokens(token, signature string) {
	s.Helper()
	url, bearer := s.gateway.URL, "Bearer "+token
	for range 3 { // the third one may find the circuit breaker open
		s.request("POST", url+"/api/analyze", "Authorization", bearer)
	}
	s.request("GET", url+"/usage", "Authorization", bearer)
	s.request("POST", url+"/api/cut", "Authorization", bearer)
	s.request("POST", url+"/api/other?access_token="+token, "Authorization", bearer)
	s.request("POST", url+"/api/analyze", "Authorization", bearer+"x")
	s.request("POST", url+"/api/analyze", "Authorization", bearer+", "+token)
	s.request("POST", url+"/api/analyze", "Authorization", "Basic "+signature)
	s.request("POST", url+"/api/analyze?access_token="+token)
	const app, evil = "https://app.example.com", "https://evil.example"
	for _, origin := range []string{app, evil} {
		for _, cookie := range []string{token, plantedCookie, token + "; session=" + plantedCookie} {
			s.request("POST", url+"/api/cut", "Cookie", "session="+cookie, "Origin", origin)
			s.request("GET", url+"/usage", "Cookie", "session="+cookie, "Origin", origin)
		}
	}
	for _, key := range []string{plantedAPIKey, plantedBadAPIKey} {
		for _, path := range []string{"/api/analyze", "/api/cut", "/usage/track"} {
			s.request("POST", url+path, "X-API-Key", key)
			s.request("POST", url+path, "Authorization", "Bearer "+key)
		}
		s.request("POST", url+"/api/cut", "X-API-Key", plantedAPIKey, "Authorization", "Bearer "+key+"x")
		s.request("GET", url+"/ws/1?access_token="+key)
		s.request("GET", url+"/usage", "Cookie", "session="+key)
	}
	for _, query := range []string{"access_token=" + token, "access_token=" + plantedQueryToken, "access_token=%zz" + plantedQueryToken, "access_token=" + token + "&access_token=" + plantedQueryToken} {
		s.request("GET", url+"/ws/1?"+query, "Referer", app+"/?"+query)
		s.request("HEAD", url+"/usage/stream?"+query)
		s.request("GET", url+"/usage?"+query)
		s.request("GET", url+"/nowhere?"+query)
		s.request("GET", url+"/ws/%2e%2e?"+query)
	}
}

// loadBrokenKeyFiles puts a key into its file, in many places.
func (s *secretive) loadBrokenKeyFiles(file string) {
	s.Helper()
	good := plantedKeyFile()
	hash := good[strings.Index(good, "sha256:"):strings.Index(good, ", user")]
	for _, text := range []string{plantedAPIKey + "\n" + good, strings.Replace(good, hash, plantedAPIKey, 1), strings.Replace(good, "ci-1", plantedAPIKey, 1),
		strings.Replace(good, "alice", plantedAPIKey, 1), strings.Replace(good, "alice", "alice, plan: "+plantedAPIKey, 1),
		strings.Replace(good, "alice", "alice, expires: "+plantedAPIKey, 1), strings.Replace(good, "alice", "alice, "+plantedAPIKey+": x", 1),
		strings.Replace(good, "alice", "alice "+plantedAPIKey, 1), "- " + plantedAPIKey, "- id: a\n  hash: " + plantedAPIKey + ": x\n"} {
		testkit.WriteFile(s.T, file, text)
		out := s.command("validate", "-config", s.file)
		if !strings.Contains(out, file+":") {
			s.Errorf("this is taken for valid: %s", out)
		}
		fmt.Fprintln(&s.said, out)
		s.request("POST", s.gateway.Admin+"/admin/reload", "Authorization", "Bearer "+plantedAdminToken)
		s.request("GET", s.gateway.Admin+"/readyz")
	}
	testkit.WriteFile(s.T, file, good)
	s.request("POST", s.gateway.Admin+"/admin/reload", "Authorization", "Bearer "+plantedAdminToken)
	s.request("GET", s.gateway.Admin+"/admin/config", "Authorization", "Bearer "+plantedAdminToken)
	if !strings.Contains(s.said.String(), hash) {
		s.Error("GET /admin/config does not show the hash of the key")
	}
}

// readAdminListener reads everything that the admin listener shows.
func (s *secretive) readAdminListener() {
	s.Helper()
	url := s.gateway.Admin
	for _, path := range []string{"/livez", "/readyz", "/metrics"} {
		s.request("GET", url+path)
	}
	for range 3 {
		s.request("GET", url+"/admin/config", "Authorization", "Bearer "+plantedGuess)
	}
	s.request("GET", url+"/admin/config", "Authorization", "Bearer "+plantedAdminToken)
	s.request("POST", url+"/admin/reload", "Authorization", "Bearer "+plantedViewerToken)
	for _, path := range []string{"/admin/config", "/admin/audit"} {
		s.request("GET", url+path, "Authorization", "Bearer "+plantedViewerToken)
	}
	if !strings.Contains(s.said.String(), `"token":"[redacted]","viewer_token":"[redacted]"`) || !strings.Contains(s.said.String(), `"default_plan":"free"`) {
		s.Error("GET /admin/config does not show the configuration")
	}
}

// loadBrokenFiles validates and reloads configurations with faults in or near a secret.
func (s *secretive) loadBrokenFiles() {
	s.Helper()
	reload := func() {
		s.Helper()
		s.request("POST", s.gateway.Admin+"/admin/reload", "Authorization", "Bearer "+plantedAdminToken)
	}
	for _, edit := range [][2]string{
		{`"${JWT_SECRET}"`, plantedJWTSecret[:30]},
		{`"${JWT_SECRET}"`, plantedJWTSecret + "," + plantedJWTSecret},
		{`"${JWT_SECRET}"`, plantedJWTSecret + ": " + plantedJWTSecret},
		{`"${JWT_SECRET}"`, "[" + plantedJWTSecret + "]"},
		{`"${JWT_SECRET}"`, "!" + plantedJWTSecret},
		{`secret: "${JWT_SECRET}"`, `secret_file: "${JWT_SECRET}"`},
		{`"${ADMIN_TOKEN}"`, `"${ADMIN_TOKEN} with a blank"`},
		{`"${VIEWER_TOKEN}"`, `"${ADMIN_TOKEN}"`},
		{`@${REDIS}/0`, `@${REDIS}/zero`},
		{`:${REDIS_PASSWORD}@`, `:${REDIS_PASSWORD}#%zz@`},
		{`"redis://`, `"amqp://`},
		{`${KEYS}`, `http://issuer.example/keys`},
	} {
		testkit.WriteFile(s.T, s.file, strings.Replace(secretYAML, edit[0], edit[1], 1))
		out := s.command("validate", "-config", s.file)
		if !strings.Contains(out, s.file+":") {
			s.Errorf("%s instead of %s is taken for valid: %s", edit[1], edit[0], out)
		}
		fmt.Fprintln(&s.said, out)
		reload()
	}
	testkit.WriteFile(s.T, s.file, strings.Replace(secretYAML, "${KEYS}", "http://127.0.0.1:1/other", 1))
	reload()
	fmt.Fprintln(&s.said, s.command("validate", "-config", s.file, "-online"))
	testkit.WriteFile(s.T, s.file, secretYAML)
	fmt.Fprintln(&s.said, s.command("validate", "-config", s.file, "-online"), s.command("healthcheck", "-config", s.file))
}
