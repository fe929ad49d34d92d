package bench

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota"
	"metergate/quota/redisstore/redistest"
	"metergate/quota/testkit"
)

// BenchmarkGrowth shows how the cost of a request grows with connections, users, limits
// and routes. Each size has a gateway of its own, on Redis, and all sizes of a curve are
// measured in turn. make growth runs it; make bench does not.
func BenchmarkGrowth(b *testing.B) {
	usual := func() traffic {
		return traffic{requests: loadRequests(100, loadPaths(1)...), connections: 32, lasts: *roundFor}
	}
	connections := []int{1, 10, 100, 1000, connectionsThatFit(b, 10_000)}
	for _, curve := range []struct {
		name  string
		sizes []int
		// start starts a gateway of a size and prepares its traffic.
		start func(b *testing.B, size int, upstream string) (*server, traffic)
	}{
		{"open connections, at most 32 of them busy", connections,
			func(b *testing.B, size int, upstream string) (*server, traffic) {
				f := usual()
				f.connections = size
				f.busy = min(size, 32)
				return startSized(b, redistest.Start(b), upstream, 2, 1), f
			}},
		{"busy connections", connections,
			func(b *testing.B, size int, upstream string) (*server, traffic) {
				f := usual()
				f.connections = size
				return startSized(b, redistest.Start(b), upstream, 2, 1), f
			}},
		{"users", []int{10, 100, 1000, 10_000, 100_000, 1_000_000},
			func(b *testing.B, size int, upstream string) (*server, traffic) {
				f := usual()
				f.requests = loadRequests(size, loadPaths(1)...)
				redis := redistest.Start(b)
				s := startSized(b, redis, upstream, 2, 1)
				settleUsers(b, s, redis.Addr, size)
				return s, f
			}},
		{"limits of the plan", []int{1, 2, 4, 8},
			func(b *testing.B, size int, upstream string) (*server, traffic) {
				return startSized(b, redistest.Start(b), upstream, size, 1), usual()
			}},
		{"routes", []int{1, 10, 100, 1000},
			func(b *testing.B, size int, upstream string) (*server, traffic) {
				f := usual()
				f.requests = loadRequests(100, loadPaths(size)...)
				return startSized(b, redistest.Start(b), upstream, 2, size), f
			}},
	} {
		b.Run(strings.ReplaceAll(curve.name, " ", "_"), func(b *testing.B) {
			upstream := startRole(b, "upstream", "upstream")
			var servers []*server
			var traffics []traffic
			for _, size := range curve.sizes {
				s, f := curve.start(b, size, upstream.url())
				s.name = fmt.Sprint(size)
				servers, traffics = append(servers, s), append(traffics, f)
			}
			for b.Loop() {
				all := inTurn(b, *rounds, servers, traffics...)
				show(b, ratioTable(curve.name, []column{rateColumn, p50Column, cpuColumn, failedColumn}, all, all[0]))
			}
			b.ReportMetric(0, "ns/op") // means nothing here
		})
	}
}

// startSized runs a gateway on a Redis. The timeout is longer than usual, because ten
// thousand requests at once may wait that long on a busy machine.
func startSized(b *testing.B, redis *redistest.Server, upstream string, limits, routes int) *server {
	b.Helper()
	s, _ := startLoaded(b, "metergate, Redis", redis.URL(), upstream, limits, loadPaths(routes), "STORE_TIMEOUT=10s")
	return s
}

// settleUsers makes a number of users known to the Redis of s, each with one counted
// request. The gateway counts the request of the first user; the others get a copy of
// what the store holds for that user.
func settleUsers(b *testing.B, s *server, redisAddr string, users int) {
	b.Helper()
	begun := time.Now()
	first := &caller{address: s.address}
	defer first.hangUp()
	if status, err := first.call(loadRequest(loadUser(0), loadPaths(1)[0])); status != 200 {
		b.Fatalf("the first user's request: status %d, error %v", status, err)
	}
	ctx := b.Context()
	client := redis.NewClient(&redis.Options{Addr: redisAddr, ReadTimeout: time.Minute})
	defer client.Close()
	model, err := client.Dump(ctx, userKey(loadUser(0))).Result()
	if err != nil {
		b.Fatalf("the store has another key for a user than userKey says: %v", err)
	}
	life := client.PTTL(ctx, userKey(loadUser(0))).Val()
	const batch = 5000
	for from := 1; from < users; from += batch {
		_, err := client.Pipelined(ctx, func(p redis.Pipeliner) error {
			for i := from; i < min(from+batch, users); i++ {
				key := userKey(loadUser(i))
				p.Restore(ctx, key, life, model)
				p.HSet(ctx, key, "user", loadUser(i))
			}
			return nil
		})
		if err != nil {
			b.Fatal(err)
		}
	}
	// The gateway confirms that it reads the copies as its own data.
	for _, i := range []int{0, users / 2, users - 1} {
		status, body := gatewaytest.Get(s.url()+"/usage", testkit.Token(loadUser(i), "load"))
		var u quota.Usage
		if err := json.Unmarshal([]byte(body), &u); err != nil || status != 200 || u.Used != 1 {
			b.Fatalf("user %d of %d: status %d: %s", i, users, status, body)
		}
	}
	if n := client.DBSize(ctx).Val(); n < int64(users) {
		b.Fatalf("Redis has %d keys for %d users", n, users)
	}
	if users >= 1_000_000 {
		b.Logf("%d users in %v, %s each in Redis", users, time.Since(begun).Round(time.Millisecond), redisMemory(ctx, client, users))
	}
}

// userKey is the key under which redisstore keeps a user.
func userKey(user string) string {
	sum := sha256.Sum256([]byte(user))
	return "metergate:{" + base64.RawURLEncoding.EncodeToString(sum[:16]) + "}"
}

func redisMemory(ctx context.Context, client *redis.Client, users int) string {
	used := client.InfoMap(ctx, "memory").Item("Memory", "used_memory")
	var bytes int
	fmt.Sscan(used, &bytes)
	return fmt.Sprint(bytes/users, " bytes")
}
