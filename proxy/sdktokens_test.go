package proxy_test

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"

	"metergate/proxy"
	"metergate/quota/testkit"
)

// A fakeOpenAI answers with the recorded shapes of proxy/reported/testdata.
type fakeOpenAI struct {
	t    *testing.T
	left chan struct{} // receives when the client has aborted, and ends the stream

	mu     sync.Mutex
	bodies map[[32]byte]int // how often each request's body has arrived
}

var totalTokens = regexp.MustCompile(`"total_tokens": ?([0-9]+)`)

// answerTo returns the content type and the body for what a client wishes, and the tokens in it.
func (o *fakeOpenAI) answerTo(wish string) (contentType, body string, tokens int64) {
	file := func(name string) string {
		return string(testkit.ReadFile(o.t, "proxy/reported/testdata/"+name))
	}
	switch contentType = eventType; wish {
	case "plain":
		contentType, body = jsonType, file("openai-chat.json")
	case "tools":
		body = file("openai-chat-stream-tools.txt")
	case "draw":
		contentType, body = jsonType, `{"created":1796000000,"data":[{"b64_json":"`+strings.Repeat("iVBORw0KGgo", 100_000)+`"}],"usage":{"total_tokens":171,"input_tokens":11,"output_tokens":160}}`
	default:
		body = file("openai-chat-stream.txt")
	}
	for _, m := range totalTokens.FindAllStringSubmatch(body, -1) {
		tokens, _ = strconv.ParseInt(m[1], 10, 64) // the last one
	}
	return contentType, body, tokens
}

func (o *fakeOpenAI) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		o.t.Error(err)
	}
	o.mu.Lock()
	o.bodies[sha256.Sum256(body)]++
	o.mu.Unlock()
	var request struct {
		Prompt   string
		Messages []struct{ Content any }
	}
	if err := json.Unmarshal(body, &request); err != nil {
		o.t.Error(err)
	}
	wish := request.Prompt
	for _, m := range request.Messages {
		if wish, _ = m.Content.(string); wish == "" {
			wish = "picture"
		}
	}
	contentType, answer, _ := o.answerTo(wish)
	w.Header().Set("Content-Type", contentType)
	if contentType == jsonType {
		io.WriteString(w, answer)
		return
	}
	for i, event := range strings.SplitAfter(answer, "\n\n") {
		io.WriteString(w, event)
		w.(http.Flusher).Flush()
		if i == 0 && wish == "abort" {
			<-o.left
		}
	}
}

// TestOpenAIApplicationsSeeWhatTheUpstreamSends: streams, tools, pictures in both directions and an abort
// give applications the same through the gateway as without it, and each is charged its tokens.
func TestOpenAIApplicationsSeeWhatTheUpstreamSends(t *testing.T) {
	for _, sdk := range sdks {
		if sdk == "@anthropic-ai/sdk" {
			continue
		}
		t.Run(sdk, func(t *testing.T) {
			t.Parallel()
			o := &fakeOpenAI{t: t, left: make(chan struct{}, 2), bodies: map[[32]byte]int{}}
			cost := tokenCost(t)
			cost.Max, cost.Each = 1000, 1
			g := withTokens(t, setup{upstream: o.ServeHTTP, routes: []proxy.Route{{Pattern: "POST /v1/{rest...}", Endpoint: "report", Cost: cost}}})
			wishes := []string{"plain", "stream", "tools", "picture", "draw", "abort"}
			direct, through := o.ask(g, sdk, g.target.String(), wishes), o.ask(g, sdk, g.gateway.URL, wishes)
			if through != direct {
				t.Errorf("the application sees\n%s\nand without the gateway\n%s", shortLines(through), shortLines(direct))
			}
			var tokens int64
			for _, wish := range wishes {
				_, _, n := o.answerTo(wish)
				if tokens += n; n == 0 || wish != "abort" && !strings.Contains(direct, `"`+wish+` has ended"`) {
					t.Errorf("%s costs %d tokens; the application sees\n%s", wish, n, shortLines(direct))
				}
			}
			g.eventuallySettled("u", tokens)
			o.mu.Lock()
			defer o.mu.Unlock()
			for hash, n := range o.bodies {
				if n%2 != 0 {
					t.Errorf("a request (SHA-256 %x) has arrived %d times, want once directly and once through the gateway", hash, n)
				}
			}
		})
	}
}

// ask lets an application do what it wishes with an API at a URL, and returns what it sees. The last
// wish is to abort.
func (o *fakeOpenAI) ask(g *testGateway, sdk, url string, wishes []string) string {
	o.t.Helper()
	cmd := g.sdkCommand(sdk)
	args := append([]string{"testdata/chat.js", cmd.Args[2], sdk, url, token("u", "units")}, wishes...)
	cmd = exec.CommandContext(o.t.Context(), cmd.Path, args...)
	out, err := cmd.Output()
	o.left <- struct{}{}
	if err != nil {
		o.t.Fatalf("%s: %v: %s", sdk, err, shortLines(string(out)))
	}
	return string(out)
}

// shortLines shortens lines for people.
func shortLines(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		fmt.Fprintf(&b, "%.200s\n", strings.TrimSuffix(line, "\n"))
	}
	return b.String()
}
