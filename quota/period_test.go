package quota_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"metergate/quota"
)

// periods are those that renew.
var periods = []quota.Period{quota.Minute, quota.Hour, quota.Day, quota.Week, quota.Month, quota.Year}

func TestPeriodText(t *testing.T) {
	names := map[quota.Period]string{
		quota.Minute: "minute", quota.Hour: "hour", quota.Day: "day",
		quota.Week: "week", quota.Month: "month", quota.Year: "year", quota.Ever: "ever",
	}
	for i, period := range quota.Periods() {
		if i > 0 && quota.Periods()[i-1] >= period {
			t.Errorf("%v is not shorter than %v", quota.Periods()[i-1], period)
		}
		if period.String() != names[period] {
			t.Errorf("%v is shown as %s", period, period)
		}
		text, err := json.Marshal(period)
		if err != nil || string(text) != `"`+names[period]+`"` {
			t.Errorf("%v is marshalled as %s, %v", period, text, err)
		}
		var back quota.Period
		if err := json.Unmarshal(text, &back); err != nil || back != period {
			t.Errorf("%s is read as %v, %v", text, back, err)
		}
	}
	for _, text := range []string{"", "second", "Month", "MONTH", "months", " month", "month ", "month\x00", "5", "Period(5)", "quarter", "never"} {
		period := quota.Week
		err := period.UnmarshalText([]byte(text))
		if err == nil {
			t.Errorf("%q is read as %v", text, period)
			continue
		}
		if period != quota.Week {
			t.Errorf("%q is refused and leaves %v", text, period)
		}
		if want := fmt.Sprintf("got %q", text); !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "month") {
			t.Errorf("%q: %v, want %s and what is allowed", text, err, want)
		}
	}
	for _, period := range []quota.Period{0, quota.Ever + 1, 255} {
		if text, err := period.MarshalText(); err == nil {
			t.Errorf("Period(%d) is marshalled as %q", uint8(period), text)
		}
		if got, want := period.String(), fmt.Sprintf("Period(%d)", uint8(period)); got != want {
			t.Errorf("String = %q, want %q", got, want)
		}
	}
}
