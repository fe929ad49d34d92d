package demoapi

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPageAndUsersAreServed(t *testing.T) {
	console := "http://127.0.0.1:9090/"
	users := []User{{Name: "alice", Plan: "free", About: "100 a month", Token: "a.b.c"}}
	get := func(h http.Handler, path string, header ...string) *httptest.ResponseRecorder {
		r := httptest.NewRequest("GET", path, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Set(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w
	}
	for path, contentType := range map[string]string{
		"/":                   "text/html; charset=utf-8",
		"/demo/dashboard.js":  "text/javascript; charset=utf-8",
		"/demo/results.js":    "text/javascript; charset=utf-8",
		"/demo/session.js":    "text/javascript; charset=utf-8",
		"/demo/usage.js":      "text/javascript; charset=utf-8",
		"/demo/dashboard.css": "text/css; charset=utf-8",
		"/demo/icon.svg":      "image/svg+xml",
	} {
		w := get(WithPage(users, func() *string { return &console }), path)
		if w.Code != 200 || w.Header().Get("Content-Type") != contentType {
			t.Errorf("%s: %d %s, want %s", path, w.Code, w.Header().Get("Content-Type"), contentType)
		}
		if csp := w.Header().Get("Content-Security-Policy"); !strings.HasPrefix(csp, "default-src 'self';") || strings.Contains(csp, "unsafe") {
			t.Errorf("%s: policy %q", path, csp)
		}
		if again := get(WithPage(users, func() *string { return &console }), path, "If-None-Match", w.Header().Get("Etag")); again.Code != 304 {
			t.Errorf("%s again: %d", path, again.Code)
		}
		// The API alone serves no page and no tokens.
		if w := get(Handler(), path); w.Code != 404 {
			t.Errorf("%s of the API alone: %d", path, w.Code)
		}
	}
	for _, path := range []string{"/demo/", "/demo/nothing", "/demo/index.html/x", "/nothing"} {
		if w := get(WithPage(users, func() *string { return &console }), path); w.Code != 404 {
			t.Errorf("%s: %d, want 404", path, w.Code)
		}
	}

	w := get(WithPage(users, func() *string { return &console }), "/demo/users.json", "Sec-Fetch-Site", "same-origin")
	var got []User
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || len(got) != 1 || got[0] != users[0] || w.Header().Get("Cache-Control") != "no-store" {
		t.Errorf("users: %s, error %v, %v", w.Body, err, w.Header())
	}
	for _, site := range []string{"cross-site", "same-site", "none"} {
		if w := get(WithPage(users, func() *string { return &console }), "/demo/users.json", "Sec-Fetch-Site", site); w.Code != 403 || strings.Contains(w.Body.String(), "a.b.c") {
			t.Errorf("users, for %s: %d %s", site, w.Code, w.Body)
		}
	}
	if w := get(Handler(), "/demo/users.json"); w.Code != 404 {
		t.Errorf("users of the API alone: %d", w.Code)
	}
	if w := get(WithPage(users, func() *string { return &console }), "/demo/console"); w.Code != 302 || w.Header().Get("Location") != console {
		t.Errorf("GET /demo/console: %d, %q", w.Code, w.Header().Get("Location"))
	}
	if w := get(WithPage(users, func() *string { return nil }), "/demo/console"); w.Code != 503 {
		t.Errorf("GET /demo/console before the gateway has started: %d", w.Code)
	}
	if w := get(WithPage(users, func() *string { return &console }), "/api/health"); w.Code != 200 {
		t.Errorf("the API beside the page: %d", w.Code)
	}
}
