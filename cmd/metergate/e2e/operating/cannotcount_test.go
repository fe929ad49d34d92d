package operating

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

const cannotCount = `metergate_store_fault{fault="cannot_count"}`

// TestRedisThatCannotCount has a Redis that answers cease to count, while requests run and before
// the gateway starts. /readyz, a metric and one line of the log say what to change, and so does
// validate -online. When it counts again, the counts are exact.
func TestRedisThatCannotCount(t *testing.T) {
	set := func(name, value string) func(*redistest.Server) {
		return func(r *redistest.Server) { r.Do("CONFIG", "SET", name, value) }
	}
	user := func(rules ...any) func(*redistest.Server) {
		return func(r *redistest.Server) { r.Do(append([]any{"ACL", "SETUSER", "store"}, rules...)...) }
	}
	for _, fault := range []struct {
		name, want string // want is the cure
		begin, end func(*redistest.Server)
	}{
		{"a replica", "give the address of the master",
			func(r *redistest.Server) { r.Do("REPLICAOF", "127.0.0.1", 1) }, func(r *redistest.Server) { r.Do("REPLICAOF", "NO", "ONE") }},
		{"no memory", "raise maxmemory", set("maxmemory", "1"), set("maxmemory", "0")},
		{"too few replicas", "lower min-replicas-to-write", set("min-replicas-to-write", "1"), set("min-replicas-to-write", "0")},
		{"a full disk", "make room on the disk", func(r *redistest.Server) { failSave(t, r) }, set("stop-writes-on-bgsave-error", "no")},
		{"no scripts", "ACL SETUSER store +eval", user("-evalsha", "-eval"), user("+@all")},
		{"keys of others", "ACL SETUSER store ~metergate:*", user("resetkeys", "~other:*"), user("~*")},
		{"no HGETALL", "ACL SETUSER store +hgetall", user("-hgetall"), user("+hgetall")},
	} {
		t.Run(fault.name, func(t *testing.T) {
			t.Parallel()
			redis := redistest.Start(t)
			redis.Needs(t, "6.2", "ACL for channels")
			user("on", ">secret", "~*", "&*", "+@all")(redis)
			url, journal := "redis://store:secret@"+redis.Addr, "JOURNAL="+t.TempDir()
			c := startCounted(t, url, journal, "ON_FAILURE=allow", gatewaytest.Patient)
			c.post(10)
			if body := c.readyz(); !strings.Contains(body, `"store":"ok"`) || gatewaytest.Metric(c.Process, cannotCount) != "0" {
				t.Errorf("before: %s", body)
			}
			c.postWhile(func() {
				fault.begin(redis)
				c.wantSaid(fault.want, cannotCount, "the gateway cannot count in the store")
			})
			file := c.Cmd.Args[len(c.Cmd.Args)-1]
			code, output := gatewaytest.Run(t, c.Cmd.Env, "validate", "-online", "-config", file)
			if code != 1 || !strings.Contains(output, fault.want) || strings.Contains(output, "store: ok") {
				t.Errorf("validate -online: exit status %d, want 1 and %q:\n%s", code, fault.want, output)
			}
			c.mend(redis, fault.end)

			c.Kill()
			fault.begin(redis)
			c.Process = c.Restart()
			c.wantSaid(fault.want, cannotCount, "the gateway cannot count in the store") // without a request
			c.post(50)
			if failed := gatewaytest.Metric(c.Process, `metergate_store_errors_total{operation="reserve"}`); failed != "50" {
				t.Errorf("%s reserves have failed, want 50", failed)
			}
			if n := strings.Count(c.Output(), `"level":"ERROR"`); n != 1 {
				t.Errorf("%d errors were logged, want 1", n)
			}
			c.mend(redis, fault.end)
		})
	}
}

// mend ends a fault of Redis, and checks the counts.
func (c *countedGateway) mend(redis *redistest.Server, end func(*redistest.Server)) {
	c.t.Helper()
	end(redis)
	testkit.EventuallyWithin(c.t, time.Minute, "/readyz says that all is well", func() bool {
		return strings.Contains(c.readyz(), `"store":"ok"`) && gatewaytest.Metric(c.Process, cannotCount) == "0"
	})
	c.WaitForText("the gateway counts in the store again")
	c.post(5)
	c.wantCounted()
}

// failSave has a save of Redis fail, as with a full disk.
func failSave(t *testing.T, r *redistest.Server) {
	dir := fmt.Sprint(r.Do("CONFIG", "GET", "dir"))
	dir = strings.TrimRight(dir[strings.Index(dir, "/"):], "]")
	if err := os.MkdirAll(filepath.Join(dir, "dump.rdb"), 0o755); err != nil {
		t.Error(err)
	}
	r.Do("CONFIG", "SET", "save", "3600 1", "stop-writes-on-bgsave-error", "yes")
	r.Do("BGSAVE")
	testkit.Eventually(t, "the save fails", func() bool {
		return strings.Contains(fmt.Sprint(r.Do("INFO", "persistence")), "rdb_last_bgsave_status:err")
	})
}

// TestRedisWithAWeaknessIsNotOK checks a Redis that counts, but evicts counts, or lets nobody
// announce changes.
func TestRedisWithAWeaknessIsNotOK(t *testing.T) {
	for name, test := range map[string]struct {
		metric, want, line string
		begin              []any
	}{
		"evicts": {`metergate_store_fault{fault="evicts_counts"}`, "maxmemory-policy noeviction", "Redis deletes users' counts",
			[]any{"CONFIG", "SET", "maxmemory", "100mb", "maxmemory-policy", "allkeys-lru"}},
		"no PUBLISH": {`metergate_store_fault{fault="no_announcements"}`, "ACL SETUSER default +publish", "Redis does not let the gateway announce changes",
			[]any{"ACL", "SETUSER", "default", "-publish"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			redis := redistest.Start(t)
			redis.Needs(t, "7.0", "CONFIG SET with several settings")
			c := startCounted(t, redis.URL(), gatewaytest.Patient)
			redis.Do(test.begin...)
			c.wantSaid(test.want, test.metric, test.line)
			c.post(10)
			c.wantCounted()
			file := c.Cmd.Args[len(c.Cmd.Args)-1]
			code, output := gatewaytest.Run(t, c.Cmd.Env, "validate", "-online", "-config", file)
			if code != 1 || !strings.Contains(output, "store: Redis") || !strings.Contains(output, test.want) {
				t.Errorf("validate -online: exit status %d, want 1 and %q:\n%s", code, test.want, output)
			}
		})
	}
}
