package counting

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// observeYAML has verbs for the mode of the plan and of a route.
const observeYAML = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0, token: "` + gatewaytest.AdminToken + `" }
store: { url: "%s", timeout: 20s, journal: journal }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256] } }
default_plan: free
plans:
  free: { limits: [{ requests: 100, per: month }], mode: %s }
upstreams:
  analysis: { targets: [{ url: "%s" }], timeout: 60s }
routes:
  - { match: "POST /api/analyze", endpoint: analyze, upstream: analysis }
  - { match: "POST /new/analyze", endpoint: analyze, upstream: analysis, mode: %s }
`

// At first the plan, of a hundred requests, only observes: of 150 requests at once all
// pass, all are counted, and exactly 50 are reported as over the limit. After a reload
// that enforces the plan, the next request is refused, except on a route that observes.
func TestObserveThenEnforce(t *testing.T) {
	var sent atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sent.Add(1)
		io.Copy(io.Discard, r.Body)
	}))
	defer upstream.Close()
	redis := redistest.Start(t)
	text := func(plan, route string) string {
		return fmt.Sprintf(observeYAML, redis.URL(), plan, upstream.URL, route)
	}
	g := gatewaytest.StartWith(t, text("observe", "enforce"))
	client, token := gatewaytest.NewClient(t), testkit.Token("u", "free")
	post := func(path string) (status int, wouldBlock string) {
		req, _ := http.NewRequest("POST", g.URL+path, nil)
		req.Header.Set("Authorization", "Bearer "+token)
		res, err := client.Do(req)
		if err != nil {
			t.Error(err)
			return 0, ""
		}
		io.Copy(io.Discard, res.Body)
		res.Body.Close()
		return res.StatusCode, strings.Join(res.Header.Values("X-Usage-Would-Block"), "; ")
	}
	reload := func(plan, route string) {
		t.Helper()
		g.Save(text(plan, route))
		if status, body := g.Reload(gatewaytest.AdminToken); status != 200 {
			t.Fatalf("reload: %d %s", status, body)
		}
	}

	var ok, over atomic.Int64
	var wait sync.WaitGroup
	for range 150 {
		wait.Go(func() {
			switch status, wouldBlock := post("/api/analyze"); {
			case status != 200 || wouldBlock != "" && wouldBlock != `"month"`:
				t.Errorf("status %d, X-Usage-Would-Block: %s", status, wouldBlock)
			case wouldBlock != "":
				over.Add(1)
				fallthrough
			default:
				ok.Add(1)
			}
		})
	}
	wait.Wait()
	if ok.Load() != 150 || over.Load() != 50 || sent.Load() != 150 {
		t.Fatalf("%d requests passed, %d of them over the limit, and %d reached the API; want 150, 50, 150", ok.Load(), over.Load(), sent.Load())
	}
	if u := gatewaytest.Usage(t, g.Process, token); u.Used != 150 || u.InFlight != 0 || !u.Allowed {
		t.Errorf("usage %+v", u)
	}
	for _, want := range []string{`metergate_decisions_total{outcome="admitted",plan="free"} 100`, `metergate_decisions_total{outcome="observed",plan="free"} 50`} {
		testkit.EventuallyWithin(t, time.Minute, want, func() bool {
			_, metrics := gatewaytest.Get(g.Admin+"/metrics", "")
			return strings.Contains(metrics, want+"\n")
		})
	}

	for _, c := range []struct {
		plan, route string
		old, new    int // the status on /api/analyze and on /new/analyze
	}{
		{"enforce", "enforce", 429, 429},
		{"enforce", "observe", 429, 200},
		{"observe", "enforce", 200, 200},
	} {
		reload(c.plan, c.route)
		for path, want := range map[string]int{"/api/analyze": c.old, "/new/analyze": c.new} {
			field := map[int]string{200: `"month"`}[want]
			if status, wouldBlock := post(path); status != want || wouldBlock != field {
				t.Errorf("plan %s, route %s, %s: %d, X-Usage-Would-Block: %s; want %d, %s", c.plan, c.route, path, status, wouldBlock, want, field)
			}
		}
	}
	if u := gatewaytest.Usage(t, g.Process, token); u.Used != 153 || u.InFlight != 0 {
		t.Errorf("usage %+v, want 153 used", u)
	}
}
