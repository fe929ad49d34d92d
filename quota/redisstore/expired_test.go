package redisstore

import (
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// A lease that runs out is noticed once, by whichever gateway comes by; one that was
// settled is none.
func TestExpired(t *testing.T) {
	url := redistest.Start(t).URL()
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 5, 0, time.UTC))
	gateway := func() *Store {
		s, err := Open(Options{URL: url, Timeout: patient, Now: clock.Now, Offset: clock.Offset})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { s.Close() })
		return s
	}
	dead, alive := gateway(), gateway()
	reserve := func() *quota.Reservation {
		t.Helper()
		d, err := dead.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: plan.OnlyChoice(), Lease: time.Minute})
		if err != nil || !d.Admitted {
			t.Fatal(d.Admitted, err)
		}
		return &d.Reservation
	}
	for range 3 {
		reserve()
	}
	if _, err := dead.Commit(ctx, reserve()); err != nil {
		t.Fatal(err)
	}
	clock.Advance(2 * time.Minute)
	for range 3 {
		if _, err := alive.Read(ctx, "u", plan.OnlyChoice()); err != nil {
			t.Fatal(err)
		}
	}
	if alive.ExpiredHolds() != 3 || dead.ExpiredHolds() != 0 {
		t.Errorf("%d and %d leases have run out, want 3 and 0", alive.ExpiredHolds(), dead.ExpiredHolds())
	}
}
