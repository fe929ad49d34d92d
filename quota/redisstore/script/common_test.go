package script

import (
	"strconv"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"metergate/quota"
	"metergate/quota/redisstore/resp"
)

func TestParseReply(t *testing.T) {
	const numbers, limits = 4, 1
	for _, c := range []struct {
		name    string
		numbers []int64
		text    string
		want    *Reply // nil: an error
	}{
		{name: "without grants", numbers: []int64{0, 1796083200000, 0, 1, 2, 3, 4},
			want: &Reply{Code: OK, Time: time.UnixMilli(1796083200000), Numbers: []int64{1, 2, 3, 4}}},
		{name: "with grants", numbers: []int64{1, 1796083200000, 3, 1, 2, 3, 4, 50},
			want: &Reply{Code: Refused, Time: time.UnixMilli(1796083200000), Expired: 3, Numbers: []int64{1, 2, 3, 4, 50}}},
		{name: "throttled", numbers: []int64{5, 7, 0, 1, 2, 3, 4, 1500},
			want: &Reply{Code: Throttled, Time: time.UnixMilli(7), AttemptWait: 1500 * time.Microsecond, Numbers: []int64{1, 2, 3, 4}}},
		{name: "throttled with grants", numbers: []int64{5, 7, 0, 1, 2, 3, 4, 50, 1500},
			want: &Reply{Code: Throttled, Time: time.UnixMilli(7), AttemptWait: 1500 * time.Microsecond, Numbers: []int64{1, 2, 3, 4, 50}}},
		{name: "outdated", numbers: []int64{2, 7, 1, 0}, text: "0 pro",
			want: &Reply{Code: Outdated, Time: time.UnixMilli(7), Expired: 1, Assumed: "0 pro", Numbers: []int64{0}}},
		{name: "held", numbers: []int64{7, 9, 0, 1, 2, 3, 4, 0}, text: "1796083200000 analyze 2026-11",
			want: &Reply{Code: Held, Time: time.UnixMilli(9), Lease: "1796083200000 analyze 2026-11", Numbers: []int64{1, 2, 3, 4}}},
		{name: "held in a pool, with grants", numbers: []int64{7, 9, 0, 1, 2, 3, 4, 50, 0}, text: "8 a 2026\x1e8 a 2026-11",
			want: &Reply{Code: Held, Time: time.UnixMilli(9), Lease: "8 a 2026", PoolLease: "8 a 2026-11", Numbers: []int64{1, 2, 3, 4, 50}}},
		{name: "too few numbers", numbers: []int64{0, 7, 0, 1, 2}},
		{name: "too many values", numbers: []int64{0, 7, 0, 1, 2, 3, 4, 50, 60}},
		{name: "no time", numbers: []int64{0}},
		{name: "empty"},
	} {
		got, err := ParseReply(&resp.Reply{Numbers: c.numbers, Text: c.text}, numbers, limits)
		switch {
		case c.want == nil && err == nil:
			t.Errorf("%s: no error", c.name)
		case c.want != nil && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != nil:
			if diff := cmp.Diff(*c.want, got); diff != "" {
				t.Errorf("%s: -want +got:\n%s", c.name, diff)
			}
		}
	}
}

func TestParseLease(t *testing.T) {
	for lease, want := range map[string]struct {
		ends    int64
		windows []string
	}{
		"1796083200000 analyze 2026-11 2026-11-30":  {1796083200000, []string{"2026-11", "2026-11-30"}},
		"1796083200000+-1 analyze month-2026-11-15": {1796083200000, []string{"month-2026-11-15"}},
		"1796083200000+7 analyze":                   {1796083200000, []string{}},
	} {
		ends, windows := ParseLease(lease)
		if diff := cmp.Diff(want.windows, windows); diff != "" || ends.UnixMilli() != want.ends {
			t.Errorf("%q ends at %v, want %d; windows -want +got:\n%s", lease, ends.UnixMilli(), want.ends, diff)
		}
	}
	if _, windows := ParseLease(""); windows != nil {
		t.Errorf("no lease has the windows %q", windows)
	}
}

// TestAppendTo compares the arguments with those that stand in the .lua files.
func TestAppendTo(t *testing.T) {
	november := quota.NewCalendar(nil).WindowAt(quota.Month, time.Date(2026, time.November, 29, 0, 0, 0, 0, time.UTC))
	const retained = "1796169600000" // a day after the end of November
	for _, c := range []struct {
		name string
		args interface{ AppendTo(*resp.Args) }
		want []any
	}{
		{"user", &CommonArgs{Offset: -time.Second, ID: "u", Assumed: AnyOverride}, []any{"-1000", "u", "*"}},
		{"layout", &Layout{From: time.UnixMilli(5), Till: time.UnixMilli(9), Limits: 1, Pairs: 2,
			Counters: []Counter{{Name: "2026-11"}, {Name: "2026-11/analyze", Extra: true}, {Name: "2026-11/report", Extra: true}}},
			[]any{"5", "9", "5", "1", "used/2026-11", "held/2026-11", "extra/2026-11/analyze", "heldextra/2026-11/analyze", "extra/2026-11/report"}},
		{"pool", &PoolBlock{Account: "P", Assumed: "0 big\nm=15", Endpoint: "analyze", Windows: []quota.Window{november},
			Counters: []Counter{{Name: "a"}, {Name: "b", Shared: true}, {Name: "c"}, {Name: "d", Shared: true}}},
			[]any{"P", "0 big", "m=15", "analyze 2026-11", "2", "4", "1"}},
		{"pool without a hold", &PoolBlock{Account: "P", Assumed: AnyOverride, Endpoint: "analyze"}, []any{"P", "*", "*", "", "1"}},
		{"reserve", &ReserveArgs{ID: "R", Endpoint: "analyze", Lease: 12 * time.Second, Windows: []quota.Window{november},
			Attempts: quota.AttemptLimit{Requests: 120, Per: time.Minute}, Observed: true, Claimed: "free",
			Units: 8, Concurrent: quota.ConcurrencyLimit{Requests: 3}, RequestsOf: []int{0, 1, 5, 3},
			Limits: []quota.Limit{{Amount: 100, Period: quota.Month}, {Amount: 7, Period: quota.Month, Endpoint: "report"},
				{Amount: 500, Period: quota.Month, Quantity: quota.Units}, {Amount: 9, Period: quota.Month, Soft: true}},
			Allowed: []int64{120, 7, 500, 9}, Indexes: "\x01\x05"},
			[]any{"lease/R", "done/R", "attempts/120/500000", "12000", "analyze 2026-11", "120", "500000", "free", "1 7 3 30000", "\x01\x05",
				"120", "-1", "500", "-1", "3", "6"}},
		{"reserve without a bound of attempts", &ReserveArgs{ID: "R", Endpoint: "analyze", Lease: time.Second, Claimed: "free", Units: 1},
			[]any{"lease/R", "done/R", "", "1000", "analyze", "0", "0", "free", "", ""}},
		{"reserve units without a bound of attempts", &ReserveArgs{ID: "R", Endpoint: "analyze", Lease: time.Second, Claimed: "free", Units: 2},
			[]any{"lease/R", "done/R", "rests", "1000", "analyze", "0", "0", "free", "0 1 0 30000", ""}},
		{"reserve under a limit on units", &ReserveArgs{ID: "R", Endpoint: "analyze", Lease: time.Second, Claimed: "free", Units: 1,
			Limits: []quota.Limit{{Amount: 5, Period: quota.Month, Quantity: quota.Units, Soft: true}}, Allowed: []int64{5}},
			[]any{"lease/R", "done/R", "", "1000", "analyze", "0", "0", "free", "0 0 0 30000", "", "-1"}},
		{"terms", &TermsArgs{Terms: "m=15", Until: time.UnixMilli(77)}, []any{"m=15", "77", "-"}},
		{"terms of an account with nothing running", &TermsArgs{Terms: "m=15", Until: time.UnixMilli(77), Idle: &Looked{Windows: []string{"2026-11"}}}, []any{"m=15", "77", "1"}},
		{"settle", &SettleArgs{Count: true, Keep: 24 * time.Hour, Reservations: []*quota.Reservation{
			{Request: quota.Request{ID: "A", Endpoint: "analyze"}, Windows: []quota.Window{november}}, {Request: quota.Request{ID: "B", Endpoint: "report", Units: 8}, Unused: 5}}},
			[]any{"lease/A", "done/A", "0", "analyze", "1", "2026-11", retained, "lease/B", "done/B", "2", "report", "0", "0", ""}},
		{"settle in two steps", &SettleArgs{Count: true, Keep: 24 * time.Hour, WithPool: true, Reservations: []*quota.Reservation{
			{Request: quota.Request{ID: "A", Endpoint: "analyze", Units: 8, Lease: time.Second}, Unused: 8, Rest: 7, Windows: []quota.Window{november}}},
			Rests: []*quota.Reservation{{Request: quota.Request{ID: "B", Endpoint: "report", Units: 8, Lease: time.Minute}, Unused: 5, Rest: 5, RestCharged: 2, PoolWindows: []quota.Window{november}}}},
			[]any{"lease/A", "done/A", "+-1 7 30000", "analyze", "1", "2026-11", retained, "0", "rest/B", "paid/B", "+2 5", "report", "0", "1", "2026-11", retained, "0", ""}},
		{"keep", &KeepArgs{RetakeUntil: time.UnixMilli(77), WithPool: true, Rests: []*quota.Reservation{
			{Request: quota.Request{ID: "A", Endpoint: "analyze", Units: 8, Lease: time.Minute}, Unused: 7, Rest: 7, Windows: []quota.Window{november}, PoolWindows: []quota.Window{november}},
			{Request: quota.Request{ID: "B", Endpoint: "report", Units: 2, Lease: time.Second}, Unused: 1, Rest: 1}}},
			[]any{"77", "rest/A", "60000", "7", "analyze 2026-11", "analyze 2026-11", "rest/B", "30000", "1", "report", ""}},
		{"settle with a history", &SettleArgs{Count: true, Keep: 24 * time.Hour, HistoryDays: 35, WithPool: true, Reservations: []*quota.Reservation{
			{Request: quota.Request{ID: "A", Endpoint: "analyze"}, Windows: []quota.Window{november}, Date: 20786}, {Request: quota.Request{ID: "B", Endpoint: "report"}}}},
			[]any{"lease/A", "done/A", "0", "analyze", "1", "2026-11", retained, "0", "day/20786/analyze", "1799107200000",
				"lease/B", "done/B", "0", "report", "0", "0", "", "0", "0", ""}},
		{"release with a history", &SettleArgs{Indexes: "\x02\x03", HistoryDays: 35, Reservations: []*quota.Reservation{{Request: quota.Request{ID: "A", Endpoint: "analyze"}, Date: 20786}}},
			[]any{"lease/A", "done/A", "-", "analyze", "0", "0", "\x02\x03"}},
		{"release", &SettleArgs{Indexes: "\x02\x03", Forgotten: []string{"done/B", "done/C"}, Reservations: []*quota.Reservation{{Request: quota.Request{ID: "A", Endpoint: "analyze"}}}},
			[]any{"lease/A", "done/A", "-", "analyze", "0", "done/B", "done/C", "2", "\x02\x03"}},
	} {
		var got resp.Args
		c.args.AppendTo(&got)
		if diff := cmp.Diff(c.want, got.Values()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", c.name, diff)
		}
	}
}

// A Reading finds the fields that a script changes among those that are returned, and adds the others.
func TestReading(t *testing.T) {
	november := quota.NewCalendar(nil).WindowAt(quota.Month, time.Date(2026, time.November, 29, 0, 0, 0, 0, time.UTC))
	layout := Layout{From: time.UnixMilli(5), Till: time.UnixMilli(9), Limits: 1, Pairs: 1, Counters: []Counter{{Name: "2026-11"}, {Name: "2026-11/analyze"}}}
	windows := []quota.Window{november}
	for _, c := range []struct {
		name    string
		reading *Reading
		args    []any
		indexes string
	}{
		{"counts", layout.Reading(nil), []any{"5", "9", "3", "1", "used/2026-11", "held/2026-11", "used/2026-11/analyze"}, ""},
		{"to hold", layout.Reading(HeldFields("analyze", windows, false)), []any{"5", "9", "4", "1", "used/2026-11", "held/2026-11", "used/2026-11/analyze", "held/2026-11/analyze"}, "\x01\x02\x04"},
		{"to settle", layout.Reading(CountedFields("report", windows, 20786, 0, false)), []any{"5", "9", "6", "1", "used/2026-11", "held/2026-11", "used/2026-11/analyze", "used/2026-11/report", "day/20786/report", "held/2026-11/report"}, "\x03\x01\x04\x05\x02\x06"},
	} {
		if diff := cmp.Diff(c.args, c.reading.Args.Values()); diff != "" || c.reading.Indexes != c.indexes {
			t.Errorf("%s: indexes %q, want %q; -want +got:\n%s", c.name, c.reading.Indexes, c.indexes, diff)
		}
	}
	for i := range 300 { // more fields than a byte can number
		layout.Counters = append(layout.Counters, Counter{Name: "2026-11/" + strconv.Itoa(i)})
	}
	if r := layout.Reading(HeldFields("analyze", windows, false)); r.Indexes != "" || r.Args.Len() != 4+layout.Numbers() {
		t.Errorf("indexes %q of %d arguments", r.Indexes, r.Args.Len())
	}
}

func TestUserDigestIsThatOfTheKey(t *testing.T) {
	a, ok := UserDigest(Key("metergate", "a"))
	if b, okB := UserDigest(Key("other{prefix}", "a")); !ok || !okB || a != b {
		t.Errorf("the same user has the digests %x and %x (%v, %v)", a, b, ok, okB)
	}
	if b, _ := UserDigest(Key("metergate", "b")); a == b {
		t.Errorf("two users have the hash %x", a)
	}
	for _, key := range []string{"m:{text}", "m:{!!!!!!!!!!!!!!!!!!!!!!}", "m"} {
		if digest, ok := UserDigest(key); ok {
			t.Errorf("%s has the digest %x", key, digest)
		}
	}
}
