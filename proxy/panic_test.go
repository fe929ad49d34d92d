package proxy_test

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"metergate/proxy"
)

// A defect of the gateway stands in its log, once and with the place, and not only where
// net/http writes it.
func TestPanicIsLogged(t *testing.T) {
	var log, server bytes.Buffer
	r := newTestGateway(t, setup{})
	o := r.options
	o.Store, o.Log = faulty{Store: r.store}, slog.New(slog.NewJSONHandler(&log, nil))
	g, err := proxy.New(o)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(g)
	s.Config.ErrorLog = slog.NewLogLogger(slog.NewTextHandler(&server, nil), slog.LevelInfo)
	s.Start()
	req, _ := http.NewRequest("POST", s.URL+"/api/analyze", nil)
	req.Header.Set("Authorization", "Bearer "+token("u", ""))
	if res, err := http.DefaultClient.Do(req); err == nil {
		t.Errorf("it was answered: %s", res.Status)
	}
	s.Close() // the handler has ended
	got := log.String()
	if strings.Count(got, `"level":"ERROR"`) != 1 || !strings.Contains(got, `"panic":"on purpose"`) || !strings.Contains(got, "faulty.Commit") {
		t.Errorf("the log says:\n%s", got)
	}
	if server.Len() > 0 {
		t.Errorf("net/http says:\n%s", &server)
	}
}
