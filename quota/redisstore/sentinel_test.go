package redisstore

import (
	"errors"
	"net"
	"testing"
	"time"

	"metergate/quota/redisstore/redistest"
)

func TestSentinel(t *testing.T) {
	const password = "s e/c@r,e#t"
	g := redistest.StartSentinel(t, password)
	t.Run("the old master is asked no more", func(t *testing.T) {
		f := newFaulty(t, g.URL())
		r, err := f.reserve()
		if err == nil {
			err = f.settle(r, 1)
		}
		if err != nil {
			t.Fatal(err)
		}
		g.Master().Replicated(f.store.key(f.user))
		g.Failover()
		// It runs, and would answer a read with old counts and a write with READONLY.
		if r, err = f.reserve(); err == nil {
			err = f.settle(r, 1)
		}
		if err != nil {
			t.Fatal(err)
		}
		f.want("after the failover", 2, 0)
	})
	t.Run("a master is killed", func(t *testing.T) {
		f := newFaulty(t, g.URL())
		f.run(func() { g.Master().Replicated(f.store.key(f.user)) }, func() {
			old := g.Master()
			old.Kill()
			g.Promoted(old, g.Sentinels)
			t.Cleanup(func() { old.Start(); g.Follows(old) })
		})
	})
	// Nothing answers and nothing is refused, neither the master nor a Sentinel
	// beside it.
	t.Run("a machine is lost", func(t *testing.T) {
		f := newFaulty(t, g.URL())
		old := g.Master()
		f.connections(32)
		old.Pause()
		g.Sentinels[2].Pause()
		defer old.Resume()
		defer g.Sentinels[2].Resume()
		g.Promoted(old, g.Sentinels[:2])
		start := time.Now()
		if err := f.reserveAndRelease(); err != nil {
			t.Error(err)
		}
		// With a timeout for each idle connection it would be 32 s.
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("service returned %v after the failover", took)
		} else {
			t.Logf("service returned %v after the failover", took)
		}
	})
	t.Run("Sentinels want the password too", func(t *testing.T) {
		for _, s := range g.Sentinels {
			s.Do("ACL", "SETUSER", "default", ">"+password)
		}
		s, err := Open(Options{URL: g.URL(), Timeout: patient})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		if err := s.Ping(ctx); err != nil {
			t.Error(err)
		}
	})
}

// With TLS the socket cannot be looked at; a connection that was closed because
// the master moved is known all the same.
func TestMasterConnClosed(t *testing.T) {
	a, b := net.Pipe()
	defer b.Close()
	c := &masterConn{Conn: a, of: &failover{}}
	raw, err := c.SyscallConn()
	if err == nil {
		err = raw.Read(func(uintptr) bool { t.Error("looks at a socket that there is not"); return true })
	}
	if err != nil {
		t.Errorf("an open connection: %v", err)
	}
	c.Close()
	if _, err := c.SyscallConn(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed connection: error %v, want %v", err, net.ErrClosed)
	}
}

// A Sentinel that is behind, or was set up anew, does not turn the store round.
func TestSightings(t *testing.T) {
	for _, c := range []struct {
		name    string
		known   sighting
		answers []sighting
		want    string
	}{
		{"nothing known", sighting{}, []sighting{{addr: "a:1"}}, "a:1"},
		{"newer", sighting{addr: "a:1", epoch: 3}, []sighting{{addr: "b:1", epoch: 4}}, "b:1"},
		{"the same", sighting{addr: "a:1", epoch: 3}, []sighting{{addr: "a:1", epoch: 3}}, "a:1"},
		{"one is behind", sighting{addr: "b:1", epoch: 4}, []sighting{{addr: "a:1", epoch: 3}, {addr: "b:1", epoch: 4}}, "b:1"},
		{"all begin anew", sighting{addr: "b:1", epoch: 4}, []sighting{{addr: "a:1", epoch: 1}, {addr: "c:1", epoch: 2}}, "c:1"},
		{"one fails", sighting{}, []sighting{{err: errURL}, {addr: "a:1"}}, "a:1"},
		{"none answers", sighting{addr: "a:1", epoch: 3}, []sighting{{err: errURL}, {err: errURL}}, "a:1"},
		{"none ever answered", sighting{}, []sighting{{err: errURL}}, ""},
	} {
		got, err := choose(c.known, func(yield func(sighting) bool) {
			for _, s := range c.answers {
				if !yield(s) {
					return
				}
			}
		})
		if got.addr != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%s: %q, error %v, want %q", c.name, got.addr, err, c.want)
		}
	}
}
