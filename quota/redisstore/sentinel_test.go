package redisstore

import (
	"testing"
	"time"

	"metergate/quota/redisstore/redistest"
)

func TestSentinel(t *testing.T) {
	const password = "s e/c@r,e#t"
	g := redistest.StartSentinel(t, password)
	t.Run("the old master gets no more calls", func(t *testing.T) {
		f := newFailoverTest(t, g.URL())
		r, err := f.reserve()
		if err == nil {
			err = f.settle(r, true)
		}
		if err != nil {
			t.Fatal(err)
		}
		g.Master().AwaitReplication(key(f.store, f.user))
		g.Failover()
		// It runs, and would reply to a read with old counts and to a write with READONLY.
		if r, err = f.reserve(); err == nil {
			err = f.settle(r, true)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.wantState("after the failover", 2, 0)
	})
	t.Run("a master is killed", func(t *testing.T) {
		f := newFailoverTest(t, g.URL())
		f.run(func() { g.Master().AwaitReplication(key(f.store, f.user)) }, func() {
			old := g.Master()
			old.Kill()
			g.AwaitPromotion(old, g.Sentinels)
			t.Cleanup(func() { old.Start(); g.AwaitReplica(old) })
		})
	})
	// Neither the master nor the Sentinel beside it replies or refuses connections.
	t.Run("a machine is lost", func(t *testing.T) {
		f := newFailoverTest(t, g.URL())
		old := g.Master()
		f.openConnections(32)
		old.Pause()
		g.Sentinels[2].Pause()
		defer old.Resume()
		defer g.Sentinels[2].Resume()
		g.AwaitPromotion(old, g.Sentinels[:2])
		start := time.Now()
		if err := f.reserveAndRelease(); err != nil {
			t.Error(err)
		}
		// With a timeout for each idle connection it would be 32 s.
		if took := time.Since(start); took > 25*time.Second {
			t.Errorf("service returned %v after the failover", took)
		} else {
			t.Logf("service returned %v after the failover", took)
		}
	})
	t.Run("Sentinels name the master by its host name", func(t *testing.T) { testSentinelNames(t, g) })
	t.Run("Sentinels want the password too", func(t *testing.T) {
		for _, s := range g.Sentinels {
			s.Needs(t, "6.2", "ACL for Sentinels")
			s.Do("ACL", "SETUSER", "default", ">"+password)
		}
		if err := openStore(t, g.URL()).Check(ctx); err != nil {
			t.Error(err)
		}
	})
}
