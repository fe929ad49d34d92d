package redisstore

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
	"metergate/quota/testkit"
)

// A deliverer delivers crossings through any store, and knows which it has.
type deliverer struct {
	mu        sync.Mutex
	delivered map[string]map[string]int // by account and ID
}

// deliver claims what is due and delivers it. Whoever it dies at is claimed again.
func (d *deliverer) deliver(s *Store) {
	claims, err := s.ClaimCrossings(ctx, 16)
	if err != nil {
		return
	}
	for _, c := range claims.Claims {
		crossings, err := s.CrossingsOf(ctx, c.Account)
		if err != nil {
			continue
		}
		var ids []string
		for _, crossing := range crossings {
			ids = append(ids, crossing.ID)
		}
		d.mu.Lock()
		for _, id := range ids {
			if d.delivered[c.Account] == nil {
				d.delivered[c.Account] = map[string]int{}
			}
			d.delivered[c.Account][id]++
		}
		d.mu.Unlock()
		if s.EndCrossings(ctx, c.Account, ids) == nil {
			_ = s.EndClaim(ctx, c, 0)
		}
	}
}

// missing returns what was not delivered of the crossings of 80 and 100 percent of 10 requests a month, and what was
// that is none of them.
func (d *deliverer) missing(users []string, month quota.Window) (wrong []string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, user := range users {
		var want []string
		for _, threshold := range []int{80, 100} {
			want = append(want, quota.CrossingID(user, "month", month.ID, threshold, 10, 0))
		}
		slices.Sort(want)
		if got := slices.Sorted(maps.Keys(d.delivered[user])); !slices.Equal(got, want) {
			wrong = append(wrong, fmt.Sprintf("%s: %v", user, got))
		}
	}
	return wrong
}

// isListed reports whether nothing waits to be put into the index.
func (x *crossingIndex) isListed() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.unlisted) == 0 && !x.failing
}

// A crossingTest has users who make 10 requests each, while something fails.
type crossingTest struct {
	t      *testing.T
	plan   *quota.Plan
	users  []string
	stores []*Store // those that have not died
	mu     sync.Mutex
	next   atomic.Int64
	done   atomic.Int64 // requests that were counted
}

func (c *crossingTest) store() *Store {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stores[int(c.next.Add(1))%len(c.stores)]
}

// useAll makes the requests of all users. Calls that fail are made again, by other gateways.
func (c *crossingTest) useAll() {
	var workers sync.WaitGroup
	for w := range 6 {
		workers.Go(func() {
			for i := w; i < len(c.users); i += 6 {
				c.useUp(c.users[i])
			}
		})
	}
	workers.Wait()
}

func (c *crossingTest) useUp(user string) {
	again := func(call func(*Store) error) {
		testkit.EventuallyWithin(c.t, time.Minute, "Redis answers", func() bool { return call(c.store()) == nil })
	}
	for used := int64(0); used < 10; {
		request := requestBy(c.plan, user)
		var d *quota.Decision
		again(func(s *Store) (err error) { d, err = s.Reserve(ctx, request); return err })
		if d.Admitted {
			again(func(s *Store) error { _, err := s.Commit(ctx, &d.Reservation); return err })
			c.done.Add(1)
		}
		again(func(s *Store) error {
			snapshot, err := s.Read(ctx, user, c.plan.OnlyChoice())
			used = snapshot.Total.Used
			return err
		})
	}
}

// awaitProgress waits until so many requests are counted.
func (c *crossingTest) awaitProgress(requests int64) {
	testkit.EventuallyWithin(c.t, time.Minute, "requests are counted", func() bool { return c.done.Load() >= requests })
}

// While a replica takes over and a gateway dies, each crossing keeps its ID, and each is delivered.
func TestCrossingsInFailover(t *testing.T) {
	t.Parallel()
	master := redistest.Start(t, "--repl-diskless-sync-delay", "0")
	host, port, _ := net.SplitHostPort(master.Addr)
	replica := redistest.Start(t, "--replicaof", host+" "+port)
	master.AwaitReplication("start")
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 5, 0, time.UTC))
	networks := []*redistest.FaultProxy{redistest.StartFaultProxy(t, master.Addr), redistest.StartFaultProxy(t, master.Addr)}
	c := &crossingTest{t: t, plan: notifying(quota.Limit{Amount: 10, Period: quota.Month})}
	for i := range 48 {
		c.users = append(c.users, fmt.Sprint("u", i))
	}
	for _, network := range networks {
		c.stores = append(c.stores, openWith(t, Options{URL: network.URL(), Timeout: patient, Now: clock.Now, Offset: clock.Offset}))
	}
	d := &deliverer{delivered: map[string]map[string]int{}}
	used := make(chan struct{})
	go func() { c.useAll(); close(used) }()
	var delivering sync.WaitGroup
	delivering.Go(func() {
		for {
			select {
			case <-used:
				return
			case <-time.After(10 * time.Millisecond):
				d.deliver(c.store())
			}
		}
	})
	c.awaitProgress(150)
	master.Kill()
	replica.Do("REPLICAOF", "NO", "ONE")
	for _, network := range networks {
		network.SwitchTo(replica.Addr)
		network.CutConnections()
	}
	c.awaitProgress(200)
	// What was settled after the replica has heard of it last is held there, until the lease ends. And a gateway that
	// dies just after it could not reach the index may lose what it had to put there.
	clock.Advance(2 * time.Minute)
	testkit.Eventually(t, "the index has what it lacked", func() bool { return c.stores[0].index.isListed() && c.stores[1].index.isListed() })
	c.awaitProgress(250)
	testkit.Eventually(t, "its index is complete", c.stores[0].index.isListed)
	networks[0].RefuseConnections(true)
	networks[0].CutConnections()
	c.mu.Lock()
	c.stores = c.stores[1:]
	c.mu.Unlock()
	<-used
	delivering.Wait()
	month := c.stores[0].calendar.WindowAt(quota.Month, clock.Now())
	c.useAll() // what the replica did not have yet
	testkit.EventuallyWithin(t, time.Minute, "all crossings are delivered", func() bool {
		clock.Advance(quota.ClaimLife)
		d.deliver(c.stores[0])
		return len(d.missing(c.users, month)) == 0
	})
}

// testIndexMoves: the slot of the index moves while accounts are put into it.
func testIndexMoves(t *testing.T, cluster *redistest.Cluster) {
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 5, 0, time.UTC))
	prefix := "moves-" + quota.NewID()
	open := func() *Store {
		return openWith(t, Options{URL: cluster.URL(), Prefix: prefix, Timeout: patient, Now: clock.Now, Offset: clock.Offset})
	}
	c := &crossingTest{t: t, plan: notifying(quota.Limit{Amount: 10, Period: quota.Month}), stores: []*Store{open(), open()}}
	for i := range 12 {
		c.users = append(c.users, fmt.Sprint("u", i))
	}
	due, waitingKey := script.ClaimsKeys(prefix)
	used := make(chan struct{})
	go func() { c.useAll(); close(used) }()
	c.awaitProgress(50) // some have crossings
	testkit.Eventually(t, "the index has accounts", func() bool { return waiting(t, c.stores[0]) > 0 })
	move := cluster.StartSlotMove(int(redisclient.Slot(due)))
	c.awaitProgress(60)
	move.MoveKey(due)
	c.awaitProgress(80)
	move.MoveKey(waitingKey)
	c.awaitProgress(90)
	move.Finish()
	<-used
	d := &deliverer{delivered: map[string]map[string]int{}}
	month := c.stores[0].calendar.WindowAt(quota.Month, clock.Now())
	testkit.EventuallyWithin(t, time.Minute, "all crossings are delivered", func() bool {
		clock.Advance(quota.ClaimLife)
		d.deliver(c.store())
		return len(d.missing(c.users, month)) == 0
	})
}
