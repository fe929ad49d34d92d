package tokens

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// TestStreamsAreChargedExactly opens 200 streams at once through two gateways, until their users have
// used up their limits. What is used and what is held never exceed a limit, and in the end each user
// has been charged what their streams have reported, and holds nothing.
func TestStreamsAreChargedExactly(t *testing.T) {
	for name, redisURL := range map[string]func(t *testing.T) string{
		"one server": func(t *testing.T) string { return redistest.Start(t).URL() },
		"Cluster":    func(t *testing.T) string { return redistest.StartCluster(t, false).URL() },
	} {
		t.Run(name, func(t *testing.T) { testStreamsAreChargedExactly(t, redisURL(t)) })
	}
}

func testStreamsAreChargedExactly(t *testing.T, redisURL string) {
	const clients, each = 200, 3
	m := startModel(t, gatewaytest.NewRandom(t), 20*time.Millisecond)
	gateways := []*gatewaytest.Process{startGateway(t, redisURL, m.URL), startGateway(t, redisURL, m.URL)}
	client := gatewaytest.NewClient(t)
	// Two users of their own, and two members who share a pool.
	tokens := []string{testkit.Token("a", "tokens"), testkit.Token("b", "tokens"), testkit.MemberToken("acme", "a", "team"), testkit.MemberToken("acme", "b", "team")}
	var charged, passed, refused [4]atomic.Int64

	done := make(chan struct{})
	var looking sync.WaitGroup
	for i, token := range tokens {
		looking.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				wantWithin(t, gatewaytest.Usage(t, gateways[i%2], token))
			}
		})
	}
	var all sync.WaitGroup
	for c := range clients {
		all.Go(func() {
			for k := range each {
				n, user := c*each+k, c%len(tokens)
				switch r := call(t.Context(), t, client, gateways[n%2].URL, tokens[user], n); {
				case r.status == 429:
					refused[user].Add(1)
				case r.status != 200 || !r.complete || r.trailer != fmt.Sprint(m.units(n)):
					t.Errorf("request %d, %d tokens: %+v, want %d units", n, m.tokens(n), r, m.units(n))
				default:
					passed[user].Add(1)
					charged[user].Add(m.units(n))
				}
			}
		})
	}
	all.Wait()
	close(done)
	looking.Wait()
	for i, token := range tokens {
		for _, g := range gateways {
			u := gatewaytest.Usage(t, g, token)
			if e := u.Endpoints["chat"]; e.Used != passed[i].Load() || *e.Units != charged[i].Load() || u.InFlight != 0 {
				t.Errorf("user %d: %d requests and %d units are counted, %d held; the streams were %d and %d", i, e.Used, *e.Units, u.InFlight, passed[i].Load(), charged[i].Load())
			}
			wantWithin(t, u)
		}
		if passed[i].Load() == 0 || refused[i].Load() == 0 {
			t.Errorf("user %d: %d streams passed and %d were refused; the limit was not reached", i, passed[i].Load(), refused[i].Load())
		}
	}
	if pool := gatewaytest.Usage(t, gateways[0], tokens[2]); pool.Limits[1].Used != charged[2].Load()+charged[3].Load() {
		t.Errorf("the pool has used %d, its members %d and %d", pool.Limits[1].Used, charged[2].Load(), charged[3].Load())
	}
}

// wantWithin checks that no limit is exceeded, and the headline not even by what is held.
func wantWithin(t *testing.T, u quota.Usage) {
	t.Helper()
	if u.Used+u.InFlight > *u.Limit {
		t.Errorf("%s: %d used and %d held of %d", u.User, u.Used, u.InFlight, *u.Limit)
	}
	for _, l := range u.Limits {
		if l.Used > l.Limit {
			t.Errorf("%s, %s: %d used of %d", u.User, l.Name, l.Used, l.Limit)
		}
	}
}
