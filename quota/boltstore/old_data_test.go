package boltstore

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"metergate/quota"
)

// openRelease opens a copy of the file that a release has written, see testdata/README.md.
// Its windows are in Berlin's time. The clock stands shortly after the file was written.
func openRelease(t *testing.T, release string, historyDays int) (*Store, *time.Location) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", release, fileName))
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, fileName), data, 0o600); err != nil {
		t.Fatal(err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Date(2026, time.November, 29, 11, 10, 0, 0, berlin)
	return open(t, dir, Options{Calendar: quota.NewCalendar(berlin), HistoryDays: historyDays, Now: func() time.Time { return now }}), berlin
}

// releasePlans are the plans of the configuration with which the file was written.
func releasePlans(t *testing.T) (free, pro quota.PlanChoice) {
	t.Helper()
	newPlan := func(name string, limits ...quota.Limit) *quota.Plan {
		p, err := quota.NewPlan(quota.PlanOptions{Name: name, Limits: limits, Endpoints: []string{"analyze", "report"}, WarnAt: 80})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	plans := map[string]*quota.Plan{
		"free": newPlan("free", quota.Limit{Amount: 100, Period: quota.Month}, quota.Limit{Amount: 50, Period: quota.Day},
			quota.Limit{Amount: 20, Period: quota.Month, Endpoint: "report"}),
		"pro": newPlan("pro", quota.Limit{Amount: 5000, Period: quota.Month}, quota.Limit{Amount: 600, Period: quota.Minute},
			quota.Limit{Amount: 20000, Period: quota.Year}),
	}
	return quota.PlanChoice{Claimed: plans["free"], ByName: plans}, quota.PlanChoice{Claimed: plans["pro"], ByName: plans}
}

// The counts are those of the requests that were made: 2xx count, the 500 does not, and
// neither does the request that was in flight when the gateway was killed.
func TestReleaseDataHasItsCounts(t *testing.T) {
	s, berlin := openRelease(t, "0.1.0", 0)
	free, pro := releasePlans(t)
	year2025, october := time.Date(2025, 12, 31, 23, 0, 0, 0, berlin), time.Date(2026, 10, 14, 9, 0, 0, 0, berlin)
	for _, test := range []struct {
		user            string
		plans           quota.PlanChoice
		at              time.Time // zero: now
		analyze, report int64     // used in the month
		limits          []int64   // used in the window of each limit
	}{
		{"anna", free, time.Time{}, 5, 2, []int64{7, 7, 2}},
		{"bert", free, time.Time{}, 0, 3, []int64{3, 0, 0}},   // now pro; a request counts in the periods of its own plan, and free had no year
		{"carl", pro, time.Time{}, 1, 0, []int64{1, 0, 1}},    // after a reset of all running windows
		{"dora", free, time.Time{}, 2, 0, []int64{2, 0, 2}},   // pro before these two; October's was under free
		{"emil", free, time.Time{}, 40, 2, []int64{42, 0, 2}}, // imported
		{"anna", free, october, 7, 2, []int64{9, 9, 2}},
		{"carl", pro, october, 0, 4, []int64{4, 0, 1}},
		{"anna", free, year2025, 3, 0, []int64{3, 3, 0}},
		{"carl", pro, year2025, 2, 0, []int64{2, 0, 2}},
		{"nobody", free, time.Time{}, 0, 0, []int64{0, 0, 0}},
	} {
		read := func() (quota.Snapshot, error) { return s.Read(ctx, test.user, test.plans) }
		if !test.at.IsZero() {
			read = func() (quota.Snapshot, error) { return s.ReadAt(ctx, test.user, test.plans, test.at) }
		}
		snap, err := read()
		if err != nil {
			t.Errorf("%s at %v: %v", test.user, test.at, err)
			continue
		}
		var limits []int64
		for _, c := range snap.Limits {
			limits = append(limits, c.Used)
		}
		if got := snap.Endpoints; !slices.Equal(got, []int64{test.analyze, test.report}) || !slices.Equal(limits, test.limits) || snap.Total.Held != 0 {
			t.Errorf("%s at %v: used %v, in the limits %v, held %d; want %d and %d, %v, 0",
				test.user, test.at, got, limits, snap.Total.Held, test.analyze, test.report, test.limits)
		}
	}
}

func TestReleaseDataHasItsChanges(t *testing.T) {
	s, _ := openRelease(t, "0.1.0", 0)
	free, _ := releasePlans(t)
	read := func(user string) quota.Snapshot {
		t.Helper()
		snap, err := s.Read(ctx, user, free)
		if err != nil {
			t.Fatal(err)
		}
		return snap
	}
	if anna := read("anna"); anna.Limits[0].Granted != 25 || anna.Limits[1].Granted != 0 || anna.Limits[2].Granted != 5 {
		t.Errorf("anna was granted %+v, want 25, 0 and 5", anna.Limits)
	}
	if bert := read("bert"); bert.Plan.Name() != "pro" || !bert.Override.Until.Equal(time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("bert's plan is %s by %+v", bert.Plan.Name(), bert.Override)
	}
	if dora := read("dora"); dora.Plan.Name() != "pro" || !dora.Override.Until.IsZero() {
		t.Errorf("dora's plan is %s by %+v", dora.Plan.Name(), dora.Override)
	}
	for user, want := range map[string][]quota.Change{
		"anna": {{Action: quota.ActionGrant, Requests: 5, Endpoint: "report", Period: quota.Month, Reason: "goodwill"},
			{Action: quota.ActionGrant, Requests: 25, Period: quota.Month, Reason: "support ticket 17", ID: "ticket-17"}},
		"bert": {{Action: quota.ActionSetPlan, Plan: "pro", Until: time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC), Reason: "trial"}},
		"carl": {{Action: quota.ActionReset, Reason: "was our fault"}},
		"dora": {{Action: quota.ActionSetPlan, Plan: "pro", Reason: "partner"}},
		"emil": {{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 40, "report": 2}, Reason: "import"}},
	} {
		entries, err := s.AuditLog(ctx, user)
		if err != nil || len(entries) != len(want) {
			t.Errorf("%s: audit log %+v, error %v; want %+v", user, entries, err, want)
			continue
		}
		for i, e := range entries {
			e.By = ""
			if e.Fingerprint() != want[i].Fingerprint() || e.Reason != want[i].Reason || e.ID != want[i].ID {
				t.Errorf("%s: entry %d is %+v, want %+v", user, i, e.Change, want[i])
			}
			if age := s.now().Sub(e.At); age < 0 || age > 2*time.Minute {
				t.Errorf("%s: entry %d was made at %v", user, i, e.At)
			}
		}
	}
	for user, want := range map[string]string{"anna": "free", "bert": "free", "carl": "pro", "emil": ""} {
		if got, err := s.ClaimedPlan(ctx, user); err != nil || got != want {
			t.Errorf("%s claimed %q, error %v; want %q", user, got, err, want)
		}
	}
}

// A gateway of this version goes on counting in the file, and still knows the id of a
// change that the release has made.
func TestReleaseDataIsCountedOn(t *testing.T) {
	s, berlin := openRelease(t, "0.1.0", 0)
	free, pro := releasePlans(t)
	grant := quota.Change{Action: quota.ActionGrant, Requests: 25, ID: "ticket-17"}
	snap, err := s.ApplyChange(ctx, "anna", free, grant)
	if err != nil || snap.Limits[0].Granted != 25 {
		t.Errorf("the same grant again: %d granted, error %v; want 25", snap.Limits[0].Granted, err)
	}
	r := quota.Request{ID: quota.NewID(), User: "anna", Endpoint: "report", Plans: free, Lease: time.Minute}
	count(t, s, admit(t, s, r))
	if snap, err := s.Read(ctx, "anna", free); err != nil || snap.Total.Used != 8 || snap.Limits[2].Used != 3 {
		t.Errorf("one request later: %+v, error %v; want 8 used, 3 of them of report", snap, err)
	}
	users := map[string]int64{}
	err = s.ScanUsers(ctx, quota.WindowQuery{Period: quota.Month, At: time.Date(2026, 10, 20, 0, 0, 0, 0, berlin)}, func(u quota.UserUsage) error {
		users[u.User] = u.Used
		return nil
	})
	if err != nil || len(users) != 3 || users["anna"] != 9 || users["carl"] != 4 || users["dora"] != 1 {
		t.Errorf("users of October: %v, error %v", users, err)
	}
	if snap, err := s.ApplyChange(ctx, "carl", pro, quota.Change{Action: quota.ActionReset}); err != nil || snap.Total.Used != 0 {
		t.Errorf("after a reset %d are used, error %v", snap.Total.Used, err)
	}
}

// Each request that the release has counted is one unit when costs are turned on, and units are
// counted on from there.
func TestReleaseDataCountsInUnits(t *testing.T) {
	s, _ := openRelease(t, "0.1.0", 0)
	p, err := quota.NewPlan(quota.PlanOptions{
		Name: "free", Endpoints: []string{"analyze", "report"}, WarnAt: 80, Costs: map[string]quota.Cost{"report": {Min: 1, Max: 5}},
		Limits: []quota.Limit{{Amount: 12, Period: quota.Month, Quantity: quota.Units}, {Amount: 100, Period: quota.Month}},
	})
	if err != nil {
		t.Fatal(err)
	}
	wantUnits := func(used, requests, reports int64) {
		t.Helper()
		snap, err := s.Read(ctx, "anna", p.OnlyChoice())
		if err != nil {
			t.Fatal(err)
		}
		units, all := snap.Limits[0], snap.Limits[1]
		if units.Used != used || units.Granted != 0 || all.Used != requests || all.Granted != 25 || snap.EndpointUnits[1] != reports {
			t.Errorf("anna: %+v in units, %+v in requests, %d units of report; want %d, %d with 25 granted, %d", units, all, snap.EndpointUnits[1], used, requests, reports)
		}
	}
	wantUnits(7, 7, 2)
	report := quota.Request{ID: quota.NewID(), User: "anna", Endpoint: "report", Plans: p.OnlyChoice(), Units: 6, Lease: time.Minute}
	if d, err := s.Reserve(ctx, report); err != nil || d.Admitted {
		t.Errorf("6 units where 5 are left: admitted %v, error %v", d.Admitted, err)
	}
	report.Units = 5
	r := admit(t, s, report)
	r.Unused = 1
	count(t, s, r)
	wantUnits(11, 8, 6)
}
