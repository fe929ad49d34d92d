package counterfile

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"metergate/quota"
)

// labels is the calendar in which windows are compared that are written without a time zone, such as
// 2026-11. Which zone it is does not matter: both sides are in the same.
var labels = quota.NewCalendar(time.UTC)

var (
	allDigits = regexp.MustCompile(`^\d+$`)
	clockTime = regexp.MustCompile(`^(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d)(:\d\d(\.\d+)?)?$`)
	offsetEnd = regexp.MustCompile(`(T\d\d(:\d\d)?)[+-]\d{4}$`)
)

// A windowFilter finds out which rows are of a window.
type windowFilter struct {
	window quota.Window
	label  quota.Window // the same in labels
	known  map[string]bool
}

// maxKnown bounds the answers that a windowFilter keeps. A table has few windows.
const maxKnown = 1000

func newWindowFilter(w quota.Window) (*windowFilter, error) {
	label, err := labels.WindowByID(offsetEnd.ReplaceAllString(w.ID, "$1"))
	if err != nil {
		return nil, fmt.Errorf("rows cannot be compared with the window %s, which begins on a day of its own; leave window out of -map", w.ID)
	}
	return &windowFilter{w, label, map[string]bool{}}, nil
}

// has reports whether a row with this window, as its table has it, belongs to the window. It
// may be written as the id of a window, such as 2026-11, also as 202611; as a date or time in it; or in
// Unix seconds or milliseconds.
func (f *windowFilter) has(text string) (bool, error) {
	has, known := f.known[text]
	if known {
		return has, nil
	}
	has, err := f.check(text)
	if err == nil && len(f.known) < maxKnown {
		f.known[text] = has
	}
	return has, err
}

func (f *windowFilter) check(text string) (bool, error) {
	if f.window.Period == quota.Ever {
		return true, nil
	}
	if t, ok := instant(text); ok {
		return f.window.Contains(t), nil
	}
	of, err := labels.WindowByID(labelled(text))
	switch {
	case err != nil || of.Period == quota.Ever:
		return false, fmt.Errorf("must be a window like 2026-11, or a date or time in it, got %.80q", text)
	case !of.Start.Before(f.label.End) || !f.label.Start.Before(of.End):
		return false, nil
	case of.Start.Before(f.label.Start) || f.label.End.Before(of.End):
		return false, fmt.Errorf("is %s, which is longer than the %s that is read", text, f.window.Period)
	}
	return true, nil
}

// instant reads a time that has a zone, or is in Unix seconds or milliseconds.
func instant(text string) (time.Time, bool) {
	if t, err := time.Parse(time.RFC3339, text); err == nil {
		return t, true
	}
	if !allDigits.MatchString(text) || len(text) != 10 && len(text) != 13 {
		return time.Time{}, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	if len(text) == 10 {
		n *= 1000
	}
	return time.UnixMilli(n), err == nil
}

// labelled writes a window as its id is written.
func labelled(text string) string {
	switch digits := allDigits.MatchString(text); {
	case digits && len(text) == 6:
		return text[:4] + "-" + text[4:]
	case digits && len(text) == 8:
		return strings.Join([]string{text[:4], text[4:6], text[6:]}, "-")
	}
	return clockTime.ReplaceAllString(text, "${1}T$2")
}
