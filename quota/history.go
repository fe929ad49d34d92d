package quota

import (
	"encoding/json"
	"strconv"
	"time"
)

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
	// PaceDays is how many days a forecast looks at, today included, if so many are kept.
	PaceDays = 7
	// minToJudge is the fewest requests in these days that a forecast is made from.
	minToJudge = 10
)

// ExhaustsAt returns when nothing will be left of the headline limit of s at the pace of the last
// PaceDays, or of all days of h if it has fewer: s.At if nothing is left now. It returns false if that is after the
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
	days := h.Days[max(0, len(h.Days)-PaceDays):]
	for _, d := range days {
		sum = sum.Add(d.Total())
	}
	used := sum.In(s.Plan.HeadlineQuantity())
	if sum.Requests < minToJudge || used <= 0 {
		return at, false
	}
	seconds := float64(left) / float64(used) * float64(len(days)) * 24 * 60 * 60
	end := s.Limits[i].Window.End
	if seconds >= end.Sub(s.At).Seconds() {
		return at, false
	}
	return s.At.Add(time.Duration(seconds * float64(time.Second))), true
}

// ForecastNeedsHistory reports whether ExhaustsAt of s depends on the history: something is left of the
// headline limit, and it is the account's own.
func (s Snapshot) ForecastNeedsHistory() bool {
	i, ok := s.Plan.Headline()
	return ok && !s.Plan.limits[i].Shared && s.Limits[i].Used < s.Allowance(i)
}

// Forecast returns what ExhaustsAt says of s, as the usage object has it.
func (h History) Forecast(s Snapshot) *Forecast {
	f := new(Forecast)
	if at, ok := h.ExhaustsAt(s); ok {
		f.At = at.Truncate(time.Millisecond)
	}
	return f
}

// A Forecast is when nothing will be left of the headline limit. Zero, in JSON null: not before the
// limit renews, or nobody can tell.
type Forecast struct{ At time.Time }

// MarshalJSON implements json.Marshaler.
func (f Forecast) MarshalJSON() ([]byte, error) {
	if f.At.IsZero() {
		return []byte("null"), nil
	}
	return json.Marshal(f.At)
}

// UnmarshalJSON implements json.Unmarshaler.
func (f *Forecast) UnmarshalJSON(text []byte) error { return json.Unmarshal(text, &f.At) }

// defaultHistoryDays is how many days a history is read for if nobody says; fewer if fewer are kept.
const defaultHistoryDays = 30

// ParseHistoryDays reads for how many days a history is asked for: 1 to those that are kept. Empty means
// 30, or all if fewer are kept.
func ParseHistoryDays(text string, kept int) (days int, ok bool) {
	if text == "" {
		return min(defaultHistoryDays, kept), true
	}
	days, err := strconv.Atoi(text)
	return days, err == nil && text == strconv.Itoa(days) && 1 <= days && days <= kept
}

// HistoryUsage is the response to GET /usage/history.
type HistoryUsage struct {
	User     string     `json:"user"`
	Org      string     `json:"org,omitempty"` // the user's organisation
	Period   Period     `json:"per"`           // always Day
	From     string     `json:"from"`          // the dates of the first day and of the last
	To       string     `json:"to"`
	Timezone string     `json:"timezone"` // in which days begin and end
	Days     []DayTotal `json:"days"`     // every day from From to To
	Stale    bool       `json:"stale"`    // the store did not answer: the last known numbers
	AsOf     time.Time  `json:"as_of"`
}

// A DayTotal is what was used on one day. Endpoints that were not used are left out; some may not be
// in the configuration any more.
type DayTotal struct {
	Date string `json:"date"`
	AmountUsed
	Endpoints map[string]AmountUsed `json:"endpoints"`
}

// An AmountUsed is a Used for clients.
type AmountUsed struct {
	Used  int64  `json:"used"`            // requests
	Units *int64 `json:"units,omitempty"` // what they cost; nil unless the plan ReportsUnits
}

// Usage computes the response to GET /usage/history of the account whose history h is. withUnits
// says whether it has the units.
func (h History) Usage(account string, zone *time.Location, withUnits bool) HistoryUsage {
	amount := func(u Used) AmountUsed {
		if withUnits {
			return AmountUsed{u.Requests, &u.Units}
		}
		return AmountUsed{Used: u.Requests}
	}
	org, user := SplitAccount(account)
	u := HistoryUsage{
		User: user, Org: org, Period: Day, Timezone: zone.String(), Days: make([]DayTotal, 0, len(h.Days)),
		Stale: h.Stale, AsOf: h.At.Truncate(time.Millisecond),
	}
	for _, d := range h.Days {
		day := DayTotal{Date: d.Date.String(), AmountUsed: amount(d.Total()), Endpoints: make(map[string]AmountUsed, len(d.Endpoints))}
		for name, used := range d.Endpoints {
			day.Endpoints[name] = amount(used)
		}
		u.Days = append(u.Days, day)
	}
	if n := len(u.Days); n > 0 {
		u.From, u.To = u.Days[0].Date, u.Days[n-1].Date
	}
	return u
}
