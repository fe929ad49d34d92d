package demoapi

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"net/http"
	"path"
	"time"
)

//go:embed page
var pageFiles embed.FS

// pagePolicy is the Content-Security-Policy: only the page's own origin, nothing inline.
const pagePolicy = "default-src 'self'; base-uri 'none'; object-src 'none'; form-action 'self'; frame-ancestors 'none'; require-trusted-types-for 'script'"

// A User is a demo user. The page can send requests as each of them.
type User struct {
	Name  string `json:"name"`
	Plan  string `json:"plan"`
	About string `json:"about"` // describes the plan in a few words
	Token string `json:"token"`
}

// WithPage serves the API and a page to try it. The page gives the users' tokens to
// whoever opens it. The gateway in front must forward these without a token:
//
//	GET /                 the page
//	GET /demo/            its files
//	GET /demo/users.json  the users
//	GET /demo/console     leads to the gateway's console
//
// console returns the URL of the console; nil: it is not known yet.
func WithPage(users []User, console func() *string) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/", Handler())
	mux.HandleFunc("GET /{$}", func(w http.ResponseWriter, r *http.Request) { servePage(w, r, "index.html") })
	mux.HandleFunc("GET /demo/{file}", func(w http.ResponseWriter, r *http.Request) { servePage(w, r, r.PathValue("file")) })
	mux.HandleFunc("GET /demo/console", func(w http.ResponseWriter, r *http.Request) {
		url := console()
		if url == nil {
			http.Error(w, "the gateway is still starting", http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Cache-Control", "no-store") // its port is another one after a restart
		http.Redirect(w, r, *url, http.StatusFound)
	})
	mux.HandleFunc("GET /demo/users.json", func(w http.ResponseWriter, r *http.Request) {
		// The demo's gateway allows any origin, but only the page may have the tokens.
		if site := r.Header.Get("Sec-Fetch-Site"); site != "" && site != "same-origin" {
			http.Error(w, "only for this demo's own page", http.StatusForbidden)
			return
		}
		w.Header().Set("Cache-Control", "no-store")
		writeJSON(w, http.StatusOK, users)
	})
	return mux
}

// servePage serves a file of the page.
func servePage(w http.ResponseWriter, r *http.Request, name string) {
	body, err := pageFiles.ReadFile(path.Join("page", name))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	sum := sha256.Sum256(body)
	h := w.Header()
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-cache")
	h.Set("Etag", `"`+hex.EncodeToString(sum[:8])+`"`)
	// ServeContent also answers 304, and derives the Content-Type from the name.
	http.ServeContent(w, r, name, time.Time{}, bytes.NewReader(body))
}
