package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"metergate/config"
)

// At the start the log says what runs where.
func TestAnnounce(t *testing.T) {
	upstream := httptest.NewServer(http.NotFoundHandler())
	defer upstream.Close()
	dir := t.TempDir()
	g := startGateway(t, "embedded:"+dir, upstream.URL)
	for _, want := range []string{`"msg":"store","at":"embedded in ` + dir + `"`, `"msg":"upstream","name":"analysis","targets":"` + upstream.URL + `"`,
		`"msg":"serving","listen":"` + strings.TrimPrefix(g.url, "http://") + `","tls":false,"admin":"` + strings.TrimPrefix(g.admin, "http://") + `","admin_api":false`} {
		if !strings.Contains(g.output.String(), want) {
			t.Errorf("no %s in:\n%s", want, g.output)
		}
	}
}

func TestStorePlace(t *testing.T) {
	for url, want := range map[config.Secret]string{
		"embedded:/var/lib/x":                                    "embedded in /var/lib/x",
		"redis://localhost:6379/2":                               "redis://localhost:6379/2",
		"rediss://user:p%40ss@redis.example.com:6380?db=1":       "rediss://redis.example.com:6380",
		"rediss+cluster://u:p@a:1,b:2":                           "rediss+cluster://a:1,b:2",
		"redis+sentinel://:secret@a:1,b:2/main/3":                "redis+sentinel://a:1,b:2/main/3",
		"unix://user:secret@/run/redis.sock?db=1&password=other": "unix:///run/redis.sock",
	} {
		if got := storePlace(config.Store{URL: url}); got != want {
			t.Errorf("%s: %s, want %s", string(url), got, want)
		}
	}
}
