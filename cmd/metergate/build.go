package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"os"
	"reflect"
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/config"
	"metergate/proxy"
	"metergate/proxy/jwtauth"
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
		Allow:    cfg.Store.OnFailure == config.Allow,
		Timeout:  cfg.Store.Timeout,
		Calendar: calendar,
		Keep:     cfg.Store.Keep,
		Log:      log,
	}
	if dir, ok := cfg.Store.Embedded(); ok {
		local, err := boltstore.Open(dir, boltstore.Options{Calendar: calendar, Keep: cfg.Store.Keep})
		if err != nil {
			return nil, err
		}
		o.Remote, s.remote = local, local
		s.check = func(context.Context) []string { return nil }
	} else {
		remote, err := openRedis(cfg, calendar)
		if err != nil {
			return nil, err
		}
		o.Remote, s.remote, s.check = remote, remote, remote.Check
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
}

func (s *guardedStore) Close() error { return errors.Join(s.Store.Close(), s.remote.Close()) }

func buildVerifier(cfg *config.Config) (*jwtauth.Verifier, error) {
	jwt := cfg.Auth.JWT
	var pem []byte
	if jwt.PublicKeyFile != "" {
		var err error
		if pem, err = os.ReadFile(jwt.PublicKeyFile); err != nil {
			return nil, fmt.Errorf("auth.jwt.public_key_file: %w", err)
		}
	}
	v, err := jwtauth.New(jwtauth.Options{
		Secret:       []byte(jwt.Secret),
		PublicKeyPEM: pem,
		Algorithms:   jwt.Algorithms,
		Issuer:       jwt.Issuer,
		Audience:     jwt.Audience,
		Leeway:       jwt.Leeway,
		UserClaim:    jwt.Claims.User,
		PlanClaim:    jwt.Claims.Plan,
	})
	if err != nil {
		return nil, fmt.Errorf("auth.jwt: %w", err)
	}
	return v, nil
}

// checkBuild reports what shows only when a configuration is put together: keys
// that do not fit their algorithms, say.
func checkBuild(cfg *config.Config) error {
	log := slog.New(slog.DiscardHandler)
	_, err := buildGateway(cfg, nil, buildUpstreams(cfg, nil), nil, proxy.NewMetrics(prometheus.NewRegistry()), log)
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
			if err := limits[i].Per.UnmarshalText([]byte(l.Per)); err != nil {
				return nil, fmt.Errorf("plans.%s.limits[%d].per: %w", name, i, err)
			}
		}
		var err error
		if plans[name], err = quota.NewPlan(name, limits, endpoints, cfg.WarnAt); err != nil {
			return nil, err
		}
	}
	return plans, nil
}

// buildGeneration makes what a configuration says, and touches nothing that lives.
func buildGeneration(cfg *config.Config, before *generation, s proxy.Store, streams *proxy.Streams, m *proxy.Metrics, log *slog.Logger) (*generation, error) {
	// Before the files are read by others, so that a change in between is seen.
	hash := hashFiles(cfg.Files)
	if before != nil {
		cfg = keepFixed(before.cfg, cfg)
	}
	g := &generation{cfg: cfg, hash: hash, upstreams: buildUpstreams(cfg, before)}
	var err error
	g.gateway, err = buildGateway(cfg, s, g.upstreams, streams, m, log)
	return g, err
}

// buildUpstreams makes new upstreams and takes over what has not changed, with its
// connections and what it knows of its targets.
func buildUpstreams(cfg *config.Config, before *generation) map[string]*proxy.Upstream {
	upstreams := make(map[string]*proxy.Upstream, len(cfg.Upstreams))
	for name, u := range cfg.Upstreams {
		if before != nil && reflect.DeepEqual(before.cfg.Upstreams[name], u) && before.upstreams[name] != nil {
			upstreams[name] = before.upstreams[name]
			continue
		}
		upstreams[name] = proxy.NewUpstream(u.Targets[0].URL, u.Timeout, u.MaxBody)
	}
	return upstreams
}

// buildGateway makes the public handler of a configuration. It touches nothing
// that lives.
func buildGateway(cfg *config.Config, s proxy.Store, upstreams map[string]*proxy.Upstream, streams *proxy.Streams, m *proxy.Metrics, log *slog.Logger) (*proxy.Gateway, error) {
	verifier, err := buildVerifier(cfg)
	if err != nil {
		return nil, err
	}
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
	for _, r := range cfg.Routes {
		o.Routes = append(o.Routes, proxy.Route{
			Pattern: r.Match, Endpoint: r.Endpoint, Public: r.Public, Upstream: upstreams[r.Upstream],
		})
	}
	if cfg.CORS != nil {
		o.CORS = &proxy.CORS{AllowedOrigins: cfg.CORS.AllowedOrigins, AllowCredentials: cfg.CORS.AllowCredentials}
	}
	return proxy.New(o)
}
