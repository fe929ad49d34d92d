package counting

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
	"metergate/quota/testkit"
)

// An organisation may use 100 requests and each member 10. Of 500 requests of 50 members at once through
// two gateways, exactly 100 pass, also while a Cluster moves the slot with their keys to another master:
// first the pool's key, so that the keys of a member and of the pool are on different masters. Redis
// answers TRYAGAIN then. No client sees any of it.
func TestOrganisationsAreExactWhileTheirSlotMoves(t *testing.T) {
	var sent atomic.Int64
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { sent.Add(1) }))
	defer upstream.Close()
	cluster := redistest.StartCluster(t, false)
	cluster.Nodes[0].Needs(t, "6.2", "counts of errors")
	start := func() *gatewaytest.Process {
		return gatewaytest.StartWithOrganisations(t, cluster.URL(), upstream.URL, gatewaytest.Patient)
	}
	gateways := []*gatewaytest.Process{start(), start()}
	client := gatewaytest.NewClient(t)
	for round := range 20 {
		sent.Store(0)
		org := fmt.Sprint("org-", round)
		var passed, refused [50]atomic.Int64
		var wait sync.WaitGroup
		callAll := func(from, to int) {
			for i := from; i < to; i++ {
				wait.Go(func() {
					member := i % 50
					switch status := callAsMember(t, client, gateways[i/50%2].URL, org, member); status {
					case 200:
						passed[member].Add(1)
					case 429:
						refused[member].Add(1)
					default:
						t.Errorf("round %d: status %d", round, status)
					}
				})
			}
		}
		callAll(0, 1)
		wait.Wait() // so there is a pool
		pool := script.Key("metergate", quota.PoolAccount(org))
		before := triedAgain(cluster)
		move := cluster.StartSlotMove(int(redisclient.Slot(pool)))
		callAll(1, 150)
		move.MoveKey(pool)
		callAll(150, 500)
		testkit.Eventually(t, "Redis answers TRYAGAIN", func() bool { return triedAgain(cluster) > before })
		move.Finish()
		wait.Wait()
		sum := int64(0)
		for member := range passed {
			n := passed[member].Load()
			if sum += n; n > 10 || n+refused[member].Load() != 10 {
				t.Errorf("round %d: member %d: %d passed, %d were refused", round, member, n, refused[member].Load())
			}
		}
		if sum != 100 || sent.Load() != 100 {
			t.Fatalf("round %d: %d passed, %d reached the upstream; want 100", round, sum, sent.Load())
		}
		for _, g := range gateways {
			var pool quota.Usage
			if err := json.Unmarshal([]byte(gatewaytest.Administer(t, g, "GET", "/admin/orgs/"+org, "")), &pool); err != nil || pool.Used != 100 || pool.InFlight != 0 {
				t.Fatalf("round %d: the organisation has used %+v, error %v", round, pool, err)
			}
		}
	}
}

// triedAgain is how often the nodes of a Cluster have answered TRYAGAIN.
func triedAgain(c *redistest.Cluster) (n int) {
	for _, node := range c.Nodes {
		count := 0
		if _, after, found := strings.Cut(fmt.Sprint(node.Do("INFO", "errorstats")), "errorstat_TRYAGAIN:count="); found {
			fmt.Sscan(after, &count)
		}
		n += count
	}
	return n
}
