package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

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
		"all is there":   {up.URL, "embedded:data", 0, []string{"store: ok", "upstreams.analysis.targets[0] (" + up.URL + "): ok"}},
		"nothing is":     {"http://127.0.0.1:1", "redis://127.0.0.1:1", 1, []string{"store: ", "targets[0] (http://127.0.0.1:1): ", "connection refused"}},
		"not trusted":    {secure.URL, "embedded:data", 1, []string{"certificate"}},
		"no upstream is": {"http://127.0.0.1:1", "embedded:data", 1, []string{"store: ok", "connection refused"}},
	} {
		text := strings.Replace(fmt.Sprintf(reloadYAML, c.upstream, 5), "embedded:data", c.store, 1)
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if name == "all is there" {
			// Health is asked where there is a path for it.
			sick := strings.Replace(text, "timeout: 60s", "timeout: 60s, health: { path: /healthz }", 1)
			os.WriteFile(file+".sick", []byte(sick), 0o600)
			p := start(t, nil, "validate", "-config", file+".sick", "-online")
			<-p.done
			if p.code != 1 || !strings.Contains(p.output.String(), "/healthz answers 404") {
				t.Errorf("not healthy: exit status %d:\n%s", p.code, p.output)
			}
		}
		p := start(t, nil, "validate", "-config", file, "-online")
		<-p.done
		if p.code != c.code {
			t.Errorf("%s: exit status %d, want %d:\n%s", name, p.code, c.code, p.output)
		}
		for _, want := range c.want {
			if !strings.Contains(p.output.String(), want) {
				t.Errorf("%s: no %q in:\n%s", name, want, p.output)
			}
		}
	}
}
