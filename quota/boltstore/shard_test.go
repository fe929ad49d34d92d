package boltstore

import (
	"testing"

	"metergate/quota/quotatest"
)

// Reservations that were settled or abandoned do not stay in memory.
func TestSweepDropsSettledAndAbandoned(t *testing.T) {
	clock, p := quotatest.NewClock(noon), plan(1000)
	s := open(t, t.TempDir(), Options{Now: clock.Now})
	first := admit(t, s, request("u", p))
	for range 100 {
		r := admit(t, s, request("u", p))
		if _, err := s.Release(ctx, &r); err != nil {
			t.Fatal(err)
		}
		admit(t, s, request("u", p)) // and never settled
	}
	count(t, s, first)
	clock.Advance(settledLife - 1)
	count(t, s, first) // its ID is remembered
	wantUsage(t, s, "u", p, 1, 0)
	sh := s.userShard("u")
	for turn, want := range []struct{ holds, ids int }{{0, 101}, {0, 0}} {
		clock.Advance(settledLife)
		if _, err := s.Read(ctx, "u", p.OnlyChoice()); err != nil {
			t.Fatal(err)
		}
		holds, ids := len(sh.holds), len(sh.settledNow)+len(sh.settledBefore)
		if holds != want.holds || ids != want.ids {
			t.Errorf("turn %d: holds of %d users and %d ids in memory, want %v", turn, holds, ids, want)
		}
	}
}

// A store that was idle for long drops all settled IDs at once.
func TestSweepAfterIdleTimeDropsAll(t *testing.T) {
	clock, p := quotatest.NewClock(noon), plan(1000)
	s := open(t, t.TempDir(), Options{Now: clock.Now})
	count(t, s, admit(t, s, request("u", p)))
	clock.Advance(2 * settledLife)
	wantUsage(t, s, "u", p, 1, 0)
	if sh := s.userShard("u"); len(sh.settledNow)+len(sh.settledBefore) != 0 {
		t.Errorf("ids in memory: %v and %v", sh.settledNow, sh.settledBefore)
	}
}
