package redisstore_test

import (
	"context"
	"flag"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
)

// patient is a timeout that no working Redis needs, however busy the machine.
const patient = 20 * time.Second

// open opens a store with a prefix of its own, whose time is the clock's.
func open(t testing.TB, url string, clock *quotatest.Clock, calendar *quota.Calendar) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(redisstore.Options{
		URL: url, Prefix: "test-" + quota.NewID(), Timeout: patient, Calendar: calendar,
		Now:    clock.Now,
		Offset: clock.Offset,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestSuite(t *testing.T) {
	url := redistest.Start(t).URL()
	quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
		return open(t, url, clock, calendar)
	})
}

// gateways are several stores on one Redis. Each call goes to the next of them.
type gateways struct {
	all        []*redisstore.Store
	next       atomic.Int64
	reservedBy sync.Map // the *redisstore.Store by the ID of a reservation
}

func (g *gateways) nextStore() *redisstore.Store { return g.all[int(g.next.Add(1))%len(g.all)] }

// answering is the gateway that has the response to a request: it keeps the rest.
func (g *gateways) answering(r *quota.Reservation) *redisstore.Store {
	return g.all[int(r.ID[len(r.ID)-1])%len(g.all)]
}

func (g *gateways) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	s := g.nextStore()
	g.reservedBy.Store(r.ID, s)
	return s.Reserve(ctx, r)
}
func (g *gateways) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	return g.answering(r).Commit(ctx, r)
}
func (g *gateways) CommitRest(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	return g.answering(r).CommitRest(ctx, r)
}
func (g *gateways) Release(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	return g.nextStore().Release(ctx, r)
}
func (g *gateways) Read(ctx context.Context, user string, plans quota.PlanChoice) (quota.Snapshot, error) {
	return g.nextStore().Read(ctx, user, plans)
}
func (g *gateways) ApplyChange(ctx context.Context, user string, plans quota.PlanChoice, c quota.Change) (quota.Snapshot, error) {
	return g.nextStore().ApplyChange(ctx, user, plans, c)
}
func (g *gateways) ReadAt(ctx context.Context, user string, plans quota.PlanChoice, at time.Time) (quota.Snapshot, error) {
	return g.nextStore().ReadAt(ctx, user, plans, at)
}
func (g *gateways) History(ctx context.Context, account string, days int) (quota.History, error) {
	return g.nextStore().History(ctx, account, days)
}
func (g *gateways) ClaimedPlan(ctx context.Context, user string) (string, error) {
	return g.nextStore().ClaimedPlan(ctx, user)
}
func (g *gateways) AuditLog(ctx context.Context, user string) ([]quota.AuditEntry, error) {
	return g.nextStore().AuditLog(ctx, user)
}
func (g *gateways) ScanUsers(ctx context.Context, windows quota.WindowQuery, yield func(quota.UserUsage) error) error {
	return g.nextStore().ScanUsers(ctx, windows, yield)
}
func (g *gateways) ScanMembers(ctx context.Context, org string, windows quota.WindowQuery, yield func(quota.UserUsage) error) error {
	return g.nextStore().ScanMembers(ctx, org, windows, yield)
}
func (g *gateways) Running(ctx context.Context, account string) (int64, error) {
	return g.nextStore().Running(ctx, account)
}
func (g *gateways) ScanSnapshots(ctx context.Context, query quota.SnapshotQuery, yield func(quota.UserSnapshot) error) error {
	return g.nextStore().ScanSnapshots(ctx, query, yield)
}
func (g *gateways) Replay(ctx context.Context, user string, requests, rests []quota.Reservation) error {
	return g.nextStore().Replay(ctx, user, requests, rests)
}
func (g *gateways) ClaimCrossings(ctx context.Context, most int) (quota.CrossingClaims, error) {
	return g.nextStore().ClaimCrossings(ctx, most)
}
func (g *gateways) CrossingsOf(ctx context.Context, account string) ([]quota.Crossing, error) {
	return g.nextStore().CrossingsOf(ctx, account)
}
func (g *gateways) EndCrossings(ctx context.Context, account string, ids []string) error {
	return g.nextStore().EndCrossings(ctx, account, ids)
}
func (g *gateways) EndClaim(ctx context.Context, claim quota.CrossingClaim, again time.Duration) error {
	return g.nextStore().EndClaim(ctx, claim, again)
}
func (g *gateways) ScanBills(ctx context.Context, q quota.BillQuery, yield func(quota.AccountBills) error) error {
	return g.nextStore().ScanBills(ctx, q, yield)
}
func (g *gateways) EndBills(ctx context.Context, account string, bills []quota.Bill) error {
	return g.nextStore().EndBills(ctx, account, bills)
}
func (g *gateways) Watch(user string, ch chan<- struct{}) (stop func()) {
	return g.nextStore().Watch(user, ch)
}
func (g *gateways) Forget(r *quota.Reservation) { g.answering(r).Forget(r) }

// Leave is for the gateway that runs the request: it renews the place until then.
func (g *gateways) Leave(r *quota.Reservation) {
	if s, ok := g.reservedBy.Load(r.ID); ok {
		s.(*redisstore.Store).Leave(r)
	}
}

// TestSuiteWithWrongClocks runs the suite on three gateways whose clocks are ten minutes slow,
// right and ten minutes fast: only Redis's time matters.
func TestSuiteWithWrongClocks(t *testing.T) {
	url := redistest.Start(t).URL()
	quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
		return openGateways(t, url, clock, calendar)
	})
}

// openGateways opens three gateways whose clocks are ten minutes slow, right and ten minutes fast.
func openGateways(t testing.TB, url string, clock *quotatest.Clock, calendar *quota.Calendar) *gateways {
	t.Helper()
	g, prefix := new(gateways), "test-"+quota.NewID()
	for _, wrong := range []time.Duration{-10 * time.Minute, 0, 10 * time.Minute} {
		s, err := redisstore.Open(redisstore.Options{
			URL: url, Prefix: prefix, Timeout: patient, Calendar: calendar,
			Now:    func() time.Time { return clock.Now().Add(wrong) },
			Offset: clock.Offset,
		})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		g.all = append(g.all, s)
	}
	return g
}

func TestCrossingsSuite(t *testing.T) {
	url := redistest.Start(t).URL()
	quotatest.RunCrossings(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
		return open(t, url, clock, calendar)
	})
}

// Crossings are those of all gateways together, and their times those of Redis.
func TestCrossingsSuiteWithWrongClocks(t *testing.T) {
	url := redistest.Start(t).URL()
	quotatest.RunCrossingCases(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
		return openGateways(t, url, clock, calendar)
	})
}

// TestSuiteMiniredis runs the suite where no redis-server is installed. The clock of miniredis
// does not move by itself, and keys do not expire. It compiles a script at each call, which is slow,
// so the models draw a fifth of the sequences.
func TestSuiteMiniredis(t *testing.T) {
	checks := flag.Lookup("rapid.checks").Value
	before := checks.String()
	if n, err := strconv.Atoi(before); err == nil {
		checks.Set(strconv.Itoa(n / 5))
	}
	t.Cleanup(func() { checks.Set(before) })
	url := "redis://" + miniredis.RunT(t).Addr()
	quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
		return open(t, url, clock, calendar)
	})
}

// openForHistory opens a store for quotatest.RunHistory, whose clock is wrong.
func openForHistory(t testing.TB, url string, s quotatest.HistorySetup, wrong time.Duration) *redisstore.Store {
	t.Helper()
	store, err := redisstore.Open(redisstore.Options{
		URL: url, Prefix: "test-" + s.Data, Timeout: patient, Calendar: s.Calendar, Keep: s.Keep, HistoryDays: s.HistoryDays,
		Now:    func() time.Time { return s.Clock.Now().Add(wrong) },
		Offset: s.Clock.Offset,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func TestHistorySuite(t *testing.T) {
	url := redistest.Start(t).URL()
	quotatest.RunHistory(t, func(t testing.TB, s quotatest.HistorySetup) quota.Store {
		return openForHistory(t, url, s, 0)
	})
}

// Days are those of Redis's clock, whichever gateway counts and reads.
func TestHistorySuiteWithWrongClocks(t *testing.T) {
	url := redistest.Start(t).URL()
	quotatest.RunHistory(t, func(t testing.TB, s quotatest.HistorySetup) quota.Store {
		g := new(gateways)
		for _, wrong := range []time.Duration{-10 * time.Minute, 0, 10 * time.Minute} {
			g.all = append(g.all, openForHistory(t, url, s, wrong))
		}
		return g
	})
}

// openForBills opens a store for quotatest.RunBills, whose clock is wrong.
func openForBills(t testing.TB, url string, s quotatest.BillsSetup, wrong time.Duration) *redisstore.Store {
	t.Helper()
	store, err := redisstore.Open(redisstore.Options{
		URL: url, Prefix: "test-" + s.Data, Timeout: patient, Keep: s.Keep, HistoryDays: s.HistoryDays, BillingHours: s.BillingHours,
		Now:    func() time.Time { return s.Clock.Now().Add(wrong) },
		Offset: s.Clock.Offset,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store
}

func TestBillsSuite(t *testing.T) {
	url := redistest.Start(t).URL()
	quotatest.RunBills(t, func(t testing.TB, s quotatest.BillsSetup) quota.Store { return openForBills(t, url, s, 0) })
}

// Hours are those of Redis's clock, whichever gateway counts and bills.
func TestBillsSuiteWithWrongClocks(t *testing.T) {
	url := redistest.Start(t).URL()
	quotatest.RunBills(t, func(t testing.TB, s quotatest.BillsSetup) quota.Store {
		g := new(gateways)
		for _, wrong := range []time.Duration{-10 * time.Minute, 0, 10 * time.Minute} {
			g.all = append(g.all, openForBills(t, url, s, wrong))
		}
		return g
	})
}
