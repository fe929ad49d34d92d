package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
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
