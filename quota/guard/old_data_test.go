package guard_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/testkit"
)

// The journal that release 0.1.0 left when it was killed in an outage is replayed: each
// entry is counted once, in the windows in which its request was admitted, also when the
// file is replayed a second time. See testdata/README.md for what is in it.
func TestReleaseJournalIsReplayed(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("testdata", "0.1.0", "journal.db"))
	if err != nil {
		t.Fatal(err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	const keep = 400 * 24 * time.Hour
	now := time.Date(2026, time.December, 3, 9, 0, 0, 0, berlin) // in the next month
	calendar := quota.NewCalendar(berlin)
	local, err := boltstore.Open(t.TempDir(), boltstore.Options{Calendar: calendar, Keep: keep, Now: func() time.Time { return now }})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	p, err := quota.NewPlan(quota.PlanOptions{Name: "free", Endpoints: []string{"analyze", "report"}, WarnAt: 80,
		Limits: []quota.Limit{{Amount: 100, Period: quota.Month}, {Amount: 50, Period: quota.Day}, {Amount: 20000, Period: quota.Year}}})
	if err != nil {
		t.Fatal(err)
	}
	for replay := range 2 {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "journal.db"), data, 0o600); err != nil {
			t.Fatal(err)
		}
		s := open(t, guard.Options{Backend: local, Journal: openJournal(t, dir), Timeout: time.Second, Calendar: calendar, Keep: keep})
		testkit.Eventually(t, "the journal is replayed", func() bool { return s.Stats().Backlog == 0 })
		if st := s.Stats(); st.Replayed != 21 || st.Dropped != 0 {
			t.Errorf("replay %d: %d replayed, %d dropped; want 21 and 0", replay, st.Replayed, st.Dropped)
		}
		for user, want := range map[string]struct{ analyze, report, day, year int64 }{
			"anna": {4, 1, 5, 0},
			"bert": {0, 6, 6, 0},
			"carl": {7, 3, 0, 10}, // whose plan had a year, and no day
		} {
			snap, err := s.ReadAt(ctx, user, p.OnlyChoice(), time.Date(2026, time.November, 29, 12, 0, 0, 0, berlin))
			if err != nil {
				t.Fatal(err)
			}
			if got := snap.Endpoints; got[0] != want.analyze || got[1] != want.report || snap.Total.Used != want.analyze+want.report ||
				snap.Limits[1].Used != want.day || snap.Limits[2].Used != want.year {
				t.Errorf("replay %d: %s has used %v, %d in the day and %d in the year; want %+v", replay, user, got, snap.Limits[1].Used, snap.Limits[2].Used, want)
			}
			if now, err := s.Read(ctx, user, p.OnlyChoice()); err != nil || now.Total.Used != 0 {
				t.Errorf("replay %d: %s has used %d in December, error %v; want 0", replay, user, now.Total.Used, err)
			}
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
