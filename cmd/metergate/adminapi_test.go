package main

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"metergate/internal/testkit"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
)

// startAdministered runs a gateway whose admin API is on.
func startAdministered(t testing.TB, store, upstream string, env ...string) *process {
	t.Helper()
	yaml := strings.Replace(serveYAML, "admin: { listen: 127.0.0.1:0 }", `admin: { listen: 127.0.0.1:0, token: "`+adminToken+`" }`, 1)
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(file, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	p := start(t, append([]string{"STORE=" + store, "UPSTREAM=" + upstream, "LEVEL=info", "JOURNAL=" + t.TempDir()}, env...), "serve", "-config", file)
	p.serving()
	return p
}

// administer makes a request to the admin API that must succeed.
func administer(t testing.TB, p *process, method, path, body string) string {
	t.Helper()
	req, err := http.NewRequest(method, p.admin+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+adminToken)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("%s %s: %d, error %v: %s", method, path, res.StatusCode, err, text)
	}
	return string(text)
}

// watchUsage opens a stream and returns the objects that come on it.
func watchUsage(t testing.TB, p *process, token string) <-chan quota.Usage {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req, _ := http.NewRequestWithContext(ctx, "GET", p.url+"/usage/stream", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != 200 {
		t.Fatalf("the stream: %v %v", res, err)
	}
	objects := make(chan quota.Usage, 100)
	go func() {
		defer res.Body.Close()
		defer close(objects)
		for lines := bufio.NewScanner(res.Body); lines.Scan(); {
			var u quota.Usage
			if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok && json.Unmarshal([]byte(data), &u) == nil {
				objects <- u
			}
		}
	}()
	return objects
}

// What an operator does at one gateway holds for the next request at any of them, and
// the user's open streams say so wherever they are.
func TestAdministratorAndStreams(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	redis := redistest.Start(t)
	one, two := startAdministered(t, redis.URL(), upstream.URL, patient), startAdministered(t, redis.URL(), upstream.URL, patient)
	token := testkit.Token("u/1", "free")
	streams := []<-chan quota.Usage{watchUsage(t, one, token), watchUsage(t, two, token)}
	pushed := func(what string, is func(quota.Usage) bool) {
		t.Helper()
		for i, stream := range streams {
			for waiting, timeout := true, time.After(60*time.Second); waiting; {
				select {
				case u, open := <-stream:
					if !open {
						t.Fatalf("%s: stream %d has ended", what, i)
					}
					waiting = !is(u)
				case <-timeout:
					t.Fatalf("%s: stream %d does not say so", what, i)
				}
			}
		}
	}
	call := func(p *process, want int) {
		t.Helper()
		if status := post(http.DefaultClient, p.url+"/api/analyze", token); status != want {
			t.Errorf("status %d, want %d", status, want)
		}
	}
	const user = "/admin/users/u%2F1"
	pushed("nothing", func(u quota.Usage) bool { return u.Used == 0 && *u.Limit == 100 })
	administer(t, one, "PUT", user+"/counts", `{"per":"month","endpoints":{"analyze":100}}`)
	pushed("counts", func(u quota.Usage) bool { return u.Used == 100 && !u.Allowed })
	call(two, 429)
	administer(t, two, "POST", user+"/grants", `{"requests":1}`)
	pushed("a grant", func(u quota.Usage) bool { return *u.Limit == 101 && u.Allowed })
	call(one, 200)
	call(two, 429)
	administer(t, one, "PUT", user+"/plan", `{"plan":"enterprise"}`)
	pushed("a plan", func(u quota.Usage) bool { return u.Plan == "enterprise" && u.Limit == nil })
	call(two, 200)
	administer(t, two, "DELETE", user+"/plan", "")
	pushed("the plan's end", func(u quota.Usage) bool { return u.Plan == "free" && u.Used == 102 })
	call(one, 429)
	administer(t, one, "POST", user+"/reset", "")
	pushed("a reset", func(u quota.Usage) bool { return u.Used == 0 && *u.Limit == 101 })
	call(two, 200)

	var list struct{ Entries []quota.AuditEntry }
	if err := json.Unmarshal([]byte(administer(t, two, "GET", user+"/audit", "")), &list); err != nil || len(list.Entries) != 5 {
		t.Errorf("the audit list has %+v, error %v", list.Entries, err)
	}
	for _, e := range list.Entries {
		if e.By != "127.0.0.1" || time.Since(e.At).Abs() > 10*time.Minute {
			t.Errorf("by %q at %v: %+v", e.By, e.At, e.Change)
		}
	}
	// The list is the same at each; the plan is the one of the token.
	for _, p := range []*process{one, two} {
		if got, want := administer(t, p, "GET", "/admin/users?format=csv", ""), "user,plan,endpoint,used\r\nu/1,free,analyze,1\r\n"; got != want {
			t.Errorf("listed:\n%s\nwant:\n%s", got, want)
		}
	}
}

// The commands of docs/admin.md work as they stand there.
func TestDocsAdmin(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	gateway := startAdministered(t, "embedded:"+t.TempDir(), upstream.URL)
	text, err := os.ReadFile("../../docs/admin.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.Symlink(binary, filepath.Join(dir, "metergate")); err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("../../gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "gateway.yaml"), example, 0o600); err != nil {
		t.Fatal(err)
	}
	script := ""
	for _, block := range shellBlock.FindAllStringSubmatch(string(text), -1) {
		script += block[1]
	}
	// The window of the examples need not be the running one, nor one that is over.
	script = strings.ReplaceAll(script, "-at 2026-11", "-at "+time.Now().UTC().Format("2006-01"))
	script = strings.ReplaceAll(script, "http://127.0.0.1:9090", gateway.admin)
	script = regexp.MustCompile(`(?m)^metergate \S+`).ReplaceAllString(script, "$0 -admin "+gateway.admin)
	cmd := exec.Command("bash", "-ec", script)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "METERGATE_ADMIN_TOKEN="+adminToken, "JWT_SECRET="+testkit.Secret, "PATH="+dir+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	for _, want := range []string{"user u-17, plan enterprise, set by an administrator until 2035", `"granted":[{"name":"month"`,
		"imported 3 counts of 2 users", "of 2 users with something counted now", "plan cleared"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	for file, want := range map[string]string{
		"november.csv":   "user,plan,endpoint,used\r\nu-17,free,analyze,30\r\nu-17,free,image-analysis,12\r\nu-18,free,analyze,99\r\n",
		"november.jsonl": `{"user":"u-18","plan":"free","used":99,"endpoints":{"analyze":99},"claimed":null,"override":null}`,
	} {
		if got, err := os.ReadFile(filepath.Join(dir, file)); err != nil || !strings.Contains(string(got), want) {
			t.Errorf("%s: error %v, %q; want %q", file, err, got, want)
		}
	}
}
