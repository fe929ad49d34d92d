package redisstore

import (
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/redistest"
)

// usersOfOneSlot returns n users whose keys have the same slot.
func usersOfOneSlot(s *Store, n int) (users []string) {
	slot := redisclient.Slot(key(s, "neighbour"))
	for i := 0; len(users) < n; i++ {
		if user := fmt.Sprint("neighbour-", i); redisclient.Slot(key(s, user)) == slot {
			users = append(users, user)
		}
	}
	return users
}

// A slotMoveTest uses the keys of a slot while the slot moves.
type slotMoveTest struct {
	t      *testing.T
	stores []*Store
	plan   *quota.Plan
	limit  int64
	users  []string
	// counted is what was committed, for each user.
	counted []atomic.Int64

	workers sync.WaitGroup
	moved   atomic.Bool   // workers end when there is nothing more to do
	step    chan struct{} // gets a value when a worker has settled a request
	stopped chan struct{} // closed when all workers have ended
}

// settleOne admits a request of user i and settles it. Not more: the limit is reached.
func (m *slotMoveTest) settleOne(s *Store, i int, commit bool) (more bool, err error) {
	r := requestBy(m.plan, m.users[i])
	r.Lease = 10 * time.Minute
	d, err := s.Reserve(ctx, r)
	if n := d.Snapshot.Total; n.Used+n.Held > m.limit {
		err = fmt.Errorf("%d used and %d held, the limit is %d", n.Used, n.Held, m.limit)
	}
	if err != nil || !d.Admitted {
		return false, err
	}
	settle := s.Release
	if commit {
		settle = s.Commit
		m.counted[i].Add(1)
	}
	for range 2 {
		if _, err := settle(ctx, &d.Reservation); err != nil {
			return true, err
		}
	}
	_, err = s.Read(ctx, m.users[i], m.plan.OnlyChoice())
	return true, err
}

// startWorkers starts a worker for user i on each store.
func (m *slotMoveTest) startWorkers(i int) {
	for _, s := range m.stores {
		m.workers.Go(func() {
			for n := 0; ; n++ {
				more, err := m.settleOne(s, i, n%3 == 0)
				if err != nil {
					m.t.Errorf("%s: %v", m.users[i], err)
					return
				}
				if !more && m.moved.Load() {
					return
				}
				select {
				case m.step <- struct{}{}:
				default:
				}
			}
		})
	}
}

// awaitProgress waits until the workers have settled some requests.
func (m *slotMoveTest) awaitProgress() {
	for range 20 {
		select {
		case <-m.step:
		case <-m.stopped:
			return
		}
	}
}

// testSlotMove checks that every script works at every step of a slot's move, for keys that
// have moved, for those that have not, and for those that do not exist yet.
func testSlotMove(t *testing.T, c *redistest.Cluster) {
	const limit = 300
	stores := []*Store{openWithHistory(t, c.URL()), openWithHistory(t, c.URL())}
	m := &slotMoveTest{
		t: t, stores: stores, plan: quotatest.NewPlan("p", quota.Limit{Amount: limit, Period: quota.Month}), limit: limit,
		users: usersOfOneSlot(stores[0], 5), counted: make([]atomic.Int64, 5),
		step: make(chan struct{}), stopped: make(chan struct{}),
	}
	slot := int(redisclient.Slot(key(stores[0], m.users[0])))
	last := len(m.users) - 1
	for i := range last {
		m.startWorkers(i)
	}
	go func() { m.workers.Wait(); close(m.stopped) }()
	m.awaitProgress()
	for round := range 2 {
		move := c.StartSlotMove(slot)
		m.awaitProgress()
		for i, user := range m.users[:last] {
			move.MoveKey(key(stores[0], user))
			m.awaitProgress()
			if i == 1 && round == 0 {
				m.startWorkers(last) // a user never seen, while the slot is in two places
				m.awaitProgress()
			}
		}
		move.Finish()
		m.awaitProgress()
	}
	m.moved.Store(true)
	m.workers.Wait()
	m.wantExactlyTheLimit()
}

// wantExactlyTheLimit uses up what is left of each user's limit, and compares the counts.
func (m *slotMoveTest) wantExactlyTheLimit() {
	m.t.Helper()
	for i, user := range m.users {
		for more := true; more; { // what another worker gave back at the end
			var err error
			if more, err = m.settleOne(m.stores[0], i, true); err != nil {
				m.t.Fatal(err)
			}
		}
		snap, err := m.stores[1].Read(ctx, user, m.plan.OnlyChoice())
		if n := m.counted[i].Load(); err != nil || n != m.limit || snap.Total.Used != m.limit || snap.Total.Held != 0 {
			m.t.Errorf("%s: %d committed, %d used, %d held (error %v), want %d, %[6]d and 0", user, n, snap.Total.Used, snap.Total.Held, err, m.limit)
		}
		wantHistory(m.t, m.stores[0], user, m.limit)
	}
}
