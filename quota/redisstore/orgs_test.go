package redisstore

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// sharedPlan allows each member 3 requests a month, and all of them together so many.
func sharedPlan(shared int64) *quota.Plan {
	return quotatest.NewPlan("team", quota.Limit{Amount: 3, Period: quota.Month}, quota.Limit{Amount: shared, Period: quota.Month, Shared: true})
}

// memberRequest is a request of a member by a plan.
func memberRequest(p *quota.Plan, org, user string) quota.Request {
	r := requestBy(p, quota.MemberAccount(org, user))
	r.Plans.Scope = quota.MemberScope
	return r
}

// A crowd is of 50 members who make 1,000 requests through several gateways at once.
type crowd struct {
	t        *testing.T
	stores   []*Store
	plan     *quota.Plan
	org      string
	admitted atomic.Int64
	members  [50]atomic.Int64 // what was admitted of each
	wait     sync.WaitGroup
}

// start makes the requests with these numbers, up to 1,000. What is admitted by one gateway is counted by
// the next one.
func (c *crowd) start(from, to int) {
	for i := from; i < to; i++ {
		c.wait.Go(func() {
			request := memberRequest(c.plan, c.org, fmt.Sprint("m-", i%50))
			var d *quota.Decision
			c.patiently("Reserve", func() (err error) {
				d, err = c.stores[i%len(c.stores)].Reserve(ctx, request)
				return err
			})
			if !d.Admitted {
				return
			}
			c.admitted.Add(1)
			c.members[i%50].Add(1)
			c.patiently("Commit", func() error {
				_, err := c.stores[(i+1)%len(c.stores)].Commit(ctx, &d.Reservation)
				return err
			})
		})
	}
}

// patiently makes a call, again if the gateway had no place for it: then nothing was sent.
func (c *crowd) patiently(what string, call func() error) {
	err := call()
	for errors.Is(err, quota.ErrOverloaded) {
		err = call()
	}
	if err != nil {
		c.t.Errorf("%s: %v", what, err)
	}
}

// wantExactly waits for the requests, and compares what was admitted with what is counted.
func (c *crowd) wantExactly(n int64) {
	c.t.Helper()
	c.wait.Wait()
	if got := c.admitted.Load(); got != n {
		c.t.Errorf("%s: %d of 1000 were admitted, want %d", c.org, got, n)
	}
	for i := range c.members {
		r := memberRequest(c.plan, c.org, fmt.Sprint("m-", i))
		s, err := c.stores[0].Read(ctx, r.User, r.Plans)
		if err != nil {
			c.t.Fatal(err)
		}
		own, shared := s.Limits[0], s.Limits[1]
		if want := c.members[i].Load(); own.Used != want || want > 3 || own.Held != 0 || shared.Used != n || shared.Held != 0 {
			c.t.Errorf("%s: member %d has %d used and %d held, %d admitted; the pool %d and %d", c.org, i, own.Used, own.Held, want, shared.Used, shared.Held)
		}
		wantHistory(c.t, c.stores[0], r.User, c.members[i].Load())
	}
}

// TestMembersThroughTwoGateways: whatever meets, exactly the shared limit is admitted, and of no member
// more than their own.
func TestMembersThroughTwoGateways(t *testing.T) {
	url := redistest.Start(t).URL()
	stores := []*Store{openStore(t, url), openStore(t, url)}
	for round := range 20 {
		c := &crowd{t: t, stores: stores, plan: sharedPlan(100), org: fmt.Sprint("org-", round)}
		c.start(0, 1000)
		c.wantExactly(100)
	}
}

// testOrgMoves checks the same while the slot of an organisation moves. A node that has the key of a
// member, but not that of the pool, has the gateways try again until the other key is there.
func testOrgMoves(t *testing.T, cluster *redistest.Cluster) {
	stores := []*Store{openWithHistory(t, cluster.URL()), openWithHistory(t, cluster.URL())}
	triedAgain := func() (n int) {
		for _, node := range cluster.Nodes {
			var count int
			text := fmt.Sprint(node.Do("INFO", "errorstats"))
			if _, after, found := strings.Cut(text, "errorstat_TRYAGAIN:count="); found {
				fmt.Sscan(after, &count)
			}
			n += count
		}
		return n
	}
	cluster.Nodes[0].Needs(t, "6.2", "counts of errors")
	for round := range 3 {
		c := &crowd{t: t, stores: stores, plan: sharedPlan(100), org: fmt.Sprint("moving-", round)}
		pool := key(stores[0], quota.PoolAccount(c.org))
		first, err := stores[0].Reserve(ctx, memberRequest(c.plan, c.org, "first"))
		if err != nil || !first.Admitted {
			t.Fatalf("admitted %v, error %v", first.Admitted, err)
		}
		before := triedAgain()
		move := cluster.StartSlotMove(int(redisclient.Slot(pool)))
		c.start(0, 300)
		move.MoveKey(pool)
		c.start(300, 1000)
		testkit.Eventually(t, "a call is tried again", func() bool { return triedAgain() > before })
		move.Finish()
		if _, err := stores[1].Release(ctx, &first.Reservation); err != nil {
			t.Errorf("Release: %v", err)
		}
		// The request that was held at first may have kept the last one out.
		c.wait.Wait()
		if n := c.admitted.Load(); n == 99 {
			r := memberRequest(c.plan, c.org, "m-0")
			for i := range c.members {
				if c.members[i].Load() < 3 {
					r = memberRequest(c.plan, c.org, fmt.Sprint("m-", i))
					c.members[i].Add(1)
					break
				}
			}
			d, err := stores[0].Reserve(ctx, r)
			if err == nil && d.Admitted {
				c.admitted.Add(1)
				_, err = stores[1].Commit(ctx, &d.Reservation)
			}
			if err != nil {
				t.Error(err)
			}
		}
		c.wantExactly(100)
	}
}

// TestPoolsCostTheSame: what Redis does for a request of a member, command by command, and what it keeps
// in the pool do not depend on how many members there are; nor does it if they have anchors and carry.
func TestPoolsCostTheSame(t *testing.T) {
	t.Run("calendar", func(t *testing.T) {
		p := sharedPlan(quota.MaxAmount)
		testPoolsCostTheSame(t, 10_000, func(org, user string) quota.Request { return memberRequest(p, org, user) })
	})
	t.Run("anchor and carry", func(t *testing.T) {
		p := quotatest.NewAnchoredPlan("team", quota.ClaimAnchor, quota.Limit{Amount: 3, Period: quota.Month, Carry: 1},
			quota.Limit{Amount: quota.MaxAmount, Period: quota.Month, Shared: true, Carry: 1000})
		testPoolsCostTheSame(t, 1000, func(org, user string) quota.Request {
			r := memberRequest(p, org, user)
			a := quota.NewAnchor(1+len(user)*5, 0) // members have different ones
			r.Plans.Terms, r.Plans.Anchor = true, &a
			return r
		})
	})
}

func testPoolsCostTheSame(t *testing.T, most int, request func(org, user string) quota.Request) {
	server := redistest.Start(t)
	s := openStore(t, server.URL())
	use := func(r quota.Request) {
		d, err := s.Reserve(ctx, r)
		if err == nil && d.Admitted {
			_, err = s.Commit(ctx, &d.Reservation)
		}
		if err != nil || !d.Admitted {
			t.Errorf("%q: admitted %v, error %v", r.User, d.Admitted, err)
		}
	}
	cost := func(org string, members int) (commands string, fields any) {
		var wait sync.WaitGroup
		for part := range 32 {
			wait.Go(func() {
				for i := part; i < members; i += 32 {
					use(request(org, fmt.Sprint("m-", i)))
				}
			})
		}
		wait.Wait()
		if t.Failed() {
			t.FailNow()
		}
		server.Do("CONFIG", "RESETSTAT")
		use(request(org, "m-1"))
		for line := range strings.Lines(fmt.Sprint(server.Do("INFO", "commandstats"))) {
			name, numbers, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
			calls, _, _ := strings.Cut(numbers, ",")
			// Not those that depend on the time, such as for the expiry of keys, and for markers.
			if slices.Contains([]string{"evalsha", "hget", "hmget", "hgetall", "hset", "hincrby", "publish"}, name) {
				commands += name + " " + calls + "\n"
			}
		}
		return commands, server.Do("HLEN", key(s, quota.PoolAccount(org)))
	}
	few, fewFields := cost("small", 10)
	many, manyFields := cost("large", most)
	if few != many || fewFields != manyFields {
		t.Errorf("a request of one of 10 members takes\n%sand the pool has %v fields; of one of %d\n%sand %v", few, fewFields, most, many, manyFields)
	}
	if !strings.Contains(few, "evalsha calls=2\n") {
		t.Errorf("a request takes other commands than two scripts:\n%s", few)
	}
}

// TestMemberOfDeadGateway: what a gateway held that was killed comes back by itself, in both hashes, to
// another gateway.
func TestMemberOfDeadGateway(t *testing.T) {
	url := redistest.Start(t).URL()
	clock := quotatest.NewClock(time.Now())
	dead, alive := openAt(t, url, clock), openAt(t, url, clock)
	p := sharedPlan(3)
	for range 3 {
		if d, err := dead.Reserve(ctx, memberRequest(p, "acme", "a")); err != nil || !d.Admitted {
			t.Fatalf("admitted %v, error %v", d.Admitted, err)
		}
	}
	dead.Close()
	if d, err := alive.Reserve(ctx, memberRequest(p, "acme", "b")); err != nil || d.Admitted || !d.Snapshot.Refusal("analyze", 1).OnlyHeld {
		t.Errorf("while others hold all: admitted %v, error %v", d.Admitted, err)
	}
	clock.Advance(2 * time.Minute)
	for _, user := range []string{"b", "b", "a"} {
		if d, err := alive.Reserve(ctx, memberRequest(p, "acme", user)); err != nil || !d.Admitted {
			t.Errorf("%s after the leases: admitted %v, error %v", user, d.Admitted, err)
		}
	}
}

// BenchmarkOrgs measures the two calls of a request of a member, by how many members there are.
func BenchmarkOrgs(b *testing.B) {
	s := openStore(b, redistest.Start(b).URL())
	p := quotatest.NewPlan("team", quota.Limit{Amount: quota.MaxAmount, Period: quota.Month},
		quota.Limit{Amount: quota.MaxAmount, Period: quota.Month, Shared: true})
	for _, members := range []int{10, 10_000} {
		org := fmt.Sprint("org-", members)
		use := func(i int) {
			d, err := s.Reserve(ctx, memberRequest(p, org, fmt.Sprint("m-", i)))
			if err == nil {
				_, err = s.Commit(ctx, &d.Reservation)
				s.Forget(&d.Reservation)
			}
			if err != nil || !d.Admitted {
				b.Fatalf("admitted %v, error %v", d.Admitted, err)
			}
		}
		for i := range members {
			use(i)
		}
		b.Run(fmt.Sprint(members, " members"), func(b *testing.B) {
			if err := commands(s).ConfigResetStat(ctx).Err(); err != nil {
				b.Fatal(err)
			}
			n := 0
			for b.Loop() {
				use(n % members)
				n++
			}
			b.ReportMetric(scriptTime(b, s)/float64(n), "redis-µs/op")
		})
	}
}

// TestMembersDoNotMoveTheirPool: members with other anchors and other plans, through two gateways at once,
// neither write the terms of their pool nor ask for them once they are known.
func TestMembersDoNotMoveTheirPool(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	var calls, others atomic.Int64
	var stores []*Store
	for range 2 {
		c := redistest.StartFaultProxy(t, redis.Addr)
		c.OnCommand(func(cmd redistest.Command) redistest.Fate {
			switch cmd.Script() {
			case "", redistest.Check:
			case redistest.Reserve, redistest.Commit:
				calls.Add(1)
			default:
				others.Add(1)
			}
			return redistest.Pass
		})
		stores = append(stores, openWith(t, Options{URL: c.URL(), Timeout: patient}))
	}
	own := quota.Limit{Amount: 10_000, Period: quota.Month}
	shared := quota.Limit{Amount: 10_000, Period: quota.Month, Shared: true}
	daily := quota.Limit{Amount: 10_000, Period: quota.Day, Shared: true}
	byName := map[string]*quota.Plan{
		"claim":     quotatest.NewAnchoredPlan("claim", quota.ClaimAnchor, own, shared),
		"first use": quotatest.NewAnchoredPlan("first use", quota.FirstUseAnchor, own, shared),
		"calendar":  quotatest.NewPlan("calendar", own, shared),
		"daily":     quotatest.NewAnchoredPlan("daily", quota.ClaimAnchor, own, daily),
	}
	var wait sync.WaitGroup
	use := func(n int) {
		for plan, p := range byName {
			for _, day := range []int{0, 15, 20} {
				for i, s := range stores {
					wait.Go(func() {
						for range n {
							r := memberRequest(p, "acme", fmt.Sprint(plan, day))
							a := quota.NewAnchor(max(1, day), 0)
							r.Plans.ByName, r.Plans.Terms, r.Plans.Anchor, r.Plans.NoAnchor = byName, true, &a, day == 0
							d, err := s.Reserve(ctx, r)
							if err == nil && d.Admitted {
								_, err = stores[1-i].Commit(ctx, &d.Reservation)
							}
							if err != nil || !d.Admitted {
								t.Errorf("%s: admitted %v, error %v", r.User, d.Admitted, err)
							}
						}
					})
				}
			}
		}
		wait.Wait()
	}
	use(3) // until all is known
	calls.Store(0)
	others.Store(0)
	use(10)
	// A commit may still find the terms of a first use that another gateway has noted.
	if n, o := calls.Load(), others.Load(); n != 480 || o != 0 {
		t.Errorf("240 requests took %d calls that reserve and commit, and %d others; want 480 and 0", n, o)
	}
}
