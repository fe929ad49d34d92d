package browser_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"metergate/proxy/browser"
)

// A fakeGateway stands in for the real one where a test needs faults that the real one
// cannot be made to have. The tests of cmd/metergate run the real one.
type fakeGateway struct {
	*httptest.Server
	mu      sync.Mutex
	used    int
	usedBy  map[string]int // by user, instead of used
	extra   map[string]any // replace members of the usage object
	changed chan struct{}  // closed at each change
	last    time.Time      // as_of of the last usage object
	open    int            // streams that are open
	opened  int            // streams that have been opened
	asked   []string       // "METHOD path Authorization" of each request under /usage and /api
	// instead, if not nil, may answer a request; it returns whether it has.
	instead func(w http.ResponseWriter, r *http.Request) bool
}

const emptyPage = `<!doctype html><html lang="en"><meta charset="utf-8"><title>test</title>
<body><script type="module">
import * as client from '/usage/client.js';
import '/usage/meter.js';
Object.assign(window, client);
window.ready = true;
</script>`

func newFakeGateway(t testing.TB) *fakeGateway {
	g := &fakeGateway{changed: make(chan struct{})}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.Write([]byte(emptyPage))
	})
	for _, name := range browser.Names() {
		mux.HandleFunc("/usage/"+name, func(w http.ResponseWriter, r *http.Request) { browser.Serve(w, r, name) })
	}
	mux.HandleFunc("/usage", g.answer(func(w http.ResponseWriter, r *http.Request) { w.Write(g.usageFor(r)) }))
	mux.HandleFunc("/usage/stream", g.answer(g.stream))
	mux.HandleFunc("/usage/history", g.answer(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(404) }))
	mux.HandleFunc("/api/", g.answer(func(w http.ResponseWriter, r *http.Request) {}))
	g.Server = httptest.NewServer(mux)
	t.Cleanup(func() {
		g.CloseClientConnections()
		g.Close()
	})
	return g
}

func (g *fakeGateway) answer(h http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.asked = append(g.asked, r.Method+" "+r.URL.Path+" "+r.Header.Get("Authorization"))
		instead := g.instead
		g.mu.Unlock()
		if instead == nil || !instead(w, r) {
			h(w, r)
		}
	}
}

// usage returns the usage object of alice as JSON.
func (g *fakeGateway) usage() []byte { return g.usageOf("alice", "free") }

// usageFor returns the usage object of the user and the plan that the token of a request
// names, or of alice.
func (g *fakeGateway) usageFor(r *http.Request) []byte {
	claims := struct{ Sub, Plan string }{"alice", "free"}
	if parts := strings.Split(r.Header.Get("Authorization"), "."); len(parts) == 3 {
		payload, err := base64.RawURLEncoding.DecodeString(parts[1])
		if err == nil {
			err = json.Unmarshal(payload, &claims)
		}
		if err != nil {
			panic(err)
		}
	}
	return g.usageOf(claims.Sub, claims.Plan)
}

func (g *fakeGateway) usageOf(user, plan string) []byte {
	g.mu.Lock()
	defer g.mu.Unlock()
	used, ok := g.usedBy[user]
	if !ok {
		used = g.used
	}
	status := "ok"
	switch {
	case used >= 100:
		status = "blocked"
	case used >= 80:
		status = "warning"
	}
	// Each object is later than the one before, as those of one stream are, so that a count may go down.
	if now := time.Now().UTC().Truncate(time.Millisecond); now.After(g.last) {
		g.last = now
	} else {
		g.last = g.last.Add(time.Millisecond)
	}
	u := map[string]any{
		"user": user, "plan": plan, "used": used, "limit": 100, "remaining": max(0, 100-used),
		"in_flight": 0, "percent": used, "status": status, "allowed": used < 100,
		"period":    map[string]any{"per": "month", "start": "2026-11-01T00:00:00Z", "end": "2126-12-01T00:00:00Z"},
		"endpoints": map[string]any{"analyze": map[string]any{"used": used}, "report": map[string]any{"used": 0}},
		"limits":    []any{map[string]any{"name": "month", "per": "month", "used": used, "limit": 100, "remaining": max(0, 100-used), "resets_at": "2126-12-01T00:00:00Z"}},
		"stale":     false, "as_of": g.last.Format("2006-01-02T15:04:05.000Z07:00"),
	}
	maps.Copy(u, g.extra)
	b, err := json.Marshal(u)
	if err != nil {
		panic(err)
	}
	return b
}

// set changes the count and, by pairs of name and value, other members.
func (g *fakeGateway) set(used int, extra ...any) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.used, g.extra = used, map[string]any{}
	for i := 0; i < len(extra); i += 2 {
		g.extra[extra[i].(string)] = extra[i+1]
	}
	close(g.changed)
	g.changed = make(chan struct{})
}

func (g *fakeGateway) answerWith(instead func(w http.ResponseWriter, r *http.Request) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.instead = instead
}

func (g *fakeGateway) streams() (open, opened int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.open, g.opened
}

// countStream counts a stream that a test answers by itself.
func (g *fakeGateway) countStream() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.opened++
}

func (g *fakeGateway) requests() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]string(nil), g.asked...)
}

func (g *fakeGateway) stream(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	g.open++
	g.opened++
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		g.open--
		g.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "retry: 1000\n\n")
	beat := time.NewTicker(100 * time.Millisecond)
	defer beat.Stop()
	var changed chan struct{}
	for text := ""; ; {
		if text == "" {
			// Not at a heartbeat, which would lose a change that arrived at the same time.
			g.mu.Lock()
			changed = g.changed
			g.mu.Unlock()
			text = fmt.Sprintf("event: usage\ndata: %s\n\n", g.usageFor(r))
		}
		fmt.Fprint(w, text)
		w.(http.Flusher).Flush()
		select {
		case <-changed:
			text = ""
		case <-beat.C:
			text = ":\n\n"
		case <-r.Context().Done():
			return
		}
	}
}

// fakeToken makes an unsigned token with these claims.
func fakeToken(claims string) string {
	return "e30." + base64.RawURLEncoding.EncodeToString([]byte(claims)) + ".sig"
}
