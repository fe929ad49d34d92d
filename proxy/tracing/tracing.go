// Package tracing makes spans of requests, with OpenTelemetry, and sends them to a collector.
//
//	e := tracing.NewExporter(tracing.ExporterOptions{Log: log})
//	e.SetCollector(tracing.NewCollector(tracing.CollectorOptions{URL: "http://127.0.0.1:4318/v1/traces"}))
//	t, err := e.NewTracer(tracing.TracerOptions{Service: "metergate", Sample: 0.1})
//	...
//	span := t.StartRequest(r.Header, false)
//	step := span.Start("authenticate")
//	step.End()
//	span.End()
//	e.Stop(ctx)
//
// It is the only package that imports OpenTelemetry. A nil [*Span] stands for a request that is not traced,
// or a step that is not recorded: its methods do nothing, and cost nothing.
//
// # Which requests are sampled
//
// A trusted proxy decides by the sampled flag of its traceparent header. Of all other requests a share is
// sampled, by the dice: anybody can send a traceparent header with the flag set, or with a trace id that a
// sampler would choose, and would fill the collector. The trace goes on in any case: its id is that of the
// header, and the upstream gets it.
package tracing

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
)

// A Tracer starts the spans of requests. It is safe for concurrent use.
type Tracer struct {
	tracer trace.Tracer
	sample float64
}

// TracerOptions configure a Tracer.
type TracerOptions struct {
	Service, Version string
	Sample           float64 // the share of requests that are sampled, 0 to 1
}

// maxText bounds a text of a span, in bytes.
const maxText = 2048

// spanLimits bound what a span holds, whatever the variables of the SDK say.
var spanLimits = sdktrace.SpanLimits{
	AttributeValueLengthLimit: maxText, AttributeValueDepthLimit: 1, AttributeCountLimit: 64,
	EventCountLimit: 16, LinkCountLimit: 16, AttributePerEventCountLimit: 16, AttributePerLinkCountLimit: 16,
}

// NewTracer returns a Tracer whose spans the Exporter sends. It returns an error if the variable
// OTEL_RESOURCE_ATTRIBUTES is malformed. No other variable of OpenTelemetry has an effect.
func (e *Exporter) NewTracer(o TracerOptions) (*Tracer, error) {
	r, err := resource.New(context.Background(), resource.WithSchemaURL(semconv.SchemaURL), resource.WithHost(), resource.WithTelemetrySDK(),
		resource.WithFromEnv(), resource.WithAttributes(semconv.ServiceName(o.Service), semconv.ServiceVersion(o.Version)))
	if err != nil {
		return nil, fmt.Errorf("OTEL_RESOURCE_ATTRIBUTES: %w", err)
	}
	p := sdktrace.NewTracerProvider(sdktrace.WithResource(r), sdktrace.WithRawSpanLimits(spanLimits), sdktrace.WithSpanProcessor(processor{e}),
		sdktrace.WithSampler(sdktrace.ParentBased(sdktrace.TraceIDRatioBased(o.Sample))))
	return &Tracer{p.Tracer("metergate", trace.WithInstrumentationVersion(o.Version)), o.Sample}, nil
}

// A Span is a request or a step of it. It is not safe for concurrent use.
type Span struct {
	tracer     trace.Tracer
	span       trace.Span
	context    context.Context      // has the span
	attributes []attribute.KeyValue // set all at once when the span ends, which costs less
	// began is when the request began. All its spans count their times from it, by the monotonic clock. If each
	// asked for the time of day, a clock that is set meanwhile would put a step outside its request.
	began time.Time
}

// StartRequest starts the span of a request with these headers; trusted says that a trusted proxy sent it.
// The result is not nil, and must be ended.
func (t *Tracer) StartRequest(h http.Header, trusted bool) *Span {
	ctx := context.Background()
	if p, ok := parentIn(h); ok {
		sampled := trace.TraceFlags(p.flags).IsSampled()
		if !trusted {
			sampled = rand.Float64() < t.sample
		}
		ctx = trace.ContextWithRemoteSpanContext(ctx, p.context(h, sampled))
	}
	return start(ctx, t.tracer, "request", trace.SpanKindServer, time.Now())
}

func start(ctx context.Context, tracer trace.Tracer, name string, kind trace.SpanKind, began time.Time) *Span {
	ctx, span := tracer.Start(ctx, name, trace.WithSpanKind(kind), trace.WithTimestamp(began.Add(time.Since(began))))
	return &Span{tracer: tracer, span: span, context: ctx, began: began}
}

// Start starts a step. It returns nil if the request is not sampled.
func (s *Span) Start(name string) *Span {
	if !s.IsSampled() {
		return nil
	}
	return start(s.context, s.tracer, name, trace.SpanKindInternal, s.began)
}

// StartTry starts a try to send a request with these headers to an upstream. It returns the headers to send,
// which are a copy that names the new span as the parent. The span is nil if the request is not sampled; the
// upstream then learns that, and the trace. s must not be nil.
func (s *Span) StartTry(h http.Header) (*Span, http.Header) {
	h = maps.Clone(h)
	delete(h, headerState) // that of a malformed traceparent
	ctx, try := s.context, (*Span)(nil)
	if s.IsSampled() {
		try = start(s.context, s.tracer, "upstream", trace.SpanKindClient, s.began)
		ctx = try.context
	}
	propagation.TraceContext{}.Inject(ctx, propagation.HeaderCarrier(h))
	return try, h
}

// IsSampled reports whether the span is recorded.
func (s *Span) IsSampled() bool { return s != nil && s.span.IsRecording() }

// TraceID returns 32 hexadecimal digits, and "" for a nil span.
func (s *Span) TraceID() string {
	if s == nil {
		return ""
	}
	return s.span.SpanContext().TraceID().String()
}

// ID returns 16 hexadecimal digits, and "" for a nil span.
func (s *Span) ID() string {
	if s == nil {
		return ""
	}
	return s.span.SpanContext().SpanID().String()
}

// Name names the span anew.
func (s *Span) Name(name string) {
	if s != nil {
		s.span.SetName(kept(name))
	}
}

// Text sets an attribute, unless its value is empty. A long value is cut to 2 KiB.
func (s *Span) Text(key, value string) {
	if s != nil && value != "" {
		s.add(attribute.String(key, kept(value)))
	}
}

// kept returns what a span keeps of a text: its first maxText bytes, as UTF-8, since protobuf refuses a whole batch
// for one text that is not. It is a copy, because a part of a text keeps all of it in memory: the method, the path
// and the version of a request are parts of its first line, which may be as long as all headers.
func kept(text string) string {
	const more = "..."
	if len(text) > maxText {
		text = text[:maxText-len(more)] + more
	}
	return strings.ToValidUTF8(strings.Clone(text), "\uFFFD")
}

// Number sets an attribute.
func (s *Span) Number(key string, value int64) {
	if s != nil {
		s.add(attribute.Int64(key, value))
	}
}

// Flag sets an attribute to true.
func (s *Span) Flag(key string) {
	if s != nil {
		s.add(attribute.Bool(key, true))
	}
}

// Fail marks the span as failed; kind is for programs, text for people, and may be empty.
func (s *Span) Fail(kind, text string) {
	if s != nil {
		s.span.SetStatus(codes.Error, kept(text))
		s.add(semconv.ErrorTypeKey.String(kept(kind)))
	}
}

// End ends the span.
func (s *Span) End() {
	if s != nil {
		s.span.SetAttributes(s.attributes...)
		s.span.End()
	}
}

func (s *Span) add(a attribute.KeyValue) {
	if s.attributes == nil {
		s.attributes = make([]attribute.KeyValue, 0, 8)
	}
	s.attributes = append(s.attributes, a)
}

type contextKey struct{}

// NewContext returns a context in which [FromContext] finds the span.
func NewContext(ctx context.Context, s *Span) context.Context {
	return context.WithValue(ctx, contextKey{}, s)
}

// FromContext returns the span of a context; nil: it has none.
func FromContext(ctx context.Context) *Span {
	s, _ := ctx.Value(contextKey{}).(*Span)
	return s
}
