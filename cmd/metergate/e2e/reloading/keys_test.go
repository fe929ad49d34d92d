package reloading

import (
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// jwksYAML is gatewaytest.ReloadYAML with another content of auth.jwt.
func jwksYAML(upstream string, limit int, auth string) string {
	text := gatewaytest.ReloadYAML(upstream, limit)
	before, rest, _ := strings.Cut(text, "auth: ")
	_, after, _ := strings.Cut(rest, "\n")
	return before + "auth: { jwt: { " + auth + " } }\n" + after
}

// A gateway whose key server is down starts, says what it waits for, and answers 503
// because it can verify no token. It becomes ready with the first keys, and stays ready
// when the key server goes away.
func TestKeyServerDownAtStart(t *testing.T) {
	upstream, key := gatewaytest.StartUpstream(t, "ok"), gatewaytest.StartKeyServer(t)
	key.Down.Store(true)
	g := gatewaytest.StartWith(t, jwksYAML(upstream.URL, 100, key.JWTSettings()))
	g.WaitForText("answers 502 Bad Gateway")
	if log := g.Output(); !strings.Contains(log, "the gateway is not ready") {
		t.Errorf("the log does not say that the gateway is not ready:\n%s", log)
	}
	if status, body := gatewaytest.Get(g.Admin+"/readyz", ""); status != 503 || !strings.Contains(body, `"status":"waiting"`) || !strings.Contains(body, `"jwks_url":"`+key.URL+` answers 502`) {
		t.Errorf("/readyz: %d %s", status, body)
	}
	if status, _ := gatewaytest.Get(g.Admin+"/livez", ""); status != 200 {
		t.Errorf("/livez: %d", status)
	}
	if code, _ := gatewaytest.Run(t, nil, "healthcheck", "-admin", g.Admin); code != 1 {
		t.Errorf("healthcheck: exit status %d, want 1", code)
	}
	req, _ := http.NewRequest("POST", g.URL+"/api/analyze", strings.NewReader("text"))
	req.Header.Set("Authorization", "Bearer "+key.Token("u"))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	var problem struct{ Type string }
	err = json.NewDecoder(res.Body).Decode(&problem)
	res.Body.Close()
	if res.StatusCode != 503 || res.Header.Get("Retry-After") != "1" || err != nil ||
		problem.Type != "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity" {
		t.Errorf("before the first keys: %v, problem %+v, error %v", res, problem, err)
	}
	if status, body := gatewaytest.Get(g.URL+"/usage", testkit.Token("u", "free")); status != 401 {
		t.Errorf("a bad token before the first keys: %d %s", status, body)
	}

	key.Down.Store(false)
	testkit.EventuallyWithin(t, time.Minute, "the gateway is ready", func() bool { status, _ := gatewaytest.Get(g.Admin+"/readyz", ""); return status == 200 })
	if status := gatewaytest.Post(http.DefaultClient, g.URL+"/api/analyze", key.Token("u")); status != 200 {
		t.Errorf("with keys, a request got %d", status)
	}
	key.CloseClientConnections()
	key.Close()
	if status, body := gatewaytest.Get(g.Admin+"/readyz", ""); status != 200 {
		t.Errorf("/readyz once the key server is gone: %d %s", status, body)
	}
	if status, body := gatewaytest.Get(g.URL+"/usage", key.Token("u")); status != 200 || !strings.Contains(body, `"used":1,`) {
		t.Errorf("GET /usage: %d %s", status, body)
	}
}

// A reload keeps the keys of the same URL. It fetches the keys of another URL before it
// changes anything, and fails if it cannot get them.
func TestReloadTakesOverKeys(t *testing.T) {
	upstream, a, b := gatewaytest.StartUpstream(t, "ok"), gatewaytest.StartKeyServer(t), gatewaytest.StartKeyServer(t)
	g := gatewaytest.StartWith(t, jwksYAML(upstream.URL, 100, a.JWTSettings()))
	testkit.EventuallyWithin(t, time.Minute, "ready", func() bool { status, _ := gatewaytest.Get(g.Admin+"/readyz", ""); return status == 200 })
	reload := func(text string, want int) string {
		t.Helper()
		g.Save(text)
		status, body := g.Reload(gatewaytest.AdminToken)
		if status != want {
			t.Fatalf("reload: %d %s", status, body)
		}
		return body
	}
	wants := func(token string, want int) {
		t.Helper()
		if status, body := gatewaytest.Get(g.URL+"/usage", token); status != want {
			t.Errorf("GET /usage: status %d: %s; want %d", status, body, want)
		}
	}
	wants(a.Token("u"), 200)
	wants(b.Token("u"), 401)

	a.Down.Store(true)
	reload(jwksYAML(upstream.URL, 101, a.JWTSettings()), 200)
	wants(a.Token("u"), 200)
	reload(jwksYAML(upstream.URL, 101, a.JWTSettings()+", leeway: 1s"), 200)
	wants(a.Token("u"), 200)
	if n := a.Requests.Load(); n != 1 {
		t.Errorf("the key server was asked %d times, want once", n)
	}

	b.Down.Store(true)
	body := reload(jwksYAML(upstream.URL, 5, b.JWTSettings()), 422)
	if !strings.Contains(body, "auth.jwt.jwks_url: its keys cannot be fetched") || !strings.Contains(body, "answers 502 Bad Gateway") {
		t.Errorf("the reload says %s", body)
	}
	wants(a.Token("u"), 200)
	wants(b.Token("u"), 401)
	if _, body := gatewaytest.Get(g.URL+"/usage", a.Token("u")); !strings.Contains(body, `"limit":101,`) {
		t.Errorf("after a reload that was refused: %s", body)
	}

	b.Down.Store(false)
	reload(jwksYAML(upstream.URL, 5, b.JWTSettings()), 200)
	wants(a.Token("u"), 401)
	wants(b.Token("u"), 200)
	if status, body := gatewaytest.Get(g.Admin+"/readyz", ""); status != 200 || !strings.Contains(body, `"jwks_url":"ok"`) {
		t.Errorf("/readyz: %d %s", status, body)
	}

	reload(jwksYAML(upstream.URL, 5, fmt.Sprintf("secret: %q", testkit.Secret)), 200)
	wants(b.Token("u"), 401)
	wants(testkit.Token("u", "free"), 200)
	if _, body := gatewaytest.Get(g.Admin+"/readyz", ""); strings.Contains(body, "jwks_url") {
		t.Errorf("/readyz: %s", body)
	}
}

func TestValidateOnlineAsksKeyServer(t *testing.T) {
	upstream, key := gatewaytest.StartUpstream(t, "ok"), gatewaytest.StartKeyServer(t)
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	testkit.WriteFile(t, file, jwksYAML(upstream.URL, 5, key.JWTSettings()))
	validate := func(args ...string) (int, string) {
		return gatewaytest.Run(t, nil, append([]string{"validate", "-config", file}, args...)...)
	}
	if code, out := validate(); code != 0 || key.Requests.Load() != 0 {
		t.Errorf("exit status %d, asked %d times:\n%s", code, key.Requests.Load(), out)
	}
	if code, out := validate("-online"); code != 0 || !strings.Contains(out, "auth.jwt.jwks_url ("+key.URL+"): ok") {
		t.Errorf("-online: exit status %d:\n%s", code, out)
	}
	key.Down.Store(true)
	if code, out := validate("-online"); code != 1 || !strings.Contains(out, "answers 502 Bad Gateway") {
		t.Errorf("-online, and down: exit status %d:\n%s", code, out)
	}
}
