package quota_test

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"

	"metergate/quota"
)

// dateBegun is the date that has begun at t, as noon UTC of that date. Dates never go back:
// when a clock that is set back shows yesterday again, today has begun nevertheless. Since
// 1970 no clock was set back by more than three hours. Steps of half a minute do not miss a
// date that is shown for only one minute.
func dateBegun(t time.Time) time.Time {
	var latest time.Time
	for back := time.Duration(0); back <= 4*time.Hour; back += 30 * time.Second {
		year, month, day := t.Add(-back).Date()
		if date := time.Date(year, month, day, 12, 0, 0, 0, time.UTC); date.After(latest) {
			latest = date
		}
	}
	return latest
}

// wantID is the ID that the documentation of Window.ID promises.
func wantID(period quota.Period, t time.Time) string {
	switch period {
	case quota.Minute:
		return t.Format("2006-01-02T15:04-0700")
	case quota.Hour:
		return t.Format("2006-01-02T15-0700")
	case quota.Day:
		return dateBegun(t).Format("2006-01-02")
	case quota.Week:
		year, week := dateBegun(t).ISOWeek()
		return fmt.Sprintf("%d-W%02d", year, week)
	case quota.Month:
		return dateBegun(t).Format("2006-01")
	default:
		return dateBegun(t).Format("2006")
	}
}

// The windows of a period cover time without gaps or overlaps, and each has an ID of its own.
func TestWindowsTileTime(t *testing.T) {
	locs := zones(t)
	warm := map[*time.Location]*quota.Calendar{} // these have the windows of earlier draws
	for _, loc := range locs {
		warm[loc] = quota.NewCalendar(loc)
	}
	rapid.Check(t, func(t *rapid.T) {
		loc := drawZone(t, locs)
		at := drawInstant(t, loc, "at")
		other := drawInstant(t, loc, "other")
		for _, period := range periods {
			w := windowAt(period, at, loc)
			if w.Period != period || !w.Start.Before(w.End) || !w.Contains(at) || w.Contains(w.End) || w.Contains(w.Start.Add(-1)) {
				t.Fatalf("the %v of %v is %+v", period, at, w)
			}
			if want := wantID(period, at); w.ID != want {
				t.Fatalf("the %v of %v has the ID %s, want %s", period, at, w.ID, want)
			}
			if remembered := warm[loc].WindowAt(period, at); !sameWindow(remembered, w) {
				t.Fatalf("a calendar in use returns %+v, a new one %+v", remembered, w)
			}

			within := w.Start.Add(time.Duration(rapid.Int64Range(0, int64(w.End.Sub(w.Start))-1).Draw(t, "within")))
			for _, u := range []time.Time{w.Start, within, w.End.Add(-1)} {
				if got := windowAt(period, u, loc); !sameWindow(got, w) {
					t.Fatalf("%v is in %+v, %v in %+v", at, w, u, got)
				}
			}
			next, before := windowAt(period, w.End, loc), windowAt(period, w.Start.Add(-1), loc)
			if !next.Start.Equal(w.End) || next.ID == w.ID {
				t.Fatalf("%+v is followed by %+v", w, next)
			}
			if !before.End.Equal(w.Start) || before.ID == w.ID {
				t.Fatalf("%+v follows %+v", w, before)
			}
			for _, kind := range periods {
				if v := windowAt(kind, other, loc); (v.ID == w.ID) != sameWindow(v, w) {
					t.Fatalf("two windows with one ID, or one with two: %+v and %+v", v, w)
				}
			}

			if got := time.Duration(w.Seconds()) * time.Second; got != w.End.Sub(w.Start) {
				t.Fatalf("Seconds of %+v is %v", w, got)
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

// A day begins at the first instant at which a clock shows its date.
func TestDayBeginsWithItsDate(t *testing.T) {
	locs := zones(t)
	rapid.Check(t, func(t *rapid.T) {
		loc := drawZone(t, locs)
		year, month, day := drawInstant(t, loc, "date").Date()
		name := time.Date(year, month, day, 12, 0, 0, 0, time.UTC).Format(time.DateOnly)
		noon := time.Date(year, month, day, 12, 0, 0, 0, loc)
		if noon.Format(time.DateOnly) != name {
			return // the zone skipped this day
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

// A gateway that is moved to another zone keeps its month: at the same local time, days and
// longer windows have the same ID.
func TestLongWindowIDsHaveNoOffset(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		reading := drawInstant(t, time.UTC, "reading")
		offset := rapid.IntRange(-12*60, 14*60).Draw(t, "minutes east")
		loc := time.FixedZone("elsewhere", offset*60)
		there := reading.Add(-time.Duration(offset) * time.Minute)
		for _, period := range periods {
			a, b := windowAt(period, reading, nil), windowAt(period, there, loc)
			if same := a.ID == b.ID; same != (period >= quota.Day || offset == 0) {
				t.Fatalf("the %v of %v is %s in UTC and %s %d minutes east", period, reading, a.ID, b.ID, offset)
			}
		}
	})
}
