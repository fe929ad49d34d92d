package redisstore

import (
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/redistest"
)

const (
	// short is a timeout that is meant to pass.
	short = 500 * time.Millisecond
	// bound is longer than a call may take with it, however busy the machine.
	bound = 20 * time.Second
)

// openWith opens a store with a timeout.
func openWith(t testing.TB, url string, timeout time.Duration, connections int) *Store {
	t.Helper()
	s, err := Open(Options{URL: url, Timeout: timeout, InFlight: connections})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func newRequest(user string) quota.Request {
	return quota.Request{ID: quota.NewID(), User: user, Endpoint: "analyze", Plans: plan.OnlyChoice(), Lease: time.Minute}
}

// admit reserves where nothing is in the way.
func admit(t testing.TB, s *Store, user string) quota.Reservation {
	t.Helper()
	d, err := s.Reserve(ctx, newRequest(user))
	if err != nil || !d.Admitted {
		t.Fatalf("admitted %v, error %v", d.Admitted, err)
	}
	return d.Reservation
}

// wantState compares what Redis has of a user.
func wantState(t testing.TB, s *Store, user string, used, held int64) {
	t.Helper()
	snap, err := s.Read(ctx, user, plan.OnlyChoice())
	if err != nil || snap.Total.Used != used || snap.Total.Held != held {
		t.Errorf("%d used, %d held (error %v), want %d and %d", snap.Total.Used, snap.Total.Held, err, used, held)
	}
}

// wantError runs a call that cannot get its answer, and has to know in time.
func wantError(t testing.TB, what string, call func() error) {
	t.Helper()
	start := time.Now()
	err := call()
	if err == nil || errors.Is(err, quota.ErrOverloaded) || errors.Is(err, quota.ErrSettled) {
		t.Errorf("%s without an answer: error %v, want Redis's", what, err)
	}
	if took := time.Since(start); took > bound {
		t.Errorf("%s without an answer took %v, the timeout is %v", what, took, short)
	}
}

// lost are the ways to lose the answer to a script.
var lost = []struct {
	name string
	ran  bool // the script, all the same
	set  func(c *redistest.Cable, script string)
}{
	{"the answer never comes", true, func(c *redistest.Cable, script string) {
		c.OnReply(only(script, redistest.Swallow))
	}},
	{"the answer comes after the timeout", true, func(c *redistest.Cable, script string) {
		late := only(script, redistest.Swallow)
		c.OnReply(func(cmd redistest.Command, reply string) redistest.Fate {
			if late(cmd, reply) != redistest.Pass {
				select {
				case <-time.After(2 * short):
				case <-c.Closed():
				}
			}
			return redistest.Pass
		})
	}},
	{"the connection is cut before the answer", true, func(c *redistest.Cable, script string) {
		c.OnReply(only(script, redistest.Cut))
	}},
	{"the call never arrives", false, func(c *redistest.Cable, script string) {
		f := only(script, redistest.Swallow)
		c.OnCommand(func(cmd redistest.Command) redistest.Fate { return f(cmd, "") })
	}},
	{"the connection is cut before the call", false, func(c *redistest.Cable, script string) {
		f := only(script, redistest.Cut)
		c.OnCommand(func(cmd redistest.Command) redistest.Fate { return f(cmd, "") })
	}},
	{"no connection", false, func(c *redistest.Cable, script string) {
		c.Refuse(true)
		c.CutAll()
	}},
}

func only(script string, fate redistest.Fate) func(redistest.Command, string) redistest.Fate {
	return func(cmd redistest.Command, reply string) redistest.Fate {
		// go-redis sends the text of a script that Redis does not know.
		if cmd.Script() == script && !strings.HasPrefix(reply, "-NOSCRIPT") {
			return fate
		}
		return redistest.Pass
	}
}

// A reserve whose answer is lost can be committed, and counts once; it can be
// released, and then nothing is held. The same for a settle that is repeated.
func TestLostAnswers(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	past := openStore(t, redis.URL())
	for i, fault := range lost {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			c := redistest.Connect(t, redis.Addr)
			s := openWith(t, c.URL(), short, 0)
			n := 0
			user := func() string { n++; return fmt.Sprint("user-", i, "-", n) }
			ran := int64(0)
			if fault.ran {
				ran = 1
			}
			// repeat makes a call until it is answered: on a busy machine the first
			// one may be late without a fault.
			repeat := func(call func(quota.Reservation) error, r quota.Reservation) {
				t.Helper()
				var err error
				for range 20 {
					if err = call(r); err == nil {
						return
					}
				}
				t.Errorf("not answered: %v", err)
			}
			commit := func(r quota.Reservation) error { _, err := s.Commit(ctx, &r); return err }
			release := func(r quota.Reservation) error { _, err := s.Release(ctx, &r); return err }

			for end, call := range map[string]func(quota.Reservation) error{"commit": commit, "release": release} {
				used := int64(0)
				if end == "commit" {
					used = 1
				}
				u := user()
				var d *quota.Decision
				fault.set(c, redistest.Reserve)
				wantError(t, "reserve", func() (err error) { d, err = s.Reserve(ctx, newRequest(u)); return err })
				c.Heal()
				if d.Admitted || len(d.Reservation.Windows) != 1 {
					t.Errorf("reserve without an answer: admitted %v, windows %v", d.Admitted, d.Reservation.Windows)
				}
				wantState(t, past, u, 0, ran)
				repeat(call, d.Reservation)
				wantState(t, past, u, used, 0)
				repeat(call, d.Reservation)
				wantState(t, past, u, used, 0)

				u = user()
				r := admit(t, past, u)
				fault.set(c, end)
				wantError(t, end, func() error { return call(r) })
				c.Heal()
				if fault.ran {
					wantState(t, past, u, used, 0)
				} else {
					wantState(t, past, u, 0, 1)
				}
				repeat(call, r)
				wantState(t, past, u, used, 0)
				repeat(call, r)
				wantState(t, past, u, used, 0)
				// What is settled stays so.
				repeat(commit, r)
				repeat(release, r)
				wantState(t, past, u, used, 0)
			}
		})
	}
}

// A reserve that is on its way for so long that its release overtakes it holds
// nothing when it arrives.
func TestReserveAfterItsRelease(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	past := openStore(t, redis.URL())
	c := redistest.Connect(t, redis.Addr)
	s := openWith(t, c.URL(), short, 0)
	admit(t, past, "other") // loads the script
	hold, ran := make(chan bool), make(chan string, 1)
	c.OnCommand(func(cmd redistest.Command) redistest.Fate {
		if cmd.Script() == redistest.Reserve {
			select {
			case <-hold:
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
	if _, err := past.Release(ctx, &d.Reservation); err != nil {
		t.Fatal(err)
	}
	close(hold)
	if reply := <-ran; strings.Split(reply, "\r\n")[1] != fmt.Sprint(":", codeSettled) {
		t.Errorf("the late reserve was answered %q, want the code for settled", reply)
	}
	wantState(t, past, "u", 0, 0)
}

// What is sent to a Redis that stands still runs when it goes on, in any order.
func TestRedisStandsStill(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	s, past := openWith(t, redis.URL(), short, 0), openStore(t, redis.URL())
	admitted := admit(t, past, "other")
	redis.Pause()
	var d *quota.Decision
	wantError(t, "reserve", func() (err error) { d, err = s.Reserve(ctx, newRequest("u")); return err })
	wantError(t, "release", func() error { _, err := s.Release(ctx, &d.Reservation); return err })
	wantError(t, "commit", func() error { _, err := s.Commit(ctx, &admitted); return err })
	redis.Resume()
	if _, err := past.Release(ctx, &d.Reservation); err != nil {
		t.Error(err)
	}
	if _, err := past.Commit(ctx, &admitted); err != nil {
		t.Error(err)
	}
	wantState(t, past, "u", 0, 0)
	wantState(t, past, "other", 1, 0)
}

// Scripts that Redis has forgotten are sent again, within the same call.
func TestScriptsGone(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, "--appendonly", "yes", "--appendfsync", "always")
	s := openStore(t, redis.URL())
	flush := func() {
		if err := s.client.ScriptFlush(ctx).Err(); err != nil {
			t.Fatal(err)
		}
	}
	restart := func() { redis.Kill(); redis.Start() }
	used := int64(0)
	for name, forget := range map[string]func(){"flush": flush, "restart": restart} {
		t.Run(name, func(t *testing.T) {
			forget()
			r := admit(t, s, "u")
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

// hash is all that Redis has of a user.
func hash(t testing.TB, s *Store, user string) map[string]string {
	t.Helper()
	all, err := s.client.HGetAll(ctx, s.key(user)).Result()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// A Redis that became a replica reads, and changes nothing.
func TestReadOnlyReplica(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, "--replica-read-only", "yes")
	s := openStore(t, redis.URL())
	admitted := [2]quota.Reservation{admit(t, s, "u"), admit(t, s, "u")}
	before := hash(t, s, "u")
	// Nobody listens there.
	if err := s.client.Do(ctx, "replicaof", "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	readOnly := func(what string, err error) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "READONLY") {
			t.Errorf("%s on a replica: error %v, want READONLY", what, err)
		}
	}
	d, err := s.Reserve(ctx, newRequest("u"))
	readOnly("reserve", err)
	if d.Admitted {
		t.Error("admitted by a replica")
	}
	_, err = s.Commit(ctx, &admitted[0])
	readOnly("commit", err)
	_, err = s.Release(ctx, &admitted[1])
	readOnly("release", err)
	wantState(t, s, "u", 0, 2)
	if after := hash(t, s, "u"); !maps.Equal(before, after) {
		t.Errorf("the replica changed %v to %v", before, after)
	}
	if err := s.client.Do(ctx, "replicaof", "no", "one").Err(); err != nil {
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

// Without memory a script does all of its work or nothing; never a part. A unit
// that is held can still be settled, because that frees before it takes.
func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t, "--maxmemory-policy", "noeviction")
	clock := atomic.Int64{} // ms ahead
	s, err := Open(Options{URL: redis.URL(), Timeout: 20 * time.Second,
		Offset: func() time.Duration { return time.Duration(clock.Load()) * time.Millisecond }})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	memory := func(limit string) {
		t.Helper()
		if err := s.client.ConfigSet(ctx, "maxmemory", limit).Err(); err != nil {
			t.Fatal(err)
		}
	}
	held := [2]quota.Reservation{admit(t, s, "u"), admit(t, s, "u")}
	released := newRequest("v") // never reserved
	memory("1")
	before := hash(t, s, "u")
	d, err := s.Reserve(ctx, newRequest("u"))
	if err == nil || !strings.Contains(err.Error(), "OOM") || d.Admitted {
		t.Errorf("reserve without memory: admitted %v, error %v", d.Admitted, err)
	}
	if after := hash(t, s, "u"); !maps.Equal(before, after) {
		t.Errorf("a reserve without memory changed %v to %v", before, after)
	}
	_, err = s.Release(ctx, &quota.Reservation{Request: released})
	if all := hash(t, s, "v"); (err == nil) != (len(all) > 0) {
		t.Errorf("the release of what was not held: error %v, and Redis has %v", err, all)
	}
	if _, err := s.Commit(ctx, &held[0]); err != nil {
		t.Errorf("commit of a held unit without memory: %v", err)
	}
	wantState(t, s, "u", 1, 1)
	if _, err := s.Release(ctx, &held[1]); err != nil {
		t.Errorf("release of a held unit without memory: %v", err)
	}
	wantState(t, s, "u", 1, 0)

	// One whose lease has run out, and that the sweep has taken away.
	memory("0")
	late := admit(t, s, "u")
	clock.Store((2 * time.Minute).Milliseconds())
	wantState(t, s, "u", 1, 0)
	memory("1")
	before = hash(t, s, "u")
	_, err = s.Commit(ctx, &late)
	if after := hash(t, s, "u"); err != nil && !maps.Equal(before, after) {
		t.Errorf("a commit that failed without memory (%v) changed %v to %v", err, before, after)
	}
	memory("0")
	for range 2 {
		if _, err := s.Commit(ctx, &late); err != nil {
			t.Error(err)
		}
		wantState(t, s, "u", 2, 0)
	}
	if _, err := s.Reserve(ctx, d.Reservation.Request); err != nil {
		t.Errorf("reserve with memory again: %v", err)
	}
	wantState(t, s, "u", 2, 1)
}

// More calls than may be under way, and Redis holds those: the others learn that the
// gateway is overloaded, which is not Redis's failure.
func TestNoSlotFree(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	past := openStore(t, redis.URL())
	admit(t, past, "other") // loads the script
	c := redistest.Connect(t, redis.Addr)
	s := openWith(t, c.URL(), time.Minute, 2)
	hold := make(chan bool)
	c.OnCommand(func(cmd redistest.Command) redistest.Fate {
		if cmd.Script() == redistest.Reserve {
			select {
			case <-hold:
			case <-c.Closed():
			}
		}
		return redistest.Pass
	})
	var all, others sync.WaitGroup
	var admitted atomic.Int64
	others.Add(50)
	for range 52 {
		all.Go(func() {
			switch d, err := s.Reserve(ctx, newRequest("u")); {
			case errors.Is(err, quota.ErrOverloaded) && !d.Admitted:
				others.Done()
			case err == nil && d.Admitted:
				admitted.Add(1)
			default:
				t.Errorf("admitted %v, error %v, want true or %v", d.Admitted, err, quota.ErrOverloaded)
			}
		})
	}
	others.Wait()
	wantState(t, past, "u", 0, 0)
	close(hold)
	all.Wait()
	wantState(t, past, "u", 0, 2)
	if n := admitted.Load(); n != 2 {
		t.Errorf("%d were admitted, want 2", n)
	}
}

// Slow is not down.
func TestSlowAnswers(t *testing.T) {
	t.Parallel()
	redis := redistest.Start(t)
	c := redistest.Connect(t, redis.Addr)
	s := openWith(t, c.URL(), 20*time.Second, 4)
	c.Delay(200 * time.Millisecond)
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
