package reported

import (
	"fmt"
	"strings"
	"testing"
)

// Streams whose tokens other gateways and clients have lost, as reported in public.
func TestReaderReadsReportedStreams(t *testing.T) {
	chunk := func(rest string) string {
		return `{"id":"c","object":"chat.completion.chunk","model":"m",` + rest + `}`
	}
	const usage = `"usage":{"prompt_tokens":5,"completion_tokens":7,"total_tokens":12}`
	content := chunk(`"choices":[{"index":0,"delta":{"content":"Grüße 🐟"},"finish_reason":null}]`)
	last := chunk(`"choices":[],` + usage)
	stream := func(events ...string) string {
		return "data: " + strings.Join(append(events, "[DONE]"), "\n\ndata: ") + "\n\n"
	}
	for _, c := range []struct{ report, body string }{
		{"envoyproxy/ai-gateway#2463: CRLF", strings.ReplaceAll(stream(content, last), "\n", "\r\n")},
		{"envoyproxy/ai-gateway#2463, #2470: no space", strings.ReplaceAll(stream(content, last), "data: ", "data:")},
		{"miruamel/xuan#194: CR", strings.ReplaceAll(stream(content, last), "\n", "\r")},
		{"rexxars/eventsource-parser#17: CR at the end of a piece", "data: {\r\ndata: " + last[1:] + "\r\n\r\n"},
		{"graniet/llm#90, praxis-proxy/praxis#739: pieces cut anywhere", stream(content, content, last)},
		{"mlflow/mlflow#20578: no line feed at the end", "data: " + content + "\n\ndata: " + last},
		{"Dstack-TEE/private-ai-gateway#91: comments between", ": PROCESSING\n\n" + stream(content) + ": PROCESSING\n\n" + stream(last)},
		{"router-for-me/CLIProxyAPI#3077: zeros in all events but the last", stream(
			chunk(`"choices":[{"index":0,"delta":{"content":"a"}}],"usage":{"prompt_tokens":0,"completion_tokens":0,"total_tokens":0}`),
			chunk(`"choices":[{"index":0,"delta":{},"finish_reason":"stop"}],`+usage))},
		{"agentjido/req_llm#781: after the reason to finish", stream(content, chunk(`"choices":[{"finish_reason":"stop","index":0,"delta":{}}]`), last)},
		{"ARahim3/mlx-dspark#37: choices that are not empty", stream(content, chunk(`"choices":[{"index":0,"delta":{}}],`+usage))},
		{"odysseus-dev/odysseus#1703: in the event that finishes", stream(content, chunk(`"choices":[{"index":0,"delta":{"role":"assistant","content":null},"finish_reason":"stop"}],`+usage))},
		{"volcano-sh/kthena#202: null in all events but the last", stream(chunk(`"choices":[{"index":0,"delta":{"content":"a"}}],"usage":null`), last)},
		{"PostHog/posthog-python: several totals", stream(content, chunk(`"choices":[],"usage":{"total_tokens":9}`), last)},
	} {
		t.Run(c.report, func(t *testing.T) {
			for size := 1; size <= 40; size++ {
				if got, err := readBody(t, tokens, "text/event-stream", c.body, size); got != 12 || err != nil {
					t.Fatalf("in pieces of %d bytes it reports %d, %v; want 12", size, got, err)
				}
			}
		})
	}
}

// ExampleReader reads the tokens of a stream that arrives in three pieces.
func ExampleReader() {
	path, err := ParsePath("usage.total_tokens")
	if err != nil {
		panic(err)
	}
	r, err := NewReader(path, "text/event-stream; charset=utf-8", "", 0)
	if err != nil {
		panic(err)
	}
	for _, piece := range []string{"data: {\"usage\":null}\n\nda", "ta: {\"usage\":{\"total_to", "kens\":12}}\n\ndata: [DONE]\n\n"} {
		_, _ = r.Write([]byte(piece))
	}
	fmt.Println(r.End())
	// Output: 12 <nil>
}
