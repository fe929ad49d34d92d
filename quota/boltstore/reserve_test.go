package boltstore

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
)

// Of 1,000 successful requests at once, exactly the limit is admitted. Readers see the number
// of units rise to the limit and never fall.
func TestReserveAdmitsExactlyTheLimit(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }}), plan(100)
	var requests, readers sync.WaitGroup
	var admitted atomic.Int64
	stop := make(chan struct{})
	for range 3 {
		readers.Go(func() {
			last := int64(0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				snap, err := s.Read(ctx, "u", p.OnlyChoice())
				taken := snap.Total.Used + snap.Total.Held
				if err != nil || taken > 100 || taken < last {
					t.Errorf("%d units are used or held (error %v), after %d of 100", taken, err, last)
					return
				}
				last = taken
			}
		})
	}
	for range 1000 {
		requests.Go(func() {
			d, err := s.Reserve(ctx, request("u", p))
			taken := d.Snapshot.Total.Used + d.Snapshot.Total.Held
			switch {
			case err != nil:
				t.Error(err)
			case !d.Admitted && taken != 100:
				t.Errorf("refused when %d of 100 units were taken", taken)
			case d.Admitted:
				admitted.Add(1)
				snap, err := s.Commit(ctx, &d.Reservation)
				if err != nil || snap.Total.Used < 1 || snap.Total.Used+snap.Total.Held > 100 {
					t.Errorf("after a commit: used %d, held %d, error %v", snap.Total.Used, snap.Total.Held, err)
				}
			}
		})
	}
	requests.Wait()
	close(stop)
	readers.Wait()
	if n := admitted.Load(); n != 100 {
		t.Errorf("%d were admitted, want 100", n)
	}
	wantUsage(t, s, "u", p, 100, 0)
}

// Requests come one after the other, each with a write of its own. Readers see each unit appear
// and stay.
func TestReadSeesEachUnitOnce(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }}), plan(1000)
	var readers sync.WaitGroup
	var begun atomic.Int64
	stop := make(chan struct{})
	for range 2 {
		readers.Go(func() {
			last := int64(0)
			for {
				select {
				case <-stop:
					return
				default:
				}
				snap, err := s.Read(ctx, "u", p.OnlyChoice())
				taken := snap.Total.Used + snap.Total.Held
				if begun := begun.Load(); err != nil || taken > begun || taken < last {
					t.Errorf("%d units are used or held (error %v) of %d, after %d", taken, err, begun, last)
					return
				}
				last = taken
			}
		})
	}
	for range 300 {
		begun.Add(1)
		count(t, s, admit(t, s, request("u", p)))
	}
	close(stop)
	readers.Wait()
}

func TestHoldEndsWithItsLease(t *testing.T) {
	clock, p := quotatest.NewClock(noon), plan(1)
	s := open(t, t.TempDir(), Options{Now: clock.Now})
	admit(t, s, request("u", p))
	clock.Advance(time.Minute - 1)
	if d, err := s.Reserve(ctx, request("u", p)); d.Admitted || err != nil {
		t.Errorf("one nanosecond before the lease's end: admitted %v, error %v", d.Admitted, err)
	}
	clock.Advance(1)
	wantUsage(t, s, "u", p, 0, 0)
	admit(t, s, request("u", p))
}

// A Reserve that is repeated in the next window keeps the windows and the lease of the first.
func TestRepeatedReserveKeepsWindowsAndLease(t *testing.T) {
	clock := quotatest.NewClock(time.Date(2026, 11, 30, 23, 59, 50, 0, time.UTC))
	s, p := open(t, t.TempDir(), Options{Now: clock.Now}), plan(1)
	r := request("u", p)
	admit(t, s, r)
	clock.Advance(20 * time.Second)
	again := admit(t, s, r)
	if got := again.Windows[0].ID; got != "2026-11" {
		t.Errorf("the second answer counts in %s, want 2026-11", got)
	}
	wantUsage(t, s, "u", p, 0, 0)
	clock.Set(time.Date(2026, 11, 30, 23, 59, 59, 0, time.UTC))
	wantUsage(t, s, "u", p, 0, 1)
	clock.Advance(51 * time.Second)
	admit(t, s, r) // a new hold: the first lease is over
	wantUsage(t, s, "u", p, 0, 1)
}

// Whatever the outcome of Reserve, there is a reservation to settle.
func TestFailedReserveReturnsReservation(t *testing.T) {
	s, p := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }}), plan(1)
	ended, cancel := context.WithCancel(ctx)
	cancel()
	settled := request("u", p)
	count(t, s, admit(t, s, settled))
	check := func(ctx context.Context, r quota.Request, target error) {
		t.Helper()
		d, err := s.Reserve(ctx, r)
		if !errors.Is(err, target) || d.Admitted {
			t.Errorf("admitted %v, error %v, want %v", d.Admitted, err, target)
		}
		if got := d.Reservation; got.ID != r.ID || len(got.Windows) != 1 || got.Windows[0].ID != "2026-11" {
			t.Errorf("the reservation is %+v", got)
		}
	}
	check(ended, request("u", p), context.Canceled)
	check(ctx, settled, quota.ErrSettled)
	if d, err := s.Reserve(ctx, request("u", p)); d.Admitted || err != nil || len(d.Reservation.Windows) != 1 {
		t.Errorf("over the limit: %+v, error %v", d, err)
	}
	wantUsage(t, s, "u", p, 1, 0)
	s.Close()
	check(ctx, request("u", p), ErrClosed)
}
