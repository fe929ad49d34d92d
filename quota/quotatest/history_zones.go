package quotatest

import (
	"strings"
	"testing"
	"time"

	"metergate/quota"
)

// Days of 23, 24 and 25 hours, one whose midnight does not exist, and zones half a day apart.
func testDaysInZones(t *testing.T, open OpenHistory) {
	for _, test := range []struct {
		zone  string
		times []string // of one request each, in the zone
		want  string   // at the last one
	}{
		{"UTC", []string{"2026-11-16T23:59:30Z", "2026-11-17T00:00:30Z"}, "report 1/1 | report 1/1"},
		{"America/New_York", []string{ // the clock is set back on 1 November
			"2026-10-31T23:59:30-04:00", "2026-11-01T00:00:30-04:00", "2026-11-01T01:30:00-04:00", "2026-11-01T01:30:00-05:00",
			"2026-11-01T23:59:30-05:00", "2026-11-02T00:00:30-05:00"}, "report 1/1 | report 4/4 | report 1/1"},
		{"Europe/Berlin", []string{ // forward on 29 March
			"2026-03-28T23:59:30+01:00", "2026-03-29T01:59:30+01:00", "2026-03-29T03:00:30+02:00", "2026-03-29T23:59:30+02:00",
			"2026-03-30T00:00:30+02:00"}, "report 1/1 | report 3/3 | report 1/1"},
		{"Africa/Cairo", []string{ // forward at midnight of 24 April
			"2026-04-23T23:59:30+02:00", "2026-04-24T01:00:30+03:00", "2026-04-24T23:59:30+03:00", "2026-04-25T00:00:30+03:00"},
			"report 1/1 | report 2/2 | report 1/1"},
		{"Pacific/Kiritimati", []string{"2026-11-16T23:59:30+14:00", "2026-11-17T00:00:30+14:00"}, "report 1/1 | report 1/1"},
	} {
		zone, err := time.LoadLocation(test.zone)
		if err != nil {
			t.Fatal(err)
		}
		h := newHistoryHarness(t, open, HistorySetup{Calendar: quota.NewCalendar(zone)})
		for _, text := range test.times {
			at, err := time.Parse(time.RFC3339, text)
			if err != nil {
				t.Fatal(err)
			}
			h.clock.Set(at)
			h.use(1, "u", "report", hundredAMonth)
		}
		h.wantDays("u", strings.Count(test.want, "|")+1, test.want)
	}
}

// The date moves back when the time zone moves west.
func testDateMovesBack(t *testing.T, open OpenHistory) {
	east, err := time.LoadLocation("Pacific/Kiritimati") // where it is the next day already
	if err != nil {
		t.Fatal(err)
	}
	h := newHistoryHarness(t, open, HistorySetup{Calendar: quota.NewCalendar(east)})
	h.clock.Advance(-oneDay)
	h.use(4, "u", "report", hundredAMonth) // what is today later on
	h.clock.Advance(oneDay)
	h.use(5, "u", "report", hundredAMonth)
	h.use(5, "u", "analyze", hundredAMonth)
	h.Calendar = quota.NewCalendar(nil)
	h.reopen(h.HistoryDays)
	h.use(2, "u", "report", hundredAMonth)
	h.use(1, "u", "analyze", hundredAMonth)
	h.wantDays("u", 2, "- | analyze 1/1 report 6/6")
	for range 2 {
		h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetCounts, Period: quota.Day,
			Counts: map[string]int64{"report": 7, "removed": 2}, CountUnits: map[string]int64{"report": 9}})
		h.wantDays("u", 2, "- | analyze 1/1 removed 2/2 report 7/9")
	}
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionSetCounts, Period: quota.Day, Counts: map[string]int64{"report": 0, "removed": 1}})
	h.wantDays("u", 2, "- | analyze 1/1 removed 1/1")
	h.use(1, "u", "report", hundredAMonth)
	h.applyChange("u", hundredAMonth, quota.Change{Action: quota.ActionReset})
	h.wantDays("u", 2, "- | -")
	h.use(3, "u", "report", hundredAMonth)
	h.clock.Advance(oneDay)
	h.use(1, "u", "report", hundredAMonth)
	h.wantDays("u", 2, "report 3/3 | analyze 5/5 report 6/6")
	h.clock.Advance(oneDay)
	h.use(1, "u", "report", hundredAMonth)
	h.wantDays("u", 4, "- | report 3/3 | analyze 5/5 report 6/6 | report 1/1")
}
