package quotatest

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"metergate/quota"
)

// acme is the pool of the organisation of member.
var acme = quota.PoolAccount("acme")

// team allows each member 3 requests a month, all of them together 5, and 2 to report.
var team = NewPlan("team", quota.Limit{Amount: 3, Period: quota.Month},
	quota.Limit{Amount: 5, Period: quota.Month, Shared: true}, quota.Limit{Amount: 2, Period: quota.Month, Endpoint: "report", Shared: true})

func testSharedLimits(t *testing.T, h *harness) {
	violated := func(user, endpoint string, want ...string) {
		t.Helper()
		var names []string
		s := h.refuse(user, endpoint, team)
		for _, i := range s.Refusal(endpoint, 1).Violated {
			names = append(names, s.Plan.Limits()[i].Name())
		}
		if fmt.Sprint(names) != fmt.Sprint(want) {
			t.Errorf("%q is refused by %v, want %v", user, names, want)
		}
	}
	h.use(2, member("a"), "report", team)
	h.wantState(member("a"), team, "2+0 2+0 2+0 2+0 [0 0 2]")
	violated(member("b"), "report", "shared-report-month")
	held := h.admit(member("b"), "analyze", team)
	h.wantState(member("c"), team, "0+0 0+0 2+1 2+0 [0 0 0]")
	h.wantSnapshot(h.release(held), "0+0 0+0 2+0 2+0 [0 0 0]")
	h.wantSnapshot(h.release(held), "0+0 0+0 2+0 2+0 [0 0 0]") // sent twice
	h.use(3, member("b"), "analyze", team)
	violated(member("b"), "analyze", "month", "shared-month")
	violated(member("c"), "analyze", "shared-month")
	h.wantState(acme, team, "5+0 5+0 2+0 [3 0 2]")
	// Another organisation, and the same person without one, have their own.
	h.use(1, quota.MemberAccount("globex", "a"), "report", team)
	h.use(3, "a", "report", team)
	h.refuse("a", "report", team)
	h.wantState("a", team, "3+0 3+0 [0 0 3]")
	h.wantState(member("a"), team, "2+0 2+0 5+0 2+0 [0 0 2]")
	h.clock.Advance(31 * 24 * time.Hour)
	h.wantState(member("a"), team, "0+0 0+0 0+0 0+0 [0 0 0]")
	h.wantState(acme, team, "0+0 0+0 0+0 [0 0 0]")
}

// Units that one member holds refuse another, who has never been seen.
func testHeldUnitsAreShared(t *testing.T, h *harness) {
	p := NewWeightedPlan("units", quota.Limit{Amount: 9, Period: quota.Month, Quantity: quota.Units},
		quota.Limit{Amount: 5, Period: quota.Month, Quantity: quota.Units, Shared: true})
	held := h.reserve(weighted(member("a"), "report", 3, p))
	for range 2 {
		if d := h.reserve(weighted(member("b"), "report", 3, p)); d.Admitted || !d.Snapshot.Refusal("report", 3).OnlyHeld {
			t.Errorf("3 units of 5, of which 3 are held: admitted %v, %+v", d.Admitted, d.Snapshot.Limits)
		}
	}
	h.release(held.Reservation)
	if d := h.reserve(weighted(member("b"), "report", 3, p)); !d.Admitted {
		t.Errorf("3 units of 5: %+v", d.Snapshot.Limits)
	}
}

// What a member's gateway held when it died comes back to the member and to the pool.
func testSharedHoldEndsWithLease(t *testing.T, h *harness) {
	dead := request(member("a"), "report", team)
	dead.Lease = 40 * time.Second
	h.reserve(dead)
	late := request(member("a"), "report", team)
	late.Lease = 40 * time.Second
	r := h.reserve(late).Reservation
	h.refuse(member("b"), "report", team)
	h.wantState(acme, team, "0+2 0+2 0+2 [0 0 0]")
	h.clock.Advance(45 * time.Second)
	h.wantState(acme, team, "0+0 0+0 0+0 [0 0 0]")
	h.wantState(member("a"), team, "0+0 0+0 0+0 0+0 [0 0 0]")
	h.admit(member("b"), "report", team)
	for range 2 {
		h.wantSnapshot(h.commit(r), "1+0 1+0 1+1 1+1 [0 0 1]") // after its lease, and twice
	}
	h.wantState(acme, team, "1+1 1+1 1+1 [0 0 1]")
	h.wantState(member("b"), team, "0+1 0+1 1+1 1+1 [0 0 0]")
}

func testSharedUnits(t *testing.T, h *harness) {
	p := NewWeightedPlan("team", quota.Limit{Amount: 20, Period: quota.Month, Quantity: quota.Units, Shared: true},
		quota.Limit{Amount: 8, Period: quota.Month, Quantity: quota.Units})
	r := h.reserve(weighted(member("a"), "report", 8, p)).Reservation
	h.wantState(member("b"), p, "0+0 0+8 0+0 [0 0 0] units [0 0 0]")
	r.Unused = 3
	h.wantSnapshot(h.commit(r), "5+0 5+0 5+0 [0 0 1] units [0 0 5]")
	if d := h.reserve(weighted(member("a"), "report", 4, p)); d.Admitted {
		t.Error("4 units are admitted where the member has 3 left")
	}
	h.commit(h.reserve(weighted(member("b"), "report", 8, p)).Reservation)
	if d := h.reserve(weighted(member("c"), "report", 8, p)); d.Admitted {
		t.Error("8 units are admitted where the organisation has 7 left")
	}
	h.wantSnapshot(h.commit(h.reserve(weighted(member("c"), "report", 7, p)).Reservation), "7+0 20+0 7+0 [0 0 1] units [0 0 7]")
	h.wantState(acme, p, "20+0 20+0 [0 0 3] units [0 0 20]")
}

// What an administrator changes of the pool is the pool's, and of a member is the member's.
func testChangesOfPools(t *testing.T, h *harness) {
	h.use(3, member("a"), "analyze", team)
	h.use(2, member("b"), "analyze", team)
	h.refuse(member("c"), "analyze", team)
	h.wantSnapshot(h.applyChange(acme, team, quota.Change{Action: quota.ActionGrant, Requests: 2}), "5+0 5+0/2 0+0 [5 0 0]")
	h.wantState(member("c"), team, "0+0 0+0 5+0/2 0+0 [0 0 0]")
	h.use(1, member("c"), "analyze", team)
	h.refuse(member("a"), "analyze", team) // by the member's own limit
	h.wantSnapshot(h.applyChange(member("a"), team, quota.Change{Action: quota.ActionGrant, Requests: 4}), "3+0 3+0/4 6+0/2 0+0 [3 0 0]")
	h.use(1, member("a"), "analyze", team)
	h.refuse(member("a"), "analyze", team) // by the shared limit
	h.wantSnapshot(h.applyChange(member("a"), team, quota.Change{Action: quota.ActionReset}), "0+0 0+0/4 7+0/2 0+0 [0 0 0]")
	h.wantSnapshot(h.applyChange(acme, team, quota.Change{Action: quota.ActionReset}), "0+0 0+0/2 0+0 [0 0 0]")
	h.wantState(member("b"), team, "2+0 2+0 0+0/2 0+0 [2 0 0]")
	h.setMonthCounts(acme, map[string]int64{"report": 6})
	h.wantState(member("b"), team, "2+0 2+0 6+0/2 6+0 [2 0 0]")
	if entries := h.auditLog(acme); len(entries) != 3 {
		t.Errorf("the pool's audit log is %+v", entries)
	}
	if entries := h.auditLog(member("a")); len(entries) != 2 {
		t.Errorf("the member's audit log is %+v", entries)
	}
	daily := quota.Change{Action: quota.ActionGrant, Requests: 1, Period: quota.Day}
	onlyShared := NewPlan("p", quota.Limit{Amount: 5, Period: quota.Day, Shared: true})
	h.rejectChange(member("a"), onlyShared, daily, quota.ErrNoSuchLimit)
	h.applyChange(acme, onlyShared, daily)
	h.rejectChange(acme, NewPlan("p", quota.Limit{Amount: 5, Period: quota.Day}), daily, quota.ErrNoSuchLimit)
}

// The plan of a member is the one set for them, else the one set for the organisation, else the claimed
// one.
func testOverrideOfPool(t *testing.T, h *harness) {
	free, big := NewPlan("free", quota.Limit{Amount: 1, Period: quota.Month}), NewPlan("big", quota.Limit{Amount: 9, Period: quota.Month})
	choice := choiceOf(member("a"), free)
	choice.ByName = map[string]*quota.Plan{"free": free, "big": big, "team": team}
	change := func(account string, c quota.Change) {
		t.Helper()
		choice := choice
		choice.Scope = quota.ScopeOf(account)
		if _, err := h.store.ApplyChange(context.Background(), account, choice, c); err != nil {
			t.Fatal(err)
		}
	}
	want := func(user, plan string) {
		t.Helper()
		choice := choice
		choice.Scope = quota.ScopeOf(user)
		r := request(user, "analyze", free)
		r.Plans = choice
		d := h.reserve(r)
		if got := d.Snapshot.Plan.Name(); got != plan || d.Reservation.Plan != nil && d.Reservation.Plan.Name() != plan {
			t.Errorf("%q reserves by the plan %s, want %s", user, got, plan)
		}
		if d.Admitted {
			s, err := h.store.Release(context.Background(), &d.Reservation)
			if err != nil || s.Plan.Name() != plan {
				t.Errorf("%q releases by the plan %s (error %v), want %s", user, s.Plan.Name(), err, plan)
			}
		}
		s, err := h.store.Read(context.Background(), user, choice)
		if err != nil || s.Plan.Name() != plan {
			t.Errorf("%q reads by the plan %s (error %v), want %s", user, s.Plan.Name(), err, plan)
		}
	}
	want(member("a"), "free")
	change(acme, quota.Change{Action: quota.ActionSetPlan, Plan: "team"})
	want(member("a"), "team")
	want(member("b"), "team")
	want("a", "free")
	want(quota.MemberAccount("globex", "a"), "free")
	change(member("a"), quota.Change{Action: quota.ActionSetPlan, Plan: "big", Until: h.clock.Now().Add(time.Hour)})
	want(member("a"), "big")
	want(member("b"), "team")
	h.clock.Advance(2 * time.Hour)
	want(member("a"), "team")
	change(acme, quota.Change{Action: quota.ActionClearPlan})
	want(member("a"), "free")
	want(member("b"), "free")
}

// testConcurrentMembers: of 1,000 requests of 50 members at once, exactly the pool's 100 are admitted,
// and of no member more than their own 3.
func testConcurrentMembers(t *testing.T, h *harness) {
	p := NewPlan("team", quota.Limit{Amount: 3, Period: quota.Month}, quota.Limit{Amount: 100, Period: quota.Month, Shared: true})
	admitted := map[string]int64{}
	total := 0
	var mu sync.Mutex
	var wait sync.WaitGroup
	for i := range 1000 {
		wait.Go(func() {
			user := member(fmt.Sprint("user-", i%50))
			d, err := h.store.Reserve(context.Background(), request(user, "analyze", p))
			if err != nil {
				h.t.Errorf("Reserve: %v", err)
			}
			if !d.Admitted {
				return
			}
			if _, err := h.store.Commit(context.Background(), &d.Reservation); err != nil {
				h.t.Errorf("Commit: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			admitted[user]++
			total++
		})
	}
	wait.Wait()
	if total != 100 {
		t.Errorf("%d of 1000 were admitted, want 100", total)
	}
	for user, n := range admitted {
		s, err := h.store.Read(context.Background(), user, choiceOf(user, p))
		if err != nil || n > 3 || s.Limits[0].Used != n || s.Limits[0].Held != 0 || s.Limits[1].Used != 100 || s.Limits[1].Held != 0 {
			t.Errorf("%q: %d admitted, %s (error %v)", user, n, numbers(s), err)
		}
	}
	h.wantState(acme, p, "100+0 100+0 [100 0 0]")
}
