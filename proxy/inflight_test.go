package proxy_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy"
	"metergate/quota/testkit"
)

// A call is one of the requests that rush sends.
type call struct{ token, method, path string }

// rush sends calls all at once. want of them have to reach the upstream. It returns the
// answers of the others, which have to be refused with status.
func (r *testGateway) rush(calls []call, status, want int, arrived <-chan bool) (refused []reply) {
	r.t.Helper()
	answers := make(chan reply, len(calls))
	for _, c := range calls {
		go func() {
			res, err := r.try(c.token, c.method, c.path, nil)
			if err != nil {
				r.t.Error(err)
				res.Response = new(http.Response)
			}
			answers <- res
		}()
	}
	for range want {
		<-arrived
	}
	for range len(calls) - want {
		res := <-answers
		if res.StatusCode != status {
			r.t.Errorf("refused with %s", res.Status)
		}
		refused = append(refused, res)
	}
	select {
	case <-arrived:
		r.t.Error("one more reached the upstream")
	default:
	}
	r.t.Cleanup(func() {
		for range want {
			if res := <-answers; res.StatusCode != 200 {
				r.t.Errorf("admitted and answered with %s", res.Status)
			}
		}
	})
	return refused
}

// wantProblem checks the body and the headers of a refusal.
func wantProblem(t *testing.T, res reply, typ string, status int) {
	t.Helper()
	var p struct {
		Type   string
		Status int
	}
	if err := json.Unmarshal([]byte(res.body), &p); err != nil || p.Type != typ || p.Status != status ||
		res.Header.Get("Retry-After") != "1" || res.Header.Get("X-Usage") != "" || res.Header.Get("Content-Type") != "application/problem+json" {
		t.Errorf("%s %v: %s", res.Status, res.Header, res.body)
	}
}

// TestMaxInFlightRefusesOverLimit: of many requests at once, by many users, exactly as
// many as fit are served. The others are refused at once, without a call to the store.
func TestMaxInFlightRefusesOverLimit(t *testing.T) {
	arrived, release := make(chan bool, 100), make(chan bool)
	registry := prometheus.NewRegistry()
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) { arrived <- true; <-release },
		change: func(o *proxy.Options) {
			o.MaxInFlight, o.Metrics = 5, proxy.NewMetrics(registry)
		},
	})
	var calls []call
	for i := range 60 {
		switch user := token(fmt.Sprint("u", i), ""); i % 3 {
		case 0:
			calls = append(calls, call{user, "POST", "/api/analyze"})
		case 1:
			calls = append(calls, call{user, "GET", "/api/status"})
		case 2:
			calls = append(calls, call{"", "GET", "/api/health"})
		}
	}
	defer close(release)
	for _, res := range r.rush(calls, 503, 5, arrived) {
		wantProblem(t, res, "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity", 503)
	}
	metered := 0
	for _, req := range r.requests() {
		if req.URL.Path == "/api/analyze" {
			metered++
		}
	}
	if n := r.store.calls.Load(); n != int64(metered) {
		t.Errorf("the store was called %d times, want %d: for what it admitted", n, metered)
	}
	// GET /usage is refused as well, but a usage stream is not.
	if res := r.do(token("u", ""), "GET", "/usage", nil); res.StatusCode != 503 {
		t.Errorf("GET /usage: %s", res.Status)
	}
	if s := r.stream(token("u", "")); s.res.StatusCode != 200 {
		t.Errorf("GET /usage/stream: %s", s.res.Status)
	}
	numbers := series(t, registry)
	refused := func(reason string) float64 { return numbers[`metergate_overload_refused_total{reason="`+reason+`"}`] }
	if all, user := refused("total")+refused("public"), refused("per_user"); all != 56 || user != 0 {
		t.Errorf("the metrics say that %v and %v were refused, want 56 and 0", all, user)
	}
}

// TestPublicRequestsGetAQuarterOfThePlaces: requests without a token may take a quarter
// of the places, rounded up. Whatever they occupy, users have the rest.
func TestPublicRequestsGetAQuarterOfThePlaces(t *testing.T) {
	for _, c := range []struct{ total, strangers int }{{1, 1}, {2, 1}, {4, 1}, {5, 2}, {8, 2}, {9, 3}} {
		t.Run(fmt.Sprint(c.total), func(t *testing.T) {
			arrived, release := make(chan bool, 100), make(chan bool)
			registry := prometheus.NewRegistry()
			r := newTestGateway(t, setup{
				routes: []proxy.Route{{Pattern: "POST /open", Public: true}},
				upstream: func(w http.ResponseWriter, r *http.Request) {
					switch r.URL.Path {
					case "/open":
						arrived <- true
						io.Copy(io.Discard, r.Body)
					case "/api/analyze":
						arrived <- true
						<-release
					}
				},
				change: func(o *proxy.Options) { o.MaxInFlight, o.Metrics = c.total, proxy.NewMetrics(registry) },
			})
			// Clients that hold their bodies back take all the places there are.
			for range c.strangers {
				io.WriteString(r.dial(), "POST /open HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n")
				testkit.Receive(t, "the upstream is asked", arrived)
			}
			for range 3 {
				wantProblem(t, r.do("", "GET", "/api/health", nil), "https://iana.org/assignments/http-problem-types#temporary-reduced-capacity", 503)
			}
			// A request without a route and a file take no place.
			if none, file := r.do("", "GET", "/usage/nothing", nil), r.do("", "GET", "/usage/meter.js", nil); none.StatusCode != 404 || file.StatusCode != 200 {
				t.Errorf("below /usage: %s, %s", none.Status, file.Status)
			}
			var calls []call
			for i := range c.total {
				calls = append(calls, call{token(fmt.Sprint("u", i), ""), "POST", "/api/analyze"})
			}
			defer close(release)
			r.rush(calls, 503, c.total-c.strangers, arrived)
			numbers := series(t, registry)
			if public, total := numbers[`metergate_overload_refused_total{reason="public"}`], numbers[`metergate_overload_refused_total{reason="total"}`]; public != 3 || total != float64(c.strangers) {
				t.Errorf("the metrics say that %v and %v were refused, want 3 and %d", public, total, c.strangers)
			}
		})
	}
}

func TestMaxUserInFlightRefusesOverLimit(t *testing.T) {
	arrived, release := make(chan bool, 100), make(chan bool)
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) { arrived <- true; <-release },
		change:   func(o *proxy.Options) { o.MaxUserInFlight = 3 },
	})
	a, b := token("a", ""), token("b", "")
	var calls []call
	for range 10 {
		calls = append(calls, call{a, "POST", "/api/analyze"}, call{a, "GET", "/api/status"}, call{b, "GET", "/api/lookup/7"})
	}
	for _, res := range r.rush(calls, 429, 6, arrived) {
		wantProblem(t, res, "about:blank", 429)
	}
	before := r.store.calls.Load()
	if res := r.do(a, "POST", "/api/analyze", strings.NewReader("text")); res.StatusCode != 429 || !res.Close {
		t.Errorf("with a body: %s", res.Status)
	}
	if res := r.do(a, "GET", "/usage", nil); res.StatusCode != 429 {
		t.Errorf("GET /usage: %s", res.Status)
	}
	if n := r.store.calls.Load(); n != before {
		t.Error("the store was called for what was refused")
	}
	// A route without a token, and another user, are still served.
	go func() { <-arrived; <-arrived; close(release) }()
	done := make(chan reply)
	go func() { done <- r.do("", "GET", "/api/health", nil) }()
	if res := r.do(token("c", ""), "POST", "/api/analyze", nil); res.StatusCode != 200 {
		t.Errorf("another user: %s", res.Status)
	}
	if res := <-done; res.StatusCode != 200 {
		t.Errorf("a public route: %s", res.Status)
	}
}

// TestPlaceIsFreeHoweverRequestEnds: however a request ends, its place is free again.
func TestPlaceIsFreeHoweverRequestEnds(t *testing.T) {
	opened, release := make(chan bool), make(chan bool)
	r := newTestGateway(t, setup{
		maxBody: 10,
		routes:  []proxy.Route{{Pattern: "GET /socket", Upgrade: true}, {Pattern: "POST /open", Public: true}},
		upstream: func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.RawQuery {
			case "fail":
				w.WriteHeader(500)
			case "slow":
				io.Copy(io.Discard, r.Body)
				<-r.Context().Done()
			case "wait":
				io.Copy(io.Discard, r.Body) // or net/http does not see that the client is gone
				opened <- true
				<-r.Context().Done()
			case "cut":
				panic(http.ErrAbortHandler)
			case "break":
				w.Header().Set("Content-Length", "1000")
				io.WriteString(w, "less")
			case "socket":
				conn, _, err := w.(http.Hijacker).Hijack()
				if err != nil {
					panic(err)
				}
				io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
				opened <- true
				<-release
				conn.Close()
			}
		},
		change: func(o *proxy.Options) {
			o.MaxInFlight, o.MaxUserInFlight, o.InFlight = 1, 1, proxy.NewInFlight()
			for i := range o.Routes {
				if o.Routes[i].Endpoint == "image-analysis" {
					o.Routes[i].Timeout = 50 * time.Millisecond
				}
			}
		},
	})
	user := token("u", "")
	get := func(ctx context.Context, method, path string, body io.Reader) {
		req, _ := http.NewRequestWithContext(ctx, method, r.gateway.URL+path, body)
		req.Header.Set("Authorization", "Bearer "+user)
		if res, err := http.DefaultClient.Do(req); err == nil {
			io.Copy(io.Discard, res.Body)
			res.Body.Close()
		}
	}
	free := func(name string) {
		t.Helper()
		// A client may have its answer a moment before the gateway has finished.
		testkit.Eventually(t, "a place after "+name, func() bool {
			return r.do(user, "GET", "/api/status", nil).StatusCode == 200
		})
	}
	for _, c := range []struct{ name, token, method, path, body string }{
		{"200", user, "POST", "/api/analyze", "text"},
		{"500", user, "POST", "/api/analyze?fail", "text"},
		{"a timeout", user, "POST", "/api/image-analysis?slow", "text"},
		{"a cut connection", user, "POST", "/api/analyze?cut", "text"},
		{"half a body", user, "POST", "/api/analyze?break", "text"},
		{"413", user, "POST", "/api/analyze", "much too long"},
		{"401", "nonsense", "POST", "/api/analyze", "text"},
		{"404", user, "POST", "/nowhere", "text"},
		{"405", user, "DELETE", "/api/analyze", ""},
		{"a public route", "", "POST", "/open", "text"},
		{"GET /usage", user, "GET", "/usage", ""},
		{"POST /usage/track", user, "POST", "/usage/track", ""},
		{"client.js", "", "GET", "/usage/client.js", ""},
		{"nothing below /usage", "", "GET", "/usage/nothing", ""},
		{"an upgrade that is refused", user, "GET", "/api/lookup/1", ""},
	} {
		r.try(c.token, c.method, c.path, strings.NewReader(c.body), "Connection: Upgrade", "Upgrade: h2c")
		free(c.name)
	}

	one := token("v", "one")
	for range 2 { // the second is refused by the quota
		testkit.Eventually(t, "an answer about the quota", func() bool {
			res := r.do(one, "POST", "/api/analyze", nil)
			return res.StatusCode == 200 || strings.Contains(res.body, "quota-exceeded")
		})
		free("a request to its limit")
	}

	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan bool)
	go func() { get(ctx, "POST", "/api/analyze?wait", strings.NewReader("text")); gone <- true }()
	<-opened
	if res := r.do(user, "GET", "/api/status", nil); res.StatusCode != 503 {
		t.Errorf("while one waits: %s", res.Status)
	}
	cancel()
	<-gone
	free("a client that is gone")

	conn := r.dial()
	fmt.Fprintf(conn, "GET /socket?socket HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n", user)
	<-opened
	if res, err := http.ReadResponse(bufio.NewReader(conn), nil); err != nil || res.StatusCode != 101 {
		t.Fatal(res, err)
	}
	if res := r.do(user, "GET", "/api/status", nil); res.StatusCode != 503 {
		t.Errorf("while a connection is switched: %s", res.Status)
	}
	close(release)
	conn.Close() // it is switched until both sides have ended it
	free("a switched connection")

	broken := r.options
	broken.Store = faulty{Store: r.store}
	g, err := proxy.New(broken)
	if err != nil {
		t.Fatal(err)
	}
	panicking := httptest.NewUnstartedServer(g)
	panicking.Config.ErrorLog = quiet
	panicking.Start()
	defer panicking.Close()
	req, _ := http.NewRequest("POST", panicking.URL+"/api/analyze", nil)
	req.Header.Set("Authorization", "Bearer "+user)
	if res, err := http.DefaultClient.Do(req); err == nil {
		t.Errorf("a panic: %s", res.Status)
	}
	free("a panic")
}

// TestInFlightSurvivesReload: requests that run under one configuration count under the
// next.
func TestInFlightSurvivesReload(t *testing.T) {
	arrived, release := make(chan bool), make(chan bool)
	r := newTestGateway(t, setup{
		upstream: func(w http.ResponseWriter, r *http.Request) {
			if r.URL.RawQuery == "wait" {
				arrived <- true
				<-release
			}
		},
		change: func(o *proxy.Options) { o.InFlight = proxy.NewInFlight() },
	})
	next := r.options
	next.MaxInFlight, next.MaxUserInFlight = 8, 1 // and 2 without a token
	g, err := proxy.New(next)
	if err != nil {
		t.Fatal(err)
	}
	reloaded := httptest.NewServer(g)
	defer reloaded.Close()
	user := token("u", "")
	status := func(token string) int {
		req, _ := http.NewRequest("POST", reloaded.URL+"/api/analyze", nil)
		if req.Header.Set("Authorization", "Bearer "+token); token == "" {
			req, _ = http.NewRequest("GET", reloaded.URL+"/api/health", nil)
		}
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	done := make(chan reply)
	for range 2 {
		go func() { done <- r.do("", "GET", "/api/health?wait", nil) }()
		<-arrived
	}
	go func() { done <- r.do(user, "POST", "/api/analyze?wait", nil) }()
	<-arrived
	if got := status(""); got != 503 {
		t.Errorf("while two strangers are served under the previous configuration: %d for a third", got)
	}
	if got, other := status(user), status(token("other", "")); got != 429 || other != 200 {
		t.Errorf("while one runs under the previous configuration: %d, and %d for another user; want 429 and 200", got, other)
	}
	close(release)
	for range 3 {
		if res := <-done; res.StatusCode != 200 {
			t.Errorf("a request of the previous configuration: %s", res.Status)
		}
	}
	testkit.Eventually(t, "a place", func() bool { return status(user) == 200 && status("") == 200 })
}
