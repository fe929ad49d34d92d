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
)

// Periods returns all periods, from the shortest to the longest.
func Periods() [6]Period { return [...]Period{Minute, Hour, Day, Week, Month, Year} }

var periodNames = [...]string{Minute: "minute", Hour: "hour", Day: "day", Week: "week", Month: "month", Year: "year"}

// String returns the name that the configuration uses, such as "month".
func (p Period) String() string {
	if p < Minute || p > Year {
		return fmt.Sprintf("Period(%d)", uint8(p))
	}
	return periodNames[p]
}

// MarshalText returns the name of p, or an error if p is not a period.
func (p Period) MarshalText() ([]byte, error) {
	if p < Minute || p > Year {
		return nil, fmt.Errorf("%v is not a period", p)
	}
	return []byte(periodNames[p]), nil
}

// UnmarshalText accepts exactly the six names.
func (p *Period) UnmarshalText(text []byte) error {
	for _, period := range Periods() {
		if periodNames[period] == string(text) {
			*p = period
			return nil
		}
	}
	return fmt.Errorf("must be minute, hour, day, week, month or year, got %q", text)
}
