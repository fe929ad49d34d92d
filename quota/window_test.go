package quota_test

import (
	"testing"
	"time"

	"metergate/quota"
)

func TestWindowSeconds(t *testing.T) {
	const hour, day = 3600, 86400
	for _, tt := range []struct {
		zone   string
		period quota.Period
		at     string
		want   int64
	}{
		{"UTC", quota.Minute, "2026-11-24T12:00:00Z", 60},
		{"UTC", quota.Hour, "2026-11-24T12:00:00Z", hour},
		{"UTC", quota.Day, "2026-11-24T12:00:00Z", day},
		{"UTC", quota.Week, "2026-11-24T12:00:00Z", 7 * day},
		{"UTC", quota.Month, "2026-11-24T12:00:00Z", 30 * day},
		{"UTC", quota.Month, "2026-02-24T12:00:00Z", 28 * day},
		{"UTC", quota.Month, "2028-02-24T12:00:00Z", 29 * day},
		{"UTC", quota.Year, "2026-11-24T12:00:00Z", 365 * day},
		{"UTC", quota.Year, "2028-11-24T12:00:00Z", 366 * day},
		{"Europe/Berlin", quota.Day, "2026-03-29T12:00:00Z", 23 * hour},
		{"Europe/Berlin", quota.Day, "2026-10-25T12:00:00Z", 25 * hour},
		{"Europe/Berlin", quota.Month, "2026-10-25T12:00:00Z", 31*day + hour},
		{"Europe/Berlin", quota.Year, "2026-10-25T12:00:00Z", 365 * day},
		{"Australia/Lord_Howe", quota.Day, "2026-04-05T01:00:00Z", 24*hour + hour/2},
		{"Australia/Lord_Howe", quota.Hour, "2026-04-04T15:00:00Z", hour / 2},
		{"Australia/Lord_Howe", quota.Day, "2026-10-04T01:00:00Z", 24*hour - hour/2},
		{"America/St_Johns", quota.Hour, "2006-10-29T00:00:00-02:30", 60},
		{"America/St_Johns", quota.Hour, "2006-10-28T23:01:00-03:30", hour - 60},
		{"Pacific/Apia", quota.Week, "2011-12-29T12:00:00-10:00", 6 * day},
		{"Pacific/Apia", quota.Month, "2011-12-29T12:00:00-10:00", 30 * day},
	} {
		w := windowAt(tt.period, instant(t, tt.at), zone(t, tt.zone))
		if got := w.Seconds(); got != tt.want {
			t.Errorf("%s: the %v of %s has %d seconds, want %d", tt.zone, tt.period, tt.at, got, tt.want)
		}
	}
}

func TestWindowSecondsLeft(t *testing.T) {
	minute := windowAt(quota.Minute, instant(t, "2026-11-24T13:05:00Z"), nil)
	for _, tt := range []struct {
		at   string
		want int64
	}{
		{"2026-11-24T13:05:00Z", 60},
		{"2026-11-24T13:05:00.000000001Z", 60},
		{"2026-11-24T13:05:29.4Z", 31},
		{"2026-11-24T13:05:30Z", 30},
		{"2026-11-24T13:05:59Z", 1},
		{"2026-11-24T13:05:59.999999999Z", 1},
		{"2026-11-24T13:06:00Z", 0},
		{"2026-11-24T13:06:00.5Z", 0},
		{"2026-11-25T00:00:00Z", 0},
		{"2026-11-24T13:04:59.5Z", 61},
	} {
		if got := minute.SecondsLeft(instant(t, tt.at)); got != tt.want {
			t.Errorf("at %s, SecondsLeft of 13:05 is %d, want %d", tt.at, got, tt.want)
		}
	}
}

func TestWindowRetainedUntil(t *testing.T) {
	const hour, day = time.Hour, 24 * time.Hour
	at := instant(t, "2026-11-24T13:05:00Z")
	for _, tt := range []struct {
		period     quota.Period
		keep, want time.Duration // want: after the window's end
	}{
		{quota.Minute, 400 * day, 2 * hour},
		{quota.Minute, 2 * hour, 2 * hour},
		{quota.Minute, 90 * time.Minute, 90 * time.Minute},
		{quota.Hour, 400 * day, day},
		{quota.Hour, day, day},
		{quota.Hour, 2 * hour, 2 * hour},
		{quota.Day, 400 * day, 400 * day},
		{quota.Week, 400 * day, 400 * day},
		{quota.Month, 400 * day, 400 * day},
		{quota.Year, 400 * day, 400 * day},
		{quota.Day, 2 * hour, 2 * hour},
		{quota.Year, day, day},
	} {
		w := windowAt(tt.period, at, nil)
		if got := w.RetainedUntil(tt.keep); !got.Equal(w.End.Add(tt.want)) {
			t.Errorf("a %v is kept until %v after its end with keep %v, want %v", tt.period, got.Sub(w.End), tt.keep, tt.want)
		}
	}
	// A request that is admitted at a window's last instant holds and counts its unit there
	// until its lease ends: the longest timeout of an upstream plus 10 s. A configuration
	// cannot keep counts for less than a day.
	const lease = hour + 10*time.Second
	for _, keep := range []time.Duration{day, 31 * day, 400 * day, 3650 * day} {
		for _, period := range periods {
			w := windowAt(period, at, nil)
			if got := w.RetainedUntil(keep); !got.After(w.End.Add(lease)) {
				t.Errorf("a %v is deleted %v after its end with keep %v, while leases can still count in it", period, got.Sub(w.End), keep)
			}
		}
	}
}
