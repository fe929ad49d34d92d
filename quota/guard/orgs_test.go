package guard_test

import (
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
	"metergate/quota/testkit"
)

// team allows each member 4 requests a month, and all of them together 6.
var team = quotatest.NewPlan("team", quota.Limit{Amount: 4, Period: quota.Month}, quota.Limit{Amount: 6, Period: quota.Month, Shared: true})

func choiceOf(account string) quota.PlanChoice {
	choice := team.OnlyChoice()
	choice.Scope = quota.ScopeOf(account)
	return choice
}

// wideTeam allows each member 4 requests a month, and all of them together 1,000.
var wideTeam = quotatest.NewPlan("team", quota.Limit{Amount: 4, Period: quota.Month}, quota.Limit{Amount: 1000, Period: quota.Month, Shared: true})

func (r *guardedRedis) reserveMember(user string) *quota.Decision {
	r.t.Helper()
	return r.reserveMemberBy(team, user)
}

func (r *guardedRedis) reserveMemberBy(p *quota.Plan, user string) *quota.Decision {
	r.t.Helper()
	request := request(quota.MemberAccount("acme", user), p)
	request.Plans.Scope = quota.MemberScope
	d, err := r.Reserve(ctx, request)
	if err != nil {
		r.t.Fatal(err)
	}
	return d
}

func (r *guardedRedis) useMember(user string) {
	r.t.Helper()
	d := r.reserveMember(user)
	if !d.Admitted {
		r.t.Fatalf("a request of %s was refused", user)
	}
	r.commit(&d.Reservation)
}

// wantShared compares the numbers of a member: their own, and then those of the pool.
func (r *guardedRedis) wantShared(user, want string) {
	r.t.Helper()
	account := quota.MemberAccount("acme", user)
	s, err := r.Read(ctx, account, choiceOf(account))
	if err != nil {
		r.t.Fatal(err)
	}
	if got := fmt.Sprintf("%d+%d %d+%d", s.Limits[0].Used, s.Limits[0].Held, s.Limits[1].Used, s.Limits[1].Held); got != want {
		r.t.Errorf("%s has %s, want %s", user, got, want)
	}
}

// In an outage, a member is held to what is known of the pool, whichever member it is known from. What
// was counted reaches the member and the pool once when the store is back.
func TestMembersInOutage(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.useMember("a")
	r.useMember("a")
	r.useMember("b")
	inFlight := r.reserveMember("b")
	pool := quota.PoolAccount("acme")
	if s, err := r.Read(ctx, pool, choiceOf(pool)); err != nil || s.Limits[0].Used != 3 { // an administrator looks at it
		t.Errorf("of the pool: %+v, error %v", s.Limits, err)
	}
	r.beginOutage()
	r.wantShared("a", "2+0 3+1")
	r.useMember("c") // of whom nothing is known
	r.wantShared("c", "1+0 4+1")
	r.wantShared("a", "2+0 4+1")
	if s, err := r.Read(ctx, pool, choiceOf(pool)); err != nil || !s.Stale || s.Limits[0].Used != 4 || s.Limits[0].Held != 1 {
		t.Errorf("of the pool: %+v, error %v", s.Limits, err)
	}
	r.commit(&inFlight.Reservation)
	last := r.reserveMember("c")
	if d := r.reserveMember("d"); d.Admitted {
		t.Error("the seventh of six is admitted")
	}
	r.commit(&last.Reservation)
	r.wantShared("b", "2+0 6+0")
	r.endOutage()
	r.waitForReplay()
	for user, own := range map[string]int{"a": 2, "b": 2, "c": 2, "d": 0} {
		r.wantShared(user, fmt.Sprintf("%d+0 6+0", own))
	}
	if s, err := r.Read(ctx, pool, choiceOf(pool)); err != nil || s.Stale || s.Limits[0].Used != 6 || s.Limits[0].Held != 0 {
		t.Errorf("of the pool after the outage: %+v, error %v", s.Limits, err)
	}
}

// A gateway that starts on the journal of another one counts for member and pool; one that starts on a
// copy of it changes nothing.
func TestJournalOfMembersIsReplayedOnce(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	restart := func(journal string) {
		t.Helper()
		if err := r.Store.Close(); err != nil {
			t.Fatal(err)
		}
		r.options.Journal = openJournal(t, journal)
		r.Store = open(t, r.options)
	}
	first, backup := t.TempDir(), t.TempDir()
	restart(first)
	r.useMember("a")
	r.beginOutage()
	r.useMember("a")
	r.useMember("b")
	if err := r.Store.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(backup, "copy"), os.DirFS(first)); err != nil {
		t.Fatal(err)
	}
	r.endOutage()
	for _, journal := range []string{first, filepath.Join(backup, "copy")} {
		restart(journal)
		r.waitForReplay()
		r.wantShared("a", "2+0 3+0")
		r.wantShared("b", "1+0 3+0")
	}
}

// After an outage, what members have used is counted before another member may use the rest of the pool.
func TestJournalOfMembersIsReplayedBeforeOthers(t *testing.T) {
	r := newGuardedRedis(t, setup{})
	const members = 60
	var inFlight []*quota.Reservation
	for i := range members {
		d := r.reserveMemberBy(wideTeam, fmt.Sprint("m-", i))
		inFlight = append(inFlight, &d.Reservation)
	}
	r.beginOutage()
	for _, res := range inFlight {
		r.commit(res)
	}
	if n := r.Stats().Backlog; n != members {
		t.Fatalf("%d counts wait, want %d", n, members)
	}
	var counted atomic.Int64
	early := make(chan int64, 1000)
	r.faultProxy.OnReply(func(cmd redistest.Command, _ string) redistest.Fate {
		if cmd.Script() == redistest.Commit {
			counted.Add(1)
		}
		return redistest.Pass
	})
	r.faultProxy.OnCommand(func(cmd redistest.Command) redistest.Fate {
		if cmd.Script() == redistest.Reserve && counted.Load() < members {
			select {
			case early <- counted.Load():
			default:
			}
		}
		return redistest.Pass
	})
	r.faultProxy.RefuseConnections(false)
	var s quota.Snapshot
	testkit.EventuallyWithin(t, time.Minute, "another member is served", func() bool {
		request := request(quota.MemberAccount("acme", "other"), wideTeam)
		request.Plans.Scope = quota.MemberScope
		d, err := r.Reserve(ctx, request)
		s = d.Snapshot
		return err == nil && d.Admitted
	})
	if len(early) > 0 {
		t.Errorf("another member was asked for when %d of %d members were counted", <-early, members)
	}
	if c := s.Limits[1]; c.Used != members {
		t.Errorf("of the pool %d are used, want %d", c.Used, members)
	}
}

// A member whose data the store cannot use keeps no other member waiting.
func TestUnusableMemberKeepsNobodyWaiting(t *testing.T) {
	r := newGuardedRedis(t, setup{})
	broken := r.reserveMember("a")
	r.beginOutage()
	r.commit(&broken.Reservation)
	r.redis.Do("HSET", script.Key("metergate", quota.MemberAccount("acme", "a")), "sweep", "later", "format", "9")
	r.endOutage()
	testkit.EventuallyWithin(t, time.Minute, "another member is served", func() bool {
		request := request(quota.MemberAccount("acme", "b"), team)
		request.Plans = choiceOf(request.User)
		d, err := r.Reserve(ctx, request)
		return err == nil && d.Admitted
	})
	if st := r.Stats(); st.Backlog != 1 || st.OpenBreakers != 0 {
		t.Errorf("%d counts wait, and %d breakers are open; want 1 and 0", st.Backlog, st.OpenBreakers)
	}
}
