package redisstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"
)

// SetupWarnings asks Redis how it is set up, and returns a warning for each thing that can
// cost counts, with its reason and its cure. Of a cluster it asks all masters.
// What cannot be learned is passed over: Redis may be down or may not permit
// CONFIG and INFO. An empty result therefore promises nothing.
//
// That appendfsync is everysec or no is not warned of: it is the default, and a
// choice. Then a crash of Redis's machine loses what was counted in the last
// second, or in half a minute.
func (s *Store) SetupWarnings(ctx context.Context) []string {
	var mu sync.Mutex
	found := map[string][]string{} // by warning: the masters that it is about
	_ = s.exclusively(ctx, func(ctx context.Context) error {
		return s.eachMaster(ctx, func(ctx context.Context, c *redis.Client) error {
			warnings := checkServer(ctx, c)
			mu.Lock()
			defer mu.Unlock()
			for _, w := range warnings {
				found[w] = append(found[w], c.Options().Addr)
			}
			return nil
		})
	})
	mu.Lock() // the call may still be under way
	defer mu.Unlock()
	var warnings []string
	for w, masters := range found {
		if _, ok := s.client.(*redis.ClusterClient); ok {
			slices.Sort(masters)
			w = strings.Join(masters, ", ") + ": " + w
		}
		warnings = append(warnings, w)
	}
	slices.Sort(warnings)
	return warnings
}

func checkServer(ctx context.Context, c *redis.Client) (warnings []string) {
	info := infoOf(ctx, c)
	if v := info["redis_version"]; tooOld(v) {
		warnings = append(warnings, fmt.Sprintf("Redis %s is too old: its scripts may not write after they have read the clock, as all of the store's do; use Redis 5.0 or later", v))
	}
	// The save points are told by CONFIG alone. Without them and without an AOF,
	// nothing of the memory is on disk.
	if info["aof_enabled"] == "0" {
		if save, ok := setting(ctx, c, "save"); ok && save == "" {
			warnings = append(warnings, "Redis keeps nothing on disk: when it restarts all counts are gone, and every user starts at 0; set \"appendonly yes\" (and \"appendfsync always\" if not even a second may be lost)")
		}
	}
	// With maxmemory at 0 Redis evicts nothing, whatever the policy, so that there is
	// nothing to warn of. All keys of the store have an end, and the policies that
	// spare keys without one do not spare them.
	if limit, policy := info["maxmemory"], info["maxmemory_policy"]; limit != "" && limit != "0" && policy != "" && policy != "noeviction" {
		warnings = append(warnings, fmt.Sprintf("Redis deletes users' counts when its memory is full (maxmemory %s, maxmemory-policy %s): they start at 0 again; set \"maxmemory-policy noeviction\"", limit, policy))
	}
	return warnings
}

// infoOf returns the fields of INFO; none if it is not permitted.
func infoOf(ctx context.Context, c *redis.Client) map[string]string {
	fields := map[string]string{}
	text, _ := c.Info(ctx).Result()
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

// setting returns one setting; not ok: it cannot be learned.
func setting(ctx context.Context, c *redis.Client, name string) (value string, ok bool) {
	values, err := c.ConfigGet(ctx, name).Result()
	if err != nil {
		return "", false
	}
	value, ok = values[name]
	return value, ok
}

// tooOld reports whether a version is below 5.0, the first that replicates the
// effects of a script and not the script itself. What is no version is not.
func tooOld(version string) bool {
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	return err == nil && n < 5
}
