package boltstore

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"
	"metergate/quota/internal/boltfile"
	"metergate/quota/quotatest"
)

// four allows four requests a month, and notifies at each.
var four = quotatest.NewNotifyingPlan("four", []int{25, 50, 75, 100}, quota.Limit{Amount: 4, Period: quota.Month})

// wantCrossings compares the thresholds of an account's crossings, in their order.
func wantCrossings(t *testing.T, s *Store, account string, want ...int) (crossings []quota.Crossing) {
	t.Helper()
	crossings, err := s.CrossingsOf(ctx, account)
	if err != nil {
		t.Fatal(err)
	}
	var got []int
	for _, c := range crossings {
		got = append(got, c.Threshold)
	}
	if !slices.Equal(got, want) {
		t.Errorf("the crossings of %s are at %v, want %v", account, got, want)
	}
	return crossings
}

func TestCrossingsSurviveRestart(t *testing.T) {
	dir, clock := t.TempDir(), quotatest.NewClock(noon)
	s := open(t, dir, Options{Now: clock.Now})
	for _, user := range []string{"u", "v", "none"} {
		count(t, s, admit(t, s, request(user, four)))
		clock.Advance(time.Second)
	}
	none := wantCrossings(t, s, "none", 25)
	if err := s.EndCrossings(ctx, "none", []string{none[0].ID}); err != nil {
		t.Fatal(err)
	}
	applyChange(t, s, "u", four, quota.Change{Action: quota.ActionReset})
	before := wantCrossings(t, s, "u", 25)
	wantClaimed(t, s, 3) // one whose crossings are ended is looked at once more
	wantClaims(t, s, 0, 3)
	s.Close()

	s = open(t, dir, Options{Now: clock.Now})
	if after := wantCrossings(t, s, "u", 25); after[0] != before[0] {
		t.Errorf("the crossing is %+v, and was %+v", after[0], before[0])
	}
	claims := wantClaims(t, s, 2, 2)
	if claims.Claims[0].Account != "u" || !claims.Oldest.Equal(noon) {
		t.Errorf("the claims are %+v; u has waited longest, since %v", claims, noon)
	}
	// The reset is known still.
	count(t, s, admit(t, s, request("u", four)))
	after := wantCrossings(t, s, "u", 25, 25)
	if want := quota.CrossingID("u", "month", "2026-11", 25, 4, 1); after[1].ID != want {
		t.Errorf("after the reset the ID is %s, want %s", after[1].ID, want)
	}
}

// wantClaims claims accounts and checks how many there are, and how many wait.
func wantClaims(t *testing.T, s *Store, claimed, waiting int) quota.CrossingClaims {
	t.Helper()
	claims, err := s.ClaimCrossings(ctx, 1000)
	if err != nil || len(claims.Claims) != claimed || claims.Waiting != int64(waiting) {
		t.Fatalf("the claims are %+v, error %v; want %d, and %d that wait", claims, err, claimed, waiting)
	}
	return claims
}

// Without the count there is no crossing.
func TestFailedWriteCrossesNothing(t *testing.T) {
	s := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }})
	writing, disk := slowDisk(s)
	answer := func(err error) { <-writing; disk <- err }
	broken := errors.New("broken")
	r := admit(t, s, request("u", four))
	for range 2 {
		go answer(broken)
		if _, err := s.Commit(ctx, &r); !errors.Is(err, broken) {
			t.Errorf("Commit: %v, want %v", err, broken)
		}
		wantCrossings(t, s, "u")
	}
	// Whoever claims the account finds nothing.
	for _, claim := range wantClaims(t, s, 1, 1).Claims {
		if err := s.EndClaim(ctx, claim, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	wantClaims(t, s, 0, 0)
	go answer(nil)
	count(t, s, r)
	id := wantCrossings(t, s, "u", 25)[0].ID
	claim := wantClaims(t, s, 1, 1).Claims[0]

	go answer(broken)
	if err := s.EndCrossings(ctx, "u", []string{id}); !errors.Is(err, broken) {
		t.Errorf("EndCrossings: %v, want %v", err, broken)
	}
	wantCrossings(t, s, "u", 25)
	go answer(nil)
	if err := s.EndCrossings(ctx, "u", []string{id}); err != nil {
		t.Fatal(err)
	}
	if err := s.EndClaim(ctx, claim, time.Hour); err != nil {
		t.Fatal(err)
	}
	wantCrossings(t, s, "u")
	wantClaims(t, s, 0, 0)
}

// A crossing of a write that every reader sees and a crash may undo is there at once, and once.
func TestWriteThatFailsInSyncCrossesOnce(t *testing.T) {
	s := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }})
	broken := errors.New("broken")
	s.dbUpdate = func(fn func(boltfile.Tx) error) error { return errors.Join(s.db.Append(fn), broken) }
	r := admit(t, s, request("u", four))
	for range 2 {
		if _, err := s.Commit(ctx, &r); !errors.Is(err, broken) {
			t.Errorf("Commit: %v, want %v", err, broken)
		}
		wantCrossings(t, s, "u", 25)
	}
	wantClaims(t, s, 1, 1)
	s.dbUpdate = s.db.Append
	count(t, s, r)
	wantCrossings(t, s, "u", 25)
}

// A crossing that is recorded while its account's claim ends is claimed again.
func TestCrossingRacesWithEndOfClaim(t *testing.T) {
	s := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }})
	p := quotatest.NewNotifyingPlan("p", []int{100}, quota.Limit{Amount: 1, Period: quota.Month})
	for i := range 50 {
		user := fmt.Sprint("user-", i)
		count(t, s, admit(t, s, request(user, p)))
		claim := wantClaims(t, s, 1, 1).Claims[0]
		first := wantCrossings(t, s, user, 100)
		if err := s.EndCrossings(ctx, user, []string{first[0].ID}); err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() {
			_, err := s.ApplyChange(ctx, user, p.OnlyChoice(), quota.Change{Action: quota.ActionReset})
			if err == nil {
				_, err = s.ApplyChange(ctx, user, p.OnlyChoice(), quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"report": 1}})
			}
			done <- err
		}()
		if err := s.EndClaim(ctx, claim, 0); err != nil {
			t.Fatal(err)
		}
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		again := wantClaims(t, s, 1, 1).Claims[0]
		second := wantCrossings(t, s, user, 100)
		if err := errors.Join(s.EndCrossings(ctx, user, []string{second[0].ID}), s.EndClaim(ctx, again, 0)); err != nil {
			t.Fatal(err)
		}
	}
}

// A crossing that is recorded just after the end of a claim has read the file is claimed again. The writer does
// not wait for that reading.
func TestCrossingRightAfterEndOfClaimReads(t *testing.T) {
	s := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }})
	count(t, s, admit(t, s, request("u", four)))
	claim := wantClaims(t, s, 1, 1).Claims[0]
	if err := s.EndCrossings(ctx, "u", []string{wantCrossings(t, s, "u", 25)[0].ID}); err != nil {
		t.Fatal(err)
	}
	r := admit(t, s, request("u", four))
	view := s.dbScan
	s.dbScan = func(fn func(*bolt.Tx) error) error {
		err := view(fn)
		s.dbScan = view // for the commit
		counted := make(chan error, 1)
		go func() { _, err := s.Commit(ctx, &r); counted <- err }()
		select {
		case countErr := <-counted:
			return errors.Join(err, countErr)
		case <-time.After(30 * time.Second):
			return errors.New("the writer waits for the end of the claim")
		}
	}
	if err := s.EndClaim(ctx, claim, time.Hour); err != nil {
		t.Fatal(err)
	}
	wantCrossings(t, s, "u", 50)
	wantClaims(t, s, 1, 1)
}

// The account that was due first is claimed first, however often it crosses while it waits.
func TestClaimsInOrderOfDue(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := open(t, t.TempDir(), Options{Now: clock.Now})
	for _, user := range []string{"c", "b", "a", "c"} {
		count(t, s, admit(t, s, request(user, four)))
		clock.Advance(time.Second)
	}
	claimAll := func(want ...string) (claims []quota.CrossingClaim) {
		t.Helper()
		for _, user := range want {
			c, err := s.ClaimCrossings(ctx, 1)
			if err != nil || len(c.Claims) != 1 || c.Claims[0].Account != user || c.Waiting != 3 || !c.Oldest.Equal(noon) {
				t.Fatalf("the claims are %+v, error %v; want %s of 3 accounts, the first since %v", c, err, user, noon)
			}
			claims = append(claims, c.Claims[0])
		}
		wantClaims(t, s, 0, 3)
		return claims
	}
	again := map[string]time.Duration{"b": time.Minute, "c": 2 * time.Minute, "a": 3 * time.Minute}
	for _, claim := range claimAll("c", "b", "a") {
		if err := s.EndClaim(ctx, claim, again[claim.Account]); err != nil {
			t.Fatal(err)
		}
	}
	wantClaims(t, s, 0, 3)
	clock.Advance(time.Hour)
	claimAll("b", "c", "a")
	// These claims end at once, so the account that has waited longest is the first.
	clock.Advance(quota.ClaimLife)
	claimAll("c", "b", "a")
}

// Whatever happens to its accounts, the index finds the first that is due and the one that has waited longest.
func TestCrossingIndexFindsFirst(t *testing.T) {
	var x crossingIndex
	random := rand.New(rand.NewPCG(1, 2))
	now := noon
	claimed := []quota.CrossingClaim{}
	for range 3000 {
		now = now.Add(time.Duration(random.IntN(500)) * time.Millisecond)
		x.add([]string{fmt.Sprint("u", random.IntN(200))}, now)
		var nextDue, since time.Time
		for _, a := range x.accounts {
			if nextDue.IsZero() || a.times[due].Before(nextDue) {
				nextDue = a.times[due]
			}
			if since.IsZero() || a.times[oldest].Before(since) {
				since = a.times[oldest]
			}
		}
		isDue, waiting := !now.Before(nextDue), int64(len(x.accounts))
		if first := x.byDue.accounts[0].times[due]; !first.Equal(nextDue) {
			t.Fatalf("the first is due at %v, want %v", first, nextDue)
		}
		claims := x.claim(1, now)
		if claims.Waiting != waiting || !claims.Oldest.Equal(since) || len(claims.Claims) == 1 != isDue {
			t.Fatalf("the claims are %+v, want the oldest of %d since %v, and whether one is due %v", claims, waiting, since, isDue)
		}
		claimed = append(claimed, claims.Claims...)
		for random.IntN(3) == 0 && len(claimed) > 0 {
			i := random.IntN(len(claimed))
			added, _ := x.countAdded(claimed[i])
			if random.IntN(2) == 0 {
				x.remove(claimed[i], added, now)
			} else {
				x.release(claimed[i], now, now.Add(time.Duration(random.IntN(60))*time.Second))
			}
			claimed = slices.Delete(claimed, i, i+1)
		}
	}
}

// A crossing during a claim leaves the account to whoever has claimed it.
func TestCrossingLeavesClaim(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := open(t, t.TempDir(), Options{Now: clock.Now})
	count(t, s, admit(t, s, request("u", four)))
	claim := wantClaims(t, s, 1, 1).Claims[0]
	count(t, s, admit(t, s, request("u", four)))
	wantClaims(t, s, 0, 1)
	if err := s.EndClaim(ctx, claim, time.Hour); err != nil {
		t.Fatal(err)
	}
	wantClaims(t, s, 0, 1)
	count(t, s, admit(t, s, request("u", four)))
	wantClaims(t, s, 1, 1)
	clock.Advance(quota.ClaimLife)
	wantClaims(t, s, 1, 1)
}

// What nobody ends is deleted after its life, and what is known of resets with the window.
func TestPruneDeletesCrossings(t *testing.T) {
	clock := quotatest.NewClock(noon)
	s := open(t, t.TempDir(), Options{Now: clock.Now, Keep: 24 * time.Hour})
	for _, user := range []string{"u", "v"} {
		count(t, s, admit(t, s, request(user, four)))
		applyChange(t, s, user, four, quota.Change{Action: quota.ActionReset})
	}
	other := func() { count(t, s, admit(t, s, request("other", plan(1000)))) } // whose write prunes
	clock.Advance(quota.CrossingLife - time.Minute)
	other()
	if got := countKeys(t, s, crossingsBucket); got != 2 {
		t.Errorf("there are %d crossings, want 2", got)
	}
	clock.Advance(2 * time.Minute)
	other()
	if crossings, rearmed := countKeys(t, s, crossingsBucket), countKeys(t, s, rearmedBucket); crossings != 0 || rearmed != 2 {
		t.Errorf("after the life of crossings, there are %d and %d of resets, want 0 and 2", crossings, rearmed)
	}
	clock.Advance(30 * 24 * time.Hour)
	other()
	if rearmed := countKeys(t, s, rearmedBucket); rearmed != 0 {
		t.Errorf("after the window, there are %d of resets, want 0", rearmed)
	}
	// An end leaves nothing.
	clock.Set(noon)
	ends := countKeys(t, s, endsBucket)
	count(t, s, admit(t, s, request("w", four)))
	with := countKeys(t, s, endsBucket)
	if err := s.EndCrossings(ctx, "w", []string{wantCrossings(t, s, "w", 25)[0].ID}); err != nil {
		t.Fatal(err)
	}
	if without := countKeys(t, s, endsBucket); without != with-1 || with <= ends+1 {
		t.Errorf("ends has %d keys, %d with a crossing, and %d after it was ended", ends, with, without)
	}
}

// One record that cannot be read stops neither counts nor the others.
func TestUnreadableCrossing(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Options{Now: func() time.Time { return noon }})
	count(t, s, admit(t, s, request("u", four)))
	s.Close()
	edit(t, s.db.Path(), func(tx *bolt.Tx) error {
		return tx.Bucket(crossingsBucket).Put(append(userKey("u", ""), 0, 0, 0, 0, 0, 0, 0, 0), []byte("{"))
	})
	s = open(t, dir, Options{Now: func() time.Time { return noon }})
	count(t, s, admit(t, s, request("u", four)))
	wantCrossings(t, s, "u", 25, 50)
	wantClaims(t, s, 1, 1)
}

// Without thresholds, nothing is kept for them.
func TestNoThresholdsKeepNothing(t *testing.T) {
	s := open(t, t.TempDir(), Options{Now: func() time.Time { return noon }})
	for range 4 {
		count(t, s, admit(t, s, request("u", plan(4))))
	}
	applyChange(t, s, "u", plan(4), quota.Change{Action: quota.ActionReset})
	if crossings, rearmed := countKeys(t, s, crossingsBucket), countKeys(t, s, rearmedBucket); crossings != 0 || rearmed != 0 {
		t.Errorf("there are %d crossings, and %d of resets", crossings, rearmed)
	}
	wantClaims(t, s, 0, 0)
}
