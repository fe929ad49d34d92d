package operating

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/proxy/tracing/tracingtest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// tracedYAML has a collector.
func tracedYAML(upstream, collector string) string {
	return gatewaytest.ReloadYAML(upstream, 100) + fmt.Sprintf("\ntracing: { url: %q, sample: 1, service: shop, headers: Authorization=Bearer%%20abc }\n", collector)
}

// ask sends a request with a trace of its own, and returns that.
func ask(t *testing.T, g *gatewaytest.Reloadable, n int) (traceID string) {
	t.Helper()
	traceID = fmt.Sprintf("%032x", n)
	req, _ := http.NewRequest("POST", g.URL+"/api/analyze", nil)
	req.Header.Set("Authorization", "Bearer "+testkit.Token("u-17", "free"))
	req.Header.Set("Traceparent", "00-"+traceID+"-b7ad6b7169203331-01")
	res, err := http.DefaultClient.Do(req)
	if err != nil || res.StatusCode != 200 {
		t.Fatal(res, err)
	}
	res.Body.Close()
	return traceID
}

// The key tracing turns spans on and off, and changes where they go, without a restart. What waits when the
// gateway stops is sent.
func TestTracingFollowsReloads(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	first, second := tracingtest.Start(t), tracingtest.Start(t)
	g := gatewaytest.StartReloadable(t, upstream.URL)
	reload := func(text string) {
		t.Helper()
		g.Save(text)
		if status, body := g.Reload(gatewaytest.AdminToken); status != 200 || strings.Contains(body, "warnings") {
			t.Fatalf("%d %s", status, body)
		}
	}
	ask(t, g, 1)
	if gatewaytest.Metric(g.Process, "metergate_spans_sent_total") != "" {
		t.Error("there are metrics of spans without tracing")
	}
	reload(tracedYAML(upstream.URL, first.URL))
	server, steps := first.Trace(t, ask(t, g, 2))
	if server.Resource["service.name"] != "shop" || len(steps) != 4 || first.Requests()[0].Header.Get("Authorization") != "Bearer abc" {
		t.Errorf("%v of %v, %v", server, server.Resource, steps)
	}
	testkit.Eventually(t, "the number of spans", func() bool { return gatewaytest.Metric(g.Process, "metergate_spans_sent_total") == "5" })
	if _, config := gatewaytest.Get(g.Admin+"/admin/config", gatewaytest.AdminToken); !strings.Contains(config, `"headers":"[redacted]"`) || strings.Contains(config, "abc") {
		t.Errorf("the configuration shows %s", config)
	}
	reload(tracedYAML(upstream.URL, second.URL))
	second.Trace(t, ask(t, g, 3))
	reload(gatewaytest.ReloadYAML(upstream.URL, 100))
	ask(t, g, 4)
	reload(tracedYAML(upstream.URL, first.URL+"/v1/traces"))
	last := ask(t, g, 5)
	g.Signal(syscall.SIGTERM)
	if code := g.Wait(); code != 0 {
		t.Errorf("exit status %d", code)
	}
	first.Trace(t, last)
	for _, r := range []*tracingtest.Receiver{first, second} {
		for _, s := range r.Spans() {
			if n := s.Trace(); strings.HasSuffix(n, "01") || strings.HasSuffix(n, "04") {
				t.Errorf("%s was sent without tracing", s)
			}
		}
	}
}

// A collector that hangs holds up neither requests nor the end of the gateway, which is no failure.
func TestHangingCollectorHoldsUpNothing(t *testing.T) {
	collector := tracingtest.Start(t)
	collector.Answer(tracingtest.Hang)
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := gatewaytest.StartWith(t, tracedYAML(upstream.URL, collector.URL))
	ask(t, g, 1)
	testkit.Eventually(t, "a request to the collector", func() bool { return len(collector.Requests()) > 0 })
	for i := range 50 {
		ask(t, g, i+2)
	}
	g.Signal(syscall.SIGTERM)
	if code := g.Wait(); code != 0 { // or the test would end it
		t.Errorf("exit status %d:\n%s", code, g.Output())
	}
	if n := strings.Count(g.Output(), "spans cannot be sent"); n != 1 {
		t.Errorf("%d lines about the collector:\n%s", n, g.Output())
	}
}

// Prometheus itself reads /metrics, with the exemplars. promtool has nothing to say about the text format.
func TestPrometheusReadsExemplars(t *testing.T) {
	prometheus, err := exec.LookPath("prometheus")
	if err != nil {
		if os.Getenv(redistest.RequireEnv) != "" {
			t.Fatal(err)
		}
		t.Skip("prometheus is not installed")
	}
	collector, upstream := tracingtest.Start(t), gatewaytest.StartUpstream(t, "ok")
	g := gatewaytest.StartWith(t, tracedYAML(upstream.URL, collector.URL))
	traceID := ask(t, g, 7)
	dir, address := t.TempDir(), testkit.FreeAddress(t)
	testkit.WriteFile(t, filepath.Join(dir, "prometheus.yml"), fmt.Sprintf(`
scrape_configs: [{ job_name: metergate, scrape_interval: 1s, scrape_timeout: 1s, static_configs: [{ targets: [%q] }] }]
`, strings.TrimPrefix(g.Admin, "http://")))
	cmd := exec.Command(prometheus, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+address, "--enable-feature=exemplar-storage", "--log.level=error")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cmd.Process.Kill()
		cmd.Wait()
	}()
	query := "http://" + address + "/api/v1/query_exemplars?start=0&end=4000000000&query=" + url.QueryEscape("metergate_request_duration_seconds_bucket")
	testkit.Eventually(t, "the exemplar in Prometheus", func() bool {
		res, err := http.Get(query)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		var answer struct {
			Data []struct {
				Exemplars []struct{ Labels map[string]string }
			}
		}
		json.NewDecoder(res.Body).Decode(&answer)
		for _, series := range answer.Data {
			for _, e := range series.Exemplars {
				if e.Labels["trace_id"] == traceID {
					return true
				}
			}
		}
		return false
	})
	_, text := gatewaytest.Get(g.Admin+"/metrics", "")
	lint := exec.Command("promtool", "check", "metrics")
	lint.Stdin = strings.NewReader(text)
	if out, err := lint.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("promtool: %v\n%s", err, out)
	}
}

// What packages register when they are imported is served nowhere.
func TestNoListenerServesTheDefaultMux(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := gatewaytest.StartReloadable(t, upstream.URL)
	for _, path := range []string{"/debug/pprof/", "/debug/vars", "/debug/requests"} {
		for _, listener := range []string{g.URL, g.Admin} {
			if status, body := gatewaytest.Get(listener+path, gatewaytest.AdminToken); status != 404 && status != 401 {
				t.Errorf("%s%s: %d %.100s", listener, path, status, body)
			}
		}
	}
	if status, _ := gatewaytest.Get(g.URL+"/debug/pprof/heap", gatewaytest.AdminToken); status != 404 {
		t.Errorf("/debug/pprof/heap on the public listener: %d", status)
	}
}
