package guard_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/guard"
	"metergate/quota/redisstore"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// A logBuffer has what was logged.
type logBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *logBuffer) count(text string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Count(b.text.String(), text)
}

// reopen opens the guarded store again, with a log and other options. The one before is closed.
func (r *guardedRedis) reopen(change func(*guard.Options)) *logBuffer {
	r.t.Helper()
	log := new(logBuffer)
	r.Store.Close()
	r.options.Journal = openJournal(r.t, r.t.TempDir())
	r.options.Log = slog.New(slog.NewTextHandler(log, nil))
	if change != nil {
		change(&r.options)
	}
	r.Store = open(r.t, r.options)
	return log
}

const (
	outageBegan = "the gateway cannot count in the store"
	outageEnded = "the gateway counts in the store again"
)

// A Redis that answers but refuses scripts keeps the breaker open until it takes them again: a probe
// is what requests do. The log has one line at the beginning and one at the end.
func TestBreakerStaysOpenWhileScriptsFail(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.redis.Needs(t, "6.0", "ACL")
	log := r.reopen(nil)
	r.use(1, "u", five)
	r.redis.Do("ACL", "SETUSER", "default", "-evalsha", "-eval")
	for i := range 10 {
		if d, err := r.Reserve(ctx, request(fmt.Sprint("user-", i), five)); err != nil || !d.Admitted {
			t.Fatalf("admitted %v, error %v", d.Admitted, err)
		}
	}
	probes := r.Stats().FailedCalls["probe"]
	testkit.Eventually(t, "five more probes have failed", func() bool {
		if r.Stats().OpenBreakers != 1 {
			t.Fatal("the breaker has closed, but no script runs")
		}
		return r.Stats().FailedCalls["probe"] >= probes+5
	})
	if err := r.Fault(); err == nil || !strings.Contains(err.Error(), "+eval") {
		t.Errorf("the fault is %v, want what to permit", err)
	}
	r.redis.Do("ACL", "SETUSER", "default", "+@all")
	testkit.Eventually(t, "the end is logged", func() bool { return log.count(outageEnded) == 1 && r.Fault() == nil })
	if n := log.count(outageBegan); n != 1 {
		t.Errorf("the beginning is logged %d times", n)
	}
}

// Every call that the store did not answer is counted, also if the request was admitted, and also
// while the breaker is open.
func TestFailedCallsAreCountedWhateverBecameOfTheRequest(t *testing.T) {
	for _, allow := range []bool{true, false} {
		t.Run(fmt.Sprint("allow ", allow), func(t *testing.T) {
			r := newGuardedRedis(t, setup{allow: allow})
			admitted := r.admit("u", five)
			released := r.admit("u", five)
			for name, n := range r.Stats().FailedCalls {
				if n != 0 {
					t.Errorf("%d calls of %s have failed before the outage", n, name)
				}
			}
			r.beginOutage()
			for range 20 {
				r.Reserve(ctx, request("v", five))
			}
			r.commit(admitted)
			r.Release(ctx, released)
			r.Read(ctx, "u", five.OnlyChoice())
			failed := r.Stats().FailedCalls
			for name, want := range map[string]int64{"reserve": 20, "commit": 1, "read": 1} {
				if failed[name] != want {
					t.Errorf("%d calls of %s have failed, want %d", failed[name], name, want)
				}
			}
			if failed["release"] < 1 { // it is tried again
				t.Errorf("no release has failed")
			}
			testkit.Eventually(t, "a probe has failed", func() bool { return r.Stats().FailedCalls["probe"] > 0 })
		})
	}
}

// A check finds out without any request that Redis does not count, and keeps requests from finding
// out one by one. It also finds out when it is over.
func TestCheckFindsFaultBeforeRequestsDo(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.redis.Needs(t, "6.0", "ACL")
	log := r.reopen(func(o *guard.Options) { o.CheckEvery = 20 * time.Millisecond })
	if err := r.Check(ctx); err != nil || r.Fault() != nil {
		t.Fatalf("a Redis that counts: %v, %v", err, r.Fault())
	}
	r.redis.Do("ACL", "SETUSER", "default", "-hsetnx")
	testkit.Eventually(t, "the fault is known", func() bool {
		err := r.Fault()
		return err != nil && strings.Contains(err.Error(), "+hsetnx") && r.Stats().OpenBreakers == 1
	})
	// Without HSETNX a commit would fail half-way, after it has counted.
	r.commit(r.admit("u", five))
	r.redis.Do("ACL", "SETUSER", "default", "+hsetnx")
	testkit.Eventually(t, "it is over", func() bool { return r.Fault() == nil && r.Stats().OpenBreakers == 0 })
	r.waitForReplay()
	r.wantState("u", five, "1+0")
	testkit.Eventually(t, "the end is logged", func() bool { return log.count(outageEnded) == 1 })
	if n := log.count(outageBegan); n != 1 {
		t.Errorf("the beginning is logged %d times", n)
	}
}

// A new connection is checked at once, however rarely the store is checked otherwise.
func TestCheckFollowsConnect(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	r.use(1, "u", five)
	r.reopen(func(o *guard.Options) { o.CheckEvery = time.Hour })
	r.redis.Do("REPLICAOF", "127.0.0.1", 1) // reads still work
	r.faultProxy.CutConnections()
	testkit.Eventually(t, "it is connected to again", func() bool { s, err := r.Read(ctx, "u", five.OnlyChoice()); return err == nil && !s.Stale })
	testkit.Eventually(t, "the fault is known", func() bool { err := r.Fault(); return err != nil && strings.Contains(err.Error(), "replica") })
}

// What Redis has of one user says nothing about the others.
func TestDataOfOneUserOpensNoBreaker(t *testing.T) {
	r := newGuardedRedis(t, setup{allow: true})
	log := r.reopen(nil)
	r.use(1, "bad", five)
	keys := r.redis.Do("KEYS", "*").([]any)
	if len(keys) != 1 {
		t.Fatalf("keys %v, want one", keys)
	}
	r.redis.Do("SET", keys[0], "of another program")
	for range 20 {
		if d, err := r.Reserve(ctx, request("bad", five)); err != nil || !d.Reservation.Unchecked {
			t.Fatalf("unchecked %v, error %v", d.Reservation.Unchecked, err)
		}
		if r.Stats().OpenBreakers != 0 {
			t.Fatal("the breaker is open")
		}
	}
	if d, err := r.Reserve(ctx, request("other", five)); err != nil || d.Reservation.Unchecked {
		t.Errorf("another user: unchecked %v, error %v", d.Reservation.Unchecked, err)
	}
	if n := log.count("cannot use what it has"); n < 1 || n > 2 { // the message and the error
		t.Errorf("it is logged %d times, want once", n)
	}
}

// In a cluster a check opens the breakers of the master that does not count, and no others.
func TestCheckOpensBreakersOfOneMaster(t *testing.T) {
	cluster := redistest.StartCluster(t, false)
	backend, err := redisstore.Open(redisstore.Options{URL: cluster.URL(), Timeout: 20 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { backend.Close() })
	s := open(t, guard.Options{Backend: backend, Journal: openJournal(t, t.TempDir()), AllowOnFailure: true, Timeout: 20 * time.Second,
		Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour})
	if err := s.Check(ctx); err != nil {
		t.Fatal(err)
	}
	cluster.Nodes[0].Do("CONFIG", "SET", "maxmemory", 1)
	if err := s.Check(ctx); err == nil || !strings.Contains(err.Error(), "raise maxmemory") {
		t.Errorf("one master without memory: %v", err)
	}
	if n := s.Stats().OpenBreakers; n < 5 || n > 6 { // of 16 that belong to three masters
		t.Errorf("%d breakers are open, want those of one master", n)
	}
	admitted := map[bool]int{}
	for i := range 100 {
		d, err := s.Reserve(ctx, request(fmt.Sprint("user-", i), five))
		if err != nil || !d.Admitted {
			t.Fatalf("admitted %v, error %v", d.Admitted, err)
		}
		admitted[d.Reservation.Unchecked]++
	}
	if admitted[true] < 10 || admitted[false] < 40 {
		t.Errorf("%d were admitted unchecked and %d checked, want those of one master and of two", admitted[true], admitted[false])
	}
	cluster.Nodes[0].Do("CONFIG", "SET", "maxmemory", 0)
	testkit.Eventually(t, "all breakers are closed", func() bool { return s.Stats().OpenBreakers == 0 && s.Fault() == nil })
}
