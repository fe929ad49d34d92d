package redisstore

import (
	"testing"
	"time"

	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

// TestExpiredLeaseIsNoticedOnce checks that any gateway notices a lease that has run out, that
// only one of them does, and that a settled reservation is not taken for one.
func TestExpiredLeaseIsNoticedOnce(t *testing.T) {
	url := redistest.Start(t).URL()
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 5, 0, time.UTC))
	dead, alive := openAt(t, url, clock), openAt(t, url, clock)
	for range 3 {
		mustReserve(t, dead, "u")
	}
	settled := mustReserve(t, dead, "u")
	if _, err := dead.Commit(ctx, &settled); err != nil {
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
