package proxy_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"sync"
	"testing"

	"metergate/proxy"
)

// logged keeps what a gateway logs, as JSON.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// to makes l the log of a gateway, from a level on.
func (l *logged) to(level slog.Level) func(*proxy.Options) {
	return func(o *proxy.Options) {
		o.Log = slog.New(slog.NewJSONHandler(l, &slog.HandlerOptions{Level: level}))
	}
}

// requests returns the access lines that have been written so far.
func (l *logged) requests(t *testing.T) (lines []map[string]any) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	for line := range strings.Lines(l.text.String()) {
		var fields map[string]any
		if err := json.Unmarshal([]byte(line), &fields); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if fields["msg"] == "request" {
			lines = append(lines, fields)
		}
	}
	return lines
}

func all(changes ...func(*proxy.Options)) func(*proxy.Options) {
	return func(o *proxy.Options) {
		for _, change := range changes {
			change(o)
		}
	}
}

// TestRequestIDIsTheSameEverywhere: a request has one id, in the response, at the
// upstream and in the log. A trusted proxy may have chosen it.
func TestRequestIDIsTheSameEverywhere(t *testing.T) {
	var log logged
	r := newTestGateway(t, setup{change: all(trusting("10.0.0.0/8"), log.to(slog.LevelInfo))})
	made := regexp.MustCompile(`^[A-Z2-7]{26}$`)
	long := strings.Repeat("a", 128)
	for _, c := range []struct {
		peer string
		ids  []string
		want string // empty: a new one
	}{
		{"10.0.0.1:1", []string{"from-the.proxy_1"}, "from-the.proxy_1"},
		{"10.0.0.1:1", []string{"7"}, "7"},
		{"10.0.0.1:1", []string{long}, long},
		{"10.0.0.1:1", nil, ""},
		{"10.0.0.1:1", []string{""}, ""},
		{"10.0.0.1:1", []string{long + "a"}, ""},
		{"10.0.0.1:1", []string{"a", "a"}, ""},
		{"10.0.0.1:1", []string{"a, b"}, ""},
		{"10.0.0.1:1", []string{"a\x1b[31m"}, ""},
		{"10.0.0.1:1", []string{"a\nb"}, ""},
		{"10.0.0.1:1", []string{"ä"}, ""},
		{"10.0.0.1:1", []string{`a" "user":"admin`}, ""},
		{"203.0.113.9:1", []string{"from-a-stranger"}, ""},
		{"@", []string{"from-a-socket"}, ""},
	} {
		req := httptest.NewRequest("GET", "/api/health", nil)
		req.RemoteAddr = c.peer
		for _, id := range c.ids {
			req.Header.Add("X-Request-Id", id)
		}
		before, w := len(r.requests()), httptest.NewRecorder()
		r.gateway.Config.Handler.ServeHTTP(w, req)
		id := w.Header().Get("X-Request-Id")
		if c.want != "" && id != c.want || c.want == "" && !made.MatchString(id) {
			t.Errorf("from %s with %q: the id is %q, want %q", c.peer, c.ids, id, c.want)
		}
		if got := r.requests()[before].Header["X-Request-Id"]; fmt.Sprint(got) != "["+id+"]" {
			t.Errorf("the upstream got the id %q, the client %q", got, id)
		}
		lines := log.requests(t)
		if got := lines[len(lines)-1]["request_id"]; got != id {
			t.Errorf("the log has the id %q, the client %q", got, id)
		}
	}
}

// TestTraceContextPassesUnchanged: the log has the trace id if the header is well-formed.
func TestTraceContextPassesUnchanged(t *testing.T) {
	const trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
	var log logged
	r := newTestGateway(t, setup{change: log.to(slog.LevelInfo)})
	for _, c := range []struct {
		parents []string
		want    any
	}{
		{[]string{"00-" + trace + "-" + span + "-01"}, trace},
		{[]string{"00-" + trace + "-" + span + "-ff"}, trace},
		{[]string{"cc-" + trace + "-" + span + "-01"}, trace},
		{[]string{"cc-" + trace + "-" + span + "-01-what-will-be"}, trace},
		{[]string{"cc-" + trace + "-" + span + "-01.what-will-be"}, nil},
		{[]string{"00-" + trace + "-" + span + "-01-more"}, nil},
		{[]string{"ff-" + trace + "-" + span + "-01"}, nil},
		{[]string{"00-" + strings.Repeat("0", 32) + "-" + span + "-01"}, nil},
		{[]string{"00-" + trace + "-" + strings.Repeat("0", 16) + "-01"}, nil},
		{[]string{"00-" + strings.ToUpper(trace) + "-" + span + "-01"}, nil},
		{[]string{"00-" + trace[1:] + "g-" + span + "-01"}, nil},
		{[]string{"00-" + trace + "-" + span + "-0x"}, nil},
		{[]string{"0x-" + trace + "-" + span + "-01"}, nil},
		{[]string{"00-" + trace + "-" + span + "-1"}, nil},
		{[]string{"00_" + trace + "_" + span + "_01"}, nil},
		{[]string{"00-" + trace + "-" + span + "-01", "00-" + trace + "-" + span + "-01"}, nil},
		{[]string{""}, nil},
		{nil, nil},
	} {
		fields := []string{"Tracestate: congo=t61rcWkgMzE,rojo=00f067aa0ba902b7"}
		for _, p := range c.parents {
			fields = append(fields, "Traceparent: "+p)
		}
		got := r.from("203.0.113.9:1", fields...).Header
		if fmt.Sprintf("%q", got["Traceparent"]) != fmt.Sprintf("%q", c.parents) || got.Get("Tracestate") != strings.TrimPrefix(fields[0], "Tracestate: ") {
			t.Errorf("%q and %q: the upstream got %v", c.parents, fields[0], http.Header(got))
		}
		lines := log.requests(t)
		if got := lines[len(lines)-1]["trace_id"]; got != c.want {
			t.Errorf("%q: the log has the trace %v, want %v", c.parents, got, c.want)
		}
	}
}
