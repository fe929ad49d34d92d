package quota_test

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"
	_ "time/tzdata" // the tests must not depend on what the machine has installed

	"pgregory.net/rapid"

	"metergate/quota"
)

var kinds = []quota.Period{quota.Minute, quota.Hour, quota.Day, quota.Week, quota.Month, quota.Year}

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// ruleZone is a time zone that consists of a rule alone (a TZ string of POSIX) and
// of no list of past changes. What time zone files say of the years to come looks
// like this, from which year on depends on the file: the compact ones, which a
// container has, leave the list as early as 1996.
func ruleZone(t testing.TB, name, rule string) *time.Location {
	t.Helper()
	header := func(types, chars int) []byte {
		b := append([]byte("TZif2"), make([]byte, 15)...)
		for _, n := range []int{0, 0, 0, 0, types, chars} { // RFC 9636, section 3.1
			b = binary.BigEndian.AppendUint32(b, uint32(n))
		}
		return b
	}
	oneType := make([]byte, 6+4) // offset 0, no daylight saving; its name, zero-terminated
	copy(oneType[6:], "LMT")
	var data []byte
	for range 2 { // version 1 and version 2 of the same
		data = append(append(data, header(1, 4)...), oneType...)
	}
	loc, err := time.LoadLocationFromTZData(name, append(data, "\n"+rule+"\n"...))
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// Rules as they hold today.
var rules = map[string]string{
	"Berlin":     "CET-1CEST,M3.5.0,M10.5.0/3",
	"St. John's": "NST3:30NDT,M3.2.0,M11.1.0",
	"Adelaide":   "ACST-9:30ACDT,M10.1.0,M4.1.0/3",
	"Lord Howe":  "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
	"Chatham":    "<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45",
	"Havana":     "CST5CDT,M3.2.0/0,M11.1.0/1",
	"Cairo":      "EET-2EEST,M4.5.5/0,M10.5.4/24",
	"Nuuk":       "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
	"Troll":      "<+00>0<+02>-2,M3.5.0/1,M10.5.0/3",
}

func instant(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// windowAt asks a calendar that remembers nothing.
func windowAt(per quota.Period, at time.Time, loc *time.Location) quota.Window {
	return quota.NewCalendar(loc).WindowAt(per, at)
}

func sameWindow(a, b quota.Window) bool {
	return a.Period == b.Period && a.ID == b.ID && a.Start.Equal(b.Start) && a.End.Equal(b.End)
}

// A moment of a calendar and the window that holds then. Instants are written in
// the offset of the place, which tells the two passes of a repeated hour apart.
type moment struct {
	per            quota.Period
	at             string
	id, start, end string
}

func testMoments(t *testing.T, loc *time.Location, moments []moment) {
	for _, m := range moments {
		t.Run(fmt.Sprint(m.per, " at ", m.at), func(t *testing.T) {
			at, start, end := instant(t, m.at), instant(t, m.start), instant(t, m.end)
			w := windowAt(m.per, at, loc)
			if w.Period != m.per || w.ID != m.id || !w.Start.Equal(start) || !w.End.Equal(end) {
				t.Errorf("got  %v %s from %v to %v\nwant %v %s from %v to %v",
					w.Period, w.ID, w.Start, w.End, m.per, m.id, start.In(loc), end.In(loc))
			}
			// The edges: the first and the last instant are in it, their neighbours not.
			for edge, in := range map[time.Time]bool{start.Add(-1): false, start: true, end.Add(-1): true, end: false} {
				if w.Contains(edge) != in {
					t.Errorf("Contains(%v) = %v", edge, !in)
				}
				if got := windowAt(m.per, edge, loc); (got.ID == m.id) != in {
					t.Errorf("%v is in %s", edge, got.ID)
				}
			}
		})
	}
}

func TestWindow(t *testing.T) {
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
			// 29 February is in 2028 and 2000, not in 2026 and 2100.
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
			// A week has the year of its Thursday. Years that begin on a Thursday, and
			// leap years that begin on a Wednesday, have 53.
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
		// Clocks forward on 29 March 2026 from 02:00 to 03:00, back on 25 October from
		// 03:00 to 02:00.
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
		// Until 2011 the clocks moved at 00:01, in autumn to 23:01 of the day before.
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
			// In 2009 that night was the last of October: November had begun.
			{quota.Month, "2009-10-31T23:30:00-03:30", "2009-11", "2009-11-01T00:00:00-02:30", "2009-12-01T00:00:00-03:30"},
			{quota.Month, "2009-10-31T23:30:00-02:30", "2009-10", "2009-10-01T00:00:00-02:30", "2009-11-01T00:00:00-02:30"},
			{quota.Week, "2009-10-31T23:30:00-03:30", "2009-W44", "2009-10-26T00:00:00-02:30", "2009-11-02T00:00:00-03:30"},
			// In spring 00:01 was followed by 01:01.
			{quota.Hour, "2006-04-02T00:00:59-03:30", "2006-04-02T00-0330", "2006-04-02T00:00:00-03:30", "2006-04-02T01:01:00-02:30"},
			{quota.Hour, "2006-04-02T01:01:00-02:30", "2006-04-02T01-0230", "2006-04-02T01:01:00-02:30", "2006-04-02T02:00:00-02:30"},
			{quota.Day, "2006-04-02T12:00:00-02:30", "2006-04-02", "2006-04-02T00:00:00-03:30", "2006-04-03T00:00:00-02:30"},
		}},
		// Midnight was skipped on 4 November 2018. On 18 February the clocks went back
		// from midnight, which then came once, an hour late.
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
		// The island moves its clocks by half an hour: from 02:00 back to 01:30, from
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
		// Hours begin at the half of UTC's.
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
		// Back from 01:00 to midnight, which comes twice; in 2020 on the first of a
		// month. Forward at midnight, which is skipped.
		{"America/Havana", []moment{
			{quota.Day, "2020-11-01T00:30:00-04:00", "2020-11-01", "2020-11-01T00:00:00-04:00", "2020-11-02T00:00:00-05:00"},
			{quota.Day, "2020-11-01T00:30:00-05:00", "2020-11-01", "2020-11-01T00:00:00-04:00", "2020-11-02T00:00:00-05:00"},
			{quota.Hour, "2020-11-01T00:30:00-04:00", "2020-11-01T00-0400", "2020-11-01T00:00:00-04:00", "2020-11-01T00:00:00-05:00"},
			{quota.Hour, "2020-11-01T00:30:00-05:00", "2020-11-01T00-0500", "2020-11-01T00:00:00-05:00", "2020-11-01T01:00:00-05:00"},
			{quota.Month, "2020-11-01T00:30:00-05:00", "2020-11", "2020-11-01T00:00:00-04:00", "2020-12-01T00:00:00-05:00"},
			{quota.Day, "2020-03-08T12:00:00-04:00", "2020-03-08", "2020-03-08T01:00:00-04:00", "2020-03-09T00:00:00-04:00"},
		}},
		// Back by three hours, from 02:00 to 23:00 of the day before.
		{"Antarctica/Casey", []moment{
			{quota.Day, "2010-03-04T23:30:00+08:00", "2010-03-05", "2010-03-05T00:00:00+11:00", "2010-03-06T00:00:00+08:00"},
			{quota.Hour, "2010-03-04T23:30:00+08:00", "2010-03-04T23+0800", "2010-03-04T23:00:00+08:00", "2010-03-05T00:00:00+08:00"},
			{quota.Hour, "2010-03-04T23:30:00+11:00", "2010-03-04T23+1100", "2010-03-04T23:00:00+11:00", "2010-03-05T00:00:00+11:00"},
		}},
	} {
		t.Run(place.zone, func(t *testing.T) { testMoments(t, zone(t, place.zone), place.moments) })
	}
}

// Where a zone follows a rule, Time.ZoneBounds is wrong on the last day of leap
// years and at every turn of the year in UTC. Nothing moves the clock there.
func TestWindowAtTheTurnOfAYear(t *testing.T) {
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

// No zone has set its clocks back across the start of a week or a year yet. These
// do, from 00:01 on a Monday and on 1 January to 23:01 of the day before: the new
// week and the new year have begun all the same.
func TestWindowThatIsShownTheOldDateAgain(t *testing.T) {
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

// Clocks that go from 23:30 to 00:30 skip midnight in the middle of the hour: the
// day begins half past. East and west of Greenwich time.Date answers differently.
func TestWindowWhoseMidnightIsInTheGap(t *testing.T) {
	testMoments(t, ruleZone(t, "east", "AAA-2BBB,M3.5.0/23:30,M10.5.0/3"), []moment{
		{quota.Day, "2026-03-29T12:00:00+02:00", "2026-03-29", "2026-03-29T00:00:00+02:00", "2026-03-30T00:30:00+03:00"},
		{quota.Day, "2026-03-30T12:00:00+03:00", "2026-03-30", "2026-03-30T00:30:00+03:00", "2026-03-31T00:00:00+03:00"},
	})
	testMoments(t, ruleZone(t, "west", "AAA3BBB,M3.5.0/23:30,M10.5.0/3"), []moment{
		{quota.Day, "2026-03-29T12:00:00-03:00", "2026-03-29", "2026-03-29T00:00:00-03:00", "2026-03-30T00:30:00-02:00"},
		{quota.Week, "2026-03-30T12:00:00-02:00", "2026-W14", "2026-03-30T00:30:00-02:00", "2026-04-06T00:00:00-02:00"},
	})
}

func TestWindowSeconds(t *testing.T) {
	const hour, day = 3600, 86400
	for _, tt := range []struct {
		zone string
		per  quota.Period
		at   string
		want int64
	}{
		{"UTC", quota.Minute, "2026-11-24T12:00:00Z", 60},
		{"UTC", quota.Hour, "2026-11-24T12:00:00Z", hour},
		{"UTC", quota.Day, "2026-11-24T12:00:00Z", day},
		{"UTC", quota.Week, "2026-11-24T12:00:00Z", 7 * day},
		{"UTC", quota.Month, "2026-11-24T12:00:00Z", 30 * day},
		{"UTC", quota.Month, "2026-02-24T12:00:00Z", 28 * day},
		{"UTC", quota.Month, "2028-02-24T12:00:00Z", 29 * day},
		{"UTC", quota.Year, "2026-11-24T12:00:00Z", 365 * day},
		{"UTC", quota.Year, "2028-11-24T12:00:00Z", 366 * day},
		{"Europe/Berlin", quota.Day, "2026-03-29T12:00:00Z", 23 * hour},
		{"Europe/Berlin", quota.Day, "2026-10-25T12:00:00Z", 25 * hour},
		{"Europe/Berlin", quota.Month, "2026-10-25T12:00:00Z", 31*day + hour},
		{"Europe/Berlin", quota.Year, "2026-10-25T12:00:00Z", 365 * day},
		{"Australia/Lord_Howe", quota.Day, "2026-04-05T01:00:00Z", 24*hour + hour/2},
		{"Australia/Lord_Howe", quota.Hour, "2026-04-04T15:00:00Z", hour / 2},
		{"Australia/Lord_Howe", quota.Day, "2026-10-04T01:00:00Z", 24*hour - hour/2},
		{"America/St_Johns", quota.Hour, "2006-10-29T00:00:00-02:30", 60},
		{"America/St_Johns", quota.Hour, "2006-10-28T23:01:00-03:30", hour - 60},
		{"Pacific/Apia", quota.Week, "2011-12-29T12:00:00-10:00", 6 * day},
		{"Pacific/Apia", quota.Month, "2011-12-29T12:00:00-10:00", 30 * day},
	} {
		w := windowAt(tt.per, instant(t, tt.at), zone(t, tt.zone))
		if got := w.Seconds(); got != tt.want {
			t.Errorf("%s: the %v of %s has %d seconds, want %d", tt.zone, tt.per, tt.at, got, tt.want)
		}
	}
}

func TestWindowSecondsLeft(t *testing.T) {
	minute := windowAt(quota.Minute, instant(t, "2026-11-24T13:05:00Z"), nil)
	for _, tt := range []struct {
		at   string
		want int64
	}{
		{"2026-11-24T13:05:00Z", 60},
		{"2026-11-24T13:05:00.000000001Z", 60},
		{"2026-11-24T13:05:29.4Z", 31},
		{"2026-11-24T13:05:30Z", 30},
		{"2026-11-24T13:05:59Z", 1},
		{"2026-11-24T13:05:59.999999999Z", 1},
		{"2026-11-24T13:06:00Z", 0},
		{"2026-11-24T13:06:00.5Z", 0},
		{"2026-11-25T00:00:00Z", 0},
		{"2026-11-24T13:04:59.5Z", 61},
	} {
		if got := minute.SecondsLeft(instant(t, tt.at)); got != tt.want {
			t.Errorf("at %s %d seconds are left of 13:05, want %d", tt.at, got, tt.want)
		}
	}
}

func TestWindowRetain(t *testing.T) {
	const hour, day = time.Hour, 24 * time.Hour
	at := instant(t, "2026-11-24T13:05:00Z")
	for _, tt := range []struct {
		per        quota.Period
		keep, want time.Duration // want: after the window's end
	}{
		{quota.Minute, 400 * day, 2 * hour},
		{quota.Minute, 2 * hour, 2 * hour},
		{quota.Minute, 90 * time.Minute, 90 * time.Minute},
		{quota.Hour, 400 * day, day},
		{quota.Hour, day, day},
		{quota.Hour, 2 * hour, 2 * hour},
		{quota.Day, 400 * day, 400 * day},
		{quota.Week, 400 * day, 400 * day},
		{quota.Month, 400 * day, 400 * day},
		{quota.Year, 400 * day, 400 * day},
		{quota.Day, 2 * hour, 2 * hour},
		{quota.Year, day, day},
	} {
		w := windowAt(tt.per, at, nil)
		if got := w.RetainedUntil(tt.keep); !got.Equal(w.End.Add(tt.want)) {
			t.Errorf("a %v is kept until %v after its end with keep %v, want %v", tt.per, got.Sub(w.End), tt.keep, tt.want)
		}
	}
	// A request admitted at a window's last instant holds its unit there, and counts
	// there, until its lease ends: the longest timeout of an upstream plus 10 s. A
	// configuration cannot keep counts for less than a day.
	const lease = hour + 10*time.Second
	for _, keep := range []time.Duration{day, 31 * day, 400 * day, 3650 * day} {
		for _, per := range kinds {
			w := windowAt(per, at, nil)
			if got := w.RetainedUntil(keep); !got.After(w.End.Add(lease)) {
				t.Errorf("a %v is forgotten %v after its end with keep %v, while leases into it run", per, got.Sub(w.End), keep)
			}
		}
	}
}

// zones are drawn from by the properties: every kind of oddity, and plain ones.
func zones(t testing.TB) []*time.Location {
	var locs []*time.Location
	for _, name := range []string{
		"UTC", "Europe/Berlin", "Europe/London", "Europe/Dublin", "Europe/Istanbul", "America/New_York", "America/St_Johns",
		"America/Sao_Paulo", "America/Havana", "America/Asuncion", "America/Santiago", "America/Scoresbysund", "America/Caracas",
		"Africa/Cairo", "Africa/Casablanca", "Africa/Monrovia", "Asia/Beirut", "Asia/Gaza", "Asia/Tehran", "Asia/Amman",
		"Asia/Kolkata", "Asia/Kathmandu", "Asia/Pyongyang", "Asia/Tokyo", "Australia/Lord_Howe", "Australia/Adelaide",
		"Australia/Sydney", "Antarctica/Casey", "Antarctica/Troll", "Antarctica/Vostok", "Pacific/Apia", "Pacific/Chatham",
		"Pacific/Kiritimati", "Pacific/Kwajalein", "Pacific/Norfolk", "Pacific/Marquesas", "Etc/GMT+12", "Etc/GMT-14",
	} {
		locs = append(locs, zone(t, name))
	}
	for name, rule := range rules {
		locs = append(locs, ruleZone(t, name+" by rule", rule))
	}
	return append(locs, time.FixedZone("odd", -(3*3600+25*60+45)))
}

func drawZone(t *rapid.T, locs []*time.Location) *time.Location {
	byName := map[string]*time.Location{}
	var names []string
	for _, loc := range locs {
		byName[loc.String()] = loc
		names = append(names, loc.String())
	}
	return byName[rapid.SampledFrom(names).Draw(t, "zone")]
}

// drawInstant draws an instant from 1970 to 2100, most of them where it is
// difficult: around a change of the zone and around the turns of years and months.
func drawInstant(t *rapid.T, loc *time.Location, label string) time.Time {
	at := time.Unix(rapid.Int64Range(0, 4133980799).Draw(t, label), 0).In(loc)
	switch rapid.SampledFrom([]string{"anywhere", "change", "change", "year", "month"}).Draw(t, label+": near") {
	case "anywhere":
		return at.Add(time.Duration(rapid.Int64Range(0, 999_999_999).Draw(t, label+": ns")))
	case "change":
		start, end := at.ZoneBounds()
		switch {
		case !end.IsZero():
			at = end
		case !start.IsZero():
			at = start
		}
	case "year":
		at = time.Date(at.Year(), time.December, 32, 0, 0, 0, 0, loc)
	case "month":
		at = time.Date(at.Year(), at.Month()+1, 1, 0, 0, 0, 0, loc)
	}
	offset := rapid.OneOf(
		rapid.Int64Range(-int64(50*time.Hour), int64(50*time.Hour)),
		rapid.Int64Range(-int64(2*time.Hour), int64(2*time.Hour)),
		rapid.SampledFrom([]int64{0, -1, 1, int64(time.Second), -int64(time.Second), int64(time.Minute), -int64(time.Minute),
			int64(30 * time.Minute), -int64(30 * time.Minute), int64(time.Hour), -int64(time.Hour), -int64(12 * time.Hour), -int64(24 * time.Hour)}),
	).Draw(t, label+": off by")
	return at.Add(time.Duration(offset))
}

// paper is the date that has begun at t, at noon UTC. Dates never go back: where a
// clock that is set back shows yesterday again, today has begun all the same. No
// clock was ever set back by more than three hours since 1970; a date that shows
// for a minute only is not missed by steps of half a minute.
func paper(t time.Time) time.Time {
	var latest time.Time
	for back := time.Duration(0); back <= 4*time.Hour; back += 30 * time.Second {
		year, month, day := t.Add(-back).Date()
		if date := time.Date(year, month, day, 12, 0, 0, 0, time.UTC); date.After(latest) {
			latest = date
		}
	}
	return latest
}

// wantID is what the documentation of Window.ID says.
func wantID(per quota.Period, t time.Time) string {
	switch per {
	case quota.Minute:
		return t.Format("2006-01-02T15:04-0700")
	case quota.Hour:
		return t.Format("2006-01-02T15-0700")
	case quota.Day:
		return paper(t).Format("2006-01-02")
	case quota.Week:
		year, week := paper(t).ISOWeek()
		return fmt.Sprintf("%d-W%02d", year, week)
	case quota.Month:
		return paper(t).Format("2006-01")
	default:
		return paper(t).Format("2006")
	}
}

// Windows of a kind tile time, and each has its name to itself.
func TestWindowProperties(t *testing.T) {
	locs := zones(t)
	warm := map[*time.Location]*quota.Calendar{} // these remember the windows of earlier draws
	for _, loc := range locs {
		warm[loc] = quota.NewCalendar(loc)
	}
	rapid.Check(t, func(t *rapid.T) {
		loc := drawZone(t, locs)
		at := drawInstant(t, loc, "at")
		other := drawInstant(t, loc, "other")
		for _, per := range kinds {
			w := windowAt(per, at, loc)
			if w.Period != per || !w.Start.Before(w.End) || !w.Contains(at) || w.Contains(w.End) || w.Contains(w.Start.Add(-1)) {
				t.Fatalf("the %v of %v is %+v", per, at, w)
			}
			if want := wantID(per, at); w.ID != want {
				t.Fatalf("the %v of %v is named %s, want %s", per, at, w.ID, want)
			}
			if remembered := warm[loc].WindowAt(per, at); !sameWindow(remembered, w) {
				t.Fatalf("a calendar in use says %+v, a new one %+v", remembered, w)
			}

			within := w.Start.Add(time.Duration(rapid.Int64Range(0, int64(w.End.Sub(w.Start))-1).Draw(t, "within")))
			for _, u := range []time.Time{w.Start, within, w.End.Add(-1)} {
				if got := windowAt(per, u, loc); !sameWindow(got, w) {
					t.Fatalf("%v is in %+v, %v in %+v", at, w, u, got)
				}
			}
			next, before := windowAt(per, w.End, loc), windowAt(per, w.Start.Add(-1), loc)
			if !next.Start.Equal(w.End) || next.ID == w.ID {
				t.Fatalf("%+v is followed by %+v", w, next)
			}
			if !before.End.Equal(w.Start) || before.ID == w.ID {
				t.Fatalf("%+v follows %+v", w, before)
			}
			for _, kind := range kinds {
				if v := windowAt(kind, other, loc); (v.ID == w.ID) != sameWindow(v, w) {
					t.Fatalf("two windows and one name, or two names: %+v and %+v", v, w)
				}
			}

			if got := time.Duration(w.Seconds()) * time.Second; got != w.End.Sub(w.Start) {
				t.Fatalf("%+v has %v", w, got)
			}
			left := w.SecondsLeft(at)
			if waited := at.Add(time.Duration(left) * time.Second); !next.Contains(waited) {
				t.Fatalf("%d seconds after %v it is %v, not in %+v", left, at, waited, next)
			}
			if early := at.Add(time.Duration(left-1) * time.Second); !early.Before(w.End) {
				t.Fatalf("%d seconds after %v are enough to leave %+v, got %d", left-1, at, w, left)
			}
			if left := w.SecondsLeft(w.End.Add(within.Sub(w.Start))); left != 0 {
				t.Fatalf("after its end %d seconds are left of %+v", left, w)
			}
		}
	})
}

// The day of a date is what a paper calendar calls so: from the first instant at
// which a clock shows that date.
func TestDayIsThePaperDate(t *testing.T) {
	locs := zones(t)
	rapid.Check(t, func(t *rapid.T) {
		loc := drawZone(t, locs)
		year, month, day := drawInstant(t, loc, "date").Date()
		name := time.Date(year, month, day, 12, 0, 0, 0, time.UTC).Format(time.DateOnly)
		noon := time.Date(year, month, day, 12, 0, 0, 0, loc)
		if noon.Format(time.DateOnly) != name {
			return // the place left this day out
		}
		w := windowAt(quota.Day, noon, loc)
		if w.ID != name {
			t.Fatalf("noon of %s is in the day %s", name, w.ID)
		}
		if first, last := w.Start.Format(time.DateOnly), w.Start.Add(-1).Format(time.DateOnly); first != name || last >= name {
			t.Fatalf("at the start of %s clocks go from %s to %s", name, last, first)
		}
		if after := w.End.Format(time.DateOnly); after <= name {
			t.Fatalf("at the end of %s clocks show %s", name, after)
		}
	})
}

// Moving a gateway to another zone keeps its month: where the clock reads alike,
// days and longer windows are named alike.
func TestLongWindowsAreNamedWithoutOffset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		reading := drawInstant(t, time.UTC, "reading")
		offset := rapid.IntRange(-12*60, 14*60).Draw(t, "minutes east")
		loc := time.FixedZone("elsewhere", offset*60)
		there := reading.Add(-time.Duration(offset) * time.Minute)
		for _, per := range kinds {
			a, b := windowAt(per, reading, nil), windowAt(per, there, loc)
			if same := a.ID == b.ID; same != (per >= quota.Day || offset == 0) {
				t.Fatalf("the %v of %v is %s in UTC and %s %d minutes east", per, reading, a.ID, b.ID, offset)
			}
		}
	})
}

// Clocks that are set back show an hour twice; it is two hours, of two names.
func TestRepeatedHour(t *testing.T) {
	for _, tt := range []struct{ zone, first, second string }{
		{"Europe/Berlin", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"},
		{"America/Havana", "2020-11-01T00:30:00-04:00", "2020-11-01T00:30:00-05:00"},
		{"America/St_Johns", "2006-10-28T23:30:00-02:30", "2006-10-28T23:30:00-03:30"},
		{"Australia/Lord_Howe", "2026-04-05T01:45:00+11:00", "2026-04-05T01:45:00+10:30"},
	} {
		loc := zone(t, tt.zone)
		for _, per := range []quota.Period{quota.Minute, quota.Hour} {
			first, second := windowAt(per, instant(t, tt.first), loc), windowAt(per, instant(t, tt.second), loc)
			if first.ID == second.ID || first.End.After(second.Start) {
				t.Errorf("%s: %+v and %+v", tt.zone, first, second)
			}
		}
	}
}

func TestCalendar(t *testing.T) {
	if got := quota.NewCalendar(nil).Location(); got != time.UTC {
		t.Errorf("without a zone: %v", got)
	}
	berlin := zone(t, "Europe/Berlin")
	c := quota.NewCalendar(berlin)
	if c.Location() != berlin {
		t.Errorf("Location = %v", c.Location())
	}
	// It goes by the instant, whatever zone that is written in, and answers in its own.
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
		t.Fatalf("%d windows of %d kinds", len(windows), len(order))
	}
	for i, w := range windows {
		if !sameWindow(w, windowAt(order[i], at, berlin)) {
			t.Errorf("kind %v: %+v", order[i], w)
		}
	}
	if got := c.WindowsAt(nil, at); len(got) != 0 {
		t.Errorf("windows of no kind: %v", got)
	}

	for _, per := range []quota.Period{0, quota.Year + 1} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("a window of the kind %v", per)
				}
			}()
			c.WindowAt(per, at)
		}()
	}
}

// Many requests ask one calendar at once, and at a turn for different windows.
func TestCalendarIsSafeForConcurrentUse(t *testing.T) {
	loc := zone(t, "Europe/Berlin")
	shared := quota.NewCalendar(loc)
	turn := instant(t, "2026-10-25T02:59:59+02:00")
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 300 {
				at := turn.Add(time.Duration((i*7+g*13)%120-60) * 97 * time.Second)
				for _, per := range kinds {
					if got, want := shared.WindowAt(per, at), windowAt(per, at, loc); !sameWindow(got, want) {
						t.Errorf("the %v of %v is %+v, want %+v", per, at, got, want)
						return
					}
				}
			}
		})
	}
	wg.Wait()
}

func TestPerText(t *testing.T) {
	names := map[quota.Period]string{
		quota.Minute: "minute", quota.Hour: "hour", quota.Day: "day",
		quota.Week: "week", quota.Month: "month", quota.Year: "year",
	}
	for i, per := range kinds {
		if i > 0 && kinds[i-1] >= per {
			t.Errorf("%v is not shorter than %v", kinds[i-1], per)
		}
		if per.String() != names[per] {
			t.Errorf("%v is written %s", per, per)
		}
		text, err := json.Marshal(per)
		if err != nil || string(text) != `"`+names[per]+`"` {
			t.Errorf("%v is marshalled as %s, %v", per, text, err)
		}
		var back quota.Period
		if err := json.Unmarshal(text, &back); err != nil || back != per {
			t.Errorf("%s is read as %v, %v", text, back, err)
		}
	}
	for _, text := range []string{"", "second", "Month", "MONTH", "months", " month", "month ", "month\x00", "5", "Per(5)", "quarter"} {
		per := quota.Week
		err := per.UnmarshalText([]byte(text))
		if err == nil {
			t.Errorf("%q is read as %v", text, per)
			continue
		}
		if per != quota.Week {
			t.Errorf("%q is refused and leaves %v behind", text, per)
		}
		if want := fmt.Sprintf("got %q", text); !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "month") {
			t.Errorf("%q: %v, want %s and what is allowed", text, err, want)
		}
	}
	for _, per := range []quota.Period{0, quota.Year + 1, 255} {
		if text, err := per.MarshalText(); err == nil {
			t.Errorf("Per(%d) is marshalled as %q", uint8(per), text)
		}
		if got, want := per.String(), fmt.Sprintf("Period(%d)", uint8(per)); got != want {
			t.Errorf("String = %q, want %q", got, want)
		}
	}
}
