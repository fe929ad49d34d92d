package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metergate/proxy"
	"metergate/quota"
	"metergate/quota/testkit"
)

// sdks are the packages of npm that testdata/sdk.js calls a model with: all major versions of
// OpenAI's that are in use, and Anthropic's.
var sdks = []string{"openai4", "openai5", "openai6", "openai7", "@anthropic-ai/sdk"}

// sdkCommand returns a process that makes calls: for each of them, what to ask for and a token. If
// the SDK is not installed, the test is skipped, or fails if METERGATE_TEST_REQUIRE is set.
func (r *testGateway) sdkCommand(sdk string, calls ...string) *exec.Cmd {
	r.t.Helper()
	modules := filepath.Join(testkit.ModuleRoot(r.t), ".ci/npm/node_modules")
	node, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(modules, sdk))
	}
	if err != nil {
		if os.Getenv("METERGATE_TEST_REQUIRE") != "" {
			r.t.Fatal(err)
		}
		r.t.Skip("run .ci/install for Node.js and the npm packages: ", err)
	}
	return exec.CommandContext(r.t.Context(), node, append([]string{"testdata/sdk.js", modules, sdk, r.gateway.URL}, calls...)...)
}

// newSDKGateway returns a gateway that meters what SDKs ask for.
func newSDKGateway(t *testing.T, s setup) *testGateway {
	for _, path := range []string{"/v1/chat/completions", "/v1/messages"} {
		s.routes = append(s.routes, proxy.Route{Pattern: "POST " + path, Endpoint: "analyze"})
	}
	return withCosts(t, s, quota.Limit{Amount: 5, Period: quota.Month, Quantity: quota.Units})
}

// wantSDK makes calls, and compares what the application sees: a line for each.
func (r *testGateway) wantSDK(sdk, want string, calls ...string) {
	r.t.Helper()
	out, err := r.sdkCommand(sdk, calls...).Output()
	got := string(out)
	if sdk != "@anthropic-ai/sdk" { // OpenAI's puts the status before the message
		got = strings.NewReplacer(": 401 ", ": ", ": 403 ", ": ", ": 429 ", ": ", ": 504 ", ": ").Replace(got)
	}
	if got != want+"\n" || err != nil {
		r.t.Errorf("%s, error %v:\n%swant\n%s", sdk, err, got, want)
	}
}

// eachSDK runs a test for each of the SDKs.
func eachSDK(t *testing.T, fn func(t *testing.T, sdk string)) {
	for _, sdk := range sdks {
		t.Run(strings.ReplaceAll(sdk, "/", " "), func(t *testing.T) {
			t.Parallel()
			fn(t, sdk)
		})
	}
}

// SDKs obey a Retry-After, however long, unless they are told not to retry
// (earendil-works/pi 6912, openai/openai-python 3555). Limits of a month, on requests and on units, one
// that never renews, what the plan does not include, and a bad token are reported after one request. The application
// sees the reason.
func TestSDKsReportQuotaAtOnce(t *testing.T) {
	eachSDK(t, func(t *testing.T, sdk string) {
		r := newSDKGateway(t, setup{store: storeAt(t, midMonth), change: func(o *proxy.Options) {
			o.Plans["none"] = newPlan("none", quota.Limit{Period: quota.Month})
			o.Plans["prepaid"] = newPlan("prepaid", quota.Limit{Amount: 1, Period: quota.Ever})
		}})
		r.do(token("u", "units"), "POST", "/cost/image", nil)
		r.do(token("v", "prepaid"), "POST", "/api/analyze", nil)
		before := r.store.calls.Load()
		r.wantSDK(sdk, `RateLimitError 429 insufficient_quota insufficient_quota: You have reached the limit of 1 request per month on the one plan.
RateLimitError 429 insufficient_quota insufficient_quota: You have reached the limit of 5 credits per month on the units plan.
RateLimitError 429 insufficient_quota insufficient_quota: You have used your 1 request. It does not renew.
PermissionDeniedError 403 permission_error not_in_plan: The none plan does not include any requests.
AuthenticationError 401 authentication_error unauthorized: The token must have three parts, joined by dots.`,
			"answer", token("u", "one"), "stream", token("u", "units"), "answer", token("v", "prepaid"), "answer", token("u", "none"), "answer", "bad")
		if n := r.store.calls.Load() - before; n != 4 {
			t.Errorf("the SDK asked %d times, want 4", n)
		}
	})
}

// A clockedStore has a clock that moves by a second with each refusal.
type clockedStore struct {
	proxy.Store
	now *atomic.Int64 // in nanoseconds since 1970
}

func (s clockedStore) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	d, err := s.Store.Reserve(ctx, r)
	if !d.Admitted {
		s.now.Add(int64(time.Second))
	}
	return d, err
}

// SDKs wait for a limit that renews within the minute. They ask twice more while all places are
// taken, and then say so. Other errors are not taken for the quota.
func TestSDKsWaitForWhatPasses(t *testing.T) {
	eachSDK(t, func(t *testing.T, sdk string) {
		var now atomic.Int64
		now.Store(time.Date(2026, 11, 29, 12, 0, 59, 0, time.UTC).UnixNano())
		store := storeAt(t, func() time.Time { return time.Unix(0, now.Load()) })
		holding, release := make(chan struct{}), make(chan struct{})
		r := newSDKGateway(t, setup{
			store: clockedStore{store, &now},
			upstream: func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/api/image-analysis" {
					close(holding)
					<-release
				}
			},
			change: func(o *proxy.Options) {
				o.Plans["minute"] = newPlan("minute", quota.Limit{Amount: 1, Period: quota.Minute})
				o.Plans["bounded"] = boundedPlan(t, quota.ConcurrencyLimit{Requests: 1})
			},
		})
		r.do(token("u", "minute"), "POST", "/api/analyze", nil)
		before := r.store.calls.Load()
		r.wantSDK(sdk, "answered", "answer", token("u", "minute"))
		if n := r.store.calls.Load() - before; n != 3 {
			t.Errorf("%d calls of the store, want 3: refused, admitted and counted", n)
		}

		held := make(chan int, 1)
		go func() { held <- r.do(token("v", "bounded"), "POST", "/api/image-analysis", nil).StatusCode }()
		testkit.Receive(t, "a request has the place", holding)
		before = r.store.calls.Load()
		r.wantSDK(sdk, "RateLimitError 429 rate_limit_error concurrency: You already have 1 request running, and the bounded plan allows no more at once."+
			" Try again when one of them has finished. This request was not counted.", "answer", token("v", "bounded"))
		if n := r.store.calls.Load() - before; n != 3 {
			t.Errorf("the SDK asked %d times, want 3", n)
		}
		close(release)
		testkit.Receive(t, "the other request ends", held)
	})
}

// SDKs wait for a short Retry-After and repeat the request (openai/openai-node 1108): while
// another request holds the last unit, a 429 says 1.
func TestSDKsWaitForAUnitThatIsHeld(t *testing.T) {
	eachSDK(t, func(t *testing.T, sdk string) {
		holding, release := make(chan struct{}), make(chan struct{})
		r := newSDKGateway(t, setup{upstream: func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/api/analyze" {
				close(holding)
				<-release
				w.WriteHeader(http.StatusServiceUnavailable)
			}
		}})
		tok := token("u", "one")
		held := make(chan int, 1)
		go func() { held <- r.do(tok, "POST", "/api/analyze", nil).StatusCode }()
		testkit.Receive(t, "a request holds the unit", holding)
		before := r.store.calls.Load()
		done := make(chan struct{})
		go func() {
			defer close(done)
			r.wantSDK(sdk, "answered", "answer", tok)
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

// A call that an SDK has to send three times counts once; one that fails thrice does not count
// (openai/openai-python 1102: two retries by default).
func TestSDKRetriesCountOnce(t *testing.T) {
	eachSDK(t, func(t *testing.T, sdk string) {
		var failures, sent atomic.Int64
		r := newSDKGateway(t, setup{upstream: func(w http.ResponseWriter, req *http.Request) {
			sent.Add(1)
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Retry-After-Ms", "1")
			if failures.Add(-1) >= 0 {
				w.WriteHeader(http.StatusInternalServerError)
			}
			io.WriteString(w, "{}")
		}})
		tok := token("u", "free")
		for _, c := range []struct {
			fails, sent, used int64
			want              string
		}{{2, 3, 1, "answered"}, {3, 3, 1, "InternalServerError 500"}, {0, 1, 2, "answered"}} {
			failures.Store(c.fails)
			sent.Store(0)
			r.wantSDK(sdk, c.want, "answer", tok)
			if n := sent.Load(); n != c.sent {
				t.Errorf("%d failures: %d requests, want %d", c.fails, n, c.sent)
			}
			r.want("u", "free", c.used)
		}
	})
}

// A streamed answer passes as it is and counts once, also if it breaks off. An application that
// gives up before the answer has begun pays nothing.
func TestSDKStreamsAndAborts(t *testing.T) {
	eachSDK(t, func(t *testing.T, sdk string) {
		reached := make(chan struct{}, 1)
		r := newSDKGateway(t, setup{upstream: func(w http.ResponseWriter, req *http.Request) {
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
		}})
		tok := token("u", "free")
		events := "answered with 3 events"
		r.wantSDK(sdk, events, "stream", tok)
		r.want("u", "free", 1)

		cmd := r.sdkCommand(sdk, "hang", tok)
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
