package app

import (
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"metergate/config"
	"metergate/proxy/upstream"
)

// buildUpstreams builds a pool for each upstream. A pool whose settings have not changed
// is taken over from the generation before, with its connections and the health of its
// targets. No pool is started.
func buildUpstreams(cfg *config.Config, before *generation, connections *upstream.Connections, log *slog.Logger) (map[string]*upstream.Pool, error) {
	pools := make(map[string]*upstream.Pool, len(cfg.Upstreams))
	for name, u := range cfg.Upstreams {
		if before != nil && before.upstreams[name] != nil && samePool(before.cfg.Upstreams[name], u) &&
			shortestTimeout(before.cfg, name) == shortestTimeout(cfg, name) {
			pools[name] = before.upstreams[name]
			continue
		}
		o, err := poolOptions(cfg, name)
		if err != nil {
			return nil, err
		}
		o.Log, o.Connections = log.With("upstream", name), connections
		if pools[name], err = upstream.New(o); err != nil {
			return nil, fmt.Errorf("upstreams.%s: %w", name, err)
		}
	}
	return pools, nil
}

func poolOptions(cfg *config.Config, name string) (upstream.Options, error) {
	u := cfg.Upstreams[name]
	tlsConfig, err := u.TLS.Client()
	if err != nil {
		return upstream.Options{}, fmt.Errorf("upstreams.%s.tls: %w", name, err)
	}
	o := upstream.Options{
		Ejection:    upstream.Ejection{ConnectionErrors: u.Eject.ConnectFailures, ServerErrors: u.Eject.ServerErrors, For: u.Eject.For},
		TLS:         tlsConfig,
		IdleTimeout: u.IdleTimeout,
		// A third of a request's time, so that there is time left to try another target.
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
	return o, nil
}

// shortestTimeout returns the shortest timeout of the upstream and of the routes to it.
func shortestTimeout(cfg *config.Config, name string) time.Duration {
	shortest := cfg.Upstreams[name].Timeout
	for _, r := range cfg.Routes {
		if r.Upstream == name {
			shortest = min(shortest, r.Timeout)
		}
	}
	return shortest
}

// samePool reports whether two upstreams need the same pool. Timeout and MaxBody do not
// matter: they are only defaults for routes.
func samePool(a, b config.Upstream) bool {
	a.Timeout, a.MaxBody = b.Timeout, b.MaxBody
	return reflect.DeepEqual(a, b)
}
