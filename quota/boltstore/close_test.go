package boltstore

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
)

// Close waits for the commits under way, even if their callers have left.
func TestCloseWaitsForCommits(t *testing.T) { synctest.Test(t, testCloseWaitsForCommits) }

func testCloseWaitsForCommits(t *testing.T) {
	dir, p := t.TempDir(), plan(10)
	var answering atomic.Bool
	answer := make(chan struct{})
	s := open(t, dir, Options{Now: func() time.Time {
		if answering.Load() {
			<-answer
		}
		return noon
	}})
	writing, disk := slowDisk(s)
	update, written := s.dbUpdate, 0
	s.dbUpdate = func(fn func(boltfile.Tx) error) error {
		err := update(fn)
		written++
		answering.Store(written == 2)
		return err
	}
	waits, leaves := admit(t, s, request("u", p)), admit(t, s, request("u", p))
	left, leave := context.WithCancel(ctx)
	committed := make(chan error)
	go func() { _, err := s.Commit(left, &leaves); committed <- err }()
	<-writing
	go func() { _, err := s.Commit(ctx, &waits); committed <- err }()
	synctest.Wait()
	leave()
	if err := <-committed; !errors.Is(err, context.Canceled) {
		t.Errorf("Commit of a caller that left: %v", err)
	}

	closed := make(chan error, 1)
	go func() { closed <- s.Close() }()
	stillOpen := func(while string) {
		t.Helper()
		synctest.Wait()
		select {
		case err := <-closed:
			t.Errorf("Close returned %v while %s", err, while)
		default:
		}
	}
	stillOpen("a count was written for a caller that had left")
	disk <- nil
	<-writing
	stillOpen("a count was written")
	disk <- nil
	stillOpen("a caller waited for its count")
	answering.Store(false)
	close(answer)
	if err := <-committed; err != nil {
		t.Errorf("Commit that began before Close: %v", err)
	}
	if err := <-closed; err != nil {
		t.Errorf("Close: %v", err)
	}
	wantClosed(t, s, &waits)
	if err := s.Close(); err != nil {
		t.Errorf("a second Close: %v", err)
	}
	if s, err := Open(dir, Options{Now: func() time.Time { return noon }}); err != nil {
		t.Error(err)
	} else {
		wantUsage(t, s, "u", p, 2, 0)
		s.Close()
	}
}

// wantClosed checks that every method returns ErrClosed.
func wantClosed(t *testing.T, s *Store, r *quota.Reservation) {
	t.Helper()
	for name, call := range map[string]func() error{
		"Reserve": func() error { _, err := s.Reserve(ctx, r.Request); return err },
		"Commit":  func() error { _, err := s.Commit(ctx, r); return err },
		"CommitRest": func() error {
			rest := *r
			rest.Unused, rest.Rest = 1, 1
			_, err := s.CommitRest(ctx, &rest)
			return err
		},
		"Release": func() error { _, err := s.Release(ctx, r); return err },
		"Read":    func() error { _, err := s.Read(ctx, "u", r.Plans); return err },
		"Check":   func() error { return s.Check(ctx) },
		"ApplyChange": func() error {
			_, err := s.ApplyChange(ctx, "u", r.Plans, quota.Change{Action: quota.ActionReset})
			return err
		},
		"ReadAt":         func() error { _, err := s.ReadAt(ctx, "u", r.Plans, noon); return err },
		"ClaimedPlan":    func() error { _, err := s.ClaimedPlan(ctx, "u"); return err },
		"AuditLog":       func() error { _, err := s.AuditLog(ctx, "u"); return err },
		"ClaimCrossings": func() error { _, err := s.ClaimCrossings(ctx, 1); return err },
		"CrossingsOf":    func() error { _, err := s.CrossingsOf(ctx, "u"); return err },
		"EndCrossings":   func() error { return s.EndCrossings(ctx, "u", []string{"msg_1"}) },
		"ScanUsers":      func() error { return s.ScanUsers(ctx, quota.WindowQuery{Period: quota.Month, At: noon}, nil) },
	} {
		if err := call(); !errors.Is(err, ErrClosed) {
			t.Errorf("%s after Close: %v, want %v", name, err, ErrClosed)
		}
	}
}

// In a synctest bubble, time passes only when all goroutines wait for it.
func TestCommitWaitsForNoTimer(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		s, err := Open(dir, Options{})
		if err != nil {
			t.Fatal(err)
		}
		count(t, s, admit(t, s, request("u", plan(1))))
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if waited := time.Since(start); waited != 0 {
			t.Errorf("Open, Commit and Close waited for %v", waited)
		}
	})
}
