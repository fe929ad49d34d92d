package redisstore

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/script"
	"metergate/quota/testkit"
)

var (
	ctx = context.Background()
	// plan is the plan of users for whom it does not matter: 100 requests a month.
	plan = quotatest.NewPlan("free", quota.Limit{Amount: 100, Period: quota.Month})
)

// patient is a timeout that no working Redis needs, however busy the machine.
const patient = 20 * time.Second

// openStore opens a store that never gives up a working Redis.
func openStore(t testing.TB, url string) *Store {
	t.Helper()
	return openWith(t, Options{URL: url, Timeout: patient})
}

// historyDays is how many days stores of tests keep, if they keep a history.
const historyDays = 35

// openWithHistory is openStore for a store that keeps a history.
func openWithHistory(t testing.TB, url string) *Store {
	t.Helper()
	return openWith(t, Options{URL: url, Timeout: patient, HistoryDays: historyDays})
}

// openWith opens a store for the time of a test.
func openWith(t testing.TB, opt Options) *Store {
	t.Helper()
	s, err := Open(opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// openAt opens a patient store whose time is a clock's.
func openAt(t testing.TB, url string, clock *quotatest.Clock) *Store {
	t.Helper()
	return openWith(t, Options{URL: url, Timeout: patient, Now: clock.Now, Offset: clock.Offset})
}

// openLike is openAt for a store with other options as well.
func openLike(t testing.TB, opt Options, url string, clock *quotatest.Clock) *Store {
	t.Helper()
	opt.URL, opt.Timeout, opt.Now, opt.Offset = url, patient, clock.Now, clock.Offset
	return openWith(t, opt)
}

// withFunctionsAndWithout runs a test for stores by which functions of Redis serve plain requests, and for those that
// only have scripts.
func withFunctionsAndWithout(t *testing.T, test func(t *testing.T, opt Options)) {
	t.Run("functions", func(t *testing.T) { test(t, Options{functionsFirst: true}) })
	t.Run("scripts", func(t *testing.T) { test(t, Options{scriptsOnly: true}) })
}

// commands returns the store's own go-redis client, to look into Redis.
func commands(s *Store) (client redis.UniversalClient) {
	s.client.Do(ctx, func(_ context.Context, r redis.UniversalClient) error { client = r; return nil })
	return client
}

// key returns the name of a user's hash.
func key(s *Store, user string) string { return script.Key(s.prefix, user) }

// newRequest returns a request of a user by plan.
func newRequest(user string) quota.Request { return requestBy(plan, user) }

// requestBy returns a request of a user by some plan.
func requestBy(p *quota.Plan, user string) quota.Request {
	return quota.Request{ID: quota.NewID(), User: user, Endpoint: "analyze", Plans: p.OnlyChoice(), Lease: time.Minute}
}

// mustReserve reserves where nothing is in the way.
func mustReserve(t testing.TB, s *Store, user string) quota.Reservation {
	t.Helper()
	d, err := s.Reserve(ctx, newRequest(user))
	if err != nil || !d.Admitted {
		t.Fatalf("admitted %v, error %v", d.Admitted, err)
	}
	return d.Reservation
}

// wantState compares what Redis has of a user. A history has all that is used.
func wantState(t testing.TB, s *Store, user string, used, held int64) {
	t.Helper()
	snap, err := s.Read(ctx, user, plan.OnlyChoice())
	if err != nil || snap.Total.Used != used || snap.Total.Held != held {
		t.Errorf("%d used, %d held (error %v), want %d and %d", snap.Total.Used, snap.Total.Held, err, used, held)
	}
	wantHistory(t, s, user, used)
}

// waitForState waits until a user has a state, because a call that was not answered may still be on its way.
func waitForState(t testing.TB, s *Store, user string, used, held int64) {
	t.Helper()
	testkit.Eventually(t, fmt.Sprintf("%d used, %d held", used, held), func() bool {
		snap, err := s.Read(ctx, user, plan.OnlyChoice())
		return err == nil && snap.Total.Used == used && snap.Total.Held == held
	})
	wantHistory(t, s, user, used)
}

// wantHistory compares the history of an account, if the store keeps one, with all that was used.
func wantHistory(t testing.TB, s *Store, account string, used int64) {
	t.Helper()
	if s.history == 0 {
		return
	}
	sum := int64(0)
	h, err := s.History(ctx, account, s.history)
	for _, d := range h.Days {
		sum += d.Total().Requests
	}
	if err != nil || sum != used {
		t.Errorf("the history of %q has %d requests (error %v), want %d", account, sum, err, used)
	}
}

// settleBy commits or, without count, releases.
func settleBy(s *Store, r *quota.Reservation, count bool) (*quota.Snapshot, error) {
	if count {
		return s.Commit(ctx, r)
	}
	return s.Release(ctx, r)
}
