package guard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/quotatest"
	"metergate/quota/testkit"
)

// A flakyStore is a store whose commits can be made to fail. It counts calls of Forget, and those for a
// request that was settled in two steps.
type flakyStore struct {
	*boltstore.Store
	fail                     atomic.Bool
	forgotten, withRestsGone atomic.Int64
}

func (f *flakyStore) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	if f.fail.Load() {
		return nil, errors.New("no answer")
	}
	return f.Store.Commit(ctx, r)
}

func (f *flakyStore) CommitRest(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	if f.fail.Load() {
		return nil, errors.New("no answer")
	}
	return f.Store.CommitRest(ctx, r)
}

func (f *flakyStore) Forget(r *quota.Reservation) {
	f.forgotten.Add(1)
	if r.RestUnits() > 0 {
		f.withRestsGone.Add(1)
	}
	f.Store.Forget(r)
}

// openFlaky opens a guarded store on one that can be made to fail.
func openFlaky(t *testing.T) (*Store, *flakyStore, *Journal, *quotatest.Clock) {
	t.Helper()
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC))
	local, err := boltstore.Open(t.TempDir(), boltstore.Options{Now: clock.Now, HistoryDays: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { local.Close() })
	journal, err := OpenJournal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	backend := &flakyStore{Store: local}
	s, err := New(Options{Backend: backend, Journal: journal, Timeout: time.Second,
		Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour, HistoryDays: 3})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, backend, journal, clock
}

// A commit that came from the journal is forgotten once no copy of its call can arrive any
// more, and not before.
func TestReplayedCommitsAreForgotten(t *testing.T) {
	s, backend, journal, clock := openFlaky(t)
	plan := quotatest.NewPlan("p", quota.Limit{Amount: 5, Period: quota.Month})
	d, err := s.Reserve(context.Background(), quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: plan.OnlyChoice(), Lease: time.Minute})
	if err != nil || !d.Admitted {
		t.Fatal(d.Admitted, err)
	}
	backend.fail.Store(true)
	if snapshot, err := s.Commit(context.Background(), &d.Reservation); err != nil || !snapshot.Stale {
		t.Fatalf("stale %v, error %v", snapshot.Stale, err)
	}
	backend.fail.Store(false)
	settled := func() bool {
		return s.Stats().Backlog == 0 && journal.isRemoved(&settlement{Reservation: d.Reservation})
	}
	testkit.Eventually(t, "the commit is replayed", settled)
	s.forgetReplayed()
	if n := backend.forgotten.Load(); n != 0 {
		t.Errorf("%d forgotten at once", n)
	}
	clock.Advance(forgetAfter)
	// The replay may not have noted yet what it has replayed.
	testkit.Eventually(t, "the replayed reservation is forgotten", func() bool {
		s.forgetReplayed()
		clock.Advance(time.Second)
		return backend.forgotten.Load() > 0
	})
	s.forgetReplayed()
	if n := backend.forgotten.Load(); n != 1 {
		t.Errorf("forgotten %d times", n)
	}
}

// What the journal took is in the next history, like in the next usage.
func TestHistoryHasWhatWaits(t *testing.T) {
	s, backend, _, _ := openFlaky(t)
	plan := quotatest.NewPlan("p")
	for i := range int64(50) {
		d, err := s.Reserve(context.Background(), quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: plan.OnlyChoice(), Lease: time.Minute})
		if err != nil || !d.Admitted {
			t.Fatal(d.Admitted, err)
		}
		backend.fail.Store(true)
		if _, err := s.Commit(context.Background(), &d.Reservation); err != nil {
			t.Fatal(err)
		}
		backend.fail.Store(false)
		h, err := s.History(context.Background(), "u", 1)
		if err != nil || h.Stale || h.Days[0].Total().Requests != i+1 {
			t.Fatalf("history %+v, stale %v, error %v; want %d", h.Days, h.Stale, err, i+1)
		}
	}
}

// A request whose commit came from the journal is not forgotten while its rest is held, and then with it:
// the second step follows the first into the journal.
func TestReplayedRestsAreForgotten(t *testing.T) {
	s, backend, journal, clock := openFlaky(t)
	plan := quotatest.NewWeightedPlan("p", quota.Limit{Amount: 9, Period: quota.Month, Quantity: quota.Units})
	d, err := s.Reserve(context.Background(), quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Units: 9, Plans: plan.OnlyChoice(), Lease: time.Minute})
	if err != nil || !d.Admitted {
		t.Fatal(d.Admitted, err)
	}
	r := &d.Reservation
	r.Unused, r.Rest, r.RestCharged = 8, 8, 4
	state := func() string {
		snapshot, err := backend.Read(context.Background(), "u", plan.OnlyChoice())
		if err != nil {
			return err.Error()
		}
		return fmt.Sprintf("%d+%d", snapshot.Limits[0].Used, snapshot.Limits[0].Held)
	}
	backend.fail.Store(true)
	if snapshot, err := s.Commit(context.Background(), r); err != nil || !snapshot.Stale {
		t.Fatalf("error %v", err)
	}
	backend.fail.Store(false)
	replayed := func(isRest bool) func() bool {
		return func() bool {
			return s.Stats().Backlog == 0 && journal.isRemoved(&settlement{Reservation: *r, isRest: isRest})
		}
	}
	testkit.Eventually(t, "the commit is replayed", replayed(false))
	clock.Advance(2 * forgetAfter)
	s.forgetReplayed()
	if n := backend.forgotten.Load(); n != 0 || state() != "1+8" {
		t.Errorf("forgotten %d times while the rest is held; the store has %s, want 1+8", n, state())
	}
	if snapshot, err := s.CommitRest(context.Background(), r); err != nil || !snapshot.Stale {
		t.Fatalf("error %v, stale %v; the second step should wait like the first", err, snapshot.Stale)
	}
	testkit.Eventually(t, "the second step is replayed", replayed(true))
	s.forgetReplayed()
	if n := backend.forgotten.Load(); n != 0 || state() != "5+0" {
		t.Errorf("forgotten %d times at once; the store has %s, want 5+0", n, state())
	}
	testkit.Eventually(t, "the replayed reservation is forgotten", func() bool {
		s.forgetReplayed()
		clock.Advance(forgetAfter)
		return backend.forgotten.Load() > 0
	})
	if n, rests := backend.forgotten.Load(), backend.withRestsGone.Load(); n != 1 || rests != 1 {
		t.Errorf("forgotten %d times, %d times with its rest; want once", n, rests)
	}
}

// What a gateway knows of a rest goes with it, whatever the order of the steps.
func TestLedgerForgetsRests(t *testing.T) {
	s, backend, _, _ := openFlaky(t)
	plan := quotatest.NewWeightedPlan("p", quota.Limit{Amount: 90, Period: quota.Month, Quantity: quota.Units}, quota.Limit{Amount: 90, Period: quota.Month, Quantity: quota.Units, Shared: true})
	for i := range 4 {
		request := quota.Request{ID: quota.NewID(), User: quota.MemberAccount("acme", "a"), Endpoint: "analyze", Units: 9, Plans: plan.OnlyChoice(), Lease: time.Minute}
		request.Plans.Scope = quota.MemberScope
		d, err := s.Reserve(context.Background(), request)
		if err != nil || !d.Admitted {
			t.Fatal(d.Admitted, err)
		}
		r := &d.Reservation
		r.Unused, r.Rest = 8, 8
		backend.fail.Store(i == 3)
		steps := []func(context.Context, *quota.Reservation) (*quota.Snapshot, error){s.Commit, s.CommitRest}
		if i == 1 {
			slices.Reverse(steps)
		}
		for _, step := range steps {
			if _, err := step(context.Background(), r); err != nil {
				t.Fatal(err)
			}
		}
		if i < 3 {
			s.Forget(r)
		}
	}
	backend.fail.Store(false)
	testkit.Eventually(t, "nothing waits", func() bool { return s.Stats().Backlog == 0 })
	for i := range s.ledger.shards {
		if local := s.ledger.shards[i].local; len(local) > 0 {
			t.Errorf("the ledger has %v", local)
		}
	}
}
