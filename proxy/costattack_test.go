package proxy_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"net/textproto"
	"strings"
	"sync"
	"testing"

	"metergate/proxy"
	"metergate/quota"
	"metergate/quota/testkit"
)

// costAttacks are ways in which a request could be charged less than it costs. The route charges
// 2 to 20 units as X-Report-Cost says, and min for a response that does not: the attacker's choice.
var costAttacks = []struct {
	name, method string
	fields       []string // of the request
	answer       string   // of the upstream, byte for byte; then it closes the connection
	want         string   // X-Usage-Cost
}{
	{"told", "GET", nil, "HTTP/1.1 200 OK\r\nX-Report-Cost: 9\r\n\r\nok", "9"},
	{"not told", "GET", nil, "HTTP/1.1 200 OK\r\n\r\nok", "2"},
	{"HEAD", "HEAD", nil, "HTTP/1.1 200 OK\r\nX-Report-Cost: 9\r\nContent-Length: 5\r\n\r\n", "9"},
	{"a range", "GET", []string{"Range: bytes=0-0"}, "HTTP/1.1 206 Partial Content\r\nX-Report-Cost: 9\r\nContent-Range: bytes 0-0/9\r\nContent-Length: 1\r\n\r\no", "9"},
	{"no content", "GET", nil, "HTTP/1.1 204 No Content\r\nX-Report-Cost: 9\r\n\r\n", "9"},
	{"not modified", "GET", []string{`If-None-Match: "a"`}, "HTTP/1.1 304 Not Modified\r\nX-Report-Cost: 9\r\n\r\n", "0"},
	{"less in a 1xx response", "GET", nil, "HTTP/1.1 103 Early Hints\r\nX-Report-Cost: 3\r\n\r\nHTTP/1.1 200 OK\r\nX-Report-Cost: 9\r\n\r\nok", "9"},
	{"only in a 1xx response", "GET", nil, "HTTP/1.1 103 Early Hints\r\nX-Report-Cost: 3\r\n\r\nHTTP/1.1 200 OK\r\n\r\nok", "2"},
	{"less in a trailer", "GET", []string{"TE: trailers"}, "HTTP/1.1 200 OK\r\nX-Report-Cost: 9\r\nTrailer: X-Report-Cost\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Report-Cost: 3\r\n\r\n", "9"},
	{"less in a trailer that is not announced", "GET", []string{"TE: trailers"}, "HTTP/1.1 200 OK\r\nX-Report-Cost: 9\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\nX-Report-Cost: 3\r\n\r\n", "9"},
	{"nominated by the upstream", "GET", nil, "HTTP/1.1 200 OK\r\nConnection: X-Report-Cost\r\nX-Report-Cost: 9\r\n\r\nok", "9"},
	{"nominated by the upstream with close", "GET", nil, "HTTP/1.1 200 OK\r\nConnection: close, x-report-cost\r\nX-Report-Cost: 9\r\n\r\nok", "9"},
	{"nominated by the client", "GET", []string{"Connection: X-Report-Cost", "X-Report-Cost: 3"}, "HTTP/1.1 200 OK\r\nX-Report-Cost: 9\r\n\r\nok", "9"},
	{"the gateway's own header", "GET", nil, "HTTP/1.1 200 OK\r\nX-Usage-Cost: 0\r\nX-Report-Cost: 9\r\n\r\nok", "9"},
	{"a name like it", "GET", nil, "HTTP/1.1 200 OK\r\nX_Report_Cost: 3\r\nX-Report-Costs: 3\r\nx-report-cost: 9\r\n\r\nok", "9"},
	{"a blank after the name", "GET", nil, "HTTP/1.1 200 OK\r\nX-Report-Cost : 3\r\nX-Report-Cost: 9\r\n\r\nok", "2"},
	{"a blank before the name", "GET", nil, "HTTP/1.1 200 OK\r\nX-Report-Cost: 9\r\n X-Report-Cost: 3\r\n\r\nok", "2"},
	{"HTTP/1.0", "GET", nil, "HTTP/1.0 200 OK\r\nX-Report-Cost: 9\r\n\r\nok", "9"},
	{"blanks around it", "GET", nil, "HTTP/1.1 200 OK\r\nX-Report-Cost: \t 9 \r\n\r\nok", "9"},
	{"a body that breaks off", "GET", nil, "HTTP/1.1 200 OK\r\nX-Report-Cost: 9\r\nContent-Length: 100\r\n\r\nok", "9"},
	{"a redirect", "GET", nil, "HTTP/1.1 302 Found\r\nX-Report-Cost: 9\r\nLocation: /\r\n\r\n", "0"},
	{"an error", "GET", nil, "HTTP/1.1 500 Internal Server Error\r\nX-Report-Cost: 9\r\n\r\n", "0"},
	{"a malformed response", "GET", nil, "HTTP/1.1 200 OK\r\nX-Report-Cost: 9\r\nno colon\r\n\r\nok", "0"},
}

// TestCostAttacks sends all of them with HTTP/1.1 and HTTP/2. The client never sees the upstream's
// header, and what it is told is what it was charged.
func TestCostAttacks(t *testing.T) {
	g := withCosts(t, setup{
		routes: []proxy.Route{{Pattern: "GET /cost/{n}", Endpoint: "report",
			Cost: proxy.Cost{Cost: quota.Cost{Min: 2, Max: 20}, Header: "X-Report-Cost", MissingMin: true}}},
		upstream: rawAnswer(t, func(r *http.Request) string {
			var n int
			fmt.Sscanf(r.URL.Path, "/cost/%d", &n)
			return costAttacks[n].answer
		}),
	})
	h2, h2URL := g.http2Client()
	for protocol, via := range map[string]struct {
		client *http.Client
		url    string
	}{"HTTP/1.1": {&http.Client{Transport: &http.Transport{DisableCompression: true}}, g.gateway.URL}, "HTTP/2.0": {h2, h2URL}} {
		via.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		for n, c := range costAttacks {
			user := fmt.Sprint(n, " ", protocol)
			t.Run(c.name+" "+protocol, func(t *testing.T) {
				ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got1xxResponse: func(code int, h textproto.MIMEHeader) error {
					if h["X-Report-Cost"] != nil {
						t.Errorf("the %d has X-Report-Cost", code)
					}
					return nil
				}})
				req, err := http.NewRequestWithContext(ctx, c.method, fmt.Sprint(via.url, "/cost/", n), nil)
				if err != nil {
					t.Fatal(err)
				}
				req.Header.Set("Authorization", "Bearer "+token(user, "units"))
				for _, f := range c.fields {
					name, value, _ := strings.Cut(f, ": ")
					if name != "Connection" || protocol == "HTTP/1.1" { // HTTP/2 has none
						req.Header.Add(name, value)
					}
				}
				res, err := via.client.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				io.Copy(io.Discard, res.Body) // it may break off
				res.Body.Close()
				if got := res.Header["X-Usage-Cost"]; len(got) != 1 || got[0] != c.want || res.Proto != protocol {
					t.Errorf("%s %s, charged %q, want %s", res.Proto, res.Status, got, c.want)
				}
				if res.Header["X-Report-Cost"] != nil || res.Trailer["X-Report-Cost"] != nil {
					t.Errorf("the client sees X-Report-Cost: %v, %v", res.Header, res.Trailer)
				}
				if u := g.usage(user, "units"); fmt.Sprint(u.Used) != c.want || u.InFlight != 0 {
					t.Errorf("used %d, held %d, want %s and 0", u.Used, u.InFlight, c.want)
				}
			})
		}
	}
}

// TestGoneAtTheHeader: a client that leaves while the response's header arrives is charged its
// cost, or nothing.
func TestGoneAtTheHeader(t *testing.T) {
	leaving := make(chan context.CancelFunc, 1)
	g := withCosts(t, setup{upstream: func(w http.ResponseWriter, r *http.Request) {
		leave := <-leaving
		w.Header().Set("X-Report-Cost", "9")
		var both sync.WaitGroup
		both.Go(leave)
		w.WriteHeader(http.StatusOK)
		w.(http.Flusher).Flush()
		both.Wait()
	}}, quota.Limit{Amount: 10_000, Period: quota.Month, Quantity: quota.Units})
	for range 100 {
		ctx, leave := context.WithCancel(t.Context())
		leaving <- leave
		req, _ := http.NewRequestWithContext(ctx, http.MethodPost, g.gateway.URL+"/cost/report", nil)
		req.Header.Set("Authorization", "Bearer "+token("u", "units"))
		if res, err := http.DefaultClient.Do(req); err == nil {
			res.Body.Close()
		}
		<-ctx.Done()
	}
	testkit.Eventually(t, "nothing is held", func() bool { return g.usage("u", "units").InFlight == 0 })
	u := g.usage("u", "units")
	if e := u.Endpoints["report"]; *e.Units != 9*e.Used || u.Used != *e.Units {
		t.Errorf("%d requests are charged %d units, in all %d", e.Used, *e.Units, u.Used)
	}
}
