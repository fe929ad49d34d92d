package tracing

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
)

// A Collector takes spans by OTLP over HTTP. It is safe for concurrent use.
//
// Package otlptracehttp does the same. It links gRPC, which makes the program 5 MB larger, and obeys a dozen
// environment variables.
type Collector struct {
	options CollectorOptions
	client  *http.Client
	spans   *otlptrace.Exporter
}

// CollectorOptions configure a Collector.
type CollectorOptions struct {
	URL       string      // spans are sent to it with POST
	Header    http.Header // of each request; nil: none of its own
	UserAgent string
	Timeout   time.Duration // of each request, its answer included; 0: 10 s
	TLS       *tls.Config   // nil: the system's authorities
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// NewCollector returns a Collector. It makes no connection yet.
func NewCollector(o CollectorOptions) *Collector {
	c := &Collector{options: o, client: &http.Client{
		Timeout: cmp.Or(o.Timeout, 10*time.Second),
		Transport: &http.Transport{
			Proxy:                  http.ProxyFromEnvironment,
			TLSClientConfig:        o.TLS,
			ForceAttemptHTTP2:      true,
			IdleConnTimeout:        time.Minute,
			MaxResponseHeaderBytes: 64 << 10,
		},
		// The headers have secrets, and go nowhere but where the operator has said.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
	c.spans = otlptrace.NewUnstarted(upload{c})
	return c
}

// A sendError says why spans were not accepted.
type sendError struct {
	err       error
	temporary bool          // the same spans may be accepted later
	after     time.Duration // the collector asks for that pause; 0: it does not
	rejected  int64         // of the spans; 0: all
}

func (e *sendError) Error() string { return e.err.Error() }

// send sends spans. Its error is a *sendError.
func (c *Collector) send(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := c.spans.ExportSpans(ctx, spans)
	var known *sendError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &known):
		return known
	}
	return &sendError{err: err}
}

// Check asks the collector to take no spans, with the headers of all requests. The error says why it does not.
func (c *Collector) Check(ctx context.Context) error {
	defer c.close()
	return upload{c}.UploadTraces(ctx, nil)
}

// close closes the connections that wait for another request.
func (c *Collector) close() { c.client.CloseIdleConnections() }

// An upload is what an otlptrace.Exporter sends with.
type upload struct{ *Collector }

// Start implements otlptrace.Client.
func (upload) Start(context.Context) error { return nil }

// Stop implements otlptrace.Client.
func (upload) Stop(context.Context) error { return nil }

// UploadTraces implements otlptrace.Client.
func (u upload) UploadTraces(ctx context.Context, spans []*tracepb.ResourceSpans) error {
	// On the wire this is an ExportTraceServiceRequest: both have the one field.
	message, err := proto.Marshal(&tracepb.TracesData{ResourceSpans: spans})
	if err != nil {
		return &sendError{err: err}
	}
	var body bytes.Buffer
	zip := gzip.NewWriter(&body)
	zip.Write(message)
	zip.Close()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, u.options.URL, &body)
	if err != nil {
		return &sendError{err: err}
	}
	req.Header.Set("User-Agent", u.options.UserAgent)
	maps.Copy(req.Header, u.options.Header)
	req.Header.Set("Content-Type", "application/x-protobuf")
	req.Header.Set("Content-Encoding", "gzip")
	res, err := u.client.Do(req)
	if err != nil {
		return &sendError{err: cause(err), temporary: true}
	}
	defer res.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
	if err != nil {
		return &sendError{err: cause(err), temporary: true}
	}
	return judge(res, answer)
}

// cause takes the URL off an error of a client, which the log need not repeat.
func cause(err error) error {
	var wrapped *url.Error
	switch {
	case !errors.As(err, &wrapped):
		return err
	case wrapped.Timeout():
		return errors.New("it did not answer in time")
	}
	return wrapped.Err
}

// judge returns a *sendError unless all spans were accepted; see "OTLP/HTTP Response" in the specification
// of OTLP.
func judge(res *http.Response, answer []byte) error {
	if res.StatusCode/100 == 2 {
		if rejected, why := partialSuccess(answer); rejected > 0 && res.Header.Get("Content-Type") == "application/x-protobuf" {
			return &sendError{err: fmt.Errorf("it rejected %d spans: %.200q", rejected, why), rejected: rejected}
		}
		return nil
	}
	e := &sendError{err: fmt.Errorf("it answered %s", res.Status)}
	switch res.StatusCode {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		e.temporary = true
		if seconds, err := strconv.ParseUint(res.Header.Get("Retry-After"), 10, 16); err == nil {
			e.after = time.Duration(seconds) * time.Second
		}
	}
	return e
}

// partialSuccess reads an ExportTraceServiceResponse: its field 1 is a message of rejected_spans (1) and
// error_message (2).
func partialSuccess(message []byte) (rejected int64, why string) {
	for number, value := range fields(message) {
		if number != 1 {
			continue
		}
		inner, _ := protowire.ConsumeBytes(value)
		for number, value := range fields(inner) {
			switch number {
			case 1:
				n, _ := protowire.ConsumeVarint(value)
				rejected = int64(n)
			case 2:
				text, _ := protowire.ConsumeBytes(value)
				why = string(text)
			}
		}
	}
	return rejected, why
}

// fields yields the fields of a message with their values as they stand in it, up to the first fault.
func fields(message []byte) func(yield func(protowire.Number, []byte) bool) {
	return func(yield func(protowire.Number, []byte) bool) {
		for len(message) > 0 {
			number, kind, n := protowire.ConsumeTag(message)
			if n < 0 {
				return
			}
			message = message[n:]
			if n = protowire.ConsumeFieldValue(number, kind, message); n < 0 || !yield(number, message[:n]) {
				return
			}
			message = message[n:]
		}
	}
}
