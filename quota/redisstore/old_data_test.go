package redisstore

import (
	"errors"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
)

// releaseWritten is when testdata/0.1.0/redis.txt was written.
var releaseWritten = time.UnixMilli(1795948516853)

// openRelease opens a store on a Redis that has what release 0.1.0 has written, see
// testdata/README.md. The store's time is the clock's, which stands a second after the data was
// written. Keys expire as long after now as they would have expired after that.
func openRelease(t *testing.T) (*Store, *quotatest.Clock) {
	t.Helper()
	data, err := os.ReadFile("testdata/0.1.0/redis.txt")
	if err != nil {
		t.Fatal(err)
	}
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	clock := quotatest.NewClock(releaseWritten.Add(time.Second))
	s := openWith(t, Options{
		URL: redistest.Start(t).URL(), Timeout: patient, Calendar: quota.NewCalendar(berlin), Now: clock.Now,
		Offset: func() time.Duration { return time.Until(clock.Now()) },
	})
	later := time.Since(releaseWritten).Milliseconds()
	for line := range strings.Lines(string(data)) {
		words := strings.SplitN(strings.TrimSpace(line), " ", 4)
		switch {
		case words[0] == "" || words[0] == "#":
		case words[0] == "HSET" && len(words) == 4:
			value, err := strconv.Unquote(words[3])
			if err == nil {
				err = commands(s).HSet(ctx, words[1], words[2], value).Err()
			}
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		case words[0] == "PEXPIREAT" && len(words) == 3:
			ms, err := strconv.ParseInt(words[2], 10, 64)
			if err == nil {
				err = commands(s).PExpireAt(ctx, words[1], time.UnixMilli(ms+later)).Err()
			}
			if err != nil {
				t.Fatalf("%s: %v", line, err)
			}
		default:
			t.Fatalf("no command: %s", line)
		}
	}
	return s, clock
}

// releasePlans returns the plans of the configuration with which the data was written.
func releasePlans(t *testing.T) (free, pro quota.PlanChoice) {
	t.Helper()
	newPlan := func(name string, attempts quota.AttemptLimit, limits ...quota.Limit) *quota.Plan {
		p, err := quota.NewPlan(quota.PlanOptions{Name: name, Limits: limits, Attempts: attempts, Endpoints: []string{"analyze", "report"}, WarnAt: 80})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	plans := map[string]*quota.Plan{
		"free": newPlan("free", quota.AttemptLimit{Requests: 120, Per: 24 * time.Hour}, quota.Limit{Amount: 100, Period: quota.Month},
			quota.Limit{Amount: 50, Period: quota.Day}, quota.Limit{Amount: 20, Period: quota.Month, Endpoint: "report"}),
		"pro": newPlan("pro", quota.AttemptLimit{}, quota.Limit{Amount: 5000, Period: quota.Month}, quota.Limit{Amount: 600, Period: quota.Minute},
			quota.Limit{Amount: 20000, Period: quota.Year}),
	}
	return quota.PlanChoice{Claimed: plans["free"], ByName: plans}, quota.PlanChoice{Claimed: plans["pro"], ByName: plans}
}

// TestReleaseDataHasItsCounts expects the counts of the requests that were made: those with a
// 2xx, without those before a reset.
func TestReleaseDataHasItsCounts(t *testing.T) {
	s, clock := openRelease(t)
	free, pro := releasePlans(t)
	berlin := s.calendar.Location()
	year2025, october := time.Date(2025, 12, 31, 23, 0, 0, 0, berlin), time.Date(2026, 10, 14, 9, 0, 0, 0, berlin)
	for _, test := range []struct {
		user            string
		plans           quota.PlanChoice
		at              time.Time // zero: now
		analyze, report int64     // used in the month
		held            int64
		limits          []int64 // used in the window of each limit
	}{
		{"anna", free, time.Time{}, 5, 2, 1, []int64{7, 7, 2}},   // one is still in flight
		{"bert", free, time.Time{}, 0, 3, 0, []int64{3, 0, 0}},   // now pro; counted under free, which has no year
		{"carl", pro, time.Time{}, 1, 0, 0, []int64{1, 1, 1}},    // after a reset
		{"dora", free, time.Time{}, 2, 0, 0, []int64{2, 2, 2}},   // pro before these two
		{"emil", free, time.Time{}, 40, 2, 0, []int64{42, 0, 2}}, // an import sets the month only
		{"finn", free, time.Time{}, 1, 1, 0, []int64{2, 2, 1}},
		{"anna", free, october, 7, 2, 0, []int64{9, 9, 2}},
		{"carl", pro, october, 0, 4, 0, []int64{4, 0, 1}},
		{"anna", free, year2025, 3, 0, 0, []int64{3, 3, 0}},
		{"carl", pro, year2025, 2, 0, 0, []int64{2, 0, 2}},
		{"nobody", free, time.Time{}, 0, 0, 0, []int64{0, 0, 0}},
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
		if got := snap.Endpoints; !slices.Equal(got, []int64{test.analyze, test.report}) || !slices.Equal(limits, test.limits) || snap.Total.Held != test.held {
			t.Errorf("%s at %v: used %v, in the limits %v, held %d; want %d and %d, %v, %d",
				test.user, test.at, got, limits, snap.Total.Held, test.analyze, test.report, test.limits, test.held)
		}
	}
	for _, test := range []struct {
		at   time.Time
		want map[string]int64
	}{
		{clock.Now(), map[string]int64{"anna": 7, "bert": 3, "carl": 1, "dora": 2, "emil": 42, "finn": 2}},
		{october, map[string]int64{"anna": 9, "carl": 4, "dora": 1}},
	} {
		found := map[string]int64{}
		err := s.ScanUsers(ctx, quota.WindowQuery{Period: quota.Month, At: test.at}, func(u quota.UserUsage) error { found[u.User] = u.Used; return nil })
		if err != nil || !maps.Equal(found, test.want) {
			t.Errorf("a scan of the month of %v finds %v, error %v; want %v", test.at, found, err, test.want)
		}
	}
}

// TestReleaseDataHasItsChanges expects what administrators have changed.
func TestReleaseDataHasItsChanges(t *testing.T) {
	s, clock := openRelease(t)
	free, _ := releasePlans(t)
	read := func(user string) quota.Snapshot {
		t.Helper()
		snap, err := s.Read(ctx, user, free)
		if err != nil {
			t.Fatal(err)
		}
		return snap
	}
	march := time.Date(2027, 3, 1, 0, 0, 0, 0, time.UTC)
	if anna := read("anna"); anna.Limits[0].Granted != 25 || anna.Limits[1].Granted != 0 || anna.Limits[2].Granted != 5 {
		t.Errorf("anna was granted %+v, want 25, 0 and 5", anna.Limits)
	}
	if bert := read("bert"); bert.Plan.Name() != "pro" || !bert.Override.Until.Equal(march) {
		t.Errorf("bert's plan is %s by %+v", bert.Plan.Name(), bert.Override)
	}
	if dora := read("dora"); dora.Plan.Name() != "pro" || !dora.Override.Until.IsZero() {
		t.Errorf("dora's plan is %s by %+v", dora.Plan.Name(), dora.Override)
	}
	for user, want := range map[string][]quota.Change{
		"anna": {{Action: quota.ActionGrant, Requests: 5, Endpoint: "report", Period: quota.Month, Reason: "goodwill"},
			{Action: quota.ActionGrant, Requests: 25, Period: quota.Month, Reason: "support ticket 17", ID: "ticket-17"}},
		"bert": {{Action: quota.ActionSetPlan, Plan: "pro", Until: march, Reason: "trial"}},
		"carl": {{Action: quota.ActionReset}},
		"dora": {{Action: quota.ActionSetPlan, Plan: "pro", Reason: "partner"}},
		"emil": {{Action: quota.ActionSetCounts, Period: quota.Month, Counts: map[string]int64{"analyze": 40, "report": 2}, Reason: "import"}},
		"finn": nil,
	} {
		entries, err := s.AuditLog(ctx, user)
		if err != nil || len(entries) != len(want) {
			t.Errorf("%s: audit log %+v, error %v; want %+v", user, entries, err, want)
			continue
		}
		for i, e := range entries {
			if e.Fingerprint() != want[i].Fingerprint() || e.Reason != want[i].Reason || e.ID != want[i].ID {
				t.Errorf("%s: entry %d is %+v, want %+v", user, i, e.Change, want[i])
			}
			if age := clock.Now().Sub(e.At); age < 0 || age > 2*time.Minute {
				t.Errorf("%s: entry %d was made at %v", user, i, e.At)
			}
		}
	}
	for user, want := range map[string]string{"anna": "free", "bert": "free", "carl": "pro", "dora": "free", "emil": "", "finn": "free"} {
		if got, err := s.ClaimedPlan(ctx, user); err != nil || got != want {
			t.Errorf("%s claimed %q, error %v; want %q", user, got, err, want)
		}
	}
}

// releaseIDs returns the ids of a user's fields with a prefix, in their order.
func releaseIDs(t *testing.T, s *Store, user, prefix string) (ids []string) {
	t.Helper()
	for field := range userHash(t, s, user) {
		if id, ok := strings.CutPrefix(field, prefix); ok {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	return ids
}

// TestReleaseDataKeepsItsReservations checks that what a gateway of the release was doing when
// it was killed can be settled, and counts once.
func TestReleaseDataKeepsItsReservations(t *testing.T) {
	s, clock := openRelease(t)
	free, _ := releasePlans(t)
	windows := s.calendar.WindowsAt(free.Claimed.Periods(), clock.Now())
	reservation := func(user, id string) *quota.Reservation {
		return &quota.Reservation{Request: quota.Request{ID: id, User: user, Endpoint: "analyze", Plans: free, Lease: time.Minute}, Plan: free.Claimed, Windows: windows}
	}
	done := releaseIDs(t, s, "finn", "done/")
	if len(done) != 3 {
		t.Fatalf("finn has the markers %v, want 3", done)
	}
	for _, id := range done {
		if snap, err := s.Commit(ctx, reservation("finn", id)); err != nil || snap.Total.Used != 2 {
			t.Errorf("a settled request was committed again: %d used, error %v; want 2", snap.Total.Used, err)
		}
		if _, err := s.Reserve(ctx, reservation("finn", id).Request); !errors.Is(err, quota.ErrSettled) {
			t.Errorf("a settled request was reserved again: error %v, want %v", err, quota.ErrSettled)
		}
	}
	held := releaseIDs(t, s, "anna", "lease/")
	if len(held) != 1 {
		t.Fatalf("anna holds %v, want 1", held)
	}
	for range 2 {
		if snap, err := s.Commit(ctx, reservation("anna", held[0])); err != nil || snap.Total.Used != 8 || snap.Total.Held != 0 {
			t.Errorf("a request in flight was committed: %d used, %d held, error %v; want 8 and 0", snap.Total.Used, snap.Total.Held, err)
		}
	}
	if n := s.LostHolds(); n != 0 {
		t.Errorf("%d holds were lost, want 0", n)
	}
}

// TestReleaseDataLosesItsHold checks that what the killed gateway was holding comes back when
// the lease has run out.
func TestReleaseDataLosesItsHold(t *testing.T) {
	s, clock := openRelease(t)
	free, _ := releasePlans(t)
	clock.Advance(130 * time.Second) // the timeout of 120 s and 10 s
	snap, err := s.Read(ctx, "anna", free)
	if err != nil || snap.Total.Used != 7 || snap.Total.Held != 0 || s.ExpiredHolds() != 1 {
		t.Errorf("%d used, %d held, %d expired, error %v; want 7, 0 and 1", snap.Total.Used, snap.Total.Held, s.ExpiredHolds(), err)
	}
}

// TestReleaseDataIsCountedOn checks that a gateway of this version goes on with the counts, the
// attempts and the ids of changes of the release.
func TestReleaseDataIsCountedOn(t *testing.T) {
	s, _ := openRelease(t)
	free, _ := releasePlans(t)
	bucket := bucketOf(free.Claimed)
	before := userHash(t, s, "anna")
	d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "anna", Endpoint: "report", Plans: free, Lease: time.Minute})
	if err != nil || !d.Admitted || d.Snapshot.Total.Held != 2 {
		t.Fatalf("admitted %v with %d held, error %v; want 2", d.Admitted, d.Snapshot.Total.Held, err)
	}
	if snap, err := s.Commit(ctx, &d.Reservation); err != nil || snap.Total.Used != 8 || snap.Endpoints[1] != 3 {
		t.Errorf("%d used, %v by endpoint, error %v; want 8 and 3 of report", snap.Total.Used, snap.Endpoints, err)
	}
	after := userHash(t, s, "anna")
	full, err := strconv.ParseInt(before[bucket], 10, 64)
	if err != nil {
		t.Fatalf("anna has no bucket %s: %v", bucket, before)
	}
	if want := strconv.FormatInt(full+(12*time.Minute).Microseconds(), 10); after[bucket] != want { // 120 a day
		t.Errorf("after one more attempt the bucket is full at %s, want %s", after[bucket], want)
	}
	again := quota.Change{Action: quota.ActionGrant, Requests: 25, ID: "ticket-17"}
	if snap, err := s.ApplyChange(ctx, "anna", free, again); err != nil || snap.Limits[0].Granted != 25 {
		t.Errorf("the same change again: %d granted, error %v; want 25", snap.Limits[0].Granted, err)
	}
	again.Requests = 26
	if _, err := s.ApplyChange(ctx, "anna", free, again); !errors.Is(err, quota.ErrIDConflict) {
		t.Errorf("another change with its id: error %v, want %v", err, quota.ErrIDConflict)
	}
	ttl, err := commands(s).PTTL(ctx, script.Key("metergate", "dora")).Result()
	if err != nil || ttl != -1 {
		t.Errorf("the key with an endless override lives for %v, error %v", ttl, err)
	}
}

// TestReleaseDataCountsInUnits checks that each request that the release has counted, or holds, is
// one unit when costs are turned on, and that units are counted on from there.
func TestReleaseDataCountsInUnits(t *testing.T) {
	s, clock := openRelease(t)
	p, err := quota.NewPlan(quota.PlanOptions{
		Name: "free", Endpoints: []string{"analyze", "report"}, WarnAt: 80, Costs: map[string]quota.Cost{"report": {Min: 1, Max: 5}},
		Limits: []quota.Limit{{Amount: 12, Period: quota.Month, Quantity: quota.Units}, {Amount: 100, Period: quota.Month}},
	})
	if err != nil {
		t.Fatal(err)
	}
	wantUnits := func(used, held, requests, granted, reports int64) {
		t.Helper()
		snap, err := s.Read(ctx, "anna", p.OnlyChoice())
		if err != nil {
			t.Fatal(err)
		}
		units, all := snap.Limits[0], snap.Limits[1]
		if units.Used != used || units.Held != held || units.Granted != 0 || all.Used != requests || all.Granted != granted || snap.EndpointUnits[1] != reports {
			t.Errorf("anna: %+v in units, %+v in requests, %d units of report; want %d used and %d held, %d requests with %d granted, %d", units, all, snap.EndpointUnits[1], used, held, requests, granted, reports)
		}
	}
	wantUnits(7, 1, 7, 25, 2)
	report := quota.Request{ID: quota.NewID(), User: "anna", Endpoint: "report", Plans: p.OnlyChoice(), Units: 5, Lease: 10 * time.Minute}
	if d, err := s.Reserve(ctx, report); err != nil || d.Admitted {
		t.Errorf("5 units where 4 are left: admitted %v, error %v", d.Admitted, err)
	}
	report.Units = 4
	d, err := s.Reserve(ctx, report)
	if err != nil || !d.Admitted {
		t.Fatalf("4 units where 4 are left: admitted %v, error %v", d.Admitted, err)
	}
	wantUnits(7, 5, 7, 25, 2)
	clock.Advance(130 * time.Second) // what the killed gateway of the release was holding has ended
	wantUnits(7, 4, 7, 25, 2)
	d.Reservation.Unused = 1
	if _, err := s.Commit(ctx, &d.Reservation); err != nil {
		t.Fatal(err)
	}
	wantUnits(10, 0, 8, 25, 5)
}
