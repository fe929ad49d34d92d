package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/config"
	"metergate/proxy"
	"metergate/proxy/jwtauth"
	"metergate/proxy/upstream"
	"metergate/quota"
	"metergate/quota/boltstore"
	"metergate/quota/guard"
	"metergate/quota/redisstore"
)

// buildLog returns a log whose level can be changed.
func buildLog(cfg config.Log, w io.Writer) (*slog.Logger, *slog.LevelVar) {
	level := new(slog.LevelVar)
	level.Set(cfg.Level)
	options := &slog.HandlerOptions{Level: level}
	if cfg.Format == "text" {
		return slog.New(slog.NewTextHandler(w, options)), level
	}
	return slog.New(slog.NewJSONHandler(w, options)), level
}

func buildStore(cfg *config.Config, log *slog.Logger) (_ *guardedStore, err error) {
	s := new(guardedStore)
	calendar := quota.NewCalendar(cfg.Timezone)
	o := guard.Options{
		AllowOnFailure: cfg.Store.OnFailure == config.Allow,
		Timeout:        cfg.Store.Timeout,
		Calendar:       calendar,
		Keep:           cfg.Store.Keep,
		Log:            log,
	}
	if dir, ok := cfg.Store.Embedded(); ok {
		local, err := boltstore.Open(dir, boltstore.Options{Calendar: calendar, Keep: cfg.Store.Keep})
		if err != nil {
			return nil, err
		}
		o.Remote, s.remote = local, local
		s.check = func(context.Context) []string { return nil }
		none := func() int64 { return 0 } // what is held is in this process
		s.lost, s.expired = none, none
	} else {
		remote, err := openRedis(cfg, calendar)
		if err != nil {
			return nil, err
		}
		o.Remote, s.remote, s.check, s.lost, s.expired = remote, remote, remote.SetupWarnings, remote.LostHolds, remote.ExpiredHolds
		if o.Journal, err = guard.OpenJournal(cfg.Store.Journal); err != nil {
			remote.Close()
			return nil, err
		}
	}
	if s.Store, err = guard.New(o); err != nil {
		s.remote.Close()
		return nil, err
	}
	return s, nil
}

func openRedis(cfg *config.Config, calendar *quota.Calendar) (*redisstore.Store, error) {
	return redisstore.Open(redisstore.Options{
		URL:      string(cfg.Store.URL),
		Prefix:   cfg.Store.Prefix,
		Timeout:  cfg.Store.Timeout,
		Calendar: calendar,
		Keep:     cfg.Store.Keep,
	})
}

// A guardedStore is what a gateway counts in.
type guardedStore struct {
	*guard.Store
	remote io.Closer
	// check warns of what can cost counts in how the store is set up.
	check func(context.Context) []string
	// lost is how many requests were counted whose hold the store had lost, expired how
	// many holds nobody has settled.
	lost, expired func() int64
}

func (s *guardedStore) Close() error { return errors.Join(s.Store.Close(), s.remote.Close()) }

// checkBuild reports what shows only when a configuration is put together: keys
// that do not fit their algorithms, say.
func checkBuild(cfg *config.Config) error {
	log := slog.New(slog.DiscardHandler)
	_, err := buildGeneration(cfg, nil, nil, nil, nil, proxy.NewMetrics(prometheus.NewRegistry()), log)
	return err
}

// endpointsOf returns the endpoints of all routes, each once, sorted.
func endpointsOf(cfg *config.Config) []string {
	names := map[string]bool{}
	for _, r := range cfg.Routes {
		if r.Endpoint != "" {
			names[r.Endpoint] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

func buildPlans(cfg *config.Config) (map[string]*quota.Plan, error) {
	endpoints := endpointsOf(cfg)
	plans := make(map[string]*quota.Plan, len(cfg.Plans))
	for name, p := range cfg.Plans {
		limits := make([]quota.Limit, len(p.Limits))
		for i, l := range p.Limits {
			limits[i] = quota.Limit{Requests: l.Requests, Endpoint: l.Endpoint}
			if err := limits[i].Period.UnmarshalText([]byte(l.Per)); err != nil {
				return nil, fmt.Errorf("plans.%s.limits[%d].per: %w", name, i, err)
			}
		}
		o := quota.PlanOptions{Name: name, Limits: limits, Observe: p.Observe, Endpoints: endpoints, WarnAt: cfg.WarnAt}
		if a := p.Attempts; a != nil {
			o.Attempts = quota.AttemptLimit{Requests: a.Requests, Per: a.Length()}
		}
		var err error
		if plans[name], err = quota.NewPlan(o); err != nil {
			return nil, err
		}
	}
	return plans, nil
}

// buildGeneration makes what a configuration says, and touches nothing that lives.
func buildGeneration(cfg *config.Config, before *generation, s proxy.Store, streams *proxy.Streams, inFlight *proxy.InFlight, m *proxy.Metrics, log *slog.Logger) (*generation, error) {
	if before != nil {
		cfg = keepFixed(before.cfg, cfg)
	}
	g := &generation{cfg: cfg}
	var err error
	if g.certificate, err = buildCertificate(cfg, before); err != nil {
		return nil, err
	}
	if g.upstreams, err = buildUpstreams(cfg, before, log); err != nil {
		return nil, err
	}
	if g.tokens, err = buildTokens(cfg, before, log); err != nil {
		return nil, err
	}
	g.gateway, err = buildGateway(cfg, s, g.upstreams, g.tokens.verifier, streams, inFlight, m, log)
	return g, err
}

// buildUpstreams makes new upstreams and takes over what has not changed, with its
// connections and what it knows of its targets.
func buildUpstreams(cfg *config.Config, before *generation, log *slog.Logger) (map[string]*upstream.Pool, error) {
	pools := make(map[string]*upstream.Pool, len(cfg.Upstreams))
	for name, u := range cfg.Upstreams {
		if before != nil && before.upstreams[name] != nil && samePool(before.cfg.Upstreams[name], u) &&
			shortestTimeout(before.cfg, name) == shortestTimeout(cfg, name) {
			pools[name] = before.upstreams[name]
			continue
		}
		tlsConfig, err := u.TLS.Client()
		if err != nil {
			return nil, fmt.Errorf("upstreams.%s.tls: %w", name, err)
		}
		o := upstream.Options{
			Ejection: upstream.Ejection{ConnectionErrors: u.Eject.ConnectFailures, ServerErrors: u.Eject.ServerErrors, For: u.Eject.For},
			TLS:      tlsConfig,
			Log:      log.With("upstream", name),
			// Some of a request's time is left for another target.
			DialTimeout: min(10*time.Second, max(100*time.Millisecond, shortestTimeout(cfg, name)/3)),
		}
		for _, t := range u.Targets {
			if t.Weight > 0 {
				o.Targets = append(o.Targets, upstream.Target{URL: t.URL, Weight: t.Weight})
			}
		}
		if u.Balance == config.RoundRobin {
			o.Balance = upstream.RoundRobin
		}
		if h := u.Health; h != nil {
			o.Health = &upstream.Health{Path: h.Path, Interval: h.Interval, Timeout: h.Timeout}
		}
		switch u.Host {
		case config.HostTarget:
		case config.HostClient:
			o.KeepHost = true
		default:
			o.Host = u.Host
		}
		if pools[name], err = upstream.New(o); err != nil {
			return nil, fmt.Errorf("upstreams.%s: %w", name, err)
		}
	}
	return pools, nil
}

// shortestTimeout is that of the routes to an upstream.
func shortestTimeout(cfg *config.Config, name string) time.Duration {
	shortest := cfg.Upstreams[name].Timeout
	for _, r := range cfg.Routes {
		if r.Upstream == name {
			shortest = min(shortest, r.Timeout)
		}
	}
	return shortest
}

// samePool reports whether two upstreams differ in nothing that concerns a pool. The
// rest are the defaults of routes.
func samePool(a, b config.Upstream) bool {
	a.Timeout, a.MaxBody = b.Timeout, b.MaxBody
	return reflect.DeepEqual(a, b)
}

// buildGateway makes the public handler of a configuration. It touches nothing
// that lives.
func buildGateway(cfg *config.Config, s proxy.Store, upstreams map[string]*upstream.Pool, verifier *jwtauth.Verifier, streams *proxy.Streams, inFlight *proxy.InFlight, m *proxy.Metrics, log *slog.Logger) (*proxy.Gateway, error) {
	plans, err := buildPlans(cfg)
	if err != nil {
		return nil, err
	}
	o := proxy.Options{
		Store:       s,
		Verifier:    verifier,
		Plans:       plans,
		DefaultPlan: cfg.DefaultPlan,
		UpgradeURL:  cfg.UpgradeURL,
		Streams:     streams,
		Metrics:     m,
		Log:         log,
	}
	o.TrustedProxies = cfg.TrustedProxies
	o.InFlight, o.MaxInFlight, o.MaxUserInFlight = inFlight, cfg.MaxInFlight.Total, cfg.MaxInFlight.PerUser
	o.LogUser = map[config.LogUser]proxy.LogUser{config.LogHash: proxy.LogUserHash, config.LogOmit: proxy.LogUserOmit}[cfg.Log.User]
	o.QuietSuccesses = 1 - cfg.Log.SampleSuccesses
	for _, r := range cfg.Routes {
		o.Routes = append(o.Routes, proxy.Route{
			Pattern: r.Match, Endpoint: r.Endpoint, Public: r.Public, Upstream: upstreams[r.Upstream], UpstreamName: r.Upstream,
			Timeout: r.Timeout, MaxBody: r.MaxBody, StripPrefix: r.StripPrefix, Upgrade: r.Upgrade,
			UserField: r.UserHeader, PlanField: r.PlanHeader, DropAuthorization: r.DropAuthorization,
			Observe: r.Observe,
		})
	}
	if cfg.CORS != nil {
		o.CORS = &proxy.CORS{AllowedOrigins: cfg.CORS.AllowedOrigins, AllowCredentials: cfg.CORS.AllowCredentials}
	}
	return proxy.New(o)
}
