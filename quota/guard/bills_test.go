package guard_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
)

// bills shows the bills of an account: "HOURS requests/units #revision" of each, with the hours since now.
func (r *guardedRedis) bills(account string) string {
	var text []string
	now := quota.BillHourAt(r.options.Backend.Now())
	err := r.ScanBills(ctx, quota.BillQuery{Before: now}, func(a quota.AccountBills) error {
		for _, b := range a.Bills {
			if a.Account == account {
				text = append(text, fmt.Sprintf("%d %d/%d #%d", b.Hour-now, b.Used.Requests, b.Used.Units, b.Revision))
			}
		}
		return nil
	})
	if err != nil {
		return err.Error()
	}
	return strings.Join(text, ", ")
}

// What is counted in an outage is billed in its hours, once the store has it; before that, there are no bills.
func TestBillsOfAnOutage(t *testing.T) {
	clock := quotatest.NewClock(midday)
	r := newGuardedRedis(t, setup{allow: true, now: clock.Now, billing: 48})
	unlimited := quotatest.NewWeightedPlan("unlimited")
	r.use(1, "u", unlimited)
	waiting, late := r.admit("u", unlimited), r.admit("u", unlimited)
	if want := quota.BillHourAt(midday); waiting.BillHour != want {
		t.Errorf("the request counts in the hour %d, want %d", waiting.BillHour, want)
	}
	clock.Advance(time.Hour)
	if got := r.bills("u"); got != "-1 1/1 #1" {
		t.Errorf("before the outage, the bills are %s", got)
	}
	r.beginOutage()
	r.commit(waiting)
	r.use(2, "u", unlimited)
	clock.Advance(time.Hour)
	r.use(3, "u", unlimited)
	if got := r.bills("u"); strings.Contains(got, "#") {
		t.Errorf("during the outage, the bills are %s", got)
	}
	if err := r.EndBills(ctx, "u", []quota.Bill{{Endpoint: "analyze", Hour: quota.BillHourAt(midday), Revision: 1}}); err == nil {
		t.Error("during the outage, bills were ended")
	}
	r.endOutage()
	r.waitForReplay()
	clock.Advance(time.Hour)
	r.commit(late)
	if got, want := r.bills("u"), "-3 1/1 #1, -3 2/2 #2, -2 2/2 #2, -1 3/3 #2"; sortedList(got) != sortedList(want) {
		t.Errorf("after the outage, the bills are %s, want %s", got, want)
	}
}

func sortedList(text string) string {
	list := strings.Split(text, ", ")
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// A journal keeps an hour for longer than the windows of its requests.
func TestJournalKeepsHours(t *testing.T) {
	clock := quotatest.NewClock(midday)
	r := newGuardedRedis(t, setup{allow: true, now: clock.Now, keep: time.Hour, billing: 48})
	minutes := quotatest.NewPlan("minutes", quota.Limit{Amount: 50, Period: quota.Minute})
	r.use(1, "u", minutes)
	r.beginOutage()
	r.use(2, "u", minutes)
	r.endOutageAfter(10*time.Hour, clock)
	r.waitForReplay()
	if got := r.bills("u"); got != "-10 3/3 #1" {
		t.Errorf("the bills are %s", got)
	}
	if dropped := r.Stats().Dropped; dropped != 0 {
		t.Errorf("%d counts were dropped", dropped)
	}
	r.beginOutage()
	r.use(1, "u", minutes)
	r.endOutageAfter(49*time.Hour, clock)
	r.waitForReplay()
	if dropped := r.Stats().Dropped; dropped != 1 {
		t.Errorf("%d counts were dropped, want that of an hour that is not kept any more", dropped)
	}
}

func TestNoBillsWithoutBilling(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.beginOutage()
	if request := r.admit("u", five); request.BillHour != 0 {
		t.Errorf("the request counts in the hour %d", request.BillHour)
	}
	never := func(quota.AccountBills) error { t.Error("bills"); return nil }
	if err := r.ScanBills(ctx, quota.BillQuery{Before: 1 << 40}, never); !errors.Is(err, quota.ErrNotKept) {
		t.Errorf("ScanBills: error %v", err)
	}
	if err := r.EndBills(ctx, "u", nil); !errors.Is(err, quota.ErrNotKept) {
		t.Errorf("EndBills: error %v", err)
	}
}
