package tracing

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"metergate/proxy/tracing/tracingtest"
)

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	spanID  = "b7ad6b7169203331"
)

func TestParentIsReadAsW3CSays(t *testing.T) {
	good := map[string]byte{
		"00-" + traceID + "-" + spanID + "-01":                              1,
		"00-" + traceID + "-" + spanID + "-00":                              0,
		"00-" + traceID + "-" + spanID + "-ff":                              0xff, // unknown flags are ignored
		"cc-" + traceID + "-" + spanID + "-03":                              3,    // a later version
		"cc-" + traceID + "-" + spanID + "-01-what-the-future-will-be-like": 1,
	}
	for text, flags := range good {
		h := http.Header{"Traceparent": {text}}
		if p, ok := parentIn(h); !ok || p != (parent{traceID, spanID, flags}) || TraceID(h) != traceID {
			t.Errorf("%s: %+v %v", text, p, ok)
		}
	}
	for _, text := range []string{
		"", "00", "00-" + traceID + "-" + spanID, "00-" + traceID + "-" + spanID + "-1",
		"ff-" + traceID + "-" + spanID + "-01", "0x-" + traceID + "-" + spanID + "-01",
		"00-" + strings.ToUpper(traceID) + "-" + spanID + "-01", "00-" + traceID + "-" + strings.ToUpper(spanID) + "-01",
		"00-" + strings.Repeat("0", 32) + "-" + spanID + "-01", "00-" + traceID + "-" + strings.Repeat("0", 16) + "-01",
		"00-" + traceID + "-" + spanID + "-01-more", "cc-" + traceID + "-" + spanID + "-01more",
		"00_" + traceID + "-" + spanID + "-01", " 00-" + traceID + "-" + spanID + "-01",
	} {
		if p, ok := parentIn(http.Header{"Traceparent": {text}}); ok {
			t.Errorf("%q: %+v", text, p)
		}
	}
	one := "00-" + traceID + "-" + spanID + "-01"
	if _, ok := parentIn(http.Header{"Traceparent": {one, one}}); ok || TraceID(nil) != "" {
		t.Error("two lines, or none, are a parent")
	}
}

// whatUpstreamGets returns what the upstream gets of these lines of a trace's headers, and whether the request
// is sampled. T is the trace, and S the span that is the parent.
func whatUpstreamGets(t *testing.T, sample float64, trusted bool, lines ...string) (got []string, sampled bool) {
	t.Helper()
	e, _, _ := newExporter(t)
	tracer, err := e.NewTracer(TracerOptions{Sample: sample})
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	for _, line := range lines {
		name, value, _ := strings.Cut(line, ": ")
		h.Add(name, value)
	}
	before := h.Clone()
	request := tracer.StartRequest(h, trusted)
	try, out := request.StartTry(h)
	if diff := cmp.Diff(before, h); diff != "" {
		t.Errorf("the request's own headers have changed: %s", diff)
	}
	if (try != nil) != request.IsSampled() {
		t.Errorf("try %v, sampled %v", try, request.IsSampled())
	}
	parent := request
	if try != nil {
		parent = try
	}
	for _, name := range []string{"Traceparent", "Tracestate", "Baggage"} {
		for _, value := range out[name] {
			value = strings.Replace(value, request.TraceID(), "T", 1)
			got = append(got, name+": "+strings.Replace(value, parent.ID(), "S", 1))
		}
	}
	if out.Get("Traceparent") == h.Get("Traceparent") || strings.Contains(strings.Join(lines, ""), traceID) && len(lines) == 1 && request.TraceID() != traceID {
		t.Errorf("%v became %v", h, out)
	}
	return got, request.IsSampled()
}

func TestUpstreamGetsTraceOfRequest(t *testing.T) {
	parent := "Traceparent: 00-" + traceID + "-" + spanID + "-0"
	for name, c := range map[string]struct {
		sample  float64
		trusted bool
		lines   []string
		want    []string
		sampled bool
	}{
		"no parent, sampled":                     {1, false, nil, []string{"Traceparent: 00-T-S-01"}, true},
		"no parent, not sampled":                 {0, false, nil, []string{"Traceparent: 00-T-S-00"}, false},
		"a client's flag is ignored":             {0, false, []string{parent + "1"}, []string{"Traceparent: 00-T-S-00"}, false},
		"also one that is not set":               {1, false, []string{parent + "0"}, []string{"Traceparent: 00-T-S-01"}, true},
		"a proxy's flag counts":                  {0, true, []string{parent + "1"}, []string{"Traceparent: 00-T-S-01"}, true},
		"also one that is not set, from a proxy": {1, true, []string{parent + "0"}, []string{"Traceparent: 00-T-S-00"}, false},
		"a random trace id stays so":             {1, true, []string{parent + "3"}, []string{"Traceparent: 00-T-S-03"}, true},
		"a proxy without a parent":               {1, true, nil, []string{"Traceparent: 00-T-S-01"}, true},
		"state in several lines": {1, false, []string{parent + "1", "Tracestate: a=1,b=2", "Tracestate: c=3", "Baggage: k=v", "Baggage: l=w"},
			[]string{"Traceparent: 00-T-S-01", "Tracestate: a=1,b=2,c=3", "Baggage: k=v", "Baggage: l=w"}, true},
		"state of a request that is not sampled": {0, false, []string{parent + "1", "Tracestate: a=1"},
			[]string{"Traceparent: 00-T-S-00", "Tracestate: a=1"}, false},
		"malformed state":                   {0, false, []string{parent + "1", "Tracestate: a"}, []string{"Traceparent: 00-T-S-00"}, false},
		"state of a malformed parent":       {0, true, []string{"Traceparent: 00-abc", "Tracestate: a=1"}, []string{"Traceparent: 00-T-S-00"}, false},
		"a malformed parent samples nobody": {0, true, []string{"Traceparent: 00-" + strings.ToUpper(traceID) + "-" + spanID + "-01"}, []string{"Traceparent: 00-T-S-00"}, false},
		"the parent of a later version":     {0, true, []string{"Traceparent: cc-" + traceID + "-" + spanID + "-01-x"}, []string{"Traceparent: 00-T-S-01"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			got, sampled := whatUpstreamGets(t, c.sample, c.trusted, c.lines...)
			if diff := cmp.Diff(strings.Join(c.want, "\n"), strings.Join(noRandomFlag(got, c.lines), "\n")); diff != "" || sampled != c.sampled {
				t.Errorf("sampled %v, -want +got:\n%s", sampled, diff)
			}
		})
	}
}

// noRandomFlag removes the flag that the SDK sets for trace ids of its own (W3C Trace Context Level 2).
func noRandomFlag(got, sent []string) []string {
	for i, line := range got {
		if len(sent) == 0 || !strings.Contains(sent[0], traceID) {
			got[i] = strings.NewReplacer("-T-S-03", "-T-S-01", "-T-S-02", "-T-S-00").Replace(line)
		}
	}
	return got
}

// Anybody can send a trace id that a sampler by trace id would choose.
func TestShareOfRequestsIsSampledWhateverTheirTraceID(t *testing.T) {
	e, _, _ := newExporter(t)
	tracer, err := e.NewTracer(TracerOptions{Sample: 0.25})
	if err != nil {
		t.Fatal(err)
	}
	for name, h := range map[string]http.Header{
		"none": nil, "chosen": {"Traceparent": {"00-00000000000000000000000000000001-" + spanID + "-01"}},
	} {
		const n = 8000
		sampled := 0
		for range n {
			if tracer.StartRequest(h, false).IsSampled() {
				sampled++
			}
		}
		// 10 standard deviations of sqrt(n p (1-p)) = 39
		if sampled < n/4-390 || sampled > n/4+390 {
			t.Errorf("%s: %d of %d are sampled", name, sampled, n)
		}
	}
}

func TestNilSpanDoesNothing(t *testing.T) {
	var s *Span
	n := testing.AllocsPerRun(100, func() {
		step := s.Start("step")
		step.Name("a")
		step.Text("a", "b")
		step.Number("a", 1)
		step.Flag("a")
		step.Fail("a", "b")
		step.End()
		if step.IsSampled() || step.TraceID() != "" || step.ID() != "" {
			panic("it is something")
		}
	})
	if n != 0 || FromContext(context.Background()) != nil {
		t.Errorf("%v allocations", n)
	}
}

// A trace of a client goes on with the span of its request as the parent.
func TestRequestIsChildOfItsSender(t *testing.T) {
	receiver := tracingtest.Start(t)
	e, tracer, _ := newExporter(t)
	e.SetCollector(collectorAt(receiver.URL))
	request := tracer.StartRequest(http.Header{"Traceparent": {fmt.Sprintf("00-%s-%s-01", traceID, spanID)}}, false)
	if FromContext(NewContext(context.Background(), request)) != request {
		t.Error("the context has another span")
	}
	request.End()
	if server, _ := receiver.Trace(t, traceID); server.Parent() != spanID {
		t.Errorf("its parent is %s", server.Parent())
	}
}
