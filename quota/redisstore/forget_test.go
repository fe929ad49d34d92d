package redisstore

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

var (
	ctx  = context.Background()
	plan = quotatest.NewPlan("free", quota.Limit{Requests: 100, Period: quota.Month})
)

func openStore(t testing.TB, url string) *Store {
	t.Helper()
	s, err := Open(Options{URL: url, Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// settled reserves n units of a user and settles them, every other one to count.
func settled(t testing.TB, s *Store, user string, n int) (done []quota.Reservation) {
	t.Helper()
	for i := range n {
		d, err := s.Reserve(ctx, quota.Request{ID: quota.NewID(), User: user, Endpoint: "analyze", Plans: plan.OnlyChoice(), Lease: time.Minute})
		if err != nil || !d.Admitted {
			t.Fatalf("admitted %v, error %v", d.Admitted, err)
		}
		if _, err := s.settle(ctx, &d.Reservation, i%2); err != nil {
			t.Fatal(err)
		}
		done = append(done, d.Reservation)
	}
	return done
}

// markers is how many settled reservations of a user Redis remembers.
func markers(t testing.TB, s *Store, user string) (n int) {
	t.Helper()
	fields, err := s.client.HKeys(ctx, s.key(user)).Result()
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

func TestForget(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	var repeatable []quota.Reservation
	for user := range 3 {
		name := fmt.Sprint("user-", user)
		done := settled(t, s, name, 20)
		for _, r := range done[2:] {
			s.Forget(&r)
		}
		repeatable = append(repeatable, done[:2]...)
		if n := markers(t, s, name); n != 20 {
			t.Errorf("%s: %d markers after 20 were settled, want 20", name, n)
		}
	}
	// A turn for them to become old, one to go.
	s.deleteMarkers(s.forgotten.turn())
	if n := markers(t, s, "user-0"); n != 20 {
		t.Errorf("%d markers after one turn, want 20", n)
	}
	s.deleteMarkers(s.forgotten.turn())
	for user := range 3 {
		if n := markers(t, s, fmt.Sprint("user-", user)); n != 2 {
			t.Errorf("user-%d: %d markers when 18 are forgotten, want 2", user, n)
		}
	}
	for i, r := range repeatable {
		snap, err := s.settle(ctx, &r, 1) // the other one of two was given back
		if err != nil || snap.Total.Used != 10 {
			t.Errorf("%d: %d used after it was settled again (error %v), want 10", i, snap.Total.Used, err)
		}
	}
}

// Close leaves no marker behind that was to go.
func TestCloseForgets(t *testing.T) {
	url := redistest.Start(t).URL()
	s := openStore(t, url)
	for _, r := range settled(t, s, "u", 10) {
		s.Forget(&r)
	}
	s.Close()
	if n := markers(t, openStore(t, url), "u"); n != 0 {
		t.Errorf("%d markers after Close, want 0", n)
	}
}

// What waits to be forgotten is bounded; the rest keep their markers.
func TestForgetIsBounded(t *testing.T) {
	var f forgotten
	for i := range maxForget + 10 {
		f.add(fmt.Sprint("key-", i%10), "id")
	}
	f.turn()
	n := 0
	for _, fields := range f.turn() {
		n += len(fields)
	}
	if n != maxForget {
		t.Errorf("%d wait, want %d", n, maxForget)
	}
	if due := f.turn(); len(due) != 0 {
		t.Errorf("%d keys come again", len(due))
	}
}

// The marker of a count stays as long as the count: a gateway may send it again
// after an outage of any length. That of a unit given back stays for minutes.
func TestMarkersOutliveOutages(t *testing.T) {
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC))
	s, err := Open(Options{URL: redistest.Start(t).URL(), Timeout: 20 * time.Second, Now: clock.Now,
		Offset: func() time.Duration { return time.Until(clock.Now()) }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	done := settled(t, s, "u", 2) // one given back, one counted
	clock.Advance(300 * 24 * time.Hour)
	if _, err := s.Read(ctx, "u", plan.OnlyChoice()); err != nil { // sweeps
		t.Fatal(err)
	}
	if n := markers(t, s, "u"); n != 1 {
		t.Errorf("%d markers after 300 days, want 1", n)
	}
	if _, err := s.Commit(ctx, &done[1]); err != nil {
		t.Fatal(err)
	}
	clock.Advance(-300 * 24 * time.Hour)
	if snap, err := s.Read(ctx, "u", plan.OnlyChoice()); err != nil || snap.Total.Used != 1 {
		t.Errorf("%d used (error %v), want 1", snap.Total.Used, err)
	}
}
