package notifications

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// Users reach 80 % and 100 % of their limit through two gateways, while gateways are killed, Redis fails over
// and the receiver fails and closes connections, all at random. Each user is told of once at each threshold: whatever
// came again has the same id. With -long there are 10,000 users.
func TestChaosLosesAndDoublesNothing(t *testing.T) {
	t.Parallel()
	users := gatewaytest.Times(60, 10_000)
	c := &chaos{T: t, receiver: startReceiver(t), redis: redistest.StartSentinel(t, ""), ended: make(chan struct{})}
	c.receiver.anyBody.Store(true) // a count that was lost in a failover is another one when it comes again
	text := configuration(notifyAt(c.receiver.URL, secret, "[80, 100]"))
	for i := range c.gateways {
		c.gateways[i].Store(start(t, c.redis.URL(), text, "STORE_TIMEOUT=1s").Process)
	}
	random := gatewaytest.NewRandom(t)
	var faults sync.WaitGroup
	for _, fault := range []func(*rand.Rand){c.killGateways, c.failRedis, c.failReceiver} {
		r := rand.New(rand.NewPCG(random.Uint64(), 0))
		faults.Go(func() { fault(r) })
	}
	c.useUp(users)
	close(c.ended)
	faults.Wait()
	c.useUp(users) // what the last failover has lost
	testkit.EventuallyWithin(t, 5*time.Minute, "every user is told of", func() bool { return len(c.receiver.got()) >= 2*users })
	told := map[string]int{}
	for _, e := range c.receiver.events {
		told[fmt.Sprint(*e.Data.User, " at ", e.Data.Threshold)]++
	}
	for i := range users {
		for _, threshold := range []int{80, 100} {
			if n := told[fmt.Sprint(userName(i), " at ", threshold)]; n != 1 {
				t.Errorf("%s is told of at %d %% with %d ids", userName(i), threshold, n)
			}
		}
	}
	t.Logf("%d kills, %d failovers, %d requests for %d events", c.kills, c.failovers, c.receiver.requests(), 2*users)
}

func userName(i int) string { return fmt.Sprint("u-", i) }

// chaos is one run of the test.
type chaos struct {
	*testing.T
	receiver         *receiver
	redis            *redistest.SentinelGroup
	gateways         [2]atomic.Pointer[gatewaytest.Process]
	ended            chan struct{} // closed when there shall be no more faults
	kills, failovers int
}

// pause waits, and reports whether there shall be another fault. There is at least one of each kind.
func (c *chaos) pause(r *rand.Rand, shortest, longest time.Duration, faults int) bool {
	select {
	case <-time.After(shortest + time.Duration(r.Int64N(int64(longest-shortest)))):
		return true
	case <-c.ended:
		return faults == 0
	}
}

func (c *chaos) killGateways(r *rand.Rand) {
	for c.pause(r, time.Second, 15*time.Second, c.kills) {
		i := r.IntN(len(c.gateways))
		p := c.gateways[i].Load()
		p.Kill()
		p.Wait()
		c.gateways[i].Store(p.Restart())
		c.kills++
	}
}

func (c *chaos) failRedis(r *rand.Rand) {
	for c.pause(r, 2*time.Second, time.Minute, c.failovers) {
		c.redis.Failover()
		c.failovers++
	}
}

// failReceiver has the receiver fail for some seconds again and again.
func (c *chaos) failReceiver(r *rand.Rand) {
	for n := 0; c.pause(r, 0, 5*time.Second, n); n++ {
		if r.IntN(2) == 0 {
			c.receiver.closes.Store(true)
		} else {
			c.receiver.fails.Store(true)
		}
		c.pause(r, time.Second, 5*time.Second, 0)
		c.receiver.closes.Store(false)
		c.receiver.fails.Store(false)
	}
}

// useUp makes requests of all users until each has used all that the plan allows. A user's requests follow each
// other, so that no threshold is jumped over.
func (c *chaos) useUp(users int) {
	var workers sync.WaitGroup
	var next atomic.Int64
	client := gatewaytest.NewClient(c.T)
	for range 12 {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(users); i = next.Add(1) - 1 {
				c.useUpOne(client, int(i))
			}
		})
	}
	workers.Wait()
}

func (c *chaos) useUpOne(client *http.Client, user int) {
	token := testkit.Token(userName(user), "ten")
	deadline := time.Now().Add(3 * time.Minute)
	for gateway := user; ; gateway++ {
		p := c.gateways[gateway%len(c.gateways)].Load()
		var u quota.Usage
		status, body := gatewaytest.Get(p.URL+"/usage", token)
		if status == 200 && json.Unmarshal([]byte(body), &u) == nil && !u.Stale && u.Used >= 10 {
			return
		}
		if time.Now().After(deadline) {
			c.Errorf("%s has still not used its requests: %d %s", userName(user), status, body)
			return
		}
		for range 10 {
			if gatewaytest.Post(client, p.URL+"/api/analyze", token) != 200 {
				time.Sleep(20 * time.Millisecond) // the gateway or the store is down
				break
			}
		}
	}
}
