package quota_test

import (
	"encoding/binary"
	"testing"
	"time"
	_ "time/tzdata" // the tests must not depend on what the machine has installed

	"pgregory.net/rapid"
)

func zone(t testing.TB, name string) *time.Location {
	t.Helper()
	loc, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// ruleZone is a time zone that consists of a rule alone (a POSIX TZ string), without a list
// of past changes. Time zone files describe the future in this way. From which year on
// depends on the file: the compact ones, which containers have, end their list in 1996.
func ruleZone(t testing.TB, name, rule string) *time.Location {
	t.Helper()
	header := func(types, chars int) []byte {
		b := append([]byte("TZif2"), make([]byte, 15)...)
		for _, n := range []int{0, 0, 0, 0, types, chars} { // RFC 9636, section 3.1
			b = binary.BigEndian.AppendUint32(b, uint32(n))
		}
		return b
	}
	oneType := make([]byte, 6+4) // offset 0, no daylight saving; its name, zero-terminated
	copy(oneType[6:], "LMT")
	var data []byte
	for range 2 { // the same data as version 1 and version 2
		data = append(append(data, header(1, 4)...), oneType...)
	}
	loc, err := time.LoadLocationFromTZData(name, append(data, "\n"+rule+"\n"...))
	if err != nil {
		t.Fatal(err)
	}
	return loc
}

// rules are in force today.
var rules = map[string]string{
	"Berlin":     "CET-1CEST,M3.5.0,M10.5.0/3",
	"St. John's": "NST3:30NDT,M3.2.0,M11.1.0",
	"Adelaide":   "ACST-9:30ACDT,M10.1.0,M4.1.0/3",
	"Lord Howe":  "<+1030>-10:30<+11>-11,M10.1.0,M4.1.0",
	"Chatham":    "<+1245>-12:45<+1345>,M9.5.0/2:45,M4.1.0/3:45",
	"Havana":     "CST5CDT,M3.2.0/0,M11.1.0/1",
	"Cairo":      "EET-2EEST,M4.5.5/0,M10.5.4/24",
	"Nuuk":       "<-02>2<-01>,M3.5.0/-1,M10.5.0/0",
	"Troll":      "<+00>0<+02>-2,M3.5.0/1,M10.5.0/3",
}

func instant(t testing.TB, s string) time.Time {
	t.Helper()
	at, err := time.Parse(time.RFC3339, s)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// zones are what the property tests draw from: zones with every kind of oddity, and plain
// ones.
func zones(t testing.TB) []*time.Location {
	var locs []*time.Location
	for _, name := range []string{
		"UTC", "Europe/Berlin", "Europe/London", "Europe/Dublin", "Europe/Istanbul", "America/New_York", "America/St_Johns",
		"America/Sao_Paulo", "America/Havana", "America/Asuncion", "America/Santiago", "America/Scoresbysund", "America/Caracas",
		"Africa/Cairo", "Africa/Casablanca", "Africa/Monrovia", "Asia/Beirut", "Asia/Gaza", "Asia/Tehran", "Asia/Amman",
		"Asia/Kolkata", "Asia/Kathmandu", "Asia/Pyongyang", "Asia/Tokyo", "Australia/Lord_Howe", "Australia/Adelaide",
		"Australia/Sydney", "Antarctica/Casey", "Antarctica/Troll", "Antarctica/Vostok", "Pacific/Apia", "Pacific/Chatham",
		"Pacific/Kiritimati", "Pacific/Kwajalein", "Pacific/Norfolk", "Pacific/Marquesas", "Etc/GMT+12", "Etc/GMT-14",
	} {
		locs = append(locs, zone(t, name))
	}
	for name, rule := range rules {
		locs = append(locs, ruleZone(t, name+" by rule", rule))
	}
	return append(locs, time.FixedZone("odd", -(3*3600+25*60+45)))
}

func drawZone(t *rapid.T, locs []*time.Location) *time.Location {
	byName := map[string]*time.Location{}
	var names []string
	for _, loc := range locs {
		byName[loc.String()] = loc
		names = append(names, loc.String())
	}
	return byName[rapid.SampledFrom(names).Draw(t, "zone")]
}

// drawInstant draws an instant from 1970 to 2100. Most are in difficult places: around a
// change of the zone's offset and around the turns of years and months.
func drawInstant(t *rapid.T, loc *time.Location, label string) time.Time {
	at := time.Unix(rapid.Int64Range(0, 4133980799).Draw(t, label), 0).In(loc)
	switch rapid.SampledFrom([]string{"anywhere", "change", "change", "year", "month"}).Draw(t, label+": near") {
	case "anywhere":
		return at.Add(time.Duration(rapid.Int64Range(0, 999_999_999).Draw(t, label+": ns")))
	case "change":
		start, end := at.ZoneBounds()
		switch {
		case !end.IsZero():
			at = end
		case !start.IsZero():
			at = start
		}
	case "year":
		at = time.Date(at.Year(), time.December, 32, 0, 0, 0, 0, loc)
	case "month":
		at = time.Date(at.Year(), at.Month()+1, 1, 0, 0, 0, 0, loc)
	}
	offset := rapid.OneOf(
		rapid.Int64Range(-int64(50*time.Hour), int64(50*time.Hour)),
		rapid.Int64Range(-int64(2*time.Hour), int64(2*time.Hour)),
		rapid.SampledFrom([]int64{0, -1, 1, int64(time.Second), -int64(time.Second), int64(time.Minute), -int64(time.Minute),
			int64(30 * time.Minute), -int64(30 * time.Minute), int64(time.Hour), -int64(time.Hour), -int64(12 * time.Hour), -int64(24 * time.Hour)}),
	).Draw(t, label+": off by")
	return at.Add(time.Duration(offset))
}
