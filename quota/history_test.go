package quota_test

import (
	"encoding/json"
	"testing"
	"time"

	"metergate/quota"
)

func TestDateAtIsThatOfTheDaysWindow(t *testing.T) {
	for _, tt := range []struct{ zone, at, want string }{
		{"UTC", "1970-01-02T00:00:00Z", "1970-01-02"},
		{"UTC", "2026-11-29T23:59:59Z", "2026-11-29"},
		{"Asia/Tokyo", "2026-11-29T15:00:00Z", "2026-11-30"},
		{"Pacific/Apia", "2011-12-30T09:59:59Z", "2011-12-29"},
		{"Pacific/Apia", "2011-12-30T10:00:00Z", "2011-12-31"}, // there was no 30 December
		{"America/St_Johns", "2006-10-29T02:31:30Z", "2006-10-29"},
	} {
		loc, err := time.LoadLocation(tt.zone)
		if err != nil {
			t.Fatal(err)
		}
		cal := quota.NewCalendar(loc)
		date := cal.DateAt(instant(t, tt.at))
		if got := date.String(); got != tt.want || got != cal.WindowAt(quota.Day, instant(t, tt.at)).ID {
			t.Errorf("%s in %s is on %s, want %s", tt.at, tt.zone, got, tt.want)
		}
	}
}

func TestNewHistoryHasEveryDay(t *testing.T) {
	cal, at := quota.NewCalendar(nil), instant(t, "2026-03-01T12:00:00Z")
	today := cal.DateAt(at)
	h := quota.NewHistory(cal, at, 3, map[quota.Date]map[string]quota.Used{
		today:     {"analyze": {Requests: 2, Units: 10}, "report": {}},
		today - 2: {"report": {Requests: 1, Units: 1}},
		today - 3: {"report": {Requests: 7, Units: 7}},
		today + 1: {"report": {Requests: 7, Units: 7}},
	})
	var got []string
	for _, d := range h.Days {
		got = append(got, d.Date.String())
	}
	if want := "2026-02-27 2026-02-28 2026-03-01"; len(got) != 3 || got[0]+" "+got[1]+" "+got[2] != want {
		t.Fatalf("the days are %v, want %s", got, want)
	}
	if total := h.Days[2].Total(); total != (quota.Used{Requests: 2, Units: 10}) || len(h.Days[2].Endpoints) != 1 {
		t.Errorf("today has %v in %v", total, h.Days[2].Endpoints)
	}
	if h.Days[1].Endpoints != nil || h.Days[0].Total().Requests != 1 {
		t.Errorf("the days before have %v and %v", h.Days[1], h.Days[0])
	}
}

func TestExhaustsAt(t *testing.T) {
	at := instant(t, "2026-11-10T12:00:00Z")
	cal := quota.NewCalendar(nil)
	units := quota.Limit{Amount: 100, Period: quota.Month, Quantity: quota.Units}
	shared := limit(month, 100)
	shared.Shared = true
	for _, tt := range []struct {
		name  string
		limit quota.Limit
		used  int64
		day   quota.Used // each of the last seven
		want  string     // empty: not before the reset, or unknown
	}{
		{"ten a day, twenty left", limit(month, 100), 80, quota.Used{Requests: 10, Units: 10}, "2026-11-12T12:00:00Z"},
		{"units at five times that pace", units, 80, quota.Used{Requests: 2, Units: 10}, "2026-11-12T12:00:00Z"},
		{"after the reset", limit(month, 100), 10, quota.Used{Requests: 4, Units: 4}, ""},
		{"four hours after the reset", limit(month, 82), 20, quota.Used{Requests: 3, Units: 3}, ""},
		{"four hours before the reset", limit(month, 81), 20, quota.Used{Requests: 3, Units: 3}, "2026-11-30T20:00:00Z"},
		{"seven requests are too few", limit(month, 10), 9, quota.Used{Requests: 1, Units: 1}, ""},
		{"nothing left", limit(month, 10), 10, quota.Used{}, "2026-11-10T12:00:00Z"},
		{"more used than allowed", limit(month, 10), 12, quota.Used{}, "2026-11-10T12:00:00Z"},
		{"per ever has no reset", limit(quota.Counter{Period: quota.Ever}, 1000), 0, quota.Used{Requests: 10, Units: 10}, "2027-02-18T12:00:00Z"},
		{"shared with others", shared, 80, quota.Used{Requests: 10, Units: 10}, ""},
		{"everything free", units, 0, quota.Used{Requests: 10, Units: 0}, ""},
		{"no headline limit", limit(imageMonth, 10), 9, quota.Used{Requests: 10, Units: 10}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newPlan(t, tt.limit)
			s := snapshot(p, at, tallies{p.Counters()[0]: {used: tt.used}})
			used := map[quota.Date]map[string]quota.Used{cal.DateAt(at) - 7: {"analyze": {Requests: 1000, Units: 1000}}}
			for i := range quota.Date(7) {
				used[cal.DateAt(at)-i] = map[string]quota.Used{"analyze": tt.day}
			}
			got := ""
			if when, ok := quota.NewHistory(cal, at, 30, used).ExhaustsAt(s); ok {
				got = when.Format(time.RFC3339)
			}
			if got != tt.want {
				t.Errorf("ExhaustsAt = %q, want %q", got, tt.want)
			}
		})
	}
}

// Where fewer days are kept, the pace is that of these days.
func TestExhaustsAtOfFewDays(t *testing.T) {
	at, cal := instant(t, "2026-11-10T12:00:00Z"), quota.NewCalendar(nil)
	p := newPlan(t, limit(month, 100))
	s := snapshot(p, at, tallies{p.Counters()[0]: {used: 80}})
	used := map[quota.Date]map[string]quota.Used{}
	for i := range quota.Date(quota.PaceDays) {
		used[cal.DateAt(at)-i] = map[string]quota.Used{"analyze": {Requests: 10, Units: 10}}
	}
	for days := 1; days <= quota.PaceDays; days++ {
		when, ok := quota.NewHistory(cal, at, days, used).ExhaustsAt(s)
		if want := at.AddDate(0, 0, 2); !ok || !when.Equal(want) {
			t.Errorf("with %d days: %v, %v; want %v", days, when, ok, want)
		}
	}
}

// A forecast is null where nobody can tell. What depends on no history needs none.
func TestForecast(t *testing.T) {
	at := instant(t, "2026-11-10T12:00:00.123456Z")
	shared := limit(month, 100)
	shared.Shared = true
	for _, tt := range []struct {
		name  string
		limit quota.Limit
		used  int64
		needs bool
		want  string
	}{
		{"something left, no history", limit(month, 100), 99, true, "null"},
		{"nothing left", limit(month, 100), 100, false, `"2026-11-10T12:00:00.123Z"`},
		{"more used than allowed", limit(month, 100), 101, false, `"2026-11-10T12:00:00.123Z"`},
		{"something left that is shared", shared, 99, false, "null"},
		{"nothing left that is shared", shared, 100, false, `"2026-11-10T12:00:00.123Z"`},
		{"no headline limit", limit(imageMonth, 10), 9, false, "null"},
	} {
		p := newPlan(t, tt.limit)
		s := snapshot(p, at, tallies{p.Counters()[0]: {used: tt.used}})
		text, err := json.Marshal(quota.History{}.Forecast(s))
		if needs := s.ForecastNeedsHistory(); string(text) != tt.want || err != nil || needs != tt.needs {
			t.Errorf("%s: %s, error %v, needs a history: %v; want %s and %v", tt.name, text, err, needs, tt.want, tt.needs)
		}
		var read quota.Forecast
		if err := json.Unmarshal(text, &read); err != nil || read != *(quota.History{}).Forecast(s) {
			t.Errorf("%s: %s is read as %v, error %v", tt.name, text, read, err)
		}
	}
}

func TestParseHistoryDays(t *testing.T) {
	for text, want := range map[string]int{"": 30, "1": 1, "35": 35, "0": 0, "36": 0, "-1": 0, "07": 0, "+7": 0, "7.0": 0, " 7": 0, "x": 0} {
		if days, ok := quota.ParseHistoryDays(text, 35); ok != (want > 0) || ok && days != want {
			t.Errorf("%q of 35: %d, %v, want %d", text, days, ok, want)
		}
	}
	if days, ok := quota.ParseHistoryDays("", 7); days != 7 || !ok {
		t.Errorf("of 7: %d, %v", days, ok)
	}
}
