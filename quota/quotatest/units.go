package quotatest

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"metergate/quota"
)

// hundredUnits allows 100 units a month, and 20 of them to analyze.
var hundredUnits = NewWeightedPlan("units", quota.Limit{Amount: 100, Period: quota.Month, Quantity: quota.Units},
	quota.Limit{Amount: 20, Period: quota.Month, Endpoint: "analyze", Quantity: quota.Units}, quota.Limit{Amount: 60, Period: quota.Month})

// weighted is a request that may cost so many units.
func weighted(user, endpoint string, units int64, p *quota.Plan) quota.Request {
	r := request(user, endpoint, p)
	r.Units = units
	return r
}

func testUnits(t *testing.T, h *harness) {
	r := h.reserve(weighted("u", "report", 7, hundredUnits)).Reservation
	h.wantState("u", hundredUnits, "0+7 0+7 0+0 0+1 [0 0 0] units [0 0 0]")
	r.Unused = 5
	h.wantSnapshot(h.commit(r), "2+0 2+0 0+0 1+0 [0 0 1] units [0 0 2]")
	h.wantSnapshot(h.commit(r), "2+0 2+0 0+0 1+0 [0 0 1] units [0 0 2]") // sent twice
	free := h.reserve(weighted("u", "report", 3, hundredUnits)).Reservation
	free.Unused = 3
	h.wantSnapshot(h.commit(free), "2+0 2+0 0+0 2+0 [0 0 2] units [0 0 2]")
	h.release(h.reserve(weighted("u", "report", 90, hundredUnits)).Reservation)
	h.wantState("u", hundredUnits, "2+0 2+0 0+0 2+0 [0 0 2] units [0 0 2]")

	// The most that a request may cost must fit, in the endpoint's limit and in the plan's.
	if d := h.reserve(weighted("u", "analyze", 21, hundredUnits)); d.Admitted {
		t.Error("21 units are admitted where 20 are left")
	}
	if d := h.reserve(weighted("u", "report", 99, hundredUnits)); d.Admitted {
		t.Error("99 units are admitted where 98 are left")
	}
	held := h.reserve(weighted("u", "report", 98, hundredUnits)).Reservation
	if d := h.reserve(weighted("u", "report", 1, hundredUnits)); d.Admitted || !d.Snapshot.Refusal("report", 1).OnlyHeld {
		t.Errorf("admitted %v while others hold the last units; only held %v", d.Admitted, d.Snapshot.Refusal("report", 1).OnlyHeld)
	}
	h.wantSnapshot(h.commit(held), "100+0 100+0 0+0 3+0 [0 0 3] units [0 0 100]")
	if d := h.reserve(weighted("u", "report", 1, hundredUnits)); d.Admitted || d.Snapshot.Refusal("report", 1).OnlyHeld {
		t.Errorf("admitted %v when all units are used", d.Admitted)
	}
}

// A plan that counts requests, or none, keeps what the units were.
func testUnitsSurvivePlanChange(t *testing.T, h *harness) {
	h.commit(h.reserve(weighted("u", "report", 5, hundredUnits)).Reservation)
	h.use(2, "u", "report", hundredAMonth)
	h.wantState("u", hundredAMonth, "3+0 3+0 [0 0 3]")
	h.wantState("u", hundredUnits, "7+0 7+0 0+0 3+0 [0 0 3] units [0 0 7]")
}

func testUnitGrantsAndCounts(t *testing.T, h *harness) {
	h.applyChange("u", hundredUnits, quota.Change{Action: quota.ActionSetCounts, Period: quota.Month,
		Counts: map[string]int64{"report": 10, "analyze": 4}, CountUnits: map[string]int64{"report": 96}})
	h.wantState("u", hundredUnits, "100+0 100+0 4+0 14+0 [4 0 10] units [4 0 96]")
	h.refuse("u", "report", hundredUnits)
	h.wantSnapshot(h.applyChange("u", hundredUnits, quota.Change{Action: quota.ActionGrant, Units: 3}),
		"100+0 100+0/3 4+0 14+0 [4 0 10] units [4 0 96]")
	h.wantSnapshot(h.applyChange("u", hundredUnits, quota.Change{Action: quota.ActionGrant, Requests: 2}),
		"100+0 100+0/3 4+0 14+0/2 [4 0 10] units [4 0 96]")
	if d := h.reserve(weighted("u", "report", 4, hundredUnits)); d.Admitted {
		t.Error("4 units are admitted after a grant of 3")
	}
	h.commit(h.reserve(weighted("u", "report", 3, hundredUnits)).Reservation)
	h.wantState("u", hundredUnits, "103+0 103+0/3 4+0 15+0/2 [4 0 11] units [4 0 99]")
	h.wantSnapshot(h.applyChange("u", hundredUnits, quota.Change{Action: quota.ActionReset}),
		"0+0 0+0/3 0+0 0+0/2 [0 0 0] units [0 0 0]")
	none := NewPlan("none", quota.Limit{Amount: 5, Period: quota.Month})
	h.rejectChange("u", none, quota.Change{Action: quota.ActionGrant, Units: 3}, quota.ErrNoSuchLimit)
	most := quota.Change{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"report": 1, "analyze": 1},
		CountUnits: map[string]int64{"report": quota.MaxAmount, "analyze": 1}}
	h.rejectChange("u", hundredUnits, most, quota.ErrTooLarge)
}

// A request of which every part of its hold ends by itself, because its gateway died.
func testUnitsEndWithLease(t *testing.T, h *harness) {
	r := weighted("u", "report", 60, hundredUnits)
	r.Lease = 40 * time.Second
	h.reserve(r)
	h.reserve(weighted("u", "report", 30, hundredUnits))
	h.clock.Advance(45 * time.Second)
	h.wantState("u", hundredUnits, "0+30 0+30 0+0 0+1 [0 0 0] units [0 0 0]")
	h.reserve(weighted("u", "report", 70, hundredUnits))
	h.wantState("u", hundredUnits, "0+100 0+100 0+0 0+2 [0 0 0] units [0 0 0]")
}

// testConcurrentUnits: however requests of many costs meet, the limit is never exceeded, and what
// is used in the end is what was charged.
func testConcurrentUnits(t *testing.T, h *harness) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var charged int64
	for i := range 300 {
		rnd := rand.New(rand.NewPCG(uint64(i), 17))
		wg.Go(func() {
			d, err := h.store.Reserve(context.Background(), weighted("u", "report", 1+rnd.Int64N(20), hundredUnits))
			if err != nil {
				h.t.Errorf("Reserve: %v", err)
				return
			}
			if n := d.Snapshot.Limits[0]; n.Used+n.Held > 100 {
				h.t.Errorf("%d used and %d held of 100", n.Used, n.Held)
			}
			if !d.Admitted {
				return
			}
			r := d.Reservation
			if rnd.IntN(3) == 0 {
				if _, err := h.store.Release(context.Background(), &r); err != nil {
					h.t.Errorf("Release: %v", err)
				}
				return
			}
			r.Unused = rnd.Int64N(r.HeldUnits() + 1)
			if _, err := h.store.Commit(context.Background(), &r); err != nil {
				h.t.Errorf("Commit: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			charged += r.ChargedUnits()
		})
	}
	wg.Wait()
	s, err := h.store.Read(context.Background(), "u", hundredUnits.OnlyChoice())
	if err != nil {
		t.Fatal(err)
	}
	if n := s.Limits[0]; n.Used != charged || n.Held != 0 || charged > 100 {
		t.Errorf("%d used, %d held, %d charged, of 100", n.Used, n.Held, charged)
	}
}

// testExactUnits: of many requests that cost 5 each, exactly those pass that fit.
func testExactUnits(t *testing.T, h *harness) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	admitted := 0
	for range 200 {
		wg.Go(func() {
			d, err := h.store.Reserve(context.Background(), weighted("u", "report", 5, hundredUnits))
			if err != nil {
				h.t.Errorf("Reserve: %v", err)
			} else if d.Admitted {
				h.commit(d.Reservation)
				mu.Lock()
				defer mu.Unlock()
				admitted++
			}
		})
	}
	wg.Wait()
	if admitted != 20 {
		t.Errorf("%d of 200 requests of 5 units were admitted, want 20", admitted)
	}
	h.wantState("u", hundredUnits, "100+0 100+0 0+0 20+0 [0 0 20] units [0 0 100]")
}

func testSoftLimit(t *testing.T, h *harness) {
	p := NewPlan("soft", quota.Limit{Amount: 1, Period: quota.Month, Soft: true}, quota.Limit{Amount: 3, Period: quota.Month})
	h.commit(h.passObserved(request("u", "report", p)))
	h.commit(h.passObserved(request("u", "report", p), "month-soft"))
	h.commit(h.passObserved(request("u", "report", p), "month-soft"))
	s := h.refuse("u", "report", p)
	if violated := s.Refusal("report", 1).Violated; len(violated) != 1 || violated[0] != 1 {
		t.Errorf("refused by limits %v, want 1", violated)
	}
	if u := s.Usage("u"); *u.Limit != 3 || !u.Limits[0].Soft || *u.Limits[0].Over != 2 || u.Limits[1].Over != nil {
		t.Errorf("usage %+v", u)
	}
	// A grant raises the hard limit.
	h.wantSnapshot(h.applyChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 1, Period: quota.Month}), "3+0 3+0 3+0/1 [0 0 3]")
	h.commit(h.passObserved(request("u", "report", p), "month-soft"))
	h.refuse("u", "report", p)

	only := NewPlan("only", quota.Limit{Amount: 1, Period: quota.Month, Soft: true})
	h.wantSnapshot(h.applyChange("v", only, quota.Change{Action: quota.ActionGrant, Requests: 1}), "0+0 0+0/1 [0 0 0]")
	h.commit(h.passObserved(request("v", "report", only)))
	h.commit(h.passObserved(request("v", "report", only)))
	h.commit(h.passObserved(request("v", "report", only), "month-soft"))
}

// A hard limit on units of 0 for one endpoint leaves the others alone.
func testScanUnits(t *testing.T, h *harness) {
	h.commit(h.reserve(weighted("a", "report", 5, hundredUnits)).Reservation)
	h.use(2, "a", "analyze", hundredUnits)
	h.use(1, "b", "analyze", hundredAMonth)
	got := map[string]quota.UserUsage{}
	err := h.store.ScanUsers(context.Background(), quota.WindowQuery{Period: quota.Month, At: h.clock.Now()}, func(u quota.UserUsage) error {
		got[u.User] = u
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if a := got["a"]; a.Used != 3 || a.Endpoints["report"] != 1 || a.Extra["report"] != 4 || len(a.Extra) != 1 {
		t.Errorf("user a is %+v", a)
	}
	if b := got["b"]; b.Used != 1 || len(b.Extra) != 0 {
		t.Errorf("user b is %+v", b)
	}
}
