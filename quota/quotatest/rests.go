package quotatest

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"metergate/quota"
)

// twoSteps is a reservation of so many units, of which Commit charges units-rest and leaves the rest
// held, and CommitRest charges so many.
func (h *harness) twoSteps(r quota.Request, rest, charged int64) quota.Reservation {
	h.t.Helper()
	d := h.reserve(r)
	if !d.Admitted {
		h.t.Fatalf("%d units were refused at %v", r.Units, numbers(d.Snapshot))
	}
	d.Reservation.Unused, d.Reservation.Rest, d.Reservation.RestCharged = rest, rest, charged
	return d.Reservation
}

func (h *harness) commitRest(r quota.Reservation) quota.Snapshot {
	h.t.Helper()
	s, err := h.store.CommitRest(context.Background(), &r)
	if err != nil {
		h.t.Fatalf("CommitRest: %v", err)
	}
	return *s
}

func testTwoSteps(t *testing.T, h *harness) {
	r := h.twoSteps(weighted("u", "report", 8, hundredUnits), 7, 4)
	h.wantState("u", hundredUnits, "0+8 0+8 0+0 0+1 [0 0 0] units [0 0 0]")
	for range 2 { // sent twice
		h.wantSnapshot(h.commit(r), "1+7 1+7 0+0 1+0 [0 0 1] units [0 0 1]")
	}
	h.wantSnapshot(h.release(r), "1+7 1+7 0+0 1+0 [0 0 1] units [0 0 1]")
	for range 2 {
		h.wantSnapshot(h.commitRest(r), "5+0 5+0 0+0 1+0 [0 0 1] units [0 0 5]")
	}
	h.wantSnapshot(h.commit(r), "5+0 5+0 0+0 1+0 [0 0 1] units [0 0 5]")
	h.wantSnapshot(h.release(r), "5+0 5+0 0+0 1+0 [0 0 1] units [0 0 5]")

	// Some units go back in the first step, and others in the second.
	r = h.twoSteps(weighted("u", "analyze", 20, hundredUnits), 9, 9)
	r.Unused = 12
	h.wantSnapshot(h.commit(r), "13+9 13+9 8+9 2+0 [1 0 1] units [8 0 5]")
	if d := h.reserve(weighted("u", "analyze", 4, hundredUnits)); d.Admitted || !d.Snapshot.Refusal("analyze", 4).OnlyHeld {
		t.Errorf("4 units where 3 are left and 9 held: admitted %v, %s", d.Admitted, numbers(d.Snapshot))
	}
	h.wantSnapshot(h.commitRest(r), "22+0 22+0 17+0 2+0 [1 0 1] units [17 0 5]")

	// All of the cost may stand in the answer, and may be nothing.
	free := h.twoSteps(weighted("u", "report", 3, hundredUnits), 3, 0)
	h.wantSnapshot(h.commit(free), "22+3 22+3 17+0 3+0 [1 0 2] units [17 0 5]")
	h.wantSnapshot(h.commitRest(free), "22+0 22+0 17+0 3+0 [1 0 2] units [17 0 5]")
	all := h.twoSteps(weighted("u", "report", 3, hundredUnits), 3, 3)
	h.wantSnapshot(h.commit(all), "22+3 22+3 17+0 4+0 [1 0 3] units [17 0 5]")
	h.wantSnapshot(h.commitRest(all), "25+0 25+0 17+0 4+0 [1 0 3] units [17 0 8]")
}

// Of several rests, and of requests that are held beside them, each has its own units.
func testRestsOfMany(t *testing.T, h *harness) {
	held := h.reserve(weighted("u", "report", 30, hundredUnits)).Reservation
	first := h.twoSteps(weighted("u", "report", 20, hundredUnits), 19, 10)
	second := h.twoSteps(weighted("u", "analyze", 9, hundredUnits), 8, 8)
	h.commit(first)
	h.wantSnapshot(h.commit(second), "2+57 2+57 1+8 2+1 [1 0 1] units [1 0 1]")
	held.Unused = 25
	h.wantSnapshot(h.commit(held), "7+27 7+27 1+8 3+0 [1 0 2] units [1 0 6]")
	// The next request finds no lease, and the rests.
	next := h.reserve(weighted("u", "report", 40, hundredUnits)).Reservation
	h.wantState("u", hundredUnits, "7+67 7+67 1+8 3+1 [1 0 2] units [1 0 6]")
	h.wantSnapshot(h.release(next), "7+27 7+27 1+8 3+0 [1 0 2] units [1 0 6]")
	if d := h.reserve(weighted("u", "report", 67, hundredUnits)); d.Admitted {
		t.Error("67 units are admitted where 66 are left")
	}
	h.release(h.reserve(weighted("u", "report", 66, hundredUnits)).Reservation)
	plain := h.admit("u", "report", hundredUnits)
	h.wantSnapshot(h.commitRest(first), "17+9 17+9 1+8 3+1 [1 0 2] units [1 0 16]")
	h.wantSnapshot(h.commit(plain), "18+8 18+8 1+8 4+0 [1 0 3] units [1 0 17]")
	h.wantSnapshot(h.commitRest(second), "26+0 26+0 9+0 4+0 [1 0 3] units [9 0 17]")
	h.wantState("u", hundredAMonth, "4+0 4+0 [1 0 3]")
}

// After an outage the second step may be sent first. Then the units of the rest are counted or given
// back at once, and the hold has only what the first step charges.
func testRestBeforeCommit(t *testing.T, h *harness) {
	r := h.twoSteps(weighted("u", "report", 100, hundredUnits), 99, 98)
	for range 2 {
		h.wantSnapshot(h.commitRest(r), "98+1 98+1 0+0 0+1 [0 0 0] units [0 0 98]")
	}
	h.use(1, "u", "report", hundredUnits)
	h.refuse("u", "report", hundredUnits)
	for range 2 {
		h.wantSnapshot(h.commit(r), "100+0 100+0 0+0 2+0 [0 0 2] units [0 0 100]")
	}
	h.wantSnapshot(h.commitRest(r), "100+0 100+0 0+0 2+0 [0 0 2] units [0 0 100]")

	// Nothing is charged in the first step.
	r = h.twoSteps(weighted("v", "analyze", 20, hundredUnits), 20, 5)
	h.wantSnapshot(h.commitRest(r), "5+0 5+0 5+0 0+1 [0 0 0] units [5 0 0]")
	h.wantState("v", hundredAMonth, "0+1 0+1 [0 0 0]")
	next := h.reserve(weighted("v", "analyze", 15, hundredUnits)).Reservation
	h.wantState("v", hundredUnits, "5+15 5+15 5+15 0+2 [0 0 0] units [5 0 0]")
	h.wantSnapshot(h.commit(r), "5+15 5+15 5+15 1+1 [1 0 0] units [5 0 0]")
	h.wantSnapshot(h.release(next), "5+0 5+0 5+0 1+0 [1 0 0] units [5 0 0]")

	// Nor is the hold there any more.
	r = h.twoSteps(weighted("w", "report", 9, hundredUnits), 8, 3)
	h.clock.Advance(140 * time.Second)
	h.wantSnapshot(h.commitRest(r), "3+0 3+0 0+0 0+0 [0 0 0] units [0 0 3]")
	h.wantSnapshot(h.commit(r), "4+0 4+0 0+0 1+0 [0 0 1] units [0 0 4]")
}

// A request whose hold is gone when it is committed leaves its rest held all the same.
func testRestAfterLostHold(t *testing.T, h *harness) {
	r := h.twoSteps(weighted("u", "report", 9, hundredUnits), 8, 3)
	h.clock.Advance(140 * time.Second)
	h.wantState("u", hundredUnits, "0+0 0+0 0+0 0+0 [0 0 0] units [0 0 0]")
	h.wantSnapshot(h.commit(r), "1+8 1+8 0+0 1+0 [0 0 1] units [0 0 1]")
	h.wantSnapshot(h.commitRest(r), "4+0 4+0 0+0 1+0 [0 0 1] units [0 0 4]")
	h.store.Forget(&r)
	h.wantState("u", hundredUnits, "4+0 4+0 0+0 1+0 [0 0 1] units [0 0 4]")
}

// A rest counts in the windows of its request, as long as these are kept.
func testRestAcrossWindows(t *testing.T, h *harness) {
	p := NewWeightedPlan("p", quota.Limit{Amount: 100, Period: quota.Month, Quantity: quota.Units},
		quota.Limit{Amount: 100, Period: quota.Hour, Quantity: quota.Units})
	request := weighted("u", "report", 9, p)
	request.Lease = 60 * 24 * time.Hour
	ends, late := h.twoSteps(request, 8, 6), request
	late.ID = quota.NewID()
	kept := h.twoSteps(late, 8, 5)
	h.commit(ends)
	h.wantSnapshot(h.commit(kept), "2+16 2+16 2+16 [0 0 2] units [0 0 2]")
	h.clock.Advance(time.Hour)
	h.wantState("u", p, "2+16 2+16 0+0 [0 0 2] units [0 0 2]")
	h.wantSnapshot(h.commitRest(ends), "8+8 8+8 0+0 [0 0 2] units [0 0 8]")
	h.clock.Advance(26 * time.Hour) // hours are kept for a day
	h.wantSnapshot(h.commitRest(kept), "13+0 13+0 0+0 [0 0 2] units [0 0 13]")
	s, err := h.store.ReadAt(context.Background(), "u", p.OnlyChoice(), noon)
	if err != nil || numbers(s) != "13+0 13+0 0+0 [0 0 2] units [0 0 13]" {
		t.Errorf("the month of noon has %s (error %v); the hour is no longer kept", numbers(s), err)
	}
	last := weighted("u", "report", 9, p)
	last.Lease = 60 * 24 * time.Hour
	r := h.twoSteps(last, 8, 4)
	h.commit(r)
	h.clock.Advance(20 * 24 * time.Hour) // December
	h.wantState("u", p, "0+0 0+0 0+0 [0 0 0] units [0 0 0]")
	h.wantSnapshot(h.commitRest(r), "0+0 0+0 0+0 [0 0 0] units [0 0 0]")
	s, err = h.store.ReadAt(context.Background(), "u", p.OnlyChoice(), noon)
	if err != nil || numbers(s) != "18+0 18+0 0+0 [0 0 3] units [0 0 18]" {
		t.Errorf("November has %s (error %v)", numbers(s), err)
	}
}

// Members share the units that rests hold and charge.
func testRestsAreShared(t *testing.T, h *harness) {
	p := NewWeightedPlan("team", quota.Limit{Amount: 20, Period: quota.Month, Quantity: quota.Units, Shared: true},
		quota.Limit{Amount: 12, Period: quota.Month, Quantity: quota.Units}, quota.Limit{Amount: 3, Period: quota.Month, Shared: true})
	r := h.twoSteps(weighted(member("a"), "report", 12, p), 10, 7)
	for range 2 {
		h.wantSnapshot(h.commit(r), "2+10 2+10 2+10 1+0 [0 0 1] units [0 0 2]")
	}
	h.wantState(member("b"), p, "0+0 2+10 0+0 1+0 [0 0 0] units [0 0 0]")
	if d := h.reserve(weighted(member("b"), "report", 9, p)); d.Admitted || !d.Snapshot.Refusal("report", 9).OnlyHeld {
		t.Errorf("9 units where the organisation has 8 left: admitted %v, %s", d.Admitted, numbers(d.Snapshot))
	}
	other := h.twoSteps(weighted(member("b"), "report", 8, p), 8, 1)
	h.commit(other)
	h.wantState(acme, p, "2+18 2+18 2+0 [0 0 2] units [0 0 2]")
	for range 2 {
		h.wantSnapshot(h.commitRest(r), "9+0 9+8 9+0 2+0 [0 0 1] units [0 0 9]")
	}
	h.wantSnapshot(h.commitRest(other), "1+0 10+0 1+0 2+0 [0 0 1] units [0 0 1]")
	h.wantState(acme, p, "10+0 10+0 2+0 [0 0 2] units [0 0 10]")

	early := h.twoSteps(weighted(member("b"), "report", 10, p), 10, 9)
	h.wantSnapshot(h.commitRest(early), "10+0 19+0 10+0 2+1 [0 0 1] units [0 0 10]")
	h.wantState(acme, p, "19+0 19+0 2+1 [0 0 2] units [0 0 19]")
	h.wantSnapshot(h.commit(early), "10+0 19+0 10+0 3+0 [0 0 2] units [0 0 10]")
}

// A reset leaves what rests hold, and what they charge later is counted from 0 on.
func testResetDuringRest(t *testing.T, h *harness) {
	r := h.twoSteps(weighted("u", "report", 9, hundredUnits), 8, 5)
	h.commit(r)
	h.wantSnapshot(h.applyChange("u", hundredUnits, quota.Change{Action: quota.ActionReset}), "0+8 0+8 0+0 0+0 [0 0 0] units [0 0 0]")
	h.wantSnapshot(h.commitRest(r), "5+0 5+0 0+0 0+0 [0 0 0] units [0 0 5]")
}

// Whoever reads sees each unit of a request either held or used, in both steps, of a user and of a pool.
func testRestIsReadOnce(t *testing.T, h *harness) {
	p := NewWeightedPlan("p", quota.Limit{Amount: 100, Period: quota.Month, Quantity: quota.Units},
		quota.Limit{Amount: 100, Period: quota.Month, Quantity: quota.Units, Shared: true})
	accounts := []string{"u", member("a"), acme}
	held := map[string][]quota.Reservation{}
	for _, user := range accounts[:2] {
		for range 10 {
			held[user] = append(held[user], h.twoSteps(weighted(user, "report", 10, p), 9, 9))
		}
	}
	stop := make(chan struct{})
	var readers, requests sync.WaitGroup
	for _, account := range accounts {
		for range 2 {
			readers.Go(func() {
				for {
					select {
					case <-stop:
						return
					default:
					}
					s, err := h.store.Read(context.Background(), account, choiceOf(account, p))
					if err != nil {
						h.t.Errorf("Read: %v", err)
						return
					}
					for _, n := range s.Limits { // of the pool, the shared one alone
						if n.Used+n.Held != 100 {
							h.t.Errorf("100 units of %q are held or used, and %s are read", account, numbers(s))
							return
						}
					}
				}
			})
		}
	}
	for _, user := range accounts[:2] {
		for _, r := range held[user] {
			requests.Go(func() {
				h.commit(r)
				h.commitRest(r)
			})
		}
	}
	requests.Wait()
	close(stop)
	readers.Wait()
	h.wantState("u", p, "100+0 100+0 [0 0 10] units [0 0 100]")
	h.wantState(member("a"), p, "100+0 100+0 100+0 [0 0 10] units [0 0 100]")
	h.wantState(acme, p, "100+0 100+0 [0 0 10] units [0 0 100]")
}

// However requests with rests meet, the limit is never exceeded, and what is used in the end is what
// was charged in both steps.
func testConcurrentRests(t *testing.T, h *harness) {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var charged, requests int64
	for i := range 300 {
		rnd := rand.New(rand.NewPCG(uint64(i), 19))
		wg.Go(func() {
			d, err := h.store.Reserve(context.Background(), weighted("u", "report", 1+rnd.Int64N(12), hundredUnits))
			if err != nil {
				h.t.Errorf("Reserve: %v", err)
				return
			}
			check := func(s *quota.Snapshot, err error) {
				if err != nil {
					h.t.Errorf("settling: %v", err)
				} else if n := s.Limits[0]; n.Used+n.Held > 100 {
					h.t.Errorf("%d used and %d held of 100", n.Used, n.Held)
				}
			}
			check(&d.Snapshot, nil)
			if !d.Admitted {
				return
			}
			r := d.Reservation
			r.Unused = rnd.Int64N(r.HeldUnits() + 1)
			r.Rest = rnd.Int64N(r.Unused + 1)
			r.RestCharged = rnd.Int64N(r.Rest + 1)
			steps := []func(context.Context, *quota.Reservation) (*quota.Snapshot, error){h.store.Commit, h.store.CommitRest}
			if r.Rest == 0 {
				steps = steps[:1]
			} else if rnd.IntN(4) == 0 {
				steps[0], steps[1] = steps[1], steps[0]
			}
			for _, step := range steps {
				check(step(context.Background(), &r))
			}
			h.store.Forget(&r)
			mu.Lock()
			defer mu.Unlock()
			charged, requests = charged+r.ChargedUnits()+r.ChargedRest(), requests+1
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
	if n := s.Limits[2]; n.Used != requests || n.Held != 0 {
		t.Errorf("%d requests used, %d held, of %d", n.Used, n.Held, requests)
	}
}
