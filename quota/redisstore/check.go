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

// SetupWarnings implements quota.StoreDiagnostics. In a cluster it asks all masters. It skips
// what it cannot learn, because Redis may be down or may not permit CONFIG and INFO. So an empty
// result promises nothing.
//
// There is no warning about an appendfsync of everysec or no, since that is the default and a
// choice: a crash of Redis's machine then loses the counts of the last second, or of half a
// minute.
func (s *Store) SetupWarnings(ctx context.Context) []string {
	var mu sync.Mutex
	mastersByWarning := map[string][]string{}
	_ = s.client.EachMaster(ctx, func(ctx context.Context, master *redis.Client) error {
		warnings := checkServer(ctx, master)
		mu.Lock()
		defer mu.Unlock()
		for _, w := range warnings {
			mastersByWarning[w] = append(mastersByWarning[w], master.Options().Addr)
		}
		return nil
	})
	var warnings []string
	mu.Lock() // the call may still be under way
	defer mu.Unlock()
	for w, masters := range mastersByWarning {
		if s.client.IsCluster() {
			slices.Sort(masters)
			w = strings.Join(masters, ", ") + ": " + w
		}
		warnings = append(warnings, w)
	}
	slices.Sort(warnings)
	return warnings
}

func checkServer(ctx context.Context, c *redis.Client) (warnings []string) {
	info := serverInfo(ctx, c)
	if v := info["redis_version"]; tooOld(v) {
		warnings = append(warnings, fmt.Sprintf("Redis %s is too old: its scripts may not write after they have read the clock, as all of the store's do; use Redis 5.0 or later", v))
	}
	// Only CONFIG tells the save points. Without them and without an AOF, Redis writes
	// nothing to disk.
	if info["aof_enabled"] == "0" {
		if save, ok := setting(ctx, c, "save"); ok && save == "" {
			warnings = append(warnings, "Redis keeps nothing on disk: when it restarts all counts are gone, and every user starts at 0; set \"appendonly yes\" (and \"appendfsync always\" if not even a second may be lost)")
		}
	}
	return warnings
}

// serverInfo returns the fields of INFO, or of one section of it; none if it is not permitted.
func serverInfo(ctx context.Context, c *redis.Client, section ...string) map[string]string {
	fields := map[string]string{}
	text, _ := c.Info(ctx, section...).Result()
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			fields[name] = value
		}
	}
	return fields
}

// setting returns one setting. Not ok: CONFIG is not permitted, or has no such setting.
func setting(ctx context.Context, c *redis.Client, name string) (value string, ok bool) {
	values, err := c.ConfigGet(ctx, name).Result()
	if err != nil {
		return "", false
	}
	value, ok = values[name]
	return value, ok
}

// tooOld reports whether a version is below 5.0, the first that replicates the effects of a
// script and not the script itself. A version that cannot be parsed counts as recent.
func tooOld(version string) bool {
	major, _, _ := strings.Cut(version, ".")
	n, err := strconv.Atoi(major)
	return err == nil && n < 5
}
