package counting

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// Two gateways share one Redis, clients and an upstream do all they can do, and for a
// while everything breaks, alone and together. Afterwards, for every user and window:
//
//   - what clients saw succeed <= counted <= what the upstream sent as a success, and so for units:
//     what clients were told <= charged <= what the upstream's successes cost;
//   - the days of the history have what is counted and charged;
//   - nothing is held, and no place taken, once the leases have ended;
//   - with on_failure deny, counted <= limit. With allow the count may exceed the limit
//     by the units that were admitted while the store did not answer, and by no others;
//   - no 429 was sent far below a limit, nor for a request that was forwarded.
//
// Redis syncs each write (appendfsync always), so it loses nothing that it has confirmed.
// No fault lasts so long that a count waits in a gateway's journal for longer than its
// lease. Otherwise the other gateway could admit a request in place of a hold that has
// ended, and the rules do not promise anything for that case.
func TestChaos(t *testing.T) {
	for _, onFailure := range []string{"deny", "allow"} {
		t.Run(onFailure, func(t *testing.T) {
			t.Parallel()
			runChaos(t, onFailure)
		})
	}
}

const (
	chaosClients = 12
	// cohort is how long one user with a small quota is used, so that there is always one
	// who reaches the limit.
	cohort = 2 * time.Second
)

func runChaos(t *testing.T, onFailure string) {
	c := &chaos{
		T: t, random: gatewaytest.NewRandom(t),
		redis:  redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always"),
		faults: map[string]int{}, unchecked: map[string]int64{},
	}
	c.direct = redis.NewClient(&redis.Options{Addr: c.redis.Addr, ReadTimeout: time.Minute, WriteTimeout: time.Minute})
	t.Cleanup(func() { c.direct.Close() })
	users := []*gatewaytest.Account{{User: "unlimited", Plan: "unlimited"}, {User: "high", Plan: "high"},
		{User: "minutes", Plan: "minutes", Limit: 100000}, {User: "failing", Plan: "high", Fails: true},
		{User: "crowded", Plan: "few", Crowded: true}}
	steady := len(users)
	for i := range int(*chaosFor/cohort) + 1 {
		switch i % 4 {
		case 0:
			users = append(users, &gatewaytest.Account{User: fmt.Sprint("low-", i), Plan: "low", Limit: 300})
		case 2:
			users = append(users, &gatewaytest.Account{User: fmt.Sprint("credits-", i), Plan: "credits", Units: 300})
		default:
			users = append(users, &gatewaytest.Account{User: fmt.Sprint("twenty-", i), Plan: "twenty", Limit: 20})
		}
	}
	c.ledger = gatewaytest.NewWorkload(t, users...)
	c.ledger.Paths = append(c.ledger.Paths, gatewaytest.CostPath)
	begun := time.Now()
	c.ledger.Pick = func(random *rand.Rand) int {
		if random.IntN(2) == 0 {
			return random.IntN(steady)
		}
		return min(steady+int(time.Since(begun)/cohort), len(users)-1)
	}
	for i := range c.sites {
		c.faultProxies[i] = redistest.StartFaultProxy(t, c.redis.Addr)
		c.sites[i] = newSite(t, c.faultProxies[i].URL(), c.ledger.URL,
			"ON_FAILURE="+onFailure, "STORE_TIMEOUT=250ms", "UPSTREAM_TIMEOUT=5s")
	}
	client := gatewaytest.NewClient(t)
	client.CheckRedirect = gatewaytest.KeepRedirects
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var wait sync.WaitGroup
	for range chaosClients {
		own := rand.New(rand.NewPCG(c.random.Uint64(), 0))
		wait.Go(func() { c.ledger.Run(ctx, t, client, own, anyGateway(c.sites[:]...)) })
	}
	c.breakThings(begun.Add(*chaosFor))
	stop()
	wait.Wait()
	c.judge(onFailure)
}

// chaos is one run of the test.
type chaos struct {
	*testing.T
	random       *rand.Rand
	ledger       *gatewaytest.Workload
	redis        *redistest.Server
	direct       *redis.Client // not through a fault proxy
	faultProxies [2]*redistest.FaultProxy
	sites        [2]*site

	faults map[string]int
	// unchecked is how many units of a user may have been admitted without an answer from
	// the store.
	unchecked map[string]int64
}

// A fault that has begun, and what ends it.
type fault struct {
	until time.Time
	end   func()
}

// breakThings begins random faults, one to three at a time in different places, and lets
// the gateways recover in between.
func (c *chaos) breakThings(end time.Time) {
	places := []func() fault{
		func() fault { return c.breakGateway(0) }, func() fault { return c.breakGateway(1) },
		func() fault { return c.breakConnection(0) }, func() fault { return c.breakConnection(1) },
		c.breakRedis, c.breakRedis,
	}
	for time.Now().Before(end) {
		var running []fault
		redisBroken := false
		for _, place := range c.random.Perm(len(places))[:1+c.random.IntN(3)] {
			if place >= 4 {
				if redisBroken {
					continue
				}
				redisBroken = true
			}
			if len(running) > 0 { // a gateway that dies in an outage has counts to lose
				time.Sleep(c.between(0, time.Second))
			}
			running = append(running, places[place]())
		}
		slices.SortFunc(running, func(a, b fault) int { return a.until.Compare(b.until) })
		for _, f := range running {
			time.Sleep(time.Until(f.until)) // the schedule; nothing waits for it
			f.end()
		}
		time.Sleep(c.between(2500*time.Millisecond, 4*time.Second))
	}
}

func (c *chaos) between(shortest, longest time.Duration) time.Duration {
	return shortest + time.Duration(c.random.Int64N(int64(longest-shortest)))
}

// begin records a fault that lasts between shortest and longest.
func (c *chaos) begin(name string, shortest, longest time.Duration, end func()) fault {
	c.faults[name]++
	return fault{time.Now().Add(c.between(shortest, longest)), end}
}

func (c *chaos) breakGateway(i int) fault {
	s := c.sites[i]
	p := s.now.Load()
	if c.random.IntN(3) == 0 {
		f := c.begin("gateway stopped", 0, time.Second, func() {
			select {
			case <-p.Done():
			case <-time.After(time.Minute):
				c.Fatal("a gateway has not drained a minute after SIGTERM")
			}
			if p.Wait() != 0 {
				c.Errorf("a gateway that was stopped ended with exit status %d", p.Wait())
			}
			c.harvest(p)
			s.start()
		})
		p.Signal(syscall.SIGTERM)
		return f
	}
	f := c.begin("gateway killed", 0, 1500*time.Millisecond, func() { s.start() })
	// Requests that are running now may have been admitted without an answer from the
	// store, and will not be in the log.
	for _, u := range c.ledger.Accounts {
		c.unchecked[u.User] += u.Running.Load()
	}
	p.Kill()
	c.harvest(p)
	return f
}

func (c *chaos) breakConnection(i int) fault {
	faultProxy := c.faultProxies[i]
	switch c.random.IntN(6) {
	case 0:
		faultProxy.DropReplies(true)
		return c.begin("replies dropped", 200*time.Millisecond, 2*time.Second, faultProxy.Heal)
	case 1:
		faultProxy.DelayReplies(c.between(50*time.Millisecond, 400*time.Millisecond))
		return c.begin("replies delayed", 500*time.Millisecond, 3*time.Second, faultProxy.Heal)
	case 2:
		faultProxy.CutConnections()
		return c.begin("connections cut", 0, time.Second, faultProxy.CutConnections)
	case 3:
		faultProxy.RefuseConnections(true)
		faultProxy.CutConnections()
		return c.begin("connections refused", 200*time.Millisecond, 2*time.Second, faultProxy.Heal)
	case 4:
		faultProxy.OnReply(func(cmd redistest.Command, _ string) redistest.Fate {
			if cmd.Script() == redistest.Commit {
				return redistest.Cut
			}
			return redistest.Pass
		})
		return c.begin("connection cut after each settle", 200*time.Millisecond, 2*time.Second, faultProxy.Heal)
	default:
		hold := make(chan bool)
		faultProxy.OnCommand(func(redistest.Command) redistest.Fate {
			select {
			case <-hold:
			case <-faultProxy.Closed():
			}
			return redistest.Pass
		})
		return c.begin("commands held", 300*time.Millisecond, 2*time.Second, func() { faultProxy.Heal(); close(hold) })
	}
}

func (c *chaos) breakRedis() fault {
	check := func(err error) {
		if err != nil {
			c.Fatal(err)
		}
	}
	ctx := context.Background()
	switch c.random.IntN(5) {
	case 0:
		c.redis.Kill()
		return c.begin("Redis killed", 0, 3*time.Second, c.redis.Start)
	case 1:
		c.redis.Pause()
		return c.begin("Redis paused", 100*time.Millisecond, 3*time.Second, c.redis.Resume)
	case 2:
		check(c.direct.ScriptFlush(ctx).Err())
		return c.begin("scripts flushed", 0, time.Millisecond, func() { check(c.direct.ScriptFlush(ctx).Err()) })
	case 3:
		check(c.direct.Do(ctx, "replicaof", "127.0.0.1", "1").Err()) // nobody listens there
		return c.begin("Redis read-only", 200*time.Millisecond, 2*time.Second, func() {
			check(c.direct.Do(ctx, "replicaof", "no", "one").Err())
		})
	default:
		check(c.direct.ConfigSet(ctx, "maxmemory", "1").Err())
		return c.begin("Redis out of memory", 500*time.Millisecond, 2*time.Second, func() {
			check(c.direct.ConfigSet(ctx, "maxmemory", "0").Err())
		})
	}
}

// harvest reads the log of a gateway that has ended or gets no more requests, and counts
// the units that were admitted without an answer from the store.
func (c *chaos) harvest(p *gatewaytest.Process) {
	for l := range strings.Lines(p.TakeOutput()) {
		var entry struct{ Msg, User, Decision string }
		if json.Unmarshal([]byte(l), &entry) != nil {
			if strings.HasPrefix(l, "panic") || strings.HasPrefix(l, "fatal") {
				c.Errorf("a gateway printed: %s", l)
			}
		} else if entry.Msg == "request" && entry.Decision == "unchecked" {
			c.unchecked[entry.User]++
		}
	}
}

// judge waits until nothing changes any more, and checks the counts of all users.
func (c *chaos) judge(onFailure string) {
	for _, s := range c.sites {
		g := s.now.Load()
		testkit.EventuallyWithin(c.T, time.Minute, "the journal is empty", func() bool { return gatewaytest.Metric(g, "metergate_journal_backlog") == "0" })
	}
	usage := func(g *gatewaytest.Process, u *gatewaytest.Account) (usage quota.Usage, fresh bool) {
		status, body := gatewaytest.Get(g.URL+"/usage", testkit.Token(u.User, u.Plan))
		return usage, json.Unmarshal([]byte(body), &usage) == nil && status == 200 && !usage.Stale
	}
	for _, u := range c.ledger.Accounts {
		for _, s := range c.sites {
			testkit.EventuallyWithin(c.T, time.Minute, "nothing is held", func() bool {
				usage, fresh := usage(s.now.Load(), u)
				return fresh && usage.InFlight == 0 && !holdsAnything(hashOf(c.T, c.redis.Addr, u.User))
			})
		}
	}
	for _, s := range c.sites {
		c.harvest(s.now.Load())
	}
	var table report
	for _, u := range c.ledger.Accounts {
		allowed := int64(0)
		if onFailure == "allow" {
			allowed = c.unchecked[u.User]
		}
		h := hashOf(c.T, c.redis.Addr, u.User)
		c.checkWindows(u, h, allowed)
		counted, charged := countsOf(h, "")
		table.judge(c.T, u, counted, charged, allowed)
		for _, s := range c.sites {
			wantDays(c.T, s.now.Load(), u, counted, charged)
			usage, _ := usage(s.now.Load(), u)
			requests, units := countsOf(h, usage.Period.Start.Format("2006-01"))
			if want := map[bool]int64{false: requests, true: units}[u.Units > 0]; usage.Used != want {
				c.Errorf("user %s: GET /usage says %d, Redis has %d", u.User, usage.Used, want)
			}
		}
	}
	var faults strings.Builder
	for _, name := range slices.Sorted(maps.Keys(c.faults)) {
		fmt.Fprintf(&faults, "%4d %s\n", c.faults[name], name)
	}
	c.Logf("on_failure %s, %v\n%s%s", onFailure, *chaosFor, &table, &faults)
}

// checkWindows checks the counts of the windows against each other and against the limits of a
// minute.
func (c *chaos) checkWindows(u *gatewaytest.Account, hash map[string]string, allowed int64) {
	const month, minute = len("2026-11"), len("2026-11-24T13:05+0000")
	type sums struct{ months, endpoints, minutes int64 }
	var used, extra sums
	for field, value := range hash {
		kind, name, _ := strings.Cut(field, "/")
		sum := map[string]*sums{"used": &used, "extra": &extra}[kind]
		if sum == nil {
			continue
		}
		n, _ := strconv.ParseInt(value, 10, 64)
		window, endpoint, _ := strings.Cut(name, "/")
		limit := map[string]int64{"": 60, "image-analysis": 30}[endpoint]
		switch {
		case len(window) == month && endpoint == "":
			sum.months += n
		case len(window) == month:
			sum.endpoints += n
		case len(window) == minute && kind == "used" && limit > 0 && n > limit+allowed:
			c.Errorf("user %s: %d counted in %s with a limit of %d; the rules allow %d over it", u.User, n, name, limit, allowed)
		}
		if len(window) == minute && endpoint == "" {
			sum.minutes += n
		}
	}
	for kind, n := range map[string]sums{"requests": used, "units beyond one a request": extra} {
		if n.months != n.endpoints || u.Plan == "minutes" && n.months != n.minutes {
			c.Errorf("user %s: %s counted: %d in months, by endpoint %d, in minutes %d", u.User, kind, n.months, n.endpoints, n.minutes)
		}
	}
}
