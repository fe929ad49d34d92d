package guard_test

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
	"metergate/quota/testkit"
)

// While the breaker is open only the probe asks Redis, and no call waits for it, not even for
// a free connection.
func TestOpenBreakerKeepsCallsFromStore(t *testing.T) {
	r := newGuardedRedis(t, setup{timeout: time.Second, connections: 8})
	r.warmUp()
	var calls, probes atomic.Int64
	r.faultProxy.OnCommand(func(c redistest.Command) redistest.Fate {
		if c.Script() == redistest.Check {
			probes.Add(1)
		} else {
			calls.Add(1)
		}
		return redistest.Drop
	})
	var wait sync.WaitGroup
	for range 50 {
		wait.Go(func() {
			if _, err := r.Reserve(ctx, request("u", five)); err == nil {
				t.Error("no error")
			}
		})
	}
	wait.Wait()
	if r.Stats().OpenBreakers != 1 {
		t.Fatal("the breaker is not open")
	}
	// New connections are made, each of which takes a few commands.
	if n := calls.Load(); n > 40 {
		t.Errorf("50 calls reached Redis as %d commands", n)
	}
	before := calls.Load()
	for range 1000 {
		r.Reserve(ctx, request("u", five))
	}
	testkit.EventuallyWithin(t, time.Minute, "it is probed", func() bool { return probes.Load() > 1 || calls.Load() > before })
	r.endOutage()
	testkit.EventuallyWithin(t, time.Minute, "normal service", func() bool { _, err := r.Reserve(ctx, request("u", five)); return err == nil })
}

// One lost answer is not an outage.
func TestOneFailureOpensNoBreaker(t *testing.T) {
	r := newGuardedRedis(t, setup{})
	r.use(1, "u", five)
	r.faultProxy.CutConnections()
	r.redis.Stop()
	r.Reserve(ctx, request("u", five))
	r.redis.Start()
	if r.Stats().OpenBreakers != 0 {
		t.Error("one failure has opened the breaker")
	}
}

// Neither is one broken connection, however many calls were under way on it.
func TestOneBrokenConnectionOpensNoBreaker(t *testing.T) {
	r := newGuardedRedis(t, setup{timeout: time.Minute})
	r.use(1, "u", five)
	const calls = 20
	sent := make(chan bool, calls)
	r.faultProxy.OnCommand(func(redistest.Command) redistest.Fate { sent <- true; return redistest.Pass })
	r.faultProxy.DropReplies(true)
	var wait sync.WaitGroup
	for range calls {
		wait.Go(func() {
			if s, err := r.Read(ctx, "u", five.OnlyChoice()); err != nil || !s.Stale {
				t.Errorf("error %v, stale %v, want the last known numbers", err, s.Stale)
			}
		})
	}
	for range calls {
		<-sent
	}
	r.faultProxy.CutConnections()
	wait.Wait()
	if r.Stats().OpenBreakers != 0 {
		t.Error("one broken connection has opened the breaker")
	}
	r.faultProxy.Heal()
	r.wantState("u", five, "1+0")
}

// That the gateway is overloaded says nothing about the store.
func TestOverloadOpensNoBreaker(t *testing.T) {
	local, err := boltstore.Open(t.TempDir(), boltstore.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	backend := &overloadedStore{Store: local}
	s := open(t, guard.Options{Backend: backend, Journal: openJournal(t, t.TempDir()), AllowOnFailure: true, Timeout: time.Second,
		Calendar: quota.NewCalendar(nil), Keep: 24 * time.Hour})
	d, err := s.Reserve(ctx, request("u", five))
	if err != nil {
		t.Fatal(err)
	}
	backend.overloaded.Store(true)
	for range 20 {
		if _, err := s.Reserve(ctx, request("u", five)); !errors.Is(err, quota.ErrOverloaded) {
			t.Fatalf("error %v, want %v: it must not pass", err, quota.ErrOverloaded)
		}
	}
	if _, err := s.Commit(ctx, &d.Reservation); err != nil {
		t.Errorf("a commit that finds the gateway overloaded: %v", err)
	}
	if s.Stats().OpenBreakers != 0 {
		t.Error("the breaker is open")
	}
	backend.overloaded.Store(false)
	testkit.EventuallyWithin(t, time.Minute, "it is counted", func() bool { s, err := s.Read(ctx, "u", five.OnlyChoice()); return err == nil && numbers(s) == "1+0" })
}

// A slow Redis is not an outage. New connections take several answers, and new scripts must be
// loaded, but that must not use up the timeout of every call.
func TestSlowStoreIsServedEventually(t *testing.T) {
	r := newGuardedRedis(t, setup{timeout: time.Second})
	r.faultProxy.DelayReplies(700 * time.Millisecond) // a new connection takes two answers, a new script one more
	testkit.EventuallyWithin(t, time.Minute, "it serves", func() bool {
		d, err := r.Reserve(ctx, request("u", five))
		if err == nil && d.Admitted {
			r.Release(ctx, &d.Reservation)
		}
		return err == nil
	})
	r.faultProxy.CutConnections()
	testkit.EventuallyWithin(t, time.Minute, "it serves again", func() bool {
		_, err := r.Read(ctx, "u", five.OnlyChoice())
		return err == nil && r.Stats().OpenBreakers == 0
	})
}

// A user whose terms change again and again during a call says nothing about the store.
func TestContendedUserOpensNoBreaker(t *testing.T) {
	r := newGuardedRedis(t, setup{})
	r.useOn(1, func() quota.Request { return onDay(ownMonth, "u", 15) })
	var n atomic.Int64
	r.faultProxy.OnCommand(func(c redistest.Command) redistest.Fate {
		if c.Script() != "" && c.Script() != redistest.Check {
			r.redis.Do("HSET", script.Key("metergate", "u"), "terms", fmt.Sprint("m=15 y=15 t=", 1_000_000_000+n.Add(1)))
		}
		return redistest.Pass
	})
	for range 8 {
		if _, err := r.Reserve(ctx, onDay(ownMonth, "u", 15)); !errors.Is(err, quota.ErrContended) {
			t.Fatalf("error %v, want %v", err, quota.ErrContended)
		}
	}
	if r.Stats().OpenBreakers != 0 {
		t.Error("the breaker is open")
	}
	r.faultProxy.OnCommand(nil)
	r.useOn(1, func() quota.Request { return onDay(ownMonth, "u", 15) })
}
