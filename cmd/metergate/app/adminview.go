package app

import (
	"context"
	"maps"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"metergate/config"
	"metergate/proxy/admin"
	"metergate/proxy/apikeys"
	"metergate/quota"
)

// adminView implements admin.Gateway and admin.Monitor, always with the configuration in force.
type adminView struct{ app *App }

// Tokens are both from one configuration: a reload may exchange them.
func (v adminView) Tokens() admin.Tokens {
	cfg := v.app.reloader.current.Load().cfg.Admin
	return admin.Tokens{Admin: string(cfg.Token), Viewer: string(cfg.ViewerToken)}
}

// AdminHosts are admin.hosts, and the name in admin.listen if it has one.
func (v adminView) AdminHosts() []string {
	cfg := v.app.reloader.current.Load().cfg.Admin
	if address, _ := config.ParseListen(cfg.Listen); address.Network == config.ListenTCP {
		host, _, _ := net.SplitHostPort(address.Address)
		return append([]string{host}, cfg.Hosts...)
	}
	return cfg.Hosts
}

func (v adminView) ReloadConfig() ([]string, error) { return v.app.Reload() }
func (v adminView) AcceptData(ctx context.Context) (int, error) {
	return v.app.store.backend.AcceptData(ctx)
}

// EffectiveConfig is the configuration in force, with the API keys of its file.
func (v adminView) EffectiveConfig() any {
	cfg := v.app.reloader.current.Load().cfg
	shown := cfg.Redacted()
	if auth, ok := shown["auth"].(map[string]any); ok && cfg.Auth.APIKeys != nil {
		auth["api_keys"] = shownKeys{cfg.Auth.APIKeys.File, len(cfg.Auth.APIKeys.Keys.Keys()), listKeys(cfg.Auth.APIKeys.Keys)}
	}
	return shown
}

// shownKeys are the API keys in force. Only their hashes are known.
type shownKeys struct {
	File  string     `json:"file"`
	Count int        `json:"count"`
	Keys  []shownKey `json:"keys"` // the first of them
}

type shownKey struct {
	ID      string `json:"id"`
	Hash    string `json:"hash"`
	User    string `json:"user"`
	Plan    string `json:"plan,omitempty"`
	Org     string `json:"org,omitempty"`
	Expires string `json:"expires,omitempty"`
}

// maxShownKeys bounds the answer, which would otherwise have megabytes.
const maxShownKeys = 1000

func listKeys(set *apikeys.Set) []shownKey {
	shown := []shownKey{}
	for _, k := range set.Keys() {
		if len(shown) == maxShownKeys {
			break
		}
		shown = append(shown, shownKey{k.ID, k.HashText(), k.User, k.Plan, k.Org, k.ExpiryText()})
	}
	return shown
}

func (v adminView) PlansFor(claim string) quota.PlanChoice {
	return v.app.reloader.current.Load().gateway.PlansFor(claim)
}

func (v adminView) HasOrganisations() bool {
	return v.app.reloader.current.Load().cfg.Auth.HasOrganisations()
}

// Session is what the console has to know.
func (v adminView) Session() admin.Session {
	g := v.app.reloader.current.Load()
	plan := g.gateway.PlansFor("").Claimed
	return admin.Session{
		Version:     v.app.options.Version,
		HistoryDays: v.app.options.Config.HistoryDays(),
		Orgs:        g.cfg.Auth.HasOrganisations(),
		Units:       plan.ReportsUnits(),
		UnitName:    plan.UnitName(),
		Timezone:    g.cfg.Timezone.String(),
		WarnAt:      g.cfg.WarnAt,
		Endpoints:   append([]string{}, plan.Endpoints()...),
		Plans:       slices.Sorted(maps.Keys(g.cfg.Plans)),
	}
}

// Overview reads what is in memory. No part of it asks the store.
func (v adminView) Overview() admin.Overview {
	a, g := v.app, v.app.reloader.current.Load()
	stats := a.store.Stats()
	o := admin.Overview{
		Gateway: admin.GatewayState{Version: a.options.Version, Commit: a.options.Commit, Go: runtime.Version(),
			StartedAt: a.startedAt, Host: a.host, PID: os.Getpid(), Draining: a.draining.Load()},
		Config: a.reloader.state(),
		Store:  admin.StoreState{Kind: storeKind(g.cfg.Store), OK: a.store.Store.Fault() == nil, Faults: []string{}},
		Open:   admin.OpenState{Requests: a.reloader.builder.inFlight.Running(), Streams: a.streams.Open(), Connections: int(a.public.open.Load())},
	}
	for _, fault := range []error{a.store.fault(), a.store.backend.DataFault()} {
		if fault != nil {
			o.Store.Faults = append(o.Store.Faults, strings.Split(fault.Error(), "\n")...)
		}
	}
	if _, embedded := g.cfg.Store.Embedded(); embedded {
		o.Store.FileSize, o.Store.FileFree = a.store.backend.FileSpace()
		return o
	}
	o.Store.Breaker = "closed"
	if stats.OpenBreakers > 0 {
		o.Store.Breaker = "open"
	}
	o.Journal = &admin.JournalState{Waiting: stats.Backlog, Bytes: stats.JournalSize}
	if since := stats.BacklogSince.UTC().Truncate(time.Millisecond); !stats.BacklogSince.IsZero() {
		o.Journal.OldestAt = &since
	}
	return o
}

// storeKind says what a gateway counts in.
func storeKind(s config.Store) string {
	if _, embedded := s.Embedded(); embedded {
		return "embedded"
	}
	scheme, _, _ := strings.Cut(string(s.URL), "://")
	if _, kind, found := strings.Cut(scheme, "+"); found {
		return kind
	}
	return "redis"
}
