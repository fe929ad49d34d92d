package tracing

import (
	"encoding/hex"
	"net/http"
	"strings"

	"go.opentelemetry.io/otel/trace"
)

// The headers of W3C Trace Context. They are forwarded unchanged while nothing is traced. Baggage is
// forwarded unchanged in any case.
const (
	headerParent = "Traceparent"
	headerState  = "Tracestate"
)

// A parent has the parts of a well-formed traceparent header.
type parent struct {
	trace, span string // hexadecimal, in lower case
	flags       byte
}

const flagsKnown = trace.FlagsSampled | trace.FlagsRandom

// parentIn reads the traceparent header (W3C Trace Context, section 3.2). ok is false if that is missing,
// malformed or there more than once.
//
//	00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01
func parentIn(h http.Header) (p parent, ok bool) {
	const (
		zeros = "00000000000000000000000000000000"
		size  = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
	)
	lines := h[headerParent]
	if len(lines) != 1 {
		return p, false
	}
	text := lines[0]
	if len(text) < size || text[2] != '-' || text[35] != '-' || text[52] != '-' {
		return p, false
	}
	version, flags := text[:2], text[53:55]
	p.trace, p.span = text[3:35], text[36:52]
	switch {
	case !isLowerHex(version) || !isLowerHex(p.trace) || !isLowerHex(p.span) || !isLowerHex(flags):
		return p, false
	case version == "ff" || p.trace == zeros || p.span == zeros[:16]:
		return p, false
	case version == "00" && len(text) > size, len(text) > size && text[size] != '-':
		return p, false // only a later version may have more, after a dash
	}
	p.flags = hexDigit(flags[0])<<4 | hexDigit(flags[1])
	return p, true
}

func isLowerHex(s string) bool { return strings.Trim(s, "0123456789abcdef") == "" }

func hexDigit(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}

// TraceID returns the trace that a request belongs to by its traceparent header, 32 hexadecimal digits,
// or "" if that is missing or malformed.
func TraceID(h http.Header) string {
	if p, ok := parentIn(h); ok {
		return p.trace
	}
	return ""
}

// context returns the parent as the SDK has it. A tracestate that is malformed does not count (section 3.3.1.5).
func (p parent) context(h http.Header, sampled bool) trace.SpanContext {
	c := trace.SpanContextConfig{TraceFlags: (trace.TraceFlags(p.flags) & flagsKnown).WithSampled(sampled), Remote: true}
	hex.Decode(c.TraceID[:], []byte(p.trace))
	hex.Decode(c.SpanID[:], []byte(p.span))
	if lines := h[headerState]; len(lines) > 0 {
		state, _ := trace.ParseTraceState(strings.Join(lines, ","))
		c.TraceState, _ = trace.ParseTraceState(state.String()) // keeps nothing else of the lines, such as thousands of commas
	}
	return trace.NewSpanContext(c)
}
