package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strings"
	"testing"

	"metergate/internal/testkit"
)

// A reload changes whom the gateway believes, how much it serves at once, and what it
// logs; what was running before counts all the same.
func TestReloadOfTheEdge(t *testing.T) {
	arrived, release := make(chan bool), make(chan bool)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "wait" {
			arrived <- true
			<-release
		}
		io.WriteString(w, r.Header.Get("X-Forwarded-For"))
	}))
	defer upstream.Close()
	g := startReloadable(t, upstream.URL)
	ask := func(query string) (status int, chain, id string) {
		req, _ := http.NewRequest("POST", g.url+"/api/analyze"+query, nil)
		req.Header.Set("Authorization", "Bearer "+testkit.Token("u-17", "enterprise"))
		req.Header.Set("X-Forwarded-For", "203.0.113.9")
		req.Header.Set("X-Request-Id", "from-the-proxy")
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		return res.StatusCode, string(body), res.Header.Get("X-Request-Id")
	}
	set := func(more string) {
		t.Helper()
		g.save(strings.Replace(fmt.Sprintf(reloadYAML, upstream.URL, 100), "log: { level: info }", more, 1))
		if status, body := g.reload(adminToken); status != 200 {
			t.Fatal(status, body)
		}
	}
	if status, chain, id := ask(""); status != 200 || chain != "127.0.0.1" || id == "from-the-proxy" {
		t.Errorf("before: %d, %s, %s", status, chain, id)
	}
	first := make(chan int)
	go func() { status, _, _ := ask("?wait"); first <- status }()
	<-arrived
	set("trusted_proxies: [127.0.0.1]\nmax_in_flight: { per_user: 1 }\nlog: { user: hash }")
	if status, _, id := ask(""); status != 429 || id != "from-the-proxy" {
		t.Errorf("with one running since before the reload: %d, %s", status, id)
	}
	set("trusted_proxies: [127.0.0.1]\nlog: { user: hash }")
	if status, chain, id := ask(""); status != 200 || chain != "203.0.113.9, 127.0.0.1" || id != "from-the-proxy" {
		t.Errorf("of a trusted proxy: %d, %s, %s", status, chain, id)
	}
	g.until(func(text string) bool {
		return strings.Contains(text, `"client":"203.0.113.9"`) && strings.Contains(text, `"user":"`+userHash+`"`)
	})
	set("log: { user: omit, sample_successes: 0 }")
	if status, chain, _ := ask(""); status != 200 || chain != "127.0.0.1" {
		t.Errorf("of one that is trusted no more: %d, %s", status, chain)
	}
	close(release)
	if status := <-first; status != 200 {
		t.Errorf("the first: %d", status)
	}
	// Not how many: the file is watched, too.
	if n := metricOf(g.process, `metergate_config_reloads_total{result="success"}`); n == "0" {
		t.Error("no reload is counted")
	}
	if n := metricOf(g.process, `metergate_config_reloads_total{result="failure"}`); n != "0" {
		t.Errorf("%s reloads have failed", n)
	}
	g.save("nonsense: true\n")
	if status, _ := g.reload(adminToken); status == 200 {
		t.Error("nonsense was loaded")
	}
	if n := metricOf(g.process, `metergate_config_reloads_total{result="failure"}`); n == "0" {
		t.Error("no failed reload is counted")
	}
}

// printf %s u-17 | sha256sum | cut -c1-16
const userHash = "9370e9b203743d79"

// The fields of docs/log.md are those that there are.
func TestDocsLog(t *testing.T) {
	text, err := os.ReadFile("../../docs/log.md")
	if err != nil {
		t.Fatal(err)
	}
	example := map[string]any{}
	for _, block := range codeBlock.FindAllStringSubmatch(string(text), -1) {
		if block[1] == "json" {
			if err := json.Unmarshal([]byte(block[2]), &example); err != nil {
				t.Fatal(err)
			}
		}
	}
	documented := map[string]bool{"time": true, "level": true, "msg": true}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(string(text), -1) {
		for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
			documented[name[1]] = true
		}
	}
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.RawQuery {
		case "cut":
			panic(http.ErrAbortHandler)
		case "break":
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "half")
		}
	}))
	defer api.Close()
	g := startReloadable(t, api.URL)
	for _, query := range []string{"", "?cut", "?break", "?observed"} {
		if query == "?observed" {
			g.save(strings.Replace(fmt.Sprintf(reloadYAML, api.URL, 0), "per: month }]", "per: month }], mode: observe", 1))
			if status, body := g.reload(adminToken); status != 200 {
				t.Fatalf("reload: %d %s", status, body)
			}
		}
		req, _ := http.NewRequest("POST", g.url+"/api/analyze"+query, nil)
		req.Header.Set("Authorization", "Bearer "+testkit.Token("u-17", "free"))
		req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
		}
	}
	g.until(func(text string) bool { return strings.Count(text, `"msg":"request"`) == 4 })
	logged := map[string]bool{}
	first := true
	for line := range strings.Lines(g.output.String()) {
		var fields map[string]any
		if json.Unmarshal([]byte(line), &fields) != nil || fields["msg"] != "request" {
			continue
		}
		for name := range fields {
			logged[name] = true
			if first && example[name] == nil {
				t.Errorf("the example has no %s", name)
			}
		}
		first = false
	}
	for name := range logged {
		if !documented[name] {
			t.Errorf("%s is not documented", name)
		}
	}
	for name := range documented {
		if !logged[name] {
			t.Errorf("%s is documented, and no line has it", name)
		}
	}
}
