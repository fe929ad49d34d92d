package quota

import "time"

// A Date is a day in the time zone of a Calendar: the number of days since 1 January 1970. It is 0
// where no history is kept.
type Date int32

// DateAt returns the date of t: that of the window of a Day.
func (c *Calendar) DateAt(t time.Time) Date {
	date, err := time.Parse(time.DateOnly, c.WindowAt(Day, t).ID)
	if err != nil {
		panic("quota: " + err.Error()) // each such window is named by its date
	}
	return Date(date.Unix() / (24 * 60 * 60))
}

// String returns d like "2026-11-29".
func (d Date) String() string { return time.Unix(int64(d)*24*60*60, 0).UTC().Format(time.DateOnly) }

// IsKept reports whether a store that keeps a history of so many days, 0: none, has the numbers of d
// today. It keeps them a day longer than it shows them, so that late counts do not depend on the hour.
func (d Date) IsKept(days int, today Date) bool {
	return days > 0 && d > 0 && d >= today-Date(days)
}

// MaxHistory is the most days that a history can be kept for.
const MaxHistory = 400

// A History is what an account has used on each of the last days. The numbers of a day are those
// that the counters of a limit per day would have: what was counted of the requests that were
// admitted on it, and what administrators have made of that. So a reset sets today's numbers to 0, counts that
// are set per day set today's, and other changes leave them as they are. Pools have no history:
// what they have used, members have used.
type History struct {
	At time.Time // by the store's clock
	// Stale: the store did not answer. The numbers are the last known ones, plus what was
	// counted here since.
	Stale bool
	// Days has every day of a range, used or not, the oldest first. The last is that of At.
	Days []DayUsage
}

// DayUsage is what an account has used on a day.
type DayUsage struct {
	Date Date
	// Endpoints has those that were used, maybe some that are not in the configuration any more;
	// nil: none.
	Endpoints map[string]Used
}

// Used is what was counted: requests, and what they were charged.
type Used struct{ Requests, Units int64 }

// In returns u as a quantity.
func (u Used) In(q Quantity) int64 {
	if q == Units {
		return u.Units
	}
	return u.Requests
}

// Add returns the sum of both.
func (u Used) Add(other Used) Used {
	return Used{u.Requests + other.Requests, u.Units + other.Units}
}

// Total is what was used of all endpoints.
func (d DayUsage) Total() (sum Used) {
	for _, u := range d.Endpoints {
		sum = sum.Add(u)
	}
	return sum
}

// NewHistory lays out what was used on the last days, 1 to MaxHistory, until that of at. It keeps
// the maps in used, and leaves out other days and endpoints of which nothing was used.
func NewHistory(c *Calendar, at time.Time, days int, used map[Date]map[string]Used) History {
	h := History{At: at, Days: make([]DayUsage, days)}
	today := c.DateAt(at)
	for i := range h.Days {
		date := today - Date(days-1-i)
		h.Days[i].Date = date
		for endpoint, u := range used[date] {
			if u == (Used{}) {
				continue
			}
			if h.Days[i].Endpoints == nil {
				h.Days[i].Endpoints = make(map[string]Used)
			}
			h.Days[i].Endpoints[endpoint] = u
		}
	}
	return h
}

// Bounds of a forecast.
const (
	// PaceDays is how many days a forecast looks at, today included.
	PaceDays = 7
	// minToJudge is the fewest requests in these days that a forecast is made from.
	minToJudge = 10
)

// ExhaustsAt returns when nothing will be left of the headline limit of s at the pace of the last
// PaceDays, which must be in h: s.At if nothing is left now. It returns false if that is after the
// end of the limit's window, if there are too few requests to judge by, and if there is no headline limit
// or members share it: a history says nothing about other members.
func (h History) ExhaustsAt(s Snapshot) (at time.Time, ok bool) {
	i, ok := s.Plan.Headline()
	if !ok {
		return at, false
	}
	left := s.Allowance(i) - s.Limits[i].Used
	if left <= 0 {
		return s.At, true
	}
	if s.Plan.limits[i].Shared {
		return at, false
	}
	var sum Used
	for _, d := range h.Days[max(0, len(h.Days)-PaceDays):] {
		sum = sum.Add(d.Total())
	}
	used := sum.In(s.Plan.HeadlineQuantity())
	if sum.Requests < minToJudge || used <= 0 {
		return at, false
	}
	seconds := float64(left) / float64(used) * PaceDays * 24 * 60 * 60
	end := s.Limits[i].Window.End
	if seconds >= end.Sub(s.At).Seconds() {
		return at, false
	}
	return s.At.Add(time.Duration(seconds * float64(time.Second))), true
}
