package quotatest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"metergate/quota"
)

func testEndCrossings(t *testing.T, h *crossingHarness) {
	h.use(10, "u", "report", tenAMonth)
	h.use(5, "v", "report", tenAMonth)
	all := h.crossings("u")
	if len(all) != 3 || all[0].Threshold != 50 || all[1].Threshold != 80 {
		t.Fatalf("the crossings are %+v", all)
	}
	h.end("u", all[1])
	h.end("u", all[1]) // sent twice
	h.end("v", all[0]) // of another account
	h.end("nobody", all[0])
	h.end("u")
	h.wantWaiting("u", "month 50% 5/10", "month 100% 10/10")
	h.wantWaiting("v", "month 50% 5/10")
	h.wantWaiting("nobody")
	h.end("u", all...)
	h.wantWaiting("u")
	h.wantWaiting("v", "month 50% 5/10")
}

// A store keeps a crossing for eight days.
func testCrossingLife(t *testing.T, h *crossingHarness) {
	h.use(5, "u", "report", tenAMonth)
	h.use(5, "v", "report", tenAMonth)
	h.clock.Advance(quota.CrossingLife - time.Hour)
	h.wantWaiting("u", "month 50% 5/10")
	h.use(3, "v", "report", tenAMonth)
	h.clock.Advance(time.Hour + time.Minute)
	h.wantWaiting("u")
	if got := h.crossings("v"); len(got) == 0 || got[len(got)-1].Threshold != 80 {
		t.Errorf("the newest crossing of v is not among %+v", got)
	}
	h.clock.Advance(quota.CrossingLife)
	h.wantWaiting("v")
	// Claimed once more, they do not wait any longer.
	h.wantNoneWaiting()
	h.use(2, "u", "report", tenAMonth)
	h.clock.Set(day(time.December, 3))
	h.use(5, "v", "report", tenAMonth)
	h.wantWaiting("v", "month 50% 5/10")
}

// wantNoneWaiting ends the claims of accounts without crossings until none waits.
func (h *crossingHarness) wantNoneWaiting() {
	h.t.Helper()
	h.eventually("no account waits", func() bool {
		claims := h.claimAny(100)
		for _, claim := range claims.Claims {
			h.endClaim(claim, 0)
		}
		return claims.Waiting == 0 && claims.Oldest.IsZero()
	})
}

// eventually waits until something is so.
func (h *crossingHarness) eventually(what string, isSo func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !isSo(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("not within 30 s: %s", what)
		}
	}
}

func (h *crossingHarness) claimAny(most int) quota.CrossingClaims {
	h.t.Helper()
	claims, err := h.store.ClaimCrossings(context.Background(), most)
	if err != nil {
		h.t.Fatalf("ClaimCrossings: %v", err)
	}
	if len(claims.Claims) > most {
		h.t.Errorf("%d were claimed, want at most %d", len(claims.Claims), most)
	}
	return claims
}

// claim claims accounts. Those without crossings that are claimed as well are not looked at.
func (h *crossingHarness) claim(accounts ...string) map[string]quota.CrossingClaim {
	h.t.Helper()
	claimed := map[string]quota.CrossingClaim{}
	h.eventually("all accounts are claimed", func() bool {
		for _, c := range h.claimAny(100).Claims {
			if slices.Contains(accounts, c.Account) {
				claimed[c.Account] = c
			}
		}
		return len(claimed) == len(accounts)
	})
	return claimed
}

func (h *crossingHarness) endClaim(claim quota.CrossingClaim, again time.Duration) {
	h.t.Helper()
	if err := h.store.EndClaim(context.Background(), claim, again); err != nil {
		h.t.Fatalf("EndClaim: %v", err)
	}
}

// wantNotClaimed checks that an account cannot be claimed, which holds for ten seconds of real time since a
// time: the clock of a store may go on.
func (h *crossingHarness) wantNotClaimed(account string, since time.Time) {
	h.t.Helper()
	claims := h.claimAny(100)
	if slices.ContainsFunc(claims.Claims, func(c quota.CrossingClaim) bool { return c.Account == account }) && time.Since(since) < 10*time.Second {
		h.t.Errorf("%q was claimed: %+v", account, claims)
	}
}

func testClaims(t *testing.T, h *crossingHarness) {
	accounts := []string{"u", member("u"), acme}
	p := NewNotifyingPlan("team", atMost, quota.Limit{Amount: 10, Period: quota.Month}, quota.Limit{Amount: 10, Period: quota.Month, Shared: true})
	h.use(5, "u", "report", p)
	h.use(5, member("u"), "report", p)
	begun := time.Now()
	claimed := h.claim(accounts...)
	for _, account := range accounts {
		h.wantNotClaimed(account, begun)
	}
	h.endClaim(quota.CrossingClaim{Account: "u", Token: claimed["u"].Token + 12345}, 0)
	h.endClaim(quota.CrossingClaim{Account: "nobody", Token: 1}, 0)
	h.wantNotClaimed("u", begun)
	h.wantCrossings("u", "month 50% 5/10")
	h.wantCrossings(member("u"), "month 50% 5/10")
	h.wantCrossings(acme, "shared-month 50% 5/10")
	for _, account := range accounts {
		h.endClaim(claimed[account], 0)
		h.endClaim(claimed[account], 0)
	}
	// What has none is not claimed any more, whenever that is.
	h.clock.Advance(time.Hour)
	h.wantNoneWaiting()
	h.use(3, "u", "report", p)
	h.endClaim(h.claim("u")["u"], 0)
	h.claim("u")
	h.wantCrossings("u", "month 80% 8/10")
}

func testClaimIsTakenOver(t *testing.T, h *crossingHarness) {
	h.use(5, "u", "report", tenAMonth)
	first := h.claim("u")["u"]
	h.clock.Advance(quota.ClaimLife + 5*time.Second)
	begun := time.Now()
	second := h.claim("u")["u"]
	if first.Token == second.Token {
		t.Errorf("both claims have the token %d", first.Token)
	}
	h.endClaim(first, 0) // it is too late
	h.wantNotClaimed("u", begun)
	h.wantCrossings("u", "month 50% 5/10")
	h.endClaim(second, 0)
	h.wantNoneWaiting()
}

func testClaimAgain(t *testing.T, h *crossingHarness) {
	h.use(5, "u", "report", tenAMonth)
	h.endClaim(h.claim("u")["u"], 0)
	claim := h.claim("u")["u"] // at once
	begun := time.Now()
	h.endClaim(claim, time.Hour)
	h.wantNotClaimed("u", begun)
	h.clock.Advance(time.Hour - 15*time.Second)
	h.wantNotClaimed("u", begun)
	h.clock.Advance(20 * time.Second)
	h.endClaim(h.claim("u")["u"], time.Hour)
	// A new crossing is not kept waiting.
	h.use(3, "u", "report", tenAMonth)
	claim = h.claim("u")["u"]
	h.wantCrossings("u", "month 50% 5/10", "month 80% 8/10")
	h.endClaim(claim, time.Hour)
	h.wantNoneWaiting()
}

// Gateways that claim at once share the accounts.
func testConcurrentClaims(t *testing.T, h *crossingHarness) {
	var accounts []string
	for i := range 20 {
		accounts = append(accounts, "u"+string(rune('a'+i)))
		h.use(5, accounts[i], "report", tenAMonth)
	}
	h.eventually("all accounts wait", func() bool { return h.claimAny(0).Waiting == 20 })
	begun := time.Now()
	var mu sync.Mutex
	owners := map[string]int{}
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for time.Since(begun) < 10*time.Second {
				claims, err := h.store.ClaimCrossings(context.Background(), 3)
				if err != nil {
					h.t.Errorf("ClaimCrossings: %v", err)
					return
				}
				mu.Lock()
				for _, c := range claims.Claims {
					owners[c.Account]++
				}
				left := 20 - len(owners)
				mu.Unlock()
				if left == 0 {
					return
				}
			}
		})
	}
	wait.Wait()
	for account, n := range owners {
		if n != 1 && time.Since(begun) < 10*time.Second {
			t.Errorf("%q was claimed %d times", account, n)
		}
	}
	if len(owners) < 20 && time.Since(begun) < 10*time.Second {
		t.Errorf("%d accounts were claimed, want 20", len(owners))
	}
	for _, account := range accounts {
		h.wantCrossings(account, "month 50% 5/10")
	}
}

// Whether it is claimed at once or when the claim has ended, it is claimed.
func testCrossingDuringClaim(t *testing.T, h *crossingHarness) {
	h.use(5, "u", "report", tenAMonth)
	claim := h.claim("u")["u"]
	h.wantCrossings("u", "month 50% 5/10")
	h.use(3, "u", "report", tenAMonth)
	h.endClaim(claim, 0)
	claim = h.claim("u")["u"]
	h.wantCrossings("u", "month 80% 8/10")
	// All that is there was delivered, but not what came since.
	h.use(2, "u", "report", tenAMonth)
	h.endClaim(claim, 0)
	h.claim("u")
	h.wantCrossings("u", "month 100% 10/10")
}

func testWaiting(t *testing.T, h *crossingHarness) {
	want := func(waiting int64, oldest time.Time) {
		t.Helper()
		h.eventually("it is known who waits", func() bool {
			c := h.claimAny(0)
			late := c.Oldest.Sub(oldest)
			return c.Waiting == waiting && (waiting == 0 && c.Oldest.IsZero() || waiting > 0 && late > -time.Second && late < 50*time.Second)
		})
	}
	want(0, noon)
	h.use(5, "u", "report", tenAMonth)
	want(1, noon)
	h.clock.Advance(time.Minute)
	h.use(5, "v", "report", tenAMonth)
	h.use(3, "u", "report", tenAMonth)
	want(2, noon)
	h.clock.Advance(time.Minute)
	claimed := h.claim("u", "v")
	want(2, noon) // claimed or not
	h.end("u", h.crossings("u")[0])
	h.endClaim(claimed["u"], time.Hour)
	want(2, noon.Add(time.Minute))
	h.end("u", h.crossings("u")...)
	h.end("v", h.crossings("v")...)
	h.endClaim(claimed["v"], time.Hour)
	want(1, noon.Add(time.Minute)) // until it is claimed again
	h.clock.Advance(time.Hour + 5*time.Second)
	h.endClaim(h.claim("u")["u"], 0)
	want(0, noon)
}
