package app

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"metergate/cmd/metergate/sockets"
	"metergate/config"
)

// LogStart logs what runs where, a line for each part. The last line, "serving", says
// that both listeners accept connections. It must not be called before Start.
func (a *App) LogStart() {
	cfg, log := a.options.Config, a.options.Log
	store := []any{"at", storeLocation(cfg.Store), "on_failure", string(cfg.Store.OnFailure)}
	if _, embedded := cfg.Store.Embedded(); !embedded {
		store = append(store, "journal", cfg.Store.Journal, "backlog", a.store.Stats().Backlog)
	}
	log.Info("store", store...)
	for _, name := range slices.Sorted(maps.Keys(cfg.Upstreams)) {
		u := cfg.Upstreams[name]
		targets := make([]string, len(u.Targets))
		for i, t := range u.Targets {
			targets[i] = t.URL.String()
		}
		log.Info("upstream", "name", name, "targets", strings.Join(targets, ", "), "health_checks", u.Health != nil)
	}
	g := a.reloader.current.Load()
	room := []any{"max_in_flight", g.capacity.requests}
	if g.capacity.connections > 0 {
		room = append(room, "connections", g.capacity.connections)
	}
	if limits := a.options.Limits; limits.Memory > 0 {
		room = append(room, "memory", fmt.Sprintf("%d MiB of %s", limits.Memory>>20, limits.MemoryFrom))
	}
	if limits := a.options.Limits; limits.Descriptors > 0 {
		room = append(room, "open_files", limits.Descriptors)
	}
	log.Info("capacity", room...)
	log.Info("serving", "listen", sockets.Text(a.publicAddr), "tls", cfg.TLS != nil, "admin", sockets.Text(a.adminAddr),
		"admin_api", cfg.Admin.Token != "", "plans", len(cfg.Plans), "routes", len(cfg.Routes), "pid", os.Getpid())
}

// storeLocation says where a store is, without user, password and options.
func storeLocation(s config.Store) string {
	if dir, ok := s.Embedded(); ok {
		return "embedded in " + dir
	}
	scheme, rest, _ := strings.Cut(string(s.URL), "://")
	rest = rest[strings.LastIndexByte(rest, '@')+1:]
	rest, _, _ = strings.Cut(rest, "?")
	return scheme + "://" + rest
}
