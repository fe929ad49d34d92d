package boltstore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
	"metergate/quota/quotatest"
)

func TestCommitsShareAWrite(t *testing.T) { synctest.Test(t, testCommitsShareAWrite) }

func testCommitsShareAWrite(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }}), plan(1000)
	writing, disk := slowDisk(s)
	before := countWrites(t, s)
	done := make(chan error)
	begin := func(i int) {
		r := admit(t, s, request(fmt.Sprint("user-", i%10), p))
		go func() { _, err := s.Commit(ctx, &r); done <- err }()
	}
	begin(0)
	<-writing // the first is written alone, without waiting for others
	for i := 1; i < 200; i++ {
		begin(i)
	}
	synctest.Wait()
	disk <- nil
	<-writing
	disk <- nil
	for range 200 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	if got := countWrites(t, s) - before; got != 2 {
		t.Errorf("200 commits took %d writes, want 2", got)
	}
	for i := range 10 {
		wantUsage(t, s, fmt.Sprint("user-", i), p, 20, 0)
	}
}

// At every step of a write the unit is seen exactly once. If the lease runs out during the
// write, the unit is not given to another request.
func TestCommitShowsUnitOnceAtEveryStep(t *testing.T) {
	t.Run("from the cache", func(t *testing.T) { testEveryStep(t, func(*Store) {}, 0) })
	t.Run("from the file", func(t *testing.T) { testEveryStep(t, dropCache, 1) })
}

// testEveryStep calls before before each call of the store. used is what is used once the write can be seen and
// the hold still exists.
func testEveryStep(t *testing.T, before func(*Store), used int64) {
	clock, p := quotatest.NewClock(noon), plan(2)
	s := open(t, t.TempDir(), Options{Now: clock.Now})
	steps := 0
	check := func(used, held int64) {
		t.Helper()
		steps++
		before(s)
		wantUsage(t, s, "u", p, used, held)
		// One more request fits, a second does not.
		one, two := request("u", p), request("u", p)
		before(s)
		d, err := s.Reserve(ctx, one)
		if err != nil || !d.Admitted || d.Snapshot.Total.Used != used || d.Snapshot.Total.Held != held+1 {
			t.Errorf("Reserve of the last unit: %+v, error %v", d.Snapshot.Total, err)
		}
		before(s)
		if d, err := s.Reserve(ctx, two); err != nil || d.Admitted {
			t.Errorf("Reserve over the limit: %+v, error %v", d.Snapshot.Total, err)
		}
		if _, err := s.Release(ctx, &quota.Reservation{Request: one}); err != nil {
			t.Error(err)
		}
	}
	s.dbUpdate = func(fn func(boltfile.Tx) error) error {
		check(0, 1) // queued
		clock.Advance(time.Hour)
		check(0, 1) // its lease is over
		err := s.db.Append(func(tx boltfile.Tx) error {
			err := fn(tx)
			check(0, 1) // it has the number of its write, which no reader sees yet
			return err
		})
		check(used, 1-used) // the write can be seen, and the hold still exists
		return err
	}
	r := admit(t, s, request("u", p))
	check(0, 1)
	count(t, s, r)
	check(1, 0)
	if steps != 6 {
		t.Errorf("%d steps were checked, want 6", steps)
	}
}

// A write becomes visible at the worst time for a reader: when the read has begun, but has not
// looked at the file yet.
func TestReadDuringWriteSeesUnitOnce(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }}), plan(10)
	writing, disk := slowDisk(s)
	update, visible := s.dbUpdate, make(chan struct{})
	s.dbUpdate = func(fn func(boltfile.Tx) error) error {
		err := update(fn)
		visible <- struct{}{}
		return err
	}
	r, done := admit(t, s, request("u", p)), make(chan error)
	go func() { _, err := s.Commit(ctx, &r); done <- err }()
	<-writing
	dropCache(s)
	s.dbView = func(fn func(boltfile.Reader) error) error {
		s.dbView = s.db.Latest
		disk <- nil
		<-visible
		return s.db.Latest(fn)
	}
	wantUsage(t, s, "u", p, 1, 0)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// A commit whose caller leaves goes on. Repeated commits wait for the same one.
func TestCommitGoesOnWithoutItsCaller(t *testing.T) {
	synctest.Test(t, testCommitGoesOnWithoutItsCaller)
}

func testCommitGoesOnWithoutItsCaller(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }}), plan(10)
	writing, disk := slowDisk(s)
	before := countWrites(t, s)
	r := admit(t, s, request("u", p))
	leaving, leave := context.WithCancel(ctx)
	done := make(chan error)
	go func() { _, err := s.Commit(leaving, &r); done <- err }()
	<-writing
	leave()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Commit returned %v, want %v", err, context.Canceled)
	}

	// During the commit, it can neither be reserved again nor released.
	if d, err := s.Reserve(ctx, r.Request); d.Admitted || !errors.Is(err, quota.ErrSettled) {
		t.Errorf("Reserve: admitted %v, error %v, want %v", d.Admitted, err, quota.ErrSettled)
	}
	if snap, err := s.Release(ctx, &r); err != nil || snap.Total.Held != 1 {
		t.Errorf("Release: %+v, error %v", snap.Total, err)
	}
	for range 3 {
		go func() {
			snap, err := s.Commit(ctx, &r)
			if err == nil && snap.Total.Used != 1 {
				err = fmt.Errorf("used %d", snap.Total.Used)
			}
			done <- err
		}()
	}
	synctest.Wait()
	disk <- nil
	for range 3 {
		if err := <-done; err != nil {
			t.Errorf("a repeated Commit: %v", err)
		}
	}
	wantUsage(t, s, "u", p, 1, 0)
	if got := countWrites(t, s) - before; got != 1 {
		t.Errorf("%d writes, want 1", got)
	}
}

// When the disk fails, the unit stays held and can be committed again or released.
func TestFailedWriteKeepsHold(t *testing.T) {
	clock, p := quotatest.NewClock(noon), plan(10)
	s := open(t, t.TempDir(), Options{Now: clock.Now})
	writing, disk := slowDisk(s)
	answer := func(err error) { <-writing; disk <- err }
	broken := errors.New("broken")

	r := admit(t, s, request("u", p))
	for range 2 {
		go answer(broken)
		if _, err := s.Commit(ctx, &r); !errors.Is(err, broken) {
			t.Errorf("Commit: %v, want %v", err, broken)
		}
		if err := s.Check(ctx); !errors.Is(err, broken) {
			t.Errorf("Ping: %v, want %v", err, broken)
		}
		wantUsage(t, s, "u", p, 0, 1)
	}
	go answer(nil)
	count(t, s, r)
	count(t, s, r)
	wantUsage(t, s, "u", p, 1, 0)
	if err := s.Check(ctx); err != nil {
		t.Errorf("Ping: %v", err)
	}

	r = admit(t, s, request("u", p))
	go answer(broken)
	if _, err := s.Commit(ctx, &r); !errors.Is(err, broken) {
		t.Errorf("Commit: %v, want %v", err, broken)
	}
	if snap, err := s.Release(ctx, &r); err != nil || snap.Total.Used != 1 || snap.Total.Held != 0 {
		t.Errorf("Release: %+v, error %v", snap.Total, err)
	}

	// After a failed commit the lease continues, and ends.
	r = admit(t, s, request("u", p))
	go answer(broken)
	s.Commit(ctx, &r)
	clock.Advance(time.Minute)
	wantUsage(t, s, "u", p, 1, 0)
	go answer(nil)
	count(t, s, r)
	wantUsage(t, s, "u", p, 2, 0)
}

// A sync that fails after the last page was written leaves a write that every reader sees and a
// crash may undo. The unit is used at once, the caller gets an error, and a repeated commit does
// not count it again.
func TestWriteThatFailsInSyncCountsOnce(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }}), plan(10)
	broken := errors.New("broken")
	s.dbUpdate = func(fn func(boltfile.Tx) error) error { return errors.Join(s.db.Append(fn), broken) }
	r := admit(t, s, request("u", p))
	for range 2 {
		if _, err := s.Commit(ctx, &r); !errors.Is(err, broken) {
			t.Errorf("Commit: %v, want %v", err, broken)
		}
		wantUsage(t, s, "u", p, 1, 0)
	}
	if snap, err := s.Release(ctx, &r); err != nil || snap.Total.Used != 1 {
		t.Errorf("Release: %+v, error %v", snap.Total, err)
	}
	if d, err := s.Reserve(ctx, r.Request); d.Admitted || !errors.Is(err, quota.ErrSettled) {
		t.Errorf("Reserve: admitted %v, error %v, want %v", d.Admitted, err, quota.ErrSettled)
	}
	s.dbUpdate = s.db.Append
	before := countWrites(t, s)
	count(t, s, r)
	if got := countWrites(t, s) - before; got != 1 {
		t.Errorf("the commit that succeeded took %d writes, want 1 that brings the count to disk", got)
	}
	count(t, s, r)
	wantUsage(t, s, "u", p, 1, 0)
}

// openFailing opens a store that brings its log to disk by sync.
func openFailing(t *testing.T, sync func() error) *Store {
	s := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }})
	o := *s.db.Log
	o.Sync = func(*os.File) error { return sync() }
	s.db.Log = &o
	return s
}

// A write fails, and before the writer asks what can be seen of it, the look at the file that comes once a second commits
// what was appended before. The write is not counted by that, and its request can be counted later.
func TestFailedWriteIsNotTakenForTheNextCommit(t *testing.T) {
	var fails atomic.Bool
	broken := errors.New("broken")
	s := openFailing(t, func() error {
		if fails.CompareAndSwap(true, false) {
			return broken
		}
		return nil
	})
	p := plan(10)
	for range 3 {
		count(t, s, admit(t, s, request("other", p)))
	}
	r := admit(t, s, request("u", p))
	s.dbUpdate = func(fn func(boltfile.Tx) error) error {
		err := s.db.Append(fn)
		if err != nil {
			s.db.Check() // as File.Watch does once a second, in its own goroutine
			dropCache(s)
			wantUsage(t, s, "u", p, 0, 1) // it is held all the time
		}
		return err
	}
	fails.Store(true)
	if _, err := s.Commit(ctx, &r); !errors.Is(err, broken) {
		t.Fatalf("Commit: %v", err)
	}
	dropCache(s)
	wantUsage(t, s, "u", p, 0, 1)
	count(t, s, r) // again
	dropCache(s)
	wantUsage(t, s, "u", p, 1, 0)
}
