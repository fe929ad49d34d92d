package browser_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"metergate/proxy/browser"
)

func TestServeSetsHeadersAndETags(t *testing.T) {
	serve := func(method, name string, header ...string) *http.Response {
		r := httptest.NewRequest(method, "/usage/"+name, nil)
		for i := 0; i < len(header); i += 2 {
			r.Header.Add(header[i], header[i+1])
		}
		w := httptest.NewRecorder()
		// The CORS settings of the API may have set these.
		w.Header().Set("Access-Control-Allow-Origin", "https://app.example.com")
		w.Header().Set("Access-Control-Allow-Credentials", "true")
		status := browser.Serve(w, r, name)
		if res := w.Result(); res.StatusCode != status {
			t.Errorf("%s %s: returned %d, but answered %d", method, name, status, res.StatusCode)
		}
		return w.Result()
	}
	tags := map[string]bool{}
	if names := browser.Names(); !slices.Contains(names, "client.js") || !slices.Contains(names, "react.d.ts") {
		t.Fatal("the files are ", names)
	}
	for _, name := range browser.Names() {
		contentType := map[string]string{".js": "text/javascript; charset=utf-8", ".ts": "text/plain; charset=utf-8", ".tgz": "application/gzip"}[filepath.Ext(name)]
		res := serve("GET", name)
		size := bodyLen(res)
		for field, want := range map[string]string{
			"Content-Type":                     contentType,
			"Content-Length":                   strconv.Itoa(size),
			"Cache-Control":                    "no-cache",
			"Access-Control-Allow-Origin":      "*",
			"Access-Control-Allow-Credentials": "",
			"Cross-Origin-Resource-Policy":     "cross-origin",
			"X-Content-Type-Options":           "nosniff",
		} {
			if got := res.Header.Get(field); got != want {
				t.Errorf("%s: %s is %q, want %q", name, field, got, want)
			}
		}
		etag := res.Header.Get("Etag")
		if !strings.HasPrefix(etag, `"`) || tags[etag] {
			t.Errorf("%s: ETag %s", name, etag)
		}
		tags[etag] = true
		if res := serve("HEAD", name); res.StatusCode != 200 || res.Header.Get("Content-Length") != strconv.Itoa(size) || bodyLen(res) != 0 {
			t.Errorf("HEAD %s: %d, length %d", name, res.StatusCode, bodyLen(res))
		}
		for match, want := range map[string]int{
			etag: 304, "W/" + etag: 304, `"x", ` + etag: 304, "*": 304, `"x"`: 200, "": 200, strings.Trim(etag, `"`): 200,
		} {
			res := serve("GET", name, "If-None-Match", match)
			if res.StatusCode != want || (want == 304) != (bodyLen(res) == 0) || res.Header.Get("Etag") != etag {
				t.Errorf("%s with If-None-Match: %s: %d, want %d", name, match, res.StatusCode, want)
			}
		}
	}
	if res := serve("GET", "browser.go"); res.StatusCode != 404 {
		t.Errorf("another file: %d", res.StatusCode)
	}
}

func bodyLen(res *http.Response) int {
	n, _ := io.Copy(io.Discard, res.Body)
	return int(n)
}
