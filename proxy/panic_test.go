package proxy_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"metergate/proxy"
	"metergate/quota"
)

// TestPanicIsLoggedOnce: a panic is in the gateway's log, once and with its stack, and
// not only where net/http writes it.
func TestPanicIsLoggedOnce(t *testing.T) {
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

// faulty is a Store whose Commit panics, and a ResponseWriter whose WriteHeader does.
type faulty struct {
	proxy.Store
	http.ResponseWriter
}

func (f faulty) Commit(context.Context, *quota.Reservation) (*quota.Snapshot, error) {
	panic("on purpose")
}

func (f faulty) WriteHeader(int) { panic("on purpose") }

// TestPanicLeavesNothingHeld: a panic before the commit gives the unit back, and one
// after it leaves the count. In both cases nothing stays held, and the gateway goes on.
func TestPanicLeavesNothingHeld(t *testing.T) {
	r := newTestGateway(t, setup{})
	broken := r.options
	broken.Store = faulty{Store: r.store}
	for name, c := range map[string]struct {
		options proxy.Options
		wrap    func(http.ResponseWriter) http.ResponseWriter
		used    int64
	}{
		"before": {broken, func(w http.ResponseWriter) http.ResponseWriter { return w }, 0},
		"after":  {r.options, func(w http.ResponseWriter) http.ResponseWriter { return faulty{ResponseWriter: w} }, 1},
	} {
		g, err := proxy.New(c.options)
		if err != nil {
			t.Fatal(err)
		}
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			g.ServeHTTP(c.wrap(w), req)
		}))
		server.Config.ErrorLog = quiet
		server.Start()
		req, _ := http.NewRequest("POST", server.URL+"/api/analyze", strings.NewReader("text"))
		req.Header.Set("Authorization", "Bearer "+token(name, ""))
		if res, err := http.DefaultClient.Do(req); err == nil {
			t.Errorf("%s: %s", name, res.Status)
		}
		server.Close()
		r.want(name, "", c.used)
	}
}
