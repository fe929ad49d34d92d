package counting

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// killedLease is how long the gateways of the kill tests hold units.
const killedLease = 12 * time.Second

// The test stops a request at each of its steps and kills the gateway there. Only settled
// requests are counted, holds come back when their lease ends, and then the rest of the
// quota is available, to the unit. So it is for requests that may cost 5 units and have a place,
// of which the upstream reports 3.
func TestKillAtEachStep(t *testing.T) {
	t.Run("requests", func(t *testing.T) {
		t.Parallel()
		testKillAtEachStep(t, "/api/analyze", "twenty", 1, 1)
	})
	t.Run("units", func(t *testing.T) {
		t.Parallel()
		testKillAtEachStep(t, "/api/report", "units", 5, 3)
	})
}

// testKillAtEachStep makes requests to a path that hold so many of the 20 that a plan allows, and
// cost so many.
func testKillAtEachStep(t *testing.T, path, plan string, holds, costs int64) {
	redis := redistest.Start(t)
	upstream := newToldUpstream(t)
	other := newSite(t, redis.URL(), upstream.URL).now.Load()
	client := gatewaytest.NewClient(t)
	gatewaytest.Post(client, other.URL+"/api/analyze", testkit.Token("another", "")) // loads the scripts
	r := &killRun{T: t, redis: redis, upstream: upstream, other: other, client: client, path: path, plan: plan}
	points := killPoints(upstream)
	for i, p := range points {
		p.user = fmt.Sprint("user-", i)
		p.counted, p.held = costs*p.counted, holds*p.held
		r.kill(p)
	}
	for _, p := range points {
		r.checkRest(p)
	}
}

// A killPoint is a step of a request at which the gateway is killed.
type killPoint struct {
	name          string
	counted, held int64 // right after the kill; in units, if these are limited
	// arm makes sure that kill is called at this step.
	arm func(kill func(), faultProxy *redistest.FaultProxy)

	user   string
	killed *site
}

func killPoints(upstream *toldUpstream) []*killPoint {
	return []*killPoint{
		{name: "before the reserve", arm: func(kill func(), faultProxy *redistest.FaultProxy) {
			faultProxy.OnCommand(killBefore(kill, redistest.Reserve))
		}},
		{name: "between the reserve and its reply", held: 1, arm: func(kill func(), faultProxy *redistest.FaultProxy) {
			faultProxy.OnReply(killAfter(kill, redistest.Reserve))
		}},
		{name: "when the upstream is connected", held: 1, arm: func(kill func(), _ *redistest.FaultProxy) {
			upstream.connected.Store(&kill)
		}},
		{name: "when the upstream has the request", held: 1, arm: func(kill func(), _ *redistest.FaultProxy) {
			upstream.arrived.Store(&kill)
		}},
		{name: "between the upstream's status and the commit", held: 1, arm: func(kill func(), faultProxy *redistest.FaultProxy) {
			faultProxy.OnCommand(killBefore(kill, redistest.Commit))
		}},
		{name: "between the commit and the client's status line", counted: 1, arm: func(kill func(), faultProxy *redistest.FaultProxy) {
			faultProxy.OnReply(killAfter(kill, redistest.Commit))
		}},
	}
}

// A killRun is what the kill points share.
type killRun struct {
	*testing.T
	redis    *redistest.Server
	upstream *toldUpstream
	other    *gatewaytest.Process // that is not killed
	client   *http.Client

	path, plan string
}

// kill kills a gateway of its own at a step, and checks what is counted and held right
// after that.
func (r *killRun) kill(p *killPoint) {
	faultProxy := redistest.StartFaultProxy(r.T, r.redis.Addr)
	p.killed = newSite(r.T, faultProxy.URL(), r.upstream.URL)
	gateway := p.killed.now.Load()
	sent := r.upstream.sent.Load()
	before := time.Now()
	p.arm(gateway.Kill, faultProxy)
	if status := gatewaytest.Post(r.client, gateway.URL+r.path, testkit.Token(p.user, r.plan)); status != 0 {
		r.Errorf("%s: the client got status %d, want no response", p.name, status)
	}
	after := time.Now()
	faultProxy.Heal()
	r.upstream.connected.Store(nil)
	r.upstream.arrived.Store(nil)
	if u := gatewaytest.Usage(r.T, r.other, testkit.Token(p.user, r.plan)); u.Used != p.counted || u.InFlight != p.held {
		r.Errorf("%s: after the kill %d used, %d held, want %d and %d", p.name, u.Used, u.InFlight, p.counted, p.held)
	}
	if sent := r.upstream.sent.Load() - sent; p.counted > 0 && sent == 0 {
		r.Errorf("%s: %d are counted, the upstream sent nothing", p.name, p.counted)
	}
	for field, value := range hashOf(r.T, r.redis.Addr, p.user) {
		life := map[string]time.Duration{"lease": killedLease, "place": quota.PlaceLease}[strings.Split(field, "/")[0]]
		if life == 0 {
			continue
		}
		expiry, _ := strconv.ParseInt(strings.FieldsFunc(value, func(c rune) bool { return c == ' ' || c == '+' })[0], 10, 64)
		earliest, latest := before.Add(life).UnixMilli(), after.Add(life).UnixMilli()
		if expiry < earliest || expiry > latest {
			r.Errorf("%s: %s ends %d ms after %v from the request, want 0 to %d", p.name, field, expiry-earliest, life, latest-earliest)
		}
	}
}

// checkRest waits until nothing is held, and checks that exactly the rest of the quota is
// available.
func (r *killRun) checkRest(p *killPoint) {
	const limit = 20 // of the plan
	token := testkit.Token(p.user, r.plan)
	again := p.killed.start()
	testkit.EventuallyWithin(r.T, time.Minute, "nothing is held", func() bool { return gatewaytest.Usage(r.T, r.other, token).InFlight == 0 })
	if u := gatewaytest.Usage(r.T, again, token); u.Used != p.counted {
		r.Errorf("%s: %d used when nothing is held, want %d", p.name, u.Used, p.counted)
	}
	if admitted := fill(r.client, token, 2*limit, again, r.other); admitted != limit-p.counted {
		r.Errorf("%s: afterwards %d were admitted, want %d", p.name, admitted, limit-p.counted)
	}
}

// killBefore kills the gateway when it calls a script, before Redis receives the call.
func killBefore(kill func(), script string) func(redistest.Command) redistest.Fate {
	return func(cmd redistest.Command) redistest.Fate {
		if cmd.Script() != script {
			return redistest.Pass
		}
		kill()
		return redistest.Cut
	}
}

// killAfter kills the gateway when a script has run, before the gateway receives the
// reply.
func killAfter(kill func(), script string) func(redistest.Command, string) redistest.Fate {
	return func(cmd redistest.Command, _ string) redistest.Fate {
		if cmd.Script() != script {
			return redistest.Pass
		}
		kill()
		return redistest.Cut
	}
}

// fill sends n requests of a user at once and returns how many of them succeed.
func fill(client *http.Client, token string, n int, gateways ...*gatewaytest.Process) int64 {
	var admitted atomic.Int64
	var wait sync.WaitGroup
	for i := range n {
		wait.Go(func() {
			if gatewaytest.Post(client, gateways[i%len(gateways)].URL+"/api/analyze?status=200", token)/100 == 2 {
				admitted.Add(1)
			}
		})
	}
	wait.Wait()
	return admitted.Load()
}

// countsOf returns what a user's hash has in the window of a month, in requests and in units; empty:
// in all months.
func countsOf(hash map[string]string, month string) (requests, units int64) {
	for field, value := range hash {
		kind, window, _ := strings.Cut(field, "/")
		if window != month && (month != "" || len(window) != len("2026-11")) {
			continue
		}
		n, _ := strconv.ParseInt(value, 10, 64)
		switch kind {
		case "used":
			requests, units = requests+n, units+n
		case "extra":
			units += n
		}
	}
	return requests, units
}

// A toldUpstream answers every request with 200, and calls functions that a test sets.
type toldUpstream struct {
	*httptest.Server
	sent               atomic.Int64
	connected, arrived atomic.Pointer[func()]
}

func newToldUpstream(t *testing.T) *toldUpstream {
	u := &toldUpstream{}
	u.Server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if f := u.arrived.Load(); f != nil {
			(*f)()
		}
		u.sent.Add(1)
		w.Header().Set("X-Cost", "3")
	}))
	u.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if f := u.connected.Load(); f != nil && state == http.StateNew {
			(*f)()
		}
	}
	// Every request gets a connection of its own.
	u.Config.SetKeepAlivesEnabled(false)
	u.Start()
	t.Cleanup(u.Close)
	return u
}

// A gateway is killed again and again under load, whatever it is doing at that moment.
func TestKillUnderLoad(t *testing.T) {
	t.Parallel()
	kills := gatewaytest.Times(10, 100)
	random := gatewaytest.NewRandom(t)
	redis := redistest.Start(t)
	l := gatewaytest.NewWorkload(t,
		&gatewaytest.Account{User: "a", Plan: "unlimited"}, &gatewaytest.Account{User: "b", Plan: "high"},
		&gatewaytest.Account{User: "c", Plan: "low", Limit: 300}, &gatewaytest.Account{User: "d", Plan: "twenty", Limit: 20},
		&gatewaytest.Account{User: "e", Plan: "low", Limit: 300, Fails: true}, &gatewaytest.Account{User: "f", Plan: "credits", Units: 300},
		&gatewaytest.Account{User: "g", Plan: "few", Crowded: true})
	l.Paths = append(l.Paths, gatewaytest.CostPath)
	gateway := newSite(t, redis.URL(), l.URL)
	client := gatewaytest.NewClient(t)
	client.CheckRedirect = gatewaytest.KeepRedirects
	ctx, stop := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	for range 16 {
		own := rand.New(rand.NewPCG(random.Uint64(), 0))
		wait.Go(func() { l.Run(ctx, t, client, own, anyGateway(gateway)) })
	}
	caught := int64(0) // requests that were running when a gateway was killed
	for range kills {
		next := l.Answered.Load() + 1 + random.Int64N(100)
		testkit.EventuallyWithin(t, time.Minute, "clients get answers", func() bool { return l.Answered.Load() >= next })
		for _, u := range l.Accounts {
			caught += u.Running.Load()
		}
		gateway.now.Load().Kill()
		gateway.start()
	}
	stop()
	wait.Wait()
	if caught == 0 {
		t.Error("no request was running when a gateway was killed")
	}
	other := newSite(t, redis.URL(), l.URL).now.Load()
	var table report
	for _, u := range l.Accounts {
		token := testkit.Token(u.User, u.Plan)
		testkit.EventuallyWithin(t, time.Minute, "nothing is held", func() bool {
			return gatewaytest.Usage(t, other, token).InFlight == 0 && !holdsAnything(hashOf(t, redis.Addr, u.User))
		})
		counted, charged := countsOf(hashOf(t, redis.Addr, u.User), "")
		table.judge(t, u, counted, charged, 0)
		wantDays(t, other, u, counted, charged)
		if u.Limit > 0 {
			want := u.Limit - counted
			if admitted := fill(client, token, int(want)+20, gateway.now.Load(), other); admitted != want {
				t.Errorf("user %s: %d were admitted afterwards, want %d", u.User, admitted, want)
			}
		}
	}
	t.Logf("%d kills; %d requests were running then\n%s", kills, caught, &table)
}
