package boltstore

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
	"metergate/quota/quotatest"
	"metergate/quota/testkit"
)

// While usage.db waits for a slow disk, no read and no reservation does, whether the account is cached or not.
func TestNothingButCountsWaitsForASlowDisk(t *testing.T) {
	p := plan(100)
	s := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }, HistoryDays: 30})
	for i := range 5 {
		for range i + 1 {
			count(t, s, admit(t, s, request(fmt.Sprint("user-", i), p)))
		}
	}
	applyChange(t, s, "user-2", p, quota.Change{Action: quota.ActionGrant, Requests: 5})
	var waits <-chan struct{}
	var release func()
	if err := s.db.Append(func(tx boltfile.Tx) error { waits, release = testkit.SlowDisk(t, tx.DB()); return nil }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { release() })
	committed := make(chan error, 1)
	go func() { committed <- s.db.Check() }()
	testkit.Receive(t, "the commit waits for the disk", waits)

	read := make(chan struct{})
	go func() {
		defer close(read)
		for _, drop := range []func(*Store){dropCache, func(*Store) {}} {
			for i := range 5 {
				user := fmt.Sprint("user-", i)
				drop(s)
				wantUsage(t, s, user, p, int64(i+1), 0)
				drop(s)
				r, err := s.Reserve(ctx, request(user, p))
				if err != nil || !r.Admitted || r.Snapshot.Total.Used != int64(i+1) {
					t.Errorf("Reserve of %s: %+v, error %v", user, r.Snapshot.Total, err)
				}
				if snap, err := s.Release(ctx, &r.Reservation); err != nil || snap.Total.Held != 0 {
					t.Errorf("Release of %s: %+v, error %v", user, snap.Total, err)
				}
				if got := usedEach(t, s, user, 1); got != fmt.Sprintf("[{%d %[1]d}]", i+1) {
					t.Errorf("the history of %s is %s", user, got)
				}
				if claimed, err := s.ClaimedPlan(ctx, user); err != nil || claimed != p.Name() {
					t.Errorf("the claimed plan of %s is %q, error %v", user, claimed, err)
				}
			}
		}
		if log, err := s.AuditLog(ctx, "user-2"); err != nil || len(log) != 1 {
			t.Errorf("%d entries in the audit log, error %v, want 1", len(log), err)
		}
	}()
	testkit.Receive(t, "the reads while the disk is slow", read)
	release()
	if err := testkit.Receive(t, "the commit", committed); err != nil {
		t.Error(err)
	}
	for i := range 5 {
		dropCache(s)
		wantUsage(t, s, fmt.Sprint("user-", i), p, int64(i+1), 0)
	}
}

// A request for whom terms must be written first waits no longer for the disk than Options.Timeout. Nor does the next
// one, which waits for the same write. What was to be written is written once the disk is back.
func TestReserveWaitsForTermsUpToTheTimeout(t *testing.T) {
	synctest.Test(t, testReserveWaitsForTermsUpToTheTimeout)
}

func testReserveWaitsForTermsUpToTheTimeout(t *testing.T) {
	const timeout = 250 * time.Millisecond
	p := quotatest.NewAnchoredPlan("paid", quota.ClaimAnchor, quota.Limit{Amount: 100, Period: quota.Month})
	s := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }, Timeout: timeout})
	writing, disk := slowDisk(s)
	asked, anchor := request("u", p), quota.NewAnchor(15, 0)
	asked.Plans.Terms, asked.Plans.Anchor = true, &anchor
	patient, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	for i := range 3 {
		start := time.Now()
		d, err := s.Reserve(patient, asked)
		if waited := time.Since(start); d.Admitted || !errors.Is(err, context.DeadlineExceeded) || waited != timeout {
			t.Fatalf("request %d: admitted %v after %v, error %v", i, d.Admitted, waited, err)
		}
	}
	<-writing
	disk <- nil
	synctest.Wait()
	d, err := s.Reserve(ctx, asked)
	if err != nil || !d.Admitted || d.Snapshot.Total.Window.Start.Day() != 15 {
		t.Errorf("after that: admitted %v in %v, error %v", d.Admitted, d.Snapshot.Total.Window, err)
	}
}
