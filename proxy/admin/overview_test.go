package admin

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy/admin/recent"
)

// A watched is a gateway that a test changes while it is watched.
type watched struct {
	*listener
	streams EventStreams

	mu     sync.Mutex
	tokens Tokens
	state  Overview
	checks map[string]func(context.Context) error
}

func newWatched() *watched {
	w := &watched{listener: newListener(), tokens: Tokens{token, viewerToken}}
	w.Handler = Handler(Options{Gateway: w, Probes: w, Monitor: w, Recent: recent.New(prometheus.NewRegistry()), EventStreams: &w.streams})
	return w
}

func (w *watched) Tokens() Tokens                                 { w.mu.Lock(); defer w.mu.Unlock(); return w.tokens }
func (w *watched) Session() Session                               { return Session{Version: "1.2.3", Plans: []string{"free"}} }
func (w *watched) Overview() Overview                             { w.mu.Lock(); defer w.mu.Unlock(); return w.state }
func (w *watched) Draining() bool                                 { return false }
func (w *watched) Waiting() error                                 { return nil }
func (w *watched) Checks() map[string]func(context.Context) error { return w.checks }

func (w *watched) set(change func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	change()
}

// A stream is a ResponseWriter whose body can be read while it is written.
type stream struct {
	header http.Header

	mu   sync.Mutex
	text strings.Builder
}

func (s *stream) Header() http.Header { return s.header }
func (s *stream) WriteHeader(int)     {}
func (s *stream) Flush()              {}

func (s *stream) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

// take returns what was written since the last call.
func (s *stream) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.text.Reset()
	return s.text.String()
}

// open requests a path, and returns what was answered so far and whether the answer has ended.
func (w *watched) open(ctx context.Context, path, token string) (text func() string, ended func() bool) {
	r := httptest.NewRequestWithContext(ctx, "GET", path, nil)
	r.Header.Set("Authorization", "Bearer "+token)
	res, done := &stream{header: http.Header{}}, make(chan struct{})
	go func() {
		defer close(done)
		w.ServeHTTP(res, r)
	}()
	text = func() string {
		synctest.Wait()
		return res.take()
	}
	return text, func() bool {
		synctest.Wait()
		select {
		case <-done:
			return true
		default:
			return false
		}
	}
}

func TestSessionSaysTheRole(t *testing.T) {
	w := newWatched()
	for token, role := range map[string]string{token: "admin", viewerToken: "viewer"} {
		r := httptest.NewRequest("GET", "/admin/session", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		res := httptest.NewRecorder()
		w.ServeHTTP(res, r)
		var s Session
		if err := json.Unmarshal(res.Body.Bytes(), &s); err != nil || s.Role != role || s.Version != "1.2.3" {
			t.Errorf("%s: %+v, error %v", token, s, err)
		}
	}
}

// A part that does not answer holds the overview up for a second, and the other parts not at all.
func TestOverviewWaitsForNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, never := newWatched(), make(chan struct{})
		w.checks = map[string]func(context.Context) error{
			"configuration": func(context.Context) error { return nil },
			"data":          func(context.Context) error { return errors.New("lost") },
			"store":         func(context.Context) error { <-never; return nil },
			"journal":       func(context.Context) error { <-never; return nil },
		}
		for _, path := range []string{"/admin/overview", "/readyz"} {
			begun := time.Now()
			text, ended := w.open(t.Context(), path, viewerToken)
			time.Sleep(checkTimeout)
			if !ended() || time.Since(begun) != time.Second {
				t.Fatalf("%s: no answer after %v", path, time.Since(begun))
			}
			var o Overview
			if err := json.Unmarshal([]byte(text()), &o); err != nil {
				t.Fatal(err)
			}
			const late = "it does not answer within 1s"
			if c := o.Checks; len(c) != 4 || c["configuration"] != "ok" || c["data"] != "lost" || c["store"] != late || c["journal"] != late {
				t.Errorf("%s: the checks are %v", path, c)
			}
			if path == "/admin/overview" && (o.Series == nil || o.Series.StepSeconds != 10 || o.Point != nil) {
				t.Errorf("series %v, point %v", o.Series, o.Point)
			}
		}
		close(never)
	})
}

// A stream begins with an event, has one when something has changed, at most every two seconds, and a
// comment when nothing has for a while.
func TestEventsTellChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched()
		ctx, leave := context.WithCancel(t.Context())
		text, ended := w.open(ctx, "/admin/events", viewerToken)
		if got := text(); !strings.HasPrefix(got, "event: overview\ndata: {\"gateway\":") || strings.Count(got, "\n\n") != 1 || strings.Contains(got, `"series"`) {
			t.Errorf("it begins with %q", got)
		}
		time.Sleep(13 * time.Second)
		if got := text(); got != "" {
			t.Errorf("without a change: %q", got)
		}
		time.Sleep(2 * time.Second)
		if got := text(); got != ": alive\n\n" {
			t.Errorf("after a while: %q", got)
		}
		for i := range 30 { // a change every 100 ms
			w.set(func() { w.state.Open.Requests = i + 1 })
			time.Sleep(100 * time.Millisecond)
		}
		time.Sleep(time.Second)
		if got := text(); strings.Count(got, "event: overview\n") != 2 || !strings.Contains(got, `"open":{"requests":30,`) {
			t.Errorf("after many changes: %q", got)
		}
		leave()
		if !ended() || w.streams.open != 0 {
			t.Errorf("the client has left, and %d streams are open", w.streams.open)
		}
	})
}

// A stream ends when its token is another one or none, when its role has changed, and when the gateway
// stops. It tells the client why.
func TestEventsEnd(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*watched)
		reason string
	}{
		"another viewer token": {func(w *watched) { w.tokens.Viewer = "another" }, "token_changed"},
		"no viewer token":      {func(w *watched) { w.tokens.Viewer = "" }, "token_changed"},
		"no token at all":      {func(w *watched) { w.tokens = Tokens{} }, "token_changed"},
		"now an administrator": {func(w *watched) { w.tokens = Tokens{Admin: viewerToken} }, "token_changed"},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWatched()
				text, ended := w.open(t.Context(), "/admin/events", viewerToken)
				text()
				w.set(func() { c.change(w); w.state.Gateway.Version = "secret" })
				time.Sleep(eventsEvery)
				if got, want := text(), "event: end\ndata: {\"reason\":\""+c.reason+"\"}\n\n"; got != want || !ended() {
					t.Errorf("got %q, want %q", got, want)
				}
			})
		})
	}
	t.Run("the gateway stops", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWatched()
			text, ended := w.open(t.Context(), "/admin/events", token)
			text()
			begun := time.Now()
			w.streams.End()
			if got := text(); got != "event: end\ndata: {\"reason\":\"shutting_down\"}\n\n" || !ended() || time.Since(begun) != 0 {
				t.Errorf("after %v: %q", time.Since(begun), got)
			}
			w.streams.End()
			if text, ended := w.open(t.Context(), "/admin/events", token); !ended() || !strings.Contains(text(), `"status":503`) {
				t.Error("a stream was opened after the end")
			}
		})
	})
}

// More than 32 streams at once are refused.
func TestEventsAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched()
		ctx, leave := context.WithCancel(t.Context())
		for range MaxEventStreams {
			if _, ended := w.open(ctx, "/admin/events", token); ended() {
				t.Fatal("a stream was refused")
			}
		}
		r := httptest.NewRequest("GET", "/admin/events", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		res := httptest.NewRecorder()
		if w.ServeHTTP(res, r); res.Code != http.StatusServiceUnavailable || res.Header().Get("Retry-After") == "" {
			t.Errorf("one more: %d %s", res.Code, res.Body)
		}
		leave()
		synctest.Wait()
		ctx, leave = context.WithCancel(t.Context())
		if _, ended := w.open(ctx, "/admin/events", token); ended() {
			t.Error("there is no room after the others have left")
		}
		leave()
	})
}
