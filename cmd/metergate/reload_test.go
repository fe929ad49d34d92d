package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"metergate/internal/testkit"
	"metergate/quota"
)

const adminToken = "an-admin-token-for-tests-0123456789"

// reloadYAML is a configuration that tests change; %s is the upstream's URL, %d the
// free plan's limit.
const reloadYAML = `
listen: 127.0.0.1:0
shutdown_timeout: 30s
admin: { listen: 127.0.0.1:0, token: "` + adminToken + `" }
store: { url: "embedded:data" }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256] } }
default_plan: free
plans:
  free: { limits: [{ requests: %[2]d, per: month }] }
  enterprise: { limits: [] }
upstreams:
  analysis: { targets: [{ url: "%[1]s" }], timeout: 60s }
routes:
  - { match: "POST /api/analyze", endpoint: analyze, upstream: analysis }
  - { match: "GET /api/stream",   endpoint: stream,  upstream: analysis }
log: { level: info }
`

// A reloadable is a gateway and the file that it runs by.
type reloadable struct {
	*process
	file string
}

func startReloadable(t *testing.T, upstream string) *reloadable {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	if err := os.WriteFile(file, fmt.Appendf(nil, reloadYAML, upstream, 100), 0o600); err != nil {
		t.Fatal(err)
	}
	r := &reloadable{start(t, nil, "serve", "-config", file), file}
	r.serving()
	return r
}

// save writes the file as careful editors do.
func (r *reloadable) save(text string) {
	r.t.Helper()
	if err := os.WriteFile(r.file+".new", []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
	if err := os.Rename(r.file+".new", r.file); err != nil {
		r.t.Fatal(err)
	}
}

// reload asks the admin API to.
func (r *reloadable) reload(token string) (status int, body string) {
	req, _ := http.NewRequest("POST", r.admin+"/admin/reload", nil)
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		r.t.Fatal(err)
	}
	defer res.Body.Close()
	text, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(text)
}

func (r *reloadable) limit() int64 {
	r.t.Helper()
	return *usageOf(r.t, r.process, testkit.Token("u", "free")).Limit
}

func named(t *testing.T, name string) *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		io.WriteString(w, name)
	}))
	t.Cleanup(s.Close)
	return s
}

// times is small in make test and as the issue has it in make long.
func times(short, full int) int {
	if *long {
		return full
	}
	return short
}

// The upstream is swapped under load: no request fails, and the next new one goes to
// the new upstream. Nothing is left behind.
func TestSwapUnderLoad(t *testing.T) {
	upstreams := []*httptest.Server{named(t, "a"), named(t, "b")}
	g := startReloadable(t, upstreams[0].URL)
	client := crowd(t)
	call := func(user string) string {
		req, _ := http.NewRequest("POST", g.url+"/api/analyze", strings.NewReader("text"))
		req.Header.Set("Authorization", "Bearer "+testkit.Token(user, "enterprise"))
		res, err := client.Do(req)
		if err != nil {
			return err.Error()
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if res.StatusCode != 200 || err != nil {
			return fmt.Sprint(res.Status, err)
		}
		return string(body)
	}
	var stop atomic.Bool
	var wait sync.WaitGroup
	var calls atomic.Int64
	for worker := range 16 {
		wait.Go(func() {
			for !stop.Load() {
				calls.Add(1)
				if got := call(fmt.Sprint("load-", worker)); got != "a" && got != "b" {
					t.Errorf("under load: %s", got)
					return
				}
			}
		})
	}
	var before map[string]float64
	for n := range times(50, 1000) {
		which := (n + 1) % 2
		g.save(fmt.Sprintf(reloadYAML, upstreams[which].URL, 100))
		if status, body := g.reload(adminToken); status != 200 {
			t.Fatalf("reload: %d %s", status, body)
		}
		if got, want := call("after"), string("ab"[which]); got != want {
			t.Fatalf("after swap %d a new request went to %s, want %s", n, got, want)
		}
		if n == 20 {
			before = processStats(t, g.process)
		}
	}
	stop.Store(true)
	wait.Wait()
	t.Logf("%d requests", calls.Load())
	client.CloseIdleConnections()
	testkit.EventuallyWithin(t, time.Minute, "nothing is left of what was replaced", func() bool {
		now := processStats(t, g.process)
		return now["go_goroutines"] <= before["go_goroutines"]+10 && now["process_open_fds"] <= before["process_open_fds"]+10
	})
	if u := usageOf(t, g.process, testkit.Token("after", "enterprise")); u.Used != int64(times(50, 1000)) || u.InFlight != 0 {
		t.Errorf("used %d, in flight %d", u.Used, u.InFlight)
	}
}

func processStats(t *testing.T, p *process) map[string]float64 {
	t.Helper()
	_, body := get(p.admin+"/metrics", "")
	stats := map[string]float64{}
	for _, m := range regexp.MustCompile(`(?m)^(go_goroutines|process_open_fds) (\S+)$`).FindAllStringSubmatch(body, -1) {
		stats[m[1]], _ = strconv.ParseFloat(m[2], 64)
	}
	return stats
}

// Files that are broken, in many ways, change nothing, and each is said so.
func TestBrokenFiles(t *testing.T) {
	upstream := named(t, "ok")
	g := startReloadable(t, upstream.URL)
	good := fmt.Sprintf(reloadYAML, upstream.URL, 100)
	random := rand.New(rand.NewPCG(1, 2))
	for n := range times(50, 200) {
		lines := strings.Split(good, "\n")
		at := 1 + random.IntN(len(lines)-2)
		switch n % 5 {
		case 0:
			lines[at] += "\nunknown_key: 1"
		case 1:
			lines = lines[:at+1]
			lines = append(lines, "routes: [")
		case 2:
			lines = strings.Split(strings.Replace(good, "100", "-100", 1), "\n")
		case 3:
			lines = strings.Split(strings.Replace(good, "upstream: analysis }", "upstream: nowhere }", 1), "\n")
		case 4:
			lines = nil
		}
		g.save(strings.Join(lines, "\n"))
		status, body := g.reload(adminToken)
		var problem struct {
			Status int
			Faults []string
		}
		if err := json.Unmarshal([]byte(body), &problem); err != nil || status != 422 || len(problem.Faults) == 0 || !strings.Contains(problem.Faults[0], "gateway.yaml:") {
			t.Fatalf("file %d: %d %s:\n%s", n, status, body, strings.Join(lines, "\n"))
		}
		if got := g.limit(); got != 100 {
			t.Fatalf("after a broken file the limit is %d", got)
		}
	}
	if _, body := get(g.admin+"/metrics", ""); !strings.Contains(body, "metergate_config_last_reload_successful 0") {
		t.Error("the metric does not say that the reload failed")
	}
	if status := post(http.DefaultClient, g.url+"/api/analyze", testkit.Token("u", "free")); status != 200 {
		t.Errorf("a request: %d", status)
	}
	// The same file again, byte for byte: the broken edit is undone.
	g.save(good)
	testkit.EventuallyWithin(t, time.Minute, "the metric says that all is well", func() bool {
		_, body := get(g.admin+"/metrics", "")
		return strings.Contains(body, "metergate_config_last_reload_successful 1")
	})
	g.save(strings.Replace(good, "100", "101", 1))
	testkit.EventuallyWithin(t, time.Minute, "a good file is in force", func() bool { return g.limit() == 101 })
}

// Reloads of all origins, mixed: what is in the file in the end is in force.
func TestMixedReloads(t *testing.T) {
	upstream := named(t, "ok")
	g := startReloadable(t, upstream.URL)
	text := func(limit int) string { return fmt.Sprintf(reloadYAML, upstream.URL, limit) }
	for range 5 {
		g.save(text(200))
		testkit.EventuallyWithin(t, time.Minute, "the watcher's reload", func() bool { return g.limit() == 200 })
		g.save(text(100))
		g.reload(adminToken)
		os.WriteFile(g.file+".backup", []byte(text(1)), 0o600) // the folder's events go on
		if got := g.limit(); got != 100 {
			t.Fatalf("after the API's reload the limit is %d", got)
		}
	}
	// A file that comes after the one that names it.
	g.save(strings.Replace(text(300), `secret: "`+testkit.Secret+`"`, "secret_file: late", 1))
	g.until(func(text string) bool { return strings.Contains(text, "was not reloaded") })
	os.WriteFile(filepath.Join(filepath.Dir(g.file), "late"), []byte(testkit.Secret), 0o600)
	testkit.EventuallyWithin(t, time.Minute, "the late file", func() bool { return g.limit() == 300 })
}

// A folder in which something is written all the time does not hide a change.
func TestBusyFolder(t *testing.T) {
	upstream := named(t, "ok")
	g := startReloadable(t, upstream.URL)
	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				os.WriteFile(filepath.Join(filepath.Dir(g.file), "gateway.log"), []byte(time.Now().String()), 0o600)
			}
		}
	})
	g.save(fmt.Sprintf(reloadYAML, upstream.URL, 200))
	began := time.Now()
	testkit.EventuallyWithin(t, time.Minute, "the new limit", func() bool { return g.limit() == 200 })
	close(stop)
	wait.Wait()
	if took := time.Since(began); took > 20*time.Second { // the poll comes every 30
		t.Errorf("it took %v", took)
	}
}

// Another weight is not another target: what is known of its health stays.
func TestWeightKeepsHealth(t *testing.T) {
	good := named(t, "ok")
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }))
	defer bad.Close()
	g := startReloadable(t, good.URL)
	text := func(weight int) string {
		return strings.Replace(fmt.Sprintf(reloadYAML, good.URL, 100), `targets: [{ url: "`+good.URL+`" }]`,
			fmt.Sprintf(`targets: [{ url: "%s", weight: %d }, { url: "%s" }], health: { path: / }`, good.URL, weight, bad.URL), 1)
	}
	g.save(text(1))
	up := func(n int) func() bool {
		return func() bool { _, body := get(g.admin+"/metrics", ""); return targetsUp(body) == n }
	}
	testkit.EventuallyWithin(t, time.Minute, "the second target is there", func() bool {
		_, body := get(g.admin+"/metrics", "")
		return strings.Contains(body, `target="`+bad.URL)
	})
	testkit.EventuallyWithin(t, time.Minute, "it is out", up(1))
	for weight := range 5 {
		g.save(text(2 + weight))
		if status, body := g.reload(adminToken); status != 200 {
			t.Fatal(status, body)
		}
		for range 20 {
			if status := post(http.DefaultClient, g.url+"/api/analyze", testkit.Token("u", "enterprise")); status != 200 {
				t.Fatalf("after another weight a request got %d", status)
			}
		}
	}
}

// Every way to change a file is noticed without being told, and so is SIGHUP.
func TestNoticedChanges(t *testing.T) {
	upstream := named(t, "ok")
	text := func(limit int) string { return fmt.Sprintf(reloadYAML, upstream.URL, limit) }

	t.Run("renamed over", func(t *testing.T) {
		g := startReloadable(t, upstream.URL)
		for limit := range 3 {
			g.save(text(200 + limit))
			testkit.EventuallyWithin(t, time.Minute, "the new limit", func() bool { return g.limit() == int64(200+limit) })
		}
	})
	t.Run("truncated and written", func(t *testing.T) {
		g := startReloadable(t, upstream.URL)
		f, err := os.OpenFile(g.file, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			t.Fatal(err)
		}
		half := len(text(300)) / 2
		io.WriteString(f, text(300)[:half])
		f.Sync()
		io.WriteString(f, text(300)[half:])
		f.Close()
		testkit.EventuallyWithin(t, time.Minute, "the new limit", func() bool { return g.limit() == 300 })
	})
	t.Run("ConfigMap", func(t *testing.T) {
		// gateway.yaml -> ..data/gateway.yaml, ..data -> a folder that is swapped.
		dir := t.TempDir()
		version := func(n, limit int) {
			folder := filepath.Join(dir, fmt.Sprint("..version-", n))
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(folder, "gateway.yaml"), []byte(text(limit)), 0o600); err != nil {
				t.Fatal(err)
			}
			link := filepath.Join(dir, "..data_tmp")
			if err := os.Symlink(filepath.Base(folder), link); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(link, filepath.Join(dir, "..data")); err != nil {
				t.Fatal(err)
			}
		}
		version(0, 400)
		file := filepath.Join(dir, "gateway.yaml")
		if err := os.Symlink("..data/gateway.yaml", file); err != nil {
			t.Fatal(err)
		}
		g := &reloadable{start(t, nil, "serve", "-config", file), file}
		g.serving()
		for n := range 3 {
			version(n+1, 401+n)
			testkit.EventuallyWithin(t, time.Minute, "the new limit", func() bool { return g.limit() == int64(401+n) })
		}
	})
	t.Run("SIGHUP", func(t *testing.T) {
		g := startReloadable(t, upstream.URL)
		for range 10 {
			g.signal(syscall.SIGHUP)
		}
		g.until(func(text string) bool { return strings.Contains(text, "the configuration was reloaded") })
		// What takes a restart is said, and the rest is applied.
		g.save(strings.NewReplacer("embedded:data", "embedded:elsewhere", "127.0.0.1:0\nshut", "127.0.0.1:1\nshut").Replace(text(500)))
		testkit.EventuallyWithin(t, time.Minute, "the new limit", func() bool { return g.limit() == 500 })
		for _, what := range []string{"store has changed", "listen has changed"} {
			g.until(func(text string) bool { return strings.Contains(text, what) })
		}
	})
	t.Run("a key file", func(t *testing.T) {
		g := startReloadable(t, upstream.URL)
		secret := filepath.Join(filepath.Dir(g.file), "secret")
		os.WriteFile(secret, []byte(testkit.Secret), 0o600)
		g.save(strings.Replace(text(600), `secret: "`+testkit.Secret+`"`, "secret_file: secret", 1))
		testkit.EventuallyWithin(t, time.Minute, "the new limit", func() bool { return g.limit() == 600 })
		os.WriteFile(secret, []byte("another secret of at least 32 bytes"), 0o600)
		testkit.EventuallyWithin(t, time.Minute, "the old key is refused", func() bool {
			status, _ := get(g.url+"/usage", testkit.Token("u", "free"))
			return status == 401
		})
	})
}

// An upstream's open response and the stream of usage outlive reloads; the stream
// goes on by the new limits.
func TestStreamsOutliveReloads(t *testing.T) {
	more := make(chan bool)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for i := 0; ; i++ {
			fmt.Fprintf(w, "data: %d\n\n", i)
			w.(http.Flusher).Flush()
			if !<-more {
				return
			}
		}
	}))
	defer upstream.Close()
	g := startReloadable(t, upstream.URL)
	openStream := func(path string) *bufio.Scanner {
		req, _ := http.NewRequest("GET", g.url+path, nil)
		req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "free"))
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		t.Cleanup(func() { res.Body.Close() })
		return bufio.NewScanner(res.Body)
	}
	data := func(s *bufio.Scanner) string {
		for s.Scan() {
			if d, ok := strings.CutPrefix(s.Text(), "data: "); ok {
				return d
			}
		}
		t.Fatalf("the stream ended: %v", s.Err())
		return ""
	}
	api, usage := openStream("/api/stream"), openStream("/usage/stream")
	data(api)
	data(usage)
	for n := range 100 {
		g.save(fmt.Sprintf(reloadYAML, upstream.URL, 1000+n))
		if status, body := g.reload(adminToken); status != 200 {
			t.Fatalf("%d %s", status, body)
		}
	}
	more <- true
	if got := data(api); got != "1" {
		t.Errorf("the upstream's second event is %s", got)
	}
	for {
		var u quota.Usage
		if err := json.Unmarshal([]byte(data(usage)), &u); err != nil {
			t.Fatal(err)
		}
		if *u.Limit == 1099 {
			break
		}
	}
	close(more)
}

func TestAdminToken(t *testing.T) {
	g := startReloadable(t, "http://127.0.0.1:9")
	for _, token := range []string{"", "wrong", adminToken + "x"} {
		if status, _ := g.reload(token); status != 401 {
			t.Errorf("token %q: %d, want 401", token, status)
		}
	}
	g.save(strings.Replace(fmt.Sprintf(reloadYAML, "http://127.0.0.1:9", 100), `, token: "`+adminToken+`"`, "", 1))
	testkit.EventuallyWithin(t, time.Minute, "the API is off", func() bool { status, _ := g.reload(adminToken); return status == 403 })
	if status, _ := get(g.admin+"/livez", ""); status != 200 {
		t.Errorf("/livez: %d", status)
	}
}
