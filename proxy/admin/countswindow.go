package admin

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"metergate/quota"
)

// An otherWindow is a line whose counts are not from the running window of its account.
type otherWindow struct {
	Line  int          `json:"line"`  // of the request's body, from 1
	Start *windowBound `json:"start"` // of the running window; null: it is all time
	End   *windowBound `json:"end"`

	text string
}

// otherWindowsError is the error for counts of windows that are not running. They would replace the
// counts of the running ones.
type otherWindowsError struct{ lines []otherWindow } // by line; never none

func (e *otherWindowsError) Error() string {
	return fmt.Sprintf("line %d: %s. Nothing was changed. Export the running window; or leave out start and end to set these counts in the running window on purpose.",
		e.lines[0].Line, e.lines[0].text)
}

// write answers with a problem document that lists the lines.
func (e *otherWindowsError) write(w http.ResponseWriter) {
	w.Header().Set("Content-Type", "application/problem+json")
	const status = http.StatusConflict
	noteProblem(w, status, e.Error(), nil)
	write(w, status, struct {
		Type         string        `json:"type"`
		Title        string        `json:"title"`
		Status       int           `json:"status"`
		Detail       string        `json:"detail"`
		OtherWindows []otherWindow `json:"other_windows"`
	}{"about:blank", http.StatusText(status), status, e.Error(), e.lines})
}

// checkWindows returns an otherWindowsError if lines say that their counts are from another window of
// the period than the one that is running for their account.
func (c *userRequest) checkWindows(lines []userCounts, period quota.Period) error {
	var mu sync.Mutex
	var others []otherWindow
	_, err := eachLine(lines, func(line userCounts) error {
		if line.start.IsZero() && line.end.IsZero() {
			return nil
		}
		running, err := c.runningWindow(line.account, period)
		if err != nil {
			return err
		}
		start, end := windowBounds(running)
		if isBound(line.start, start) && isBound(line.end, end) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		current := fmt.Sprintf("the running %s is %s", period, boundsText(*start, *end))
		if !running.Renews() {
			current = "the window ever has no start and no end"
		}
		others = append(others, otherWindow{line.number, start, end, fmt.Sprintf("%s has counts of the window %s, but %s",
			accountText(line.account), boundsText(windowBound{line.start}, windowBound{line.end}), current)})
		return nil
	})
	if err != nil || others == nil {
		return err
	}
	slices.SortFunc(others, func(a, b otherWindow) int { return cmp.Compare(a.Line, b.Line) })
	return &otherWindowsError{others}
}

// runningWindow returns the window of a period that is running for an account.
func (c *userRequest) runningWindow(account string, period quota.Period) (quota.Window, error) {
	of := *c
	of.account = account
	plans, _, err := of.userPlans("")
	if err != nil {
		return quota.Window{}, err
	}
	s, err := c.Store.Read(c.r.Context(), account, plans.ForPeriod(period))
	return s.Total.Window, err
}

// isBound reports whether a line's start or end is that of a window; zero: the line does not say.
func isBound(said time.Time, bound *windowBound) bool { return said.IsZero() || said.Equal(bound.Time) }

// boundsText is the window from start to end, one of which may not be known.
func boundsText(start, end windowBound) string {
	switch {
	case end.IsZero():
		return "from " + start.String()
	case start.IsZero():
		return "until " + end.String()
	}
	return "from " + start.String() + " to " + end.String()
}
