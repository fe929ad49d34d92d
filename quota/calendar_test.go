package quota_test

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"metergate/quota"
)

// windowAt asks a new calendar, which has no recent windows.
func windowAt(period quota.Period, at time.Time, loc *time.Location) quota.Window {
	return quota.NewCalendar(loc).WindowAt(period, at)
}

func sameWindow(a, b quota.Window) bool {
	return a.Period == b.Period && a.ID == b.ID && a.Start.Equal(b.Start) && a.End.Equal(b.End)
}

// A moment is an instant and the window that contains it. Instants are written with the
// local offset, which tells the two passes of a repeated hour apart.
type moment struct {
	period         quota.Period
	at             string
	id, start, end string
}

func testMoments(t *testing.T, loc *time.Location, moments []moment) {
	for _, m := range moments {
		t.Run(fmt.Sprint(m.period, " at ", m.at), func(t *testing.T) {
			at, start, end := instant(t, m.at), instant(t, m.start), instant(t, m.end)
			w := windowAt(m.period, at, loc)
			if w.Period != m.period || w.ID != m.id || !w.Start.Equal(start) || !w.End.Equal(end) {
				t.Errorf("got  %v %s from %v to %v\nwant %v %s from %v to %v",
					w.Period, w.ID, w.Start, w.End, m.period, m.id, start.In(loc), end.In(loc))
			}
			// The first and the last instant are in the window, their neighbours are not.
			for edge, in := range map[time.Time]bool{start.Add(-1): false, start: true, end.Add(-1): true, end: false} {
				if w.Contains(edge) != in {
					t.Errorf("Contains(%v) = %v", edge, !in)
				}
				if got := windowAt(m.period, edge, loc); (got.ID == m.id) != in {
					t.Errorf("%v is in %s", edge, got.ID)
				}
			}
		})
	}
}

func TestWindowAt(t *testing.T) {
	for _, place := range []struct {
		zone    string
		moments []moment
	}{
		{"UTC", []moment{
			{quota.Minute, "2026-11-24T13:05:59.999999999Z", "2026-11-24T13:05+0000", "2026-11-24T13:05:00Z", "2026-11-24T13:06:00Z"},
			{quota.Hour, "2026-11-24T13:05:00Z", "2026-11-24T13+0000", "2026-11-24T13:00:00Z", "2026-11-24T14:00:00Z"},
			{quota.Day, "2026-11-24T13:05:00Z", "2026-11-24", "2026-11-24T00:00:00Z", "2026-11-25T00:00:00Z"},
			{quota.Week, "2026-11-24T13:05:00Z", "2026-W48", "2026-11-23T00:00:00Z", "2026-11-30T00:00:00Z"},
			{quota.Month, "2026-11-24T13:05:00Z", "2026-11", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"},
			{quota.Year, "2026-11-24T13:05:00Z", "2026", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"},
			// Months of 31, 30, 29 and 28 days.
			{quota.Month, "2026-01-31T23:59:59.999999999Z", "2026-01", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z"},
			{quota.Month, "2026-04-30T23:59:59Z", "2026-04", "2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z"},
			{quota.Month, "2026-02-28T23:59:59Z", "2026-02", "2026-02-01T00:00:00Z", "2026-03-01T00:00:00Z"},
			{quota.Month, "2028-02-29T00:00:00Z", "2028-02", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"},
			// 2028 and 2000 have a 29 February, 2026 and 2100 do not.
			{quota.Day, "2028-02-29T12:00:00Z", "2028-02-29", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"},
			{quota.Day, "2000-02-29T12:00:00Z", "2000-02-29", "2000-02-29T00:00:00Z", "2000-03-01T00:00:00Z"},
			{quota.Day, "2026-02-28T12:00:00Z", "2026-02-28", "2026-02-28T00:00:00Z", "2026-03-01T00:00:00Z"},
			{quota.Day, "2100-02-28T12:00:00Z", "2100-02-28", "2100-02-28T00:00:00Z", "2100-03-01T00:00:00Z"},
			{quota.Year, "2028-12-31T23:59:59Z", "2028", "2028-01-01T00:00:00Z", "2029-01-01T00:00:00Z"},
			// The turn of a year.
			{quota.Minute, "2026-12-31T23:59:59.999999999Z", "2026-12-31T23:59+0000", "2026-12-31T23:59:00Z", "2027-01-01T00:00:00Z"},
			{quota.Hour, "2026-12-31T23:59:59Z", "2026-12-31T23+0000", "2026-12-31T23:00:00Z", "2027-01-01T00:00:00Z"},
			{quota.Day, "2026-12-31T23:59:59Z", "2026-12-31", "2026-12-31T00:00:00Z", "2027-01-01T00:00:00Z"},
			{quota.Month, "2026-12-31T23:59:59Z", "2026-12", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"},
			{quota.Year, "2027-01-01T00:00:00Z", "2027", "2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z"},
			// A week belongs to the year of its Thursday. Years that begin on a Thursday, and
			// leap years that begin on a Wednesday, have 53 weeks.
			{quota.Week, "2026-12-31T12:00:00Z", "2026-W53", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"},
			{quota.Week, "2027-01-03T23:59:59Z", "2026-W53", "2026-12-28T00:00:00Z", "2027-01-04T00:00:00Z"},
			{quota.Week, "2027-01-04T00:00:00Z", "2027-W01", "2027-01-04T00:00:00Z", "2027-01-11T00:00:00Z"},
			{quota.Week, "2021-01-01T00:00:00Z", "2020-W53", "2020-12-28T00:00:00Z", "2021-01-04T00:00:00Z"},
			{quota.Week, "2016-01-03T00:00:00Z", "2015-W53", "2015-12-28T00:00:00Z", "2016-01-04T00:00:00Z"},
			{quota.Week, "2023-01-01T00:00:00Z", "2022-W52", "2022-12-26T00:00:00Z", "2023-01-02T00:00:00Z"},
			// Week 1 that starts in the old year.
			{quota.Week, "2024-12-30T00:00:00Z", "2025-W01", "2024-12-30T00:00:00Z", "2025-01-06T00:00:00Z"},
			{quota.Week, "2025-12-29T00:00:00Z", "2026-W01", "2025-12-29T00:00:00Z", "2026-01-05T00:00:00Z"},
			{quota.Week, "2019-12-31T12:00:00Z", "2020-W01", "2019-12-30T00:00:00Z", "2020-01-06T00:00:00Z"},
			// Before 1970 the seconds are negative.
			{quota.Minute, "1969-12-31T23:59:59.5Z", "1969-12-31T23:59+0000", "1969-12-31T23:59:00Z", "1970-01-01T00:00:00Z"},
			{quota.Hour, "1969-12-31T23:59:59.5Z", "1969-12-31T23+0000", "1969-12-31T23:00:00Z", "1970-01-01T00:00:00Z"},
		}},
		// Clocks go forward on 29 March 2026 from 02:00 to 03:00, and back on 25 October
		// from 03:00 to 02:00.
		{"Europe/Berlin", []moment{
			{quota.Hour, "2026-03-29T01:59:59+01:00", "2026-03-29T01+0100", "2026-03-29T01:00:00+01:00", "2026-03-29T03:00:00+02:00"},
			{quota.Hour, "2026-03-29T03:00:00+02:00", "2026-03-29T03+0200", "2026-03-29T03:00:00+02:00", "2026-03-29T04:00:00+02:00"},
			{quota.Day, "2026-03-29T12:00:00+02:00", "2026-03-29", "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00"},
			{quota.Week, "2026-03-29T12:00:00+02:00", "2026-W13", "2026-03-23T00:00:00+01:00", "2026-03-30T00:00:00+02:00"},
			{quota.Month, "2026-03-29T12:00:00+02:00", "2026-03", "2026-03-01T00:00:00+01:00", "2026-04-01T00:00:00+02:00"},
			{quota.Hour, "2026-10-25T02:30:00+02:00", "2026-10-25T02+0200", "2026-10-25T02:00:00+02:00", "2026-10-25T02:00:00+01:00"},
			{quota.Hour, "2026-10-25T02:30:00+01:00", "2026-10-25T02+0100", "2026-10-25T02:00:00+01:00", "2026-10-25T03:00:00+01:00"},
			{quota.Minute, "2026-10-25T02:59:30+02:00", "2026-10-25T02:59+0200", "2026-10-25T02:59:00+02:00", "2026-10-25T02:00:00+01:00"},
			{quota.Minute, "2026-10-25T02:59:30+01:00", "2026-10-25T02:59+0100", "2026-10-25T02:59:00+01:00", "2026-10-25T03:00:00+01:00"},
			{quota.Day, "2026-10-25T12:00:00+01:00", "2026-10-25", "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00"},
			{quota.Week, "2026-10-25T12:00:00+01:00", "2026-W43", "2026-10-19T00:00:00+02:00", "2026-10-26T00:00:00+01:00"},
			{quota.Month, "2026-10-25T02:30:00+01:00", "2026-10", "2026-10-01T00:00:00+02:00", "2026-11-01T00:00:00+01:00"},
			{quota.Year, "2026-07-01T00:00:00+02:00", "2026", "2026-01-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00"},
			// In UTC it is still the old month.
			{quota.Month, "2026-11-30T23:30:00Z", "2026-12", "2026-12-01T00:00:00+01:00", "2027-01-01T00:00:00+01:00"},
		}},
		// Until 2011 the clocks changed at 00:01, in autumn to 23:01 of the day before.
		{"America/St_Johns", []moment{
			{quota.Day, "2006-10-28T23:59:59-02:30", "2006-10-28", "2006-10-28T00:00:00-02:30", "2006-10-29T00:00:00-02:30"},
			{quota.Day, "2006-10-29T00:00:30-02:30", "2006-10-29", "2006-10-29T00:00:00-02:30", "2006-10-30T00:00:00-03:30"},
			{quota.Day, "2006-10-28T23:30:00-03:30", "2006-10-29", "2006-10-29T00:00:00-02:30", "2006-10-30T00:00:00-03:30"},
			{quota.Hour, "2006-10-28T23:59:59-02:30", "2006-10-28T23-0230", "2006-10-28T23:00:00-02:30", "2006-10-29T00:00:00-02:30"},
			{quota.Hour, "2006-10-29T00:00:30-02:30", "2006-10-29T00-0230", "2006-10-29T00:00:00-02:30", "2006-10-28T23:01:00-03:30"},
			{quota.Hour, "2006-10-28T23:30:00-03:30", "2006-10-28T23-0330", "2006-10-28T23:01:00-03:30", "2006-10-29T00:00:00-03:30"},
			{quota.Hour, "2006-10-29T00:30:00-03:30", "2006-10-29T00-0330", "2006-10-29T00:00:00-03:30", "2006-10-29T01:00:00-03:30"},
			{quota.Minute, "2006-10-29T00:00:30-02:30", "2006-10-29T00:00-0230", "2006-10-29T00:00:00-02:30", "2006-10-28T23:01:00-03:30"},
			{quota.Minute, "2006-10-28T23:01:00-03:30", "2006-10-28T23:01-0330", "2006-10-28T23:01:00-03:30", "2006-10-28T23:02:00-03:30"},
			// In 2009 this happened in the last night of October: November had begun.
			{quota.Month, "2009-10-31T23:30:00-03:30", "2009-11", "2009-11-01T00:00:00-02:30", "2009-12-01T00:00:00-03:30"},
			{quota.Month, "2009-10-31T23:30:00-02:30", "2009-10", "2009-10-01T00:00:00-02:30", "2009-11-01T00:00:00-02:30"},
			{quota.Week, "2009-10-31T23:30:00-03:30", "2009-W44", "2009-10-26T00:00:00-02:30", "2009-11-02T00:00:00-03:30"},
			// In spring 00:01 was followed by 01:01.
			{quota.Hour, "2006-04-02T00:00:59-03:30", "2006-04-02T00-0330", "2006-04-02T00:00:00-03:30", "2006-04-02T01:01:00-02:30"},
			{quota.Hour, "2006-04-02T01:01:00-02:30", "2006-04-02T01-0230", "2006-04-02T01:01:00-02:30", "2006-04-02T02:00:00-02:30"},
			{quota.Day, "2006-04-02T12:00:00-02:30", "2006-04-02", "2006-04-02T00:00:00-03:30", "2006-04-03T00:00:00-02:30"},
		}},
		// Midnight was skipped on 4 November 2018. On 18 February the clocks went back at
		// midnight, which then came only once, an hour late.
		{"America/Sao_Paulo", []moment{
			{quota.Day, "2018-11-03T23:59:59-03:00", "2018-11-03", "2018-11-03T00:00:00-03:00", "2018-11-04T01:00:00-02:00"},
			{quota.Day, "2018-11-04T01:00:00-02:00", "2018-11-04", "2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"},
			{quota.Hour, "2018-11-04T01:30:00-02:00", "2018-11-04T01-0200", "2018-11-04T01:00:00-02:00", "2018-11-04T02:00:00-02:00"},
			{quota.Week, "2018-11-04T12:00:00-02:00", "2018-W44", "2018-10-29T00:00:00-03:00", "2018-11-05T00:00:00-02:00"},
			{quota.Day, "2018-02-17T23:30:00-03:00", "2018-02-17", "2018-02-17T00:00:00-02:00", "2018-02-18T00:00:00-03:00"},
			{quota.Day, "2018-02-18T00:00:00-03:00", "2018-02-18", "2018-02-18T00:00:00-03:00", "2018-02-19T00:00:00-03:00"},
		}},
		{"Africa/Cairo", []moment{
			{quota.Day, "2024-04-26T12:00:00+03:00", "2024-04-26", "2024-04-26T01:00:00+03:00", "2024-04-27T00:00:00+03:00"},
			{quota.Day, "2024-10-31T23:30:00+02:00", "2024-10-31", "2024-10-31T00:00:00+03:00", "2024-11-01T00:00:00+02:00"},
			{quota.Month, "2024-10-31T23:30:00+02:00", "2024-10", "2024-10-01T00:00:00+03:00", "2024-11-01T00:00:00+02:00"},
		}},
		{"Asia/Beirut", []moment{
			{quota.Day, "2025-03-29T23:59:59+02:00", "2025-03-29", "2025-03-29T00:00:00+02:00", "2025-03-30T01:00:00+03:00"},
			{quota.Day, "2025-03-30T12:00:00+03:00", "2025-03-30", "2025-03-30T01:00:00+03:00", "2025-03-31T00:00:00+03:00"},
		}},
		// A month whose first midnight was skipped.
		{"America/Asuncion", []moment{
			{quota.Month, "1990-10-15T00:00:00-03:00", "1990-10", "1990-10-01T01:00:00-03:00", "1990-11-01T00:00:00-03:00"},
			{quota.Week, "1990-10-01T01:00:00-03:00", "1990-W40", "1990-10-01T01:00:00-03:00", "1990-10-08T00:00:00-03:00"},
		}},
		// The island changes its clocks by half an hour: from 02:00 back to 01:30, from
		// 02:00 forward to 02:30.
		{"Australia/Lord_Howe", []moment{
			{quota.Hour, "2026-04-05T01:45:00+11:00", "2026-04-05T01+1100", "2026-04-05T01:00:00+11:00", "2026-04-05T01:30:00+10:30"},
			{quota.Hour, "2026-04-05T01:45:00+10:30", "2026-04-05T01+1030", "2026-04-05T01:30:00+10:30", "2026-04-05T02:00:00+10:30"},
			{quota.Hour, "2026-04-05T02:00:00+10:30", "2026-04-05T02+1030", "2026-04-05T02:00:00+10:30", "2026-04-05T03:00:00+10:30"},
			{quota.Day, "2026-04-05T12:00:00+10:30", "2026-04-05", "2026-04-05T00:00:00+11:00", "2026-04-06T00:00:00+10:30"},
			{quota.Hour, "2026-10-04T01:59:00+10:30", "2026-10-04T01+1030", "2026-10-04T01:00:00+10:30", "2026-10-04T02:30:00+11:00"},
			{quota.Hour, "2026-10-04T02:30:00+11:00", "2026-10-04T02+1100", "2026-10-04T02:30:00+11:00", "2026-10-04T03:00:00+11:00"},
			{quota.Minute, "2026-10-04T02:30:00+11:00", "2026-10-04T02:30+1100", "2026-10-04T02:30:00+11:00", "2026-10-04T02:31:00+11:00"},
			{quota.Day, "2026-10-04T12:00:00+11:00", "2026-10-04", "2026-10-04T00:00:00+10:30", "2026-10-05T00:00:00+11:00"},
		}},
		// Hours begin at half past in UTC.
		{"Asia/Kolkata", []moment{
			{quota.Minute, "2026-11-24T13:05:30+05:30", "2026-11-24T13:05+0530", "2026-11-24T07:35:00Z", "2026-11-24T07:36:00Z"},
			{quota.Hour, "2026-11-24T13:05:30+05:30", "2026-11-24T13+0530", "2026-11-24T07:30:00Z", "2026-11-24T08:30:00Z"},
			{quota.Day, "2026-11-24T13:05:30+05:30", "2026-11-24", "2026-11-23T18:30:00Z", "2026-11-24T18:30:00Z"},
			{quota.Year, "2026-11-24T13:05:30+05:30", "2026", "2025-12-31T18:30:00Z", "2026-12-31T18:30:00Z"},
		}},
		// Places that crossed the date line: 29 December was followed by 31 December.
		{"Pacific/Apia", []moment{
			{quota.Day, "2011-12-29T00:00:00-10:00", "2011-12-29", "2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00"},
			{quota.Day, "2011-12-29T23:59:59-10:00", "2011-12-29", "2011-12-29T00:00:00-10:00", "2011-12-31T00:00:00+14:00"},
			{quota.Day, "2011-12-31T00:00:00+14:00", "2011-12-31", "2011-12-31T00:00:00+14:00", "2012-01-01T00:00:00+14:00"},
			{quota.Hour, "2011-12-29T23:30:00-10:00", "2011-12-29T23-1000", "2011-12-29T23:00:00-10:00", "2011-12-31T00:00:00+14:00"},
			{quota.Week, "2011-12-29T12:00:00-10:00", "2011-W52", "2011-12-26T00:00:00-10:00", "2012-01-02T00:00:00+14:00"},
			{quota.Month, "2011-12-31T12:00:00+14:00", "2011-12", "2011-12-01T00:00:00-10:00", "2012-01-01T00:00:00+14:00"},
		}},
		{"Pacific/Kwajalein", []moment{
			{quota.Day, "1993-08-20T12:00:00-12:00", "1993-08-20", "1993-08-20T00:00:00-12:00", "1993-08-22T00:00:00+12:00"},
		}},
		// The skipped day was the last of the year.
		{"Pacific/Kiritimati", []moment{
			{quota.Day, "1994-12-30T12:00:00-10:00", "1994-12-30", "1994-12-30T00:00:00-10:00", "1995-01-01T00:00:00+14:00"},
			{quota.Year, "1994-12-30T12:00:00-10:00", "1994", "1994-01-01T00:00:00-10:00", "1995-01-01T00:00:00+14:00"},
		}},
		// Clocks go back from 01:00 to midnight, which comes twice; in 2020 on the first
		// of a month. They go forward at midnight, which is skipped.
		{"America/Havana", []moment{
			{quota.Day, "2020-11-01T00:30:00-04:00", "2020-11-01", "2020-11-01T00:00:00-04:00", "2020-11-02T00:00:00-05:00"},
			{quota.Day, "2020-11-01T00:30:00-05:00", "2020-11-01", "2020-11-01T00:00:00-04:00", "2020-11-02T00:00:00-05:00"},
			{quota.Hour, "2020-11-01T00:30:00-04:00", "2020-11-01T00-0400", "2020-11-01T00:00:00-04:00", "2020-11-01T00:00:00-05:00"},
			{quota.Hour, "2020-11-01T00:30:00-05:00", "2020-11-01T00-0500", "2020-11-01T00:00:00-05:00", "2020-11-01T01:00:00-05:00"},
			{quota.Month, "2020-11-01T00:30:00-05:00", "2020-11", "2020-11-01T00:00:00-04:00", "2020-12-01T00:00:00-05:00"},
			{quota.Day, "2020-03-08T12:00:00-04:00", "2020-03-08", "2020-03-08T01:00:00-04:00", "2020-03-09T00:00:00-04:00"},
		}},
		// Clocks went back by three hours, from 02:00 to 23:00 of the day before.
		{"Antarctica/Casey", []moment{
			{quota.Day, "2010-03-04T23:30:00+08:00", "2010-03-05", "2010-03-05T00:00:00+11:00", "2010-03-06T00:00:00+08:00"},
			{quota.Hour, "2010-03-04T23:30:00+08:00", "2010-03-04T23+0800", "2010-03-04T23:00:00+08:00", "2010-03-05T00:00:00+08:00"},
			{quota.Hour, "2010-03-04T23:30:00+11:00", "2010-03-04T23+1100", "2010-03-04T23:00:00+11:00", "2010-03-05T00:00:00+11:00"},
		}},
	} {
		t.Run(place.zone, func(t *testing.T) { testMoments(t, zone(t, place.zone), place.moments) })
	}
}

// Where a zone follows a rule, Time.ZoneBounds is wrong on the last day of leap years and
// at every turn of the year in UTC. No clock changes there.
func TestWindowAtTurnOfYear(t *testing.T) {
	for name, moments := range map[string][]moment{
		"Berlin": {
			{quota.Minute, "2028-12-31T12:00:30+01:00", "2028-12-31T12:00+0100", "2028-12-31T12:00:00+01:00", "2028-12-31T12:01:00+01:00"},
			{quota.Hour, "2028-12-31T12:30:00+01:00", "2028-12-31T12+0100", "2028-12-31T12:00:00+01:00", "2028-12-31T13:00:00+01:00"},
			{quota.Day, "2028-12-31T12:30:00+01:00", "2028-12-31", "2028-12-31T00:00:00+01:00", "2029-01-01T00:00:00+01:00"},
		},
		"Adelaide": {
			{quota.Hour, "2027-01-01T10:15:00+10:30", "2027-01-01T10+1030", "2027-01-01T10:00:00+10:30", "2027-01-01T11:00:00+10:30"},
			{quota.Hour, "2027-01-01T10:45:00+10:30", "2027-01-01T10+1030", "2027-01-01T10:00:00+10:30", "2027-01-01T11:00:00+10:30"},
		},
		"St. John's": {
			{quota.Hour, "2026-12-31T20:15:00-03:30", "2026-12-31T20-0330", "2026-12-31T20:00:00-03:30", "2026-12-31T21:00:00-03:30"},
			{quota.Hour, "2028-12-31T12:15:00-03:30", "2028-12-31T12-0330", "2028-12-31T12:00:00-03:30", "2028-12-31T13:00:00-03:30"},
		},
		"Chatham": {
			{quota.Hour, "2028-12-31T13:30:00+13:45", "2028-12-31T13+1345", "2028-12-31T13:00:00+13:45", "2028-12-31T14:00:00+13:45"},
		},
	} {
		t.Run(name, func(t *testing.T) { testMoments(t, ruleZone(t, name, rules[name]), moments) })
	}
}

// No zone has set its clocks back across the start of a week or a year so far. These do,
// from 00:01 on a Monday and on 1 January to 23:01 of the day before. The new week and the
// new year have begun nevertheless.
func TestWindowAtOldDateShownAgain(t *testing.T) {
	testMoments(t, ruleZone(t, "Monday", "NST3:30NDT,M3.2.0,M11.1.1/0:01"), []moment{
		{quota.Week, "2026-11-01T23:59:59-02:30", "2026-W44", "2026-10-26T00:00:00-02:30", "2026-11-02T00:00:00-02:30"},
		{quota.Week, "2026-11-01T23:30:00-03:30", "2026-W45", "2026-11-02T00:00:00-02:30", "2026-11-09T00:00:00-03:30"},
		{quota.Day, "2026-11-01T23:30:00-03:30", "2026-11-02", "2026-11-02T00:00:00-02:30", "2026-11-03T00:00:00-03:30"},
	})
	testMoments(t, ruleZone(t, "New Year", "NST3:30NDT,J100,J1/0:01"), []moment{
		{quota.Year, "2026-12-31T23:59:59-02:30", "2026", "2026-01-01T00:00:00-02:30", "2027-01-01T00:00:00-02:30"},
		{quota.Year, "2026-12-31T23:30:00-03:30", "2027", "2027-01-01T00:00:00-02:30", "2028-01-01T00:00:00-02:30"},
		{quota.Month, "2026-12-31T23:30:00-03:30", "2027-01", "2027-01-01T00:00:00-02:30", "2027-02-01T00:00:00-03:30"},
		{quota.Week, "2026-12-31T23:30:00-03:30", "2026-W53", "2026-12-28T00:00:00-02:30", "2027-01-04T00:00:00-03:30"},
	})
}

// Clocks that go from 23:30 to 00:30 skip midnight in the middle of the hour: the day begins
// at half past. East and west of Greenwich, time.Date returns different instants.
func TestWindowAtSkippedMidnight(t *testing.T) {
	testMoments(t, ruleZone(t, "east", "AAA-2BBB,M3.5.0/23:30,M10.5.0/3"), []moment{
		{quota.Day, "2026-03-29T12:00:00+02:00", "2026-03-29", "2026-03-29T00:00:00+02:00", "2026-03-30T00:30:00+03:00"},
		{quota.Day, "2026-03-30T12:00:00+03:00", "2026-03-30", "2026-03-30T00:30:00+03:00", "2026-03-31T00:00:00+03:00"},
	})
	testMoments(t, ruleZone(t, "west", "AAA3BBB,M3.5.0/23:30,M10.5.0/3"), []moment{
		{quota.Day, "2026-03-29T12:00:00-03:00", "2026-03-29", "2026-03-29T00:00:00-03:00", "2026-03-30T00:30:00-02:00"},
		{quota.Week, "2026-03-30T12:00:00-02:00", "2026-W14", "2026-03-30T00:30:00-02:00", "2026-04-06T00:00:00-02:00"},
	})
}

// When clocks are set back they show an hour twice. It is two windows, with two IDs.
func TestWindowAtRepeatedHour(t *testing.T) {
	for _, tt := range []struct{ zone, first, second string }{
		{"Europe/Berlin", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"},
		{"America/Havana", "2020-11-01T00:30:00-04:00", "2020-11-01T00:30:00-05:00"},
		{"America/St_Johns", "2006-10-28T23:30:00-02:30", "2006-10-28T23:30:00-03:30"},
		{"Australia/Lord_Howe", "2026-04-05T01:45:00+11:00", "2026-04-05T01:45:00+10:30"},
	} {
		loc := zone(t, tt.zone)
		for _, period := range []quota.Period{quota.Minute, quota.Hour} {
			first, second := windowAt(period, instant(t, tt.first), loc), windowAt(period, instant(t, tt.second), loc)
			if first.ID == second.ID || first.End.After(second.Start) {
				t.Errorf("%s: %+v and %+v", tt.zone, first, second)
			}
		}
	}
}

func TestCalendarLocationAndWindows(t *testing.T) {
	if got := quota.NewCalendar(nil).Location(); got != time.UTC {
		t.Errorf("without a zone, Location = %v", got)
	}
	berlin := zone(t, "Europe/Berlin")
	c := quota.NewCalendar(berlin)
	if c.Location() != berlin {
		t.Errorf("Location = %v", c.Location())
	}
	// The window depends on the instant, not on the zone it is given in. Start and End are in
	// the calendar's zone.
	at := instant(t, "2026-11-30T23:30:00Z")
	for _, u := range []time.Time{at, at.In(zone(t, "Asia/Kolkata"))} {
		w := c.WindowAt(quota.Month, u)
		if w.ID != "2026-12" || w.Start.Location() != berlin || w.End.Location() != berlin {
			t.Errorf("the month of %v is %+v", u, w)
		}
	}

	order := []quota.Period{quota.Year, quota.Minute, quota.Month}
	windows := c.WindowsAt(order, at)
	if len(windows) != len(order) {
		t.Fatalf("%d windows for %d periods", len(windows), len(order))
	}
	for i, w := range windows {
		if !sameWindow(w, windowAt(order[i], at, berlin)) {
			t.Errorf("period %v: %+v", order[i], w)
		}
	}
	if got := c.WindowsAt(nil, at); len(got) != 0 {
		t.Errorf("windows for no period: %v", got)
	}

	for _, period := range []quota.Period{0, quota.Ever + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("WindowAt accepts %v", period)
				}
			}()
			c.WindowAt(period, at)
		}()
	}
}

// Many requests use one calendar at once, and for different windows around a turn.
func TestCalendarIsSafeForConcurrentUse(t *testing.T) {
	loc := zone(t, "Europe/Berlin")
	shared := quota.NewCalendar(loc)
	turn := instant(t, "2026-10-25T02:59:59+02:00")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				at := turn.Add(time.Duration((i*7+g*13)%120-60) * 97 * time.Second)
				for _, period := range periods {
					if got, want := shared.WindowAt(period, at), windowAt(period, at, loc); !sameWindow(got, want) {
						t.Errorf("the %v of %v is %+v, want %+v", period, at, got, want)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}
