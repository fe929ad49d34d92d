package quota

import (
	"strings"
	"testing"
	"time"
)

// A day, a date or a time says on which day months begin; a date or time also says in which month
// years do. The day is that of the time zone.
func TestParseAnchor(t *testing.T) {
	kathmandu, err := time.LoadLocation("Asia/Kathmandu") // UTC+5:45
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]Anchor{
		"1": {}, "15": {15, time.January}, "31": {31, time.January}, "05": {5, time.January},
		"2026-11-15": {15, time.November}, "2024-02-29": {29, time.February}, "1971-05-07": {7, time.May}, "2026-01-01": {},
		"2026-03-15T18:14:59Z": {15, time.March}, "2026-03-15T18:15:00Z": {16, time.March}, "2026-03-15T00:00:00.5+05:45": {15, time.March},
		"2026-03-14T20:00:00-07:00": {15, time.March},
		// Unix seconds.
		"1773598499": {15, time.March}, "1773598500": {16, time.March}, "1773598500.9": {16, time.March},
		"100000000": {3, time.March}, "257884200": {5, time.March}, "253402300799": {},
		// The same number in other notations of JSON.
		"15.0": {15, time.January}, "1e1": {10, time.January}, "1.5E+1": {15, time.January}, "310e-1": {31, time.January},
		"1.7735985e9": {16, time.March}, "1773598500.0": {16, time.March},
	} {
		if got, err := ParseAnchor(text, kathmandu); err != nil || got != want {
			t.Errorf("%q is read as %+v, error %v; want %+v", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0", "0.5", "32", "-1", "15.5", "1e-1", "3.11e1", "1000", "20261115", "99999999", "99999999.9", "253402300800", "1773598500000", "1e300", "1e999", "NaN", "Inf", "infinity",
		// What is no number of JSON is no number.
		"+15", "15.", ".15e2", "1e", "0xf", "0x1Fp0", "0b11", "1_5", "15,0", " 15", "15 ", "\u0661\u0665",
		"03-15", "2026-02-30", "2026-11", "15th", "tomorrow", "2026-11-15Z",
		"2026-03-15 10:00:00", "2026-03-15T10:00:00", "true", "[15]", strings.Repeat("1", 400)} {
		if got, err := ParseAnchor(text, kathmandu); err == nil || !strings.Contains(err.Error(), "1 to 31") || len(err.Error()) > 200 {
			t.Errorf("%.40q is read as %+v, error %v", text, got, err)
		}
	}
}
