package proxy_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy"
	"metergate/quota/testkit"
)

// line waits for the n-th access line: a client has its answer a moment earlier.
func (l *logged) line(t *testing.T, n int) map[string]any {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("%d lines", n), func() bool { return len(l.requests(t)) >= n })
	return l.requests(t)[n-1]
}

// TestAccessLogLineHasWhatIsKnown: each request has one line, with everything that is
// known about it and nothing else.
func TestAccessLogLineHasWhatIsKnown(t *testing.T) {
	var log logged
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.RawQuery {
			case "fail":
				w.WriteHeader(500)
				io.WriteString(w, "sorry")
			case "cut":
				panic(http.ErrAbortHandler)
			case "break":
				w.Header().Set("Content-Length", "10")
				io.WriteString(w, "half")
			default:
				io.WriteString(w, "1234567")
			}
		},
		change: all(trusting("127.0.0.0/8"), log.to(slog.LevelInfo), func(o *proxy.Options) {
			for i := range o.Routes {
				o.Routes[i].UpstreamName = "analysis"
			}
		}),
	})
	free, one := token("u-17", ""), token("one of one", "one")
	target := r.target.Scheme + "://" + r.target.Host
	metered := []string{"auth_ms", "reserve_ms", "upstream_ms", "settle_ms"}
	n := 0
	for _, c := range []struct {
		token, method, path string
		fields              []string
		want                map[string]any
		phases              []string
	}{
		{free, "POST", "/api/analyze?token=hidden", []string{"X-Forwarded-For: 203.0.113.9"}, map[string]any{
			"level": "INFO", "client": "203.0.113.9", "method": "POST", "path": "/api/analyze", "route": "POST /api/analyze", "endpoint": "analyze", "status": 200.,
			"user": "u-17", "plan": "free", "decision": "admitted", "used": 1., "limit": 100., "upstream": "analysis", "target": target, "bytes": 7.,
		}, metered},
		{free, "POST", "/api/analyze?fail", nil, map[string]any{
			"level": "INFO", "client": "127.0.0.1", "method": "POST", "path": "/api/analyze", "route": "POST /api/analyze", "endpoint": "analyze", "status": 500.,
			"user": "u-17", "plan": "free", "decision": "admitted", "used": 1., "limit": 100., "upstream": "analysis", "target": target, "bytes": 5.,
		}, metered},
		{free, "POST", "/api/analyze?cut", nil, map[string]any{
			"level": "WARN", "client": "127.0.0.1", "method": "POST", "path": "/api/analyze", "route": "POST /api/analyze", "endpoint": "analyze", "status": 502.,
			"user": "u-17", "plan": "free", "decision": "admitted", "used": 1., "limit": 100., "upstream": "analysis", "target": target, "error": "the upstream failed: EOF",
		}, metered},
		{free, "POST", "/api/analyze?break", nil, map[string]any{
			"level": "INFO", "client": "127.0.0.1", "method": "POST", "path": "/api/analyze", "route": "POST /api/analyze", "endpoint": "analyze", "status": 200.,
			"user": "u-17", "plan": "free", "decision": "admitted", "used": 2., "limit": 100., "upstream": "analysis", "target": target, "bytes": 4., "aborted": true,
		}, metered},
		{free, "HEAD", "/api/lookup/7", nil, map[string]any{
			"level": "INFO", "client": "127.0.0.1", "method": "HEAD", "path": "/api/lookup/7", "route": "GET /api/lookup/{id}", "endpoint": "lookup", "status": 200.,
			"user": "u-17", "plan": "free", "decision": "admitted", "used": 3., "limit": 100., "upstream": "analysis", "target": target, "bytes": 0.,
		}, metered},
		{one, "POST", "/api/analyze", nil, map[string]any{
			"level": "INFO", "client": "127.0.0.1", "method": "POST", "path": "/api/analyze", "route": "POST /api/analyze", "endpoint": "analyze", "status": 200.,
			"user": "one of one", "plan": "one", "decision": "admitted", "used": 1., "limit": 1., "upstream": "analysis", "target": target, "bytes": 7.,
		}, metered},
		{one, "POST", "/api/analyze", nil, map[string]any{
			"level": "INFO", "client": "127.0.0.1", "method": "POST", "path": "/api/analyze", "route": "POST /api/analyze", "endpoint": "analyze", "status": 429.,
			"user": "one of one", "plan": "one", "decision": "refused", "used": 1., "limit": 1., "error": "a limit is reached",
		}, metered[:2]},
		{token("e", "enterprise"), "POST", "/api/analyze", nil, map[string]any{
			"level": "INFO", "client": "127.0.0.1", "method": "POST", "path": "/api/analyze", "route": "POST /api/analyze", "endpoint": "analyze", "status": 200.,
			"user": "e", "plan": "enterprise", "decision": "admitted", "used": 1., "upstream": "analysis", "target": target, "bytes": 7.,
		}, metered},
		{free, "GET", "/api/status", nil, map[string]any{
			"level": "INFO", "client": "127.0.0.1", "method": "GET", "path": "/api/status", "route": "GET /api/status", "status": 200.,
			"user": "u-17", "plan": "free", "upstream": "analysis", "target": target, "bytes": 7.,
		}, []string{"auth_ms", "upstream_ms"}},
		{"", "GET", "/api/health", nil, map[string]any{
			"level": "INFO", "client": "127.0.0.1", "method": "GET", "path": "/api/health", "route": "GET /api/health", "status": 200.,
			"upstream": "analysis", "target": target, "bytes": 7.,
		}, []string{"upstream_ms"}},
		{free, "GET", "/usage", nil, map[string]any{
			"level": "INFO", "client": "127.0.0.1", "method": "GET", "path": "/usage", "route": "GET /usage", "status": 200., "user": "u-17", "plan": "free",
		}, []string{"auth_ms"}},
		{"", "GET", "/api/status", nil, map[string]any{
			"level": "INFO", "client": "127.0.0.1", "method": "GET", "path": "/api/status", "route": "GET /api/status", "status": 401.,
			"error": "no token: send one as Authorization: Bearer TOKEN",
		}, []string{"auth_ms"}},
		{"", "GET", "/%61b/%C3%A4?q=hidden", nil, map[string]any{
			"level": "INFO", "client": "127.0.0.1", "method": "GET", "path": "/ab/%C3%A4", "status": 404., "error": "no route",
		}, nil},
		{"", "HEAD", "/nowhere", nil, map[string]any{
			"level": "INFO", "client": "127.0.0.1", "method": "HEAD", "path": "/nowhere", "status": 404., "bytes": 0., "error": "no route",
		}, nil},
	} {
		n++
		res, err := r.try(c.token, c.method, c.path, nil, c.fields...)
		if err != nil && c.want["aborted"] == nil {
			t.Fatal(err)
		}
		got := log.line(t, n)
		c.want["msg"], c.want["request_id"] = "request", got["request_id"]
		if err == nil {
			c.want["request_id"] = res.Header.Get("X-Request-Id")
		}
		if _, given := c.want["bytes"]; !given {
			c.want["bytes"] = float64(len(res.body))
		}
		sum := 0.
		for _, phase := range slices.Concat(c.phases, []string{"duration_ms"}) {
			d, ok := got[phase].(float64)
			if !ok || d < 0 || phase == "duration_ms" && d < sum {
				t.Errorf("%s %s: %s is %v", c.method, c.path, phase, got[phase])
			}
			sum += d
			delete(got, phase)
		}
		if at, err := time.Parse(time.RFC3339Nano, fmt.Sprint(got["time"])); err != nil || time.Since(at) > time.Minute {
			t.Errorf("%s %s: the time is %v", c.method, c.path, got["time"])
		}
		delete(got, "time")
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s %s\n got %v\nwant %v", c.method, c.path, got, c.want)
		}
	}
	if text := log.text.String(); strings.Contains(text, "hidden") || strings.Contains(text, free) {
		t.Error("the log has a query or a token")
	}
}

func TestAccessLogTellsOverloadApart(t *testing.T) {
	var log logged
	arrived, release := make(chan bool), make(chan bool)
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) { arrived <- true; <-release },
		change:   all(log.to(slog.LevelInfo), func(o *proxy.Options) { o.MaxInFlight, o.MaxUserInFlight = 2, 1 }),
	})
	done := make(chan reply, 2)
	go func() { done <- r.do(token("a", ""), "POST", "/api/analyze", nil) }()
	<-arrived
	r.do(token("a", ""), "POST", "/api/analyze", nil)
	go func() { done <- r.do(token("b", ""), "POST", "/api/analyze", nil) }()
	<-arrived
	r.do(token("c", ""), "POST", "/api/analyze", nil)
	if user, total := log.line(t, 1), log.line(t, 2); user["status"] != 429. || user["decision"] != "overload" || user["level"] != "INFO" ||
		total["status"] != 503. || total["decision"] != "overload" || total["level"] != "WARN" {
		t.Errorf("%v\n%v", user, total)
	}
	close(release)
	<-done
	<-done
}

// TestAccessLogTellsClientGoneApart: a client that is gone before it is answered is
// logged with status 499.
func TestAccessLogTellsClientGoneApart(t *testing.T) {
	var log logged
	arrived := make(chan bool)
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) { arrived <- true; <-r.Context().Done() },
		change:   log.to(slog.LevelInfo),
	})
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-arrived; cancel() }()
	req, _ := http.NewRequestWithContext(ctx, "GET", r.gateway.URL+"/api/health", nil)
	if res, err := http.DefaultClient.Do(req); err == nil {
		t.Fatal(res.Status)
	}
	if got := log.line(t, 1); got["status"] != 499. || got["level"] != "INFO" || got["error"] != "the client is gone" {
		t.Errorf("%v", got)
	}
}

// TestAccessLogCannotBeForged: whatever clients send, a request has one line and fills
// only its own attributes.
func TestAccessLogCannotBeForged(t *testing.T) {
	users := []string{
		`"},{"msg":"request","user":"admin"`, "admin level=ERROR", "a\u2028msg=forged", `\n\"`, "\u202eadmin", "<script>", "%0a", "ä日本", strings.Repeat("u", 256),
	}
	paths := []string{
		"/a\nmsg=request", "/a\r\n\r\n{}", "/\x1b[31mred\x1b[0m", "/\x00", `/"},{"a":"`, "/a b=c", "/\u2028", "/\xff\xfe", "/" + strings.Repeat("a", 60_000), "", "*", "/a?b",
	}
	for name, handler := range map[string]func(io.Writer) slog.Handler{
		"json": func(w io.Writer) slog.Handler { return slog.NewJSONHandler(w, nil) },
		"text": func(w io.Writer) slog.Handler { return slog.NewTextHandler(w, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			var log logged
			r := newTestGateway(t, setup{change: func(o *proxy.Options) { o.Log = slog.New(handler(&log)) }})
			serve := func(user string, change func(*http.Request)) {
				log.text.Reset()
				req := httptest.NewRequest("GET", "/api/status", nil)
				req.Header.Set("Authorization", "Bearer "+token(user, ""))
				change(req)
				r.gateway.Config.Handler.ServeHTTP(httptest.NewRecorder(), req)
				text := log.text.String()
				if strings.Count(text, "\n") != 1 || !strings.HasSuffix(text, "\n") || len(text) > 3000 {
					t.Errorf("%d bytes and %d lines: %.3000q", len(text), strings.Count(text, "\n"), text)
				}
				if i := strings.IndexFunc(strings.TrimSuffix(text, "\n"), func(r rune) bool {
					return unicode.IsControl(r) || r == '\u2028' || r == unicode.ReplacementChar
				}); i >= 0 {
					t.Errorf("a control character in %q", text)
				}
				if name == "text" {
					if n := strings.Count(text, "level="); n != 1 && !strings.Contains(text, `user="admin level=ERROR"`) {
						t.Errorf("%d levels in %q", n, text)
					}
					return
				}
				if got := log.requests(t); len(got) != 1 || user != "" && got[0]["status"] == 200. && got[0]["user"] != user {
					t.Errorf("%q became %v", user, got)
				}
			}
			for _, user := range users {
				serve(user, func(*http.Request) {})
			}
			for _, path := range paths {
				serve("u", func(r *http.Request) { r.URL = &url.URL{Path: path} })
				serve("u", func(r *http.Request) { r.URL = &url.URL{Path: "/x", RawPath: path} })
			}
			serve("u", func(r *http.Request) { r.Method = "GET\nmsg=request" })
			serve("u", func(r *http.Request) { r.Method = strings.Repeat("M", 60_000) })
			serve("u", func(r *http.Request) { r.RemoteAddr = "203.0.113.9%\n:1" })
			serve("u", func(r *http.Request) { r.Header.Set("Traceparent", "00-\n-\"") })
		})
	}
}

func TestAccessLogNamesUserAsConfigured(t *testing.T) {
	const user = "u-17@example.com"
	for how, want := range map[proxy.LogUser]any{
		proxy.LogUserPlain: user,
		proxy.LogUserHash:  "1fc436d1b1af31c2", // printf %s u-17@example.com | sha256sum | cut -c1-16
		proxy.LogUserOmit:  nil,
	} {
		var log logged
		r := newTestGateway(t, setup{change: all(log.to(slog.LevelDebug), func(o *proxy.Options) { o.LogUser = how })})
		r.do(token(user, ""), "POST", "/api/analyze", nil)
		if got := log.line(t, 1)["user"]; got != want {
			t.Errorf("the user is %v, want %v", got, want)
		}
		if how != proxy.LogUserPlain && bytes.Contains(log.text.Bytes(), []byte(user)) {
			t.Errorf("the log has the user's id:\n%s", log.text.Bytes())
		}
		r.do("", "POST", "/api/analyze", nil)
		if got := log.line(t, 2)["user"]; got != nil {
			t.Errorf("nobody is logged as %v", got)
		}
	}
}

// TestAccessLogSkipsShareOfSuccesses: the same successes are skipped each time;
// everything else has a line.
func TestAccessLogSkipsShareOfSuccesses(t *testing.T) {
	const requests = 400
	serve := func(share float64) (ids []string) {
		var log logged
		r := newTestGateway(t, setup{
			upstream: func(w http.ResponseWriter, r *http.Request) {
				if r.URL.RawQuery == "fail" {
					w.WriteHeader(500)
				}
			},
			change: all(trusting("192.0.2.0/24"), log.to(slog.LevelInfo), func(o *proxy.Options) { o.QuietSuccesses = share }),
		})
		send := func(target, id string) {
			req := httptest.NewRequest("GET", target, nil) // from 192.0.2.1
			req.Header.Set("X-Request-Id", id)
			r.gateway.Config.Handler.ServeHTTP(httptest.NewRecorder(), req)
		}
		for i := range requests {
			send("/api/health", fmt.Sprint("success-", i))
		}
		for i := range 20 {
			send("/api/health?fail", fmt.Sprint("failure-", i))
			send("/nowhere", fmt.Sprint("nowhere-", i))
			send("/api/status", fmt.Sprint("no-token-", i))
		}
		failures := 0
		for _, line := range log.requests(t) {
			if line["status"] != 200. {
				failures++
				continue
			}
			ids = append(ids, line["request_id"].(string))
		}
		if failures != 60 {
			t.Errorf("%d of 60 failures have a line", failures)
		}
		return ids
	}
	if n := len(serve(0)); n != requests {
		t.Errorf("%d of %d have a line", n, requests)
	}
	if n := len(serve(1)); n != 0 {
		t.Errorf("%d have a line, want none", n)
	}
	quarter, again, half := serve(0.75), serve(0.75), serve(0.5)
	// The ids are fixed, so the numbers are always the same. Five standard deviations are 43.
	if n := len(quarter); n < 57 || n > 143 || !slices.Equal(quarter, again) {
		t.Errorf("%d have a line, then %d; want about 100, and the same", n, len(again))
	}
	for _, id := range quarter {
		if !slices.Contains(half, id) {
			t.Errorf("%s has a line in one of four, and not in one of two", id)
		}
	}
}

// A blocked log writes a line only when it may.
type blocked struct {
	slog.Handler
	may chan bool
}

func (b blocked) Handle(ctx context.Context, r slog.Record) error {
	<-b.may
	return b.Handler.Handle(ctx, r)
}

// requestsIn returns how many requests the metrics have counted.
func requestsIn(t *testing.T, registry *prometheus.Registry) (sum int) {
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "metergate_requests_total" {
			for _, m := range f.GetMetric() {
				sum += int(m.GetCounter().GetValue())
			}
		}
	}
	return sum
}

// TestClientDoesNotWaitForAccessLog: a client gets a short response before the line is
// written. Once it has the response, the metrics have the request.
func TestClientDoesNotWaitForAccessLog(t *testing.T) {
	may := make(chan bool)
	registry := prometheus.NewRegistry()
	r := newTestGateway(t, setup{change: func(o *proxy.Options) {
		o.Log = slog.New(blocked{o.Log.Handler(), may})
		o.Metrics = proxy.NewMetrics(registry)
	}})
	defer close(may)
	for i, c := range []struct{ method, path string }{{"POST", "/api/analyze"}, {"GET", "/usage"}, {"GET", "/nowhere"}, {"HEAD", "/api/status"}} {
		r.do(token("u", ""), c.method, c.path, nil, "Connection: close") // its connection is busy for as long
		if n := requestsIn(t, registry); n != i+1 {
			t.Errorf("%s %s: the metrics know of %d requests, want %d", c.method, c.path, n, i+1)
		}
	}
}

// TestAccessLogHasUpgrades: a connection that was taken over has its line, even if the
// 101 has a Content-Length, which it should not.
func TestAccessLogHasUpgrades(t *testing.T) {
	var log logged
	r := newTestGateway(t, setup{
		routes: []proxy.Route{{Pattern: "GET /socket", Upgrade: true}},
		upstream: func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err != nil {
				panic(err)
			}
			defer conn.Close()
			io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\nContent-Length: 0\r\n\r\nbye")
		},
		change: log.to(slog.LevelInfo),
	})
	conn := r.dial()
	fmt.Fprintf(conn, "GET /socket HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", token("u", ""))
	if said, err := io.ReadAll(conn); err != nil || !strings.HasSuffix(string(said), "bye") {
		t.Errorf("%q, error %v", said, err)
	}
	conn.Close()
	if got := log.line(t, 1); got["status"] != 101. || got["aborted"] != nil {
		t.Errorf("%v", got)
	}
}

// TestAccessLogLevelWarnKeepsFailures: at a level above info, only requests that the
// gateway failed to serve have a line.
func TestAccessLogLevelWarnKeepsFailures(t *testing.T) {
	var log logged
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "cut" {
				panic(http.ErrAbortHandler)
			}
		},
		change: log.to(slog.LevelWarn),
	})
	r.do("", "GET", "/api/health", nil)
	r.do("", "GET", "/nowhere", nil)
	r.do("", "GET", "/api/health?cut", nil)
	if got := log.line(t, 1); got["status"] != 502. || len(log.requests(t)) != 1 {
		t.Errorf("%v", log.requests(t))
	}
}

// TestAccessLogNamesRefusedOrigin: a browser tells the page nothing about why it blocks a
// request, so the log says which origin is missing, also if successes have no lines.
func TestAccessLogNamesRefusedOrigin(t *testing.T) {
	for name, c := range map[string]struct {
		cors   *proxy.CORS
		origin string
		want   any // the error; nil: none
	}{
		"not listed": {&proxy.CORS{AllowedOrigins: []string{"http://localhost:5173"}}, "http://127.0.0.1:5173",
			`the origin "http://127.0.0.1:5173" is not in cors.allowed_origins`},
		"too long": {&proxy.CORS{AllowedOrigins: []string{"http://localhost:5173"}}, "http://" + strings.Repeat("x", 1000),
			`the origin "http://` + strings.Repeat("x", 249) + `..." is not in cors.allowed_origins`},
		"listed": {&proxy.CORS{AllowedOrigins: []string{"http://localhost:5173"}}, "http://localhost:5173", nil},
		"any":    {&proxy.CORS{AllowedOrigins: []string{"*"}}, "http://localhost:1", nil},
		"off": {nil, "http://localhost:5173",
			`method not allowed; a browser asks for the origin "http://localhost:5173", and the configuration has no cors.allowed_origins`},
	} {
		t.Run(name, func(t *testing.T) {
			var log logged
			r := newTestGateway(t, setup{change: all(log.to(slog.LevelInfo), func(o *proxy.Options) {
				o.CORS = c.cors
				if c.want != nil {
					o.QuietSuccesses = 1
				}
			})})
			r.do("", "OPTIONS", "/api/analyze", nil, "Origin: "+c.origin, "Access-Control-Request-Method: POST")
			if got := log.line(t, 1)["error"]; got != c.want {
				t.Errorf("error %v, want %v", got, c.want)
			}
		})
	}
}

// TestUnknownPlanIsNamedAndCounted: a misspelt plan in a token, or one that is missing in the
// configuration, silently gave its users the default plan.
func TestUnknownPlanIsNamedAndCounted(t *testing.T) {
	var log logged
	registry := prometheus.NewRegistry()
	r := newTestGateway(t, setup{change: all(log.to(slog.LevelInfo), func(o *proxy.Options) { o.Metrics = proxy.NewMetrics(registry) })})
	for i, c := range []struct {
		plan string
		want any
	}{
		{"one", nil}, {"", nil}, {"gold", "gold"}, {"a\n" + strings.Repeat("x", 100), "a\n" + strings.Repeat("x", 62) + "..."},
	} {
		r.do(token("u", c.plan), "POST", "/api/analyze", nil)
		if got := log.line(t, i+1)["unknown_plan"]; got != c.want {
			t.Errorf("plan %q: unknown_plan %v, want %v", c.plan, got, c.want)
		}
	}
	if got := series(t, registry)["metergate_unknown_plan_total"]; got != 2 {
		t.Errorf("counted %v, want 2: %v", got, series(t, registry))
	}
}
