package app

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"metergate/config"
	"metergate/proxy/admin"
	"metergate/quota/testkit"
)

// A runningApp is an App whose configuration a test changes. Everything under /api/ is for users of the
// plan free.
type runningApp struct {
	*testing.T
	*App
	file string
}

const testAdminToken = "an-admin-token-for-tests-0123456789"

// startApp starts an App whose only upstream, api, has settings such as "targets: [...]".
func startApp(t *testing.T, upstream string, log *slog.Logger) *runningApp {
	t.Helper()
	r := &runningApp{T: t, file: filepath.Join(t.TempDir(), "gateway.yaml")}
	r.write(upstream)
	cfg, _, err := config.LoadFiles(r.file)
	if err != nil {
		t.Fatal(err)
	}
	r.App = New(Options{Config: cfg, Log: log, Load: func() (*config.Config, []string, error) { return config.LoadFiles(r.file) }})
	if err := r.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Stop() })
	return r
}

func (r *runningApp) write(upstream string) {
	r.Helper()
	text := settings{upstream: "http://placeholder", limit: 1_000_000}.yaml()
	text = strings.Replace(text, `targets: [{ url: "http://placeholder" }]`, upstream, 1)
	text = strings.Replace(text, `admin: { listen: "127.0.0.1:0"`, `admin: { listen: "127.0.0.1:0", token: "`+testAdminToken+`"`, 1)
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.Fatal(err)
	}
}

func (r *runningApp) reload(upstream string) {
	r.Helper()
	r.write(upstream)
	if _, err := r.Reload(); err != nil {
		r.Fatal(err)
	}
}

// request sends a request of a user and returns the response with its body unread.
func (r *runningApp) request(user, path string) *http.Response {
	r.Helper()
	req, _ := http.NewRequestWithContext(r.Context(), "GET", "http://"+r.PublicAddr().String()+path, nil)
	req.Header.Set("Authorization", "Bearer "+testkit.Token(user, "free"))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	return res
}

// answer sends a request of a user and returns the body of the response, which must be 200.
func (r *runningApp) answer(user string) string {
	r.Helper()
	res := r.request(user, "/api/x")
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		r.Fatalf("status %d, error %v: %s", res.StatusCode, err, body)
	}
	return string(body)
}

// administer calls the admin API.
func (r *runningApp) administer(status int, method, path, body string) string {
	r.Helper()
	req, _ := http.NewRequestWithContext(r.Context(), method, "http://"+r.AdminAddr().String()+path, strings.NewReader(body))
	req.Header.Set("Authorization", "Bearer "+testAdminToken)
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	if res.StatusCode != status {
		r.Fatalf("%s %s: status %d, want %d: %s", method, path, res.StatusCode, status, text)
	}
	return string(text)
}

// targets returns the targets of the upstream api.
func (r *runningApp) targets() []admin.UpstreamTarget {
	r.Helper()
	var list struct{ Upstreams []admin.Upstream }
	if err := json.Unmarshal([]byte(r.administer(200, "GET", "/admin/upstreams", "")), &list); err != nil || len(list.Upstreams) != 1 {
		r.Fatalf("%v: %+v", err, list)
	}
	return list.Upstreams[0].Targets
}

// An upstream is swapped as docs/operate.md says: drain the old target, wait for its last request,
// paste the YAML.
func TestSwapUpstream(t *testing.T) {
	goOn := make(chan struct{})
	serve := func(name string) string {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/api/stream" {
				w.(http.Flusher).Flush()
				<-goOn
			}
			io.WriteString(w, name)
		}))
		t.Cleanup(s.Close)
		return s.URL
	}
	a, b := serve("a"), serve("b")
	var log bytes.Buffer
	var r *runningApp
	only := func(name string) {
		t.Helper()
		for range 10 {
			if got := r.answer("u"); got != name {
				t.Fatalf("%s answered, want %s", got, name)
			}
		}
	}
	r = startApp(t, fmt.Sprintf("targets: [{ url: %q }]", a), slog.New(slog.NewTextHandler(&log, nil)))
	defer func() { r.Stop(); t.Logf("log:\n%s", log.String()) }()
	stream := r.request("u", "/api/stream")
	refused := r.administer(409, "POST", "/admin/upstreams/api/drain", fmt.Sprintf(`{"url":%q}`, a))
	if !strings.Contains(refused, `"reason":"last_target"`) {
		t.Error(refused)
	}
	both := fmt.Sprintf("targets: [{ url: %q }, { url: %q }], balance: round_robin", a, b)
	r.reload(both)
	drained := r.administer(200, "POST", "/admin/upstreams/api/drain", fmt.Sprintf(`{"url":%q,"reason":"swap"}`, a))
	only("b")
	if got := r.targets(); got[0].InFlight != 1 || got[0].Drained == nil || got[0].Drained.Reason != "swap" || got[0].Share != 0 || got[1].Share != 1 {
		t.Errorf("%+v", got)
	}
	if ready := r.administer(200, "GET", "/readyz", ""); !strings.Contains(ready, `"upstream api":"ok"`) {
		t.Error(ready)
	}
	r.reload(strings.Replace(both, "balance: round_robin", "balance: least_in_flight", 1))
	only("b")
	metrics := r.administer(200, "GET", "/metrics", "")
	for _, want := range []string{"up{target=%q,upstream=\"api\"} 0", "drained{target=%q,upstream=\"api\"} 1", "requests_in_flight{target=%q,upstream=\"api\"} 1"} {
		if want = "metergate_upstream_target_" + fmt.Sprintf(want, a); !strings.Contains(metrics, want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}

	// What the answer says to paste means the same.
	var u admin.Upstream
	json.Unmarshal([]byte(drained), &u)
	_, list, _ := strings.Cut(u.YAML, "    targets:\n")
	var lines []string
	for line := range strings.Lines(list) {
		lines = append(lines, strings.TrimPrefix(strings.TrimSpace(line), "- "))
	}
	r.reload("targets: [" + strings.Join(lines, ", ") + "]")
	if got := r.targets(); got[0].Weight != 0 || got[0].InFlight != 1 || got[0].Drained == nil {
		t.Errorf("%s: %+v", u.YAML, got)
	}
	only("b")
	r.administer(422, "POST", "/admin/upstreams/api/drain", fmt.Sprintf(`{"url":%q}`, a))
	close(goOn)
	if text, err := io.ReadAll(stream.Body); string(text) != "a" || err != nil {
		t.Errorf("the stream ended with %q, %v", text, err)
	}
	stream.Body.Close()
	testkit.Eventually(t, "no request is in flight on the old target", func() bool { return r.targets()[0].InFlight == 0 })

	r.reload(fmt.Sprintf("targets: [{ url: %q }]", b))
	r.reload(both)
	if got := r.targets(); got[0].Drained != nil {
		t.Errorf("gone and back, the target is still drained: %+v", got)
	}
	r.administer(200, "POST", "/admin/upstreams/api/drain", fmt.Sprintf(`{"url":%q}`, a))
	r.administer(200, "POST", "/admin/upstreams/api/undrain", fmt.Sprintf(`{"url":%q}`, a))
	testkit.Eventually(t, "the undrained target serves", func() bool { return r.answer("u") == "a" })
}

// With balance: user, the user that the token names stays on one target: on every gateway, after a
// reload and after a restart. A larger weight of the canary takes users to it, and none from it.
func TestUserStaysOnTarget(t *testing.T) {
	var urls []string
	for _, name := range []string{"a", "b", "canary"} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name) }))
		t.Cleanup(s.Close)
		urls = append(urls, s.URL)
	}
	settings := func(canary int) string {
		return fmt.Sprintf("targets: [{ url: %q, weight: 4 }, { url: %q, weight: 4 }, { url: %q, weight: %d }], balance: user", urls[0], urls[1], urls[2], canary)
	}
	one, two := startApp(t, settings(2), quiet()), startApp(t, settings(2), quiet())
	answers := func(r *runningApp) map[string]string {
		got := map[string]string{}
		for range 3 {
			for i := range 40 {
				user := fmt.Sprint("user-", i)
				answer := r.answer(user)
				if before := got[user]; before != "" && answer != before {
					t.Errorf("%s went to %s, then to %s", user, before, answer)
				}
				got[user] = answer
			}
		}
		return got
	}
	before, other := answers(one), answers(two)
	for user, target := range before {
		if other[user] != target {
			t.Errorf("%s goes to %s on one gateway and to %s on the other", user, target, other[user])
		}
	}
	two.reload(settings(8))
	moved := 0
	for user, target := range answers(two) {
		if target != before[user] {
			moved++
			if target != "canary" {
				t.Errorf("with a larger canary %s moved from %s to %s", user, before[user], target)
			}
		}
	}
	if moved == 0 {
		t.Error("a larger canary got no users")
	}
	one.Stop()
	again := startApp(t, settings(2), quiet())
	for user, target := range answers(again) {
		if target != before[user] {
			t.Errorf("after a restart %s goes to %s, before to %s", user, target, before[user])
		}
	}
}

// Targets of h2c and on Unix sockets serve as others do: trailers pass, the log and the metrics name
// them, and validate -online reaches them.
func TestTargetsOfAllSchemes(t *testing.T) {
	dir, err := os.MkdirTemp("", "mg") // a short path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	socket := filepath.Join(dir, "api.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	h := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Checksum")
		io.WriteString(w, r.Proto+" "+r.Host)
		w.(http.Flusher).Flush() // a body of known length has no trailers in HTTP/1
		w.Header().Set("X-Checksum", "7")
	})
	two := httptest.NewUnstartedServer(h)
	two.Config.Protocols = new(http.Protocols)
	two.Config.Protocols.SetUnencryptedHTTP2(true)
	two.Start()
	t.Cleanup(two.Close)
	one := httptest.NewUnstartedServer(h)
	one.Listener.Close()
	one.Listener = l
	one.Start()
	t.Cleanup(one.Close)

	h2c := "h2c" + strings.TrimPrefix(two.URL, "http")
	var log bytes.Buffer
	r := startApp(t, fmt.Sprintf("targets: [{ url: %q }, { url: \"unix:%s\" }], balance: round_robin, health: { path: /x, interval: 1s }", h2c, socket), slog.New(slog.NewTextHandler(&log, nil)))
	got := map[string]int{}
	for range 10 {
		res := r.request("u", "/api/x")
		body, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != 200 || res.Trailer.Get("X-Checksum") != "7" {
			t.Errorf("status %d, error %v, trailers %v", res.StatusCode, err, res.Trailer)
		}
		got[string(body)]++
	}
	if want := two.Listener.Addr().String(); got["HTTP/2.0 "+want] != 5 || got["HTTP/1.1 localhost"] != 5 {
		t.Errorf("answers: %v", got)
	}
	metrics := r.administer(200, "GET", "/metrics", "")
	for _, target := range []string{h2c, "unix:" + socket} {
		if want := fmt.Sprintf("metergate_upstream_target_up{target=%q,upstream=\"api\"} 1", target); !strings.Contains(metrics, want) {
			t.Errorf("the metrics do not have %s", want)
		}
	}
	r.Stop()
	for _, target := range []string{h2c, "unix:" + socket} {
		if !strings.Contains(log.String(), " target="+target+" ") {
			t.Errorf("the log does not have %s:\n%s", target, log.String())
		}
	}

	reach := func() (failed []string) {
		cfg, _, err := config.LoadFiles(r.file)
		if err != nil {
			t.Fatal(err)
		}
		CheckOnline(t.Context(), cfg, func(reached Reached) {
			if reached.Err != nil {
				failed = append(failed, reached.Part+": "+reached.Err.Error())
			}
		})
		return failed
	}
	for _, health := range []string{"", ", health: { path: /x }"} {
		r.write(fmt.Sprintf("targets: [{ url: %q }, { url: \"unix:%s\" }, { url: \"unix:%s.gone\" }]%s", h2c, socket, socket, health))
		want := fmt.Sprintf("upstreams.api.targets[2] (unix:%s.gone): dial unix %s.gone: connect: no such file or directory", socket, socket)
		if failed := reach(); len(failed) != 1 || failed[0] != want {
			t.Errorf("with %q: %q; want only %q", health, failed, want)
		}
	}
}
