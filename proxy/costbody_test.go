package proxy_test

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/proxy"
	"metergate/proxy/reported"
	"metergate/proxy/upstream"
	"metergate/quota"
	"metergate/quota/testkit"
)

// tokenCost is a unit for each 1,000 tokens, up to 20.
func tokenCost(t testing.TB) proxy.Cost {
	path, err := reported.ParsePath("usage.total_tokens")
	if err != nil {
		t.Fatal(err)
	}
	return proxy.Cost{Cost: quota.Cost{Min: 1, Max: 20}, Path: path, Each: 1000}
}

// withTokens adds a route whose responses report tokens, at any path below /tokens, and a plan of a
// million units.
func withTokens(t *testing.T, s setup) *testGateway {
	s.routes = append(s.routes, proxy.Route{Pattern: "/tokens/{rest...}", Endpoint: "report", Cost: tokenCost(t)})
	return withCosts(t, s, quota.Limit{Amount: 1_000_000, Period: quota.Month, Quantity: quota.Units})
}

// A protocol is a client of the gateway, and where it finds it.
type protocol struct {
	name   string
	client *http.Client
	url    string
	served chan context.Context // of requests to /tokens/chat
}

// protocols has clients of HTTP/1.1 and HTTP/2, each with a server of its own for the gateway.
func (r *testGateway) protocols() (all []protocol) {
	for _, name := range []string{"HTTP/1.1", "HTTP/2.0"} {
		p := protocol{name: name, served: make(chan context.Context, 1)}
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
			if req.URL.Path == "/tokens/chat" {
				select {
				case p.served <- req.Context():
				default:
				}
			}
			r.handler.ServeHTTP(w, req)
		}))
		s.EnableHTTP2, s.Config.ErrorLog = name == "HTTP/2.0", quiet
		s.StartTLS()
		r.t.Cleanup(s.Close)
		p.client, p.url = s.Client(), s.URL
		p.client.Transport.(*http.Transport).DisableCompression = true
		all = append(all, p)
	}
	return all
}

// send sends a request of a user with the plan units; fields are "Name: value".
func (p protocol) send(ctx context.Context, t testing.TB, user, method, path string, fields ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(ctx, method, p.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token(user, "units"))
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	res, err := p.client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { res.Body.Close() })
	return res
}

const (
	jsonType  = "application/json"
	eventType = "text/event-stream"
)

// wantSettled checks that a user has been charged these units and holds none.
func (r *testGateway) wantSettled(user string, units int64) {
	r.t.Helper()
	if u := r.usage(user, "units"); u.Used != units || u.InFlight != 0 {
		r.t.Errorf("%s was charged %d and holds %d, want %d and 0", user, u.Used, u.InFlight, units)
	}
}

// eventuallySettled waits until a user holds nothing, and checks what was charged.
func (r *testGateway) eventuallySettled(user string, units int64) {
	r.t.Helper()
	testkit.Eventually(r.t, "all is settled", func() bool { return r.usage(user, "units").InFlight == 0 })
	r.wantSettled(user, units)
}

// A tokensAnswer is a response that reports tokens, or does not, and what it is charged.
type tokensAnswer struct {
	name                 string
	method               string // empty: POST
	status               int    // 0: 200
	contentType, coding  string
	body                 []byte
	chunked              bool
	breaksOff            bool
	atOnce, atEnd, error string // X-Usage-Cost in the header and in the trailer, and what the log says; an empty atEnd: there is no trailer
}

func zipped(text string) []byte {
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.Bytes()
}

func deflated(text string) []byte {
	var b bytes.Buffer
	w := zlib.NewWriter(&b)
	io.WriteString(w, text)
	w.Close()
	return b.Bytes()
}

const chatEvents = "data: {\"usage\":null}\n\ndata: {\"usage\":{\"total_tokens\":4200}}\n\ndata: [DONE]\n\n"

var tokensAnswers = []tokensAnswer{
	{name: "JSON", contentType: jsonType, body: []byte(`{"usage":{"total_tokens":4200}}`), atOnce: "1", atEnd: "5"},
	{name: "JSON, chunked", contentType: jsonType + "; charset=utf-8", body: []byte(`{"usage":{"total_tokens":4200}}`), chunked: true, atOnce: "1", atEnd: "5"},
	{name: "201", status: 201, contentType: "application/vnd.api+json", body: []byte(`{"usage":{"total_tokens":1}}`), atOnce: "1", atEnd: "1"},
	{name: "206", status: 206, contentType: jsonType, body: []byte(`{"usage":{"total_tokens":2001}}`), atOnce: "1", atEnd: "3"},
	{name: "events", contentType: eventType, body: []byte(chatEvents), chunked: true, atOnce: "1", atEnd: "5"},
	{name: "events with a length", contentType: eventType, body: []byte(chatEvents), atOnce: "1", atEnd: "5"},
	{name: "lines", contentType: "application/x-ndjson", body: []byte("{}\n{\"usage\":{\"total_tokens\":9000}}\n"), chunked: true, atOnce: "1", atEnd: "9"},
	{name: "nothing", contentType: jsonType, body: []byte(`{"usage":{"total_tokens":0}}`), atOnce: "1", atEnd: "1"},
	{name: "all", contentType: jsonType, body: []byte(`{"usage":{"total_tokens":20000}}`), atOnce: "1", atEnd: "20"},
	{name: "more than all", contentType: jsonType, body: []byte(`{"usage":{"total_tokens":1e30}}`), atOnce: "1", atEnd: "20"},
	{name: "no value", contentType: jsonType, body: []byte(`{"usage":{}}`), atOnce: "1", atEnd: "20", error: "the body does not have the value"},
	{name: "no number", contentType: eventType, body: []byte("data: {\"usage\":{\"total_tokens\":\"many\"}}\n\n"), chunked: true, atOnce: "1", atEnd: "20", error: "the value is not a whole number, 0 or more"},
	{name: "no JSON", contentType: jsonType, body: []byte(`{"usage":{"total_tokens":4200}`), atOnce: "1", atEnd: "20", error: "the body is not valid JSON"},
	{name: "gzip", contentType: jsonType, coding: "gzip", body: zipped(`{"usage":{"total_tokens":4200}}`), atOnce: "1", atEnd: "5"},
	{name: "gzip, chunked", contentType: eventType, coding: "GZIP", body: zipped(chatEvents), chunked: true, atOnce: "1", atEnd: "5"},
	{name: "deflate", contentType: jsonType, coding: "deflate", body: deflated(`{"usage":{"total_tokens":4200}}`), atOnce: "1", atEnd: "5"},
	{name: "a bomb", contentType: jsonType, coding: "gzip", body: zipped(strings.Repeat(" ", 2<<20) + `{"usage":{"total_tokens":4200}}`), atOnce: "1", atEnd: "20", error: "decompressing the body: it has more than 1048576 bytes"},
	{name: "another coding", contentType: jsonType, coding: "br", body: []byte("br"), atOnce: "20", error: `the body has the Content-Encoding "br"; only gzip and deflate can be read`},
	{name: "two codings", contentType: jsonType, coding: "gzip, gzip", body: []byte("gz"), atOnce: "20", error: `the body has the Content-Encoding "gzip, gzip"; only gzip and deflate can be read`},
	{name: "another type", contentType: "text/html", body: []byte(`{"usage":{"total_tokens":4200}}`), atOnce: "20", error: `the body is neither JSON nor a stream of events: its Content-Type is "text/html"`},
	{name: "no body", contentType: jsonType, atOnce: "20", error: "the response has no body"},
	{name: "no body, chunked", contentType: jsonType, chunked: true, atOnce: "1", atEnd: "20", error: "the body does not have the value"},
	{name: "204", status: 204, contentType: jsonType, atOnce: "20", error: "the response has no body"},
	{name: "HEAD", method: "HEAD", contentType: jsonType, body: []byte(`{"usage":{"total_tokens":4200}}`), atOnce: "20", error: "the response has no body"},
	{name: "304", status: 304, contentType: jsonType, atOnce: "0"},
	{name: "500", status: 500, contentType: jsonType, body: []byte(`{"usage":{"total_tokens":4200}}`), atOnce: "0"},
	{name: "a body that breaks off", contentType: jsonType, body: []byte(`{"usage":{"total_tokens":4200}}`), breaksOff: true, atOnce: "1", error: "the body broke off"},
	{name: "events that break off", contentType: eventType, body: []byte(chatEvents), chunked: true, breaksOff: true, atOnce: "1", error: "the body broke off"},
}

func (a *tokensAnswer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h["Content-Type"] = []string{a.contentType}
	h["X-Usage-Cost"] = []string{"77"}
	if a.coding != "" {
		h["Content-Encoding"] = []string{a.coding}
	}
	if a.chunked {
		w.WriteHeader(http.StatusEarlyHints)
	}
	length := len(a.body)
	if a.breaksOff {
		length++
	}
	if !a.chunked && a.status != 204 && a.status != 304 {
		h["Content-Length"] = []string{strconv.Itoa(length)}
	}
	if a.chunked {
		h["Trailer"] = []string{"X-Usage-Cost", "X-Sum"}
		h["X-Sum"] = nil
	}
	w.WriteHeader(max(200, a.status))
	if a.chunked {
		w.(http.Flusher).Flush()
	}
	w.Write(a.body)
	if a.breaksOff {
		w.(http.Flusher).Flush()
		panic(http.ErrAbortHandler)
	}
	if a.chunked {
		h["X-Usage-Cost"] = []string{"77"}
		h["X-Sum"] = []string{"42"}
	}
}

// TestCostIsWhatTheBodySays lets upstreams of HTTP/1.1 and HTTP/2 answer in every way, to clients of
// HTTP/1.1 and HTTP/2 that take trailers and that do not. Once a client has the whole response,
// GET /usage says what it cost.
func TestCostIsWhatTheBodySays(t *testing.T) {
	answer := func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Path[len("/tokens/"):])
		if got := r.Header["Accept-Encoding"]; len(got) != 1 || got[0] != "identity" {
			t.Errorf("the upstream is asked for the encodings %q", got)
		}
		tokensAnswers[n].ServeHTTP(w, r)
	}
	t.Run("from HTTP/1.1", func(t *testing.T) { testAnswers(t, setup{maxBody: 1 << 20, upstream: answer}) })
	t.Run("from HTTP/2", func(t *testing.T) {
		testAnswers(t, setup{maxBody: 1 << 20, change: func(o *proxy.Options) {
			up := http2Upstream(t, answer)
			for i := range o.Routes {
				o.Routes[i].Upstream = up
			}
		}})
	})
}

// http2Upstream is a target that speaks HTTP/2, behind one that nobody listens for.
func http2Upstream(t *testing.T, h http.HandlerFunc) *upstream.Pool {
	target := httptest.NewUnstartedServer(h)
	target.EnableHTTP2, target.Config.ErrorLog = true, quiet
	target.StartTLS()
	t.Cleanup(target.Close)
	address, _ := url.Parse(target.URL)
	dead := &url.URL{Scheme: "https", Host: testkit.FreeAddress(t)}
	up, err := upstream.New(upstream.Options{Targets: []upstream.Target{{URL: dead}, {URL: address}}, TLS: &tls.Config{InsecureSkipVerify: true}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(up.Retire)
	return up
}

func testAnswers(t *testing.T, s setup) {
	g := withTokens(t, s)
	for _, p := range g.protocols() {
		for _, te := range []string{"", "TE: trailers"} {
			for n, a := range tokensAnswers {
				t.Run(fmt.Sprint(a.name, " ", p.name, " ", te), func(t *testing.T) {
					method, user, fields := a.method, fmt.Sprint("user-", n, p.name, te != ""), []string{"Accept-Encoding: gzip, br"}
					if te != "" {
						fields = append(fields, te)
					}
					if method == "" {
						method = http.MethodPost
					}
					a.check(t, p.send(t.Context(), t, user, method, fmt.Sprint("/tokens/", n), fields...), te != "")
					charged := a.atEnd
					if charged == "" && a.breaksOff {
						charged = "20"
					} else if charged == "" {
						charged = a.atOnce
					}
					if u := g.usage(user, "units"); fmt.Sprint(u.Used) != charged || u.InFlight != 0 {
						t.Errorf("charged %d, held %d, want %s and 0", u.Used, u.InFlight, charged)
					}
				})
			}
		}
	}
}

// check compares a response that a client gets with what the upstream has sent.
func (a *tokensAnswer) check(t *testing.T, res *http.Response, trailers bool) {
	t.Helper()
	if got := res.Header["X-Usage-Cost"]; len(got) != 1 || got[0] != a.atOnce {
		t.Errorf("X-Usage-Cost is %q, want %s", got, a.atOnce)
	}
	body, err := io.ReadAll(res.Body)
	if want := a.body; a.method != "HEAD" && !bytes.Equal(body, want) || (err != nil) != a.breaksOff {
		t.Errorf("the client gets %d bytes, error %v; the upstream has sent %d", len(body), err, len(want))
	}
	if got := res.Header["Content-Encoding"]; a.coding != "" && (len(got) != 1 || got[0] != a.coding) {
		t.Errorf("Content-Encoding is %q, want %q", got, a.coding)
	}
	hasLength := !a.chunked && a.status != 204 && a.status != 304 && (!trailers || a.atEnd == "" && !a.breaksOff || res.ProtoMajor == 2)
	if got := res.ContentLength >= 0 && !a.chunked && a.status != 204 && a.status != 304; got != hasLength {
		t.Errorf("Content-Length is %d, want one: %v", res.ContentLength, hasLength)
	}
	trailer := res.Trailer["X-Usage-Cost"]
	switch {
	case a.breaksOff:
	case !trailers && trailer != nil, trailers && a.atEnd == "" && trailer != nil,
		trailers && a.atEnd != "" && (len(trailer) != 1 || trailer[0] != a.atEnd):
		t.Errorf("the trailer X-Usage-Cost is %q, want %q", trailer, a.atEnd)
	}
	if got := res.Trailer["X-Sum"]; a.chunked && !a.breaksOff && (len(got) != 1 || got[0] != "42") {
		t.Errorf("the trailer X-Sum is %q", got)
	}
}

// TestUnknownCostsAreLoggedAndCounted has each reason why a body does not tell the cost.
func TestUnknownCostsAreLoggedAndCounted(t *testing.T) {
	for _, a := range tokensAnswers {
		var log lockedBuffer
		registry := prometheus.NewRegistry()
		g := withTokens(t, setup{maxBody: 1 << 20, upstream: a.ServeHTTP, change: func(o *proxy.Options) {
			o.Log, o.Metrics = slog.New(slog.NewTextHandler(&log, nil)), proxy.NewMetrics(registry)
		}})
		method := a.method
		if method == "" {
			method = http.MethodPost
		}
		g.try(token("u", "units"), method, "/tokens/x", nil) // the body may break off
		testkit.Eventually(t, "all is settled", func() bool { return g.usage("u", "units").InFlight == 0 })
		used := g.usage("u", "units").Used
		g.gateway.Close() // the line of the request has been written
		missing, line := 0.0, ""
		for l := range strings.Lines(log.String()) {
			if strings.Contains(l, "a response does not say what it cost") {
				line = l
			}
		}
		if a.error != "" {
			missing = 1
			if !strings.Contains(line, "endpoint=report json=usage.total_tokens charged=20 error=") || !strings.Contains(strings.ReplaceAll(line, `\"`, `"`), a.error) {
				t.Errorf("%s: the log says %q, want %s", a.name, line, a.error)
			}
		} else if line != "" {
			t.Errorf("%s: the log says %q", a.name, line)
		}
		values := series(t, registry)
		if got := values[`metergate_cost_missing_total{endpoint="report"}`]; got != missing {
			t.Errorf("%s: %v costs are missing, want %v", a.name, got, missing)
		}
		over := 0.0
		if a.name == "more than all" {
			over = 1
		}
		if got := values[`metergate_cost_over_max_total{endpoint="report"}`]; got != over {
			t.Errorf("%s: %v costs are over the maximum, want %v", a.name, got, over)
		}
		if values[`metergate_units_total{endpoint="report"}`] != float64(used) || !strings.Contains(log.String(), fmt.Sprint(" cost=", used, " ")) {
			t.Errorf("%s: %d units are used, the metrics say %v, and the log\n%s", a.name, used, values[`metergate_units_total{endpoint="report"}`], &log)
		}
	}
}

// TestObservedStreamsAreChargedWhatTheyCost: a request that a limit would refuse passes, is charged
// what it cost, and says so.
func TestObservedStreamsAreChargedWhatTheyCost(t *testing.T) {
	a := tokensAnswer{contentType: eventType, body: []byte(chatEvents), chunked: true}
	g := withCosts(t, setup{upstream: a.ServeHTTP, routes: []proxy.Route{{Pattern: "/tokens/{rest...}", Endpoint: "report", Cost: tokenCost(t), Observe: true}}},
		quota.Limit{Amount: 7, Period: quota.Month, Quantity: quota.Units})
	for n := range 3 {
		r := g.do(token("u", "units"), http.MethodPost, "/tokens/x", nil, "TE: trailers")
		if r.StatusCode != 200 || r.Header.Get("X-Usage-Would-Block") != `"month-units"` || r.Trailer.Get("X-Usage-Cost") != "5" {
			t.Errorf("%s, %v, trailers %v", r.Status, r.Header, r.Trailer)
		}
		g.wantSettled("u", int64(5*(n+1)))
	}
}

// TestTheLeastIsTheMost: where min and max are the same, the body is not read.
func TestTheLeastIsTheMost(t *testing.T) {
	a := tokensAnswer{contentType: eventType, body: []byte(chatEvents), chunked: true}
	cost := tokenCost(t)
	cost.Min = cost.Max
	g := withCosts(t, setup{upstream: a.ServeHTTP, routes: []proxy.Route{{Pattern: "/tokens/{rest...}", Endpoint: "report", Cost: cost}}})
	r := g.do(token("u", "units"), http.MethodPost, "/tokens/x", nil, "TE: trailers")
	if r.StatusCode != 200 || r.Header.Get("X-Usage-Cost") != "20" || r.Trailer["X-Usage-Cost"] != nil || r.body != chatEvents {
		t.Errorf("%s, %v, trailers %v, %q", r.Status, r.Header, r.Trailer, r.body)
	}
	g.wantSettled("u", 20)
}
