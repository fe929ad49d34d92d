package guard

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/quotatest"
	"metergate/quota/testkit"
)

// A flakyStore is a store whose commits can be made to fail. It counts calls of Forget.
type flakyStore struct {
	*boltstore.Store
	fail      atomic.Bool
	forgotten atomic.Int64
}

func (f *flakyStore) Commit(ctx context.Context, r *quota.Reservation) (*quota.Snapshot, error) {
	if f.fail.Load() {
		return nil, errors.New("no answer")
	}
	return f.Store.Commit(ctx, r)
}

func (f *flakyStore) Forget(r *quota.Reservation) {
	f.forgotten.Add(1)
	f.Store.Forget(r)
}

// A commit that came from the journal is forgotten once no copy of its call can arrive any
// more, and not before.
func TestReplayedCommitsAreForgotten(t *testing.T) {
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC))
	local, err := boltstore.Open(t.TempDir(), boltstore.Options{Now: clock.Now})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	journal, err := OpenJournal(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	backend := &flakyStore{Store: local}
	s, err := New(Options{Backend: backend, Journal: journal, Timeout: time.Second,
		Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
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
