package redisstore

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// The tests of this file repeat what others have reported of Redis and its clients, on GitHub.

// wantRefusedWhile checks that a store fails with an error that names the fault while it lasts,
// changes nothing, and works again afterwards without being opened anew.
func wantRefusedWhile(t *testing.T, s *Store, fault string, cure func()) {
	t.Helper()
	f := &failoverTest{t: t, store: s, user: "u"}
	before := userHash(t, s, "u")
	start := time.Now()
	d, err := s.Reserve(ctx, newRequest("u"))
	if err == nil || !strings.Contains(err.Error(), fault) || d.Admitted {
		t.Errorf("a reserve: admitted %v, error %v, want %s", d.Admitted, err, fault)
	}
	if took := time.Since(start); took > patient {
		t.Errorf("the error took %v", took)
	}
	cure()
	if err := f.eventually(func() error {
		if after := userHash(t, s, "u"); !maps.Equal(before, after) {
			t.Errorf("%v became %v", before, after)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	var held quota.Reservation
	if err := f.eventually(func() error {
		d, err := s.Reserve(ctx, newRequest("u"))
		held = d.Reservation
		return err
	}); err != nil {
		t.Fatalf("after the fault: %v", err)
	}
	if _, err := s.Commit(ctx, &held); err != nil {
		t.Error(err)
	}
}

// A Redis with a timeout closes connections that were idle, and clients report EOF for the next
// call (redis/go-redis 25, 84, 1373 and 2939).
func TestIdleConnectionsClosedByRedisFailNoCall(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t, "--timeout", "1")
	s := openStore(t, server.URL())
	mustReserve(t, s, "u")
	for range 2 {
		testkit.Eventually(t, "Redis has closed the idle connections", func() bool {
			return normalClients(server) == 0
		})
		mustReserve(t, s, "u")
	}
	wantState(t, s, "u", 0, 3)
}

// After a restart, Redis answers LOADING until it has read its file
// (redis/ioredis 358, redis/go-redis 1131).
func TestLoadingRedisIsAnError(t *testing.T) {
	t.Parallel()
	redistest.Start(t).Needs(t, "7.0", "enable-debug-command")
	server := redistest.Start(t, "--enable-debug-command", "local", "--loading-process-events-interval-bytes", "1024")
	s := openStore(t, server.URL())
	commit := mustReserve(t, s, "u")
	if _, err := s.Commit(ctx, &commit); err != nil {
		t.Fatal(err)
	}
	pipe := commands(s).Pipeline()
	for i := range 2000 {
		pipe.Set(ctx, fmt.Sprint("filler", i), "x", 0)
	}
	if _, err := pipe.Exec(ctx); err != nil {
		t.Fatal(err)
	}
	server.Do("SAVE")
	// The server loads its file again, more slowly: 2,000 keys with a millisecond each.
	server.Do("CONFIG", "SET", "key-load-delay", "1000")
	loaded := make(chan error, 1)
	go func() {
		c := redis.NewClient(&redis.Options{Addr: server.Addr, ReadTimeout: time.Minute, MaxRetries: -1, DisableIdentity: true})
		defer c.Close()
		loaded <- c.Do(context.Background(), "DEBUG", "RELOAD", "NOSAVE").Err()
	}()
	testkit.Eventually(t, "Redis is loading", func() bool {
		_, err := s.Reserve(ctx, newRequest("v"))
		return err != nil && strings.Contains(err.Error(), "LOADING")
	})
	if err := testkit.Receive(t, "Redis has loaded its file", loaded); err != nil {
		t.Fatal(err)
	}
	mustReserve(t, s, "u")
	wantState(t, s, "u", 1, 1)
}

// A Redis that cannot write its file, or has lost its replicas, refuses writes. Clients that
// keep their connections must go on once it has recovered.
func TestWritesRefusedByRedis(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := openStore(t, server.URL())
	mustReserve(t, s, "u")

	t.Run("too few replicas", func(t *testing.T) {
		server.Needs(t, "7.0", "min-replicas-to-write for scripts")
		server.Do("CONFIG", "SET", "min-replicas-to-write", "1")
		wantRefusedWhile(t, s, "NOREPLICAS", func() { server.Do("CONFIG", "SET", "min-replicas-to-write", "0") })
	})

	// A folder stands where Redis writes its file.
	dir := server.Do("CONFIG", "GET", "dir").([]any)[1].(string)
	file := filepath.Join(dir, server.Do("CONFIG", "GET", "dbfilename").([]any)[1].(string))
	if err := os.MkdirAll(filepath.Join(file, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	save := func(want string) {
		server.Do("BGSAVE")
		testkit.Eventually(t, "a save ends: "+want, func() bool {
			text := fmt.Sprint(server.Do("INFO", "persistence"))
			return strings.Contains(text, "rdb_last_bgsave_status:"+want) && strings.Contains(text, "rdb_bgsave_in_progress:0")
		})
	}
	server.Do("CONFIG", "SET", "save", "3600 1000000")
	save("err")
	wantRefusedWhile(t, s, "MISCONF", func() {
		if err := os.RemoveAll(file); err != nil {
			t.Error(err)
		}
		save("ok")
	})
}

// A script of somebody else that does not end makes Redis answer BUSY.
func TestBusyRedisIsAnError(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := openStore(t, server.URL())
	mustReserve(t, s, "u")
	server.Do("CONFIG", "SET", "lua-time-limit", "1")
	other := redis.NewClient(&redis.Options{Addr: server.Addr, ReadTimeout: time.Minute, MaxRetries: -1, DisableIdentity: true})
	t.Cleanup(func() { other.Close() })
	ended := make(chan error, 1)
	go func() { ended <- other.Eval(ctx, "while true do end", nil).Err() }()
	testkit.Eventually(t, "Redis is busy", func() bool {
		_, err := s.Reserve(ctx, newRequest("v"))
		return err != nil && strings.Contains(err.Error(), "BUSY")
	})
	if err := commands(s).ScriptKill(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if err := testkit.Receive(t, "the script has ended", ended); err == nil || errors.Is(err, redis.Nil) {
		t.Fatalf("the script has ended with %v", err)
	}
	f := &failoverTest{t: t, store: s}
	if err := f.eventually(func() error { _, err := s.Reserve(ctx, newRequest("u")); return err }); err != nil {
		t.Error(err)
	}
	wantState(t, s, "u", 0, 2)
}

// A Redis with too many clients answers each new one with an error and hangs up
// (redis/go-redis 2251).
func TestRedisWithTooManyClientsIsAnError(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Do("CONFIG", "SET", "maxclients", "8")
	var taken []net.Conn
	for range 8 {
		conn, err := net.Dial("tcp", server.Addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		taken = append(taken, conn)
	}
	s := openWith(t, Options{URL: server.URL(), Timeout: time.Second})
	testkit.Eventually(t, "the error names the cause", func() bool {
		_, err := s.Reserve(ctx, newRequest("u"))
		return err != nil && strings.Contains(err.Error(), "max number of clients")
	})
	for _, conn := range taken {
		conn.Close()
	}
	f := &failoverTest{t: t, store: s}
	if err := f.eventually(func() error { _, err := s.Reserve(ctx, newRequest("u")); return err }); err != nil {
		t.Error(err)
	}
}

// normalClients is how many connections for commands a server has, without the one that asks.
func normalClients(server *redistest.Server) int {
	return strings.Count(fmt.Sprint(server.Do("CLIENT", "LIST", "TYPE", "normal")), " addr=") - 1
}

// A client that is refused, or that gives up its calls, must close its connections: otherwise
// Redis runs out of them (redis/node-redis 1278, redis/go-redis 2183).
func TestFailedCallsLeaveNoConnections(t *testing.T) {
	t.Parallel()
	t.Run("a wrong password", func(t *testing.T) {
		server := redistest.Start(t)
		s := openWith(t, Options{URL: "redis://:wrong@" + server.Addr, Timeout: time.Second})
		server.Do("CONFIG", "SET", "requirepass", "right")
		for range 100 {
			if _, err := s.Reserve(ctx, newRequest("u")); err == nil {
				t.Fatal("admitted with a wrong password")
			}
		}
		commands := redis.NewClient(&redis.Options{Addr: server.Addr, Password: "right", DisableIdentity: true})
		t.Cleanup(func() { commands.Close() })
		testkit.Eventually(t, "few connections are left", func() bool {
			list, err := commands.ClientList(ctx).Result()
			return err == nil && strings.Count(list, "laddr=") < 10
		})
	})
	t.Run("a Redis that does not answer", func(t *testing.T) {
		server := redistest.Start(t)
		s := openWith(t, Options{URL: server.URL(), Timeout: 20 * time.Millisecond})
		server.Pause()
		var wait sync.WaitGroup
		for i := range 50 {
			wait.Go(func() {
				for range 20 {
					if _, err := s.Reserve(ctx, newRequest(fmt.Sprint(i))); err == nil {
						t.Error("admitted by a Redis that is paused")
					}
				}
			})
		}
		wait.Wait()
		server.Resume()
		if n := normalClients(server); n > 60 {
			t.Errorf("%d connections", n)
		}
		testkit.Eventually(t, "few connections are left", func() bool { return normalClients(server) < 10 })
	})
}

// The nodes of a Cluster may be known by name (redis-rb/redis-cluster-client 205), or only by
// their ports (redis/lettuce 2290, redis/redis 12266).
func testClusterEndpoints(t *testing.T, c *redistest.Cluster) {
	c.Nodes[0].Needs(t, "7.0", "cluster-preferred-endpoint-type")
	for _, node := range c.Nodes {
		node.Do("CONFIG", "SET", "cluster-announce-hostname", "localhost")
	}
	announce := func(kind string) *Store {
		for _, node := range c.Nodes {
			node.Do("CONFIG", "SET", "cluster-preferred-endpoint-type", kind)
			testkit.Eventually(t, "the nodes know each other's names", func() bool {
				return !strings.Contains(fmt.Sprint(node.Do("CLUSTER", "SLOTS")), "?")
			})
		}
		return openStore(t, "redis+cluster://"+c.Nodes[0].Addr)
	}
	for _, kind := range []string{"unknown-endpoint", "hostname", "ip"} {
		s := announce(kind)
		for i := range 30 {
			user := fmt.Sprint(kind, i)
			r := mustReserve(t, s, user)
			if _, err := s.Commit(ctx, &r); err != nil {
				t.Errorf("%s: %v", kind, err)
			}
			wantState(t, s, user, 1, 0)
		}
	}
}

// Sentinels may name the master by its host name (redis/redis 8282 and 8507).
func testSentinelNames(t *testing.T, g *redistest.SentinelGroup) {
	master := g.Master()
	_, port, err := net.SplitHostPort(master.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, sentinel := range g.Sentinels {
		sentinel.Needs(t, "6.2", "host names")
		sentinel.Do("SENTINEL", "CONFIG", "SET", "resolve-hostnames", "yes")
		sentinel.Do("SENTINEL", "CONFIG", "SET", "announce-hostnames", "yes")
		sentinel.Do("SENTINEL", "MONITOR", "named", "localhost", port, "2")
		if pair := fmt.Sprint(sentinel.Do("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "named")); pair != "[localhost "+port+"]" {
			t.Fatalf("the master is %s", pair)
		}
	}
	url := g.URL()
	s := openStore(t, url[:strings.LastIndexByte(url, '/')]+"/named")
	mustReserve(t, s, "named")
	wantState(t, s, "named", 0, 1)
}
