package reloading

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

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/testkit"
)

// The upstream is swapped under load. No request fails, the next new request goes to the
// new upstream, and nothing is left of the old one.
func TestUpstreamSwapUnderLoad(t *testing.T) {
	upstreams := []*httptest.Server{gatewaytest.StartUpstream(t, "a"), gatewaytest.StartUpstream(t, "b")}
	g := gatewaytest.StartReloadable(t, upstreams[0].URL)
	client := gatewaytest.NewClient(t)
	call := func(user string) string {
		req, _ := http.NewRequest("POST", g.URL+"/api/analyze", strings.NewReader("text"))
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
					t.Errorf("a request under load got %s", got)
					return
				}
			}
		})
	}
	var before map[string]float64
	for n := range gatewaytest.Times(50, 1000) {
		which := (n + 1) % 2
		g.Save(gatewaytest.ReloadYAML(upstreams[which].URL, 100))
		if status, body := g.Reload(gatewaytest.AdminToken); status != 200 {
			t.Fatalf("reload: %d %s", status, body)
		}
		if got, want := call("after"), string("ab"[which]); got != want {
			t.Fatalf("after swap %d a new request went to %s, want %s", n, got, want)
		}
		if n == 20 {
			before = processStats(t, g.Process)
		}
	}
	stop.Store(true)
	wait.Wait()
	t.Logf("%d requests", calls.Load())
	client.CloseIdleConnections()
	testkit.EventuallyWithin(t, time.Minute, "nothing is left of the old upstreams", func() bool {
		now := processStats(t, g.Process)
		return now["go_goroutines"] <= before["go_goroutines"]+10 && now["process_open_fds"] <= before["process_open_fds"]+10
	})
	if u := gatewaytest.Usage(t, g.Process, testkit.Token("after", "enterprise")); u.Used != int64(gatewaytest.Times(50, 1000)) || u.InFlight != 0 {
		t.Errorf("used %d, in flight %d; want one for each swap, and none", u.Used, u.InFlight)
	}
}

func processStats(t *testing.T, p *gatewaytest.Process) map[string]float64 {
	t.Helper()
	_, body := gatewaytest.Get(p.Admin+"/metrics", "")
	stats := map[string]float64{}
	for _, m := range regexp.MustCompile(`(?m)^(go_goroutines|process_open_fds) (\S+)$`).FindAllStringSubmatch(body, -1) {
		stats[m[1]], _ = strconv.ParseFloat(m[2], 64)
	}
	return stats
}

// Files that are broken in many ways change nothing, and each reload says what is wrong.
func TestBrokenFilesChangeNothing(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := gatewaytest.StartReloadable(t, upstream.URL)
	good := gatewaytest.ReloadYAML(upstream.URL, 100)
	random := rand.New(rand.NewPCG(1, 2))
	for n := range gatewaytest.Times(50, 200) {
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
		g.Save(strings.Join(lines, "\n"))
		status, body := g.Reload(gatewaytest.AdminToken)
		var problem struct {
			Status int
			Faults []string
		}
		if err := json.Unmarshal([]byte(body), &problem); err != nil || status != 422 || len(problem.Faults) == 0 || !strings.Contains(problem.Faults[0], "gateway.yaml:") {
			t.Fatalf("file %d: status %d: %s; the file:\n%s", n, status, body, strings.Join(lines, "\n"))
		}
		if got := g.Limit(); got != 100 {
			t.Fatalf("after a broken file the limit is %d", got)
		}
	}
	if _, body := gatewaytest.Get(g.Admin+"/metrics", ""); !strings.Contains(body, "metergate_config_last_reload_successful 0") {
		t.Error("the metric does not say that the reload failed")
	}
	if status := gatewaytest.Post(http.DefaultClient, g.URL+"/api/analyze", testkit.Token("u", "free")); status != 200 {
		t.Errorf("a request got %d", status)
	}
	// Undo the broken edit: the file is again the same, byte for byte.
	g.Save(good)
	testkit.EventuallyWithin(t, time.Minute, "the metric says that the reload succeeded", func() bool {
		_, body := gatewaytest.Get(g.Admin+"/metrics", "")
		return strings.Contains(body, "metergate_config_last_reload_successful 1")
	})
	g.Save(strings.Replace(good, "100", "101", 1))
	testkit.EventuallyWithin(t, time.Minute, "a good file is in force", func() bool { return g.Limit() == 101 })
}

// Reloads by the watcher and by the API are mixed. In the end, the content of the file is
// in force.
func TestMixedReloadsEndWithTheFile(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := gatewaytest.StartReloadable(t, upstream.URL)
	text := func(limit int) string { return gatewaytest.ReloadYAML(upstream.URL, limit) }
	for range 5 {
		g.Save(text(200))
		testkit.EventuallyWithin(t, time.Minute, "the watcher's reload", func() bool { return g.Limit() == 200 })
		g.Save(text(100))
		g.Reload(gatewaytest.AdminToken)
		os.WriteFile(g.File+".backup", []byte(text(1)), 0o600) // the folder's events go on
		if got := g.Limit(); got != 100 {
			t.Fatalf("after the API's reload the limit is %d", got)
		}
	}
	// A configuration names a file that is only written later.
	g.Save(strings.Replace(text(300), `secret: "`+testkit.Secret+`"`, "secret_file: late", 1))
	g.WaitForText("was not reloaded")
	os.WriteFile(filepath.Join(filepath.Dir(g.File), "late"), []byte(testkit.Secret), 0o600)
	testkit.EventuallyWithin(t, time.Minute, "the late file", func() bool { return g.Limit() == 300 })
}

// Constant writes in the folder do not hide a change of the configuration.
func TestBusyFolderHidesNoChange(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := gatewaytest.StartReloadable(t, upstream.URL)
	stop := make(chan struct{})
	var wait sync.WaitGroup
	wait.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(20 * time.Millisecond):
				os.WriteFile(filepath.Join(filepath.Dir(g.File), "gateway.log"), []byte(time.Now().String()), 0o600)
			}
		}
	})
	g.Save(gatewaytest.ReloadYAML(upstream.URL, 200))
	began := time.Now()
	testkit.EventuallyWithin(t, time.Minute, "the new limit", func() bool { return g.Limit() == 200 })
	close(stop)
	wait.Wait()
	if took := time.Since(began); took > 20*time.Second { // the poll comes every 30
		t.Errorf("the reload took %v: only the poll noticed the change", took)
	}
}

// A target that gets another weight is still the same target: the gateway keeps what it
// knows about its health.
func TestWeightKeepsHealth(t *testing.T) {
	good := gatewaytest.StartUpstream(t, "ok")
	bad := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(500) }))
	defer bad.Close()
	g := gatewaytest.StartReloadable(t, good.URL)
	text := func(weight int) string {
		return strings.Replace(gatewaytest.ReloadYAML(good.URL, 100), `targets: [{ url: "`+good.URL+`" }]`,
			fmt.Sprintf(`targets: [{ url: "%s", weight: %d }, { url: "%s" }], health: { path: / }`, good.URL, weight, bad.URL), 1)
	}
	g.Save(text(1))
	up := func(n int) func() bool {
		return func() bool { return gatewaytest.TargetsUp(g.Process) == n }
	}
	testkit.EventuallyWithin(t, time.Minute, "the second target is there", func() bool {
		_, body := gatewaytest.Get(g.Admin+"/metrics", "")
		return strings.Contains(body, `target="`+bad.URL)
	})
	testkit.EventuallyWithin(t, time.Minute, "the second target is out", up(1))
	for weight := range 5 {
		g.Save(text(2 + weight))
		if status, body := g.Reload(gatewaytest.AdminToken); status != 200 {
			t.Fatal(status, body)
		}
		for range 20 {
			if status := gatewaytest.Post(http.DefaultClient, g.URL+"/api/analyze", testkit.Token("u", "enterprise")); status != 200 {
				t.Fatalf("after a change of the weight a request got %d", status)
			}
		}
	}
}

// The gateway notices every way of changing a file by itself, and reloads on SIGHUP.
func TestChangesAreNoticed(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	text := func(limit int) string { return gatewaytest.ReloadYAML(upstream.URL, limit) }

	t.Run("renamed over", func(t *testing.T) {
		g := gatewaytest.StartReloadable(t, upstream.URL)
		for limit := range 3 {
			g.Save(text(200 + limit))
			testkit.EventuallyWithin(t, time.Minute, "the new limit", func() bool { return g.Limit() == int64(200+limit) })
		}
	})
	t.Run("truncated and written", func(t *testing.T) {
		g := gatewaytest.StartReloadable(t, upstream.URL)
		f, err := os.OpenFile(g.File, os.O_WRONLY|os.O_TRUNC, 0)
		if err != nil {
			t.Fatal(err)
		}
		half := len(text(300)) / 2
		io.WriteString(f, text(300)[:half])
		f.Sync()
		io.WriteString(f, text(300)[half:])
		f.Close()
		testkit.EventuallyWithin(t, time.Minute, "the new limit", func() bool { return g.Limit() == 300 })
	})
	t.Run("ConfigMap", func(t *testing.T) {
		// gateway.yaml is a link to ..data/gateway.yaml, and ..data a link to a folder
		// that is swapped.
		dir := t.TempDir()
		version := func(n, limit int) {
			folder := filepath.Join(dir, fmt.Sprint("..version-", n))
			if err := os.Mkdir(folder, 0o700); err != nil {
				t.Fatal(err)
			}
			testkit.WriteFile(t, filepath.Join(folder, "gateway.yaml"), text(limit))
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
		g := gatewaytest.StartFile(t, nil, file)
		for n := range 3 {
			version(n+1, 401+n)
			testkit.EventuallyWithin(t, time.Minute, "the new limit", func() bool { return g.Limit() == int64(401+n) })
		}
	})
	t.Run("SIGHUP", func(t *testing.T) {
		g := gatewaytest.StartReloadable(t, upstream.URL)
		for range 10 {
			g.Signal(syscall.SIGHUP)
		}
		g.WaitForText("the configuration was reloaded")
		// The log names settings that take a restart; the others are applied.
		g.Save(strings.NewReplacer("embedded:data", "embedded:elsewhere", "127.0.0.1:0\nshut", "127.0.0.1:1\nshut").Replace(text(500)))
		testkit.EventuallyWithin(t, time.Minute, "the new limit", func() bool { return g.Limit() == 500 })
		for _, what := range []string{"store.url has changed", "listen has changed"} {
			g.WaitForText(what)
		}
	})
	t.Run("a key file", func(t *testing.T) {
		g := gatewaytest.StartReloadable(t, upstream.URL)
		secret := filepath.Join(filepath.Dir(g.File), "secret")
		os.WriteFile(secret, []byte(testkit.Secret), 0o600)
		g.Save(strings.Replace(text(600), `secret: "`+testkit.Secret+`"`, "secret_file: secret", 1))
		testkit.EventuallyWithin(t, time.Minute, "the new limit", func() bool { return g.Limit() == 600 })
		os.WriteFile(secret, []byte("another secret of at least 32 bytes"), 0o600)
		testkit.EventuallyWithin(t, time.Minute, "the old key is refused", func() bool {
			status, _ := gatewaytest.Get(g.URL+"/usage", testkit.Token("u", "free"))
			return status == 401
		})
	})
}

// The list of actions has the reloads that no administrator asked for, also those that failed. The tokens
// are those of the file as it is now.
func TestReloadsAreActions(t *testing.T) {
	g := gatewaytest.StartReloadable(t, "http://127.0.0.1:9")
	const viewer, second = "a-token-for-viewers-0123456789abcdef", "another-token-for-viewers-0123456789"
	with := func(token string) string {
		return strings.Replace(gatewaytest.ReloadYAML("http://127.0.0.1:9", 100), "admin: {", "admin: { viewer_token: "+token+",", 1)
	}
	actions := func(token string) (status int, entries []struct{ Action, From, Outcome string }) {
		status, text := gatewaytest.Get(g.Admin+"/admin/audit", token)
		var list struct{ Entries json.RawMessage }
		if json.Unmarshal([]byte(text), &list) == nil {
			json.Unmarshal(list.Entries, &entries)
		}
		return status, entries
	}
	newest := func(from, outcome string) func() bool {
		return func() bool {
			_, entries := actions(gatewaytest.AdminToken)
			return len(entries) > 0 && entries[0].Action == "reload" && entries[0].From == from && strings.HasPrefix(entries[0].Outcome, outcome)
		}
	}
	g.Save(with(viewer))
	testkit.EventuallyWithin(t, time.Minute, "a reload because of the file", newest("file", "done"))
	g.Signal(syscall.SIGHUP)
	testkit.EventuallyWithin(t, time.Minute, "a reload because of the signal", newest("SIGHUP", "done"))
	if status, _ := actions(viewer); status != 200 {
		t.Errorf("the viewer reads the list: %d", status)
	}
	if status, text := g.Reload(viewer); status != 403 || !strings.Contains(text, `"reason":"read_only"`) {
		t.Errorf("the viewer reloads: %d %s", status, text)
	}
	g.Save(with(gatewaytest.AdminToken))
	testkit.EventuallyWithin(t, time.Minute, "the same token twice", newest("file", "refused: "))
	if status, _ := actions(viewer); status != 200 {
		t.Errorf("the viewer after a reload that failed: %d", status)
	}
	g.Save(with(second))
	testkit.EventuallyWithin(t, time.Minute, "another token", newest("file", "done"))
	if status, _ := actions(second); status != 200 {
		t.Errorf("the viewer with the new token: %d", status)
	}
	if status, _ := actions(viewer); status != 401 {
		t.Errorf("the viewer with the token of before: %d", status)
	}
}

// An open response of the upstream and an open stream of usage survive reloads. The
// stream continues with the new limits.
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
	g := gatewaytest.StartReloadable(t, upstream.URL)
	openStream := func(path string) *bufio.Scanner {
		req, _ := http.NewRequest("GET", g.URL+path, nil)
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
		g.Save(gatewaytest.ReloadYAML(upstream.URL, 1000+n))
		if status, body := g.Reload(gatewaytest.AdminToken); status != 200 {
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

func TestReloadNeedsAdminToken(t *testing.T) {
	g := gatewaytest.StartReloadable(t, "http://127.0.0.1:9")
	for _, token := range []string{"", "wrong", gatewaytest.AdminToken + "x"} {
		if status, _ := g.Reload(token); status != 401 {
			t.Errorf("token %q: %d, want 401", token, status)
		}
	}
	g.Save(strings.Replace(gatewaytest.ReloadYAML("http://127.0.0.1:9", 100), `, token: "`+gatewaytest.AdminToken+`"`, "", 1))
	testkit.EventuallyWithin(t, time.Minute, "the API is off", func() bool { status, _ := g.Reload(gatewaytest.AdminToken); return status == 403 })
	if status, _ := gatewaytest.Get(g.Admin+"/livez", ""); status != 200 {
		t.Errorf("/livez: %d", status)
	}
}
