package quotatest

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"metergate/quota"
)

// A BillsSetup says which store RunBills needs.
type BillsSetup struct {
	Clock        *Clock
	Keep         time.Duration // of windows
	BillingHours int           // 0: nothing is kept for bills
	HistoryDays  int           // 0: no history
	// Data is that of a HistorySetup.
	Data string
}

// OpenBills opens a store. It registers what must be closed with t.Cleanup.
type OpenBills func(testing.TB, BillsSetup) quota.Store

// billsCases has the cases of RunBills.
var billsCases = map[string]func(*testing.T, OpenBills){
	"bills have what was charged":                testBills,
	"bills have rests":                           testBillsHaveRests,
	"an hour counts once":                        testHourCountsOnce,
	"only what is counted is billed":             testBillsOnlyHaveCounts,
	"a request counts in its first hour":         testHourOfAdmission,
	"late counts make another bill":              testLateBill,
	"bills stay until they are ended":            testBillsStay,
	"ending other bills changes nothing":         testEndOtherBills,
	"revisions go on after the bills have ended": testRevisions,
	"only the hours asked for are billed":        testHoursOfQuery,
	"a dry run makes no bills":                   testDryRun,
	"members have bills, pools have none":        testBillsOfMembers,
	"administrators change no bill":              testChangesLeaveBills,
	"a history and bills count side by side":     testBillsBesideHistory,
	"bills outlive windows":                      testBillsOutliveWindows,
	"hours are kept as long as configured":       testBillsEnd,
	"billing is switched off and on":             testBillsOffAndOn,
	"an error of yield ends the scan":            testScanBillsErrors,
	"many accounts are billed":                   testManyBills,
	"scans at once make each bill once":          testConcurrentScans,
	"bills add up to the counters":               testBillsEqualCounters,
}

// RunBills is Run for a store that keeps what is used for bills.
func RunBills(t *testing.T, open OpenBills) {
	for name, test := range billsCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open)
		})
	}
}

// A billsHarness is a harness with a store that keeps what is used for bills.
type billsHarness struct {
	*harness
	BillsSetup
	open   OpenBills
	opened quota.Store
}

// newBillsHarness opens a store. What the setup does not say is as in other tests, with a week of hours.
func newBillsHarness(t *testing.T, open OpenBills, setup BillsSetup) *billsHarness {
	if setup.Clock == nil {
		setup.Clock = NewClock(noon)
	}
	setup.Keep, setup.BillingHours = cmp.Or(setup.Keep, keep), cmp.Or(setup.BillingHours, 7*24)
	setup.Data = quota.NewID()
	h := &billsHarness{harness: &harness{t: t, clock: setup.Clock}, BillsSetup: setup, open: open}
	h.reopen(setup.BillingHours)
	return h
}

// reopen opens the store anew, on the same data.
func (h *billsHarness) reopen(hours int) {
	h.t.Helper()
	if before, ok := h.opened.(io.Closer); ok {
		if err := before.Close(); err != nil {
			h.t.Fatal(err)
		}
	}
	h.BillingHours = hours
	h.opened = h.open(h.t, h.BillsSetup)
	h.store = insistingStore{h.opened}
}

// hour is the hour of the clock, and those after it.
func (h *billsHarness) hour(after int) quota.BillHour {
	return quota.BillHourAt(h.clock.Now()) + quota.BillHour(after)
}

// closed is a query for all hours that are over.
func (h *billsHarness) closed() quota.BillQuery { return quota.BillQuery{Before: h.hour(0)} }

// nextHour moves the clock on by an hour.
func (h *billsHarness) nextHour() { h.clock.Advance(time.Hour) }

// scan returns the bills of a scan, each account of which must be yielded once.
func (h *billsHarness) scan(q quota.BillQuery) map[string][]quota.Bill {
	h.t.Helper()
	bills := map[string][]quota.Bill{}
	err := h.store.ScanBills(context.Background(), q, func(a quota.AccountBills) error {
		if _, twice := bills[a.Account]; twice || len(a.Bills) == 0 {
			h.t.Errorf("%q is yielded twice, or without bills: %v", a.Account, a.Bills)
		}
		for i, b := range a.Bills {
			same := func(o quota.Bill) bool {
				return o.Endpoint == b.Endpoint && o.Hour == b.Hour && o.Revision == b.Revision
			}
			if b.Used.Requests < 0 || b.Used.Units < 0 || b.Used == (quota.Used{}) || b.Revision < 1 || slices.ContainsFunc(a.Bills[:i], same) {
				h.t.Errorf("a bill of %q is %+v", a.Account, b)
			}
		}
		bills[a.Account] = slices.Clone(a.Bills)
		return nil
	})
	if err != nil {
		h.t.Fatalf("ScanBills: %v", err)
	}
	return bills
}

func (h *billsHarness) end(account string, bills []quota.Bill) {
	h.t.Helper()
	if err := h.store.EndBills(context.Background(), account, bills); err != nil {
		h.t.Fatalf("EndBills: %v", err)
	}
}

// endAll ends all bills of a scan.
func (h *billsHarness) endAll(bills map[string][]quota.Bill) {
	h.t.Helper()
	for account, bills := range bills {
		h.end(account, bills)
	}
}

// billsText shows bills: "-1 report 2/5 #3" for two requests of five units in all, in the hour before
// that of now, with revision 3.
func (h *billsHarness) billsText(bills []quota.Bill) string {
	bills = slices.SortedFunc(slices.Values(bills), func(a, b quota.Bill) int {
		return cmp.Or(cmp.Compare(a.Hour, b.Hour), cmp.Compare(a.Endpoint, b.Endpoint), cmp.Compare(a.Revision, b.Revision))
	})
	var texts []string
	for _, b := range bills {
		texts = append(texts, fmt.Sprintf("%d %s %d/%d #%d", b.Hour-h.hour(0), b.Endpoint, b.Used.Requests, b.Used.Units, b.Revision))
	}
	return cmp.Or(strings.Join(texts, " | "), "-")
}

// wantBills compares the bills of an account with want, see billsText.
func (h *billsHarness) wantBills(q quota.BillQuery, account, want string) []quota.Bill {
	h.t.Helper()
	bills := h.scan(q)[account]
	if got := h.billsText(bills); got != want {
		h.t.Errorf("the bills of %q are %s, want %s", account, got, want)
	}
	return bills
}

func testBills(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{})
	r := h.reserve(weighted("u", "report", 7, hundredUnits)).Reservation
	if want := h.hour(0); r.BillHour != want {
		t.Errorf("the request counts in the hour %d, want %d", r.BillHour, want)
	}
	r.Unused = 2
	h.commit(r)
	free := h.reserve(weighted("u", "analyze", 3, hundredUnits)).Reservation
	free.Unused = 3
	h.commit(free)
	h.use(2, "u", "analyze", hundredAMonth) // whatever the plan
	h.wantBills(h.closed(), "u", "-")
	h.nextHour()
	h.use(1, "u", "image-analysis", hundredUnits)
	h.use(1, "v", "report", hundredUnits)
	h.wantBills(h.closed(), "u", "-1 analyze 3/2 #1 | -1 report 1/5 #1")
	h.nextHour()
	h.wantBills(h.closed(), "v", "-1 report 1/1 #1")
	h.wantBills(h.closed(), "u", "-2 analyze 3/2 #1 | -2 report 1/5 #1 | -1 image-analysis 1/1 #2")
	h.wantBills(h.closed(), "w", "-")
}

func testBillsHaveRests(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{})
	r := h.twoSteps(weighted("u", "report", 8, hundredUnits), 7, 4)
	h.commit(r)
	first := h.twoSteps(weighted("u", "analyze", 6, hundredUnits), 6, 6)
	h.commitRest(first)
	h.nextHour()
	h.wantBills(h.closed(), "u", "-1 analyze 0/6 #1 | -1 report 1/1 #1")
	for range 2 { // sent twice
		h.commitRest(r)
		h.commit(first)
	}
	none := h.twoSteps(weighted("u", "image-analysis", 3, hundredUnits), 3, 0)
	h.commit(none)
	h.commitRest(none)
	h.wantBills(h.closed(), "u", "-1 analyze 0/6 #1 | -1 analyze 1/0 #2 | -1 report 1/1 #1 | -1 report 0/4 #2")
	h.nextHour()
	h.wantBills(quota.BillQuery{Since: h.hour(-1), Before: h.hour(0)}, "u", "-1 image-analysis 1/0 #3")
}

func testHourCountsOnce(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{})
	r := h.admit("u", "report", hundredAMonth)
	if again := h.reserve(r.Request).Reservation; again.BillHour != r.BillHour {
		t.Errorf("the repeated request counts in the hour %d, the first one in %d", again.BillHour, r.BillHour)
	}
	for range 3 {
		h.commit(r)
		h.release(r)
	}
	late := h.admit("u", "report", hundredAMonth)
	h.nextHour() // the hold is gone
	h.commit(late)
	h.wantBills(h.closed(), "u", "-1 report 2/2 #1")
	h.commit(late)
	h.wantBills(h.closed(), "u", "-1 report 2/2 #1")
}

func testBillsOnlyHaveCounts(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{})
	one := NewPlan("one", quota.Limit{Amount: 1, Period: quota.Month})
	h.release(h.admit("u", "report", one))
	r := h.admit("u", "report", one)
	h.refuse("u", "report", one)
	h.release(r)
	h.commit(r)                  // too late: it was released
	h.admit("u", "analyze", one) // its lease ends
	h.nextHour()
	h.wantBills(h.closed(), "u", "-")
	h.use(1, "u", "report", one)
	h.refuse("u", "report", one)
	h.commit(h.passObserved(observedRequest("u", "report", one), "month"))
	h.nextHour()
	h.wantBills(h.closed(), "u", "-1 report 2/2 #1")
}

func testHourOfAdmission(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{Clock: NewClock(time.Date(2026, 11, 17, 23, 59, 50, 0, time.UTC))})
	r, again := h.admit("u", "report", hundredAMonth), request("u", "analyze", hundredAMonth)
	h.reserve(again)
	h.clock.Advance(20 * time.Second)
	h.use(2, "u", "report", hundredAMonth)
	h.commit(r)
	h.commit(h.reserve(again).Reservation)
	h.use(1, "u", "report", hundredAMonth)
	h.wantBills(h.closed(), "u", "-1 analyze 1/1 #1 | -1 report 1/1 #1")
	h.nextHour()
	h.wantBills(h.closed(), "u", "-2 analyze 1/1 #1 | -2 report 1/1 #1 | -1 report 3/3 #2")
}

// Counts that come hours later, as from a journal, go out as the difference.
func testLateBill(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{})
	h.use(1, "u", "report", hundredUnits)
	var late []quota.Reservation
	for range 5 {
		late = append(late, h.admit("u", "report", hundredUnits))
	}
	rest := h.twoSteps(weighted("u", "analyze", 5, hundredUnits), 4, 3)
	h.nextHour()
	h.use(2, "u", "report", hundredUnits)
	h.endAll(h.scan(h.closed()))
	h.commit(late[0])
	h.commit(late[1])
	h.wantBills(h.closed(), "u", "-1 report 2/2 #2")
	h.commit(late[2])
	h.commit(rest)
	h.commitRest(rest)
	h.nextHour()
	h.commit(late[3])
	h.wantBills(h.closed(), "u", "-2 analyze 1/4 #3 | -2 report 2/2 #2 | -2 report 2/2 #3 | -1 report 2/2 #3")
	h.clock.Advance(3 * oneDay)
	h.commit(late[4])
	h.endAll(h.scan(h.closed()))
	h.wantBills(h.closed(), "u", "-")
	h.wantState("u", hundredUnits, "12+0 12+0 4+0 9+0 [1 0 8] units [4 0 8]")
	replayer, ok := h.opened.(interface {
		Replay(ctx context.Context, user string, requests, rests []quota.Reservation) error
	})
	if !ok {
		return // a guarded store replays by itself
	}
	var requests, rests []quota.Reservation
	for range 3 {
		requests = append(requests, h.admit("v", "report", hundredUnits))
		rests = append(rests, h.twoSteps(weighted("v", "analyze", 5, hundredUnits), 4, 3))
	}
	h.clock.Advance(oneDay)
	for range 2 { // its answer was lost
		if err := replayer.Replay(context.Background(), "v", append(requests, rests...), rests); err != nil {
			t.Fatal(err)
		}
		h.wantBills(h.closed(), "v", "-24 analyze 3/12 #1 | -24 report 3/3 #1")
	}
}

// Bills that were handed over and not ended are handed over again, as they were.
func testBillsStay(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{})
	h.use(2, "u", "report", hundredAMonth)
	h.use(1, "u", "analyze", hundredAMonth)
	late := h.admit("u", "report", hundredAMonth)
	h.nextHour()
	killed := h.scan(h.closed())
	h.reopen(h.BillingHours)
	h.commit(late)
	bills := h.wantBills(h.closed(), "u", "-1 analyze 1/1 #1 | -1 report 2/2 #1 | -1 report 1/1 #2")
	h.end("u", killed["u"][:1])
	for range 2 {
		h.end("u", bills[:1])
	}
	left := h.scan(h.closed())["u"]
	if len(left) != 2 || slices.Contains(left, bills[0]) {
		t.Errorf("of %v there is %v left when the first was ended", bills, left)
	}
	h.end("u", bills)
	h.wantBills(h.closed(), "u", "-")
}

func testEndOtherBills(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{})
	h.use(2, "u", "report", hundredAMonth)
	h.use(1, "v", "report", hundredAMonth)
	h.nextHour()
	h.use(1, "u", "report", hundredAMonth)
	bill := h.wantBills(h.closed(), "u", "-1 report 2/2 #1")[0]
	for _, change := range []func(*quota.Bill){
		func(b *quota.Bill) { b.Endpoint = "analyze" }, func(b *quota.Bill) { b.Endpoint = "reports" },
		func(b *quota.Bill) { b.Hour-- }, func(b *quota.Bill) { b.Hour = 0 }, func(b *quota.Bill) { b.Hour++; b.Revision = 0 },
		func(b *quota.Bill) { b.Revision = 0 }, func(b *quota.Bill) { b.Revision = -1 }, func(b *quota.Bill) { b.Revision++ },
	} {
		other := bill
		change(&other)
		h.end("u", []quota.Bill{other})
	}
	h.end("u", nil)
	h.end("w", []quota.Bill{bill})
	h.wantBills(h.closed(), "u", "-1 report 2/2 #1")
	h.end("v", []quota.Bill{bill})
	h.nextHour()
	h.wantBills(h.closed(), "u", "-2 report 2/2 #1 | -1 report 1/1 #2")
	h.wantBills(h.closed(), "v", "-")
}

// A revision is never used again while a receiver may know it: as long as counts can come for its hour.
func testRevisions(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{BillingHours: quota.MaxBillingHours})
	late := []quota.Reservation{h.admit("u", "report", hundredAMonth), h.admit("u", "report", hundredAMonth), h.admit("u", "report", hundredAMonth)}
	for i := range 3 {
		h.use(1, "u", "report", hundredAMonth)
		h.nextHour()
		h.endAll(map[string][]quota.Bill{"u": h.wantBills(h.closed(), "u", fmt.Sprintf("-1 report 1/1 #%d", i+1))})
	}
	h.commit(late[0])
	h.endAll(map[string][]quota.Bill{"u": h.wantBills(h.closed(), "u", "-3 report 1/1 #4")})
	h.clock.Advance((quota.MaxBillingHours - 5) * time.Hour)
	h.commit(late[1])
	h.wantBills(h.closed(), "u", fmt.Sprintf("%d report 1/1 #5", -quota.MaxBillingHours+2))
}

func testHoursOfQuery(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{})
	for range 4 {
		h.use(1, "u", "report", hundredAMonth)
		h.nextHour()
	}
	h.use(1, "u", "report", hundredAMonth)
	h.wantBills(quota.BillQuery{}, "u", "-")
	h.wantBills(quota.BillQuery{Since: h.hour(-3), Before: h.hour(-3)}, "u", "-")
	h.wantBills(quota.BillQuery{Since: h.hour(-3), Before: h.hour(-1)}, "u", "-3 report 1/1 #1 | -2 report 1/1 #1")
	h.wantBills(quota.BillQuery{Since: h.hour(-2), Before: h.hour(-1)}, "u", "-2 report 1/1 #1")
	h.wantBills(quota.BillQuery{Since: -5, Before: h.hour(-3)}, "u", "-4 report 1/1 #2")
	h.wantBills(h.closed(), "u", "-4 report 1/1 #2 | -3 report 1/1 #1 | -2 report 1/1 #1 | -1 report 1/1 #3")
	// An hour that is not over has several.
	now := quota.BillQuery{Since: h.hour(0), Before: h.hour(5)}
	h.wantBills(now, "u", "0 report 1/1 #4")
	h.use(2, "u", "report", hundredAMonth)
	h.wantBills(now, "u", "0 report 1/1 #4 | 0 report 2/2 #5")
}

func testDryRun(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{})
	h.use(2, "u", "report", hundredAMonth)
	h.nextHour()
	dry := h.closed()
	dry.DryRun = true
	for range 2 {
		h.wantBills(dry, "u", "-1 report 2/2 #1")
	}
	late := h.admit("u", "analyze", hundredAMonth)
	h.use(1, "u", "report", hundredAMonth)
	h.nextHour()
	dry.Before = h.hour(-1)
	h.wantBills(dry, "u", "-2 report 2/2 #1")
	dry.Before = h.hour(0)
	h.wantBills(dry, "u", "-2 report 2/2 #1 | -1 report 1/1 #1")
	h.wantBills(h.closed(), "u", "-2 report 2/2 #1 | -1 report 1/1 #1")
	h.commit(late)
	h.wantBills(dry, "u", "-2 report 2/2 #1 | -1 analyze 1/1 #2 | -1 report 1/1 #1")
	h.endAll(h.scan(h.closed()))
	h.wantBills(dry, "u", "-")
}

func testBillsOfMembers(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{})
	p := NewPlan("team", quota.Limit{Amount: 100, Period: quota.Month, Shared: true}, quota.Limit{Amount: 50, Period: quota.Day})
	globex := quota.MemberAccount("globex", "u")
	h.use(1, "u", "report", p)
	h.use(2, member("u"), "report", p)
	h.use(3, member("v"), "analyze", p)
	h.use(4, globex, "report", p)
	h.nextHour()
	bills := h.scan(h.closed())
	for account, want := range map[string]string{"u": "-1 report 1/1 #1", member("u"): "-1 report 2/2 #1", member("v"): "-1 analyze 3/3 #1", globex: "-1 report 4/4 #1"} {
		if got := h.billsText(bills[account]); got != want {
			t.Errorf("the bills of %q are %s, want %s", account, got, want)
		}
	}
	if len(bills) != 4 {
		t.Errorf("bills of %v", slices.Sorted(maps.Keys(bills)))
	}
	h.end(member("u"), bills[member("u")])
	if bills := h.scan(h.closed()); len(bills) != 3 || bills[member("u")] != nil {
		t.Errorf("when those of a member are ended: bills of %v", slices.Sorted(maps.Keys(bills)))
	}
}

func testChangesLeaveBills(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{})
	h.use(3, "u", "report", hundredAMonth)
	for _, period := range quota.Periods() {
		h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetCounts, Period: period, Counts: map[string]int64{"report": 7, "analyze": 1}})
	}
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset})
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionGrant, Requests: 5})
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetPlan, Plan: "pro"})
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionClearPlan})
	h.nextHour()
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset})
	h.wantBills(h.closed(), "u", "-1 report 3/3 #1")
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset})
	h.wantBills(h.closed(), "u", "-1 report 3/3 #1")
}

func testBillsBesideHistory(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{HistoryDays: 3})
	h.use(2, "u", "report", hundredAMonth)
	late := h.twoSteps(weighted("u", "analyze", 5, hundredUnits), 4, 3)
	h.clock.Advance(oneDay)
	h.use(1, "u", "report", hundredAMonth)
	h.commit(late)
	h.commitRest(late)
	h.nextHour()
	h.wantBills(h.closed(), "u", "-25 analyze 1/4 #1 | -25 report 2/2 #1 | -1 report 1/1 #1")
	history, err := h.store.History(context.Background(), "u", 2)
	if err != nil || dayText(history.Days[0].Endpoints) != "analyze 1/4 report 2/2" || dayText(history.Days[1].Endpoints) != "report 1/1" {
		t.Errorf("the history is %+v, error %v", history.Days, err)
	}
}

// Neither the windows nor the key of a user need be there any more.
func testBillsOutliveWindows(t *testing.T, open OpenBills) {
	h := newBillsHarness(t, open, BillsSetup{Keep: time.Hour, BillingHours: quota.MaxBillingHours})
	p := NewPlan("minutes", quota.Limit{Amount: 50, Period: quota.Minute})
	h.use(2, "u", "report", p)
	r, none := h.admit("u", "report", p), h.admit("v", "report", p)
	none.Windows = nil
	h.clock.Advance(30 * oneDay)
	h.commit(r)
	h.commit(none)
	h.wantBills(h.closed(), "u", "-720 report 3/3 #1")
	h.wantBills(h.closed(), "v", "-720 report 1/1 #1")
	h.clock.Advance(4 * oneDay)
	h.wantBills(h.closed(), "u", "-816 report 3/3 #1")
}
