package counting

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// turnYAML has a plan whose months begin on the day in the token and of which up to 20 of 50 requests
// move to the next month.
const turnYAML = `
listen: 127.0.0.1:0
admin: { listen: 127.0.0.1:0, token: "` + gatewaytest.AdminToken + `" }
store: { url: "${STORE}", timeout: "${TIMEOUT}", on_failure: allow, journal: "${JOURNAL}" }
auth: { jwt: { secret: "` + testkit.Secret + `", algorithms: [HS256], claims: { anchor: app.since } } }
default_plan: own
plans:
  own: { anchor: claim, limits: [{ requests: 50, per: month, carry: 20 }] }
upstreams: { analysis: { targets: [{ url: "${UPSTREAM}" }], timeout: 2s } }
routes: [{ match: "POST /api/analyze", endpoint: analyze, upstream: analysis }]
log: { level: info }
`

func startAtTurn(t *testing.T, store, timeout, upstream string) *gatewaytest.Process {
	t.Helper()
	file := t.TempDir() + "/gateway.yaml"
	testkit.WriteFile(t, file, turnYAML)
	return gatewaytest.StartFile(t, []string{"STORE=" + store, "TIMEOUT=" + timeout, "UPSTREAM=" + upstream, "JOURNAL=" + t.TempDir()}, file).Process
}

// A monthBefore is where the tests count requests in the month before the running one.
type monthBefore struct {
	plan     string           // its name: 50 requests a month, of which up to 20 move to the next
	mode     quota.AnchorMode // of the plan
	day      int              // on which months begin
	calendar *quota.Calendar
}

// use counts 10 requests of each user, in a store that open opens with a clock.
func (m monthBefore) use(t *testing.T, users []string, open func(now func() time.Time) (store quota.Store, end func())) {
	t.Helper()
	plan, err := quota.NewPlan(quota.PlanOptions{Name: m.plan, Limits: []quota.Limit{{Amount: 50, Period: quota.Month, Carry: 20}}, Endpoints: []string{"analyze"}, WarnAt: 80, Anchor: m.mode})
	if err != nil {
		t.Fatal(err)
	}
	anchor := quota.NewAnchor(m.day, 0)
	plans := quota.PlanChoice{Claimed: plan, ByName: map[string]*quota.Plan{m.plan: plan}, Terms: true, Anchor: &anchor}
	start, _ := monthFrom(m.day, time.Now().In(m.calendar.Location()))
	back := time.Since(start.AddDate(0, 0, -3))
	store, end := open(func() time.Time { return time.Now().Add(-back) })
	defer end()
	for _, user := range users {
		for range 10 {
			d, err := store.Reserve(context.Background(), quota.Request{ID: quota.NewID(), User: user, Endpoint: "analyze", Plans: plans, Lease: time.Minute})
			if err == nil && d.Admitted {
				_, err = store.Commit(context.Background(), &d.Reservation)
			}
			if err != nil || !d.Admitted {
				t.Fatalf("in the month before: admitted %v, error %v", d.Admitted, err)
			}
		}
	}
}

// useInRedis is use for a Redis.
func (m monthBefore) useInRedis(t *testing.T, url string, users []string) {
	t.Helper()
	m.use(t, users, func(now func() time.Time) (quota.Store, func()) {
		s, err := redisstore.Open(redisstore.Options{URL: url, Timeout: 20 * time.Second, Calendar: m.calendar, Now: now, Offset: func() time.Duration { return time.Until(now()) }})
		if err != nil {
			t.Fatal(err)
		}
		return s, func() { s.Close() }
	})
}

// A gateway is killed while many users begin a month of their own at once: after the first request that
// it has forwarded, and in the midst of them. Nobody gets more than what their month allows, with what
// was carried once, and in the end everybody gets all of it.
func TestTurnSurvivesKilledGateways(t *testing.T) {
	day := farFrom(time.Now().UTC())
	before := monthBefore{"own", quota.ClaimAnchor, day, quota.NewCalendar(nil)}
	for _, name := range []string{"redis", "embedded"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := &turnRun{T: t, day: day, client: gatewaytest.NewClient(t), sent: map[string]int64{}}
			upstream := httptest.NewServer(http.HandlerFunc(r.serve))
			defer upstream.Close()
			points := map[string]int64{"first": 1, "midst": 60}
			var users []string
			for point := range points {
				for i := range 8 {
					users = append(users, fmt.Sprint(point, "-", i))
				}
			}
			store := "embedded:" + t.TempDir()
			if name == "redis" {
				redis := redistest.Start(t)
				store = redis.URL()
				before.useInRedis(t, store, users)
				r.others = append(r.others, startAtTurn(t, store, "20s", upstream.URL))
			} else {
				before.use(t, users, func(now func() time.Time) (quota.Store, func()) {
					s, err := boltstore.Open(store[len("embedded:"):], boltstore.Options{Calendar: before.calendar, Now: now})
					if err != nil {
						t.Fatal(err)
					}
					return s, func() { s.Close() }
				})
			}
			r.dies = startAtTurn(t, store, "20s", upstream.URL)
			told := map[string]int64{}
			for point, n := range points {
				r.killAfter(n)
				for user, passed := range r.callAll(point, 100) {
					told[user] = passed
				}
				testkit.Eventually(t, "the gateway is killed", func() bool { return r.killed.Load() })
				r.dies = r.dies.Restart()
			}
			for _, user := range users {
				token := anchoredToken(user, "own", day)
				testkit.EventuallyWithin(t, time.Minute, "the leases have run out", func() bool { return gatewaytest.Usage(t, r.dies, token).InFlight == 0 })
				u := gatewaytest.Usage(t, r.dies, token)
				if u.Period.Start.Day() != day || *u.Limit != 70 || *u.Carried != 20 || u.Used < told[user] || u.Used > r.sentFor(user) {
					t.Errorf("%s: %d of %d used, %d carried, since %v; %d passed, %d were sent", user, u.Used, *u.Limit, *u.Carried, u.Period.Start, told[user], r.sentFor(user))
				}
				told[user] = u.Used // of which the client was not told
			}
			for point := range points {
				for user, passed := range r.callAll(point, 100) {
					if told[user]+passed != 70 {
						t.Errorf("%s: %d were counted before, and %d passed after; want 70 together", user, told[user], passed)
					}
				}
			}
		})
	}
}

// A turnRun is a gateway that is killed when its upstream has seen so many requests.
type turnRun struct {
	*testing.T
	day    int
	client *http.Client
	dies   *gatewaytest.Process
	others []*gatewaytest.Process

	left   atomic.Int64 // requests until the kill; 0 and less: none
	killed atomic.Bool
	mu     sync.Mutex
	sent   map[string]int64 // by user
}

func (r *turnRun) serve(_ http.ResponseWriter, req *http.Request) {
	r.mu.Lock()
	r.sent[req.URL.RawQuery]++
	r.mu.Unlock()
	if r.left.Add(-1) == 0 {
		r.dies.Kill()
		r.killed.Store(true)
	}
}

func (r *turnRun) killAfter(n int64) { r.killed.Store(false); r.left.Store(n) }

func (r *turnRun) sentFor(user string) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent[user]
}

// callAll has each of the eight users whose names begin with point make n calls at once, one half on
// each gateway if there are two. It returns how many calls passed, by user.
func (r *turnRun) callAll(point string, n int) map[string]int64 {
	gateways := append([]*gatewaytest.Process{r.dies}, r.others...)
	var passed [8]atomic.Int64
	var wait sync.WaitGroup
	for i := range 8 * n {
		wait.Go(func() {
			user := fmt.Sprint(point, "-", i%8)
			status := gatewaytest.Post(r.client, gateways[i/8%len(gateways)].URL+"/api/analyze?"+user, anchoredToken(user, "own", r.day))
			if status == 200 {
				passed[i%8].Add(1)
			}
		})
	}
	wait.Wait()
	counts := map[string]int64{}
	for i := range passed {
		counts[fmt.Sprint(point, "-", i)] = passed[i].Load()
	}
	return counts
}

// Redis dies after the last request of a user's month, and the next month begins in the outage. The
// gateway counts it in its journal, in the right month, and is killed. The next gateway on the journal
// counts everything once, and then exactly the rest is admitted, with what was carried.
func TestTurnInOutage(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer upstream.Close()
	redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	day := farFrom(time.Now().UTC())
	monthBefore{"own", quota.ClaimAnchor, day, quota.NewCalendar(nil)}.useInRedis(t, redis.URL(), []string{"u"})
	dies := startAtTurn(t, redis.URL(), "250ms", upstream.URL)
	other := startAtTurn(t, redis.URL(), "20s", upstream.URL)
	client, token := gatewaytest.NewClient(t), anchoredToken("u", "own", day)
	redis.Kill()
	for range 5 {
		if status := gatewaytest.Post(client, dies.URL+"/api/analyze", token); status != 200 {
			t.Fatalf("in the outage: status %d", status)
		}
	}
	if u := gatewaytest.Usage(t, dies, token); !u.Stale || u.Used != 5 || u.Period.Start.Day() != day {
		t.Errorf("in the outage: %+v", u)
	}
	dies.Kill()
	redis.Start()
	dies = dies.Restart()
	testkit.EventuallyWithin(t, time.Minute, "everything is counted", func() bool {
		u := gatewaytest.Usage(t, other, token)
		return !u.Stale && u.InFlight == 0 && u.Used == 5
	})
	if u := gatewaytest.Usage(t, other, token); u.Period.Start.Day() != day || *u.Limit != 70 || *u.Carried != 20 {
		t.Errorf("afterwards: %+v", u)
	}
	var passed atomic.Int64
	var wait sync.WaitGroup
	for range 400 {
		wait.Go(func() {
			if gatewaytest.Post(client, other.URL+"/api/analyze", token) == 200 {
				passed.Add(1)
			}
		})
	}
	wait.Wait()
	if passed.Load() != 65 {
		t.Errorf("afterwards %d passed, want 65", passed.Load())
	}
	if u := gatewaytest.Usage(t, other, token); u.Used != 70 {
		t.Errorf("in the end: %+v", u)
	}
}
