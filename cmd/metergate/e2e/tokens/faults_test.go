package tokens

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A client is what one user saw, who makes one request.
type client struct {
	result
	left bool // before the end
}

// TestFaultsChargeNoMoreThanReported: while clients leave, gateways are killed and Redis does not answer,
// each request has a user of its own, so that each can be judged:
//
//   - A client that has the whole response is charged what was reported, exactly.
//   - One that saw the status line is charged min at least.
//   - Nobody is charged more than was reported, and nothing stays held.
func TestFaultsChargeNoMoreThanReported(t *testing.T) {
	const workers, each = 40, 12
	random := gatewaytest.NewRandom(t)
	m := startModel(t, random, 100*time.Millisecond)
	redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	var proxies [2]*redistest.FaultProxy
	var gateways [2]atomic.Pointer[gatewaytest.Process]
	for i, onFailure := range []string{"deny", "allow"} {
		proxies[i] = redistest.StartFaultProxy(t, redis.Addr)
		gateways[i].Store(startGateway(t, proxies[i].URL(), m.URL, "STORE_TIMEOUT=250ms", "ON_FAILURE="+onFailure))
	}
	http := gatewaytest.NewClient(t)
	seen := make([]client, workers*each)
	var all sync.WaitGroup
	for w := range workers {
		own := rand.New(rand.NewPCG(random.Uint64(), 0))
		all.Go(func() {
			for k := range each {
				n := w*each + k
				ctx, leave := context.WithCancel(t.Context())
				if own.IntN(3) == 0 {
					leaving := time.AfterFunc(time.Duration(own.Int64N(int64(400*time.Millisecond))), leave)
					defer leaving.Stop()
					seen[n].left = true
				}
				seen[n].result = call(ctx, t, http, gateways[n%2].Load().URL, tokenOf(n), n)
				leave()
				if seen[n].status != 200 && !seen[n].left {
					time.Sleep(200 * time.Millisecond) // so that the load outlasts a fault
				}
			}
		})
	}
	ended := make(chan struct{})
	go func() { all.Wait(); close(ended) }()
	faults := breakThings(t, random, redis, &proxies, &gateways, ended)

	for i := range gateways {
		testkit.EventuallyWithin(t, time.Minute, "the journal is empty", func() bool {
			return gatewaytest.Metric(gateways[i].Load(), "metergate_journal_backlog") == "0"
		})
	}
	var whole, partly, charged int
	for n, c := range seen {
		u := settledUsage(t, gateways[n%2].Load(), tokenOf(n))
		e := u.Endpoints["chat"]
		most := int64(0)
		if m.hasBegun(n) {
			most = m.units(n)
		}
		switch units := *e.Units; {
		case e.Used > 1 || units > most || e.Used == 0 && units > 0:
			t.Errorf("request %d: %+v; counted %d times and charged %d, reported %d tokens, %d units", n, c, e.Used, units, m.tokens(n), most)
		case c.complete && c.status == 200 && (units != most || c.trailer != fmt.Sprint(most)):
			t.Errorf("request %d: %+v; charged %d, want %d, because the client has the whole response", n, c, units, most)
		case c.status == 200 && (e.Used != 1 || units < 1):
			t.Errorf("request %d: %+v; counted %d times and charged %d", n, c, e.Used, units)
		case c.complete && c.status == 200:
			whole++
		case e.Used == 1:
			partly++
		}
		charged += int(*e.Units)
	}
	t.Logf("%d clients have the whole response, %d a part or nothing of one that was counted, %d units are charged; %v", whole, partly, charged, faults)
	if whole == 0 || partly == 0 {
		t.Error("nothing was tested")
	}
}

func tokenOf(n int) string { return testkit.Token(fmt.Sprint("user-", n), "tokens") }

// settledUsage waits until a user holds nothing: a rest of a gateway that was killed stays for its lease.
func settledUsage(t *testing.T, g *gatewaytest.Process, token string) (u quota.Usage) {
	t.Helper()
	testkit.EventuallyWithin(t, 2*time.Minute, "nothing is held", func() bool {
		status, body := gatewaytest.Get(g.URL+"/usage", token)
		return status == 200 && json.Unmarshal([]byte(body), &u) == nil && !u.Stale && u.InFlight == 0
	})
	return u
}

// breakThings lets random faults follow one another until the load has ended. Then everything runs.
func breakThings(t *testing.T, random *rand.Rand, redis *redistest.Server, proxies *[2]*redistest.FaultProxy, gateways *[2]atomic.Pointer[gatewaytest.Process], ended <-chan struct{}) map[string]int {
	faults := map[string]int{}
	pause := func(most time.Duration) (over bool) {
		select {
		case <-ended:
			return true
		case <-time.After(time.Duration(random.Int64N(int64(most)))): // the schedule; nothing waits for it
			return false
		}
	}
	for over := false; !over; {
		i := random.IntN(2)
		var name string
		var heal func()
		kind := random.IntN(4)
		if len(faults) == 0 {
			kind = 0 // in every run
		}
		switch kind {
		case 0:
			name = "gateway killed"
			g := gateways[i].Load()
			g.Kill()
			heal = func() { gateways[i].Store(g.Restart()) }
		case 1:
			name, heal = "replies dropped", proxies[i].Heal
			proxies[i].DropReplies(true)
		case 2:
			name, heal = "connections refused", proxies[i].Heal
			proxies[i].RefuseConnections(true)
			proxies[i].CutConnections()
		default:
			name, heal = "Redis paused", redis.Resume
			redis.Pause()
		}
		faults[name]++
		over = pause(time.Second)
		heal()
		over = pause(time.Second) || over
	}
	return faults
}
