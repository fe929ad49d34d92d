// Package console is the page of the admin listener on which operators see and change what
// the admin API has: an overview, users, plans and upstreams.
//
// The files in page are served as they are, without a build step. They hold no data: the page asks
// for an admin token, keeps it for its tab, and gets everything from the admin API with it. Charts
// are drawn by uPlot, whose folder names its version and has its licence.
package console

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"
)

//go:embed page
var files embed.FS

// policy is the Content-Security-Policy: only files and data of this listener, and nothing
// inline. No code can turn text into HTML, so an id that contains some stays text.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// contentTypes has the types of the files by their extension. Those of the system may differ, and
// browsers run no module that is not JavaScript.
var contentTypes = map[string]string{
	".html": "text/html; charset=utf-8",
	".js":   "text/javascript; charset=utf-8",
	".css":  "text/css; charset=utf-8",
	".svg":  "image/svg+xml",
	"":      "text/plain; charset=utf-8", // LICENSE
}

// A file is what is served at one path.
type file struct {
	name string
	body []byte
	etag string
}

// Handler serves the page at / and its files below /console/. They need no token.
func Handler() *http.ServeMux {
	mux := http.NewServeMux()
	err := fs.WalkDir(files, "page", func(name string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		body, err := files.ReadFile(name)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(body)
		served, pattern := file{path.Base(name), body, `"` + hex.EncodeToString(sum[:8]) + `"`}, "GET /console/"+strings.TrimPrefix(name, "page/")
		if name == "page/index.html" {
			pattern = "GET /{$}"
		}
		mux.Handle(pattern, served)
		return nil
	})
	if err != nil {
		panic(err) // the program does not contain its own files
	}
	return mux
}

func (f file) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	h.Set("Etag", f.etag)
	h.Set("Content-Type", contentTypes[path.Ext(f.name)])
	// ServeContent also answers 304.
	http.ServeContent(w, r, f.name, time.Time{}, bytes.NewReader(f.body))
}
