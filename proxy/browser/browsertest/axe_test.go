package browsertest

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// Axe looks into shadow trees, and a finding says which rule an element breaks, and where.
func TestAxeNamesFaults(t *testing.T) {
	page := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		w.Write([]byte(`<!doctype html><html lang="en"><title>A page</title><main><h1>Good</h1><p id="good">Text</p><div id="host"></div></main>
<script>host.attachShadow({ mode: 'open' }).innerHTML = '<input id="bare"><p style="color: #999; background: #fff">Pale</p>';</script>`))
	}))
	t.Cleanup(page.Close)
	tab := Start(t).Open(t, page.URL, "")
	if passed, faults := tab.runAxe([]string{"#good"}); passed == 0 || len(faults) > 0 {
		t.Errorf("%d rules passed, faults: %q", passed, faults)
	}
	_, faults := tab.runAxe(nil)
	if text := strings.Join(faults, "\n"); len(faults) != 2 || !strings.Contains(text, "color-contrast (serious): #host p\n") || !strings.Contains(text, "label (critical): #host #bare\n") {
		t.Errorf("%d faults:\n%s", len(faults), text)
	}
}
