// Package tracingtest is a collector of spans for tests: an HTTP server that decodes what it gets.
package tracingtest

import (
	"compress/gzip"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	commonpb "go.opentelemetry.io/proto/otlp/common/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"metergate/quota/testkit"
)

// A Receiver takes spans by OTLP over HTTP. It is safe for concurrent use.
type Receiver struct {
	*httptest.Server

	mu       sync.Mutex
	answer   http.HandlerFunc // nil: accept
	requests []*http.Request
	spans    []*Span
	faults   []string
}

// A Span is a span that was received.
type Span struct {
	*tracepb.Span
	Resource map[string]string
}

// Start starts a Receiver. It fails the test if what it gets is not OTLP.
func Start(t testing.TB) *Receiver {
	r := new(Receiver)
	r.Server = httptest.NewServer(r)
	t.Cleanup(func() {
		r.CloseClientConnections() // a handler may hang
		r.Close()
		for _, fault := range r.faults {
			t.Error(fault)
		}
	})
	return r
}

// Answer has requests answered by a handler, whose spans are not kept; nil: they are accepted.
func (r *Receiver) Answer(h http.HandlerFunc) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = h
}

// Hang never answers.
func Hang(_ http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body) // so that net/http notices when the gateway goes
	<-r.Context().Done()
}

// ServeHTTP implements http.Handler.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.requests = append(r.requests, req)
	answer := r.answer
	r.mu.Unlock()
	if answer != nil {
		answer(w, req)
		return
	}
	spans, err := decode(req)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.faults = append(r.faults, err.Error())
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	r.spans = append(r.spans, spans...)
	w.Header().Set("Content-Type", "application/x-protobuf")
}

func decode(req *http.Request) (spans []*Span, err error) {
	if req.Method != http.MethodPost || !strings.HasSuffix(req.URL.Path, "/v1/traces") || req.Header.Get("Content-Type") != "application/x-protobuf" {
		return nil, fmt.Errorf("the collector got %s %s with Content-Type %q", req.Method, req.URL, req.Header.Get("Content-Type"))
	}
	body := io.Reader(req.Body)
	if req.Header.Get("Content-Encoding") == "gzip" {
		if body, err = gzip.NewReader(body); err != nil {
			return nil, err
		}
	}
	data, err := io.ReadAll(body)
	if err != nil {
		return nil, err
	}
	var traces tracepb.TracesData
	if err := proto.Unmarshal(data, &traces); err != nil {
		return nil, err
	}
	for _, resource := range traces.ResourceSpans {
		attributes := texts(resource.Resource.GetAttributes())
		for _, scope := range resource.ScopeSpans {
			for _, s := range scope.Spans {
				spans = append(spans, &Span{s, attributes})
			}
		}
	}
	return spans, nil
}

// Requests are those that came, whatever they were answered.
func (r *Receiver) Requests() []*http.Request {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.requests)
}

// Spans are those that were accepted, in the order of their starts.
func (r *Receiver) Spans() []*Span {
	r.mu.Lock()
	defer r.mu.Unlock()
	spans := slices.Clone(r.spans)
	slices.SortStableFunc(spans, func(a, b *Span) int { return int(int64(a.StartTimeUnixNano) - int64(b.StartTimeUnixNano)) })
	return spans
}

// Trace waits until the server span of a trace has come, and returns it and the spans that came with it, in
// the order of their starts. A server span ends last, and spans are sent in the order of their ends.
func (r *Receiver) Trace(t testing.TB, traceID string) (server *Span, steps []*Span) {
	t.Helper()
	testkit.Eventually(t, "the server span of the trace "+traceID, func() bool {
		server, steps = nil, nil
		for _, s := range r.Spans() {
			switch {
			case s.Trace() != traceID:
			case s.Kind == tracepb.Span_SPAN_KIND_SERVER:
				server = s
			default:
				steps = append(steps, s)
			}
		}
		return server != nil
	})
	return server, steps
}

// Trace returns the id of the span's trace in hexadecimal.
func (s *Span) Trace() string { return fmt.Sprintf("%x", s.TraceId) }

// ID returns the span's id in hexadecimal.
func (s *Span) ID() string { return fmt.Sprintf("%x", s.SpanId) }

// Parent returns the id of the span's parent in hexadecimal; empty: it has none.
func (s *Span) Parent() string { return fmt.Sprintf("%x", s.ParentSpanId) }

// Texts returns the attributes of the span.
func (s *Span) Texts() map[string]string { return texts(s.Attributes) }

// IsWithin reports whether s took place while other did.
func (s *Span) IsWithin(other *Span) bool {
	return s.StartTimeUnixNano >= other.StartTimeUnixNano && s.EndTimeUnixNano <= other.EndTimeUnixNano && s.StartTimeUnixNano <= s.EndTimeUnixNano
}

// String describes the span on a line.
func (s *Span) String() string {
	return fmt.Sprintf("%s (%s %v)", s.Name, s.Status.GetCode(), s.Texts())
}

func texts(attributes []*commonpb.KeyValue) map[string]string {
	m := map[string]string{}
	for _, a := range attributes {
		switch v := a.Value.Value.(type) {
		case *commonpb.AnyValue_StringValue:
			m[a.Key] = v.StringValue
		case *commonpb.AnyValue_IntValue:
			m[a.Key] = fmt.Sprint(v.IntValue)
		case *commonpb.AnyValue_BoolValue:
			m[a.Key] = fmt.Sprint(v.BoolValue)
		default:
			m[a.Key] = a.Value.String()
		}
	}
	return m
}
