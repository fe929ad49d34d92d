package reloading

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// termsYAML is a configuration with the verbs for the URLs of the store and of the upstream, the plan
// sold, and a number by which a test sees which configuration is in force.
const termsYAML = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0, token: "` + gatewaytest.AdminToken + `" }
store: { url: "%s", timeout: 20s }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256], claims: { org: org, anchor: since } } }
default_plan: sold
plans:
  sold: { %s }
  marker: { limits: [{ requests: %d, per: month }] }
upstreams:
  analysis: { targets: [{ url: "%s" }], timeout: 60s }
routes:
  - { match: "POST /api/analyze", endpoint: analyze, upstream: analysis }
log: { level: info }
`

// A termsTest is a gateway whose periods and shared limits change while requests are at its upstream.
type termsTest struct {
	*testing.T
	store, upstream string
	gateway         *gatewaytest.Reloadable
	client          *http.Client
	arrived, letGo  chan struct{} // of the request that is held
	n               int           // the configurations so far
}

func newTermsTest(t *testing.T, store string) *termsTest {
	c := &termsTest{T: t, store: store, client: gatewaytest.NewClient(t), arrived: make(chan struct{}), letGo: make(chan struct{})}
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.RawQuery == "hold" {
			c.arrived <- struct{}{}
			<-c.letGo
		}
	}))
	t.Cleanup(upstream.Close)
	c.upstream = upstream.URL
	return c
}

// configure starts the gateway, or has it reload, and returns when the configuration is in force.
func (c *termsTest) configure(plan string) {
	c.Helper()
	c.n++
	text := fmt.Sprintf(termsYAML, c.store, plan, c.n, c.upstream)
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

func (c *termsTest) call(token, query string) int {
	return gatewaytest.Post(c.client, c.gateway.URL+"/api/analyze"+query, token)
}

func (c *termsTest) wantCall(token string, status int) {
	c.Helper()
	if got := c.call(token, ""); got != status {
		c.Errorf("status %d, want %d", got, status)
	}
}

// hold begins a request that stays at the upstream until end is called.
func (c *termsTest) hold(token string) (end func()) {
	c.Helper()
	result := make(chan int, 1)
	go func() { result <- c.call(token, "?hold") }()
	testkit.Receive(c.T, "the request at the upstream", c.arrived)
	return func() {
		c.Helper()
		c.letGo <- struct{}{}
		if status := testkit.Receive(c.T, "the end of the request", result); status != 200 {
			c.Errorf("the request that was held: status %d", status)
		}
	}
}

// wantUsage compares what is used and held in the month that begins on a day.
func (c *termsTest) wantUsage(what, token string, used, held int64, day int) {
	c.Helper()
	u := gatewaytest.Usage(c.T, c.gateway.Process, token)
	if u.Used != used || u.InFlight != held || u.Period.Start.Day() != day {
		c.Errorf("%s: %d used, %d held since %v; want %d and %d since the %d.", what, u.Used, u.InFlight, u.Period.Start, used, held, day)
	}
}

// wantPool compares what the organisation acme has used and holds.
func (c *termsTest) wantPool(what string, used, held int64) {
	c.Helper()
	if u := c.pool(); u.Used != used || u.InFlight != held {
		c.Errorf("%s: the organisation has used %d and holds %d; want %d and %d", what, u.Used, u.InFlight, used, held)
	}
}

// pool is what the members of acme have used together.
func (c *termsTest) pool() (u quota.Usage) {
	c.Helper()
	if err := json.Unmarshal([]byte(gatewaytest.Administer(c.T, c.gateway.Process, "GET", "/admin/orgs/acme", "")), &u); err != nil {
		c.Fatal(err)
	}
	return u
}

// sinceToken is the token of a user whose months begin on a day, 1 to 28.
func sinceToken(org, user string, day int) string {
	claims := jwt.MapClaims{"sub": user, "plan": "sold", "since": day, "exp": time.Now().Add(time.Hour).Unix()}
	if org != "" {
		claims["org"] = org
	}
	return testkit.SignedToken(claims)
}

// farDay is a day, 2 to 28, that neither begins while the test runs nor is the first.
func farDay() int { return (time.Now().UTC().Day()+12)%27 + 2 }

// Shared limits change with the next request of every member. A request that the pool holds is counted
// in it, whatever the plan is by then; one without shared limits is not.
func TestSharedLimitsChangeWithNextRequest(t *testing.T) {
	t.Parallel()
	c := newTermsTest(t, redistest.Start(t).URL())
	ann, ben := testkit.MemberToken("acme", "ann", "sold"), testkit.MemberToken("acme", "ben", "sold")
	const own = "limits: [{ requests: 50, per: month }]"
	c.configure(own + ", shared: [{ requests: 3, per: month }]")
	c.wantCall(ann, 200)
	end := c.hold(ann)
	c.wantPool("at first", 1, 1)
	c.configure(own + ", shared: [{ requests: 2, per: month }]")
	c.wantCall(ben, 429)
	c.configure(own)
	c.wantCall(ben, 200)
	end()
	c.wantUsage("without shared limits", ann, 2, 0, 1)
	c.configure(own + ", shared: [{ requests: 3, per: month, carry: all }]")
	c.wantPool("with a shared limit again", 2, 0)
	c.wantCall(ben, 200)
	c.wantCall(ann, 429)
	c.wantPool("at the end", 3, 0)
	c.wantUsage("ben", ben, 2, 0, 1)
}

// A month that runs goes on to its end, whatever anchor the plan gets. Only a user who is new has the
// anchor at once. Without the key, everybody is in the month of the calendar, and the own months are
// found again with it.
func TestAnchorsChangeWithNextMonth(t *testing.T) {
	t.Parallel()
	c := newTermsTest(t, redistest.Start(t).URL())
	day := farDay()
	known, fresh := sinceToken("", "known", day), sinceToken("", "fresh", day)
	const limits = "limits: [{ requests: 50, per: month, carry: 9 }]"
	c.configure(limits)
	c.wantCall(known, 200)
	end := c.hold(known)
	c.configure("anchor: claim, " + limits)
	c.wantUsage("a month of the calendar", known, 1, 1, 1)
	end()
	c.wantCall(known, 200)
	c.wantUsage("a month of the calendar", known, 3, 0, 1)

	c.wantCall(fresh, 200)
	end = c.hold(fresh)
	c.wantUsage("an own month", fresh, 1, 1, day)
	c.configure("anchor: first_use, limits: [{ requests: 50, per: month }]")
	c.wantUsage("after another anchor", fresh, 1, 1, day)
	c.configure("anchor: calendar, " + limits)
	c.wantCall(fresh, 200)
	end()
	c.wantUsage("after the calendar", fresh, 3, 0, day)
	c.configure("limits: [{ requests: 50, per: month }]")
	c.wantUsage("without terms", fresh, 0, 0, 1)
	c.wantUsage("without terms", known, 3, 0, 1)
	c.configure("anchor: claim, " + limits)
	c.wantUsage("with them again", fresh, 3, 0, day)
	c.wantUsage("with them again", known, 3, 0, 1)
}

// While users and members call without a pause, anchors, carry and shared limits come, change and go.
// No call fails, and each is counted once.
func TestTermsChangeUnderRequests(t *testing.T) {
	for name, store := range map[string]string{"embedded": "embedded:" + t.TempDir(), "redis": redistest.Start(t).URL()} {
		t.Run(name, func(t *testing.T) {
			c := newTermsTest(t, store)
			plans := []string{
				"limits: [{ requests: 900000, per: month, carry: all }]",
				"anchor: claim, limits: [{ requests: 900000, per: month }]",
				"anchor: claim, limits: [{ requests: 900000, per: month, carry: 50 }], shared: [{ requests: 800000, per: month }]",
				"anchor: first_use, limits: [{ requests: 900000, per: month }], shared: [{ requests: 700000, per: month, carry: all }, { requests: 500000, per: year }]",
				"anchor: calendar, limits: [{ requests: 900000, per: month }]",
			}
			c.configure(plans[0])
			var passed [6]atomic.Int64
			tokens := [6]string{}
			for i := range tokens {
				tokens[i] = sinceToken([]string{"", "acme"}[i%2], fmt.Sprint("user-", i), []int{1, farDay()}[i/3])
			}
			var stop atomic.Bool
			var wait sync.WaitGroup
			for i := range 12 {
				wait.Go(func() {
					for i := i % len(tokens); !stop.Load(); {
						switch status := c.call(tokens[i], ""); status {
						case 200:
							passed[i].Add(1)
						default:
							t.Errorf("status %d", status)
							return
						}
					}
				})
			}
			t.Cleanup(func() { stop.Store(true); wait.Wait() })
			for round := range 20 {
				before := passed[round%len(passed)].Load()
				c.configure(plans[(round+1)%len(plans)])
				testkit.Eventually(t, "a call under the new plan", func() bool { return t.Failed() || passed[round%len(passed)].Load() > before+2 })
			}
			stop.Store(true)
			wait.Wait()
			for i, token := range tokens {
				u := gatewaytest.Usage(t, c.gateway.Process, token)
				if want := passed[i].Load(); u.Used != want || u.InFlight != 0 || u.Endpoints["analyze"].Used != want {
					t.Errorf("user %d: %d used, %d held since %v; %d passed", i, u.Used, u.InFlight, u.Period.Start, want)
				}
			}
			// Only what was admitted under a shared limit is in the pool.
			c.configure(plans[2])
			if pool, most := c.pool(), passed[1].Load()+passed[3].Load()+passed[5].Load(); pool.Used == 0 || pool.Used > most || pool.InFlight != 0 {
				t.Errorf("the organisation has used %d and holds %d; %d of its members' calls passed", pool.Used, pool.InFlight, most)
			}
			if strings.Contains(c.gateway.Output(), "panic") {
				t.Error("the gateway has panicked")
			}
		})
	}
}
