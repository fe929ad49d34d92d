package redisstore

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"metergate/quota"
	"metergate/quota/redisstore/redisclient"
	"metergate/quota/redisstore/script"
)

// weaknesses knows what is wrong with a Redis that counts all the same. The zero value knows of
// nothing.
type weaknesses struct {
	mu     sync.Mutex
	faults map[string]string // by name; empty: none
}

// mended is what the log says when a weakness is gone.
var mended = map[string]string{
	quota.EvictsCounts:    "Redis no longer deletes users' counts when its memory is full",
	quota.NoAnnouncements: "Redis lets the gateway announce changes again",
}

// set notes a fault; an empty text says that it has ended. It logs the first time of each.
func (w *weaknesses) set(log *slog.Logger, name, fault string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	before := w.faults[name]
	if w.faults == nil {
		w.faults = map[string]string{}
	}
	w.faults[name] = fault
	switch {
	case fault != "" && before == "":
		log.Warn(fault)
	case fault == "" && before != "":
		log.Info(mended[name])
	}
}

// Weaknesses implements quota.StoreDiagnostics.
func (s *Store) Weaknesses() (found []quota.Weakness) {
	w := &s.weaknesses
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, name := range quota.WeaknessNames {
		if fault := w.faults[name]; fault != "" {
			found = append(found, quota.Weakness{Name: name, Fault: fault})
		}
	}
	if cause, deaf := s.watchers.hearing.fault(); deaf && w.faults[quota.NoAnnouncements] == "" {
		found = append(found, quota.Weakness{Name: quota.NoAnnouncements, Fault: s.deafWarning(cause)})
	}
	return found
}

// evictions knows which masters delete counts when their memory is full. The zero value is ready.
type evictions struct {
	mu     sync.Mutex
	faults []string
	addrs  []string
}

// look asks one master. It learns nothing where INFO is not permitted.
//
// With maxmemory at 0 Redis evicts nothing, whatever the policy. Nearly all keys of the store have
// an expiry, so the policies that spare keys without one do not spare them.
func (e *evictions) look(ctx context.Context, master *redis.Client) {
	info := serverInfo(ctx, master, "memory")
	limit, policy := info["maxmemory"], info["maxmemory_policy"]
	if limit == "" || limit == "0" || policy == "" || policy == "noeviction" {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.faults = append(e.faults, fmt.Sprintf("Redis deletes users' counts when its memory is full (maxmemory %s, maxmemory-policy %s): they start at 0 again; set \"maxmemory-policy noeviction\"", limit, policy))
	e.addrs = append(e.addrs, master.Options().Addr)
}

// fault returns what was found; empty: nothing. In a cluster it names the masters.
func (e *evictions) fault(cluster bool) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.faults) == 0 {
		return ""
	}
	if !cluster {
		return e.faults[0]
	}
	return strings.Join(slices.Sorted(slices.Values(e.addrs)), ", ") + ": " + e.faults[0]
}

// checkAnnouncements finds out whether the gateway may announce changes and, if that is not known
// yet or was not so, hear of them. Redis serves calls.
func (s *Store) checkAnnouncements(ctx context.Context) {
	channel := script.ChangesChannel(s.checkKey(checkUser))
	err := s.client.Do(ctx, func(ctx context.Context, r redis.UniversalClient) error {
		return r.Publish(ctx, channel, "").Err()
	})
	switch {
	case err == nil:
		s.weaknesses.set(s.log, quota.NoAnnouncements, "")
	case redisclient.IsReply(err):
		s.weaknesses.set(s.log, quota.NoAnnouncements, fmt.Sprintf("Redis does not let the gateway announce changes (%v): streams show changes made on other gateways up to 12 s late; %s",
			err, s.adviceOr(err, s.permit("publish"))))
	}
	if !s.subscribeChecked.Swap(true) || s.SubscribeFails() {
		s.checkSubscribe(ctx, channel)
	}
}

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
