package quota

import (
	"fmt"
	"math"
	"regexp"
	"slices"
	"strconv"
	"time"
)

// An Anchor is the day on which the months and years of an account begin. The zero value is the
// calendar: months begin on the 1st, years on 1 January. Shorter periods and weeks are always those
// of the calendar.
type Anchor struct {
	// Day is 1 to 31. In a month without this day, the month's last one counts.
	Day int
	// Month is the month in which years begin; 0 stands for January.
	Month time.Month
}

// AnchorMode says where the anchors of a plan's users come from.
type AnchorMode uint8

// The modes.
const (
	CalendarAnchor AnchorMode = iota // the zero value: nobody has one
	ClaimAnchor                      // the user's token has it, see PlanChoice.Anchor
	FirstUseAnchor                   // the day of the user's first counted request
)

// NewAnchor returns the anchor of a day, 1 to 31, of a month; 0 stands for January.
func NewAnchor(day int, month time.Month) Anchor {
	if month == 0 {
		month = time.January
	}
	if day == 1 && month == time.January {
		return Anchor{}
	}
	return Anchor{day, month}
}

// AnchorOn returns the anchor of the day that contains t, in t's time zone.
func AnchorOn(t time.Time) Anchor { return NewAnchor(t.Day(), t.Month()) }

// ParseAnchor reads what an administrator or a token writes: a day of the month, 1 to 31, a date or
// time of RFC 3339, or Unix seconds, from 100,000,000 (March 1973) to the year 9999. Of a time, the
// day in loc counts. Numbers can be in any notation of JSON, since those who encode tokens choose
// it: 15.0 is 15, and 1.7735985e9 is 1773598500.
func ParseAnchor(text string, loc *time.Location) (Anchor, error) {
	if anchorNumber.MatchString(text) {
		n, err := strconv.ParseFloat(text, 64)
		switch {
		case err != nil: // it is too large
		case n >= 1 && n <= 31 && n == math.Trunc(n):
			return NewAnchor(int(n), 0), nil
		case n >= firstSecond && n <= lastSecond:
			return AnchorOn(time.Unix(int64(n), 0).In(loc)), nil
		}
	} else if t, err := time.Parse(time.DateOnly, text); err == nil {
		return AnchorOn(t), nil
	} else if t, err := time.Parse(time.RFC3339, text); err == nil {
		return AnchorOn(t.In(loc)), nil
	}
	return Anchor{}, fmt.Errorf("an anchor is a day of the month, 1 to 31, a date or time such as 2026-11-15, or a time in Unix seconds, got %.40q", text)
}

// anchorNumber is a number of JSON (RFC 8259, section 6) without a sign. ParseFloat also reads others, such
// as 0x1Fp0.
var anchorNumber = regexp.MustCompile(`^\d+(\.\d+)?([eE][+-]?\d+)?$`)

// The bounds of Unix seconds: less may be a day by mistake, or a date such as 20261115, and more is in
// milliseconds.
var firstSecond, lastSecond = 1e8, float64(everWindow.End.Unix())

// dayAlone is the anchor as it matters to months.
func (a Anchor) dayAlone() Anchor { return NewAnchor(max(1, a.Day), 0) }

// String returns "15", or "03-15" if years do not begin in January.
func (a Anchor) String() string {
	if a.Month > time.January {
		return fmt.Sprintf("%02d-%02d", a.Month, max(1, a.Day))
	}
	return strconv.Itoa(max(1, a.Day))
}

// parseAnchorText reads what String returns.
func parseAnchorText(text string) (a Anchor, ok bool) {
	var month, day int
	if len(text) == 5 && text[2] == '-' {
		if _, err := fmt.Sscanf(text, "%02d-%02d", &month, &day); err != nil {
			return a, false
		}
	} else if n, err := strconv.Atoi(text); err == nil {
		day = n
	}
	if day < 1 || day > 31 || month < 0 || month > 12 {
		return a, false
	}
	return NewAnchor(day, time.Month(month)), true
}

// boundsAt returns the start and the end of the regular month or year that contains t, in t's time
// zone.
func (a Anchor) boundsAt(period Period, t time.Time) (start, end time.Time) {
	year, month, _ := t.Date()
	boundary := func(n int) time.Time { return a.startIn(year, month+time.Month(n), t.Location()) }
	if period == Year {
		boundary = func(n int) time.Time { return a.startIn(year+n, max(time.January, a.Month), t.Location()) }
	}
	n := 0
	for t.Before(boundary(n)) {
		n--
	}
	for !t.Before(boundary(n + 1)) {
		n++
	}
	return boundary(n), boundary(n + 1)
}

// startIn is the start of the anchor's day in a month, which may be out of range as in time.Date.
func (a Anchor) startIn(year int, month time.Month, loc *time.Location) time.Time {
	lastDay := time.Date(year, month+1, 0, 12, 0, 0, 0, time.UTC).Day()
	return startOfDay(year, month, min(max(1, a.Day), lastDay), loc)
}

// An anchorSpan is the time from which on an anchor holds, until the next span.
type anchorSpan struct {
	from   time.Time // a boundary of the spans before; zero: always
	anchor Anchor
}

// anchorSpans has the anchors of one period, Month or Year, in the order of time. The first one has
// held always.
type anchorSpans []anchorSpan

// windowAt returns the window of the period that contains t. The first window of a span runs from
// its start to the first boundary of its anchor: it may be shorter than the others.
func (s anchorSpans) windowAt(period Period, t time.Time) Window {
	i := len(s) - 1
	for i > 0 && t.Before(s[i].from) {
		i--
	}
	span := s[i]
	start, end := span.anchor.boundsAt(period, t)
	w := Window{Period: period, Start: start, End: end}
	if start.Before(span.from) {
		w.Start, w.Nominal = span.from.In(t.Location()), end.Sub(start)
	} else if span.anchor.isCalendarFor(period) {
		return computeWindow(period, t)
	}
	w.ID = period.String() + "-" + w.Start.In(t.Location()).Add(skippedMidnight).Format(time.DateOnly)
	return w
}

// skippedMidnight after the start of a day, clocks show its date, even where its first hours were
// skipped or midnight happens twice.
const skippedMidnight = 12 * time.Hour

// isCalendarFor reports whether the anchor's windows of a period are those of the calendar.
func (a Anchor) isCalendarFor(period Period) bool {
	return a.Day <= 1 && (period == Month || a.Month <= time.January)
}

// last is the anchor that holds from some time on.
func (s anchorSpans) last() Anchor {
	if len(s) == 0 {
		return Anchor{}
	}
	return s[len(s)-1].anchor
}

func (s anchorSpans) equal(other anchorSpans) bool {
	return slices.EqualFunc(s, other, func(a, b anchorSpan) bool { return a.anchor == b.anchor && a.from.Equal(b.from) })
}

// maxAnchorSpans bounds what is kept. Windows before that are taken for those of the oldest span.
const maxAnchorSpans = 64

// change returns s with another anchor from the end of the window on that contains now.
func (s anchorSpans) change(period Period, a Anchor, now time.Time) anchorSpans {
	if s.last() == a {
		return s
	}
	changed := append(make(anchorSpans, 0, len(s)+2), s...)
	if len(changed) == 0 {
		changed = append(changed, anchorSpan{}) // the calendar
	}
	end := changed.windowAt(period, now).End
	if n := len(changed) - 1; changed[n].from.After(now) { // it has not begun yet
		changed = changed[:n]
	}
	if changed.last() != a {
		changed = append(changed, anchorSpan{end, a})
	}
	if len(changed) > maxAnchorSpans {
		changed = changed[1:]
		changed[0].from = time.Time{}
	}
	return changed.normal()
}

// normal is nil for the calendar.
func (s anchorSpans) normal() anchorSpans {
	if len(s) == 1 && s[0].anchor == (Anchor{}) {
		return nil
	}
	return s
}
