package redisstore

import (
	"slices"
	"strings"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/resp"
	"metergate/quota/redisstore/script"
	"metergate/quota/testkit"
)

var twoAtOnce = quotatest.NewConcurrentPlan("two", 2)

// wantPlaces waits until Redis has these places of a user, and no others.
func wantPlaces(t *testing.T, s *Store, user string, want ...*quota.Reservation) {
	t.Helper()
	var ids []string
	for _, r := range want {
		ids = append(ids, r.ID)
	}
	slices.Sort(ids)
	testkit.Eventually(t, "the places are those of "+strings.Join(ids, ", "), func() bool {
		n := userHash(t, s, user)["places"]
		return slices.Equal(releaseIDs(t, s, user, "place/"), ids) && (n == "" && len(ids) == 0 || n == string(rune('0'+len(ids))))
	})
}

// place has a request admitted that takes a place.
func place(t *testing.T, s *Store, user string) *quota.Reservation {
	t.Helper()
	d, err := s.Reserve(ctx, requestBy(twoAtOnce, user))
	if err != nil || !d.Admitted {
		t.Fatalf("admitted %v, error %v", d.Admitted, err)
	}
	return &d.Reservation
}

// waitUntilConnected waits until the store reaches its Redis again.
func waitUntilConnected(t *testing.T, s *Store) {
	t.Helper()
	testkit.Eventually(t, "Redis answers", func() bool { _, err := s.Read(ctx, "u", twoAtOnce.OnlyChoice()); return err == nil })
}

// TestPlacesOutliveOutage: when a gateway was cut off from Redis for longer than a place lasts, the
// requests that still run on it have their places again.
func TestPlacesOutliveOutage(t *testing.T) {
	server := redistest.Start(t)
	network := redistest.StartFaultProxy(t, server.Addr)
	clock := quotatest.NewClock(time.Now())
	cutOff, other := openAt(t, network.URL(), clock), openAt(t, server.URL(), clock)
	runs, ends := place(t, cutOff, "u"), place(t, cutOff, "u")
	wantPlaces(t, other, "u", runs, ends)

	network.RefuseConnections(true)
	network.CutConnections()
	clock.Advance(quota.PlaceLease + 10*time.Second)
	third := place(t, other, "u")
	wantPlaces(t, other, "u", third)
	cutOff.Leave(ends)
	network.Heal()
	waitUntilConnected(t, cutOff)
	wantPlaces(t, other, "u", runs, third)
	if d, err := other.Reserve(ctx, requestBy(twoAtOnce, "u")); err != nil || !d.NoPlace {
		t.Errorf("the third of two: %+v, error %v", d, err)
	}
	// They end like any other: with their requests, or with their gateway.
	cutOff.Leave(runs)
	wantPlaces(t, other, "u", third)
	clock.Advance(quota.PlaceLease + 10*time.Second)
	wantPlaces(t, other, "u", place(t, other, "u"))
}

// TestPlacesReturnToEmptyRedis: a Redis that has lost everything gets the places that are taken.
func TestPlacesReturnToEmptyRedis(t *testing.T) {
	server := redistest.Start(t)
	network := redistest.StartFaultProxy(t, server.Addr)
	s := openStore(t, network.URL())
	runs := place(t, s, "u")
	server.Do("FLUSHALL")
	network.CutConnections()
	waitUntilConnected(t, s)
	wantPlaces(t, s, "u", runs)
	if ttl, err := commands(s).PTTL(ctx, key(s, "u")).Result(); err != nil || ttl <= 0 {
		t.Errorf("the key lives for %v, error %v", ttl, err)
	}
}

// TestPlaceIsFreeAfterLeave: a client that sends its next request as soon as it has the response to
// the one before finds a place.
func TestPlaceIsFreeAfterLeave(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	place(t, s, "u")
	for range 300 {
		s.Leave(place(t, s, "u"))
	}
}

// TestPlaceIsNotTakenAfterItsRequest: a renewal that was on its way when its request ended does not
// keep the place.
func TestPlaceIsNotTakenAfterItsRequest(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	r := place(t, s, "u")
	s.Leave(r)
	wantPlaces(t, s, "u")

	s.renewPlaces("u", []string{r.ID}) // of a list from before
	wantPlaces(t, s, "u")

	// One that Redis gets later than the gateway waits for it.
	late := script.PlaceArgs{RetakeUntil: s.Now().Add(-time.Second), IDs: []string{r.ID}}
	err := s.ask(ctx, &query{script: script.Renew, user: "u", appendArgs: func(args *resp.Args, _ *quota.Plan, _ *layout) { late.AppendTo(args) }}, new(outcome))
	if got := releaseIDs(t, s, "u", "place/"); err != nil || len(got) > 0 {
		t.Errorf("a late renewal has taken %v, error %v", got, err)
	}
}
