package proxy_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"

	"metergate/proxy"
	"metergate/proxy/tracing"
	"metergate/proxy/tracing/tracingtest"
	"metergate/proxy/upstream"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// tracingTo makes spans of all requests, and sends them to a collector.
func tracingTo(t *testing.T, receiver *tracingtest.Receiver, sample float64) func(*proxy.Options) {
	t.Helper()
	e := tracing.NewExporter(tracing.ExporterOptions{Log: testkit.Log(t), Gather: time.Millisecond})
	e.SetCollector(tracing.NewCollector(tracing.CollectorOptions{URL: receiver.URL + "/v1/traces"}))
	t.Cleanup(func() { e.Stop(context.Background()) })
	tracer, err := e.NewTracer(tracing.TracerOptions{Service: "metergate", Version: "test", Sample: sample})
	if err != nil {
		t.Fatal(err)
	}
	return func(o *proxy.Options) {
		o.Tracer = tracer
		for i := range o.Routes {
			o.Routes[i].UpstreamName = "analysis"
		}
	}
}

// newParent returns a traceparent header with a trace of its own.
func newParent() (traceID, header string) {
	traceID = fmt.Sprintf("%016x%016x", rand.Uint64()|1, rand.Uint64())
	return traceID, fmt.Sprintf("Traceparent: 00-%s-00f067aa0ba902b7-01", traceID)
}

// names are those of spans.
func names(spans []*tracingtest.Span) (names []string) {
	for _, s := range spans {
		names = append(names, s.Name)
	}
	return names
}

// wantAttributes compares some of a span's attributes; - stands for one that is missing.
func wantAttributes(t *testing.T, s *tracingtest.Span, want ...string) {
	t.Helper()
	got := s.Texts()
	for _, pair := range want {
		key, value, _ := strings.Cut(pair, "=")
		text, found := got[key]
		if value == "-" && found || value != "-" && text != value {
			t.Errorf("%s of %s is %q, want %q", key, s.Name, text, value)
		}
	}
}

// wantTree checks that the steps are within the server span, as its children.
func wantTree(t *testing.T, server *tracingtest.Span, steps []*tracingtest.Span) {
	t.Helper()
	for _, s := range steps {
		if s.Parent() != server.ID() || !s.IsWithin(server) {
			t.Errorf("%s is not a child within %s: its parent is %s, %d to %d in %d to %d", s, server, s.Parent(),
				s.StartTimeUnixNano, s.EndTimeUnixNano, server.StartTimeUnixNano, server.EndTimeUnixNano)
		}
	}
}

func TestTraceSaysWhatBecameOfRequest(t *testing.T) {
	receiver := tracingtest.Start(t)
	var log logged
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, req *http.Request) {
			switch req.URL.Query().Get("do") {
			case "fail":
				w.WriteHeader(500)
			case "break":
				w.Header().Set("Content-Length", "10")
				io.WriteString(w, "half")
			default:
				io.WriteString(w, "ok")
			}
		},
		change: all(log.to(slog.LevelInfo), tracingTo(t, receiver, 1)),
	})
	user, one := token("u-17", ""), token("o-1", "one")
	r.do(one, "POST", "/api/analyze", nil) // uses the plan up
	for _, c := range []struct {
		name, token, request string
		server               string   // its name
		steps                []string // their names
		outcome              string   // status of the span, and error.type
		server1              []string // attributes of the server span
		step                 string   // the name of one step
		attributes           []string // its attributes
	}{
		{"admitted", user, "POST /api/analyze?token=query-secret", "POST /api/analyze", []string{"authenticate", "reserve", "upstream", "settle"}, "UNSET",
			[]string{"http.request.method=POST", "http.route=/api/analyze", "url.path=/api/analyze", "url.scheme=http", "url.query=-", "http.response.status_code=200",
				"network.protocol.version=1.1", "client.address=127.0.0.1", "user.id=u-17", "metergate.endpoint=analyze", "metergate.plan=free", "metergate.decision=admitted"},
			"upstream", []string{"http.request.method=POST", "url.full=" + r.target.String() + "/api/analyze", "server.address=127.0.0.1", "server.port=" + r.target.Port(),
				"http.response.status_code=200", "http.request.resend_count=-", "error.type=-"}},
		{"pattern", user, "GET /api/lookup/7", "GET /api/lookup/{id}", []string{"authenticate", "reserve", "upstream", "settle"}, "UNSET",
			[]string{"http.route=/api/lookup/{id}", "url.path=/api/lookup/7"}, "reserve", []string{"metergate.decision=admitted", "metergate.plan=free"}},
		{"refused", one, "POST /api/analyze", "POST /api/analyze", []string{"authenticate", "reserve"}, "UNSET",
			[]string{"http.response.status_code=429", "metergate.decision=refused", "metergate.plan=one", "error.type=-", "metergate.refusal=a limit is reached"},
			"reserve", []string{"metergate.decision=refused", "error.type=-"}},
		{"unauthorized", "ey.forged.token", "POST /api/analyze", "POST /api/analyze", []string{"authenticate"}, "UNSET",
			[]string{"http.response.status_code=401", "user.id=-", "metergate.decision=-", "metergate.plan=-"}, "authenticate", []string{"error.type=-"}},
		{"no route", user, "GET /nowhere", "GET", nil, "UNSET", []string{"http.response.status_code=404", "http.route=-"}, "", nil},
		{"odd method", user, "BREW /api/status", "HTTP", nil, "UNSET", []string{"http.request.method=_OTHER", "http.request.method_original=BREW"}, "", nil},
		{"5xx", user, "POST /api/analyze?do=fail", "POST /api/analyze", []string{"authenticate", "reserve", "upstream", "settle"}, "ERROR 500",
			[]string{"http.response.status_code=500"}, "settle", []string{"metergate.released=status_5xx", "metergate.journal=-"}},
		{"aborted", user, "POST /api/analyze?do=break", "POST /api/analyze", []string{"authenticate", "reserve", "upstream", "settle"}, "ERROR aborted",
			nil, "settle", []string{"metergate.released=-"}},
		{"not metered", user, "GET /api/status", "GET /api/status", []string{"authenticate", "upstream"}, "UNSET", []string{"metergate.endpoint=-", "metergate.decision=-"}, "", nil},
		{"own", user, "GET /usage", "GET /usage", []string{"authenticate"}, "UNSET", []string{"user.id=u-17"}, "", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			traceID, parent := newParent()
			method, path, _ := strings.Cut(c.request, " ")
			before := len(r.requests())
			r.try(c.token, method, path, nil, parent, "Tracestate: a=1", "Baggage: k=v,l=w", "Cookie: cookie-secret")
			server, steps := receiver.Trace(t, traceID)
			wantTree(t, server, steps)
			if server.Name != c.server || server.Kind != tracepb.Span_SPAN_KIND_SERVER || server.Parent() != "00f067aa0ba902b7" || server.TraceState != "a=1" {
				t.Errorf("the server span is %s, %v, with the parent %s", server, server.Kind, server.Parent())
			}
			if diff := cmp.Diff(c.steps, names(steps)); diff != "" {
				t.Errorf("steps, -want +got:\n%s", diff)
			}
			outcome := strings.TrimSpace(strings.TrimPrefix(server.Status.GetCode().String(), "STATUS_CODE_") + " " + server.Texts()["error.type"])
			if outcome != c.outcome {
				t.Errorf("the outcome is %s, want %s", outcome, c.outcome)
			}
			wantAttributes(t, server, c.server1...)
			line := log.lineOf(t, traceID)
			if line["span_id"] != server.ID() || line["request_id"] != server.Texts()["metergate.request_id"] {
				t.Errorf("the log says %v", line)
			}
			for _, s := range append(steps, server) {
				if s.Name == c.step {
					wantAttributes(t, s, c.attributes...)
				}
				for _, secret := range []string{"query-secret", "cookie-secret", c.token} {
					if strings.Contains(s.String(), secret) {
						t.Errorf("%q is in %s", secret, s)
					}
				}
			}
			if sent := r.requests()[before:]; len(sent) > 0 {
				h, try := sent[0].Header, steps[slices.IndexFunc(steps, func(s *tracingtest.Span) bool { return s.Name == "upstream" })]
				if try.Kind != tracepb.Span_SPAN_KIND_CLIENT || h.Get("Traceparent") != "00-"+traceID+"-"+try.ID()+"-01" || h.Get("Tracestate") != "a=1" || h.Get("Baggage") != "k=v,l=w" {
					t.Errorf("the upstream got %v; the span is %s", h, try.ID())
				}
			}
		})
	}
}

// lineOf waits for the access line of a trace.
func (l *logged) lineOf(t *testing.T, traceID string) (line map[string]any) {
	t.Helper()
	testkit.Eventually(t, "the line of "+traceID, func() bool {
		for _, candidate := range l.requests(t) {
			if candidate["trace_id"] == traceID {
				line = candidate
			}
		}
		return line != nil
	})
	return line
}

// Without a Tracer the headers of a trace reach the upstream as they came; with one that samples nothing, the
// upstream learns the trace, and that nobody records it.
func TestTraceGoesOnWithoutSpans(t *testing.T) {
	receiver := tracingtest.Start(t)
	var log logged
	off, none := newTestGateway(t, setup{}), newTestGateway(t, setup{change: all(log.to(slog.LevelInfo), tracingTo(t, receiver, 0))})
	traceID, parent := newParent()
	for _, r := range []*testGateway{off, none} {
		r.do(token("u", ""), "POST", "/api/analyze", nil, parent, "Tracestate: a=1", "Tracestate: b=2", "Baggage: k=v")
	}
	h := off.requests()[0].Header
	if "Traceparent: "+h.Get("Traceparent") != parent || fmt.Sprint(h["Tracestate"], h["Baggage"]) != "[a=1 b=2] [k=v]" {
		t.Errorf("off: %v", h)
	}
	h = none.requests()[0].Header
	prefix, sent := "00-"+traceID+"-", h.Get("Traceparent")
	if !strings.HasPrefix(sent, prefix) || !strings.HasSuffix(sent, "-00") || "Traceparent: "+sent == parent || fmt.Sprint(h["Tracestate"], h["Baggage"]) != "[a=1,b=2] [k=v]" {
		t.Errorf("not sampled: %v", h)
	}
	if line := log.lineOf(t, traceID); line["span_id"] != nil {
		t.Errorf("the log says %v", line)
	}
	none.do(token("u", ""), "POST", "/api/analyze", nil, "Traceparent: 00-"+strings.ToUpper(traceID)+"-00f067aa0ba902b7-01", "Tracestate: a=1")
	h = none.requests()[1].Header
	if id := tracing.TraceID(h); id == "" || strings.EqualFold(id, traceID) || h["Tracestate"] != nil {
		t.Errorf("after a malformed header: %v", h)
	}
	if n := len(receiver.Requests()); n != 0 {
		t.Errorf("the collector got %d requests", n)
	}
}

// Only a trusted proxy decides that a request is sampled.
func TestSampledFlagCountsFromTrustedProxies(t *testing.T) {
	receiver := tracingtest.Start(t)
	stranger := newTestGateway(t, setup{change: tracingTo(t, receiver, 0)})
	trusted := newTestGateway(t, setup{change: all(trusting("127.0.0.0/8"), tracingTo(t, receiver, 0))})
	strangers, parent := newParent()
	stranger.do(token("u", ""), "POST", "/api/analyze", nil, parent)
	proxied, parent := newParent()
	trusted.do(token("u", ""), "POST", "/api/analyze", nil, parent)
	receiver.Trace(t, proxied)
	if sent := stranger.requests()[0].Header.Get("Traceparent"); !strings.HasSuffix(sent, "-00") {
		t.Errorf("the upstream got %s", sent)
	}
	for _, s := range receiver.Spans() {
		if s.Trace() == strangers {
			t.Errorf("a client had %s sent", s)
		}
	}
}

// The user is named as in the log.
func TestTraceNamesUserAsLogDoes(t *testing.T) {
	receiver := tracingtest.Start(t)
	for mode, want := range map[proxy.LogUser][]string{
		proxy.LogUserHash: {"user.id=-", "user.hash=" + proxy.LogUserHash.NameOf("u-17")},
		proxy.LogUserOmit: {"user.id=-", "user.hash=-"},
	} {
		r := newTestGateway(t, setup{change: all(tracingTo(t, receiver, 1), func(o *proxy.Options) { o.LogUser = mode })})
		traceID, parent := newParent()
		r.do(token("u-17", ""), "POST", "/api/analyze", nil, parent)
		server, steps := receiver.Trace(t, traceID)
		wantAttributes(t, server, want...)
		for _, s := range append(steps, server) {
			if strings.Contains(s.String(), "u-17") {
				t.Errorf("the user is in %s", s)
			}
		}
	}
}

// Each try has a span, and its target learns that one.
func TestTraceShowsEachTry(t *testing.T) {
	receiver := tracingtest.Start(t)
	var pool *upstream.Pool
	dead := &url.URL{Scheme: "http", Host: testkit.FreeAddress(t)}
	r := newTestGateway(t, setup{change: tracingTo(t, receiver, 1)})
	pool, err := upstream.New(upstream.Options{Targets: []upstream.Target{{URL: dead}, {URL: r.target}}, Balance: upstream.RoundRobin,
		Ejection: upstream.Ejection{ConnectionErrors: 100}})
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Retire()
	for i := range r.options.Routes {
		r.options.Routes[i].Upstream = pool
	}
	g, err := proxy.New(r.options)
	if err != nil {
		t.Fatal(err)
	}
	gateway := httptest.NewServer(g)
	defer gateway.Close()
	retried := 0
	for range 2 { // each target is the first once
		traceID, parent := newParent()
		req, _ := http.NewRequest("POST", gateway.URL+"/api/analyze", strings.NewReader("text"))
		req.Header.Set("Authorization", "Bearer "+token("u", ""))
		req.Header.Set("Traceparent", strings.TrimPrefix(parent, "Traceparent: "))
		res, err := http.DefaultClient.Do(req)
		if err != nil || res.StatusCode != 200 {
			t.Fatal(res, err)
		}
		res.Body.Close()
		server, steps := receiver.Trace(t, traceID)
		wantTree(t, server, steps)
		tries := slices.DeleteFunc(steps, func(s *tracingtest.Span) bool { return s.Name != "upstream" })
		if len(tries) == 2 {
			retried++
			wantAttributes(t, tries[0], "error.type=connection", "server.port="+dead.Port(), "http.request.resend_count=-", "http.response.status_code=-")
			wantAttributes(t, tries[1], "error.type=-", "server.port="+r.target.Port(), "http.request.resend_count=1", "http.response.status_code=200")
		}
		sent := r.requests()
		if got := sent[len(sent)-1].Header.Get("Traceparent"); got != "00-"+traceID+"-"+tries[len(tries)-1].ID()+"-01" {
			t.Errorf("the target got %s", got)
		}
	}
	if retried != 1 {
		t.Errorf("%d requests were retried", retried)
	}
}

// A client that goes before the answer, and a panic of the gateway itself, have complete traces as well.
func TestTraceOfRequestThatEndsBadly(t *testing.T) {
	receiver := tracingtest.Start(t)
	arrived := make(chan struct{}, 1)
	r := newTestGateway(t, setup{
		upstream: func(_ http.ResponseWriter, req *http.Request) {
			arrived <- struct{}{}
			<-req.Context().Done()
		},
		change: tracingTo(t, receiver, 1),
	})
	traceID, parent := newParent()
	ctx, cancel := context.WithCancel(t.Context())
	req, _ := http.NewRequestWithContext(ctx, "POST", r.gateway.URL+"/api/analyze", nil)
	req.Header.Set("Authorization", "Bearer "+token("u", ""))
	req.Header.Set("Traceparent", strings.TrimPrefix(parent, "Traceparent: "))
	go func() {
		<-arrived
		cancel()
	}()
	http.DefaultClient.Do(req)
	server, steps := receiver.Trace(t, traceID)
	wantTree(t, server, steps)
	wantAttributes(t, server, "http.response.status_code=499")
	if got := names(steps); !slices.Equal(got, []string{"authenticate", "reserve", "upstream", "settle"}) {
		t.Fatalf("steps %v", got)
	}
	wantAttributes(t, steps[2], "error.type=canceled")
	wantAttributes(t, steps[3], "metergate.released=client_gone")

	broken := r.options
	broken.Store = faulty{Store: r.store}
	for i := range broken.Routes {
		broken.Routes[i].Upstream = stubUpstream{}
	}
	g, err := proxy.New(broken)
	if err != nil {
		t.Fatal(err)
	}
	gateway := httptest.NewUnstartedServer(g)
	gateway.Config.ErrorLog = quiet
	gateway.Start()
	defer gateway.Close()
	traceID, parent = newParent()
	req, _ = http.NewRequest("POST", gateway.URL+"/api/analyze", strings.NewReader("text"))
	req.Header.Set("Authorization", "Bearer "+token("u", ""))
	req.Header.Set("Traceparent", strings.TrimPrefix(parent, "Traceparent: "))
	http.DefaultClient.Do(req)
	server, steps = receiver.Trace(t, traceID)
	wantTree(t, server, steps)
	wantAttributes(t, server, "error.type=aborted", "http.response.status_code=-")
}

// A cost that a stream reports is settled in a step of its own, while the upstream still sends.
func TestTraceOfStreamWithCost(t *testing.T) {
	receiver := tracingtest.Start(t)
	r := withTokens(t, setup{
		upstream: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			io.WriteString(w, "data: {}\n\n")
			http.NewResponseController(w).Flush()
			io.WriteString(w, "data: {\"usage\":{\"total_tokens\":4321}}\n\n")
		},
		change: tracingTo(t, receiver, 1),
	})
	traceID, parent := newParent()
	r.do(token("u", "units"), "POST", "/tokens/chat", nil, parent)
	server, steps := receiver.Trace(t, traceID)
	wantTree(t, server, steps)
	if got := names(steps); !slices.Equal(got, []string{"authenticate", "reserve", "upstream", "settle", "settle rest"}) {
		t.Errorf("steps %v", got)
	}
	wantAttributes(t, server, "metergate.cost=5", "http.route=/tokens/{rest...}")
}

// A commit that Redis does not answer is in the journal.
func TestTraceSaysThatCommitIsInJournal(t *testing.T) {
	redis, receiver := redistest.Start(t), tracingtest.Start(t)
	r := newTestGateway(t, setup{store: openGuarded(t, redis, true), change: tracingTo(t, receiver, 1)})
	r.do(token("u", ""), "POST", "/api/analyze", nil)
	redis.Stop()
	traceID, parent := newParent()
	r.do(token("u", ""), "POST", "/api/analyze", nil, parent)
	server, steps := receiver.Trace(t, traceID)
	wantTree(t, server, steps)
	wantAttributes(t, server, "metergate.decision=unchecked", "http.response.status_code=200")
	wantAttributes(t, steps[len(steps)-1], "metergate.journal=true")
}

// TestEveryRequestHasOneTrace: however many requests run, each has one server span, and its steps within it.
func TestEveryRequestHasOneTrace(t *testing.T) {
	receiver := tracingtest.Start(t)
	r := newTestGateway(t, setup{upstream: answerStatus, change: all(tracingTo(t, receiver, 1))})
	requests := []string{"POST /api/analyze?status=200", "POST /api/analyze?status=500", "POST /api/image-analysis?status=404", "GET /api/lookup/7?status=200",
		"GET /api/status?status=200", "GET /api/health?status=302", "GET /usage", "GET /nowhere", "POST /usage"}
	traces := make([]string, 300)
	var wg sync.WaitGroup
	next := make(chan int)
	for range 16 {
		wg.Go(func() {
			for i := range next {
				var parent string
				traces[i], parent = newParent()
				method, path, _ := strings.Cut(requests[rand.N(len(requests))], " ")
				bearer := token(fmt.Sprint("u", rand.N(9)), "")
				if rand.N(5) == 0 {
					bearer = ""
				}
				r.try(bearer, method, path, nil, parent)
			}
		})
	}
	for i := range traces {
		next <- i
	}
	close(next)
	wg.Wait()
	for _, id := range traces {
		server, steps := receiver.Trace(t, id)
		wantTree(t, server, steps)
	}
	servers := map[string]int{}
	for _, s := range receiver.Spans() {
		if s.Kind == tracepb.Span_SPAN_KIND_SERVER {
			servers[s.Trace()]++
		}
	}
	for id, n := range servers {
		if n != 1 {
			t.Errorf("%s has %d server spans", id, n)
		}
	}
	if len(servers) != len(traces) {
		t.Errorf("%d traces, want %d", len(servers), len(traces))
	}
}

// The durations of sampled requests have their trace as an exemplar.
func TestDurationsHaveExemplars(t *testing.T) {
	receiver := tracingtest.Start(t)
	for sample, want := range map[float64]int{1: 3, 0: 0} {
		registry := prometheus.NewRegistry()
		r := newTestGateway(t, setup{change: all(tracingTo(t, receiver, sample), func(o *proxy.Options) { o.Metrics = proxy.NewMetrics(registry) })})
		traceID, parent := newParent()
		r.do(token("u", ""), "POST", "/api/analyze", nil, parent)
		testkit.Eventually(t, "the request's duration", func() bool { return len(exemplars(t, registry)["metergate_request_duration_seconds"]) >= want/3 })
		found := exemplars(t, registry)
		for _, name := range []string{"metergate_request_duration_seconds", "metergate_upstream_duration_seconds", "metergate_store_duration_seconds"} {
			for _, id := range found[name] {
				if id != traceID {
					t.Errorf("%s: %s, want %s", name, id, traceID)
				}
			}
		}
		if len(found) != want {
			t.Errorf("sample %v: %v", sample, found)
		}
	}
}

// exemplars returns the traces of all exemplars by the name of their metric.
func exemplars(t *testing.T, registry *prometheus.Registry) map[string][]string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := map[string][]string{}
	for _, f := range families {
		for _, m := range f.Metric {
			for _, b := range m.GetHistogram().GetBucket() {
				for _, l := range b.GetExemplar().GetLabel() {
					found[f.GetName()] = append(found[f.GetName()], l.GetValue())
				}
			}
		}
	}
	return found
}

// A span keeps little of a request, however long its first line is: the method, the version and the path are parts of it.
func TestSpanKeepsNoRequestLine(t *testing.T) {
	receiver, answers := tracingtest.Start(t), make(chan struct{})
	receiver.Answer(func(http.ResponseWriter, *http.Request) { <-answers })
	defer close(answers)
	r := newTestGateway(t, setup{change: tracingTo(t, receiver, 1)})
	heap := func() int64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	path := "/api/analyze/" + strings.Repeat("x", 60_000)
	r.do("", "GET", path, nil)
	before := heap()
	for range 200 {
		r.do("", "GET", path, nil)
	}
	if grown := heap() - before; grown > 4<<20 {
		t.Errorf("the spans of 200 requests take %d KiB", grown>>10)
	}
}
