package documents

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/apikeys"
	"metergate/quota/testkit"
)

// docs/log.md lists exactly the attributes that a line about a request can have.
func TestLogPageListsAttributes(t *testing.T) {
	text := testkit.ReadFile(t, "docs/log.md")
	example := map[string]any{}
	for _, block := range codeBlocks(t, "docs/log.md", "json") {
		if err := json.Unmarshal([]byte(block), &example); err != nil {
			t.Fatal(err)
		}
	}
	documented := map[string]bool{"time": true, "level": true, "msg": true}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\|").FindAllStringSubmatch(string(text), -1) {
		for _, name := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(row[1], -1) {
			documented[name[1]] = true
		}
	}
	arrived, goOn := make(chan struct{}), make(chan struct{})
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.RawQuery {
		case "hold":
			arrived <- struct{}{}
			<-goOn
		case "cut":
			panic(http.ErrAbortHandler)
		case "break":
			w.Header().Set("Content-Length", "10")
			io.WriteString(w, "half")
		}
	}))
	defer api.Close()
	g := gatewaytest.StartReloadable(t, api.URL)
	send := func(query, plan string) {
		req, _ := http.NewRequest("POST", g.URL+"/api/analyze"+query, nil)
		req.Header.Set("Authorization", "Bearer "+testkit.MemberToken("acme", "u-17", plan)) // without claims.org, that is ignored
		req.Header.Set("Traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
		}
	}
	key := apikeys.New()
	k := apikeys.NewKey(key)
	k.ID, k.User = "ci-1", "u-17"
	line, err := k.FileLine()
	if err != nil {
		t.Fatal(err)
	}
	keys := filepath.Join(t.TempDir(), "keys.yaml")
	testkit.WriteFile(t, keys, line)
	for _, query := range []string{"", "?cut", "?break", "?unknown", "?observed"} {
		if query == "?observed" {
			text := strings.Replace(gatewaytest.ReloadYAML(api.URL, 0), "per: month }]", "per: month }], mode: observe", 1)
			text = strings.Replace(text, "enterprise: { limits: [] }", "enterprise: { concurrent: { requests: 1, wait: 20ms } }", 1)
			text = strings.Replace(text, "algorithms: [HS256] }", "algorithms: [HS256], name: app, claims: { org: org } }, api_keys: { file: "+keys+" }", 1)
			text += "\ntracing: { url: \"http://127.0.0.1:9\", sample: 1 }\n"
			g.Save(strings.Replace(text, "endpoint: analyze,", "endpoint: analyze, cost: 2,", 1))
			if status, body := g.Reload(gatewaytest.AdminToken); status != 200 {
				t.Fatalf("reload: %d %s", status, body)
			}
		}
		plan := "free"
		if query == "?unknown" {
			plan = "gold"
		}
		send(query, plan)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		send("?hold", "enterprise")
	}()
	testkit.Receive(t, "the first request", arrived)
	send("", "enterprise") // waits for the first one
	withKey, _ := http.NewRequest("GET", g.URL+"/usage", nil)
	withKey.Header.Set("X-API-Key", key)
	if res, err := http.DefaultClient.Do(withKey); err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	close(goOn)
	testkit.Receive(t, "the end of the first request", ended)
	g.WaitForOutput(func(text string) bool { return strings.Count(text, `"msg":"request"`) == 8 })
	logged := map[string]bool{}
	first := true
	for line := range strings.Lines(g.Output()) {
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
