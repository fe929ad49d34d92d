package quota

import "time"

// A Window is one minute, hour, day, week, month or year of a calendar: the instants from
// Start up to, but not including, End.
type Window struct {
	Period Period
	// ID identifies the window among all windows of all periods: "2026" (a year),
	// "2026-11", "2026-W48", "2026-11-24", "2026-11-24T13+0100" (an hour),
	// "2026-11-24T13:05+0100" (a minute). Stores count under it. Days and longer windows
	// leave out the offset from UTC, so that a gateway that is moved to another time zone
	// keeps the month's counts. Hours and minutes include it, because the hour in which
	// clocks are set back happens twice.
	ID         string
	Start, End time.Time
}

// Contains reports whether the window contains t.
func (w Window) Contains(t time.Time) bool { return !t.Before(w.Start) && t.Before(w.End) }

// Seconds is the length of the window. A day on which daylight saving time begins or ends
// has 82,800 or 90,000.
func (w Window) Seconds() int64 { return int64(w.End.Sub(w.Start) / time.Second) }

// SecondsLeft is the time from t to the window's end in whole seconds, never negative. It
// is rounded up, so that a client that waits this long is in the next window.
func (w Window) SecondsLeft(t time.Time) int64 {
	return max(0, int64((w.End.Sub(t)+time.Second-1)/time.Second))
}

// RetainedUntil is the time until which a store keeps the window's counts. Days and longer
// windows stay readable for keep after their end. Hours stay for at most a day and minutes
// for at most two hours, which is longer than any lease that counts in them: they serve
// only limits, and a busy user would leave half a million minutes a year.
func (w Window) RetainedUntil(keep time.Duration) time.Time {
	switch w.Period {
	case Minute:
		keep = min(keep, 2*time.Hour)
	case Hour:
		keep = min(keep, 24*time.Hour)
	}
	return w.End.Add(keep)
}
