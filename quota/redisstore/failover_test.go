package redisstore

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/redistest"
)

func TestClusterFailover(t *testing.T) {
	c := redistest.StartCluster(t, true)
	f := newFailoverTest(t, c.URL())
	slot := int(redisclient.Slot(key(f.store, f.user)))
	f.run(func() { c.Master(slot).AwaitReplication(key(f.store, f.user)) }, func() {
		old := c.Kill(slot)
		c.AwaitPromotion(slot, old)
	})
	if err := f.eventually(func() error { return f.store.Check(ctx) }); err != nil {
		t.Errorf("Ping when the cluster is well again: %v", err)
	}
}

// A failoverTest has a store that is in use while its Redis fails over.
type failoverTest struct {
	t     testing.TB
	store *Store
	user  string
	plan  *quota.Plan
}

func newFailoverTest(t testing.TB, url string) *failoverTest {
	s := openWith(t, Options{URL: url, Timeout: time.Second, HistoryDays: historyDays})
	return &failoverTest{t, s, "u-" + quota.NewID(), quotatest.NewPlan("p", quota.Limit{Amount: 1e6, Period: quota.Month})}
}

// eventually repeats a call until it succeeds, for a minute at most. No call may take much
// longer than the store's timeout.
func (f *failoverTest) eventually(call func() error) error {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // polling a process from outside
		start := time.Now()
		err := call()
		if took := time.Since(start); took > f.store.timeout+bound {
			f.t.Errorf("a call took %v (error %v), the timeout is %v", took, err, f.store.timeout)
		}
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}

// reserve makes a reservation. It releases ids that were not answered, as a gateway does.
func (f *failoverTest) reserve() (quota.Reservation, error) {
	var r quota.Reservation
	var unanswered []quota.Reservation
	err := f.eventually(func() error {
		request := requestBy(f.plan, f.user)
		request.Lease = 10 * time.Minute
		d, err := f.store.Reserve(ctx, request)
		if r = d.Reservation; err != nil {
			unanswered = append(unanswered, r)
		}
		return err
	})
	for _, u := range unanswered {
		if err := f.settle(u, false); err != nil {
			return r, err
		}
	}
	return r, err
}

// settle commits or, without count, releases until it is answered.
func (f *failoverTest) settle(r quota.Reservation, count bool) error {
	return f.eventually(func() error {
		_, err := settleBy(f.store, &r, count)
		return err
	})
}

func (f *failoverTest) mustSettle(rs []quota.Reservation, count bool) {
	f.t.Helper()
	for _, r := range rs {
		if err := f.settle(r, count); err != nil {
			f.t.Fatal(err)
		}
	}
}

func (f *failoverTest) reserveAndRelease() error {
	r, err := f.reserve()
	if err == nil {
		err = f.settle(r, false)
	}
	return err
}

// period reads the user's counts until that succeeds.
func (f *failoverTest) period() (quota.Count, error) {
	var snap quota.Snapshot
	err := f.eventually(func() (err error) {
		snap, err = f.store.Read(ctx, f.user, f.plan.OnlyChoice())
		return err
	})
	return snap.Total, err
}

func (f *failoverTest) wantState(when string, used, held int64) {
	f.t.Helper()
	n, err := f.period()
	if err != nil || n.Used != used || n.Held != held {
		f.t.Errorf("%s: %d used, %d held (error %v), want %d and %d", when, n.Used, n.Held, err, used, held)
	}
	wantHistory(f.t, f.store, f.user, used)
}

// openConnections opens so many connections to one Redis, and leaves them idle.
func (f *failoverTest) openConnections(n int) {
	f.t.Helper()
	for range n {
		c := commands(f.store).(*redis.Client).Conn()
		defer c.Close()
		if err := c.Ping(ctx).Err(); err != nil {
			f.t.Fatal(err)
		}
	}
}

// run makes a failover under load. What was replicated before it must be there after it. What
// was answered later may be lost with the old master, but nothing may count twice, and all of
// it can be sent again.
func (f *failoverTest) run(awaitReplication, failOver func()) {
	f.t.Helper()
	var committed, held []quota.Reservation
	for i := range 25 {
		r, err := f.reserve()
		if err == nil && i < 20 {
			err = f.settle(r, true)
			committed = append(committed, r)
		} else {
			held = append(held, r)
		}
		if err != nil {
			f.t.Fatal(err)
		}
	}
	awaitReplication()
	f.wantState("before the failover", 20, 5)
	late, released := f.underLoad(failOver)
	committed = append(committed, late...)
	n, err := f.period()
	if err != nil || n.Used < 20 || n.Used > int64(len(committed)) || n.Held < 5 {
		f.t.Errorf("after the failover: %d used, %d held (error %v), want 20 to %d and at least 5", n.Used, n.Held, err, len(committed))
	}
	f.t.Logf("%d of %d commits and %d holds are there after the failover", n.Used, len(committed), n.Held)
	f.mustSettle(committed[:20], true) // were replicated, and are known
	f.wantState("when replicated commits are repeated", n.Used, n.Held)
	for range 2 {
		f.mustSettle(append(committed, held...), true)
		f.mustSettle(released, false)
	}
	f.wantState("when all is sent again, twice", int64(len(committed)+len(held)), 0)
}

// underLoad makes a failover while workers reserve and settle, and returns when they get
// answers again. It returns what they have settled.
func (f *failoverTest) underLoad(failOver func()) (committed, released []quota.Reservation) {
	var workers sync.WaitGroup
	var mu sync.Mutex
	var over atomic.Bool
	step, stopped := make(chan struct{}), make(chan struct{})
	awaitProgress := func() {
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
				count := n%2 == 1
				r, err := f.reserve()
				if err == nil {
					err = f.settle(r, count)
				}
				if err != nil {
					f.t.Errorf("under load: %v", err)
					return
				}
				mu.Lock()
				if count {
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
	awaitProgress()
	failOver()
	awaitProgress() // service is back without anybody's help
	over.Store(true)
	workers.Wait()
	return committed, released
}
