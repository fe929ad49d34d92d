package quotatest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"metergate/quota"
)

const oneDay = 24 * time.Hour

// A HistorySetup says which store RunHistory needs.
type HistorySetup struct {
	Clock       *Clock
	Calendar    *quota.Calendar
	Keep        time.Duration // of windows
	HistoryDays int           // 0: no history
	// Data names what is stored: a store that is opened with the name of another one has its data. If
	// the data can only be open once, the store must be an io.Closer; it is closed before.
	Data string
}

// OpenHistory opens a store. It registers what must be closed with t.Cleanup.
type OpenHistory func(testing.TB, HistorySetup) quota.Store

// historyCases has the cases of RunHistory.
var historyCases = map[string]func(*testing.T, OpenHistory){
	"days have what was charged":              testDays,
	"days have rests":                         testDaysHaveRests,
	"a day counts once":                       testDayCountsOnce,
	"only what is counted is in a day":        testDaysOnlyHaveCounts,
	"many count on a day at once":             testConcurrentDay,
	"a request counts on its first day":       testDayOfAdmission,
	"days follow the time zone":               testDaysInZones,
	"members have days of their own":          testDaysOfMembers,
	"a reset clears today":                    testResetToday,
	"grants and other windows leave days":     testGrantsLeaveDays,
	"counts of a day are set":                 testSetDay,
	"today may be before the newest day":      testDateMovesBack,
	"late counts reach their day":             testLateDay,
	"a count without windows reaches its day": testDayWithoutWindows,
	"days are kept longer than windows":       testDaysOutliveWindows,
	"windows are kept longer than days":       testWindowsOutliveDays,
	"a history is switched off and on":        testHistoryOffAndOn,
	"only days that are kept can be read":     testUnkeptDays,
	"the history equals the counters":         testDaysEqualCounters,
}

// RunHistory is Run for a store that keeps a history.
func RunHistory(t *testing.T, open OpenHistory) {
	for name, test := range historyCases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, open)
		})
	}
	t.Run("any sequence of calls follows the model", func(t *testing.T) {
		t.Parallel()
		testModel(t, modelSetup{historyDays: modelHistoryDays}, func(t testing.TB, clock *Clock, calendar *quota.Calendar) quota.Store {
			return open(t, HistorySetup{Clock: clock, Calendar: calendar, Keep: keep, HistoryDays: modelHistoryDays, Data: quota.NewID()})
		})
	})
}

// A historyHarness is a harness with a store that keeps a history.
type historyHarness struct {
	*harness
	HistorySetup
	open   OpenHistory
	opened quota.Store
}

// newHistoryHarness opens a store. What the setup does not say is as in other tests, with 30 days.
func newHistoryHarness(t *testing.T, open OpenHistory, setup HistorySetup) *historyHarness {
	if setup.Clock == nil {
		setup.Clock = NewClock(noon)
	}
	if setup.Calendar == nil {
		setup.Calendar = quota.NewCalendar(nil)
	}
	setup.Keep, setup.HistoryDays = cmp.Or(setup.Keep, keep), cmp.Or(setup.HistoryDays, 30)
	setup.Data = quota.NewID()
	h := &historyHarness{harness: &harness{t: t, clock: setup.Clock}, HistorySetup: setup, open: open}
	h.reopen(setup.HistoryDays)
	return h
}

// reopen opens the store anew, on the same data.
func (h *historyHarness) reopen(days int) {
	h.t.Helper()
	if before, ok := h.opened.(io.Closer); ok {
		if err := before.Close(); err != nil {
			h.t.Fatal(err)
		}
	}
	h.HistoryDays = days
	h.opened = h.open(h.t, h.HistorySetup)
	h.store = insistingStore{h.opened}
}

// wantDays compares the last days of an account with want: for each day "-" or the endpoints that were
// used, as "analyze 2/5" for two requests of five units in all; "|" between days.
func (h *historyHarness) wantDays(account string, days int, want string) {
	h.t.Helper()
	if got := h.days(account, days); got != want {
		h.t.Errorf("at %v, the days of %q are %s, want %s", h.clock.Now(), account, got, want)
	}
}

// days shows the last days of an account.
func (h *historyHarness) days(account string, days int) string {
	h.t.Helper()
	history, err := h.store.History(context.Background(), account, days)
	if err != nil {
		h.t.Fatalf("a history of %d days: %v", days, err)
	}
	if late := history.At.Sub(h.clock.Now()); late < -time.Millisecond || late > time.Minute || history.Stale || len(history.Days) != days {
		h.t.Errorf("at %v, the history is of %v, stale %v, with %d days, want %d", h.clock.Now(), history.At, history.Stale, len(history.Days), days)
	}
	today := h.Calendar.DateAt(history.At)
	var texts []string
	for i, d := range history.Days {
		if want := today - quota.Date(days-1-i); d.Date != want {
			h.t.Errorf("day %d is %v, want %v", i, d.Date, want)
		}
		texts = append(texts, dayText(d.Endpoints))
	}
	return strings.Join(texts, " | ")
}

// dayText shows what was used on a day.
func dayText(endpoints map[string]quota.Used) string {
	text := ""
	for _, endpoint := range slices.Sorted(maps.Keys(endpoints)) {
		if u := endpoints[endpoint]; u != (quota.Used{}) {
			text += fmt.Sprintf(" %s %d/%d", endpoint, u.Requests, u.Units)
		}
	}
	return cmp.Or(strings.TrimSpace(text), "-")
}

func testDays(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{})
	h.wantDays("u", 2, "- | -")
	r := h.reserve(weighted("u", "report", 7, hundredUnits)).Reservation
	if want := h.Calendar.DateAt(noon); r.Date != want {
		t.Errorf("the request counts on %v, want %v", r.Date, want)
	}
	h.wantDays("u", 1, "-")
	r.Unused = 2
	h.commit(r)
	h.wantDays("u", 1, "report 1/5")
	free := h.reserve(weighted("u", "analyze", 3, hundredUnits)).Reservation
	free.Unused = 3
	h.commit(free)
	h.wantDays("u", 1, "analyze 1/0 report 1/5")
	h.use(2, "u", "analyze", hundredAMonth) // whatever the plan
	h.wantDays("u", 1, "analyze 3/2 report 1/5")
	h.clock.Advance(oneDay)
	h.use(1, "u", "image-analysis", hundredUnits)
	h.wantDays("u", 1, "image-analysis 1/1")
	h.wantDays("u", 3, "- | analyze 3/2 report 1/5 | image-analysis 1/1")
	h.wantDays("v", 3, "- | - | -")
	h.clock.Advance(28 * oneDay)
	h.wantDays("u", 30, "analyze 3/2 report 1/5 | image-analysis 1/1"+strings.Repeat(" | -", 28))
	h.clock.Advance(oneDay)
	h.wantDays("u", 30, "image-analysis 1/1"+strings.Repeat(" | -", 29))
}

func testDaysHaveRests(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{})
	r := h.twoSteps(weighted("u", "report", 8, hundredUnits), 7, 4)
	h.commit(r)
	h.wantDays("u", 1, "report 1/1")
	for range 2 { // sent twice
		h.commitRest(r)
		h.wantDays("u", 1, "report 1/5")
	}
	h.commit(r)
	h.wantDays("u", 1, "report 1/5")

	// The rest may come first, and may be nothing.
	r = h.twoSteps(weighted("u", "analyze", 6, hundredUnits), 6, 6)
	h.commitRest(r)
	h.wantDays("u", 1, "analyze 0/6 report 1/5")
	h.commit(r)
	h.wantDays("u", 1, "analyze 1/6 report 1/5")
	r = h.twoSteps(weighted("u", "analyze", 3, hundredUnits), 3, 0)
	h.commit(r)
	h.commitRest(r)
	h.wantDays("u", 1, "analyze 2/6 report 1/5")
	// On the next day, it still is what the first one cost.
	r = h.twoSteps(weighted("u", "report", 5, hundredUnits), 4, 3)
	h.commit(r)
	h.clock.Advance(oneDay)
	h.commitRest(r)
	h.wantDays("u", 2, "analyze 2/6 report 2/9 | -")
}

func testDayCountsOnce(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{})
	r := h.admit("u", "report", hundredAMonth)
	again := h.reserve(r.Request).Reservation
	if again.Date != r.Date {
		t.Errorf("the repeated request counts on %v, the first one on %v", again.Date, r.Date)
	}
	for range 3 {
		h.commit(r)
		h.release(r)
		h.commit(again)
		h.wantDays("u", 1, "report 1/1")
	}
	// The hold is gone, and nobody has settled it.
	late := h.admit("u", "report", hundredAMonth)
	h.clock.Advance(10 * time.Minute)
	h.commit(late)
	h.commit(late)
	h.wantDays("u", 1, "report 2/2")
}

func testDaysOnlyHaveCounts(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{})
	one := NewPlan("one", quota.Limit{Amount: 1, Period: quota.Month})
	h.release(h.admit("u", "report", one))
	r := h.admit("u", "report", one)
	h.refuse("u", "report", one)
	h.wantDays("u", 1, "-")
	h.release(r)
	h.commit(r) // too late: it was released
	h.wantDays("u", 1, "-")
	h.admit("u", "analyze", one) // its lease ends
	h.clock.Advance(10 * time.Minute)
	h.wantDays("u", 1, "-")
	h.use(1, "u", "report", one)
	h.refuse("u", "report", one)
	h.commit(h.passObserved(observedRequest("u", "report", one), "month"))
	h.wantDays("u", 1, "report 2/2")
}

func testConcurrentDay(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{})
	var wait sync.WaitGroup
	for i := range 60 {
		wait.Go(func() {
			r := h.admitConcurrently([]string{"u", member("u")}[i%2], hundredAMonth)
			for range 1 + i%3 {
				if _, err := h.store.Commit(context.Background(), &r); err != nil {
					h.t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	wait.Wait()
	h.wantDays("u", 1, "analyze 30/30")
	h.wantDays(member("u"), 1, "analyze 30/30")
}

func testDayOfAdmission(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{Clock: NewClock(time.Date(2026, 11, 17, 23, 59, 50, 0, time.UTC))})
	r := h.admit("u", "report", hundredAMonth)
	h.clock.Advance(20 * time.Second)
	h.wantDays("u", 2, "- | -")
	h.commit(h.reserveAgain(r))
	h.use(2, "u", "report", hundredAMonth)
	h.wantDays("u", 2, "report 1/1 | report 2/2")
}

func testDaysOfMembers(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{})
	p := NewPlan("team", quota.Limit{Amount: 100, Period: quota.Month, Shared: true}, quota.Limit{Amount: 50, Period: quota.Day})
	h.use(1, "u", "report", p)
	h.use(2, member("u"), "report", p)
	h.use(3, member("v"), "analyze", p)
	h.use(4, quota.MemberAccount("globex", "u"), "report", p)
	h.wantDays("u", 1, "report 1/1")
	h.wantDays(member("u"), 1, "report 2/2")
	h.wantDays(member("v"), 1, "analyze 3/3")
	h.wantDays(quota.MemberAccount("globex", "u"), 1, "report 4/4")
	pool := quota.PoolAccount("acme")
	h.wantDays(pool, 1, "-")
	h.applyChange(pool, p, quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"report": 5}})
	h.wantDays(pool, 1, "-")
	h.applyChange(pool, p, quota.Change{Action: quota.ActionReset})
	h.wantDays(member("u"), 1, "report 2/2")
	h.applyChange(member("u"), p, quota.Change{Action: quota.ActionReset})
	h.wantDays(member("u"), 1, "-")
	h.wantDays(member("v"), 1, "analyze 3/3")
	h.wantDays("u", 1, "report 1/1")
}

func testResetToday(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{})
	h.use(3, "u", "report", hundredAMonth)
	yesterday := h.twoSteps(weighted("u", "analyze", 5, hundredUnits), 4, 3)
	h.commit(yesterday)
	h.clock.Advance(oneDay)
	h.use(2, "u", "report", hundredAMonth)
	h.use(1, "u", "analyze", hundredAMonth)
	running := h.admit("u", "report", hundredAMonth)
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset, ID: "one"})
	h.wantDays("u", 2, "analyze 1/1 report 3/3 | -")
	h.commit(running)
	h.commitRest(yesterday)
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset, ID: "one"}) // sent twice
	h.wantDays("u", 2, "analyze 1/4 report 3/3 | report 1/1")
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset})
	h.wantDays("u", 2, "analyze 1/4 report 3/3 | -")
}

func testGrantsLeaveDays(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{})
	p := NewPlan("p", quota.Limit{Amount: 9, Period: quota.Month}, quota.Limit{Amount: 9, Period: quota.Day})
	h.use(2, "u", "report", p)
	h.applyChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 5})
	h.applyChange("u", p, quota.Change{Action: quota.ActionGrant, Requests: 5, Period: quota.Day})
	for _, period := range quota.Periods() {
		if period != quota.Day {
			h.applyChange("u", p, quota.Change{Action: quota.ActionSetCounts, Period: period, Counts: map[string]int64{"report": 7, "analyze": 1}})
		}
	}
	h.applyChange("u", p, quota.Change{Action: quota.ActionSetPlan, Plan: "pro"})
	h.applyChange("u", p, quota.Change{Action: quota.ActionClearPlan})
	h.applyChange("u", p, quota.Change{Action: quota.ActionSetAnchor, Anchor: "15"})
	h.wantDays("u", 1, "report 2/2")
}

func testSetDay(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{})
	h.use(2, "u", "report", hundredAMonth)
	h.use(1, "u", "analyze", hundredAMonth)
	h.clock.Advance(oneDay)
	h.use(1, "u", "report", hundredAMonth)
	h.use(1, "u", "analyze", hundredAMonth)
	set := quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, ID: "import",
		Counts: map[string]int64{"report": 7, "image-analysis": 3, "removed": 2}, CountUnits: map[string]int64{"image-analysis": 12, "removed": 0}}
	h.applyChange("u", hundredAMonth, set)
	h.wantDays("u", 2, "analyze 1/1 report 2/2 | analyze 1/1 image-analysis 3/12 removed 2/0 report 7/7")
	h.use(1, "u", "report", hundredAMonth)
	h.applyChange("u", hundredAMonth, set) // sent twice
	h.wantDays("u", 1, "analyze 1/1 image-analysis 3/12 removed 2/0 report 8/8")
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"report": 0, "image-analysis": 2}})
	h.wantDays("u", 2, "analyze 1/1 report 2/2 | analyze 1/1 image-analysis 2/2 removed 2/0")
	h.rejectChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"report": quota.MaxAmount}}, quota.ErrTooLarge)
	h.applyChange("new", hundredAMonth, quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"report": 4}})
	h.wantDays("new", 2, "- | report 4/4")
	h.wantDays("u", 2, "analyze 1/1 report 2/2 | analyze 1/1 image-analysis 2/2 removed 2/0")
}

// A count that comes days later, as from a journal, reaches its day for as long as that is kept: a day
// longer than it is shown.
func testLateDay(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{HistoryDays: 3})
	one, two, three := h.admit("u", "report", hundredAMonth), h.admit("u", "report", hundredAMonth), h.admit("u", "report", hundredAMonth)
	rest := h.twoSteps(weighted("u", "analyze", 5, hundredUnits), 4, 3)
	h.clock.Advance(2 * oneDay)
	h.commit(one)
	h.commit(rest)
	h.commitRest(rest)
	h.wantDays("u", 3, "analyze 1/4 report 1/1 | - | -")
	h.clock.Advance(oneDay)
	h.commit(two)
	h.wantDays("u", 3, "- | - | -")
	h.clock.Set(noon)
	h.wantDays("u", 1, "analyze 1/4 report 2/2")
	h.clock.Advance(20 * oneDay)
	h.commit(three) // in the month, but on no day
	h.wantDays("u", 3, "- | - | -")
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
		h.wantDays("v", 2, "analyze 3/12 report 3/3 | -")
	}
}

// A journal may have a count whose windows are not kept any more.
func testDayWithoutWindows(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{})
	p := NewPlan("minutes", quota.Limit{Amount: 5, Period: quota.Minute})
	r, none := h.admit("u", "report", p), h.admit("v", "report", p)
	none.Windows = nil
	h.clock.Advance(3 * oneDay)
	h.commit(r)
	h.commit(none)
	h.wantDays("u", 4, "report 1/1 | - | - | -")
	h.wantDays("v", 4, "report 1/1 | - | - | -")
}

func testHistoryOffAndOn(t *testing.T, open OpenHistory) {
	h := newHistoryHarness(t, open, HistorySetup{HistoryDays: 5})
	h.use(1, "u", "report", hundredAMonth)
	before := h.admit("u", "report", hundredAMonth)
	h.reopen(0)
	if _, err := h.store.History(context.Background(), "u", 1); !errors.Is(err, quota.ErrNotKept) {
		t.Errorf("while it is off: error %v, want %v", err, quota.ErrNotKept)
	}
	r := h.admit("u", "analyze", hundredAMonth)
	if r.Date != 0 {
		t.Errorf("while it is off, a request counts on %v", r.Date)
	}
	h.commit(r)
	h.commit(before)
	h.clock.Advance(oneDay)
	h.use(1, "u", "report", hundredAMonth)
	off := h.admit("u", "report", hundredAMonth)
	h.reopen(5)
	h.commit(off) // it was admitted without a date
	h.wantDays("u", 3, "- | report 1/1 | -")
	h.use(2, "u", "report", hundredAMonth)
	h.wantDays("u", 3, "- | report 1/1 | report 2/2")
	h.wantState("u", hundredAMonth, "7+0 7+0 [1 0 6]")
}
