package admin

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/quota"
)

const (
	token       = "the-token-of-the-tests"
	viewerToken = "the-token-of-the-viewers"
)

// A listener is the handler with the warnings in its log, its metrics and a Gateway that counts reloads.
type listener struct {
	http.Handler
	log      bytes.Buffer
	registry *prometheus.Registry
	reloads  atomic.Int64
}

func newListener() *listener {
	l := &listener{registry: prometheus.NewRegistry()}
	l.Handler = Handler(Options{
		Gateway:  l,
		Registry: l.registry,
		Log:      slog.New(slog.NewTextHandler(&l.log, &slog.HandlerOptions{Level: slog.LevelWarn})),
	})
	return l
}

func (l *listener) Tokens() Tokens                          { return Tokens{token, viewerToken} }
func (l *listener) AdminHosts() []string                    { return []string{"example.com"} }
func (l *listener) ReloadConfig() ([]string, error)         { l.reloads.Add(1); return nil, nil }
func (l *listener) AcceptData(context.Context) (int, error) { return 0, nil }
func (l *listener) EffectiveConfig() any                    { return nil }
func (l *listener) PlansFor(string) quota.PlanChoice        { return quota.PlanChoice{} }
func (l *listener) HasOrganisations() bool                  { return false }

// send sends a token from an address. A token with a blank is the whole header.
func (l *listener) send(address, token string) *http.Response {
	r := httptest.NewRequest("POST", "/admin/reload", nil)
	r.RemoteAddr = address
	if token != "" && !strings.Contains(token, " ") {
		token = "Bearer " + token
	}
	if token != "" {
		r.Header.Set("Authorization", token)
	}
	w := httptest.NewRecorder()
	l.ServeHTTP(w, r)
	return w.Result()
}

// want sends a token and checks the answer: one step of a timeline.
func (l *listener) want(t *testing.T, address, token string, status int, retryAfter string) {
	t.Helper()
	res := l.send(address, token)
	if res.StatusCode != status || res.Header.Get("Retry-After") != retryAfter {
		t.Errorf("%s with %q: %d, Retry-After %q; want %d, %q", address, token, res.StatusCode, res.Header.Get("Retry-After"), status, retryAfter)
	}
	if challenge := res.Header.Get("WWW-Authenticate"); (challenge != "") != (status == 401) {
		t.Errorf("%s with %q: %d, WWW-Authenticate %q", address, token, status, challenge)
	}
}

// wantRefused compares the metrics of refused requests.
func (l *listener) wantRefused(t *testing.T, noToken, wrongToken, lockedOut, readOnly int) {
	t.Helper()
	w := httptest.NewRecorder()
	l.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	for reason, want := range map[string]int{"no_token": noToken, "wrong_token": wrongToken, "locked_out": lockedOut, "read_only": readOnly} {
		if line := fmt.Sprintf("\nmetergate_admin_refused_total{reason=%q} %d\n", reason, want); !strings.Contains(w.Body.String(), line) {
			t.Errorf("the metrics have no %s:\n%s", line, w.Body)
		}
	}
}

// No response may be cached, sniffed, framed or read by other origins.
func TestSecurityHeaders(t *testing.T) {
	l := newListener()
	for _, c := range []struct {
		method, path, token string
		status              int
	}{
		{"GET", "/livez", "", 200},
		{"HEAD", "/livez", "", 200},
		{"GET", "/readyz", "", 200},
		{"GET", "/metrics", "", 200},
		{"POST", "/admin/reload", token, 200},
		{"POST", "/admin/reload", "", 401},
		{"POST", "/admin/reload", "wrong", 401},
		{"GET", "/admin/reload", token, 405},
		{"OPTIONS", "/admin/reload", token, 405},
		{"GET", "/nowhere", "", 404},
		{"GET", "/x", "", 404},
	} {
		r := httptest.NewRequest(c.method, c.path, nil)
		r.Header.Set("Origin", "http://example.com") // the same origin
		r.Header.Set("Access-Control-Request-Method", "POST")
		if c.token != "" {
			r.Header.Set("Authorization", "Bearer "+c.token)
		}
		w := httptest.NewRecorder()
		l.ServeHTTP(w, r)
		if w.Code != c.status {
			t.Errorf("%s %s: %d, want %d", c.method, c.path, w.Code, c.status)
		}
		for name, want := range map[string]string{
			"Cache-Control":                "no-store",
			"Content-Security-Policy":      "default-src 'none'; frame-ancestors 'none'",
			"Cross-Origin-Resource-Policy": "same-origin",
			"X-Content-Type-Options":       "nosniff",
			"Access-Control-Allow-Origin":  "",
			"Access-Control-Allow-Headers": "",
		} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s %s: %s is %q, want %q", c.method, c.path, name, got, want)
			}
		}
	}
}

// The page of the console comes from a link or a bookmark as well, and no other site can read or show it.
func TestConsoleIsServedToItsOwnOrigin(t *testing.T) {
	l := newListener()
	for _, c := range []struct {
		path, host, name, value string
		status                  int
	}{
		{"/", "127.0.0.1:9090", "", "", 200},
		{"/", "127.0.0.1:9090", "Sec-Fetch-Site", "none", 200},       // a bookmark
		{"/", "127.0.0.1:9090", "Sec-Fetch-Site", "cross-site", 200}, // a link; it cannot be read, nor framed
		{"/console/icon.svg", "127.0.0.1:9090", "Sec-Fetch-Site", "same-origin", 200},
		{"/console/nothing.svg", "127.0.0.1:9090", "", "", 404},
		{"/", "evil.example", "", "", 421},
		{"/console/icon.svg", "evil.example", "", "", 421},
	} {
		for _, method := range []string{"GET", "HEAD"} {
			r := httptest.NewRequest(method, c.path, nil)
			r.Host = c.host
			if c.name != "" {
				r.Header.Set(c.name, c.value)
			}
			w := httptest.NewRecorder()
			l.ServeHTTP(w, r)
			h := w.Header()
			if w.Code != c.status || h.Get("Cross-Origin-Resource-Policy") != "same-origin" || h.Get("Access-Control-Allow-Origin") != "" ||
				!strings.Contains(h.Get("Content-Security-Policy"), "frame-ancestors 'none'") || h.Get("X-Content-Type-Options") != "nosniff" {
				t.Errorf("%s %s at %s with %s %s: %d %v", method, c.path, c.host, c.name, c.value, w.Code, h)
			}
			if w.Code >= 400 && h.Get("Content-Type") != "application/problem+json" {
				t.Errorf("%s %s: %s, want a problem document", method, c.path, h.Get("Content-Type"))
			}
		}
	}
	r := httptest.NewRequest("POST", "/", nil)
	w := httptest.NewRecorder()
	if l.ServeHTTP(w, r); w.Code != 405 || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST /: %d %v", w.Code, w.Header())
	}
}

// An action has one line in the log, which has no token.
func TestActionsAreLogged(t *testing.T) {
	l, log := newListener(), new(bytes.Buffer)
	l.Handler = Handler(Options{Gateway: l, Log: slog.New(slog.NewTextHandler(log, nil))})
	l.want(t, "10.0.0.1:1000", token, 200, "")
	l.want(t, "10.0.0.1:1000", viewerToken, 403, "")
	const line = `level=INFO msg="administrator's action" action=reload from=10.0.0.1 detail="" reason="" outcome=done`
	if text := log.String(); strings.Count(text, "\n") != 1 || !strings.Contains(text, line) {
		t.Errorf("the log is\n%s", text)
	}
}

// A reload may exchange the tokens, or take the viewers' away.
func TestTokensAreThoseInForce(t *testing.T) {
	for _, c := range []struct {
		tokens Tokens
		token  string
		want   role
	}{
		{Tokens{token, viewerToken}, token, administrator},
		{Tokens{token, viewerToken}, viewerToken, viewer},
		{Tokens{viewerToken, token}, token, viewer},
		{Tokens{token, ""}, viewerToken, 0},
		{Tokens{token, ""}, "", 0},
		{Tokens{token, token}, token, administrator},
		{Tokens{"", viewerToken}, "", 0},
	} {
		if got := c.tokens.roleOf(c.token); got != c.want {
			t.Errorf("%q of %+v: %d, want %d", c.token, c.tokens, got, c.want)
		}
	}
}

// A request from another site's page does nothing, even with the token.
func TestCrossSiteRequestsAreRefused(t *testing.T) {
	l := newListener()
	for _, c := range []struct {
		name, value string
		status      int
	}{
		{"Sec-Fetch-Site", "cross-site", 403},
		{"Sec-Fetch-Site", "same-site", 403},
		{"Sec-Fetch-Site", "same-origin", 200},
		{"Sec-Fetch-Site", "none", 200},
		{"Origin", "https://elsewhere.example", 403},
		{"Origin", "null", 403},
		{"Origin", "http://example.com", 200}, // httptest's Host
	} {
		r := httptest.NewRequest("POST", "/admin/reload", nil)
		r.Header.Set("Authorization", "Bearer "+token)
		r.Header.Set(c.name, c.value)
		before := l.reloads.Load()
		w := httptest.NewRecorder()
		l.ServeHTTP(w, r)
		if w.Code != c.status || (l.reloads.Load() > before) != (c.status == 200) {
			t.Errorf("%s: %s: %d, %d reloads", c.name, c.value, w.Code, l.reloads.Load()-before)
		}
		var problem struct{ Status int }
		if c.status == 403 && (json.Unmarshal(w.Body.Bytes(), &problem) != nil || problem.Status != 403) {
			t.Errorf("%s: %s: %s", c.name, c.value, w.Body)
		}
	}
}

func TestRequestBodyIsBounded(t *testing.T) {
	var err error
	serve := withBounds(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, err = bytes.NewBuffer(nil).ReadFrom(r.Body)
	}))
	serve.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", bytes.NewReader(make([]byte, maxBodyBytes))))
	if err != nil {
		t.Error(err)
	}
	serve.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest("POST", "/", bytes.NewReader(make([]byte, maxBodyBytes+1))))
	if tooLarge := new(http.MaxBytesError); !errors.As(err, &tooLarge) {
		t.Errorf("one byte more: %v", err)
	}
}
