package quota_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"metergate/quota"
)

// Every window is found by its ID.
func TestWindowByIDFindsEveryWindow(t *testing.T) {
	var calendars []*quota.Calendar
	for _, zone := range []string{"UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "Pacific/Apia", "Asia/Kathmandu"} {
		loc, err := time.LoadLocation(zone)
		if err != nil {
			t.Fatal(err)
		}
		calendars = append(calendars, quota.NewCalendar(loc))
	}
	rapid.Check(t, func(t *rapid.T) {
		c := rapid.SampledFrom(calendars).Draw(t, "calendar")
		at := time.Unix(rapid.Int64Range(0, 4_000_000_000).Draw(t, "at"), 0)
		period := rapid.SampledFrom(periods).Draw(t, "period")
		want := c.WindowAt(period, at)
		got, err := c.WindowByID(want.ID)
		if err != nil || got.Period != want.Period || got.ID != want.ID || !got.Start.Equal(want.Start) || !got.End.Equal(want.End) {
			t.Fatalf("%s is found as %+v, error %v; want %+v", want.ID, got, err, want)
		}
	})
}

func TestWindowByIDReadsShortForms(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	c := quota.NewCalendar(berlin)
	for id, want := range map[string]string{
		"2026":                  "2026",
		"2026-10":               "2026-10",
		"2026-W41":              "2026-W41",
		"2026-W53":              "2026-W53",
		"2026-10-03":            "2026-10-03",
		"2026-10-03T14":         "2026-10-03T14+0200",
		"2026-12-03T14":         "2026-12-03T14+0100",
		"2026-12-03T14:05":      "2026-12-03T14:05+0100",
		"2026-12-03T14+0100":    "2026-12-03T14+0100",
		"2026-10-25T02+0100":    "2026-10-25T02+0100", // happens twice
		"2026-10-25T02+0200":    "2026-10-25T02+0200",
		"2026-10-25T02:30+0100": "2026-10-25T02:30+0100",
	} {
		if w, err := c.WindowByID(id); err != nil || w.ID != want {
			t.Errorf("%s is found as %s, error %v; want %s", id, w.ID, err, want)
		}
	}
	for _, id := range []string{
		"", "now", "26", "2026-1", "2026-13", "2026-00", "2026-02-30", "2026-W00", "2027-W53", "2026-W54", "2026-w41",
		"2026-10-03T24", "2026-10-03T14:60", "2026-10-03 14", "2026-10-03T14Z", "2026-12-03T14+0000", // Berlin never has this offset
		"2026-03-29T02", // skipped
		"2026-10-03T14:05:00", "2026-10-03T14:05:00Z", " 2026", "2026\n", "-2026", "２０２６", "2026-10-03T14+01:00",
	} {
		if w, err := c.WindowByID(id); err == nil {
			t.Errorf("%q is found as %+v", id, w)
		}
	}
}

// Every window of an account is found by its ID, as long as its terms say which there are. Without them
// it has its ID and start.
func TestTermsFindEveryWindow(t *testing.T) {
	c := quota.NewCalendar(nil)
	rapid.Check(t, func(t *rapid.T) {
		at := time.Unix(rapid.Int64Range(1_000_000_000, 2_000_000_000).Draw(t, "at"), 0)
		var terms quota.Terms
		for range rapid.IntRange(1, 3).Draw(t, "anchors") {
			a := quota.NewAnchor(rapid.IntRange(1, 31).Draw(t, "day"), time.Month(rapid.IntRange(0, 12).Draw(t, "month")))
			terms = terms.SetAnchor(&a, c, at, quota.Activity{Held: true})
			at = at.Add(time.Duration(rapid.IntRange(0, 500).Draw(t, "days")) * 24 * time.Hour)
		}
		period := rapid.SampledFrom(periods).Draw(t, "period")
		want := terms.WindowAt(c, period, at)
		if got, err := terms.WindowByID(c, want.ID); err != nil || got != want {
			t.Fatalf("%s is found as %+v, error %v; want %+v", want.ID, got, err, want)
		}
		got, err := quota.Terms{}.WindowByID(c, want.ID)
		if err != nil || got.ID != want.ID || got.Period != want.Period || !got.End.After(got.Start) {
			t.Fatalf("without terms, %s is found as %+v, error %v", want.ID, got, err)
		}
	})
}
