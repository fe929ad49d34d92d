package quota

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// idForms has the form of a window's ID for each period. The group in parentheses is the
// offset from UTC, which may be left out where Calendar.WindowByID reads the ID.
var idForms = [...]*regexp.Regexp{
	Minute: regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d([+-]\d{4})?$`),
	Hour:   regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d([+-]\d{4})?$`),
	Day:    regexp.MustCompile(`^\d{4}-\d\d-\d\d$`),
	Week:   regexp.MustCompile(`^\d{4}-W\d\d$`),
	Month:  regexp.MustCompile(`^\d{4}-\d\d$`),
	Year:   regexp.MustCompile(`^\d{4}$`),
	Ever:   regexp.MustCompile(`^ever$`),
}

// WindowByID returns the window that has this ID. An hour or a minute may lack its offset,
// as in "2026-11-24T13"; where that hour happens twice, it is the first one. The error, for
// an ID that no window has, shows the forms.
func (c *Calendar) WindowByID(id string) (Window, error) {
	for _, period := range Periods() {
		if !idForms[period].MatchString(id) {
			continue
		}
		t, err := c.instantIn(period, id)
		if err != nil {
			break
		}
		// The form is not enough: not every year has a week 53.
		if w := computeWindow(period, t.In(c.loc)); w.ID == id || period <= Hour && strings.HasPrefix(w.ID, id) {
			return w, nil
		}
		break
	}
	return Window{}, fmt.Errorf("%q names no window; write it like 2026 (a year), 2026-10, 2026-W41, 2026-10-03, 2026-10-03T14, 2026-10-03T14:05 or ever", id)
}

// OwnWindow returns the period of a window whose ID is that of a month or year which begins on an
// account's own day, such as "month-2026-11-15", and an instant that is in the window if the account
// has it, see Terms.WindowAt. ok is false for an ID of another form.
func (c *Calendar) OwnWindow(id string) (period Period, at time.Time, ok bool) {
	for _, period := range []Period{Month, Year} {
		if date, found := strings.CutPrefix(id, period.String()+"-"); found {
			t, err := time.Parse(time.DateOnly, date)
			return period, time.Date(t.Year(), t.Month(), t.Day(), 12, 0, 0, 0, c.loc), err == nil // noon is on the day everywhere
		}
	}
	return 0, at, false
}

// WindowByID returns the window with this ID that an account with these terms has or had. If the terms
// do not have a month or year of its own, its end is where it would be without a change of anchor.
func (t Terms) WindowByID(c *Calendar, id string) (Window, error) {
	period, at, own := c.OwnWindow(id)
	if !own {
		return c.WindowByID(id)
	}
	w := t.WindowAt(c, period, at)
	if w.ID != id {
		w = anchorSpans{{anchor: AnchorOn(at)}}.windowAt(period, at)
		w.ID = id
	}
	return w, nil
}

// instantIn returns an instant in the window with this ID, which must have the form of an
// ID of the period.
func (c *Calendar) instantIn(period Period, id string) (time.Time, error) {
	switch period {
	case Minute, Hour:
		layout := map[Period]string{Minute: "2006-01-02T15:04", Hour: "2006-01-02T15"}[period]
		t, err := time.ParseInLocation(layout, id, c.loc)
		if strings.LastIndexAny(id, "+-") > len("2006-01-02") {
			t, err = time.Parse(layout+"-0700", id)
		}
		if err != nil {
			return t, err
		}
		// Where clocks change by less than an hour, the first part of an hour may belong to
		// another window. Its end does not.
		if period == Hour && !strings.HasPrefix(computeWindow(period, t.In(c.loc)).ID, id) {
			t = t.Add(time.Hour - time.Second)
		}
		return t, nil
	case Ever:
		return everWindow.Start, nil
	case Week:
		var year, week int
		if _, err := fmt.Sscanf(id, "%d-W%d", &year, &week); err != nil {
			return time.Time{}, err
		}
		// 4 January is always in week 1.
		return time.Date(year, time.January, 4+7*(week-1), 12, 0, 0, 0, c.loc), nil
	}
	t, err := time.Parse("2006-01-02"[:len(id)], id)
	if err != nil {
		return t, err
	}
	return time.Date(t.Year(), t.Month(), t.Day(), 12, 0, 0, 0, c.loc), nil // noon is on the day everywhere
}

// startOf returns the period and the start of a window of a day or longer, which need not be of the
// calendar.
func (c *Calendar) startOf(id string) (Period, time.Time, bool) {
	for _, period := range []Period{Month, Year} {
		if date, ok := strings.CutPrefix(id, period.String()+"-"); ok {
			day, err := time.Parse(time.DateOnly, date)
			return period, startOfDay(day.Year(), day.Month(), day.Day(), c.loc), err == nil
		}
	}
	w, err := c.WindowByID(id)
	return w.Period, w.Start, err == nil && w.Period >= Day && w.Period <= Year
}
