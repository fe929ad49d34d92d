package redisstore

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
)

// settleUnits reserves n units of a user, gives the first back, counts the second, and so on.
func settleUnits(t testing.TB, s *Store, user string, n int) (settled []quota.Reservation) {
	t.Helper()
	for i := range n {
		r := mustReserve(t, s, user)
		if _, err := settleBy(s, &r, i%2 == 1); err != nil {
			t.Fatal(err)
		}
		settled = append(settled, r)
	}
	return settled
}

// countMarkers returns how many settled reservations of a user Redis remembers.
func countMarkers(t testing.TB, s *Store, user string) (n int) {
	t.Helper()
	fields, err := commands(s).HKeys(ctx, key(s, user)).Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fields {
		if strings.HasPrefix(f, "done/") {
			n++
		}
	}
	return n
}

func TestForgetDeletesMarkersAfterTwoTurns(t *testing.T) {
	s := openWith(t, Options{URL: redistest.Start(t).URL(), Timeout: patient, markersEvery: time.Hour})
	var remembered []quota.Reservation
	for user := range 3 {
		name := fmt.Sprint("user-", user)
		settled := settleUnits(t, s, name, 20)
		for _, r := range settled[2:] {
			s.Forget(&r)
		}
		remembered = append(remembered, settled[:2]...)
		if n := countMarkers(t, s, name); n != 20 {
			t.Errorf("%s: %d markers after 20 were settled, want 20", name, n)
		}
	}
	// In one turn they become old, in the next they go.
	s.deleteMarkers(s.markers.takeDue())
	if n := countMarkers(t, s, "user-0"); n != 20 {
		t.Errorf("%d markers after one turn, want 20", n)
	}
	s.deleteMarkers(s.markers.takeDue())
	for user := range 3 {
		if n := countMarkers(t, s, fmt.Sprint("user-", user)); n != 2 {
			t.Errorf("user-%d: %d markers when 18 are forgotten, want 2", user, n)
		}
	}
	for i, r := range remembered {
		snap, err := s.Commit(ctx, &r) // one of two was given back before
		if err != nil || snap.Total.Used != 10 {
			t.Errorf("%d: %d used after it was settled again (error %v), want 10", i, snap.Total.Used, err)
		}
	}
}

// The next settlement deletes markers of a user that are forgotten, whatever it does, but not too many at once.
func TestNextSettlementDeletesMarkers(t *testing.T) {
	server := redistest.Start(t)
	s := openStore(t, server.URL())
	limit := quota.Limit{Amount: 1000, Period: quota.Month}
	notifying, err := quota.NewPlan(quota.PlanOptions{Name: "p", Endpoints: []string{"analyze"}, WarnAt: 80, Limits: []quota.Limit{limit}, NotifyAt: []int{100}})
	if err != nil {
		t.Fatal(err)
	}
	member := quota.MemberAccount("org", "m")
	for _, c := range []struct {
		name, user string
		plan       *quota.Plan
		count      bool
	}{
		{"plain commit", "u", quotatest.NewPlan("p", limit), true},
		{"release", "v", quotatest.NewPlan("p", limit), false},
		{"commit with thresholds", "w", notifying, true},
		{"commit of a member", member, quotatest.NewPlan("p", limit), true},
	} {
		t.Run(c.name, func(t *testing.T) {
			settle := func(r *quota.Reservation) {
				t.Helper()
				if _, err := settleBy(s, r, c.count); err != nil {
					t.Fatal(err)
				}
			}
			var settled []*quota.Reservation
			for range maxForgotten + 3 {
				r := reserveBy(t, s, c.plan, c.user)
				settle(r)
				settled = append(settled, r)
			}
			for _, r := range settled[1:] {
				s.Forget(r)
			}
			for _, want := range []int{4, 3} { // always that of settled[0] and of the last one
				settle(reserveBy(t, s, c.plan, c.user))
				if n := countMarkers(t, s, c.user); n != want {
					t.Errorf("%d markers, want %d", n, want)
				}
			}
			before, _ := s.Read(ctx, c.user, c.plan.OnlyChoice())
			settle(settled[0])
			if after, _ := s.Read(ctx, c.user, c.plan.OnlyChoice()); before.Total != after.Total {
				t.Errorf("settled again, %+v became %+v", before.Total, after.Total)
			}
		})
	}
}

// Markers that a settlement was to delete stay to be deleted if it fails.
func TestFailedSettlementLeavesMarkers(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	first, r := mustReserve(t, s, "u"), mustReserve(t, s, "u")
	mustCommit(t, s, &first)
	s.Forget(&first)
	used := script.UsedFields(r.Windows[0].ID, "")[1]
	commands(s).HSet(ctx, key(s, "u"), used, "x")
	if _, err := s.Commit(ctx, &r); err == nil {
		t.Fatal("no error")
	}
	if n := countMarkers(t, s, "u"); n != 1 {
		t.Fatalf("%d markers, want 1", n)
	}
	commands(s).HSet(ctx, key(s, "u"), used, 1)
	mustCommit(t, s, &r)
	if n := countMarkers(t, s, "u"); n != 1 { // its own
		t.Errorf("%d markers, want 1", n)
	}
}

// testMarkersWhileSlotsMove: go-redis may send a call twice, so that after one of its calls a settlement deletes no marker.
func testMarkersWhileSlotsMove(t *testing.T, c *redistest.Cluster) {
	s := openStore(t, c.URL())
	deletes := func() bool {
		t.Helper()
		field, r := script.MarkerField(quota.NewID()), mustReserve(t, s, "forgotten")
		if err := commands(s).HSet(ctx, key(s, "forgotten"), field, time.Now().Add(time.Hour).UnixMilli()).Err(); err != nil {
			t.Fatal(err)
		}
		s.markers.add("forgotten", field)
		mustCommit(t, s, &r)
		return !commands(s).HExists(ctx, key(s, "forgotten"), field).Val()
	}
	if !deletes() {
		t.Error("a settlement left a marker that was forgotten")
	}
	move := c.StartSlotMove(int(redisclient.Slot(key(s, "forgotten"))))
	move.MoveKey(key(s, "forgotten"))
	move.Finish()
	mustReserve(t, s, "forgotten") // by way of go-redis
	if deletes() {
		t.Error("a settlement deleted a marker after a call that may be sent twice")
	}
}

func TestCloseDeletesMarkers(t *testing.T) {
	url := redistest.Start(t).URL()
	s := openStore(t, url)
	for _, r := range settleUnits(t, s, "u", 10) {
		s.Forget(&r)
	}
	s.Close()
	if n := countMarkers(t, openStore(t, url), "u"); n != 0 {
		t.Errorf("%d markers after Close, want 0", n)
	}
}

func TestMarkersToDeleteAreBounded(t *testing.T) {
	var m markers
	for i := range maxMarkers + 10 {
		m.add(fmt.Sprint("user-", i%10), "id")
	}
	m.takeDue()
	n := 0
	for _, fields := range m.takeDue() {
		n += len(fields)
	}
	if n != maxMarkers {
		t.Errorf("%d wait, want %d", n, maxMarkers)
	}
	if due := m.takeDue(); len(due) != 0 {
		t.Errorf("%d accounts come again", len(due))
	}
}

// TestMarkerOfACountStaysAsLongAsTheCount: a gateway may send a count again after an outage of
// any length. The marker of a unit given back stays for minutes.
func TestMarkerOfACountStaysAsLongAsTheCount(t *testing.T) {
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC))
	s := openWith(t, Options{URL: redistest.Start(t).URL(), Timeout: patient, Now: clock.Now,
		Offset: func() time.Duration { return time.Until(clock.Now()) }})
	settled := settleUnits(t, s, "u", 2) // one given back, one counted
	clock.Advance(300 * 24 * time.Hour)
	if _, err := s.Read(ctx, "u", plan.OnlyChoice()); err != nil { // sweeps
		t.Fatal(err)
	}
	if n := countMarkers(t, s, "u"); n != 1 {
		t.Errorf("%d markers after 300 days, want 1", n)
	}
	if _, err := s.Commit(ctx, &settled[1]); err != nil {
		t.Fatal(err)
	}
	clock.Advance(-300 * 24 * time.Hour)
	wantState(t, s, "u", 1, 0)
}

// TestMarkerInEverEnds checks that the marker of a count per Ever, which stays for ever, does not:
// each gateway that dies leaves some.
func TestMarkerInEverEnds(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	p := quotatest.NewPlan("p", quota.Limit{Amount: 9, Period: quota.Ever})
	d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: "u", Endpoint: "analyze", Plans: p.OnlyChoice(), Lease: time.Minute})
	if err == nil {
		_, err = s.Commit(ctx, &d.Reservation)
	}
	if err != nil {
		t.Fatal(err)
	}
	const year = 365 * 24 * time.Hour
	end := func(field string) time.Duration {
		ms, err := commands(s).HGet(ctx, key(s, "u"), field).Int64()
		if err != nil {
			t.Fatal(err)
		}
		return time.Until(time.UnixMilli(ms))
	}
	if left := end(script.MarkerField(d.Reservation.ID)); left < 9*year || left > 11*year {
		t.Errorf("the marker ends in %v, want ten years", left)
	}
	if left := end("retain/ever"); left < 200*year {
		t.Errorf("the count ends in %v", left)
	}
	// go-redis overflows such a time.
	if left, err := commands(s).Do(ctx, "TTL", key(s, "u")).Int64(); err != nil || left < 1000*365*24*3600 {
		t.Errorf("the key lives for %d s, error %v", left, err)
	}
}
