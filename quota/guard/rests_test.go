package guard_test

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// twentyUnits allows 20 units a month, and the members of an organisation 25.
var twentyUnits = quotatest.NewWeightedPlan("units", quota.Limit{Amount: 20, Period: quota.Month, Quantity: quota.Units},
	quota.Limit{Amount: 25, Period: quota.Month, Quantity: quota.Units, Shared: true})

var usersWithRests = map[string]string{"user": "u", "member": quota.MemberAccount("acme", "a")}

// unitsRequest is a request that may cost so many units, of a user or a member.
func unitsRequest(user string, units int64) quota.Request {
	q := request(user, twentyUnits)
	q.Units, q.Plans.Scope = units, quota.ScopeOf(user)
	return q
}

// admitRest reserves 9 units, of which the first step charges 1 and the second 4.
func (r *guardedRedis) admitRest(user string) *quota.Reservation {
	r.t.Helper()
	d, err := r.Reserve(ctx, unitsRequest(user, 9))
	if err != nil || !d.Admitted {
		r.t.Fatalf("admitted %v, error %v; want true", d.Admitted, err)
	}
	d.Reservation.Unused, d.Reservation.Rest, d.Reservation.RestCharged = 8, 8, 4
	return &d.Reservation
}

func (r *guardedRedis) commitRest(res *quota.Reservation) quota.Snapshot {
	r.t.Helper()
	s, err := r.CommitRest(ctx, res)
	if err != nil {
		r.t.Fatalf("CommitRest: %v", err)
	}
	return *s
}

// wantUnits compares what is known of a user and, if they are a member, of the pool: "used+held" units and
// the number of requests, followed by "stale" if it is.
func (r *guardedRedis) wantUnits(user, want string) {
	r.t.Helper()
	for _, account := range []string{user, quota.PoolOf(user)} {
		if account == "" {
			continue
		}
		if got := r.units(account); got != want {
			r.t.Errorf("%q has %s units and requests, want %s", account, got, want)
		}
	}
}

func (r *guardedRedis) units(account string) string {
	s, err := r.Read(ctx, account, unitsRequest(account, 1).Plans)
	if err != nil {
		return err.Error()
	}
	text := fmt.Sprintf("%d+%d %d", s.Limits[0].Used, s.Limits[0].Held, s.Endpoints[0])
	if s.Stale {
		text += " stale"
	}
	return text
}

// In an outage, whichever steps of a request it meets, what is known here has each unit once, and what
// was charged reaches the store once.
func TestRestsInOutage(t *testing.T) {
	const reserve, first, second, end = 0, 1, 2, 3
	for name, user := range usersWithRests {
		for _, outage := range []struct{ begins, ends int }{
			{reserve, end}, {reserve, second}, {reserve, first}, {first, end}, {first, second}, {second, end},
		} {
			t.Run(fmt.Sprintf("%s, outage from %d to %d", name, outage.begins, outage.ends), func(t *testing.T) {
				t.Parallel()
				r := newGuardedRedis(t, setup{allow: true})
				r.wantUnits(user, "0+0 0")
				stale := ""
				begin := func(step int) {
					switch step {
					case outage.begins:
						r.beginOutage()
						stale = " stale"
					case outage.ends:
						r.endOutage()
						r.waitForReplay()
						stale = ""
					}
				}
				begin(reserve)
				res := r.admitRest(user)
				r.wantUnits(user, "0+9 0"+stale)
				begin(first)
				r.commit(res)
				r.wantUnits(user, "1+8 1"+stale)
				begin(second)
				r.wantUnits(user, "1+8 1"+stale)
				if d, err := r.Reserve(ctx, unitsRequest(user, 12)); err != nil || d.Admitted {
					t.Errorf("12 units when 11 are left: admitted %v, error %v", d.Admitted, err)
				}
				r.commitRest(res)
				r.wantUnits(user, "5+0 1"+stale)
				begin(end)
				r.waitForReplay()
				r.wantUnits(user, "5+0 1")
			})
		}
	}
}

// With on_failure: deny, a request that was admitted before the outage is settled in it all the same.
func TestRestsInOutageThatDenies(t *testing.T) {
	r := newGuardedRedis(t, setup{})
	res := r.admitRest("u")
	r.beginOutage()
	if d, err := r.Reserve(ctx, unitsRequest("u", 1)); err == nil || d.Admitted {
		t.Errorf("admitted %v, error %v; want the store's error", d.Admitted, err)
	}
	r.commit(res)
	r.commitRest(res)
	r.endOutage()
	r.waitForReplay()
	r.wantUnits("u", "5+0 1")
}

// A step that Redis has carried out, but whose answer is lost, counts once. After a first step without an
// answer the second waits as well, so that Redis still recognises the first.
func TestStepsWithLostAnswerCountOnce(t *testing.T) {
	for _, lost := range []string{redistest.Commit, redistest.CommitRest} {
		for name, user := range usersWithRests {
			t.Run(lost+" of a "+name, func(t *testing.T) {
				t.Parallel()
				r := newGuardedRedis(t, setup{})
				res := r.admitRest(user)
				r.faultProxy.OnReply(func(cmd redistest.Command, reply string) redistest.Fate {
					if cmd.Script() == lost && reply[0] != '-' {
						return redistest.Cut
					}
					return redistest.Pass
				})
				first := r.commit(res)
				second := r.commitRest(res)
				if first.Stale != (lost == redistest.Commit) || !second.Stale {
					t.Errorf("stale after the first step: %v, after the second: %v", first.Stale, second.Stale)
				}
				r.endOutage()
				r.waitForReplay()
				r.wantUnits(user, "5+0 1")
				if st := r.Stats(); st.Dropped > 0 || st.JournalErrors > 0 {
					t.Errorf("%+v", st)
				}
			})
		}
	}
}

// A rest is held in Redis while its response runs, also if its request was counted late.
func TestRestAfterReplayIsHeld(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.beginOutage()
	res := r.admitRest("u")
	r.commit(res)
	r.endOutage()
	r.waitForReplay()
	other, err := redisstore.Open(redisstore.Options{URL: r.redis.URL(), Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if d, err := other.Reserve(ctx, unitsRequest("u", 12)); err != nil || d.Admitted {
		t.Errorf("12 units when another gateway has 8 of 20 held and 1 used: admitted %v, error %v", d.Admitted, err)
	}
	r.commitRest(res)
	r.waitForReplay()
	if d, err := other.Reserve(ctx, unitsRequest("u", 15)); err != nil || !d.Admitted {
		t.Errorf("15 units when 5 are used: admitted %v, error %v", d.Admitted, err)
	}
}

// A gateway that dies leaves in its journal the first step, the second, or both. The next process counts
// what there is once, and holds nothing for a response that is gone.
func TestJournalOfRestsIsReplayedByNextProcess(t *testing.T) {
	for _, c := range []struct {
		name                  string
		beforeFirst, twoSteps bool // the outage begins before the first step; the second is made
		want                  string
	}{
		{"first step", true, false, "1+0 1"},
		{"second step", false, true, "5+0 1"},
		{"both steps", true, true, "5+0 1"},
	} {
		for name, user := range usersWithRests {
			t.Run(c.name+" of a "+name, func(t *testing.T) {
				t.Parallel()
				r := newGuardedRedis(t, setup{allow: true})
				dir := t.TempDir()
				o := r.options
				o.Journal = openJournal(t, dir)
				r.Store = open(t, o)
				res := r.admitRest(user)
				if !c.beforeFirst {
					r.commit(res)
				}
				r.beginOutage()
				if c.beforeFirst {
					r.commit(res)
				}
				if c.twoSteps {
					r.commitRest(res)
				}
				// A crash would leave the file as it is now.
				image, err := os.ReadFile(filepath.Join(dir, "journal.db"))
				if err != nil {
					t.Fatal(err)
				}
				later := r.Store
				for range 2 { // the second process counts nothing more
					dir := t.TempDir()
					if err := os.WriteFile(filepath.Join(dir, "journal.db"), image, 0o600); err != nil {
						t.Fatal(err)
					}
					network := redistest.StartFaultProxy(t, r.redis.Addr)
					backend, err := redisstore.Open(redisstore.Options{URL: network.URL(), Timeout: patient})
					if err != nil {
						t.Fatal(err)
					}
					t.Cleanup(func() { backend.Close() })
					o.Backend, o.Journal = backend, openJournal(t, dir)
					r.Store = open(t, o)
					r.waitForReplay()
					r.wantUnits(user, c.want)
				}
				// The first was not dead after all.
				r.Store = later
				r.endOutage()
				r.waitForReplay()
				if !c.twoSteps {
					r.commitRest(res)
					r.waitForReplay()
				}
				r.wantUnits(user, "5+0 1")
			})
		}
	}
}

// Many steps of one user are replayed in several calls, and each counts once.
func TestReplayOfManyRests(t *testing.T) {
	p := quotatest.NewWeightedPlan("units", quota.Limit{Amount: 100_000, Period: quota.Month, Quantity: quota.Units})
	r := newGuardedRedis(t, setup{allow: true, timeout: 20 * time.Second})
	r.beginOutage()
	const n = guard.MaxReplay + 50
	for range n {
		q := request("u", p)
		q.Units = 3
		d, err := r.Reserve(ctx, q)
		if err != nil || !d.Admitted {
			t.Fatalf("admitted %v, error %v", d.Admitted, err)
		}
		d.Reservation.Unused, d.Reservation.Rest, d.Reservation.RestCharged = 2, 2, 1
		r.commit(&d.Reservation)
		r.commitRest(&d.Reservation)
	}
	r.endOutage()
	r.waitForReplay()
	s, err := r.Read(ctx, "u", p.OnlyChoice())
	if err != nil || s.Limits[0].Used != 2*n || s.Limits[0].Held != 0 || s.Endpoints[0] != n {
		t.Errorf("%d units, %d held, %d requests, error %v; want %d, 0, %d", s.Limits[0].Used, s.Limits[0].Held, s.Endpoints[0], err, 2*n, n)
	}
	if st := r.Stats(); st.Journaled != 2*n || st.Replayed != 2*n {
		t.Errorf("%+v, want %d in the journal and replayed", st, 2*n)
	}
}

// When the gateway has no connection free, the second step waits, which says nothing about the store.
func TestRestOfOverloadedGatewayWaits(t *testing.T) {
	for _, withJournal := range []bool{true, false} {
		local, err := boltstore.Open(t.TempDir(), boltstore.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer local.Close()
		backend := &overloadedStore{Store: local}
		o := guard.Options{Backend: backend, Timeout: time.Second, Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour}
		if withJournal {
			o.Journal = openJournal(t, t.TempDir())
		}
		r := &guardedRedis{t: t, Store: open(t, o)}
		res := r.admitRest("u")
		r.commit(res)
		backend.overloaded.Store(true)
		if _, err := r.CommitRest(ctx, res); (err == nil) != withJournal {
			t.Errorf("with a journal: %v, error %v", withJournal, err)
		}
		if st := r.Stats(); st.OpenBreakers != 0 || st.Backlog != 1 || st.FailedCalls["commit_rest"] != 1 {
			t.Errorf("%+v, want a backlog of 1 and no open breaker", st)
		}
		backend.overloaded.Store(false)
		testkit.Eventually(t, "it is counted", func() bool { return r.units("u") == "5+0 1" })
	}
}

// While the store's data are lost, the second step waits for them.
func TestRestWaitsForRightData(t *testing.T) {
	local, err := boltstore.Open(t.TempDir(), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { local.Close() })
	backend := &losingStore{Store: local}
	r := &guardedRedis{t: t, Store: open(t, guard.Options{Backend: backend, Journal: openJournal(t, t.TempDir()), AllowOnFailure: true,
		Timeout: 20 * time.Second, Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour})}
	known, noticed := r.admitRest("u"), r.admitRest("u")
	r.commit(known)
	r.commit(noticed)
	backend.loses.Store(true)
	r.commitRest(noticed) // the call shows the loss
	r.commitRest(known)
	other := &guardedRedis{t: t, Store: open(t, guard.Options{Backend: local, Timeout: 20 * time.Second, Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour})}
	other.wantUnits("u", "2+16 2")
	if st := r.Stats(); st.Backlog != 2 || st.OpenBreakers != 0 {
		t.Errorf("%+v, want a backlog of 2 and no open breaker", st)
	}
	backend.loses.Store(false)
	backend.lost.Store(false)
	r.waitForReplay()
	r.wantUnits("u", "10+0 2")
}

// Watchers hear of both steps in an outage, those of the pool as well.
func TestWatchersHearOfRestsInOutage(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	user := usersWithRests["member"]
	r.beginOutage()
	res := r.admitRest(user)
	testkit.Eventually(t, "the outage is known", func() bool { r.units(user); return r.Stats().OpenBreakers > 0 })
	for i, step := range []func(){func() { r.commit(res) }, func() { r.commitRest(res) }} {
		channels := map[string]chan struct{}{user: make(chan struct{}, 1), quota.PoolOf(user): make(chan struct{}, 1)}
		for account, ch := range channels {
			defer r.Watch(account, ch)()
		}
		step()
		for account, ch := range channels {
			testkit.Receive(t, fmt.Sprintf("a notification to %q of step %d", account, i+1), ch)
		}
	}
}
