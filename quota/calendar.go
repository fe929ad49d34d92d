package quota

import (
	"fmt"
	"sort"
	"sync/atomic"
	"time"
)

// A Calendar divides time into windows in one time zone. For each period, every instant is
// in exactly one window. A Calendar is safe for concurrent use.
type Calendar struct {
	loc *time.Location
	// recent has the last window returned for each period: almost every request is in it.
	recent [Ever + 1]atomic.Pointer[Window]
}

// NewCalendar returns the calendar of a time zone; nil means UTC.
func NewCalendar(loc *time.Location) *Calendar {
	if loc == nil {
		loc = time.UTC
	}
	return &Calendar{loc: loc}
}

// Location is the calendar's time zone.
func (c *Calendar) Location() *time.Location { return c.loc }

// WindowAt returns the window of a period that contains t. It panics if period is not one.
func (c *Calendar) WindowAt(period Period, t time.Time) Window {
	if w := c.recent[period].Load(); w != nil && w.Contains(t) {
		return *w
	}
	w := computeWindow(period, t.In(c.loc))
	c.recent[period].Store(&w)
	return w
}

// WindowsAt returns the windows that contain t, one for each of periods, in their order.
func (c *Calendar) WindowsAt(periods []Period, t time.Time) []Window {
	windows := make([]Window, len(periods))
	for i, period := range periods {
		windows[i] = c.WindowAt(period, t)
	}
	return windows
}

// computeWindow returns the window of a period that contains t, in t's time zone.
func computeWindow(period Period, t time.Time) Window {
	switch period {
	case Ever:
		return everWindow
	case Minute:
		return clockWindow(period, t, time.Minute, "2006-01-02T15:04-0700")
	case Hour:
		return clockWindow(period, t, time.Hour, "2006-01-02T15-0700")
	}
	year, month, day := t.Date()
	// starts returns the start of the window that is n windows after t's own.
	var starts func(n int) time.Time
	loc := t.Location()
	switch period {
	case Day:
		starts = func(n int) time.Time { return startOfDay(year, month, day+n, loc) }
	case Week:
		monday := day - (int(t.Weekday())+6)%7
		starts = func(n int) time.Time { return startOfDay(year, month, monday+7*n, loc) }
	case Month:
		starts = func(n int) time.Time { return startOfDay(year, month+time.Month(n), 1, loc) }
	case Year:
		starts = func(n int) time.Time { return startOfDay(year+n, time.January, 1, loc) }
	default:
		panic(fmt.Sprintf("quota: %v is not a period", period))
	}
	n := 0
	// Clocks that are set back across midnight show the old date again on the new day
	// (St. John's, until 2011). The new day has begun by then, so t is in the later window.
	if !t.Before(starts(1)) {
		n = 1
	}
	w := Window{Period: period, Start: starts(n), End: starts(n + 1)}
	// The ID is the date of the window's first day in the calendar. Where that day's
	// midnight was skipped, the clock shows another time at Start, so name is at noon.
	name := time.Date(year, month, day, 12, 0, 0, 0, time.UTC)
	switch period {
	case Day:
		w.ID = name.AddDate(0, 0, n).Format("2006-01-02")
	case Week:
		isoYear, isoWeek := name.AddDate(0, 0, 7*n).ISOWeek()
		w.ID = fmt.Sprintf("%04d-W%02d", isoYear, isoWeek)
	case Month:
		w.ID = time.Date(year, month+time.Month(n), 1, 12, 0, 0, 0, time.UTC).Format("2006-01")
	case Year:
		w.ID = fmt.Sprintf("%04d", year+n)
	}
	return w
}

// clockWindow returns a window of an hour or a minute by the local clock. Where the zone's
// offset changes by a part of that length (Lord Howe Island: by 30 minutes), one window
// ends early and the next one starts late, so that no two overlap.
func clockWindow(period Period, t time.Time, length time.Duration, layout string) Window {
	_, offset := t.Zone()
	local := t.Unix() + int64(offset)
	into := local % int64(length/time.Second)
	if into < 0 {
		into += int64(length / time.Second)
	}
	start := time.Unix(t.Unix()-into, 0).In(t.Location())
	end := start.Add(length)
	// The name comes before the cut: it is that of the whole hour.
	id := start.In(time.FixedZone("", offset)).Format(layout)
	if offsetAt(start) != offset {
		start = offsetChange(start, t)
	}
	if last := end.Add(-time.Second); offsetAt(last) != offset {
		end = offsetChange(t, last)
	}
	return Window{Period: period, ID: id, Start: start, End: end}
}

// offsetAt is the offset from UTC at t, in seconds.
func offsetAt(t time.Time) int {
	_, offset := t.Zone()
	return offset
}

// offsetChange is the first instant after from at which the zone's offset is no longer that
// of from. The offset must change exactly once between from and to. Time.ZoneBounds does
// not serve here: it also reports instants at which no clock changes, such as the turn of
// the year in UTC, and on the last day of a leap year the end it returns is already past
// (golang/go#70633, #81583).
func offsetChange(from, to time.Time) time.Time {
	from = time.Unix(from.Unix(), 0).In(from.Location())
	seconds := sort.Search(int(to.Unix()-from.Unix()), func(n int) bool {
		return offsetAt(from.Add(time.Duration(n)*time.Second)) != offsetAt(from)
	})
	return from.Add(time.Duration(seconds) * time.Second)
}

// startOfDay is the first instant of a local date; month and day may be out of range, as in
// time.Date. Where clocks are set forward across midnight it is the moment of the change.
// The same goes for a day that a zone left out (Samoa went from 29 to 31 December 2011).
// Where midnight happens twice, it is the first one.
func startOfDay(year int, month time.Month, day int, loc *time.Location) time.Time {
	t := time.Date(year, month, day, 0, 0, 0, 0, loc)
	changed, changes := t.ZoneBounds()
	// Where that midnight, or the whole day, was skipped, time.Date uses the offset before
	// or after the change and does not document which. The reading of the clock tells.
	switch midnight := time.Date(year, month, day, 0, 0, 0, 0, time.UTC); clockReading(t).Compare(midnight) {
	case -1:
		return changes
	case 1:
		return changed
	}
	if !changed.IsZero() {
		_, after := t.Zone()
		_, before := changed.Add(-time.Second).Zone()
		if first := t.Add(time.Duration(after-before) * time.Second); before > after && first.Before(changed) {
			return first
		}
	}
	return t
}

// clockReading is what the local clock shows at t, as a time in UTC.
func clockReading(t time.Time) time.Time {
	return t.Add(time.Duration(offsetAt(t)) * time.Second).UTC()
}
