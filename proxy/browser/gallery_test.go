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

// serveGallery serves a page that shows the element in all its states, with made-up
// clients.
func serveGallery(t testing.TB) string {
	mux := http.NewServeMux()
	mux.HandleFunc("/usage/{name}", func(w http.ResponseWriter, r *http.Request) { browser.Serve(w, r, r.PathValue("name")) })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		http.ServeFile(w, r, "testdata/gallery.html")
	})
	s := httptest.NewServer(mux)
	t.Cleanup(s.Close)
	return s.URL
}

// shot takes a picture of the whole page if -shots is set.
func shot(t *testing.T, tab *browsertest.Tab, name string) {
	t.Helper()
	if *shots == "" {
		return
	}
	var png []byte
	tab.Do(func(ctx context.Context, target *chromedp.Target) (chromedp.Void, error) {
		var err error
		png, err = chromedp.FullScreenshot(100)(ctx, target)
		return chromedp.Void{}, err
	})
	if err := os.WriteFile(filepath.Join(*shots, name+".png"), png, 0o644); err != nil {
		t.Fatal(err)
	}
}
