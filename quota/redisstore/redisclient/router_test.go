package redisclient

import (
	"context"
	"errors"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/resp"
	"metergate/quota/testkit"
)

// TestOnConnectSeesEachConnectionFirst checks that OnConnect can ask the Redis at the other end
// of each new connection, before a script is sent, and can refuse the connection.
func TestOnConnectSeesEachConnectionFirst(t *testing.T) {
	t.Parallel()
	first, second := redistest.Start(t), redistest.Start(t)
	first.Do("SET", "name", "first")
	second.Do("SET", "name", "second")
	p := redistest.StartFaultProxy(t, first.Addr)
	names, refuse := make(chan string, 10), atomic.Bool{}
	refused := errors.New("not this one")
	c := newClientWith(t, p.URL(), Options{Timeout: patient, InFlight: 8, Now: time.Now,
		OnConnect: func(ctx context.Context, server *redis.Client) error {
			name, err := server.Get(ctx, "name").Result()
			names <- name
			if refuse.Load() {
				return refused
			}
			return err
		}})
	mustEcho(t, c)
	mustEcho(t, c)
	if got := testkit.Receive(t, "the first connection", names); got != "first" || len(names) > 0 {
		t.Errorf("it saw %q, and then %d more", got, len(names))
	}
	p.SwitchTo(second.Addr)
	refuse.Store(true)
	p.CutConnections()
	testkit.Eventually(t, "a call is refused", func() bool { _, err := callEcho(ctx, c, 1); return errors.Is(err, refused) })
	if n := second.ScriptCalls(); n > 0 {
		t.Errorf("%d scripts were sent on connections that were refused", n)
	}
	refuse.Store(false)
	mustEcho(t, c)
	for got := ""; got != "second"; {
		got = testkit.Receive(t, "the connection to the second Redis", names)
	}
}

// endedContext is a context that ends without telling anyone.
type endedContext struct {
	context.Context
	err atomic.Pointer[error]
}

func (c *endedContext) Err() error {
	if err := c.err.Load(); err != nil {
		return *err
	}
	return nil
}

// TestRunLooksAtContextOnceConnected checks that a call is not sent if its context ends while it
// waits for a connection, which then serves others.
func TestRunLooksAtContextOnceConnected(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	ended, call := errors.New("no longer wanted"), &endedContext{Context: ctx}
	c := newClientWith(t, server.URL(), Options{Timeout: patient, InFlight: 8, Now: time.Now,
		OnConnect: func(context.Context, *redis.Client) error { call.err.Store(&ended); return nil }})
	if _, err := callEcho(call, c, 1); !errors.Is(err, ended) {
		t.Errorf("error %v, want %v", err, ended)
	}
	if n := server.ScriptCalls(); n > 0 {
		t.Errorf("%d scripts were sent", n)
	}
	mustEcho(t, c)
}

// TestUnknownScriptStaysOnItsConnection checks that a script that Redis does not know is sent again
// on the connection that OnConnect has seen, and not on another one, which may lead elsewhere.
func TestUnknownScriptStaysOnItsConnection(t *testing.T) {
	t.Parallel()
	right, other := redistest.Start(t), redistest.Start(t)
	p := redistest.StartFaultProxy(t, right.Addr)
	c := newClient(t, p.URL(), patient, 8)
	p.OnReply(func(_ redistest.Command, reply string) redistest.Fate {
		if strings.Contains(reply, "NOSCRIPT") {
			p.SwitchTo(other.Addr)
		}
		return redistest.Pass
	})
	mustEcho(t, c)
	mustEcho(t, c)
	if n := other.ScriptCalls(); n > 0 {
		t.Errorf("%d scripts were sent elsewhere", n)
	}
}

// TestNothingIsSentAgainAfterContext checks that a script is not sent again, whatever Redis replied,
// if its context has ended by then.
func TestNothingIsSentAgainAfterContext(t *testing.T) {
	t.Parallel()
	write := redis.NewScript("redis.call('SET', KEYS[1], 1) return {1}")
	ended := errors.New("no longer wanted")
	for reply, prepare := range map[string]func(*redistest.Server){
		"NOSCRIPT":   func(r *redistest.Server) { r.Do("SCRIPT", "FLUSH") },
		"NOREPLICAS": func(r *redistest.Server) { r.Do("CONFIG", "SET", "min-replicas-to-write", "1") },
	} {
		server, call := redistest.Start(t), &endedContext{Context: ctx}
		p := redistest.StartFaultProxy(t, server.Addr)
		c := newClient(t, p.URL(), patient, 8)
		if err := c.Run(ctx, write, "key:{1}", "", new(resp.Args), new(Reply)); err != nil {
			t.Fatal(err)
		}
		server.Do("DEL", "key:{1}")
		prepare(server)
		p.OnReply(func(_ redistest.Command, got string) redistest.Fate {
			if strings.Contains(got, reply) {
				call.err.Store(&ended)
				server.Do("CONFIG", "SET", "min-replicas-to-write", "0")
			}
			return redistest.Pass
		})
		if err := c.Run(call, write, "key:{1}", "", new(resp.Args), new(Reply)); !errors.Is(err, ended) {
			t.Errorf("after %s: error %v, want %v", reply, err, ended)
		}
		if got := server.Do("EXISTS", "key:{1}"); got != int64(0) {
			t.Errorf("after %s: the script has run", reply)
		}
	}
}
