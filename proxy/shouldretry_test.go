package proxy_test

import (
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"metergate/proxy"
	"metergate/quota"
	"metergate/quota/testkit"
)

// TestLongRetryAfterSaysNotToRetry: a 429 that is good for longer than a minute says that
// a client must not retry. A shorter one, any other answer, and what an upstream says
// stay as they are.
func TestLongRetryAfterSaysNotToRetry(t *testing.T) {
	r := newTestGateway(t, setup{
		routes: []proxy.Route{{Pattern: "POST /shed"}},
		upstream: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery != "" {
				w.Header().Set("X-Should-Retry", r.URL.RawQuery)
				w.WriteHeader(503)
			}
		},
		change: func(o *proxy.Options) {
			o.Plans["month"] = newPlan("month", quota.Limit{Amount: 1, Period: quota.Month})
			o.Plans["minute"] = newPlan("minute", quota.Limit{Amount: 1, Period: quota.Minute})
			o.Plans["tries"] = triesPlan() // one attempt comes back every 20 minutes
		},
	})
	for _, c := range []struct {
		plan, path string
		status     int
		want       string
	}{
		{"month", "/api/analyze", 429, "false"},
		{"tries", "/api/analyze", 429, "false"},
		{"minute", "/api/analyze", 429, ""},
		{"enterprise", "/api/analyze?true", 503, "true"},
		{"enterprise", "/shed?false", 503, "false"},
		{"enterprise", "/api/analyze", 200, ""},
	} {
		tok := token(c.plan, c.plan)
		res := r.do(tok, "POST", c.path, nil)
		for c.status == 429 && res.StatusCode == 200 {
			res = r.do(tok, "POST", c.path, nil)
		}
		if got := res.Header.Get("X-Should-Retry"); got != c.want || res.StatusCode != c.status {
			t.Errorf("%s %s: %s, Retry-After %q, X-Should-Retry %q, want %q", c.plan, c.path, res.Status, res.Header.Get("Retry-After"), got, c.want)
		}
	}
}

// TestOpenAIReportsQuotaAtOnce: OpenAI's SDK obeys a Retry-After, however long, unless it
// is told not to retry. The limit of a month is reported after one request.
func TestOpenAIReportsQuotaAtOnce(t *testing.T) {
	modules := filepath.Join(testkit.ModuleRoot(t), ".ci/npm/node_modules")
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(modules, "openai"))
	}
	if err != nil {
		if os.Getenv("METERGATE_TEST_REQUIRE") != "" {
			t.Fatal(err)
		}
		t.Skip("run .ci/install for Node.js and the npm packages: ", err)
	}
	const script = `
const { OpenAI } = require(process.argv[1] + '/openai');
const client = new OpenAI({ baseURL: process.argv[2] + '/v1', apiKey: process.argv[3] });
client.chat.completions.create({ model: 'small', messages: [{ role: 'user', content: 'hello' }] }).then(
	() => console.log('answered'),
	(e) => console.log(e.constructor.name, e.status, e.headers.get('x-usage')),
);
`
	r := newTestGateway(t, setup{routes: []proxy.Route{{Pattern: "POST /v1/chat/completions", Endpoint: "analyze"}}})
	tok := token("u", "one")
	r.do(tok, "POST", "/api/analyze", nil)
	before := r.store.calls.Load()
	out, err := exec.CommandContext(t.Context(), node, "-e", script, modules, r.gateway.URL, tok).CombinedOutput()
	if want := "RateLimitError 429 1/1\n"; string(out) != want || err != nil {
		t.Errorf("%s, error %v, want %s", out, err, want)
	}
	if n := r.store.calls.Load() - before; n != 1 {
		t.Errorf("it asked %d times", n)
	}
}
