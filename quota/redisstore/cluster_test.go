package redisstore

import (
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/quotatest"
	"metergate/quota/redisstore/redistest"
)

func TestCluster(t *testing.T) {
	c := redistest.StartCluster(t, false)
	t.Run("suite", func(t *testing.T) {
		quotatest.Run(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
			return keepingStore{openWith(t, Options{
				URL: c.URL(), Prefix: "test-" + quota.NewID(), Timeout: patient, Calendar: calendar, Now: clock.Now,
				Offset: clock.Offset,
			})}
		})
	})
	t.Run("history suite", func(t *testing.T) {
		quotatest.RunHistory(t, func(t testing.TB, h quotatest.HistorySetup) quota.Store {
			return openWith(t, Options{
				URL: c.URL(), Prefix: "test-" + h.Data, Timeout: patient, Calendar: h.Calendar, Keep: h.Keep, HistoryDays: h.HistoryDays,
				Now: h.Clock.Now, Offset: h.Clock.Offset,
			})
		})
	})
	t.Run("bills suite", func(t *testing.T) {
		quotatest.RunBills(t, func(t testing.TB, b quotatest.BillsSetup) quota.Store {
			return openWith(t, Options{
				URL: c.URL(), Prefix: "test-" + b.Data, Timeout: patient, Keep: b.Keep, HistoryDays: b.HistoryDays, BillingHours: b.BillingHours,
				Now: b.Clock.Now, Offset: b.Clock.Offset,
			})
		})
	})
	t.Run("crossings suite", func(t *testing.T) {
		quotatest.RunCrossingCases(t, func(t testing.TB, clock *quotatest.Clock, calendar *quota.Calendar) quota.Store {
			return openWith(t, Options{
				URL: c.URL(), Prefix: "test-" + quota.NewID(), Timeout: patient, Calendar: calendar, Now: clock.Now, Offset: clock.Offset,
			})
		})
	})
	t.Run("three gateways admit exactly the limit", func(t *testing.T) { testThreeGateways(t, c) })
	t.Run("a slot moves while it is used", func(t *testing.T) { testSlotMove(t, c) })
	t.Run("markers stay for longer once a slot has moved", func(t *testing.T) { testMarkersWhileSlotsMove(t, c) })
	t.Run("the slot of an organisation moves while it is used", func(t *testing.T) { testOrgMoves(t, c) })
	t.Run("the slot of the index moves while it is used", func(t *testing.T) { testIndexMoves(t, c) })
	t.Run("nodes have names, or only ports", func(t *testing.T) { testClusterEndpoints(t, c) })
	t.Run("every master is checked", func(t *testing.T) {
		c.Nodes[0].Do("CONFIG", "SET", "save", "3600 1")
		addrs := []string{c.Nodes[1].Addr, c.Nodes[2].Addr}
		slices.Sort(addrs)
		wantWarnings(t, "two of three without persistence", c.URL(), strings.Join(addrs, ", ")+": Redis keeps nothing on disk")
	})
}

func testThreeGateways(t *testing.T, c *redistest.Cluster) {
	stores := []*Store{openWithHistory(t, c.URL()), openWithHistory(t, c.URL()), openWithHistory(t, c.URL())}
	var wait sync.WaitGroup
	var admitted atomic.Int64
	for i := range 1000 {
		wait.Go(func() {
			s := stores[i%len(stores)]
			d, err := s.Reserve(ctx, newRequest("three"))
			if err != nil {
				t.Errorf("Reserve: %v", err)
			}
			if d.Admitted {
				admitted.Add(1)
				// It is settled through another gateway than the one that admitted it.
				if _, err := stores[(i+1)%len(stores)].Commit(ctx, &d.Reservation); err != nil {
					t.Errorf("Commit: %v", err)
				}
			}
		})
	}
	wait.Wait()
	if n := admitted.Load(); n != 100 {
		t.Errorf("%d of 1000 were admitted, want 100", n)
	}
	for i, s := range stores {
		snap, err := s.Read(ctx, "three", plan.OnlyChoice())
		if err != nil || snap.Total.Used != 100 || snap.Total.Held != 0 {
			t.Errorf("gateway %d: %d used, %d held (error %v), want 100 and 0", i, snap.Total.Used, snap.Total.Held, err)
		}
		wantHistory(t, s, "three", 100)
	}
}

// TestClusterScriptIsSentOnce checks that a script whose reply is lost is not sent again, by a
// cluster's client either.
func TestClusterScriptIsSentOnce(t *testing.T) {
	faultProxy := redistest.StartFaultProxy(t, "")
	host, port, _ := net.SplitHostPort(faultProxy.Addr)
	node := redistest.Start(t, "--cluster-enabled", "yes", "--cluster-announce-ip", host, "--cluster-announce-port", port)
	faultProxy.SwitchTo(node.Addr)
	node.TakeSlots(0, 16383)
	for _, c := range []struct {
		fate    redistest.Fate
		timeout time.Duration
	}{{redistest.Cut, patient}, {redistest.Drop, short}} {
		s := openWith(t, Options{URL: "redis+cluster://" + faultProxy.Addr, Timeout: c.timeout})
		f := &failoverTest{t, s, "u", plan}
		if err := f.reserveAndRelease(); err != nil {
			t.Fatal(err)
		}
		var lost atomic.Int64
		faultProxy.OnReply(func(cmd redistest.Command, _ string) redistest.Fate {
			if cmd.Script() == redistest.Reserve {
				lost.Add(1)
				return c.fate
			}
			return redistest.Pass
		})
		before := node.ScriptCalls()
		if _, err := s.Reserve(ctx, newRequest("u")); err == nil {
			t.Error("a lost reply: no error")
		}
		faultProxy.OnReply(nil)
		if n := node.ScriptCalls() - before; n != 1 || lost.Load() != 1 {
			t.Errorf("the script was sent %d times, and lost %d times, want once", n, lost.Load())
		}
	}
}

// TestClusterPingAsksEveryMaster checks that a master that is down shows, wherever the keys of
// users are.
func TestClusterPingAsksEveryMaster(t *testing.T) {
	c := redistest.StartCluster(t, false)
	s := openWith(t, Options{URL: c.URL(), Timeout: time.Second})
	f := &failoverTest{t: t, store: s}
	for _, node := range c.Nodes {
		if err := f.eventually(func() error { return s.Check(ctx) }); err != nil {
			t.Fatalf("Ping of a cluster that is well: %v", err)
		}
		node.Pause()
		if err := s.Check(ctx); err == nil {
			t.Errorf("Ping without %s: no error", node.Addr)
		}
		node.Resume()
	}
}
