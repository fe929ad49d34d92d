package reloading

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/apikeys"
	"metergate/quota/testkit"
)

// newAPIKey makes a key with the program, and returns it and its line of the file.
func newAPIKey(t *testing.T, args ...string) (key, line string) {
	t.Helper()
	code, out := gatewaytest.Run(t, nil, append([]string{"key"}, args...)...)
	key, line, ok := strings.Cut(out, "\n")
	if code != 0 || !ok || !apikeys.IsKey(key) {
		t.Fatalf("exit status %d: %s", code, out)
	}
	return key, strings.TrimSpace(line)
}

// askWithKey sends GET /usage with an API key, and returns the status.
func askWithKey(t *testing.T, g *gatewaytest.Process, key string) int {
	t.Helper()
	req, _ := http.NewRequest("GET", g.URL+"/usage", nil)
	req.Header.Set("X-API-Key", key)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	return res.StatusCode
}

// apiKeysYAML is gatewaytest.ReloadYAML with a file of API keys. tokens says whether tokens are
// accepted as well.
func apiKeysYAML(upstream, file string, tokens bool) string {
	text := gatewaytest.ReloadYAML(upstream, 100)
	if tokens {
		return strings.Replace(text, "algorithms: [HS256] }", "algorithms: [HS256] }, api_keys: { file: "+file+" }", 1)
	}
	before, rest, _ := strings.Cut(text, "auth: ")
	_, after, _ := strings.Cut(rest, "\n")
	return before + "auth: { api_keys: { file: " + file + " } }\n" + after
}

// The file of the API keys is watched. A key is good once it is saved, and no longer once its line
// is gone, also for a stream that is open. A broken file keeps the previous keys and is reported.
func TestAPIKeysFollowTheirFile(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	first, firstLine := newAPIKey(t, "-user", "u-17", "-id", "first")
	second, secondLine := newAPIKey(t, "-user", "u-17", "-id", "second", "-plan", "enterprise", "-expires", "2999-12-31")
	// As in a ConfigMap: the file is a link into a folder that is replaced as a whole.
	dir := t.TempDir()
	generation := 0
	save := func(text string) {
		t.Helper()
		generation++
		data := fmt.Sprintf("..data-%d", generation)
		if err := os.Mkdir(filepath.Join(dir, data), 0o700); err != nil {
			t.Fatal(err)
		}
		testkit.WriteFile(t, filepath.Join(dir, data, "keys.yaml"), text)
		link := filepath.Join(dir, "..data-new")
		if err := os.Symlink(data, link); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
			t.Fatal(err)
		}
	}
	save(firstLine + "\n")
	file := filepath.Join(dir, "keys.yaml")
	if err := os.Symlink("..data/keys.yaml", file); err != nil {
		t.Fatal(err)
	}
	g := gatewaytest.StartWith(t, apiKeysYAML(upstream.URL, file, false))
	becomes := func(key string, status int) {
		t.Helper()
		testkit.Eventually(t, fmt.Sprintf("a request with the key gets %d", status), func() bool { return askWithKey(t, g.Process, key) == status })
	}
	metric := func() bool {
		_, text := gatewaytest.Get(g.Admin+"/metrics", "")
		return strings.Contains(text, "\nmetergate_config_last_reload_successful 1\n")
	}
	becomes(first, 200)
	if status := askWithKey(t, g.Process, second); status != 401 {
		t.Fatalf("a key that is not in the file gets %d", status)
	}
	req, _ := http.NewRequest("GET", g.URL+"/usage/stream", nil)
	req.Header.Set("Authorization", "Bearer "+first)
	stream, err := http.DefaultClient.Do(req)
	if err != nil || stream.StatusCode != 200 {
		t.Fatal(stream, err)
	}
	defer stream.Body.Close()

	save("# both, to replace one by the other\n" + firstLine + "\n" + secondLine + "\n")
	becomes(second, 200)
	becomes(first, 200)
	status, body := gatewaytest.Get(g.Admin+"/admin/config", gatewaytest.AdminToken)
	var shown struct {
		Auth struct {
			Keys struct {
				Count int
				Keys  []struct{ ID, Hash, User, Plan, Expires string }
			} `json:"api_keys"`
		}
	}
	if err := json.Unmarshal([]byte(body), &shown); err != nil || status != 200 || shown.Auth.Keys.Count != 2 ||
		fmt.Sprint(shown.Auth.Keys.Keys[1]) != fmt.Sprint(struct{ ID, Hash, User, Plan, Expires string }{"second", hashOf(second), "u-17", "enterprise", "2999-12-31"}) {
		t.Errorf("/admin/config: %d %v %s", status, err, body)
	}

	save(secondLine + "\nsomething else\n")
	g.WaitForText("keys.yaml:2: must begin with a hyphen")
	if status, body := gatewaytest.Get(g.Admin+"/readyz", ""); status != 200 || !strings.Contains(body, "keys.yaml:2: must begin with a hyphen") || metric() {
		t.Errorf("/readyz: %d %s", status, body)
	}
	becomes(first, 200)
	becomes(second, 200)

	save(secondLine + "\n")
	becomes(first, 401)
	becomes(second, 200)
	testkit.Eventually(t, "the reload is reported as successful", metric)
	ended := false
	for lines := bufio.NewScanner(stream.Body); lines.Scan(); {
		ended = ended || lines.Text() == `data: {"reason":"reload"}`
	}
	if !ended {
		t.Error("the stream of the key that was removed did not end with the reason")
	}
	if strings.Contains(g.Output(), first[10:]) || strings.Contains(g.Output(), second[10:]) {
		t.Error("the log has a key")
	}

	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	g.WaitForText("auth.api_keys.file: cannot read this file")
	becomes(second, 200)
}

func hashOf(key string) string { k := apikeys.NewKey(key); return k.HashText() }

// A reload turns API keys, tokens, cookies and query tokens on and off.
func TestReloadTurnsCredentialsOnAndOff(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	key, line := newAPIKey(t, "-user", "u-17")
	file := filepath.Join(t.TempDir(), "keys.yaml")
	testkit.WriteFile(t, file, line)
	g := gatewaytest.StartReloadable(t, upstream.URL)
	token := testkit.Token("u-17", "free")
	ask := func(path string, headers ...string) int {
		req, _ := http.NewRequest("HEAD", g.URL+path, nil)
		for i := 0; i < len(headers); i += 2 {
			req.Header.Set(headers[i], headers[i+1])
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	check := func(what string, header, apiKey, cookie, query int) {
		t.Helper()
		got := []int{ask("/usage", "Authorization", "Bearer "+token), ask("/usage", "X-API-Key", key),
			ask("/usage", "Cookie", "session="+token), ask("/usage/stream?access_token=" + token)}
		if want := []int{header, apiKey, cookie, query}; fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s: got %v, want %v", what, got, want)
		}
	}
	reload := func(text string) {
		t.Helper()
		g.Save(text)
		if status, body := g.Reload(gatewaytest.AdminToken); status != 200 {
			t.Fatalf("reload: %d %s", status, body)
		}
	}
	everything := strings.Replace(apiKeysYAML(upstream.URL, file, true), "api_keys:",
		`cookie: { name: session, origins: ["https://app.example.com"] }, query_param: access_token, api_keys:`, 1)
	check("tokens alone", 200, 401, 401, 401)
	reload(everything)
	check("everything", 200, 200, 200, 200)
	reload(strings.Replace(everything, "name: session", "name: other", 1))
	check("another cookie", 200, 200, 401, 200)
	reload(apiKeysYAML(upstream.URL, file, false))
	check("API keys alone", 401, 200, 401, 401)
	reload(gatewaytest.ReloadYAML(upstream.URL, 100))
	check("tokens alone again", 200, 401, 401, 401)
}

// A key server that is down keeps the gateway from verifying tokens, and not from serving programs
// with API keys.
func TestAPIKeysWorkWithoutKeyServer(t *testing.T) {
	upstream, server := gatewaytest.StartUpstream(t, "ok"), gatewaytest.StartKeyServer(t)
	server.Down.Store(true)
	key, line := newAPIKey(t, "-user", "u-17")
	file := filepath.Join(t.TempDir(), "keys.yaml")
	testkit.WriteFile(t, file, line)
	text := strings.Replace(jwksYAML(upstream.URL, 100, server.JWTSettings()), "auth: { ", "auth: { api_keys: { file: "+file+" }, ", 1)
	g := gatewaytest.StartWith(t, text)
	testkit.Eventually(t, "the gateway is ready", func() bool { status, _ := gatewaytest.Get(g.Admin+"/readyz", ""); return status == 200 })
	if status := askWithKey(t, g.Process, key); status != 200 {
		t.Errorf("with an API key, a request got %d", status)
	}
	if status, body := gatewaytest.Get(g.URL+"/usage", server.Token("u")); status != 503 {
		t.Errorf("with a token: %d %s", status, body)
	}
}
