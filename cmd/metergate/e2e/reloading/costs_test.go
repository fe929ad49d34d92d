package reloading

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"syscall"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// costsYAML is a configuration with the verbs for the URLs of Redis and of the upstream, the plan
// sold, the cost of a request, and a number by which a test sees which configuration is in force.
const costsYAML = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0 }
store: { url: "%s", timeout: 20s }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256] } }
default_plan: sold
plans:
  sold: { %s }
  marker: { limits: [{ requests: %d, per: month }] }
upstreams:
  analysis: { targets: [{ url: "%s" }], timeout: 60s }
routes:
  - { match: "POST /api/analyze", endpoint: analyze, upstream: analysis, cost: %s }
log: { level: info }
`

// A costsTest is a gateway whose costs change while requests are at its upstream.
type costsTest struct {
	*testing.T
	redisURL, upstream string
	gateway            *gatewaytest.Reloadable
	arrived            chan struct{}
	letGo              map[string]chan struct{} // by the name of a held request
	n                  int                      // the configurations so far
}

// A charged is how a request ended.
type charged struct {
	status         int
	cost, reported string // X-Usage-Cost, and the upstream's X-Cost
	body           string
}

func newCostsTest(t *testing.T, redisURL string) *costsTest {
	c := &costsTest{T: t, redisURL: redisURL, arrived: make(chan struct{}), letGo: map[string]chan struct{}{}}
	for _, name := range []string{"a", "b", "c", "d"} {
		c.letGo[name] = make(chan struct{})
	}
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if hold := c.letGo[q.Get("hold")]; hold != nil {
			select {
			case c.arrived <- struct{}{}:
			case <-r.Context().Done():
			}
			select {
			case <-hold:
			case <-r.Context().Done():
			}
		}
		w.Header().Set("X-Cost", q.Get("cost"))
	}))
	t.Cleanup(func() { upstream.CloseClientConnections(); upstream.Close() })
	c.upstream = upstream.URL
	return c
}

// configure starts the gateway, or has it reload, and returns when the configuration is in force.
func (c *costsTest) configure(plan, cost string) {
	c.Helper()
	c.n++
	text := fmt.Sprintf(costsYAML, c.redisURL, plan, c.n, c.upstream, cost)
	if c.gateway == nil {
		c.gateway = gatewaytest.StartWith(c.T, text)
		return
	}
	c.gateway.Save(text)
	c.gateway.Signal(syscall.SIGHUP)
	testkit.Eventually(c.T, "the gateway has reloaded", func() bool {
		return *gatewaytest.Usage(c.T, c.gateway.Process, testkit.Token("m", "marker")).Limit == int64(c.n)
	})
}

// call makes a request of which the upstream reports a cost.
func (c *costsTest) call(query string) charged {
	req, _ := http.NewRequest("POST", c.gateway.URL+"/api/analyze?"+query, strings.NewReader("{}"))
	req.Header.Set("Authorization", "Bearer "+testkit.Token("u", "sold"))
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		c.Errorf("%s: %v", query, err)
		return charged{}
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return charged{res.StatusCode, res.Header.Get("X-Usage-Cost"), res.Header.Get("X-Cost"), string(body)}
}

// hold begins a request that stays at the upstream until end is called.
func (c *costsTest) hold(name, cost string) (end func() charged) {
	c.Helper()
	result := make(chan charged, 1)
	go func() { result <- c.call("hold=" + name + "&cost=" + cost) }()
	select {
	case <-c.arrived:
	case got := <-result:
		c.Fatalf("request %s did not reach the upstream: %+v", name, got)
	}
	return func() charged {
		close(c.letGo[name])
		return testkit.Receive(c.T, "the end of request "+name, result)
	}
}

// wantUsage compares the units that are used. held and limit are in the unit of the headline limit; a
// limit of -1 stands for no limit.
func (c *costsTest) wantUsage(used, held, limit int64) {
	c.Helper()
	u := gatewaytest.Usage(c.T, c.gateway.Process, testkit.Token("u", "sold"))
	if got := *u.Endpoints["analyze"].Units; got != used || u.InFlight != held {
		c.Errorf("%d units are used, %d held; want %d and %d", got, u.InFlight, used, held)
	}
	if limit >= 0 && (u.Limit == nil || *u.Limit != limit) || limit < 0 && u.Limit != nil {
		c.Errorf("the limit is %v, want %d", u.Limit, limit)
	}
}

func (c *costsTest) wantCharged(what string, got charged, status int, cost string) {
	c.Helper()
	if got.status != status || got.cost != cost {
		c.Errorf("%s: status %d, charged %s; want %d and %s: %s", what, got.status, got.cost, status, cost, got.body)
	}
}

// A cost and a limit change with the next request. What is held was held at the old cost, and is
// settled at it.
func TestCostsChangeWithNextRequest(t *testing.T) {
	c := newCostsTest(t, redistest.Start(t).URL())
	const hundred, thirty = "limits: [{ units: 100, per: month }]", "limits: [{ units: 30, per: month }]"
	const reported = "{ max: 20, from: header X-Cost }"
	c.configure(hundred, "5")
	endA := c.hold("a", "9")
	c.wantUsage(0, 5, 100)
	c.configure(hundred, reported)
	c.wantUsage(0, 5, 100)
	if b := c.call("cost=7"); b.reported != "" {
		t.Errorf("the client got X-Cost: %s", b.reported)
	} else {
		c.wantCharged("a request at the new cost", b, 200, "7")
	}
	c.wantCharged("the request that was held at the old cost", endA(), 200, "5")
	c.wantUsage(12, 0, 100)

	endB := c.hold("b", "3")
	c.wantUsage(12, 20, 100)
	c.configure(thirty, "2")
	c.wantUsage(12, 20, 30)
	c.wantCharged("2 units while 20 of 18 are held", c.call(""), 429, "0")
	c.wantCharged("the request whose cost the upstream reports", endB(), 200, "3")
	c.wantCharged("a request at the new cost", c.call("cost=9"), 200, "2")
	c.wantUsage(17, 0, 30)
	c.configure("limits: []", "13")
	c.wantCharged("a request without a limit", c.call(""), 200, "13")
	c.configure(thirty, "1")
	c.wantCharged("a request at the limit", c.call(""), 429, "0")
	c.wantUsage(30, 0, 30)
}

// How many requests may run at once changes with the next request. A place that was taken is given
// back, whatever the configuration is by then; a request without one takes none.
func TestConcurrencyChangesWithNextRequest(t *testing.T) {
	c := newCostsTest(t, redistest.Start(t).URL())
	wantCrowded := func(what string) {
		t.Helper()
		got := c.call("")
		if c.wantCharged(what, got, 429, "0"); !strings.Contains(got.body, `"reason":"concurrency"`) {
			t.Errorf("%s: %s", what, got.body)
		}
	}
	c.configure("limits: []", "5")
	endA := c.hold("a", "") // without a place
	c.configure("concurrent: 1", "5")
	endB := c.hold("b", "")
	wantCrowded("the second of one")
	c.configure("concurrent: 2", "5")
	endC := c.hold("c", "")
	wantCrowded("the third of two")
	c.configure("limits: []", "5")
	endD := c.hold("d", "")
	c.wantUsage(0, 4, -1) // in requests, without a limit on units
	for _, end := range []func() charged{endA, endB, endC, endD} {
		c.wantCharged("a request that was held", end(), 200, "5")
	}
	c.configure("concurrent: 1", "5")
	testkit.Eventually(t, "all places are free", func() bool { return c.call("").status == 200 })
	c.wantUsage(25, 0, -1)
}
