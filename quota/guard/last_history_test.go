package guard

import (
	"fmt"
	"testing"
	"time"

	"metergate/quota"
)

var utc = quota.NewCalendar(nil)

// report is a history of some days, with one request on each of them to each of some endpoints.
func report(at time.Time, days, endpoints int) *quota.History {
	used := map[quota.Date]map[string]quota.Used{}
	for i := range days {
		on := map[string]quota.Used{}
		for e := range endpoints {
			on[fmt.Sprint("e", e)] = quota.Used{Requests: 1, Units: 1}
		}
		used[utc.DateAt(at)-quota.Date(i)] = on
	}
	h := quota.NewHistory(utc, at, days, used)
	return &h
}

// Days before the reported ones stay known, if no day between them is missing.
func TestHistoryIsKnownWithoutGaps(t *testing.T) {
	noon := time.Date(2026, time.November, 17, 12, 0, 0, 0, time.UTC)
	at := func(day int) time.Time { return noon.Add(time.Duration(day) * 24 * time.Hour) }
	for _, test := range []struct {
		name       string
		reports    []*quota.History
		askAt      time.Time
		days, want int // requests in all of them; -1: they are not known
	}{
		{"nothing", nil, at(0), 1, -1},
		{"the same days", []*quota.History{report(at(0), 3, 1)}, at(0), 3, 3},
		{"fewer", []*quota.History{report(at(0), 3, 1)}, at(0), 1, 1},
		{"more", []*quota.History{report(at(0), 3, 1)}, at(0), 4, -1},
		{"the next day", []*quota.History{report(at(0), 3, 1)}, at(1), 3, -1},
		{"days later", []*quota.History{report(at(0), 7, 1)}, at(4), 7, -1},
		{"then fewer", []*quota.History{report(at(0), 3, 1), report(at(0), 1, 2)}, at(0), 3, 4},
		{"then fewer of the next day", []*quota.History{report(at(0), 3, 1), report(at(1), 2, 1)}, at(1), 4, 4},
		{"then more", []*quota.History{report(at(0), 1, 1), report(at(0), 3, 1)}, at(0), 3, 3},
		{"then a day of which the end is not known", []*quota.History{report(at(0), 3, 1), report(at(1), 1, 1)}, at(1), 4, -1},
		{"then after a gap", []*quota.History{report(at(0), 3, 1), report(at(9), 2, 1)}, at(9), 3, -1},
		{"an answer that was overtaken", []*quota.History{report(at(1), 1, 1), report(at(0), 5, 1)}, at(1), 2, -1},
	} {
		l := newLedger(utc)
		for _, h := range test.reports {
			l.recordHistory("u", h)
		}
		h, ok := l.history("u", test.days, test.askAt)
		if !ok {
			if test.want >= 0 {
				t.Errorf("%s: not known", test.name)
			}
			continue
		}
		sum := quota.Used{}
		for _, d := range h.Days {
			sum = sum.Add(d.Total())
		}
		if int(sum.Requests) != test.want || !h.Stale || !h.At.Equal(test.askAt) || len(h.Days) != test.days {
			t.Errorf("%s: %d requests in %d days at %v, stale %v; want %d in %d at %v", test.name, sum.Requests, len(h.Days), h.At, h.Stale, test.want, test.days, test.askAt)
		}
	}
}

// What is known is bounded by its numbers, and what was asked for last stays.
func TestKnownHistoriesAreBounded(t *testing.T) {
	now := time.Date(2026, time.November, 17, 12, 0, 0, 0, time.UTC)
	var c historyCache
	for i := range 1000 {
		c.record("often", report(now, 7, 3))
		c.record(fmt.Sprint("user-", i), report(now, 30, 1+i%5))
		numbers := 0
		for _, m := range []map[string]*knownHistory{c.young, c.old} {
			for _, k := range m {
				numbers += len(k.used)
			}
		}
		if numbers > 2*maxHistoryNumbers {
			t.Fatalf("after %d users, %d numbers are kept", i, numbers)
		}
		if c.get("often") == nil || c.get(fmt.Sprint("user-", i)) == nil {
			t.Fatalf("after %d users, one that was just asked for is not known", i)
		}
	}
	if c.get("user-0") != nil {
		t.Error("everything is kept")
	}
	c.record("large", report(now, quota.MaxHistory, 20)) // more than all
	if c.get("large") == nil {
		t.Error("a large history is not known")
	}
	c.forget("large")
	if c.get("large") != nil {
		t.Error("what was forgotten is known")
	}
}

// A count is added to the last report only if it came after it.
func TestCountsAreAddedAfterReport(t *testing.T) {
	now := time.Date(2026, time.November, 17, 12, 0, 0, 0, time.UTC)
	var c historyCache
	w := &settlement{Reservation: quota.Reservation{Request: quota.Request{User: "u", Endpoint: "e0"}, Date: utc.DateAt(now)}}
	c.add(w, now) // nothing is known
	c.record("u", report(now, 1, 1))
	for at, want := range map[time.Time]int64{now.Add(-1): 0, now: 0, now.Add(1): 1, {}: 1} {
		before := c.get("u").used[dayKey{w.Date, "e0"}].Requests
		c.add(w, at)
		if got := c.get("u").used[dayKey{w.Date, "e0"}].Requests - before; got != want {
			t.Errorf("a count at %v: %d added, want %d", at, got, want)
		}
	}
}

func TestJournalEntryHasDate(t *testing.T) {
	w := settlement{Reservation: quota.Reservation{Request: quota.Request{ID: "A", User: "u", Endpoint: "report"}}}
	for date, want := range map[quota.Date]string{
		0:     `{"endpoint":"report","windows":null}`,
		20786: `{"endpoint":"report","date":20786,"windows":null}`,
	} {
		w.Date = date
		text, err := encodeEntry(&w)
		if err != nil || string(text) != want {
			t.Errorf("entry %s, error %v; want %s", text, err, want)
		}
		if got, ok := decodeEntry(entryKey("u", "A"), text, false); !ok || got.Date != date {
			t.Errorf("%s is read as %+v", text, got)
		}
	}
}
