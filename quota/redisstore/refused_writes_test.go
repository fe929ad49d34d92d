package redisstore

import (
	"maps"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/redistest"
)

// userHash returns all that Redis has of a user.
func userHash(t testing.TB, s *Store, user string) map[string]string {
	t.Helper()
	all, err := commands(s).HGetAll(ctx, key(s, user)).Result()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestReplicaRefusesWritesAndReads checks a Redis that has become a replica: it reads, it
// changes nothing, and once it is a master again the failed calls can be repeated.
func TestReplicaRefusesWritesAndReads(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, "--replica-read-only", "yes")
	s := openWithHistory(t, redis.URL())
	admitted := [2]quota.Reservation{mustReserve(t, s, "u"), mustReserve(t, s, "u")}
	before := userHash(t, s, "u")
	// Nobody listens there.
	if err := commands(s).Do(ctx, "replicaof", "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	wantReadOnly := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "READONLY") {
			t.Errorf("%s on a replica: error %v, want READONLY", what, err)
		}
	}
	d, err := s.Reserve(ctx, newRequest("u"))
	wantReadOnly("reserve", err)
	if d.Admitted {
		t.Error("admitted by a replica")
	}
	_, err = s.Commit(ctx, &admitted[0])
	wantReadOnly("commit", err)
	_, err = s.Release(ctx, &admitted[1])
	wantReadOnly("release", err)
	wantState(t, s, "u", 0, 2)
	if after := userHash(t, s, "u"); !maps.Equal(before, after) {
		t.Errorf("the replica changed %v to %v", before, after)
	}
	if err := commands(s).Do(ctx, "replicaof", "no", "one").Err(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := s.Commit(ctx, &admitted[0]); err != nil {
			t.Error(err)
		}
		if _, err := s.Release(ctx, &admitted[1]); err != nil {
			t.Error(err)
		}
	}
	wantState(t, s, "u", 1, 0)
	if d, err = s.Reserve(ctx, d.Reservation.Request); err != nil || !d.Admitted {
		t.Errorf("the refused reserve again: admitted %v, error %v", d.Admitted, err)
	}
	wantState(t, s, "u", 1, 1)
}

// setMemory sets maxmemory; 0: no bound.
func setMemory(t testing.TB, s *Store, limit string) {
	t.Helper()
	if err := commands(s).ConfigSet(ctx, "maxmemory", limit).Err(); err != nil {
		t.Fatal(err)
	}
}

// TestOutOfMemorySettlesWhatIsHeld checks that without memory a script does all of its work or
// nothing, never a part, and that a held unit can still be settled, because that frees memory
// before it takes any.
func TestOutOfMemorySettlesWhatIsHeld(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, "--maxmemory-policy", "noeviction")
	s := openWithHistory(t, redis.URL())
	first := mustReserve(t, s, "u") // the commits after the first are plain
	mustCommit(t, s, &first)
	held := [2]quota.Reservation{mustReserve(t, s, "u"), mustReserve(t, s, "u")}
	neverReserved := newRequest("v")
	setMemory(t, s, "1")
	before := userHash(t, s, "u")
	d, err := s.Reserve(ctx, newRequest("u"))
	if err == nil || !strings.Contains(err.Error(), "OOM") || d.Admitted {
		t.Errorf("reserve without memory: admitted %v, error %v", d.Admitted, err)
	}
	if after := userHash(t, s, "u"); !maps.Equal(before, after) {
		t.Errorf("a reserve without memory changed %v to %v", before, after)
	}
	_, err = s.Release(ctx, &quota.Reservation{Request: neverReserved})
	if all := userHash(t, s, "v"); (err == nil) != (len(all) > 0) {
		t.Errorf("the release of what was not held: error %v, and Redis has %v", err, all)
	}
	if _, err := s.Commit(ctx, &held[0]); err != nil {
		t.Errorf("commit of a held unit without memory: %v", err)
	}
	wantState(t, s, "u", 2, 1)
	if _, err := s.Release(ctx, &held[1]); err != nil {
		t.Errorf("release of a held unit without memory: %v", err)
	}
	wantState(t, s, "u", 2, 0)
	setMemory(t, s, "0")
	if _, err := s.Reserve(ctx, d.Reservation.Request); err != nil {
		t.Errorf("reserve with memory again: %v", err)
	}
	wantState(t, s, "u", 2, 1)
}

// TestOutOfMemoryCommitAfterTheLease commits a unit whose lease has run out, and that a sweep
// has deleted: that may fail without memory, but must not do a part.
func TestOutOfMemoryCommitAfterTheLease(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, "--maxmemory-policy", "noeviction")
	ahead := atomic.Int64{} // ms
	s := openWith(t, Options{URL: redis.URL(), Timeout: patient, HistoryDays: historyDays,
		Offset: func() time.Duration { return time.Duration(ahead.Load()) * time.Millisecond }})
	counted := mustReserve(t, s, "u")
	if _, err := s.Commit(ctx, &counted); err != nil {
		t.Fatal(err)
	}
	late := mustReserve(t, s, "u")
	ahead.Store((2 * time.Minute).Milliseconds())
	wantState(t, s, "u", 1, 0)
	setMemory(t, s, "1")
	before := userHash(t, s, "u")
	_, err := s.Commit(ctx, &late)
	if after := userHash(t, s, "u"); err != nil && !maps.Equal(before, after) {
		t.Errorf("a commit that failed without memory (%v) changed %v to %v", err, before, after)
	}
	setMemory(t, s, "0")
	for range 2 {
		if _, err := s.Commit(ctx, &late); err != nil {
			t.Error(err)
		}
		wantState(t, s, "u", 2, 0)
	}
	if _, err := s.Reserve(ctx, newRequest("u")); err != nil {
		t.Errorf("reserve with memory again: %v", err)
	}
	wantState(t, s, "u", 2, 1)
}

// TestCallsFollowAnAddressToTheNewMaster checks a Redis behind a name or a load balancer: the
// master becomes a replica, and new connections lead to the new master, while the old ones stay
// open. No call fails.
func TestCallsFollowAnAddressToTheNewMaster(t *testing.T) {
	t.Parallel()
	old, next := redistest.Start(t), redistest.Start(t)
	balancer := redistest.StartFaultProxy(t, old.Addr)
	s := openWithHistory(t, balancer.URL())
	for range 2 { // the first call has Redis learn the script
		r := mustReserve(t, s, "u")
		if _, err := s.Commit(ctx, &r); err != nil {
			t.Fatal(err)
		}
	}
	admitted := mustReserve(t, s, "u")
	if err := s.Probe(ctx, "u"); err != nil { // another connection
		t.Fatal(err)
	}
	host, port, _ := net.SplitHostPort(old.Addr)
	next.Do("REPLICAOF", host, port)
	old.AwaitReplication(key(s, "u"))
	next.Do("REPLICAOF", "NO", "ONE")
	host, port, _ = net.SplitHostPort(next.Addr)
	old.Do("REPLICAOF", host, port)
	balancer.SwitchTo(next.Addr)

	if _, err := s.Commit(ctx, &admitted); err != nil {
		t.Errorf("commit: %v", err)
	}
	mustReserve(t, s, "u")
	if err := s.Probe(ctx, "u"); err != nil {
		t.Errorf("probe: %v", err)
	}
	wantState(t, openWithHistory(t, next.URL()), "u", 3, 1)
}
