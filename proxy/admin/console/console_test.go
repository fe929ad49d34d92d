package console

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// The page and its files are served without a token, under a policy that allows nothing inline.
func TestHandlerServesPage(t *testing.T) {
	h := Handler()
	get := func(path, etag string) *http.Response {
		r := httptest.NewRequest("GET", path, nil)
		r.Header.Set("If-None-Match", etag)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		return w.Result()
	}
	for path, kind := range map[string]string{
		"/": "text/html; charset=utf-8", "/console/icon.svg": "image/svg+xml",
		"/console/uplot-1.6.32/uPlot.iife.min.js": "text/javascript; charset=utf-8",
		"/console/uplot-1.6.32/LICENSE":           "text/plain; charset=utf-8",
	} {
		res := get(path, "")
		if res.StatusCode != http.StatusOK || res.Header.Get("Content-Type") != kind {
			t.Errorf("GET %s: %s, %s; want 200, %s", path, res.Status, res.Header.Get("Content-Type"), kind)
		}
		policy := res.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("GET %s: the policy is %q", path, policy)
		}
		if again := get(path, res.Header.Get("Etag")); again.StatusCode != http.StatusNotModified {
			t.Errorf("GET %s with its Etag: %s, want 304", path, again.Status)
		}
	}
	for _, path := range []string{"/console/", "/console/index.html", "/console/../console.go", "/other"} {
		if res := get(path, ""); res.StatusCode == http.StatusOK {
			t.Errorf("GET %s is served", path)
		}
	}
}
