package tracing

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"metergate/proxy/tracing/tracingtest"
	"metergate/quota/testkit"
)

// A logBuffer is a log that can be read while it is written.
type logBuffer struct {
	mu sync.Mutex
	bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.Buffer.Write(p)
}

func (b *logBuffer) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.Buffer.String(), text)
}

// newExporter returns an Exporter that is quicker than usual, a Tracer that samples everything, and the log.
// Collectors are set by the test.
func newExporter(t *testing.T) (*Exporter, *Tracer, *logBuffer) {
	t.Helper()
	log := new(logBuffer)
	e := NewExporter(ExporterOptions{Log: slog.New(slog.NewTextHandler(log, nil)), Gather: time.Millisecond})
	e.times.retry, e.times.maxRetry = time.Millisecond, 10*time.Millisecond
	t.Cleanup(func() { e.Stop(t.Context()) })
	tracer, err := e.NewTracer(TracerOptions{Service: "shop", Version: "1.2.3", Sample: 1})
	if err != nil {
		t.Fatal(err)
	}
	return e, tracer, log
}

func collectorAt(url string) *Collector {
	return NewCollector(CollectorOptions{URL: url + "/v1/traces", UserAgent: "metergate/1.2.3", Header: http.Header{"Authorization": {"Bearer abc"}}, Timeout: 30 * time.Second})
}

func makeSpans(t *Tracer, n int) {
	for range n {
		t.StartRequest(nil, false).End()
	}
}

func wantStats(t *testing.T, e *Exporter, want Stats) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("%+v", want), func() bool { return e.Stats() == want })
}

func TestExporterSendsSpansAsOTLP(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=not-this")
	t.Setenv("OTEL_SERVICE_NAME", "nor-this")
	t.Setenv("OTEL_TRACES_SAMPLER", "always_off")
	t.Setenv("OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT", "1")
	receiver := tracingtest.Start(t)
	e, tracer, _ := newExporter(t)
	e.SetCollector(collectorAt(receiver.URL))
	request := tracer.StartRequest(nil, false)
	request.Name("POST /api/analyze")
	step := request.Start("reserve")
	step.Text("decision", "admitted")
	step.Number("units", 5)
	step.Text("empty", "")
	step.Flag("journal")
	step.Fail("store", "it did not answer")
	step.End()
	request.End()
	server, steps := receiver.Trace(t, request.TraceID())
	if server.Name != "POST /api/analyze" || server.ID() != request.ID() || server.Parent() != "" || server.Status.GetCode() != 0 {
		t.Errorf("the server span is %v, its parent %q", server, server.Parent())
	}
	for key, want := range map[string]string{"service.name": "shop", "service.version": "1.2.3", "deployment.environment.name": "test", "telemetry.sdk.language": "go"} {
		if got := server.Resource[key]; got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	if len(steps) != 1 || steps[0].Parent() != server.ID() || !steps[0].IsWithin(server) {
		t.Fatalf("%d steps: %v", len(steps), steps)
	}
	want := map[string]string{"decision": "admitted", "units": "5", "journal": "true", "error.type": "store"}
	if diff := cmp.Diff(want, steps[0].Texts()); diff != "" || steps[0].Status.Message != "it did not answer" {
		t.Errorf("%v, -want +got:\n%s", steps[0].Status, diff)
	}
	h := receiver.Requests()[0].Header
	if h.Get("Authorization") != "Bearer abc" || h.Get("User-Agent") != "metergate/1.2.3" || h.Get("Content-Encoding") != "gzip" {
		t.Errorf("%v", h)
	}
	wantStats(t, e, Stats{Sent: 2})
}

func TestTracerRefusesMalformedResourceAttributes(t *testing.T) {
	t.Setenv("OTEL_RESOURCE_ATTRIBUTES", "abc")
	if _, err := NewExporter(ExporterOptions{Log: slog.New(slog.DiscardHandler)}).NewTracer(TracerOptions{}); err == nil || !strings.Contains(err.Error(), "OTEL_RESOURCE_ATTRIBUTES") {
		t.Error(err)
	}
}

// A collector that takes requests and never answers costs no request any time: spans are dropped and counted.
// Nor does it hold up a shutdown.
func TestExporterDropsWhatHangingCollectorDoesNotTake(t *testing.T) {
	receiver := tracingtest.Start(t)
	receiver.Answer(tracingtest.Hang)
	e, tracer, log := newExporter(t)
	e.times.flush = 100 * time.Millisecond
	e.SetCollector(collectorAt(receiver.URL))
	makeSpans(tracer, 1)
	testkit.Eventually(t, "a request", func() bool { return len(receiver.Requests()) == 1 })
	makeSpans(tracer, queueSize+100) // if one waited for the collector, this would never end
	if got := e.Stats(); got.Full < 100-batchSize || got.Sent+got.Failed+got.Rejected != 0 {
		t.Errorf("%+v", got)
	}
	if err := e.Stop(context.Background()); err != nil {
		t.Error(err)
	}
	if got := e.Stats(); got.Sent != 0 || got.Full+got.Failed != queueSize+101 {
		t.Errorf("%+v, want %d dropped", got, queueSize+101)
	}
	if n := log.count("level=WARN"); n != 1 {
		t.Errorf("%d warnings", n)
	}
	makeSpans(tracer, 2*queueSize) // after Stop, nothing waits either
}

// Stop returns with its context, whatever the collector does.
func TestExporterStopsWithContext(t *testing.T) {
	receiver := tracingtest.Start(t)
	receiver.Answer(tracingtest.Hang)
	e, tracer, _ := newExporter(t)
	e.times.flush = time.Hour
	e.SetCollector(collectorAt(receiver.URL))
	makeSpans(tracer, 1)
	testkit.Eventually(t, "a request", func() bool { return len(receiver.Requests()) == 1 })
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	e.Stop(ctx)
	testkit.Receive(t, "the end", e.ended)
}

func TestExporterSendsWhatWaitsAtStop(t *testing.T) {
	receiver := tracingtest.Start(t)
	e, tracer, _ := newExporter(t)
	e.times.gather, e.times.flush = time.Hour, time.Minute
	e.SetCollector(collectorAt(receiver.URL))
	makeSpans(tracer, batchSize+7)
	e.Stop(context.Background())
	if n := len(receiver.Spans()); n != batchSize+7 {
		t.Errorf("%d spans came", n)
	}
}

// An Exporter that was never asked to send runs nothing, and stops at once.
func TestExporterWithoutCollectorStops(t *testing.T) {
	e, tracer, _ := newExporter(t)
	makeSpans(tracer, 1)
	if err := e.Stop(context.Background()); err != nil || len(e.queue) != 0 {
		t.Error(err, len(e.queue))
	}
}

// A collector that refuses connections for a while gets the spans afterwards. The log says so once.
func TestExporterRetries(t *testing.T) {
	for name, fault := range map[string]http.HandlerFunc{
		"unavailable": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) },
		"overloaded": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "0")
			w.WriteHeader(http.StatusTooManyRequests)
		},
		"cut": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			receiver := tracingtest.Start(t)
			receiver.Answer(fault)
			e, tracer, log := newExporter(t)
			e.SetCollector(collectorAt(receiver.URL))
			makeSpans(tracer, 3)
			testkit.Eventually(t, "several tries", func() bool { return len(receiver.Requests()) > 3 })
			receiver.Answer(nil)
			wantStats(t, e, Stats{Sent: 3})
			if len(receiver.Spans()) != 3 {
				t.Errorf("%d spans came", len(receiver.Spans()))
			}
			testkit.Eventually(t, "a line that it is over", func() bool { return log.count("again") == 1 })
			if n := log.count("level=WARN"); n != 1 {
				t.Errorf("%d warnings", n)
			}
		})
	}
}

// Nothing listens, and nothing ever will: spans are dropped after a while.
func TestExporterGivesUpOnDeadCollector(t *testing.T) {
	dead := httptest.NewServer(nil)
	dead.Close()
	e, tracer, log := newExporter(t)
	e.times.giveUp = 20 * time.Millisecond
	e.SetCollector(collectorAt(dead.URL))
	for i := range int64(3) {
		makeSpans(tracer, 2)
		wantStats(t, e, Stats{Failed: 2 * (i + 1)})
	}
	if n := log.count("level=WARN"); n != 1 || log.count("refused") != 1 {
		t.Errorf("%d warnings:\n%s", n, log.String())
	}
}

// Some answers will be the same next time.
func TestExporterDropsWhatCollectorRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   Stats
		log    string
	}{
		"bad request": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadRequest) }, Stats{Failed: 5}, "400 Bad Request"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "/elsewhere", http.StatusTemporaryRedirect)
		}, Stats{Failed: 5}, "307"},
		"some rejected": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-protobuf")
			w.Write([]byte("\x0a\x0a\x08\x02\x12\x06so big")) // ExportTraceServiceResponse{PartialSuccess{2, "so big"}}
		}, Stats{Sent: 3, Rejected: 2}, "so big"},
		"a warning": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-protobuf")
			w.Write([]byte("\x0a\x08\x12\x06so big"))
		}, Stats{Sent: 5}, ""},
		"garbage": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/x-protobuf")
			w.Write([]byte("\x0a\xff\xff"))
		}, Stats{Sent: 5}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			receiver := tracingtest.Start(t)
			receiver.Answer(c.answer)
			e, tracer, log := newExporter(t)
			e.times.gather = 100 * time.Millisecond // so that most go together
			e.SetCollector(collectorAt(receiver.URL))
			makeSpans(tracer, 5)
			testkit.Eventually(t, "an answer", func() bool {
				s := e.Stats()
				return s.Sent+s.Failed+s.Rejected >= 5
			})
			if got := e.Stats(); len(receiver.Requests()) == 1 && got != c.want {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			if (log.count("level=WARN") == 1) != (c.log != "") || log.count(c.log) == 0 {
				t.Errorf("the log: %s", log.String())
			}
		})
	}
}

// Another collector gets what the one before does not take. Without one, spans are neither kept nor counted.
func TestExporterChangesCollector(t *testing.T) {
	first, second := tracingtest.Start(t), tracingtest.Start(t)
	first.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	e, tracer, _ := newExporter(t)
	e.times.retry, e.times.maxRetry = time.Hour, time.Hour // only the change ends the pause
	e.times.giveUp = 10 * time.Hour
	e.SetCollector(collectorAt(first.URL))
	testkit.Eventually(t, "a request", func() bool { makeSpans(tracer, 1); return len(first.Requests()) > 0 })
	e.SetCollector(collectorAt(second.URL))
	testkit.Eventually(t, "a span", func() bool { return len(second.Spans()) > 0 })
	e.SetCollector(nil)
	testkit.Eventually(t, "an empty queue", func() bool { return len(e.queue) == 0 })
	makeSpans(tracer, 2*queueSize)
	if got := e.Stats(); got.Full+got.Failed != 0 {
		t.Errorf("%+v", got)
	}
}

// A collector can be tried without spans.
func TestCollectorCheck(t *testing.T) {
	receiver := tracingtest.Start(t)
	c := collectorAt(receiver.URL)
	if err := c.Check(t.Context()); err != nil || len(receiver.Requests()) != 1 {
		t.Errorf("%v, %d requests", err, len(receiver.Requests()))
	}
	receiver.Answer(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusUnauthorized) })
	if err := c.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "401") {
		t.Error(err)
	}
	receiver.Close()
	if err := c.Check(t.Context()); err == nil {
		t.Error("a collector that is gone is there")
	}
}

// A text that is not UTF-8 does not keep the spans beside it from being sent: protobuf takes no such texts.
func TestExporterSendsTextThatIsNotUTF8(t *testing.T) {
	receiver := tracingtest.Start(t)
	e, tracer, _ := newExporter(t)
	e.SetCollector(collectorAt(receiver.URL))
	request := tracer.StartRequest(nil, false)
	request.Name("GET /\xff")
	request.Text("text", "a\xffb")
	request.Fail("kind\xff", "c\xff")
	request.End()
	server, _ := receiver.Trace(t, request.TraceID())
	if server.Name != "GET /\uFFFD" || server.Texts()["text"] != "a\uFFFDb" || server.Status.Message != "c\uFFFD" {
		t.Errorf("%v, %v", server, server.Status)
	}
}

// heapBytes returns what the heap holds after a collection.
func heapBytes() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// However long the texts are that clients choose, a queue that a collector does not empty stays within its bound.
func TestFullQueueIsBoundedInBytes(t *testing.T) {
	receiver, answers := tracingtest.Start(t), make(chan struct{})
	receiver.Answer(func(http.ResponseWriter, *http.Request) { <-answers })
	e, tracer, _ := newExporter(t)
	e.SetCollector(collectorAt(receiver.URL))
	var state []string
	for i := range 32 {
		state = append(state, fmt.Sprintf("m%d=%s%s", i, strings.Repeat("v", 200), strings.Repeat(",", 500)))
	}
	before := heapBytes()
	for n := 0; n <= queueSize && e.Stats().Full == 0; n++ {
		line := strings.Repeat("x", 20_000)
		h := http.Header{"Traceparent": {"00-" + traceID + "-" + spanID + "-01"}, "Tracestate": {strings.Join(state, ",")}}
		s := tracer.StartRequest(h, true)
		s.Name(line[:4])
		s.Text("method", line[:4])
		s.Fail(line[:3], line)
		for i := range 4 {
			s.Text(fmt.Sprint(i), line)
		}
		s.End()
	}
	if grown := heapBytes() - before; grown > queueBytes+queueBytes/4 {
		t.Errorf("the queue takes %d KiB, want at most %d", grown>>10, queueBytes>>10)
	}
	if got := e.Stats(); got.Full == 0 {
		t.Errorf("%+v", got)
	}
	close(answers)
	testkit.Eventually(t, "an empty queue", func() bool { return e.waiting.Load() == 0 })
}
