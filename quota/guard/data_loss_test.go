package guard_test

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// newDenyingRedis is a guarded store that refuses after a loss of data, and knows what data there
// are. It admits requests in an outage.
func newDenyingRedis(t *testing.T) (*guardedRedis, *redisstore.Store) {
	t.Helper()
	r := &guardedRedis{t: t, redis: redistest.Start(t)}
	r.faultProxy = redistest.StartFaultProxy(t, r.redis.Addr)
	journal := openJournal(t, t.TempDir())
	backend, err := redisstore.Open(redisstore.Options{URL: r.faultProxy.URL(), Timeout: 20 * time.Second, Memory: journal, RefuseDataLoss: true, BillingHours: 48})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	r.options = guard.Options{Backend: backend, Journal: journal, AllowOnFailure: true, Timeout: 20 * time.Second,
		Calendar: quota.NewCalendar(nil), Keep: 400 * 24 * time.Hour, BillingHours: 48}
	r.Store = open(t, r.options)
	testkit.Eventually(t, "the data are known", func() bool {
		note, err := journal.LoadNote("redis identity of metergate")
		return err == nil && len(note) > 2
	})
	return r, backend
}

// A user whose count has fallen shows that the data are gone. Then requests are refused,
// except for those that are only observed, until the data are accepted.
func TestFallenCountShowsLostData(t *testing.T) {
	r, backend := newDenyingRedis(t)
	r.use(2, "u", five)
	inFlight := r.admit("v", five)
	r.redis.Do("FLUSHALL")
	testkit.Eventually(t, "requests are refused", func() bool {
		d, err := r.Reserve(ctx, request("u", five))
		return err != nil && !d.Admitted
	})
	observed := request("u", five)
	observed.Observe = true
	if d, err := r.Reserve(ctx, observed); err != nil || !d.Admitted {
		t.Errorf("in observe mode: admitted %v, error %v", d.Admitted, err)
	}
	r.commit(inFlight) // waits
	r.wantState("v", five, "0+0")
	bills := func() error {
		return errors.Join(r.ScanBills(ctx, quota.BillQuery{}, func(quota.AccountBills) error { return nil }), r.EndBills(ctx, "u", nil))
	}
	if err := bills(); err == nil || !strings.Contains(err.Error(), backend.DataLost().Error()) {
		t.Errorf("bills while the data are lost: error %v", err)
	}
	if n, err := backend.AcceptData(ctx); n != 1 || err != nil {
		t.Fatalf("accepted %d, error %v", n, err)
	}
	if err := bills(); err != nil {
		t.Errorf("bills of the data that were accepted: %v", err)
	}
	r.waitForReplay()
	r.use(1, "v", five)
	r.wantState("v", five, "2+0")
}

// The first request on a new connection, which shows that the data are gone, is refused and holds
// nothing.
func TestFirstRequestAfterLossIsRefused(t *testing.T) {
	r, _ := newDenyingRedis(t)
	r.use(2, "u", five)
	other := redistest.Start(t)
	r.faultProxy.SwitchTo(other.Addr)
	r.faultProxy.CutConnections()
	testkit.Eventually(t, "requests are refused", func() bool {
		d, err := r.Reserve(ctx, request("u", five))
		if err == nil && d.Admitted && !d.Reservation.Unchecked {
			t.Error("a request is admitted with the data of another Redis")
		}
		return r.options.Backend.DataLost() != nil
	})
	if users := other.Do("KEYS", "metergate:{*}").([]any); len(users) > 0 {
		t.Errorf("the other Redis has users: %v", users)
	}
	r.wantState("u", five, "0+0")
}

// Counts that wait in the journal are not sent to a Redis that the gateway is led to after an outage,
// and are counted once the right one is back.
func TestJournalWaitsForRightData(t *testing.T) {
	r, backend := newDenyingRedis(t)
	r.use(2, "u", five)
	inFlight := r.admit("u", five)
	r.beginOutage()
	r.use(1, "u", five)
	other := redistest.Start(t)
	r.faultProxy.SwitchTo(other.Addr)
	r.endOutage()
	testkit.Eventually(t, "the loss is known", func() bool { return backend.DataLost() != nil })
	r.commit(inFlight)
	if st := r.Stats(); st.Backlog != 2 || st.Replayed != 0 {
		t.Errorf("%+v, want a backlog of 2 and nothing replayed", st)
	}
	if users := other.Do("KEYS", "metergate:{*}").([]any); len(users) > 0 {
		t.Errorf("the other Redis has users: %v", users)
	}
	r.faultProxy.SwitchTo(r.redis.Addr)
	r.faultProxy.CutConnections()
	r.waitForReplay()
	r.wantState("u", five, "4+0")
}

// A losingStore has other data whenever a reserve or a commit has got a connection.
type losingStore struct {
	*boltstore.Store
	loses, lost atomic.Bool
}

func (l *losingStore) DataLost() error {
	if l.lost.Load() {
		return errors.New("it has other data")
	}
	return nil
}

func (l *losingStore) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	l.lost.Store(l.loses.Load())
	if err := ctx.Err(); err != nil {
		p := r.Plans.Claimed
		return &quota.Decision{Reservation: quota.Reservation{Request: r, Plan: p, Windows: quota.NewCalendar(nil).WindowsAt(p.Periods(), time.Now())}}, err
	}
	return l.Store.Reserve(ctx, r)
}

func (l *losingStore) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	l.lost.Store(l.loses.Load())
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return l.Store.Commit(ctx, r)
}

func (l *losingStore) CommitRest(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	l.lost.Store(l.loses.Load())
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return l.Store.CommitRest(ctx, r)
}

// A call that waits for a connection while the loss becomes known is not sent to the other data,
// and is no failure of the store.
func TestCallDoesNotReachOtherData(t *testing.T) {
	local, err := boltstore.Open(t.TempDir(), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { local.Close() })
	backend := &losingStore{Store: local}
	r := &guardedRedis{t: t, Store: open(t, guard.Options{Backend: backend, Journal: openJournal(t, t.TempDir()), AllowOnFailure: true,
		Timeout: 20 * time.Second, Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour})}
	r.use(1, "u", five)
	inFlight := r.admit("u", five)
	backend.loses.Store(true)
	r.commit(inFlight)
	if s, err := local.Read(ctx, "u", five.OnlyChoice()); err != nil || numbers(s) != "1+1" {
		t.Errorf("the other data have %s, error %v; want 1+1", numbers(s), err)
	}
	if st := r.Stats(); st.Backlog != 1 || st.OpenBreakers != 0 {
		t.Errorf("%+v, want a backlog of 1 and no open breaker", st)
	}
	find := func() { backend.loses.Store(false); backend.lost.Store(false) }
	find()
	r.waitForReplay()
	r.wantState("u", five, "2+0")

	backend.loses.Store(true)
	if d, err := r.Reserve(ctx, request("v", five)); err == nil || d.Admitted {
		t.Errorf("a reserve: admitted %v, error %v; want the loss", d.Admitted, err)
	}
	observed := request("v", five)
	observed.Observe = true
	find()
	backend.loses.Store(true)
	if d, err := r.Reserve(ctx, observed); err != nil || !d.Admitted {
		t.Errorf("in observe mode: admitted %v, error %v", d.Admitted, err)
	}
	if s, err := local.Read(ctx, "v", five.OnlyChoice()); err != nil || numbers(s) != "0+0" {
		t.Errorf("the other data have %s, error %v; want 0+0", numbers(s), err)
	}
	if st := r.Stats(); st.OpenBreakers != 0 {
		t.Errorf("%+v, want no open breaker", st)
	}
}

// A note outlives the journal's process, and a journal that is written again.
func TestJournalKeepsNotes(t *testing.T) {
	dir := t.TempDir()
	j := openJournal(t, dir)
	if note, err := j.LoadNote("a"); note != nil || err != nil {
		t.Errorf("a new journal has the note %q, error %v", note, err)
	}
	for _, note := range []string{"1", "2"} {
		if err := j.SaveNote("a", []byte(note)); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	j = openJournal(t, dir)
	defer j.Close()
	if note, err := j.LoadNote("a"); string(note) != "2" || err != nil {
		t.Errorf("note %q, error %v", note, err)
	}
}
