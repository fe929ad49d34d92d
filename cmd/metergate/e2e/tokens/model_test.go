package tokens

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// tokensYAML is the configuration of the gateways. Of 1,000 tokens each is a unit.
const tokensYAML = `
listen: 127.0.0.1:0
shutdown_timeout: 30s
admin: { listen: 127.0.0.1:0 }
store: { url: "${STORE}", on_failure: "${ON_FAILURE:-deny}", timeout: "${STORE_TIMEOUT:-20s}" }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256], claims: { user: sub, plan: plan, org: org } } }
default_plan: tokens
plans:
  tokens: { limits: [{ units: 300, per: month }, { requests: 100000, per: month }] }
  team:   { limits: [{ units: 300, per: month }], shared: [{ units: 400, per: month }] }
upstreams:
  model: { targets: [{ url: "${UPSTREAM}" }], timeout: 20s }
routes:
  - match: "POST /v1/chat/{n}"
    endpoint: chat
    upstream: model
    cost: { max: 8, min: 1, from: "json usage.total_tokens", each: 1000, missing: min }
log: { level: info }
`

// startGateway starts a gateway in a folder of its own, where its journal is.
func startGateway(t *testing.T, redisURL, upstream string, env ...string) *gatewaytest.Process {
	t.Helper()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	testkit.WriteFile(t, file, tokensYAML)
	p := gatewaytest.Start(t, append([]string{"STORE=" + redisURL, "UPSTREAM=" + upstream}, env...), "serve", "-config", file)
	p.WaitUntilServing()
	return p
}

// A model is an upstream that streams. Each request has a number, which says what it costs.
type model struct {
	*httptest.Server
	seed  uint64
	pause time.Duration // between two events, at most

	mu      sync.Mutex
	streams map[int]bool // that have begun
}

func startModel(t *testing.T, random *rand.Rand, pause time.Duration) *model {
	m := &model{seed: random.Uint64(), pause: pause, streams: map[int]bool{}}
	m.Server = httptest.NewServer(m)
	t.Cleanup(m.Close)
	return m
}

// random is the source of what request n does.
func (m *model) random(n int) *rand.Rand { return rand.New(rand.NewPCG(m.seed, uint64(n))) }

// tokens is what request n costs; negative: it does not report it.
func (m *model) tokens(n int) int64 { return m.random(n).Int64N(11_000) - 500 }

// units is what request n is charged.
func (m *model) units(n int) int64 { return min(8, max(1, (m.tokens(n)+999)/1000)) }

func (m *model) hasBegun(n int) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.streams[n]
}

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(filepath.Base(r.URL.Path))
	if err != nil {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	m.mu.Lock()
	m.streams[n] = true
	m.mu.Unlock()
	random := m.random(n)
	random.Int64() // tokens takes it
	w.Header().Set("Content-Type", "text/event-stream")
	for range 1 + random.IntN(8) {
		io.WriteString(w, "data: {\"choices\":[{\"delta\":{\"content\":\"hello\"}}],\"usage\":null}\n\n")
		w.(http.Flusher).Flush()
		time.Sleep(time.Duration(random.Int64N(int64(m.pause) + 1))) // it thinks
	}
	if tokens := m.tokens(n); tokens >= 0 {
		fmt.Fprintf(w, "data: {\"choices\":[],\"usage\":{\"total_tokens\":%d}}\n\n", tokens)
	}
	io.WriteString(w, "data: [DONE]\n\n")
}

// A result is what a client saw of a request.
type result struct {
	status   int    // 0: there was no response
	complete bool   // the client has the whole body
	trailer  string // X-Usage-Cost
}

// call makes request n and reads the response.
func call(ctx context.Context, t *testing.T, client *http.Client, gateway, token string, n int) (r result) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, fmt.Sprint(gateway, "/v1/chat/", n), nil)
	if err != nil {
		t.Error(err)
		return r
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("TE", "trailers")
	res, err := client.Do(req)
	if err != nil {
		return r
	}
	defer res.Body.Close()
	r.status = res.StatusCode
	_, err = io.Copy(io.Discard, res.Body)
	r.complete = err == nil
	r.trailer = res.Trailer.Get("X-Usage-Cost")
	return r
}
