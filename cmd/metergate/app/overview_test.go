package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"metergate/config"
	"metergate/proxy/admin"
	"metergate/quota/testkit"
)

const overviewToken = "an-admin-token-for-tests-0123456789"

// A watchedApp is a gateway whose overview a test reads.
type watchedApp struct {
	*App
	t    *testing.T
	file string
	text string
}

func startWatched(t *testing.T, s settings, change func(string) string) *watchedApp {
	t.Helper()
	w := &watchedApp{t: t, file: filepath.Join(t.TempDir(), "gateway.yaml")}
	w.text = strings.Replace(change(s.yaml()), "admin: {", fmt.Sprintf("admin: { token: %q,", overviewToken), 1)
	w.save(w.text)
	cfg, _, err := config.LoadFiles(w.file)
	if err != nil {
		t.Fatal(err)
	}
	w.App = New(Options{Config: cfg, Log: quiet(), Version: "1.2.3", Commit: "abc", Load: func() (*config.Config, []string, error) { return config.LoadFiles(w.file) }})
	if err := w.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Stop() })
	return w
}

func (w *watchedApp) save(text string) {
	if err := os.WriteFile(w.file, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// call sends a request with a token, and decodes the answer of a GET.
func (w *watchedApp) call(method, url, token string, into any) int {
	w.t.Helper()
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		w.t.Fatal(err)
	}
	defer res.Body.Close()
	if into != nil && res.StatusCode == 200 {
		if err := json.NewDecoder(res.Body).Decode(into); err != nil {
			w.t.Fatal(err)
		}
	}
	return res.StatusCode
}

func (w *watchedApp) overview() (o admin.Overview) {
	w.t.Helper()
	if status := w.call("GET", "http://"+w.AdminAddr().String()+"/admin/overview", overviewToken, &o); status != 200 {
		w.t.Fatalf("the overview: %d", status)
	}
	return o
}

// wantSamples waits until something reads the metrics every ten seconds, or nothing does.
func wantSamples(t *testing.T, want bool) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprint("something samples: ", want), func() bool {
		var stacks bytes.Buffer
		pprof.Lookup("goroutine").WriteTo(&stacks, 2)
		return bytes.Contains(stacks.Bytes(), []byte("recent.(*Sampler).run")) == want
	})
}

// The overview has the state of the gateway, its configuration and its store. It tells a refused
// configuration, and what is in force instead.
func TestOverviewOfEmbeddedStore(t *testing.T) {
	w := startWatched(t, settings{upstream: newTarget(t).URL, limit: 5}, func(text string) string {
		return strings.Replace(text, "/api/", "POST api/", 1) + "\nunit_name: credits\n"
	})
	var s admin.Session
	w.call("GET", "http://"+w.AdminAddr().String()+"/admin/session", overviewToken, &s)
	if s.Role != "admin" || s.Version != "1.2.3" || s.Timezone != "UTC" || s.WarnAt != 80 || s.Units || s.Orgs || s.HistoryDays != 0 ||
		!slices.Equal(s.Endpoints, []string{"api"}) || !slices.Equal(s.Plans, []string{"free"}) {
		t.Errorf("the session: %+v", s)
	}
	o := w.overview()
	g, c, st := o.Gateway, o.Config, o.Store
	if g.Version != "1.2.3" || g.Commit != "abc" || g.PID != os.Getpid() || g.Host == "" || g.Draining || time.Since(g.StartedAt) > time.Hour {
		t.Errorf("the gateway: %+v", g)
	}
	if c.File != w.file || len(c.Hash) != 64 || time.Since(c.LoadedAt) > time.Hour || c.LastFault != nil || len(c.Warnings) != 1 || !strings.Contains(c.Warnings[0], "did you mean") {
		t.Errorf("the configuration: %+v", c)
	}
	if st.Kind != "embedded" || !st.OK || len(st.Faults) != 0 || st.FileSize == 0 || st.Breaker != "" || o.Journal != nil {
		t.Errorf("the store: %+v, journal %+v", st, o.Journal)
	}
	if o.Checks["store"] != "ok" || o.Checks["configuration"] != "ok" || o.Series == nil || len(o.Hour.Refused) != 5 ||
		o.Upstreams == nil || len(o.Upstreams.Upstreams) != 1 || len(o.Upstreams.Upstreams[0].Targets) != 1 {
		t.Errorf("the rest: %+v", o)
	}

	w.save("listen: [")
	w.ReloadFor("SIGHUP")
	after := w.overview().Config
	if after.LastFault == nil || len(after.LastFault.Lines) == 0 || after.LastFault.At.Before(c.LoadedAt) || after.Hash != c.Hash || !after.LoadedAt.Equal(c.LoadedAt) {
		t.Errorf("after a fault: %+v", after)
	}
	w.save(w.text + "warn_at: 70\n")
	w.ReloadFor("SIGHUP")
	if again := w.overview().Config; again.LastFault != nil || again.Hash == c.Hash || again.LoadedAt.Before(c.LoadedAt) {
		t.Errorf("after the fault: %+v", again)
	}
}

// In an outage the overview comes at once, and says what waits.
func TestOverviewInOutage(t *testing.T) {
	w := startWatched(t, settings{upstream: newTarget(t).URL, limit: 5}, func(text string) string {
		return strings.Replace(text, `store: { url: "embedded:data" }`, `store: { url: "redis+cluster://127.0.0.1:1", on_failure: allow }`, 1)
	})
	if status := w.call("POST", "http://"+w.PublicAddr().String()+"/api/x", testkit.Token("u", "free"), nil); status != 200 {
		t.Fatalf("a request: %d", status)
	}
	begun := time.Now().Add(-time.Minute)
	o := w.overview()
	if st := o.Store; st.Kind != "cluster" || st.OK || len(st.Faults) == 0 || st.Breaker != "open" || st.FileSize != 0 {
		t.Errorf("the store: %+v", st)
	}
	if j := o.Journal; j == nil || j.Waiting != 1 || j.Bytes == 0 || j.OldestAt == nil || j.OldestAt.Before(begun) {
		t.Errorf("the journal: %+v", j)
	}
}

// Nothing is sampled unless there is a token that may read it, and nothing after the end.
func TestSamplerRunsWithTokenOnly(t *testing.T) {
	wantSamples(t, false)
	w := startWatched(t, settings{upstream: newTarget(t).URL, limit: 5}, func(text string) string { return text })
	wantSamples(t, true)
	for range 2 {
		w.save(strings.Replace(w.text, fmt.Sprintf("token: %q,", overviewToken), "", 1))
		if _, err := w.Reload(); err != nil {
			t.Fatal(err)
		}
		wantSamples(t, false)
		if status := w.call("GET", "http://"+w.AdminAddr().String()+"/admin/overview", overviewToken, nil); status != 403 {
			t.Errorf("the overview without a token: %d", status)
		}
		w.save(w.text)
		if _, err := w.Reload(); err != nil {
			t.Fatal(err)
		}
		wantSamples(t, true)
	}
	w.Stop()
	wantSamples(t, false)
}

// A stream of events is told that the gateway stops.
func TestStopEndsEvents(t *testing.T) {
	w := startWatched(t, settings{upstream: newTarget(t).URL, limit: 5}, func(text string) string { return text })
	req, _ := http.NewRequest("GET", "http://"+w.AdminAddr().String()+"/admin/events", nil)
	req.Header.Set("Authorization", "Bearer "+overviewToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	ended := make(chan string, 1)
	go func() {
		var text bytes.Buffer
		text.ReadFrom(res.Body)
		ended <- text.String()
	}()
	w.Stop()
	if text := testkit.Receive(t, "the end of the stream", ended); !strings.HasPrefix(text, "event: overview\n") || !strings.HasSuffix(text, "event: end\ndata: {\"reason\":\"shutting_down\"}\n\n") {
		t.Errorf("the stream: %q", text)
	}
}
