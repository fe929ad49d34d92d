package redisstore

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
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

// twentyUnits allows 20 units a month, and the members of an organisation 30.
var twentyUnits = quotatest.NewWeightedPlan("twenty", quota.Limit{Amount: 20, Period: quota.Month, Quantity: quota.Units},
	quota.Limit{Amount: 30, Period: quota.Month, Quantity: quota.Units, Shared: true})

// unitsRequest is a request that may cost so many units, of a user or a member.
func unitsRequest(user string, units int64) quota.Request {
	r := requestBy(twentyUnits, user)
	r.Units, r.Plans.Scope = units, quota.ScopeOf(user)
	return r
}

// leaveRest counts a request that charges 1 of so many units, and leaves the rest held, of which charged
// are charged later.
func leaveRest(t testing.TB, s *Store, user string, units, charged int64) *quota.Reservation {
	t.Helper()
	r := reserveRest(t, s, user, units, charged)
	if _, err := s.Commit(ctx, r); err != nil {
		t.Fatal(err)
	}
	return r
}

// reserveRest is leaveRest before the request is counted.
func reserveRest(t testing.TB, s *Store, user string, units, charged int64) *quota.Reservation {
	t.Helper()
	d, err := s.Reserve(ctx, unitsRequest(user, units))
	if err != nil || !d.Admitted {
		t.Fatalf("admitted %v, error %v", d.Admitted, err)
	}
	r := &d.Reservation
	r.Unused, r.Rest, r.RestCharged = units-1, units-1, charged
	return r
}

// settleRest charges what is to be charged of a rest.
func settleRest(t testing.TB, s *Store, r *quota.Reservation) {
	t.Helper()
	if _, err := s.CommitRest(ctx, r); err != nil {
		t.Fatal(err)
	}
}

// wantUnits compares what Redis has of a user: "used+held" units, requests.
func wantUnits(t testing.TB, s *Store, user, want string) {
	t.Helper()
	if got := unitsOf(s, user); got != want {
		t.Errorf("%q: %s units and requests, want %s", user, got, want)
	}
}

func unitsOf(s *Store, user string) string {
	snap, err := s.Read(ctx, user, unitsRequest(user, 1).Plans)
	if err != nil {
		return err.Error()
	}
	return fmt.Sprintf("%d+%d %d", snap.Limits[0].Used, snap.Limits[0].Held, snap.Endpoints[0])
}

// keepDue keeps the rests that are due, as the background does from time to time.
func keepDue(s *Store) { s.eachUser(s.rests.due(s.now(), false), s.keepRests) }

// A keepingStore keeps the rests that are due before each Read: the background does so at any moment.
type keepingStore struct{ *Store }

func (s keepingStore) Read(ctx context.Context, user string, plans quota.PlanChoice) (quota.Snapshot, error) {
	keepDue(s.Store)
	return s.Store.Read(ctx, user, plans)
}

// TestRestOfDeadGateway: when a gateway has died, what it has charged stays, and the rests come back to
// the user, and to the members of an organisation.
func TestRestOfDeadGateway(t *testing.T) {
	for _, user := range []string{"u", quota.MemberAccount("acme", "a")} {
		url := redistest.Start(t).URL()
		clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 5, 0, time.UTC))
		dead, alive := openAt(t, url, clock), openAt(t, url, clock)
		r := leaveRest(t, dead, user, 12, 5)
		leaveRest(t, dead, user, 7, 0)
		dead.Close()
		wantUnits(t, alive, user, "2+17 2")
		clock.Advance(50 * time.Second)
		wantUnits(t, alive, user, "2+17 2")
		if d, err := alive.Reserve(ctx, unitsRequest(user, 2)); err != nil || d.Admitted {
			t.Errorf("2 units while 1 is left: admitted %v, error %v", d.Admitted, err)
		}
		clock.Advance(15 * time.Second)
		wantUnits(t, alive, user, "2+0 2")
		pool := quota.PoolOf(user)
		if pool != "" {
			wantUnits(t, alive, pool, "2+0 2")
		}
		if hash := userHash(t, alive, user); hash["rests"] != "" || len(releaseIDs(t, alive, user, "heldextra/")) > 0 {
			t.Errorf("%q is left with %v", user, hash)
		}
		if want := int64(2); pool == "" && alive.ExpiredHolds() != want {
			t.Errorf("%d holds have expired, want %d", alive.ExpiredHolds(), want)
		}
		// What it had still to charge is in its journal.
		for range 2 {
			if err := alive.Replay(ctx, user, nil, []quota.Reservation{*r}); err != nil {
				t.Fatal(err)
			}
		}
		wantUnits(t, alive, user, "7+0 2")
		if d, err := alive.Reserve(ctx, unitsRequest(user, 13)); err != nil || !d.Admitted {
			t.Errorf("13 units when 13 are left: admitted %v, error %v", d.Admitted, err)
		}
	}
}

// TestRestIsKeptWhileItsResponseRuns: for an hour, and no longer than that.
func TestRestIsKeptWhileItsResponseRuns(t *testing.T) {
	for _, user := range []string{"u", quota.MemberAccount("acme", "a")} {
		url := redistest.Start(t).URL()
		clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 5, 0, time.UTC))
		s, other := openAt(t, url, clock), openAt(t, url, clock)
		r := leaveRest(t, s, user, 18, 6)
		ends := leaveRest(t, s, user, 2, 1) // not kept when it has ended
		settleRest(t, s, ends)
		for range 60 * 60 / 25 {
			clock.Advance(25 * time.Second)
			keepDue(s)
			if got := unitsOf(other, user); got != "3+17 2" {
				t.Fatalf("at %v: %s", clock.Now(), got)
			}
		}
		settleRest(t, s, r)
		clock.Advance(25 * time.Second)
		keepDue(s)
		wantUnits(t, other, user, "9+0 2")
		if len(s.rests.byUser) > 0 || s.LostHolds() > 0 || other.ExpiredHolds() > 0 {
			t.Errorf("%v are kept, %d were lost, %d have expired", s.rests.byUser, s.LostHolds(), other.ExpiredHolds())
		}
	}
}

// TestRestsAreKeptWhenDue: Redis hears of a rest three times in its life, and of no other.
func TestRestsAreKeptWhenDue(t *testing.T) {
	var kept rests
	now := time.Now()
	short, long := &quota.Reservation{Request: quota.Request{ID: "short", User: "u", Lease: time.Second}}, &quota.Reservation{Request: quota.Request{ID: "long", User: "u", Lease: 130 * time.Second}}
	kept.add(short, now)
	kept.add(long, now)
	want := func(after time.Duration, all bool, ids ...string) {
		t.Helper()
		got := kept.due(now.Add(after), all)["u"]
		slices.Sort(got)
		if !slices.Equal(got, ids) {
			t.Errorf("after %v, %v are kept, want %v", after, got, ids)
		}
	}
	want(10*time.Second, false, "short")
	want(34*time.Second, false, "long", "short")
	kept.kept("u", []*quota.Reservation{long}, now.Add(34*time.Second))
	want(60*time.Second, false, "short")
	want(60*time.Second, true, "long", "short")
	kept.remove(short)
	kept.remove(long)
	want(time.Hour, true)
}

// TestRestOutlivesOutage: when a gateway was cut off from Redis for longer than a rest lasts, a response
// that still runs has it again. One that has ended has not.
func TestRestOutlivesOutage(t *testing.T) {
	server := redistest.Start(t)
	network := redistest.StartFaultProxy(t, server.Addr)
	clock := quotatest.NewClock(time.Now())
	cutOff, other := openAt(t, network.URL(), clock), openAt(t, server.URL(), clock)
	leaveRest(t, cutOff, "u", 9, 0)
	ended := leaveRest(t, cutOff, "u", 8, 3)
	network.RefuseConnections(true)
	network.CutConnections()
	clock.Advance(2 * time.Minute)
	wantUnits(t, other, "u", "2+0 2")
	settleRest(t, other, ended) // as the gateway's journal does
	network.Heal()
	waitUntilConnected(t, cutOff)
	testkit.Eventually(t, "the rest is held again", func() bool { return unitsOf(other, "u") == "5+8 2" })
	if d, err := other.Reserve(ctx, unitsRequest("u", 8)); err != nil || d.Admitted {
		t.Errorf("8 units when 7 are left: admitted %v, error %v", d.Admitted, err)
	}
}

// TestRestReturnsToEmptyRedis: a Redis that has lost everything gets the rests that are held.
func TestRestReturnsToEmptyRedis(t *testing.T) {
	server := redistest.Start(t)
	network := redistest.StartFaultProxy(t, server.Addr)
	s := openStore(t, network.URL())
	r := leaveRest(t, s, quota.MemberAccount("acme", "a"), 9, 4)
	server.Do("FLUSHALL")
	network.CutConnections()
	waitUntilConnected(t, s)
	testkit.Eventually(t, "the rest is held again", func() bool { return unitsOf(s, r.User) == "0+8 0" })
	wantUnits(t, s, quota.PoolOf(r.User), "0+8 0")
	if ttl, err := commands(s).PTTL(ctx, key(s, r.User)).Result(); err != nil || ttl <= 0 {
		t.Errorf("the key lives for %v, error %v", ttl, err)
	}
	if found, _, err := s.look(ctx, r.User); err != nil || found.Held != 1 {
		t.Errorf("the account has %+v held, error %v; its terms must not change at once", found, err)
	}
	settleRest(t, s, r)
	wantUnits(t, s, r.User, "4+0 0")
}

// TestRenewalsReachRightDataAlone: a gateway that refuses other data takes nothing in them, neither rests
// nor places, and has both once the right ones are back.
func TestRenewalsReachRightDataAlone(t *testing.T) {
	server, other := redistest.Start(t), redistest.Start(t)
	network := redistest.StartFaultProxy(t, server.Addr)
	s := openWatched(t, network.URL(), true, &testMemory{})
	r, runs := leaveRest(t, s.Store, "u", 9, 4), place(t, s.Store, "v")
	keepAll := func() {
		s.eachUser(s.rests.due(s.now(), true), s.keepRests)
		s.eachUser(s.places.snapshot(), s.renewPlaces)
	}
	network.SwitchTo(other.Addr)
	network.CutConnections()
	keepAll() // shows the loss, if nothing has
	testkit.Eventually(t, "the loss is noticed", func() bool { s.CheckData(); return s.DataLost() != nil })
	keepAll()
	if keys := other.Do("KEYS", "metergate:{*}").([]any); len(keys) > 0 {
		t.Errorf("the other Redis has users: %v", keys)
	}
	// The right ones have lost these alone.
	server.Do("HDEL", key(s.Store, "v"), "place/"+runs.ID, "places")
	server.Do("HDEL", key(s.Store, "u"), "rest/"+r.ID, "rests", "heldextra/"+r.Windows[0].ID, "heldextra/"+r.Windows[0].ID+"/analyze")
	network.SwitchTo(server.Addr)
	network.CutConnections()
	testkit.Eventually(t, "the rest is held again", func() bool { s.CheckData(); keepAll(); return unitsOf(s.Store, "u") == "1+8 1" })
	wantPlaces(t, s.Store, "v", runs)
}

// TestRestIsNotTakenAgain: neither before its request is counted, whose lease has its units, nor after it
// was settled, however late the call arrives.
func TestRestIsNotTakenAgain(t *testing.T) {
	s := openStore(t, redistest.Start(t).URL())
	keep := func(r *quota.Reservation, until time.Duration) {
		t.Helper()
		own := script.KeepArgs{RetakeUntil: s.Now().Add(until), Rests: []*quota.Reservation{r}}
		q := query{script: script.Keep, user: r.User, appendArgs: func(args *resp.Args, _ *quota.Plan, _ *layout) { own.AppendTo(args) }}
		if err := s.ask(ctx, &q, new(outcome)); err != nil {
			t.Fatal(err)
		}
	}
	r := reserveRest(t, s, "u", 9, 4)
	keep(r, time.Hour)
	wantUnits(t, s, "u", "0+9 0")
	if _, err := s.Commit(ctx, r); err != nil {
		t.Fatal(err)
	}
	keep(r, time.Hour)
	wantUnits(t, s, "u", "1+8 1")
	settleRest(t, s, r)
	keep(r, time.Hour)
	wantUnits(t, s, "u", "5+0 1")
	s.Forget(r)
	s.deleteMarkers(s.markers.takeDue())
	s.deleteMarkers(s.markers.takeDue())
	keep(r, -time.Second)
	wantUnits(t, s, "u", "5+0 1")
	if s.rests.byUser != nil && len(s.rests.byUser) > 0 {
		t.Errorf("%v are kept", s.rests.byUser)
	}
}

// TestSettledRestIsNotKept: a commit that comes after the release of its request, or after its rest was settled,
// leaves no rest for the background to take again, neither now nor when the markers have ended.
func TestSettledRestIsNotKept(t *testing.T) {
	for _, user := range []string{"u", quota.MemberAccount("acme", "a")} {
		clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 5, 0, time.UTC))
		s := openAt(t, redistest.Start(t).URL(), clock)
		released, paid := reserveRest(t, s, user, 5, 0), reserveRest(t, s, user, 6, 2)
		if _, err := s.Release(ctx, released); err != nil {
			t.Fatal(err)
		}
		settleRest(t, s, paid)
		clock.Advance(9 * time.Minute) // a call may be repeated for so long
		for _, r := range []*quota.Reservation{released, paid, released} {
			if _, err := s.Commit(ctx, r); err != nil {
				t.Fatal(err)
			}
		}
		open := reserveRest(t, s, user, 4, 1)
		if err := s.Replay(ctx, user, []quota.Reservation{*released, *open, *paid}, nil); err != nil {
			t.Fatal(err)
		}
		for _, step := range []time.Duration{50 * time.Second, 50 * time.Second, time.Hour} {
			clock.Advance(step)
			keepDue(s)
			wantUnits(t, s, user, "4+3 2")
		}
		// A commit that is repeated after an outage finds its rest gone, and has it again.
		s.rests.remove(open)
		clock.Advance(2 * time.Minute)
		wantUnits(t, s, user, "4+0 2")
		if _, err := s.Commit(ctx, open); err != nil {
			t.Fatal(err)
		}
		clock.Advance(50 * time.Second)
		keepDue(s)
		wantUnits(t, s, user, "4+3 2")
		settleRest(t, s, open)
		wantUnits(t, s, user, "5+0 2")
		if len(s.rests.byUser) > 0 {
			t.Errorf("%v are kept", s.rests.byUser)
		}
	}
}

// TestCommitFindsKeptRest: a rest that was taken again before the commit of its request arrives from a
// journal is held once.
func TestCommitFindsKeptRest(t *testing.T) {
	clock := quotatest.NewClock(time.Now())
	s := openAt(t, redistest.Start(t).URL(), clock)
	r := reserveRest(t, s, "u", 9, 4)
	s.rests.add(r, s.now())
	clock.Advance(2 * time.Minute)
	keepDue(s)
	wantUnits(t, s, "u", "0+8 0")
	if err := s.Replay(ctx, "u", []quota.Reservation{*r}, nil); err != nil {
		t.Fatal(err)
	}
	wantUnits(t, s, "u", "1+8 1")
	settleRest(t, s, r)
	wantUnits(t, s, "u", "5+0 1")
}

// TestForgetDropsBothMarkers: of a request that was settled in two steps.
func TestForgetDropsBothMarkers(t *testing.T) {
	s := openWith(t, Options{URL: redistest.Start(t).URL(), Timeout: patient, markersEvery: time.Hour})
	markers := func() []string {
		return slices.Concat(releaseIDs(t, s, "u", "done/"), releaseIDs(t, s, "u", "paid/"))
	}
	r, remembered := leaveRest(t, s, "u", 9, 4), leaveRest(t, s, "u", 8, 0)
	settleRest(t, s, r)
	settleRest(t, s, remembered)
	if got := markers(); len(got) != 4 {
		t.Errorf("the markers are %v", got)
	}
	s.Forget(r)
	for range 2 {
		s.deleteMarkers(s.markers.takeDue())
	}
	if got := markers(); !slices.Equal(got, []string{remembered.ID, remembered.ID}) {
		t.Errorf("the markers are %v, want those of %s", got, remembered.ID)
	}
	settleRest(t, s, remembered)
	wantUnits(t, s, "u", "6+0 2")
}

// TestMarkerOfARestStaysAsLongAsTheCount: a gateway may send either step again after an outage of any
// length, also if nothing of the rest was charged.
func TestMarkerOfARestStaysAsLongAsTheCount(t *testing.T) {
	clock := quotatest.NewClock(time.Date(2026, time.November, 17, 12, 0, 32, 0, time.UTC))
	s := openWith(t, Options{URL: redistest.Start(t).URL(), Timeout: patient, Now: clock.Now,
		Offset: func() time.Duration { return time.Until(clock.Now()) }})
	r := leaveRest(t, s, "u", 9, 4)
	settleRest(t, s, r)
	free := reserveRest(t, s, "u", 9, 0)
	settleRest(t, s, free) // its commit waits in a journal
	clock.Advance(300 * 24 * time.Hour)
	settleRest(t, s, r)
	if _, err := s.Commit(ctx, free); err != nil {
		t.Fatal(err)
	}
	clock.Advance(-300 * 24 * time.Hour)
	wantUnits(t, s, "u", "6+0 2")
}

// TestLostRestIsReported: one that is settled when it is gone, but not one of which nothing is charged.
func TestLostRestIsReported(t *testing.T) {
	clock := quotatest.NewClock(time.Now())
	s := openAt(t, redistest.Start(t).URL(), clock)
	lost, free := leaveRest(t, s, "u", 9, 4), leaveRest(t, s, "u", 9, 0)
	settleRest(t, s, leaveRest(t, s, "v", 9, 4))
	settleRest(t, s, reserveRest(t, s, "v", 9, 4)) // its lease has the units
	clock.Advance(2 * time.Minute)
	settleRest(t, s, lost)
	settleRest(t, s, free)
	if s.LostHolds() != 1 {
		t.Errorf("%d holds were lost, want 1", s.LostHolds())
	}
	wantUnits(t, s, "u", "6+0 2")
}

// TestRestSettledWithoutReply: a second step whose reply, or call, is lost can be repeated.
func TestRestSettledWithoutReply(t *testing.T) {
	redis := redistest.Start(t)
	direct := openStore(t, redis.URL())
	for i, loss := range replyLosses {
		t.Run(loss.name, func(t *testing.T) {
			t.Parallel()
			c := redistest.StartFaultProxy(t, redis.Addr)
			s := openWith(t, Options{URL: c.URL(), Timeout: short})
			user, call := fmt.Sprint("user-", i), func(r quota.Reservation) error { _, err := s.CommitRest(ctx, &r); return err }
			testkit.Eventually(t, "connections, and scripts that Redis knows", func() bool {
				return call(*leaveRest(t, direct, fmt.Sprint("warm-up-", quota.NewID()), 2, 0)) == nil
			})
			r := leaveRest(t, direct, user, 9, 4)
			loss.set(c, redistest.CommitRest)
			wantError(t, "the second step", func() error { return call(*r) })
			if loss.runs {
				testkit.Eventually(t, "the call has run", func() bool { return unitsOf(direct, user) == "5+0 1" })
			} else {
				wantUnits(t, direct, user, "1+8 1")
			}
			c.Heal()
			for range 2 {
				repeat(t, call, *r)
			}
			wantUnits(t, direct, user, "5+0 1")
		})
	}
}

// What is damaged where units are held delays the second step by one try, whoever serves it.
func TestDamagedRestIsSettled(t *testing.T) {
	withFunctionsAndWithout(t, func(t *testing.T, opt Options) {
		for _, field := range []string{"rests", "heldextra/2026-11", "heldextra/2026-11/analyze"} {
			s := openLike(t, opt, redistest.Start(t).URL(), quotatest.NewClock(noon))
			settleRest(t, s, leaveRest(t, s, "u", 9, 4))
			r := leaveRest(t, s, "u", 9, 4)
			if err := commands(s).HSet(ctx, key(s, "u"), field, "x").Err(); err != nil {
				t.Fatal(err)
			}
			_, first := s.CommitRest(ctx, r)
			if _, err := s.CommitRest(ctx, r); err != nil {
				t.Errorf("%s is damaged: %v, then %v", field, first, err)
			}
			if got := userHash(t, s, "u")["extra/2026-11"]; got != "8" {
				t.Errorf("%s is damaged: %q more units are counted, want 8", field, got)
			}
		}
	})
}

// TestOutOfMemorySettlesRest: a rest that is held can be settled, because that frees memory first. What
// fails does nothing.
func TestOutOfMemorySettlesRest(t *testing.T) {
	s := openStore(t, redistest.Start(t, "--maxmemory-policy", "noeviction").URL())
	held, open := reserveRest(t, s, "u", 9, 4), leaveRest(t, s, "u", 9, 4)
	setMemory(t, s, "1")
	if _, err := s.Commit(ctx, held); err != nil {
		t.Errorf("the first step without memory: %v", err)
	}
	if _, err := s.CommitRest(ctx, open); err != nil {
		t.Errorf("the second step without memory: %v", err)
	}
	wantUnits(t, s, "u", "6+8 2")
	settleRest(t, s, held)
	early := reserveRestWithMemory(t, s, "u")
	before := userHash(t, s, "u")
	if _, err := s.CommitRest(ctx, early); err == nil || !strings.Contains(err.Error(), "OOM") {
		t.Errorf("the second step before the first, without memory: error %v", err)
	}
	if after := userHash(t, s, "u"); !maps.Equal(before, after) {
		t.Errorf("what failed without memory changed %v to %v", before, after)
	}
}

// reserveRestWithMemory is reserveRest on a Redis that is out of memory before and afterwards.
func reserveRestWithMemory(t testing.TB, s *Store, user string) *quota.Reservation {
	t.Helper()
	setMemory(t, s, "0")
	defer setMemory(t, s, "1")
	return reserveRest(t, s, user, 5, 1)
}

// TestRestsCostOthersNothing: what Redis does for a request without a rest, command by command, is what
// it would do if there were no rests.
func TestRestsCostOthersNothing(t *testing.T) {
	server := redistest.Start(t)
	s := openWith(t, Options{URL: server.URL(), Timeout: patient, scriptsOnly: true})
	use := func(user string, units, rest int64) {
		t.Helper()
		r := reserveRest(t, s, user, units, 0)
		r.Unused, r.Rest = rest, rest
		if _, err := s.Commit(ctx, r); err != nil {
			t.Fatal(err)
		}
		if rest > 0 {
			settleRest(t, s, r)
		}
	}
	for _, c := range []struct {
		name        string
		units, rest int64
		want        map[string]int
	}{
		{"without a cost", 1, 0, map[string]int{"evalsha": 2, "time": 2, "hmget": 2, "hset": 2, "hincrby": 0, "hdel": 1, "hget": 0, "publish": 2, "pttl": 1}},
		{"with a cost", 3, 0, map[string]int{"evalsha": 2, "time": 2, "hmget": 2, "hset": 2, "hincrby": 0, "hdel": 1, "hget": 0, "publish": 2}},
		{"with a rest", 3, 2, map[string]int{"evalsha": 3}},
	} {
		// The first requests send the scripts, and note when things end.
		for range 3 {
			use(c.name, c.units, c.rest)
		}
		server.Do("CONFIG", "RESETSTAT")
		use(c.name, c.units, c.rest)
		calls := map[string]int{}
		for line := range strings.Lines(fmt.Sprint(server.Do("INFO", "commandstats"))) {
			var n int
			name, numbers, _ := strings.Cut(strings.TrimPrefix(line, "cmdstat_"), ":")
			if _, err := fmt.Sscanf(numbers, "calls=%d,", &n); err == nil {
				calls[name] = n
			}
		}
		for name, want := range c.want {
			if calls[name] != want {
				t.Errorf("%s: %d times %s, want %d", c.name, calls[name], name, want)
			}
		}
	}
}

// releaseScripts are those of release 0.1.0, from its source.
func releaseScripts(t *testing.T) map[string]string {
	t.Helper()
	f, err := os.Open("../../cmd/metergate/e2e/upgrading/testdata/0.1.0.tar.gz")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unzipped, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	scripts := map[string]string{}
	for archive := tar.NewReader(unzipped); ; {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return scripts
		}
		if err != nil {
			t.Fatal(err)
		}
		if name, ok := strings.CutSuffix(header.Name, ".lua"); ok {
			text, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			scripts[name[strings.LastIndex(name, "/")+1:]] = string(text)
		}
	}
}

// TestReleaseBesideRests: a gateway of release 0.1.0 on the same Redis sees requests, and no units. It
// takes a rest for nothing of its own, also when it is the first to find that something has ended.
func TestReleaseBesideRests(t *testing.T) {
	clock := quotatest.NewClock(time.Now())
	server := redistest.Start(t)
	s := openAt(t, server.URL(), clock)
	month := quota.NewCalendar(nil).WindowAt(quota.Month, clock.Now()).ID
	scripts := releaseScripts(t)
	release := func(name string, own ...any) []any {
		t.Helper()
		args := append([]any{clock.Offset().Milliseconds(), "u", "*", 0, int64(1) << 52, 2, 1, "used/" + month, "held/" + month}, own...)
		reply, err := commands(s).Eval(ctx, scripts["common"]+scripts[name], []string{key(s, "u")}, args...).Slice()
		if err != nil {
			t.Fatal(err)
		}
		return reply
	}
	sees := func(used, held int) {
		t.Helper()
		number := func(v any) string { return strings.ReplaceAll(fmt.Sprint(v), "<nil>", "0") }
		if reply := release("read"); number(reply[3]) != fmt.Sprint(used) || number(reply[4]) != fmt.Sprint(held) {
			t.Errorf("release 0.1.0 sees %v used, %v held; want %d and %d", reply[3], reply[4], used, held)
		}
	}
	r, dies := leaveRest(t, s, "u", 5, 2), reserveRest(t, s, "u", 4, 0)
	lost := leaveRest(t, s, "u", 6, 0)
	sees(2, 1)
	clock.Advance(30 * time.Second)
	keepDue(s)
	s.rests.remove(lost) // its gateway has died
	clock.Advance(29 * time.Second)
	s.keepRests("u", []string{r.ID})
	clock.Advance(25 * time.Second) // the lease has ended, and a kept rest has not
	sees(2, 0)
	if got := releaseIDs(t, s, "u", "rest/"); len(got) != 2 {
		t.Errorf("the rests are %v after a sweep of release 0.1.0", got)
	}
	s.keepRests("u", []string{r.ID})
	clock.Advance(40 * time.Second)
	release("reserve", "lease/OLD", "done/OLD", "attempts/0/0", 60000, "analyze "+month, 0, 0, 0, "twenty", 100)
	sees(2, 1)
	// Of 20 units, 2 are used and the rest has 4. What the other rest, the lease and the request of the
	// release held is found to have ended, at the latest as long after its end as a lease lasts.
	for range 3 {
		s.keepRests("u", []string{r.ID})
		clock.Advance(25 * time.Second)
	}
	if d, err := s.Reserve(ctx, unitsRequest("u", 14)); err != nil || !d.Admitted {
		t.Errorf("14 units: admitted %v, error %v, %s", d.Admitted, err, unitsOf(s, "u"))
	}
	if d, err := s.Reserve(ctx, unitsRequest("u", 1)); err != nil || d.Admitted {
		t.Errorf("the 21st unit: admitted %v, error %v", d.Admitted, err)
	}
	settleRest(t, s, r)
	wantUnits(t, s, "u", "4+14 2")
	sees(2, 1)
	if _, err := s.Release(ctx, dies); err != nil {
		t.Error(err)
	}
	wantUnits(t, s, "u", "4+14 2")
}
