package quota

import (
	"math"
	"math/bits"
	"time"
)

// A Window is one minute, hour, day, week, month or year, of the calendar or from an account's own
// day, or all time: the instants from Start up to, but not including, End.
type Window struct {
	Period Period
	// ID identifies the window among all windows of all periods: "2026" (a year),
	// "2026-11", "2026-W48", "2026-11-24", "2026-11-24T13+0100" (an hour),
	// "2026-11-24T13:05+0100" (a minute). Stores count under it. Days and longer windows
	// leave out the offset from UTC, so that a gateway that is moved to another time zone
	// keeps the month's counts. Hours and minutes include it, because the hour in which
	// clocks are set back happens twice. A month or year that begins on an account's own day has
	// the day of its start: "month-2026-11-15", "year-2026-11-15". All time is "ever".
	ID         string
	Start, End time.Time
	// Nominal is the whole length of a window that a change of anchor has made shorter; 0: it is
	// whole.
	Nominal time.Duration
}

// everWindow is the only window of Ever. Its bounds are the same in all time zones.
var everWindow = Window{Period: Ever, ID: Ever.String(), Start: time.Unix(0, 0).UTC(), End: time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC)}

// Renews reports whether another window comes after this one.
func (w Window) Renews() bool { return w.Period != Ever }

// part is what the window allows of an amount: all of it or, in a window that is not whole, its
// part, rounded down.
func (w Window) part(amount int64) int64 {
	if w.Nominal <= 0 {
		return amount
	}
	hi, lo := bits.Mul64(uint64(amount), uint64(w.End.Sub(w.Start)/time.Second))
	quotient, _ := bits.Div64(hi, lo, uint64(w.Nominal/time.Second))
	return int64(quotient)
}

// Contains reports whether the window contains t.
func (w Window) Contains(t time.Time) bool { return !t.Before(w.Start) && t.Before(w.End) }

// Seconds is the length of the window. A day on which daylight saving time begins or ends
// has 82,800 or 90,000. Of a window that does not renew it means nothing.
func (w Window) Seconds() int64 { return int64(w.End.Sub(w.Start) / time.Second) }

// SecondsLeft is the time from t to the window's end in whole seconds, never negative. It
// is rounded up, so that a client that waits this long is in the next window. For a window that
// does not renew it is math.MaxInt64.
func (w Window) SecondsLeft(t time.Time) int64 {
	if !w.Renews() {
		return math.MaxInt64
	}
	return max(0, int64((w.End.Sub(t)+time.Second-1)/time.Second))
}

// RetainedUntil is the time until which a store keeps the window's counts. Days and longer
// windows stay readable for keep after their end. Hours stay for at most a day and minutes
// for at most two hours, which is longer than any lease that counts in them: they serve
// only limits, and a busy user would leave half a million minutes a year. All time stays.
func (w Window) RetainedUntil(keep time.Duration) time.Time {
	switch w.Period {
	case Ever:
		return w.End
	case Minute:
		keep = min(keep, 2*time.Hour)
	case Hour:
		keep = min(keep, 24*time.Hour)
	}
	return w.End.Add(keep)
}
