package redisstore

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
	"metergate/quota/testkit"
)

const (
	// short is a timeout that is meant to pass.
	short = 500 * time.Millisecond
	// bound is longer than a call may take with short, however busy the machine.
	bound = 20 * time.Second
)

// wantError makes a call that cannot get its reply, and checks that it fails in time, with an
// error of Redis.
func wantError(t testing.TB, what string, call func() error) {
	t.Helper()
	start := time.Now()
	err := call()
	if err == nil || errors.Is(err, quota.ErrOverloaded) || errors.Is(err, quota.ErrSettled) {
		t.Errorf("%s without a reply: error %v, want one of Redis", what, err)
	}
	if took := time.Since(start); took > bound {
		t.Errorf("%s without a reply took %v, the timeout is %v", what, took, short)
	}
}

// A replyLoss is a way to lose the reply to a script.
type replyLoss struct {
	name string
	runs bool // the script runs all the same
	set  func(c *redistest.FaultProxy, script string)
}

var replyLosses = []replyLoss{
	{"the reply never comes", true, func(c *redistest.FaultProxy, script string) {
		c.OnReply(fateOf(script, redistest.Drop))
	}},
	{"the reply comes after the timeout", true, func(c *redistest.FaultProxy, script string) {
		late, healed := fateOf(script, redistest.Drop), c.Healed() // once the call has failed
		c.OnReply(func(cmd redistest.Command, reply string) redistest.Fate {
			if late(cmd, reply) != redistest.Pass {
				select {
				case <-healed:
				case <-c.Closed():
				}
			}
			return redistest.Pass
		})
	}},
	{"the connection is cut before the reply", true, func(c *redistest.FaultProxy, script string) {
		c.OnReply(fateOf(script, redistest.Cut))
	}},
	{"the call never arrives", false, func(c *redistest.FaultProxy, script string) {
		f := fateOf(script, redistest.Drop)
		c.OnCommand(func(cmd redistest.Command) redistest.Fate { return f(cmd, "") })
	}},
	{"the connection is cut before the call", false, func(c *redistest.FaultProxy, script string) {
		f := fateOf(script, redistest.Cut)
		c.OnCommand(func(cmd redistest.Command) redistest.Fate { return f(cmd, "") })
	}},
	{"no connection", false, func(c *redistest.FaultProxy, script string) {
		c.RefuseConnections(true)
		c.CutConnections()
	}},
}

// fateOf gives one script a fate, and lets everything else pass.
func fateOf(script string, fate redistest.Fate) func(redistest.Command, string) redistest.Fate {
	return func(cmd redistest.Command, reply string) redistest.Fate {
		// After NOSCRIPT, the client sends the source of the script.
		if cmd.Script() == script && !strings.HasPrefix(reply, "-NOSCRIPT") {
			return fate
		}
		return redistest.Pass
	}
}

// repeat makes a call until it is answered. On a busy machine the first call may be late
// without a fault.
func repeat(t testing.TB, call func(quota.Reservation) error, r quota.Reservation) {
	t.Helper()
	var err error
	for range 20 {
		if err = call(r); err == nil {
			return
		}
	}
	t.Errorf("not answered: %v", err)
}

// TestLostRepliesCountOnce checks that a reserve whose reply is lost can be committed, and then
// counts once, or released, and then nothing is held; and that a settle whose reply is lost can
// be repeated.
func TestLostRepliesCountOnce(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	direct := openWithHistory(t, redis.URL()) // not through the faultProxy
	for i, loss := range replyLosses {
		t.Run(loss.name, func(t *testing.T) {
			t.Parallel()
			c := redistest.StartFaultProxy(t, redis.Addr)
			s := openWith(t, Options{URL: c.URL(), Timeout: short, HistoryDays: historyDays})
			commit := func(r quota.Reservation) error { _, err := s.Commit(ctx, &r); return err }
			release := func(r quota.Reservation) error { _, err := s.Release(ctx, &r); return err }
			for n, settle := range []func(quota.Reservation) error{commit, release} {
				testkit.Eventually(t, "connections, and scripts that Redis knows", func() bool {
					d, err := s.Reserve(ctx, newRequest(fmt.Sprint("warm-up-", i, n)))
					return err == nil && settle(d.Reservation) == nil
				})
			}
			for end, settle := range map[string]func(quota.Reservation) error{"commit": commit, "release": release} {
				used := int64(0)
				if end == "commit" {
					used = 1
				}
				testLostReserve(t, s, direct, c, loss, fmt.Sprint("reserve-", end, "-", i), settle, used)

				user := fmt.Sprint("settle-", end, "-", i)
				r := mustReserve(t, direct, user)
				loss.set(c, end)
				wantError(t, end, func() error { return settle(r) })
				c.Heal()
				if loss.runs {
					waitForState(t, direct, user, used, 0)
				} else {
					wantState(t, direct, user, 0, 1)
				}
				for range 2 {
					repeat(t, settle, r)
					wantState(t, direct, user, used, 0)
				}
				// A settled reservation stays as it is.
				repeat(t, commit, r)
				repeat(t, release, r)
				wantState(t, direct, user, used, 0)
			}
		})
	}
}

// testLostReserve loses the reply to a reserve and settles it twice.
func testLostReserve(t *testing.T, s, direct *Store, c *redistest.FaultProxy, loss replyLoss, user string, settle func(quota.Reservation) error, used int64) {
	t.Helper()
	held := int64(0)
	if loss.runs {
		held = 1
	}
	var d *quota.Decision
	loss.set(c, redistest.Reserve)
	wantError(t, "reserve", func() (err error) { d, err = s.Reserve(ctx, newRequest(user)); return err })
	c.Heal()
	if d.Admitted || len(d.Reservation.Windows) != 1 {
		t.Errorf("reserve without a reply: admitted %v, windows %v", d.Admitted, d.Reservation.Windows)
	}
	waitForState(t, direct, user, 0, held)
	for range 2 {
		repeat(t, settle, d.Reservation)
		wantState(t, direct, user, used, 0)
	}
}

// TestLateReserveOfAReleasedIDHoldsNothing checks a reserve that is under way for so long that
// its release overtakes it.
func TestLateReserveOfAReleasedIDHoldsNothing(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	direct := openWithHistory(t, redis.URL())
	c := redistest.StartFaultProxy(t, redis.Addr)
	s := openWith(t, Options{URL: c.URL(), Timeout: short, HistoryDays: historyDays})
	testkit.Eventually(t, "a connection, and a script that Redis knows", func() bool { _, err := s.Reserve(ctx, newRequest("other")); return err == nil })
	goOn, ran := make(chan bool), make(chan string, 1)
	c.OnCommand(func(cmd redistest.Command) redistest.Fate {
		if cmd.Script() == redistest.Reserve {
			select {
			case <-goOn:
			case <-c.Closed():
			}
		}
		return redistest.Pass
	})
	c.OnReply(func(cmd redistest.Command, reply string) redistest.Fate {
		if cmd.Script() == redistest.Reserve {
			ran <- reply
		}
		return redistest.Pass
	})
	var d *quota.Decision
	wantError(t, "reserve", func() (err error) { d, err = s.Reserve(ctx, newRequest("u")); return err })
	if _, err := direct.Release(ctx, &d.Reservation); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if reply := testkit.Receive(t, "the late reply", ran); strings.Split(reply, "\r\n")[1] != fmt.Sprintf(":%d", script.Settled) {
		t.Errorf("the reply to the late reserve is %q, want the code for settled", reply)
	}
	wantState(t, direct, "u", 0, 0)
}

// TestCallsToAStoppedRedisAreHarmless checks that what is sent to a Redis that is stopped still
// runs when it goes on, in any order.
func TestCallsToAStoppedRedisAreHarmless(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	s, direct := openWith(t, Options{URL: redis.URL(), Timeout: short, HistoryDays: historyDays}), openWithHistory(t, redis.URL())
	admitted := mustReserve(t, direct, "other")
	redis.Pause()
	var d *quota.Decision
	wantError(t, "reserve", func() (err error) { d, err = s.Reserve(ctx, newRequest("u")); return err })
	wantError(t, "release", func() error { _, err := s.Release(ctx, &d.Reservation); return err })
	wantError(t, "commit", func() error { _, err := s.Commit(ctx, &admitted); return err })
	redis.Resume()
	if _, err := direct.Release(ctx, &d.Reservation); err != nil {
		t.Error(err)
	}
	if _, err := direct.Commit(ctx, &admitted); err != nil {
		t.Error(err)
	}
	wantState(t, direct, "u", 0, 0)
	wantState(t, direct, "other", 1, 0)
}

// TestForgottenScriptsAreSentAgain checks that a call sends a script that Redis does not know,
// instead of failing.
func TestForgottenScriptsAreSentAgain(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s := openWithHistory(t, redis.URL())
	flush := func() {
		if err := commands(s).ScriptFlush(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
	restart := func() { redis.Kill(); redis.Start() }
	used := int64(0)
	for name, forget := range map[string]func(){"flush": flush, "restart": restart} {
		t.Run(name, func(t *testing.T) {
			forget()
			r := mustReserve(t, s, "u")
			forget()
			wantState(t, s, "u", used, 1)
			forget()
			if _, err := s.Commit(ctx, &r); err != nil {
				t.Errorf("commit: %v", err)
			}
			used++
			forget()
			if _, err := s.Commit(ctx, &r); err != nil {
				t.Errorf("the same commit: %v", err)
			}
			wantState(t, s, "u", used, 0)
		})
	}
}

// TestOverloadIsNotAFaultOfRedis makes more calls than may be under way, while Redis holds
// those: the others must get quota.ErrOverloaded.
func TestOverloadIsNotAFaultOfRedis(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	direct := openWithHistory(t, redis.URL())
	mustReserve(t, direct, "other") // loads the script
	c := redistest.StartFaultProxy(t, redis.Addr)
	s := openWith(t, Options{URL: c.URL(), Timeout: time.Minute, InFlight: 2})
	goOn := make(chan bool)
	c.OnCommand(func(cmd redistest.Command) redistest.Fate {
		if cmd.Script() == redistest.Reserve {
			select {
			case <-goOn:
			case <-c.Closed():
			}
		}
		return redistest.Pass
	})
	var all, overloaded sync.WaitGroup
	var admitted atomic.Int64
	overloaded.Add(50)
	for range 52 {
		all.Go(func() {
			switch d, err := s.Reserve(ctx, newRequest("u")); {
			case errors.Is(err, quota.ErrOverloaded) && !d.Admitted:
				overloaded.Done()
			case err == nil && d.Admitted:
				admitted.Add(1)
			default:
				t.Errorf("admitted %v, error %v, want true or %v", d.Admitted, err, quota.ErrOverloaded)
			}
		})
	}
	overloaded.Wait()
	wantState(t, direct, "u", 0, 0)
	close(goOn)
	all.Wait()
	wantState(t, direct, "u", 0, 2)
	if n := admitted.Load(); n != 2 {
		t.Errorf("%d were admitted, want 2", n)
	}
}

// TestSlowRepliesAreNotAnOutage delays each reply by less than the timeout.
func TestSlowRepliesAreNotAnOutage(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	c := redistest.StartFaultProxy(t, redis.Addr)
	s := openWith(t, Options{URL: c.URL(), Timeout: patient, InFlight: 4})
	c.DelayReplies(200 * time.Millisecond)
	var wait sync.WaitGroup
	for range 16 {
		wait.Go(func() {
			d, err := s.Reserve(ctx, newRequest("u"))
			if err != nil || !d.Admitted {
				t.Errorf("admitted %v, error %v", d.Admitted, err)
				return
			}
			if _, err := s.Commit(ctx, &d.Reservation); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	wantState(t, s, "u", 16, 0)
}
