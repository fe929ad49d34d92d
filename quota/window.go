package quota

import (
	"fmt"
	"sort"
	"sync/atomic"
	"time"
)

// Period is a kind of calendar window. The zero value is no kind at all.
type Period uint8

// The kinds of windows, from the shortest to the longest.
const (
	Minute Period = iota + 1
	Hour
	Day
	Week // from Monday, as ISO 8601 has it
	Month
	Year
)

var periodNames = [...]string{Minute: "minute", Hour: "hour", Day: "day", Week: "week", Month: "month", Year: "year"}

// String returns the name that the configuration uses, "month" say.
func (p Period) String() string {
	if p < Minute || p > Year {
		return fmt.Sprintf("Period(%d)", uint8(p))
	}
	return periodNames[p]
}

// MarshalText writes the name of p.
func (p Period) MarshalText() ([]byte, error) {
	if p < Minute || p > Year {
		return nil, fmt.Errorf("%v is not a kind of window", p)
	}
	return []byte(periodNames[p]), nil
}

// UnmarshalText accepts the six names and nothing else.
func (p *Period) UnmarshalText(text []byte) error {
	for per := Minute; per <= Year; per++ {
		if periodNames[per] == string(text) {
			*p = per
			return nil
		}
	}
	return fmt.Errorf("must be minute, hour, day, week, month or year, got %q", text)
}

// A Window is one minute, hour, day, week, month or year of a calendar: the
// instants from Start up to, not including, End.
type Window struct {
	Period Period
	// ID names the window among all windows of all kinds: "2026" (a year),
	// "2026-11", "2026-W48", "2026-11-24", "2026-11-24T13+0100" (an hour),
	// "2026-11-24T13:05+0100" (a minute). Stores count under it. Days and longer
	// windows do not carry the offset, so that moving a gateway to another time
	// zone keeps the month's counts; hours and minutes do, because the hour in
	// which clocks are set back happens twice.
	ID         string
	Start, End time.Time
}

// Contains reports whether t lies in the window.
func (w Window) Contains(t time.Time) bool { return !t.Before(w.Start) && t.Before(w.End) }

// Seconds is the length of the window. A day of a daylight-saving change has
// 82,800 or 90,000.
func (w Window) Seconds() int64 { return int64(w.End.Sub(w.Start) / time.Second) }

// SecondsLeft is the time from t to the window's end in whole seconds, rounded
// up so that who waits this long is in the next window. Never negative.
func (w Window) SecondsLeft(t time.Time) int64 {
	return max(0, int64((w.End.Sub(t)+time.Second-1)/time.Second))
}

// RetainedUntil is the time until which a store keeps the window's counts. Days and
// longer windows stay readable for keep after their end. Hours stay for a day at
// the most and minutes for two hours, which is longer than any lease into them:
// they serve only limits, and a busy user would leave half a million a year.
func (w Window) RetainedUntil(keep time.Duration) time.Time {
	switch w.Period {
	case Minute:
		keep = min(keep, 2*time.Hour)
	case Hour:
		keep = min(keep, 24*time.Hour)
	}
	return w.End.Add(keep)
}

// A Calendar cuts time into windows in one time zone. For each kind, every
// instant is in exactly one window. Safe for concurrent use.
type Calendar struct {
	loc *time.Location
	// The windows last asked for: almost every request falls into them.
	recent [Year + 1]atomic.Pointer[Window]
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

// WindowAt returns the window of kind per that t lies in.
func (c *Calendar) WindowAt(per Period, t time.Time) Window {
	if w := c.recent[per].Load(); w != nil && w.Contains(t) {
		return *w
	}
	w := computeWindow(per, t.In(c.loc))
	c.recent[per].Store(&w)
	return w
}

func computeWindow(per Period, t time.Time) Window {
	switch per {
	case Minute:
		return clockWindow(per, t, time.Minute, "2006-01-02T15:04-0700")
	case Hour:
		return clockWindow(per, t, time.Hour, "2006-01-02T15-0700")
	}
	year, month, day := t.Date()
	// starts returns the start of the window that is n windows after t's own.
	var starts func(n int) time.Time
	loc := t.Location()
	switch per {
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
		panic(fmt.Sprintf("quota: %v is not a kind of window", per))
	}
	n := 0
	// Clocks set back across midnight show the old date again on the new day
	// (St. John's, until 2011). The day has begun, so t is in the later window.
	if !t.Before(starts(1)) {
		n = 1
	}
	w := Window{Period: per, Start: starts(n), End: starts(n + 1)}
	// A window's name is the date that its first day has on paper, which is not
	// what the clock shows at Start where that day's midnight was skipped.
	name := time.Date(year, month, day, 12, 0, 0, 0, time.UTC)
	switch per {
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

// clockWindow cuts by the local clock. A change of the zone's offset by a part
// of the length (Lord Howe Island moves by 30 minutes) ends one window early and
// starts the next one late, so that no two overlap.
func clockWindow(per Period, t time.Time, length time.Duration, layout string) Window {
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
	return Window{Period: per, ID: id, Start: start, End: end}
}

func offsetAt(t time.Time) int {
	_, offset := t.Zone()
	return offset
}

// offsetChange is the instant after from, up to to, at which the zone's offset is
// no longer that of from; it changes once between them. Time.ZoneBounds does not
// serve here: it also names instants at which no clock is moved, as the turn of
// the year in UTC, and on the last day of a leap year the end that it answers has
// passed already (golang/go#70633, #81583).
func offsetChange(from, to time.Time) time.Time {
	from = time.Unix(from.Unix(), 0).In(from.Location())
	seconds := sort.Search(int(to.Unix()-from.Unix()), func(n int) bool {
		return offsetAt(from.Add(time.Duration(n)*time.Second)) != offsetAt(from)
	})
	return from.Add(time.Duration(seconds) * time.Second)
}

// startOfDay is the first instant of a local date; month and day may be out of
// range, as in time.Date. Where clocks are set forward across midnight that is
// the moment of the change, and of a day that a zone left out altogether (Samoa
// went from 29 to 31 December 2011) too; where midnight happens twice, the first
// of them.
func startOfDay(year int, month time.Month, day int, loc *time.Location) time.Time {
	t := time.Date(year, month, day, 0, 0, 0, 0, loc)
	changed, changes := t.ZoneBounds()
	// Where that midnight, or the whole day, was skipped, time.Date answers in the
	// offset before or after the change, it does not say which. The clock tells.
	switch midnight := time.Date(year, month, day, 0, 0, 0, 0, time.UTC); reading(t).Compare(midnight) {
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

// reading is what the clock shows at t, as if it were UTC.
func reading(t time.Time) time.Time { return t.Add(time.Duration(offsetAt(t)) * time.Second).UTC() }

// WindowsAt returns the windows of several kinds that t lies in, in the order of
// kinds.
func (c *Calendar) WindowsAt(kinds []Period, t time.Time) []Window {
	windows := make([]Window, len(kinds))
	for i, per := range kinds {
		windows[i] = c.WindowAt(per, t)
	}
	return windows
}
