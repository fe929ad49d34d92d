package redisstore

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/redisstore/script"
	"metergate/quota/testkit"
)

// A redisFault keeps a real Redis from counting.
type redisFault struct {
	name  string
	args  []string // of redis-server
	user  string   // the rules of a Redis user "store" that the gateway logs in as; empty: it does not
	url   string   // instead of the server's; %s is its address
	begin func(t *testing.T, r *redistest.Server)
	end   func(r *redistest.Server) // nil: the fault cannot be ended
	want  []string                  // in the error: the reply, and what to change
}

var redisFaults = []redisFault{
	{name: "a replica", want: []string{"READONLY", "give the address of the master"},
		begin: func(_ *testing.T, r *redistest.Server) { r.Do("REPLICAOF", "127.0.0.1", 1) },
		end:   func(r *redistest.Server) { r.Do("REPLICAOF", "NO", "ONE") }},
	{name: "a replica that serves nothing without its master", args: []string{"--replica-serve-stale-data", "no"}, want: []string{"MASTERDOWN", "give the address of the master"},
		begin: func(_ *testing.T, r *redistest.Server) { r.Do("REPLICAOF", "127.0.0.1", 1) },
		end:   func(r *redistest.Server) { r.Do("REPLICAOF", "NO", "ONE") }},
	{name: "no memory", want: []string{"OOM", "raise maxmemory"},
		begin: func(_ *testing.T, r *redistest.Server) { r.Do("CONFIG", "SET", "maxmemory", 1) },
		end:   func(r *redistest.Server) { r.Do("CONFIG", "SET", "maxmemory", 0) }},
	{name: "too few replicas", want: []string{"NOREPLICAS", "lower min-replicas-to-write"},
		begin: func(t *testing.T, r *redistest.Server) {
			r.Needs(t, "7.0", "min-replicas-to-write for scripts")
			r.Do("CONFIG", "SET", "min-replicas-to-write", 1)
		},
		end: func(r *redistest.Server) { r.Do("CONFIG", "SET", "min-replicas-to-write", 0) }},
	{name: "the disk cannot be written", want: []string{"MISCONF", "make room on the disk"}, begin: breakDisk, end: mendDisk},
	{name: "no scripts", args: []string{"--rename-command", "EVAL", "", "--rename-command", "EVALSHA", ""}, want: []string{"unknown command", "rename-command"}},
	{name: "a renamed HGETALL", args: []string{"--rename-command", "HGETALL", ""}, want: []string{"HGETALL", "rename-command"}},
	{name: "a renamed HSETNX", args: []string{"--rename-command", "HSETNX", ""}, want: []string{"HSETNX", "rename-command"}},
	{name: "a password", args: []string{"--requirepass", "secret"}, want: []string{"NOAUTH", "redis://USER:PASSWORD@HOST:PORT"}},
	{name: "another password", args: []string{"--requirepass", "secret"}, url: "redis://:wrong@%s", want: []string{"does not accept", "in store.url; correct"}},
	{name: "keys of others", user: "~other:* &* +@all", want: []string{"the Redis user store may not use the keys metergate:*", "~metergate:*"}},
	{name: "no EVALSHA and EVAL", user: "~* &* +@all -evalsha -eval", want: []string{"may not use EVAL", "ACL SETUSER store +eval"}},
	{name: "no EVAL", user: "~* &* +@all -eval", want: []string{"may not use EVAL", "ACL SETUSER store +eval"}},
	{name: "no HSETNX", user: "~* &* +@all -hsetnx", want: []string{"may not use HSETNX", "ACL SETUSER store +hsetnx"}},
	{name: "no HINCRBY", user: "~* &* +@all -hincrby", want: []string{"may not use HINCRBY", "ACL SETUSER store +hincrby"}},
	{name: "no HGETALL", user: "~* &* +@all -hgetall", want: []string{"may not use HGETALL", "ACL SETUSER store +hgetall"}},
	{name: "no PEXPIREAT", user: "~* &* +@all -pexpireat", want: []string{"may not use PEXPIREAT", "ACL SETUSER store +pexpireat"}},
	{name: "no PING", user: "~* &* +@all -ping", want: []string{"may not use PING", "ACL SETUSER store +ping"}},
}

// breakDisk has a save of Redis fail.
func breakDisk(t *testing.T, r *redistest.Server) {
	dir := r.Do("CONFIG", "GET", "dir")
	file := filepath.Join(settingOf(dir), "dump.rdb")
	if err := os.Mkdir(file, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.Remove(file) })
	r.Do("CONFIG", "SET", "save", "3600 1")
	r.Do("SET", "some", "data")
	r.Do("BGSAVE")
	testkit.Eventually(t, "the save fails", func() bool {
		return strings.Contains(fmt.Sprint(r.Do("INFO", "persistence")), "rdb_last_bgsave_status:err")
	})
}

func mendDisk(r *redistest.Server) { r.Do("CONFIG", "SET", "stop-writes-on-bgsave-error", "no") }

// settingOf returns the value of a reply to CONFIG GET.
func settingOf(reply any) string {
	switch reply := reply.(type) {
	case []any:
		return fmt.Sprint(reply[1])
	case map[any]any:
		for _, value := range reply {
			return fmt.Sprint(value)
		}
	}
	return ""
}

// TestCheckSaysWhatKeepsRedisFromCounting checks Redis servers that answer PING, but do not count,
// or only some of the time. When a fault is gone, Check succeeds.
func TestCheckSaysWhatKeepsRedisFromCounting(t *testing.T) {
	t.Parallel()
	for _, fault := range redisFaults {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			server := redistest.Start(t, fault.args...)
			url := server.URL()
			if fault.url != "" {
				url = fmt.Sprintf(fault.url, server.Addr)
			}
			if fault.user != "" {
				server.Needs(t, "6.2", "ACL for channels")
				rule := []any{"ACL", "SETUSER", "store", "on", ">secret"}
				for word := range strings.FieldsSeq(fault.user) {
					rule = append(rule, word)
				}
				server.Do(rule...)
				url = "redis://store:secret@" + server.Addr
				fault.end = func(r *redistest.Server) { r.Do("ACL", "SETUSER", "store", "~*", "+@all") }
			}
			s := openStore(t, url)
			if fault.begin != nil {
				if err := s.Check(ctx); err != nil {
					t.Fatalf("before: %v", err)
				}
				fault.begin(t, server)
			}
			for what, err := range map[string]error{"Check": s.Check(ctx), "Probe": s.Probe(ctx, "u")} {
				for _, want := range fault.want {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("%s: error %v, want %q", what, err, want)
					}
				}
			}
			if fault.end != nil {
				fault.end(server)
				testkit.Eventually(t, "it counts", func() bool { return s.Check(ctx) == nil && s.Probe(ctx, "u") == nil })
			}
		})
	}
}

// TestCheckCountsOnEachMaster checks that the failure of one master of a cluster shows, and that
// there is one key for each, which ends by itself and is not a user's.
func TestCheckCountsOnEachMaster(t *testing.T) {
	t.Parallel()
	cluster := redistest.StartCluster(t, false)
	s := openStore(t, cluster.URL())
	for range 3 {
		if err := s.Check(ctx); err != nil {
			t.Fatal(err)
		}
	}
	for _, node := range cluster.Nodes {
		keys := node.Do("KEYS", "*").([]any)
		if len(keys) != 1 || !script.IsCheckKey(keys[0].(string)) {
			t.Errorf("a master has the keys %v, want one of a check", keys)
			continue
		}
		if ttl := node.Do("TTL", keys[0]).(int64); ttl <= 0 || ttl > 21*60 {
			t.Errorf("a key of a check ends after %d s, want at most 21 minutes", ttl)
		}
	}
	err := s.ScanUsers(ctx, quota.WindowQuery{Period: quota.Month, At: time.Now()}, func(u quota.UserUsage) error { return fmt.Errorf("found %+v", u) })
	if err != nil {
		t.Error(err)
	}
	for _, node := range cluster.Nodes {
		node.Do("CONFIG", "SET", "maxmemory", 1)
		if err := s.Check(ctx); err == nil || !strings.Contains(err.Error(), "OOM") {
			t.Errorf("one master without memory: error %v, want OOM", err)
		}
		node.Do("CONFIG", "SET", "maxmemory", 0)
	}
	if err := s.Check(ctx); err != nil {
		t.Error(err)
	}
}

// TestWeaknessesShowAndEnd checks a Redis that counts, but evicts counts, or does not announce
// changes. The log has one line for each.
func TestWeaknessesShowAndEnd(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Needs(t, "6.2", "ACL for channels")
	server.Do("ACL", "SETUSER", "store", "on", ">secret", "~*", "&*", "+@all")
	s := openStore(t, "redis://store:secret@"+server.Addr)
	want := func(what string, names ...string) {
		t.Helper()
		if err := s.Check(ctx); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		found := s.Weaknesses()
		for i := range max(len(found), len(names)) {
			if i >= len(found) || i >= len(names) || found[i].Name != names[i] {
				t.Fatalf("%s: weaknesses %v, want %v", what, found, names)
			}
		}
	}
	wantCure := func(cure string) {
		t.Helper()
		if found := s.Weaknesses(); len(found) == 0 || !strings.Contains(found[0].Fault, cure) {
			t.Errorf("weaknesses %v, want %q", found, cure)
		}
	}
	want("nothing wrong")
	server.Do("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
	want("a policy, but no limit")
	server.Do("CONFIG", "SET", "maxmemory", "100mb")
	want("evicts any key", quota.EvictsCounts)
	wantCure("set \"maxmemory-policy noeviction\"")
	server.Do("CONFIG", "SET", "maxmemory-policy", "volatile-ttl")
	want("evicts keys that end", quota.EvictsCounts)
	server.Do("CONFIG", "SET", "maxmemory-policy", "noeviction")
	want("refuses writes")

	server.Do("ACL", "SETUSER", "store", "-publish")
	want("no PUBLISH", quota.NoAnnouncements)
	wantCure("ACL SETUSER store +publish")
	server.Do("ACL", "SETUSER", "store", "+publish", "resetchannels")
	want("no channels", quota.NoAnnouncements)
	wantCure("ACL SETUSER store &metergate:*")
	server.Do("ACL", "SETUSER", "store", "&*")
	want("permitted again")

	server.Do("ACL", "SETUSER", "store", "-subscribe")
	s = openStore(t, "redis://store:secret@"+server.Addr)
	want("no SUBSCRIBE", quota.NoAnnouncements)
	wantCure("ACL SETUSER store +subscribe")
	if !s.SubscribeFails() {
		t.Error("the failure does not show in SubscribeFails")
	}
	server.Do("ACL", "SETUSER", "store", "+subscribe")
	want("permitted again")
}

// TestScriptThatFailsHalfWayCountsOnce: without HSETNX a script counts before it fails. It must not
// run again by itself.
func TestScriptThatFailsHalfWayCountsOnce(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Needs(t, "6.2", "ACL for channels")
	server.Do("ACL", "SETUSER", "store", "on", ">secret", "~*", "&*", "+@all")
	s := openStore(t, "redis://store:secret@"+server.Addr)
	r := mustReserve(t, s, "u")
	server.Do("ACL", "SETUSER", "store", "-hsetnx")
	if _, err := s.Commit(ctx, &r); err == nil || !strings.Contains(err.Error(), "may not use HSETNX") {
		t.Errorf("a commit that may not use HSETNX: error %v", err)
	}
	wantState(t, openStore(t, server.URL()), "u", 1, 0)
}

// TestDataOfOneUserIsTheirOwnFault checks errors that say nothing about the Redis.
func TestDataOfOneUserIsTheirOwnFault(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	s := openStore(t, server.URL())
	server.Do("SET", key(s, "text"), "of another program")
	server.Do("HSET", key(s, "later"), "format", "2", "sweep", "later")
	for _, user := range []string{"text", "later"} {
		if _, err := s.Reserve(ctx, newRequest(user)); !errors.Is(err, quota.ErrUserData) {
			t.Errorf("reserve for %s: error %v, want %v", user, err, quota.ErrUserData)
		}
		if err := s.Probe(ctx, user); err != nil {
			t.Errorf("a probe beside %s: %v", user, err)
		}
	}
}

// TestChecksAtOnceAllFail: without HSETNX only the first count in a window fails. Checks that run at
// the same time must not take each other's count for it.
func TestChecksAtOnceAllFail(t *testing.T) {
	t.Parallel()
	server := redistest.Start(t)
	server.Needs(t, "6.2", "ACL for channels")
	server.Do("ACL", "SETUSER", "store", "on", ">secret", "~*", "&*", "+@all", "-hsetnx")
	s := openStore(t, "redis://store:secret@"+server.Addr)
	var checks sync.WaitGroup
	for range 10 {
		checks.Go(func() {
			for range 10 {
				if s.Check(ctx) == nil || s.Probe(ctx, "0") == nil {
					t.Error("it counts")
				}
			}
		})
	}
	checks.Wait()
	if n := server.Do("HLEN", s.checkKey("0")).(int64); n > 20 {
		t.Errorf("the trials have left %d fields", n)
	}
}
