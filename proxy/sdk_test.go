package proxy_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"metergate/proxy"
	"metergate/quota/testkit"
)

// sdks are the packages of npm that testdata/sdk.js calls a model with, and where each
// sends its requests.
var sdks = []struct{ name, module, path string }{
	{"openai", "openai", "/v1/chat/completions"},
	{"anthropic", "@anthropic-ai/sdk", "/v1/messages"},
}

// sdkCommand returns a process that calls a model, once for each of its retries. If the SDK is
// not installed, the test is skipped, or fails if METERGATE_TEST_REQUIRE is set.
func (r *testGateway) sdkCommand(sdk, token, wish string) *exec.Cmd {
	r.t.Helper()
	modules := filepath.Join(testkit.ModuleRoot(r.t), ".ci/npm/node_modules")
	node, err := exec.LookPath("node")
	for _, s := range sdks {
		if err == nil && s.name == sdk {
			_, err = os.Stat(filepath.Join(modules, s.module))
		}
	}
	if err != nil {
		if os.Getenv("METERGATE_TEST_REQUIRE") != "" {
			r.t.Fatal(err)
		}
		r.t.Skip("run .ci/install for Node.js and the npm packages: ", err)
	}
	return exec.CommandContext(r.t.Context(), node, "testdata/sdk.js", modules, sdk, r.gateway.URL, token, wish)
}

// newSDKGateway returns a gateway that meters what SDKs ask for.
func newSDKGateway(t *testing.T, change func(*proxy.Options), upstream http.HandlerFunc) *testGateway {
	s := setup{upstream: upstream, change: change}
	for _, sdk := range sdks {
		s.routes = append(s.routes, proxy.Route{Pattern: "POST " + sdk.path, Endpoint: "analyze"})
	}
	return newTestGateway(t, s)
}

// wantSDK runs a call and compares what the application sees.
func (r *testGateway) wantSDK(sdk, token, wish, want string) {
	r.t.Helper()
	out, err := r.sdkCommand(sdk, token, wish).CombinedOutput()
	if string(out) != want+"\n" || err != nil {
		r.t.Errorf("%s: %s, error %v, want %s", sdk, out, err, want)
	}
}

// SDKs obey a Retry-After, however long, unless they are told not to retry
// (earendil-works/pi 6912, openai/openai-python 3555). The limit of a month is reported after
// one request.
func TestSDKsReportQuotaAtOnce(t *testing.T) {
	r := newSDKGateway(t, nil, nil)
	for _, sdk := range sdks {
		tok := token(sdk.name, "one")
		r.do(tok, "POST", "/api/analyze", nil)
		before := r.store.calls.Load()
		r.wantSDK(sdk.name, tok, "answer", "RateLimitError 429 1/1")
		if n := r.store.calls.Load() - before; n != 1 {
			t.Errorf("%s asked %d times", sdk.name, n)
		}
	}
}

// SDKs wait for a short Retry-After and repeat the request (openai/openai-node 1108): while
// another request holds the last unit, a 429 says 1.
func TestSDKsWaitForAUnitThatIsHeld(t *testing.T) {
	for _, sdk := range sdks {
		t.Run(sdk.name, func(t *testing.T) {
			t.Parallel()
			holding, release := make(chan struct{}), make(chan struct{})
			var r *testGateway
			r = newSDKGateway(t, nil, func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/api/analyze" {
					close(holding)
					<-release
					w.WriteHeader(http.StatusServiceUnavailable)
				}
			})
			tok := token("u", "one")
			held := make(chan int, 1)
			go func() { held <- r.do(tok, "POST", "/api/analyze", nil).StatusCode }()
			testkit.Receive(t, "a request holds the unit", holding)
			before := r.store.calls.Load()
			done := make(chan struct{})
			go func() {
				defer close(done)
				r.wantSDK(sdk.name, tok, "answer", "answered")
			}()
			testkit.Eventually(t, "the SDK is refused", func() bool {
				select {
				case <-done:
					return true
				default:
					return r.store.calls.Load() > before
				}
			})
			close(release)
			<-done
			if status := testkit.Receive(t, "the other request ends", held); status != http.StatusServiceUnavailable {
				t.Errorf("the other request got %d", status)
			}
			r.want("u", "one", 1)
		})
	}
}

// A call that an SDK has to send three times counts once; one that fails thrice does not count
// (openai/openai-python 1102: two retries by default).
func TestSDKRetriesCountOnce(t *testing.T) {
	for _, sdk := range sdks {
		t.Run(sdk.name, func(t *testing.T) {
			t.Parallel()
			var failures, sent atomic.Int64
			r := newSDKGateway(t, nil, func(w http.ResponseWriter, req *http.Request) {
				sent.Add(1)
				w.Header().Set("Content-Type", "application/json")
				w.Header().Set("Retry-After-Ms", "1")
				if failures.Add(-1) >= 0 {
					w.WriteHeader(http.StatusInternalServerError)
				}
				io.WriteString(w, "{}")
			})
			tok := token("u", "free")
			for _, c := range []struct {
				fails, sent, used int64
				want              string
			}{{2, 3, 1, "answered"}, {3, 3, 1, "InternalServerError 500 1/100"}, {0, 1, 2, "answered"}} {
				failures.Store(c.fails)
				sent.Store(0)
				r.wantSDK(sdk.name, tok, "answer", c.want)
				if n := sent.Load(); n != c.sent {
					t.Errorf("%d failures: %d requests, want %d", c.fails, n, c.sent)
				}
				r.want("u", "free", c.used)
			}
		})
	}
}

// A streamed answer passes as it is and counts once, also if it breaks off. An application that
// gives up before the answer has begun pays nothing.
func TestSDKStreamsAndAborts(t *testing.T) {
	for _, sdk := range sdks {
		t.Run(sdk.name, func(t *testing.T) {
			t.Parallel()
			reached := make(chan struct{}, 1)
			r := newSDKGateway(t, nil, func(w http.ResponseWriter, req *http.Request) {
				body, _ := io.ReadAll(req.Body)
				if strings.Contains(string(body), "hang") {
					reached <- struct{}{}
					<-req.Context().Done()
					return
				}
				w.Header().Set("Content-Type", "text/event-stream")
				for range 3 {
					fmt.Fprint(w, "event: content_block_delta\ndata: {\"type\":\"content_block_delta\"}\n\n")
					w.(http.Flusher).Flush()
				}
			})
			tok := token("u", "free")
			events := "answered with 3 events"
			r.wantSDK(sdk.name, tok, "stream", events)
			r.want("u", "free", 1)

			cmd := r.sdkCommand(sdk.name, tok, "hang")
			stdin, err := cmd.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			out := make(chan string, 1)
			go func() {
				text, _ := cmd.CombinedOutput()
				out <- string(text)
			}()
			testkit.Receive(t, "the request has reached the upstream", reached)
			io.WriteString(stdin, "x")
			if text := testkit.Receive(t, "the SDK gives up", out); !strings.HasPrefix(text, "APIUserAbortError") {
				t.Errorf("it prints %s", text)
			}
			testkit.Eventually(t, "nothing is held", func() bool { return r.usage("u", "free").InFlight == 0 })
			r.want("u", "free", 1)
		})
	}
}
