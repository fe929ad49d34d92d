// Package browser holds what the gateway serves to browsers: client.js, which follows a
// user's usage, elements that show it, such as that of meter.js, and react.js for React. They are
// also the files of an npm package, @metergate/client, which the gateway serves as client.tgz.
//
// All are ES modules, bundled from the sources in src. They import one another, and react.js
// imports React, but nothing else. The bundles are committed, so building the gateway needs no
// bundler; after a change of src run go generate. They need no token and may be imported from any origin. A page with a
// Content-Security-Policy names the gateway in script-src and connect-src, and needs to
// allow nothing inline.
package browser

import (
	"crypto/sha256"
	"embed"
	"encoding/base64"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

//go:generate go test -run ^(TestBundlesAreCurrent|TestTypesHaveEveryMessage)$ -update .

//go:embed *.js *.d.ts package.json README.md LICENSE
var embedded embed.FS

// A file is what Serve sends for one name.
type file struct {
	body        []byte
	contentType string
	etag        string
}

var files = func() map[string]file {
	m := map[string]file{}
	entries, err := embedded.ReadDir(".")
	if err != nil {
		panic("browser: " + err.Error()) // the build would have failed
	}
	for _, e := range entries {
		body, err := embedded.ReadFile(e.Name())
		if err != nil {
			panic("browser: " + err.Error())
		}
		switch filepath.Ext(e.Name()) {
		case ".js":
			m[e.Name()] = newFile(body, "text/javascript; charset=utf-8")
		case ".ts":
			m[e.Name()] = newFile(body, "text/plain; charset=utf-8") // for people and compilers
		}
	}
	return m
}()

func newFile(body []byte, contentType string) file {
	sum := sha256.Sum256(body)
	return file{body, contentType, `"` + base64.RawURLEncoding.EncodeToString(sum[:16]) + `"`}
}

// Names returns the names of all files.
func Names() []string { return append(slices.Sorted(maps.Keys(files)), Archive) }

// Serve answers a GET or HEAD request with the file of that name and returns the status:
// 200, 304 if the client has the current file, 404 for any other name.
func Serve(w http.ResponseWriter, r *http.Request, name string) int {
	f, ok := files[name]
	if name == Archive {
		f = archive()
	} else if !ok {
		http.NotFound(w, r)
		return http.StatusNotFound
	}
	h := w.Header()
	// Any origin may load the files, so without credentials, whatever the API allows.
	h.Set("Access-Control-Allow-Origin", "*")
	h.Del("Access-Control-Allow-Credentials")
	h.Set("Cross-Origin-Resource-Policy", "cross-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	// Browsers revalidate each time, so an upgrade of the gateway reaches everyone at once.
	h.Set("Cache-Control", "no-cache")
	h.Set("Etag", f.etag)
	if matchesETag(r.Header.Values("If-None-Match"), f.etag) {
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

// matchesETag compares weakly, as RFC 9110 section 13.1.2 requires: proxies that compress
// turn a strong tag into a weak one.
func matchesETag(ifNoneMatch []string, etag string) bool {
	for _, value := range ifNoneMatch {
		for tag := range strings.SplitSeq(value, ",") {
			tag = strings.TrimSpace(tag)
			if tag == "*" || strings.TrimPrefix(tag, "W/") == etag {
				return true
			}
		}
	}
	return false
}
