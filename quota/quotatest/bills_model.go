package quotatest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"metergate/quota"
)

// billedHour is what bills add up for.
type billedHour struct {
	account  string
	hour     quota.BillHour
	endpoint string
}

// A receiver has what it was sent, by what an ID is made of. It takes a bill that it knows already for
// the same.
type receiver map[receivedID]quota.Used

type receivedID struct {
	billedHour
	revision int64
}

// accept takes the bills of an account. It is an error if one has changed.
func (r receiver) accept(a quota.AccountBills) error {
	for _, b := range a.Bills {
		id := receivedID{billedHour{a.Account, b.Hour, b.Endpoint}, b.Revision}
		if before, known := r[id]; known && before != b.Used {
			return fmt.Errorf("%+v was %v, and is %v", id, before, b.Used)
		}
		r[id] = b.Used
	}
	return nil
}

// sums is what was received in all.
func (r receiver) sums() map[billedHour]quota.Used {
	sums := map[billedHour]quota.Used{}
	for id, used := range r {
		sums[id.billedHour] = sums[id.billedHour].Add(used)
	}
	return sums
}

// Nothing is counted, billed or handed over of an hour that is not kept any more.
func testBillsEnd(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{BillingHours: 3})
	late := []quota.Reservation{h.admit("u", "report", hundredAMonth), h.admit("u", "report", hundredAMonth)}
	h.use(1, "u", "report", hundredAMonth)
	h.use(1, "v", "report", hundredAMonth)
	h.nextHour()
	h.use(2, "u", "report", hundredAMonth)
	h.wantBills(h.closed(), "v", "-1 report 1/1 #1")
	h.nextHour()
	h.commit(late[0])
	h.wantBills(quota.BillQuery{Since: h.hour(-1), Before: h.hour(0)}, "u", "-1 report 2/2 #2")
	h.nextHour()
	h.commit(late[1]) // its hour is the fourth now
	h.wantBills(h.closed(), "v", "-")
	h.wantBills(h.closed(), "u", "-2 report 2/2 #2")
	h.use(1, "u", "report", hundredAMonth)
	h.nextHour()
	h.wantBills(h.closed(), "u", "-1 report 1/1 #3")
	h.wantState("u", hundredAMonth, "6+0 6+0 [0 0 6]")
}

func testBillsOffAndOn(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{BillingHours: 48})
	h.use(1, "u", "report", hundredAMonth)
	before := h.admit("u", "report", hundredAMonth)
	h.reopen(0)
	never := func(quota.AccountBills) error { t.Error("bills while it is off"); return nil }
	if err := h.store.ScanBills(context.Background(), h.closed(), never); !errors.Is(err, quota.ErrNotKept) {
		t.Errorf("a scan while it is off: error %v, want %v", err, quota.ErrNotKept)
	}
	if err := h.store.EndBills(context.Background(), "u", nil); !errors.Is(err, quota.ErrNotKept) {
		t.Errorf("ending bills while it is off: error %v, want %v", err, quota.ErrNotKept)
	}
	r := h.admit("u", "analyze", hundredAMonth)
	if r.BillHour != 0 {
		t.Errorf("while it is off, a request counts in the hour %v", r.BillHour)
	}
	h.commit(r)
	h.commit(before)
	off := h.admit("u", "report", hundredAMonth)
	h.nextHour()
	h.use(1, "u", "report", hundredAMonth)
	h.reopen(48)
	h.commit(off) // it was admitted without an hour
	h.use(2, "u", "report", hundredAMonth)
	h.nextHour()
	h.wantBills(h.closed(), "u", "-2 report 1/1 #1 | -1 report 2/2 #1")
	h.wantState("u", hundredAMonth, "7+0 7+0 [1 0 6]")
}

func testScanBillsErrors(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{})
	for i := range 6 {
		h.use(1, fmt.Sprint("user-", i), "report", hundredAMonth)
	}
	h.nextHour()
	stop, n := errors.New("enough"), 0
	err := h.store.ScanBills(context.Background(), h.closed(), func(quota.AccountBills) error {
		if n++; n == 3 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || n != 3 {
		t.Errorf("error %v after %d accounts, want yield's error after the third", err, n)
	}
	if bills := h.scan(h.closed()); len(bills) != 6 {
		t.Errorf("then there are %v", bills)
	}
}

// More accounts than a store looks at in one step.
func testManyBills(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{})
	const many = 1100
	var wait sync.WaitGroup
	for part := range 8 {
		wait.Go(func() {
			for i := part; i < many; i += 8 {
				r := h.admitConcurrently(fmt.Sprint("user-", i), hundredAMonth)
				if _, err := h.store.Commit(context.Background(), &r); err != nil {
					h.t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	wait.Wait()
	h.nextHour()
	q := h.closed()
	done, total, calls := int64(0), int64(0), 0
	q.Progress = func(d, of int64) {
		if calls++; d < done || d > of || calls == 1 && d > 0 {
			t.Errorf("%d of %d accounts after %d of %d", d, of, done, total)
		}
		done, total = d, of
	}
	bills := h.scan(q)
	for i := range many {
		if got := h.billsText(bills[fmt.Sprint("user-", i)]); got != "-1 analyze 1/1 #1" {
			t.Errorf("the bills of user-%d are %s", i, got)
		}
	}
	if len(bills) != many || done != total || done < many {
		t.Errorf("%d accounts have bills, and %d of %d were looked at; want %d", len(bills), done, total, many)
	}
	var ending sync.WaitGroup
	for account, bills := range bills {
		ending.Go(func() {
			if err := h.store.EndBills(context.Background(), account, bills); err != nil {
				t.Errorf("EndBills: %v", err)
			}
		})
	}
	ending.Wait()
	if bills := h.scan(h.closed()); len(bills) != 0 {
		t.Errorf("when all are ended, %d accounts have bills", len(bills))
	}
}

// Scans that run at once, among requests, yield the same bills under the same IDs.
func testConcurrentScans(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{})
	const users, late = 20, 5
	var held []quota.Reservation
	for i := range users {
		h.use(1, fmt.Sprint("user-", i), "report", hundredAMonth)
		for range late {
			held = append(held, h.admit(fmt.Sprint("user-", i), "report", hundredAMonth))
		}
	}
	h.nextHour()
	var mu sync.Mutex
	received := receiver{}
	scan := func() {
		if err := h.store.ScanBills(context.Background(), h.closed(), func(a quota.AccountBills) error {
			mu.Lock()
			defer mu.Unlock()
			return received.accept(a)
		}); err != nil {
			t.Errorf("ScanBills: %v", err)
		}
	}
	var wait sync.WaitGroup
	for range 3 {
		wait.Go(func() {
			for range 3 {
				scan()
			}
		})
	}
	for part := range 4 {
		wait.Go(func() {
			for i := part; i < len(held); i += 4 {
				if _, err := h.store.Commit(context.Background(), &held[i]); err != nil {
					t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	wait.Wait()
	scan()
	sums := received.sums()
	for i := range users {
		user := fmt.Sprint("user-", i)
		if got, want := sums[billedHour{user, h.hour(-1), "report"}], (quota.Used{Requests: late + 1, Units: late + 1}); got != want {
			t.Errorf("%s was billed %v, want %v", user, got, want)
		}
	}
}

// A billsCheck makes random calls.
type billsCheck struct {
	*billsHarness
	rnd      *rand.Rand
	accounts []string
	running  []quota.Reservation // reserved, and not settled
	rests    []quota.Reservation // counted, or not yet; their rest is held
	settled  []quota.Reservation // and calls for them may still be repeated
	counted  map[billedHour]quota.Used
	received receiver
}

// testBillsEqualCounters makes random calls over 48 hours, of which many are late or repeated, while bills are
// made by scans that may be killed at any point. What is received adds up to the counters.
func testBillsEqualCounters(t *testing.T, open OpenBills) {
	const hours, calls = 48, 1_200
	h := newBillsHarness(t, open, BillsSetup{BillingHours: hours + 24})
	start := h.clock.Now()
	c := &billsCheck{billsHarness: h, rnd: rand.New(rand.NewPCG(22, 8)), accounts: []string{"u", "v", member("u"), member("v")},
		counted: map[billedHour]quota.Used{}, received: receiver{}}
	for i := range calls {
		c.call()
		next := start.Add(time.Duration(i+1) * (hours * time.Hour / calls)) // whatever the calls do, all hours are passed
		if c.rnd.IntN(5) == 0 && h.clock.Now().Before(next) {
			c.moveTo(next)
		}
	}
	c.moveTo(start.Add((hours + 1) * time.Hour))
	c.scanKilled()
	for _, r := range c.running {
		c.commit(r)
		c.count(r, 1, r.ChargedUnits())
	}
	for _, r := range c.rests {
		c.commitRest(r)
		c.count(r, 0, r.ChargedRest())
	}
	for account, bills := range h.scan(h.closed()) {
		if err := c.received.accept(quota.AccountBills{Account: account, Bills: bills}); err != nil {
			t.Fatal(err)
		}
		h.end(account, bills)
	}
	c.compare()
	if bills := h.scan(h.closed()); len(bills) > 0 {
		t.Errorf("when all are delivered, there are %v", bills)
	}
}

// moveTo moves the clock to a time near t that is not near the turn of an hour.
func (c *billsCheck) moveTo(t time.Time) {
	if t.Minute() == 59 || t.Minute() == 0 {
		t = t.Add(3 * time.Minute)
	}
	c.clock.Set(t)
	c.settled = nil
}

func (c *billsCheck) call() {
	account := c.accounts[c.rnd.IntN(len(c.accounts))]
	switch n := c.rnd.IntN(24); {
	case n < 7:
		r := weighted(account, endpoints[c.rnd.IntN(len(endpoints))], c.rnd.Int64N(6), everyDay)
		d := c.reserve(r)
		d.Reservation.Unused = c.rnd.Int64N(r.HeldUnits() + 1)
		d.Reservation.Rest = c.rnd.Int64N(d.Reservation.Unused + 1)
		d.Reservation.RestCharged = c.rnd.Int64N(d.Reservation.Rest + 1)
		c.running = append(c.running, d.Reservation)
	case n < 12:
		if r, ok := takeRandom(c.rnd, &c.running); ok {
			c.commit(r)
			c.count(r, 1, r.ChargedUnits())
			c.settled = append(c.settled, r)
			if r.Rest > 0 {
				c.rests = append(c.rests, r)
			}
		}
	case n < 14:
		if r, ok := takeRandom(c.rnd, &c.rests); ok {
			c.commitRest(r)
			c.count(r, 0, r.ChargedRest())
		}
	case n < 15:
		if r, ok := takeRandom(c.rnd, &c.running); ok {
			c.release(r)
		}
	case n < 17: // calls that are sent twice
		for _, r := range c.settled {
			c.commit(r)
		}
	case n < 18:
		c.replay()
	case n < 20:
		c.scanKilled()
	case n < 22:
		c.deliver()
	case n < 23:
		dry := c.closed()
		dry.DryRun = true
		before, after := c.scan(dry), c.scan(c.closed())
		for _, account := range c.accounts {
			if was, is := c.billsText(before[account]), c.billsText(after[account]); was != is {
				c.t.Fatalf("the dry run had %s for %q, then there was %s", was, account, is)
			}
		}
	default:
		c.reopen(c.BillingHours)
		c.settled = nil // a store may remember them in memory
	}
}

// count notes what the rules say of a call.
func (c *billsCheck) count(r quota.Reservation, requests, units int64) {
	id := billedHour{r.User, r.BillHour, r.Endpoint}
	if c.counted[id] = c.counted[id].Add(quota.Used{Requests: requests, Units: units}); c.counted[id] == (quota.Used{}) {
		delete(c.counted, id)
	}
}

// replay sends what a journal has of an account.
func (c *billsCheck) replay() {
	replayer, ok := c.opened.(interface {
		Replay(ctx context.Context, user string, requests, rests []quota.Reservation) error
	})
	r, found := takeRandom(c.rnd, &c.running)
	if !found {
		return
	}
	c.count(r, 1, r.ChargedUnits())
	var rests []quota.Reservation
	if r.Rest > 0 {
		c.count(r, 0, r.ChargedRest())
		rests = append(rests, r)
	}
	if !ok {
		c.commit(r)
		for _, r := range rests {
			c.commitRest(r)
		}
		return
	}
	for range 1 + c.rnd.IntN(2) {
		if err := replayer.Replay(context.Background(), r.User, []quota.Reservation{r}, rests); err != nil {
			c.t.Fatalf("Replay: %v", err)
		}
	}
}

// query is for the hours that are over, or some of them.
func (c *billsCheck) query() quota.BillQuery {
	q := c.closed()
	if c.rnd.IntN(3) == 0 {
		q.Since = c.hour(-1 - c.rnd.IntN(20))
	}
	if c.rnd.IntN(3) == 0 {
		q.Before = c.hour(-c.rnd.IntN(5))
	}
	return q
}

// scanKilled makes bills. Some may be received, and nobody says so.
func (c *billsCheck) scanKilled() {
	killed := fmt.Errorf("killed")
	err := c.store.ScanBills(context.Background(), c.query(), func(a quota.AccountBills) error {
		if c.rnd.IntN(3) == 0 {
			return killed
		}
		if c.rnd.IntN(2) == 0 {
			return c.received.accept(a)
		}
		return nil
	})
	if err != nil && err != killed {
		c.t.Fatal(err)
	}
}

// deliver has all bills of some hours received, and ends some of them, or all.
func (c *billsCheck) deliver() {
	for account, bills := range c.scan(c.query()) {
		if err := c.received.accept(quota.AccountBills{Account: account, Bills: bills}); err != nil {
			c.t.Fatal(err)
		}
		if c.rnd.IntN(4) == 0 {
			bills = bills[:c.rnd.IntN(len(bills)+1)]
		}
		for range 1 + c.rnd.IntN(2) {
			c.end(account, bills)
		}
	}
}

// compare compares what was received with what was counted: in each hour, and in the counters of the days.
func (c *billsCheck) compare() {
	c.t.Helper()
	days, sums := map[billedHour]quota.Used{}, c.received.sums()
	for id, want := range c.counted {
		if got := sums[id]; got != want {
			c.t.Errorf("%+v was billed %v, and is counted as %v", id, got, want)
		}
		day := billedHour{id.account, id.hour - id.hour%24, id.endpoint}
		days[day] = days[day].Add(want)
	}
	if len(sums) != len(c.counted) || len(days) < 2*len(c.accounts)*len(endpoints) {
		c.t.Errorf("%d hours were billed, and %d on %d days are counted", len(sums), len(c.counted), len(days))
	}
	for id, want := range days {
		s, err := c.store.ReadAt(context.Background(), id.account, choiceOf(id.account, everyDay), id.hour.Start())
		if err != nil {
			c.t.Fatalf("reading %v: %v", id.hour.Start(), err)
		}
		i := slices.Index(endpoints, id.endpoint)
		if got := (quota.Used{Requests: s.Limits[1+2*i].Used, Units: s.Limits[2+2*i].Used}); got != want {
			c.t.Errorf("on the day of %v, %v of %+v is billed, and the counter has %v", id.hour.Start(), want, id, got)
		}
	}
}
