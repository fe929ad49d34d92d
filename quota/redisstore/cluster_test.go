package redisstore

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// patient is a timeout that no working Redis needs, however busy the machine.
const patient = 20 * time.Second

func TestCluster(t *testing.T) {
	c := redistest.StartCluster(t, false)
	t.Run("suite", func(t *testing.T) {
		quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
			s, err := Open(Options{
				URL: c.URL(), Prefix: "test-" + quota.NewID(), Timeout: patient, Calendar: calendar, Now: clock.Now,
				Offset: clock.Offset,
			})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { s.Close() })
			return s
		})
	})
	t.Run("exactly the limit through three gateways", func(t *testing.T) { testThreeGateways(t, c) })
	t.Run("a slot moves while it is used", func(t *testing.T) { testMove(t, c) })
	t.Run("every master is checked", func(t *testing.T) {
		c.Nodes[0].Do("CONFIG", "SET", "save", "3600 1")
		addrs := []string{c.Nodes[1].Addr, c.Nodes[2].Addr}
		slices.Sort(addrs)
		wantWarnings(t, "two of three without persistence", c.URL(), strings.Join(addrs, ", ")+": Redis keeps nothing on disk")
	})
}

func testThreeGateways(t *testing.T, c *redistest.Cluster) {
	stores := []*Store{openStore(t, c.URL()), openStore(t, c.URL()), openStore(t, c.URL())}
	var wait sync.WaitGroup
	var admitted atomic.Int64
	for i := range 1000 {
		wait.Go(func() {
			s := stores[i%len(stores)]
			d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "three", Endpoint: "analyze", Plans: plan.OnlyChoice(), Lease: time.Minute})
			if err != nil {
				t.Errorf("Reserve: %v", err)
			}
			if d.Admitted {
				admitted.Add(1)
				// It is settled through another gateway than the one that admitted it.
				if _, err := stores[(i+1)%len(stores)].Commit(ctx, &d.Reservation); err != nil {
					t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	wait.Wait()
	if n := admitted.Load(); n != 100 {
		t.Errorf("%d of 1000 were admitted, want 100", n)
	}
	for i, s := range stores {
		snap, err := s.Read(ctx, "three", plan.OnlyChoice())
		if err != nil || snap.Total.Used != 100 || snap.Total.Held != 0 {
			t.Errorf("gateway %d: %d used, %d held (error %v), want 100 and 0", i, snap.Total.Used, snap.Total.Held, err)
		}
	}
}

// neighbours returns n users whose keys have the same slot.
func neighbours(s *Store, n int) (users []string) {
	slot := slotOf(s.key("neighbour"))
	for i := 0; len(users) < n; i++ {
		if user := fmt.Sprint("neighbour-", i); slotOf(s.key(user)) == slot {
			users = append(users, user)
		}
	}
	return users
}

// Every script works at every step of a slot's move, for keys that have moved, for
// those that have not and for those that do not exist yet.
func testMove(t *testing.T, c *redistest.Cluster) {
	const limit = 300
	plan := quotatest.NewPlan("p", quota.Limit{Requests: limit, Period: quota.Month})
	stores := []*Store{openStore(t, c.URL()), openStore(t, c.URL())}
	users := neighbours(stores[0], 5)
	slot := int(slotOf(stores[0].key(users[0])))

	var workers sync.WaitGroup
	var moved atomic.Bool
	counted := make([]atomic.Int64, len(users))
	step, stopped := make(chan struct{}), make(chan struct{})
	// once admits a request and settles it; not more: the limit is reached.
	once := func(s *Store, i int, commit bool) (more bool, err error) {
		d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: users[i], Endpoint: "analyze", Plans: plan.OnlyChoice(), Lease: 10 * time.Minute})
		if n := d.Snapshot.Total; n.Used+n.Held > limit {
			err = fmt.Errorf("%d used and %d held, the limit is %d", n.Used, n.Held, limit)
		}
		if err != nil || !d.Admitted {
			return false, err
		}
		settle := s.Release
		if commit {
			settle = s.Commit
			counted[i].Add(1)
		}
		for range 2 {
			if _, err := settle(ctx, &d.Reservation); err != nil {
				return true, err
			}
		}
		_, err = s.Read(ctx, users[i], plan.OnlyChoice())
		return true, err
	}
	work := func(i int, s *Store) {
		for n := 0; ; n++ {
			more, err := once(s, i, n%3 == 0)
			if err != nil {
				t.Errorf("%s: %v", users[i], err)
				return
			}
			if !more && moved.Load() {
				return
			}
			select {
			case step <- struct{}{}:
			default:
			}
		}
	}
	start := func(i int) {
		for _, s := range stores {
			workers.Go(func() { work(i, s) })
		}
	}
	// progress waits until the workers have done something.
	progress := func() {
		for range 20 {
			select {
			case <-step:
			case <-stopped:
				return
			}
		}
	}

	last := len(users) - 1
	for i := range last {
		start(i)
	}
	go func() { workers.Wait(); close(stopped) }()
	progress()
	for round := range 2 {
		m := c.Move(slot)
		progress()
		for i, user := range users[:last] {
			m.Key(stores[0].key(user))
			progress()
			if i == 1 && round == 0 {
				start(last) // a user never seen, while the slot is in two places
				progress()
			}
		}
		m.Finish()
		progress()
	}
	moved.Store(true)
	workers.Wait()
	for i, user := range users {
		for more := true; more; { // what another worker gave back at the end
			var err error
			if more, err = once(stores[0], i, true); err != nil {
				t.Fatal(err)
			}
		}
		snap, err := stores[1].Read(ctx, user, plan.OnlyChoice())
		if n := counted[i].Load(); err != nil || n != limit || snap.Total.Used != limit || snap.Total.Held != 0 {
			t.Errorf("%s: %d committed, %d used, %d held (error %v), want %d, %[6]d and 0", user, n, snap.Total.Used, snap.Total.Held, err, limit)
		}
	}
}

func TestClusterFailover(t *testing.T) {
	c := redistest.StartCluster(t, true)
	f := newFaulty(t, c.URL())
	slot := int(slotOf(f.store.key(f.user)))
	f.run(func() { c.Master(slot).Replicated(f.store.key(f.user)) }, func() {
		old := c.Kill(slot)
		c.Promoted(slot, old)
	})
	if err := f.eventually(func() error { return f.store.Ping(ctx) }); err != nil {
		t.Errorf("Ping when the cluster is well again: %v", err)
	}
}

// A script whose answer is lost is sent once, to a cluster as well.
func TestClusterOneTry(t *testing.T) {
	node := redistest.Start(t, "--cluster-enabled", "yes")
	cable := redistest.Connect(t, node.Addr)
	_, port, _ := net.SplitHostPort(cable.Addr)
	node.Do("CONFIG", "SET", "cluster-announce-port", port)
	node.Do("CONFIG", "SET", "cluster-announce-ip", "127.0.0.1")
	node.Do("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
	for _, c := range []struct {
		fate    redistest.Fate
		timeout time.Duration
	}{{redistest.Cut, patient}, {redistest.Swallow, 500 * time.Millisecond}} {
		s, err := Open(Options{URL: "redis+cluster://" + cable.Addr, Timeout: c.timeout})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		f := &faulty{t, s, "u", plan}
		if err := f.reserveAndRelease(); err != nil {
			t.Fatal(err)
		}
		var lost atomic.Int64
		cable.OnReply(func(cmd redistest.Command, _ string) redistest.Fate {
			if cmd.Script() == "reserve" {
				lost.Add(1)
				return c.fate
			}
			return redistest.Pass
		})
		before := node.Calls()
		if _, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: plan.OnlyChoice(), Lease: time.Minute}); err == nil {
			t.Error("a lost answer: no error")
		}
		cable.OnReply(nil)
		if n := node.Calls() - before; n != 1 || lost.Load() != 1 {
			t.Errorf("the script was sent %d times, and lost %d times, want once", n, lost.Load())
		}
	}
}

// Ping asks every master: one that is down shows, wherever the users' keys are.
func TestClusterPing(t *testing.T) {
	c := redistest.StartCluster(t, false)
	s, err := Open(Options{URL: c.URL(), Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f := &faulty{t: t, store: s}
	for _, node := range c.Nodes {
		if err := f.eventually(func() error { return s.Ping(ctx) }); err != nil {
			t.Fatalf("Ping of a cluster that is well: %v", err)
		}
		node.Pause()
		if err := s.Ping(ctx); err == nil {
			t.Errorf("Ping without %s: no error", node.Addr)
		}
		node.Resume()
	}
}

// faulty is a store that is in use while its Redis fails over.
type faulty struct {
	t     testing.TB
	store *Store
	user  string
	plan  *quota.Plan
}

func newFaulty(t testing.TB, url string) *faulty {
	s, err := Open(Options{URL: url, Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return &faulty{t, s, "u-" + quota.NewID(), quotatest.NewPlan("p", quota.Limit{Requests: 1e6, Period: quota.Month})}
}

// eventually repeats a call until it succeeds, at most a minute; none of them may
// take much longer than the store's timeout.
func (f *faulty) eventually(call func() error) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // polling a process from outside
		start := time.Now()
		err := call()
		if took := time.Since(start); took > 5*f.store.timeout {
			f.t.Errorf("a call took %v (error %v), the timeout is %v", took, err, f.store.timeout)
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// reserve makes a reservation. Ids that were not answered are given up, as a
// gateway does.
func (f *faulty) reserve() (quota.Reservation, error) {
	var r quota.Reservation
	var unanswered []quota.Reservation
	err := f.eventually(func() error {
		d, err := f.store.Reserve(ctx, quota.Request{ID: quota.NewID(), User: f.user, Endpoint: "analyze", Plans: f.plan.OnlyChoice(), Lease: 10 * time.Minute})
		if r = d.Reservation; err != nil {
			unanswered = append(unanswered, r)
		}
		return err
	})
	for _, u := range unanswered {
		if err := f.settle(u, 0); err != nil {
			return r, err
		}
	}
	return r, err
}

// settle commits or releases until it is answered.
func (f *faulty) settle(r quota.Reservation, count int) error {
	return f.eventually(func() error {
		_, err := f.store.settle(ctx, &r, count)
		return err
	})
}

func (f *faulty) want(when string, used, held int64) {
	f.t.Helper()
	var snap quota.Snapshot
	err := f.eventually(func() (err error) {
		snap, err = f.store.Read(ctx, f.user, f.plan.OnlyChoice())
		return err
	})
	if err != nil || snap.Total.Used != used || snap.Total.Held != held {
		f.t.Errorf("%s: %d used, %d held (error %v), want %d and %d", when, snap.Total.Used, snap.Total.Held, err, used, held)
	}
}

// run makes a failover under load. What was replicated before is there after it;
// what was answered later may be lost with the old master, but nothing counts
// twice, and all of it can be sent again.
func (f *faulty) run(replicated, failover func()) {
	f.t.Helper()
	var committed, held, released []quota.Reservation
	for i := range 25 {
		r, err := f.reserve()
		if err == nil && i < 20 {
			err = f.settle(r, 1)
			committed = append(committed, r)
		} else {
			held = append(held, r)
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
	replicated()
	f.want("before the failover", 20, 5)

	var workers sync.WaitGroup
	var mu sync.Mutex
	var over atomic.Bool
	step, stopped := make(chan struct{}), make(chan struct{})
	progress := func() {
		for range 100 {
			select {
			case <-step:
			case <-stopped:
				return
			}
		}
	}
	for range 4 {
		workers.Go(func() {
			for n := 0; !over.Load(); n++ {
				r, err := f.reserve()
				if err == nil {
					err = f.settle(r, n%2)
				}
				if err != nil {
					f.t.Errorf("under load: %v", err)
					return
				}
				mu.Lock()
				if n%2 == 1 {
					committed = append(committed, r)
				} else {
					released = append(released, r)
				}
				mu.Unlock()
				select {
				case step <- struct{}{}:
				default:
				}
			}
		})
	}
	go func() { workers.Wait(); close(stopped) }()
	progress()
	failover()
	progress() // service is back without anybody's help
	over.Store(true)
	workers.Wait()
	var snap quota.Snapshot
	err := f.eventually(func() (err error) {
		snap, err = f.store.Read(ctx, f.user, f.plan.OnlyChoice())
		return err
	})
	if n := snap.Total; err != nil || n.Used < 20 || n.Used > int64(len(committed)) || n.Held < 5 {
		f.t.Errorf("after the failover: %d used, %d held (error %v), want 20 to %d and at least 5", n.Used, n.Held, err, len(committed))
	}
	f.t.Logf("%d of %d commits and %d holds are there after the failover", snap.Total.Used, len(committed), snap.Total.Held)
	for _, r := range committed[:20] { // were replicated, and are known
		if err := f.settle(r, 1); err != nil {
			f.t.Fatal(err)
		}
	}
	f.want("when replicated commits are repeated", snap.Total.Used, snap.Total.Held)
	for range 2 {
		for _, r := range append(committed, held...) {
			if err := f.settle(r, 1); err != nil {
				f.t.Fatal(err)
			}
		}
		for _, r := range released {
			if err := f.settle(r, 0); err != nil {
				f.t.Fatal(err)
			}
		}
	}
	f.want("when all is sent again, twice", int64(len(committed)+len(held)), 0)
}

// connections has so many of them open and idle, to one Redis.
func (f *faulty) connections(n int) {
	f.t.Helper()
	for range n {
		c := f.store.client.(*redis.Client).Conn()
		defer c.Close()
		if err := c.Ping(ctx).Err(); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *faulty) reserveAndRelease() error {
	r, err := f.reserve()
	if err == nil {
		err = f.settle(r, 0)
	}
	return err
}
