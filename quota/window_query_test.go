package quota

import (
	"fmt"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// Every window of an account is in exactly one query for those that begin in a window of the calendar,
// whatever its anchors were.
func TestEveryWindowIsInOneQuery(t *testing.T) {
	zones := []*time.Location{time.UTC, location(t, "Asia/Kathmandu"), location(t, "America/Sao_Paulo")}
	rapid.Check(t, func(t *rapid.T) {
		c := NewCalendar(rapid.SampledFrom(zones).Draw(t, "zone"))
		begin := time.Unix(rapid.Int64Range(1_420_000_000, 1_580_000_000).Draw(t, "begin"), 0)
		at, terms := begin, Terms{}
		for range rapid.IntRange(0, 6).Draw(t, "changes") {
			a := anyAnchor(t)
			terms = terms.SetAnchor(&a, c, at, Activity{Windows: []string{"2016-02"}})
			at = at.Add(time.Duration(rapid.IntRange(1, 24*90).Draw(t, "hours")) * time.Hour)
		}
		for _, period := range Periods() {
			if period != Month && period != Year {
				continue
			}
			var want, got []string
			calendar := c.WindowAt(period, begin)
			for ; calendar.Start.Before(at.AddDate(3, 0, 0)); calendar = c.WindowAt(period, calendar.End) {
				for _, w := range (WindowQuery{period, calendar.Start, true}).WindowsOf(terms, c) {
					got = append(got, w.ID)
				}
			}
			w := terms.WindowAt(c, period, c.WindowAt(period, begin).Start)
			for ; w.Start.Before(calendar.Start); w = terms.WindowAt(c, period, w.End) {
				if !w.Start.Before(c.WindowAt(period, begin).Start) {
					want = append(want, w.ID)
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(want) {
				t.Fatalf("%v, %q: the queries have %v, want %v", period, terms, got, want)
			}
		}
	})
}
