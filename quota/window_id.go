package quota

import (
	"fmt"
	"regexp"
	"strings"
	"time"
)

// The forms of a window's ID, in the order of Period. What stands in brackets names the
// offset and may be left out where Calendar.WindowByID reads it.
var idForms = [...]*regexp.Regexp{
	Minute: regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d([+-]\d{4})?$`),
	Hour:   regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d([+-]\d{4})?$`),
	Day:    regexp.MustCompile(`^\d{4}-\d\d-\d\d$`),
	Week:   regexp.MustCompile(`^\d{4}-W\d\d$`),
	Month:  regexp.MustCompile(`^\d{4}-\d\d$`),
	Year:   regexp.MustCompile(`^\d{4}$`),
}

// WindowByID returns the window that an ID names. An hour or a minute may come without its
// offset, "2026-11-24T13"; where that happens twice it is the first one. Error: there is
// no such window.
func (c *Calendar) WindowByID(id string) (Window, error) {
	for per := Minute; per <= Year; per++ {
		if !idForms[per].MatchString(id) {
			continue
		}
		t, err := c.instantIn(per, id)
		if err != nil {
			break
		}
		// The calendar has the last word: not every year has a week 53.
		if w := computeWindow(per, t.In(c.loc)); w.ID == id || per <= Hour && strings.HasPrefix(w.ID, id) {
			return w, nil
		}
		break
	}
	return Window{}, fmt.Errorf("%q names no window; write it like 2026 (a year), 2026-10, 2026-W41, 2026-10-03, 2026-10-03T14 or 2026-10-03T14:05", id)
}

// instantIn is an instant in the window of an ID that has its form.
func (c *Calendar) instantIn(per Period, id string) (time.Time, error) {
	switch per {
	case Minute, Hour:
		layout := map[Period]string{Minute: "2006-01-02T15:04", Hour: "2006-01-02T15"}[per]
		t, err := time.ParseInLocation(layout, id, c.loc)
		if strings.LastIndexAny(id, "+-") > len("2006-01-02") {
			t, err = time.Parse(layout+"-0700", id)
		}
		if err != nil {
			return t, err
		}
		// Its first part may be in another window, where clocks have been moved by less
		// than an hour.
		if per == Hour && !strings.HasPrefix(computeWindow(per, t.In(c.loc)).ID, id) {
			t = t.Add(time.Hour - time.Second)
		}
		return t, nil
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
