package redisstore_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
)

// slow is a timeout that no working Redis needs, however busy the machine.
const slow = 20 * time.Second

// open opens a store on a Redis of its own prefix; time is the clock's.
func open(t testing.TB, url string, clock *quotatest.Clock, calendar *quota.Calendar) *redisstore.Store {
	t.Helper()
	s, err := redisstore.Open(redisstore.Options{
		URL: url, Prefix: "test-" + quota.NewID(), Timeout: slow, Calendar: calendar,
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

// gateways are several with clocks that are wrong, and one Redis: each call goes to
// another of them.
type gateways struct {
	all  []*redisstore.Store
	next atomic.Int64
}

func (g *gateways) one() *redisstore.Store { return g.all[int(g.next.Add(1))%len(g.all)] }

func (g *gateways) Reserve(ctx context.Context, r quota.Request) (*quota.Decision, error) {
	return g.one().Reserve(ctx, r)
}
func (g *gateways) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	return g.one().Commit(ctx, r)
}
func (g *gateways) Release(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	return g.one().Release(ctx, r)
}
func (g *gateways) Read(ctx context.Context, user string, t quota.PlanChoice) (quota.Snapshot, error) {
	return g.one().Read(ctx, user, t)
}
func (g *gateways) ApplyChange(ctx context.Context, user string, t quota.PlanChoice, c quota.Change) (quota.Snapshot, error) {
	return g.one().ApplyChange(ctx, user, t, c)
}
func (g *gateways) ReadAt(ctx context.Context, user string, t quota.PlanChoice, at time.Time) (quota.Snapshot, error) {
	return g.one().ReadAt(ctx, user, t, at)
}
func (g *gateways) ClaimedPlan(ctx context.Context, user string) (string, error) {
	return g.one().ClaimedPlan(ctx, user)
}
func (g *gateways) AuditLog(ctx context.Context, user string) ([]quota.AuditEntry, error) {
	return g.one().AuditLog(ctx, user)
}
func (g *gateways) ScanUsers(ctx context.Context, per quota.Period, at time.Time, yield func(quota.UserUsage) error) error {
	return g.one().ScanUsers(ctx, per, at, yield)
}
func (g *gateways) Watch(user string, ch chan<- struct{}) (stop func()) {
	return g.one().Watch(user, ch)
}
func (g *gateways) Forget(r *quota.Reservation) { g.one().Forget(r) }

// The suite on three gateways whose clocks are ten minutes slow, right and ten
// minutes fast: Redis's time is what counts.
func TestSuiteWithWrongClocks(t *testing.T) {
	url := redistest.Start(t).URL()
	quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
		g, prefix := new(gateways), "test-"+quota.NewID()
		for _, wrong := range []time.Duration{-10 * time.Minute, 0, 10 * time.Minute} {
			s, err := redisstore.Open(redisstore.Options{
				URL: url, Prefix: prefix, Timeout: slow, Calendar: calendar,
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
	})
}

// The suite on miniredis needs no server. Its clock does not move by itself, and
// keys do not expire.
func TestSuiteMiniredis(t *testing.T) {
	url := "redis://" + miniredis.RunT(t).Addr()
	quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
		return open(t, url, clock, calendar)
	})
}
