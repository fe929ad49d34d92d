package quota

import (
	"sort"
	"time"
)

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
