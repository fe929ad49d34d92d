package reloading

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// A reload changes which proxies the gateway trusts, how many requests it serves at once,
// and what it logs. Requests that run since before the reload count as well.
func TestReloadChangesTrustBoundsAndLog(t *testing.T) {
	arrived, release := make(chan bool), make(chan bool)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "wait" {
			arrived <- true
			<-release
		}
		io.WriteString(w, r.Header.Get("X-Forwarded-For"))
	}))
	defer upstream.Close()
	g := gatewaytest.StartReloadable(t, upstream.URL)
	ask := func(query string) (status int, chain, id string) {
		req, _ := http.NewRequest("POST", g.URL+"/api/analyze"+query, nil)
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
		g.Save(strings.Replace(gatewaytest.ReloadYAML(upstream.URL, 100), "log: { level: info }", more, 1))
		if status, body := g.Reload(gatewaytest.AdminToken); status != 200 {
			t.Fatal(status, body)
		}
	}
	if status, chain, id := ask(""); status != 200 || chain != "127.0.0.1" || id == "from-the-proxy" {
		t.Errorf("before the reload: status %d, X-Forwarded-For %s, request id %s", status, chain, id)
	}
	first := make(chan int)
	go func() { status, _, _ := ask("?wait"); first <- status }()
	<-arrived
	set("trusted_proxies: [127.0.0.1]\nmax_in_flight: { per_user: 1 }\nlog: { user: hash }")
	if status, _, id := ask(""); status != 429 || id != "from-the-proxy" {
		t.Errorf("while a request from before the reload runs: status %d, want 429; request id %s", status, id)
	}
	set("trusted_proxies: [127.0.0.1]\nlog: { user: hash }")
	if status, chain, id := ask(""); status != 200 || chain != "203.0.113.9, 127.0.0.1" || id != "from-the-proxy" {
		t.Errorf("from a trusted proxy: status %d, X-Forwarded-For %s, request id %s", status, chain, id)
	}
	g.WaitForOutput(func(text string) bool {
		return strings.Contains(text, `"client":"203.0.113.9"`) && strings.Contains(text, `"user":"`+userHash+`"`)
	})
	set("log: { user: omit, sample_successes: 0 }")
	if status, chain, _ := ask(""); status != 200 || chain != "127.0.0.1" {
		t.Errorf("from a proxy that is no longer trusted: status %d, X-Forwarded-For %s", status, chain)
	}
	close(release)
	if status := <-first; status != 200 {
		t.Errorf("the request from before the reload got %d", status)
	}
	// The number is not known, because the watcher reloads the file as well.
	if n := gatewaytest.Metric(g.Process, `metergate_config_reloads_total{result="success"}`); n == "0" {
		t.Error("the metric counts no reload")
	}
	if n := gatewaytest.Metric(g.Process, `metergate_config_reloads_total{result="failure"}`); n != "0" {
		t.Errorf("%s reloads have failed", n)
	}
	g.Save("nonsense: true\n")
	if status, _ := g.Reload(gatewaytest.AdminToken); status == 200 {
		t.Error("a configuration with an unknown key was loaded")
	}
	if n := gatewaytest.Metric(g.Process, `metergate_config_reloads_total{result="failure"}`); n == "0" {
		t.Error("the metric counts no failed reload")
	}
}

// printf %s u-17 | sha256sum | cut -c1-16
const userHash = "9370e9b203743d79"
