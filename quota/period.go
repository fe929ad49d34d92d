package quota

import "fmt"

// A Period is a kind of window: what a limit is "per". The zero value is no period.
type Period uint8

// The periods, from the shortest to the longest.
const (
	Minute Period = iota + 1
	Hour
	Day
	Week // from Monday, as in ISO 8601
	Month
	Year
	Ever // all time: it has one window, which never ends
)

// Periods returns all periods, from the shortest to the longest.
func Periods() [7]Period { return [...]Period{Minute, Hour, Day, Week, Month, Year, Ever} }

var periodNames = [...]string{Minute: "minute", Hour: "hour", Day: "day", Week: "week", Month: "month", Year: "year", Ever: "ever"}

// PeriodNames says which periods there are, for messages.
const PeriodNames = "minute, hour, day, week, month, year or ever"

// IsPeriod reports whether p is one of the periods.
func (p Period) IsPeriod() bool { return p >= Minute && p <= Ever }

// String returns the name that the configuration uses, such as "month".
func (p Period) String() string {
	if !p.IsPeriod() {
		return fmt.Sprintf("Period(%d)", uint8(p))
	}
	return periodNames[p]
}

// MarshalText returns the name of p, or an error if p is not a period.
func (p Period) MarshalText() ([]byte, error) {
	if !p.IsPeriod() {
		return nil, fmt.Errorf("%v is not a period", p)
	}
	return []byte(periodNames[p]), nil
}

// UnmarshalText accepts exactly these names.
func (p *Period) UnmarshalText(text []byte) error {
	for _, period := range Periods() {
		if periodNames[period] == string(text) {
			*p = period
			return nil
		}
	}
	return fmt.Errorf("must be %s, got %q", PeriodNames, text)
}
