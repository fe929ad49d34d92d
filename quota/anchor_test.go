package quota

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// slowWindows finds the windows of a period in the obvious way: it looks at one day after the other,
// and begins a window on each day that is a boundary of the anchor that holds. There another anchor
// takes over, if one was set before.
type slowWindows struct {
	period  Period
	loc     *time.Location
	changes []slowChange // in the order of time
}

type slowChange struct {
	at     time.Time
	anchor Anchor
}

func (m slowWindows) isBoundary(a Anchor, date time.Time) bool {
	day := max(1, a.Day)
	if last := date.AddDate(0, 1, -date.Day()).Day(); day > last {
		day = last
	}
	return date.Day() == day && (m.period == Month || date.Month() == max(time.January, a.Month))
}

// starts returns the starts of all windows from that which contains from on, until one begins after
// till, and for each whether it is as long as the anchor's windows are.
func (m slowWindows) starts(first Anchor, from, till time.Time) (starts []time.Time, whole []bool) {
	year, month, day := from.In(m.loc).Date()
	date := time.Date(year, month, day, 12, 0, 0, 0, time.UTC)
	for !m.isBoundary(first, date) || startOfDay(date.Year(), date.Month(), date.Day(), m.loc).After(from) {
		date = date.AddDate(0, 0, -1)
	}
	anchor := first
	for {
		begins := startOfDay(date.Year(), date.Month(), date.Day(), m.loc)
		if m.isBoundary(anchor, date) {
			for _, c := range m.changes {
				if c.at.Before(begins) {
					anchor = c.anchor
				}
			}
			starts, whole = append(starts, begins), append(whole, m.isBoundary(anchor, date))
			if begins.After(till) {
				return starts, whole
			}
		}
		date = date.AddDate(0, 0, 1)
	}
}

func anyAnchor(t *rapid.T) Anchor {
	return NewAnchor(rapid.IntRange(1, 31).Draw(t, "day"), time.Month(rapid.IntRange(0, 12).Draw(t, "month")))
}

// The windows of an account tile time: they are those of the slow model, whatever its anchors were,
// and each ends where the next one begins. A window that is not whole allows its part.
func TestAnchoredWindowsTileTime(t *testing.T) {
	zones := []*time.Location{time.UTC}
	for _, name := range []string{"Europe/Berlin", "Asia/Kolkata", "America/St_Johns", "Australia/Lord_Howe", "America/Sao_Paulo", "Asia/Beirut"} {
		zones = append(zones, location(t, name))
	}
	rapid.Check(t, func(t *rapid.T) {
		loc := rapid.SampledFrom(zones).Draw(t, "zone")
		c := NewCalendar(loc)
		begin := time.Unix(rapid.Int64Range(1_420_000_000, 1_580_000_000).Draw(t, "begin"), 0) // 2014 to 2020
		first := anyAnchor(t)
		terms := Terms{}.withAnchor(first, c, begin, Activity{})
		at := begin
		var changes []slowChange
		for range rapid.IntRange(0, 6).Draw(t, "changes") {
			at = at.Add(time.Duration(rapid.IntRange(1, 24*90).Draw(t, "hours")) * time.Hour)
			a := anyAnchor(t)
			if rapid.Bool().Draw(t, "back") {
				a = first
			}
			terms = terms.withAnchor(a, c, at, Activity{Windows: []string{"2016-02"}})
			changes = append(changes, slowChange{at, a})
			if again, err := ParseTerms(terms.String()); err != nil || again.String() != terms.String() {
				t.Fatalf("%q is read as %q, error %v", terms, again, err)
			}
		}
		for _, period := range []Period{Month, Year} {
			till := at.AddDate(3, 0, 0)
			starts, whole := slowWindows{period, loc, changes}.starts(first, begin, till)
			ids, fullFrom := map[string]bool{}, time.Time{}
			for i := range starts[:len(starts)-1] {
				for _, instant := range []time.Time{starts[i], starts[i+1].Add(-time.Second), starts[i].Add(starts[i+1].Sub(starts[i]) / 2)} {
					w := terms.WindowAt(c, period, instant)
					if !w.Start.Equal(starts[i]) || !w.End.Equal(starts[i+1]) || !w.Contains(instant) {
						t.Fatalf("%v, %q: at %v: %v to %v, want %v to %v", period, terms, instant.In(loc), w.Start, w.End, starts[i], starts[i+1])
					}
					if (w.Nominal == 0) != whole[i] {
						t.Fatalf("%v, %q: the window at %v has the whole length %v", period, terms, starts[i], w.Nominal)
					}
					if i > 0 && instant == starts[i] && ids[w.ID] {
						t.Fatalf("%v, %q: %s is used twice", period, terms, w.ID)
					}
					ids[w.ID] = true
					allowed := Limit{Amount: 1000, Period: period}.AllowedIn(w)
					if whole[i] != (allowed == 1000) || allowed < 0 || allowed > 1000 {
						t.Fatalf("%v, %q: %s allows %d of 1000", period, terms, w.ID, allowed)
					}
				}
				if whole[i] { // no two full quotas within a period's length
					shortest := 28*24*time.Hour - time.Hour
					if period == Year {
						shortest = 365*24*time.Hour - time.Hour
					}
					if !fullFrom.IsZero() && starts[i].Sub(fullFrom) < shortest {
						t.Fatalf("%v, %q: full quotas from %v and from %v", period, terms, fullFrom, starts[i])
					}
					fullFrom = starts[i]
				}
			}
		}
	})
}

// By hand: each line has an anchor and the starts of the months after it.
func TestAnchoredMonths(t *testing.T) {
	for _, c := range []struct {
		anchor Anchor
		period Period
		at     string
		starts []string
		ids    []string
	}{
		{NewAnchor(15, 0), Month, "2026-11-20", []string{"2026-11-15", "2026-12-15", "2027-01-15"}, []string{"month-2026-11-15", "month-2026-12-15"}},
		{NewAnchor(31, 0), Month, "2027-02-15", []string{"2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31"}, []string{"month-2027-01-31"}},
		{NewAnchor(30, 0), Month, "2028-02-10", []string{"2028-01-30", "2028-02-29", "2028-03-30"}, []string{"month-2028-01-30"}},
		{NewAnchor(1, 0), Month, "2026-11-20", []string{"2026-11-01", "2026-12-01"}, []string{"2026-11", "2026-12"}},
		{NewAnchor(1, time.March), Month, "2026-11-20", []string{"2026-11-01", "2026-12-01"}, []string{"2026-11"}},
		{NewAnchor(1, time.March), Year, "2026-02-20", []string{"2025-03-01", "2026-03-01"}, []string{"year-2025-03-01"}},
		{NewAnchor(29, time.February), Year, "2026-02-20", []string{"2025-02-28", "2026-02-28", "2027-02-28", "2028-02-29", "2029-02-28"}, []string{"year-2025-02-28"}},
		{NewAnchor(20, 0), Year, "2026-01-19", []string{"2025-01-20", "2026-01-20", "2027-01-20"}, []string{"year-2025-01-20"}},
	} {
		calendar := NewCalendar(nil)
		terms := Terms{}.withAnchor(c.anchor, calendar, instant(t, c.at), Activity{})
		at := instant(t, c.at)
		var starts, ids []string
		for range c.starts {
			w := terms.WindowAt(calendar, c.period, at)
			starts, ids = append(starts, w.Start.Format(time.DateOnly)), append(ids, w.ID)
			at = w.End
		}
		if !slices.Equal(starts, c.starts) || !slices.Equal(ids[:len(c.ids)], c.ids) {
			t.Errorf("anchor %v: %v, %v; want %v, %v", c.anchor, starts, ids, c.starts, c.ids)
		}
	}
}

// instant is noon, in UTC, of a date.
func instant(t *testing.T, date string) time.Time {
	t.Helper()
	at, err := time.Parse(time.DateOnly, date)
	if err != nil {
		t.Fatal(err)
	}
	return at.Add(12 * time.Hour)
}

func location(t *testing.T, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}
