package guard_test

import (
	"testing"
	"time"

	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A commit that Redis has carried out, but whose answer is lost, counts once.
func TestCommitWithLostAnswerCountsOnce(t *testing.T) {
	for name, c := range map[string]struct {
		fate    redistest.Fate
		timeout time.Duration
	}{
		"never comes":    {redistest.Drop, 2 * time.Second},
		"connection cut": {redistest.Cut, patient},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newGuardedRedis(t, setup{timeout: c.timeout})
			r.warmUp()
			res := r.admit("u", five)
			r.faultProxy.OnReply(func(redistest.Command, string) redistest.Fate { return c.fate })
			if got := numbers(r.commit(res)); got != "1+0 stale" {
				t.Errorf("state %s, want 1+0 stale", got)
			}
			r.endOutage()
			r.waitForReplay()
			r.wantState("u", five, "1+0")
		})
	}
}

// A reserve whose answer was lost does not hold its unit until the lease ends.
func TestReserveWithLostAnswerIsReleased(t *testing.T) {
	r := newGuardedRedis(t, setup{})
	r.use(1, "u", five)
	r.faultProxy.OnReply(func(redistest.Command, string) redistest.Fate { return redistest.Cut })
	if _, err := r.Reserve(ctx, request("u", five)); err == nil {
		t.Fatal("no error")
	}
	r.endOutage()
	testkit.EventuallyWithin(t, time.Minute, "nothing is held", func() bool { return r.state("u", five) == "1+0" })
}

// If a reserve whose answer was lost is admitted nevertheless, its unit may be held. The commit
// settles it, and it counts once.
func TestUncheckedReserveWithLostAnswerCountsOnce(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.use(1, "u", five)
	r.faultProxy.OnReply(func(redistest.Command, string) redistest.Fate { return redistest.Cut })
	res := r.admit("u", five)
	r.endOutage()
	r.commit(res)
	r.waitForReplay()
	r.wantState("u", five, "2+0")
}
