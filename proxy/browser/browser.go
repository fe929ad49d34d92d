// Package browser holds what the gateway serves to browsers: client.js, which
// follows a user's usage, and meter.js, which shows it.
//
// They are plain ES modules, served as they stand: no bundler, no dependency. They
// need no token and may be imported from any origin, under a Content-Security-Policy
// that names the gateway in script-src and connect-src and allows nothing inline.
package browser

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
)

//go:embed client.js meter.js client.d.ts
var embedded embed.FS

// A file is ready to be served.
type file struct {
	body        []byte
	contentType string
	etag        string
}

var files = func() map[string]file {
	m := map[string]file{}
	for name, contentType := range map[string]string{
		"client.js":   "text/javascript; charset=utf-8",
		"meter.js":    "text/javascript; charset=utf-8",
		"client.d.ts": "text/plain; charset=utf-8",
	} {
		body, err := embedded.ReadFile(name)
		if err != nil {
			panic("browser: " + err.Error()) // the build would have failed
		}
		sum := sha256.Sum256(body)
		m[name] = file{body, contentType, `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`}
	}
	return m
}()

// Serve answers a GET or HEAD request with the file of that name and returns the
// status: 200, 304 when the client has the file already, 404 for another name.
func Serve(w http.ResponseWriter, r *http.Request, name string) int {
	f, ok := files[name]
	if !ok {
		http.NotFound(w, r)
		return http.StatusNotFound
	}
	h := w.Header()
	// Any origin, and for that no credentials, whatever the gateway's API allows.
	h.Set("Access-Control-Allow-Origin", "*")
	h.Del("Access-Control-Allow-Credentials")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	// Always asked for again, so that an upgrade of the gateway reaches all at once.
	h.Set("Cache-Control", "no-cache")
	h.Set("Etag", f.etag)
	if matches(r.Header.Values("If-None-Match"), f.etag) {
		w.WriteHeader(http.StatusNotModified)
		return http.StatusNotModified
	}
	h.Set("Content-Type", f.contentType)
	h.Set("Content-Length", strconv.Itoa(len(f.body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		w.Write(f.body)
	}
	return http.StatusOK
}

// matches compares as RFC 9110 section 13.1.2 has it: weakly. Proxies that compress
// make a strong tag a weak one.
func matches(fields []string, etag string) bool {
	for _, field := range fields {
		for tag := range strings.SplitSeq(field, ",") {
			tag = strings.TrimSpace(tag)
			if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				return true
			}
		}
	}
	return false
}
