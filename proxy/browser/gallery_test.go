package browser_test

import (
	"context"
	"flag"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"

	"github.com/chromedp/chromedp"

	"metergate/proxy/browser"
	"metergate/proxy/browser/browsertest"
)

var shots = flag.String("shots", "", "`DIR` to write pictures of the element in all its states to")

// languages are those of messages.js.
var languages = []string{"en", "de", "fr", "es", "ar"}

// serveGallery serves pages that show the elements in all their states, with made-up clients:
// gallery.html and upgrade.html.
func serveGallery(t testing.TB) string {
	mux := http.NewServeMux()
	mux.HandleFunc("/usage/{name}", func(w http.ResponseWriter, r *http.Request) { browser.Serve(w, r, r.PathValue("name")) })
	mux.Handle("/", http.FileServer(http.Dir("testdata")))
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

// shot takes a picture of the whole page, in both colour schemes and with forced colours, if -shots is
// set.
func shot(t *testing.T, tab *browsertest.Tab, name string) {
	t.Helper()
	if *shots == "" {
		return
	}
	defer tab.Media()
	for scheme, features := range map[string][]string{
		"light":  {"prefers-color-scheme", "light"},
		"dark":   {"prefers-color-scheme", "dark"},
		"forced": {"forced-colors", "active"},
	} {
		tab.Media(append(features, "prefers-reduced-motion", "reduce")...)
		var png []byte
		tab.Do(func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
			var err error
			png, err = chromedp.FullScreenshot(100)(ctx, target)
			return chromedp.Void{}, err
		})
		if err := os.WriteFile(filepath.Join(*shots, name+"-"+scheme+".png"), png, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
