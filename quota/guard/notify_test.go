package guard_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	bolt "go.etcd.io/bbolt"

	"metergate/quota"

	"metergate/quota/quotatest"
	"metergate/quota/testkit"
)

// notifying are plans with thresholds. A user without one of them in the token has the plan free.
var notifying = func() map[string]*quota.Plan {
	at := []int{50, 100}
	return map[string]*quota.Plan{
		"free": quotatest.NewNotifyingPlan("free", at, quota.Limit{Amount: 4, Period: quota.Month}),
		"pro":  quotatest.NewNotifyingPlan("pro", at, quota.Limit{Amount: 40, Period: quota.Month}),
		"team": quotatest.NewNotifyingPlan("team", at, quota.Limit{Amount: 40, Period: quota.Month}, quota.Limit{Amount: 6, Period: quota.Month, Shared: true}),
	}
}()

func notifyingPlans(account, claimed string) quota.PlanChoice {
	p := notifying[claimed]
	if p == nil {
		p = notifying["free"]
	}
	return quota.PlanChoice{Claimed: p, ByName: notifying, Scope: quota.ScopeOf(account)}
}

// newNotifying is a guarded Redis with a journal in a folder, which notifies.
func newNotifying(t *testing.T, s setup, dir string) *guardedRedis {
	t.Helper()
	r := newGuardedRedis(t, s)
	r.Close()
	r.options.Journal, r.options.PlansFor = openJournal(t, dir), notifyingPlans
	r.Store = open(t, r.options)
	return r
}

// useBy makes requests of an account whose token claims a plan.
func (r *guardedRedis) useBy(n int, account, claimed string) {
	r.t.Helper()
	for range n {
		q := request(account, notifying[claimed])
		q.Plans = notifyingPlans(account, claimed)
		d, err := r.Reserve(ctx, q)
		if err != nil || !d.Admitted {
			r.t.Fatalf("admitted %v, error %v", d.Admitted, err)
		}
		r.commit(&d.Reservation)
	}
}

// wantCrossings compares the crossings of an account: "PLAN LIMIT THRESHOLD of ALLOWANCE". How many counts are replayed
// in one step is not looked at.
func (r *guardedRedis) wantCrossings(account string, want ...string) {
	r.t.Helper()
	crossings, err := r.CrossingsOf(ctx, account)
	if err != nil {
		r.t.Fatal(err)
	}
	var got []string
	for _, c := range crossings {
		got = append(got, fmt.Sprintf("%s %s %d%% of %d", c.Plan, c.Limit, c.Threshold, c.Allowance))
	}
	if !slices.Equal(got, want) {
		r.t.Errorf("the crossings of %q are %q, want %q", account, got, want)
	}
}

// wantClaimed waits until the accounts are claimed.
func (r *guardedRedis) wantClaimed(accounts ...string) {
	r.t.Helper()
	claimed := map[string]bool{}
	testkit.Eventually(r.t, "the accounts are claimed", func() bool {
		claims, err := r.ClaimCrossings(ctx, 100)
		if err != nil {
			r.t.Fatal(err)
		}
		for _, c := range claims.Claims {
			claimed[c.Account] = true
		}
		return !slices.ContainsFunc(accounts, func(account string) bool { return !claimed[account] })
	})
}

// What is counted in an outage crosses when it is replayed, by the plans that the tokens claimed.
func TestCrossingsOfOutage(t *testing.T) {
	r := newNotifying(t, setup{allow: true}, t.TempDir())
	u, pool := quota.MemberAccount("acme", "u"), quota.PoolAccount("acme")
	r.useBy(1, "seen", "free")
	r.useBy(1, u, "team")
	r.beginOutage()
	r.useBy(2, "seen", "free")
	r.useBy(3, "new", "free")
	r.useBy(3, "pro", "pro")
	r.useBy(4, u, "team")
	for name, call := range map[string]func() error{
		"ClaimCrossings": func() error { _, err := r.ClaimCrossings(ctx, 10); return err },
		"CrossingsOf":    func() error { _, err := r.CrossingsOf(ctx, "seen"); return err },
		"EndCrossings":   func() error { return r.EndCrossings(ctx, "seen", []string{"msg_1"}) },
		"EndClaim":       func() error { return r.EndClaim(ctx, quota.CrossingClaim{Account: "seen", Token: 1}, 0) },
	} {
		if err := call(); err == nil || quota.StoreResponded(err) {
			t.Errorf("%s in an outage: error %v", name, err)
		}
	}
	r.endOutage()
	r.waitForReplay()
	want := func() {
		t.Helper()
		r.wantCrossings("seen", "free month 50% of 4")
		r.wantCrossings("new", "free month 50% of 4")
		r.wantCrossings("pro")
		r.wantCrossings(u)
		r.wantCrossings(pool, "team shared-month 50% of 6")
	}
	want()
	r.wantClaimed("seen", "new", pool)
	r.useBy(1, "seen", "free")
	r.useBy(1, u, "team")
	r.wantCrossings("seen", "free month 50% of 4", "free month 100% of 4")
	r.wantCrossings(pool, "team shared-month 50% of 6", "team shared-month 100% of 6")
}

// A gateway that is started on the journal of one that has died replays by the plans in it; those that an older
// release has written have none.
func TestJournalHasClaimedPlans(t *testing.T) {
	for _, older := range []bool{false, true} {
		t.Run(fmt.Sprint("older ", older), func(t *testing.T) {
			dir := t.TempDir()
			r := newNotifying(t, setup{allow: true}, dir)
			r.useBy(1, "known", "pro")
			r.beginOutage()
			r.useBy(19, "known", "pro")
			r.useBy(20, "new", "pro")
			r.Close()
			if older {
				forgetPlans(t, dir)
			}
			r.endOutage()
			r.options.Journal = openJournal(t, dir)
			r.Store = open(t, r.options)
			r.waitForReplay()
			r.wantCrossings("known", "pro month 50% of 40")
			if older { // the plan of new users is not known
				crossings, err := r.CrossingsOf(ctx, "new")
				if last := len(crossings) - 1; err != nil || last < 0 || crossings[last].Plan != "free" || crossings[last].Threshold != 100 {
					t.Errorf("the crossings of a new user are %+v, error %v", crossings, err)
				}
			} else {
				r.wantCrossings("new", "pro month 50% of 40")
			}
			r.wantClaimed("known", "new")
		})
	}
}

// forgetPlans takes the plans out of a journal.
func forgetPlans(t *testing.T, dir string) {
	t.Helper()
	db, err := bolt.Open(dir+"/journal.db", 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	changed := 0
	err = db.Update(func(tx *bolt.Tx) error {
		entries, after := tx.Bucket([]byte("entries")), map[string]string{}
		err := entries.ForEach(func(k, v []byte) error {
			if text, found := cutText(string(v), `"plan":"pro",`); found {
				after[string(k)] = text
			}
			return nil
		})
		for k, text := range after {
			changed++
			if err := entries.Put([]byte(k), []byte(text)); err != nil {
				return err
			}
		}
		return err
	})
	if err != nil || changed != 39 {
		t.Fatalf("%d entries have a plan, want 39; error %v", changed, err)
	}
}

// Calls for notifications that fail open no circuit breaker.
func TestCrossingsOpenNoBreaker(t *testing.T) {
	r := newNotifying(t, setup{allow: true, timeout: time.Second}, t.TempDir())
	r.useBy(2, "u", "free")
	r.beginOutage()
	for range 10 {
		if _, err := r.ClaimCrossings(ctx, 10); err == nil {
			t.Error("ClaimCrossings has no error")
		}
		if _, err := r.CrossingsOf(ctx, "u"); err == nil {
			t.Error("CrossingsOf has no error")
		}
		if err := r.EndCrossings(ctx, "u", []string{"msg_1"}); err == nil {
			t.Error("EndCrossings has no error")
		}
	}
	if st := r.Stats(); st.OpenBreakers != 0 {
		t.Errorf("%d circuit breakers are open", st.OpenBreakers)
	}
	r.endOutage()
	testkit.Eventually(t, "the crossings can be read", func() bool {
		crossings, err := r.CrossingsOf(ctx, "u")
		return err == nil && len(crossings) == 1
	})
}

// Without thresholds, the journal has no plans, and nobody asks for them.
func TestNoPlansWithoutThresholds(t *testing.T) {
	dir := t.TempDir()
	r := newGuardedRedis(t, setup{allow: true})
	r.Close()
	r.options.Journal, r.options.PlansFor = openJournal(t, dir), func(account, claimed string) quota.PlanChoice {
		if claimed != "" {
			t.Errorf("the plans of a token with %q are asked for", claimed)
		}
		return five.OnlyChoice()
	}
	r.Store = open(t, r.options)
	r.use(1, "u", five)
	r.beginOutage()
	r.use(3, "u", five)
	r.Close()
	db, err := bolt.Open(dir+"/journal.db", 0o600, &bolt.Options{Timeout: time.Second})
	if err != nil {
		t.Fatal(err)
	}
	err = db.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte("entries")).ForEach(func(_, v []byte) error {
			if _, found := cutText(string(v), `"plan"`); found {
				t.Errorf("the journal has %s", v)
			}
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := db.Close(); err != nil {
		t.Fatal(err)
	}
	r.endOutage()
	r.options.Journal = openJournal(t, dir)
	r.Store = open(t, r.options)
	r.waitForReplay()
	r.wantState("u", five, "4+0")
}

// cutText returns a text without a part of it, and whether it had that.
func cutText(text, part string) (rest string, found bool) {
	before, after, found := strings.Cut(text, part)
	return before + after, found
}
