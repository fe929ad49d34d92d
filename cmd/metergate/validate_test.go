package main

import (
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// validate -online reaches the store and the upstreams, and asks for the health of an
// upstream that has a path for it.
func TestValidateOnline(t *testing.T) {
	up := httptest.NewServer(http.NotFoundHandler())
	defer up.Close()
	secure := httptest.NewTLSServer(http.NotFoundHandler())
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	defer secure.Close()
	file := filepath.Join(t.TempDir(), "gateway.yaml")
	for name, c := range map[string]struct {
		upstream string
		store    string
		code     int
		want     []string
	}{
		"all are there":  {up.URL, "embedded:data", 0, []string{"store: ok", "upstreams.analysis.targets[0] (" + up.URL + "): ok"}},
		"none is there":  {"http://127.0.0.1:1", "redis://127.0.0.1:1", 1, []string{"store: ", "targets[0] (http://127.0.0.1:1): ", "connection refused"}},
		"not trusted":    {secure.URL, "embedded:data", 1, []string{"certificate"}},
		"no upstream is": {"http://127.0.0.1:1", "embedded:data", 1, []string{"store: ok", "connection refused"}},
	} {
		text := strings.Replace(gatewaytest.ReloadYAML(c.upstream, 5), "embedded:data", c.store, 1)
		testkit.WriteFile(t, file, text)
		if name == "all are there" {
			sick := strings.Replace(text, "timeout: 60s", "timeout: 60s, health: { path: /healthz }", 1)
			testkit.WriteFile(t, file+".sick", sick)
			code, out := gatewaytest.Run(t, nil, "validate", "-config", file+".sick", "-online")
			if code != 1 || !strings.Contains(out, "/healthz answers 404") {
				t.Errorf("an upstream that is not healthy: exit status %d:\n%s", code, out)
			}
		}
		code, out := gatewaytest.Run(t, nil, "validate", "-config", file, "-online")
		if code != c.code {
			t.Errorf("%s: exit status %d, want %d:\n%s", name, code, c.code, out)
		}
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%s: no %q in:\n%s", name, want, out)
			}
		}
	}
}
