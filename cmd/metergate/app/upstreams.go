package app

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"metergate/config"
	"metergate/proxy/admin"
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
		IdleTimeout: u.IdleTimeout, MaxConnectionAge: u.MaxConnectionAge,
		// A third of a request's time, so that there is time left to try another target.
		DialTimeout: min(10*time.Second, max(100*time.Millisecond, shortestTimeout(cfg, name)/3)),
	}
	for _, t := range u.Targets {
		o.Targets = append(o.Targets, upstream.Target{URL: t.URL, Weight: t.Weight, Off: t.Weight == 0})
	}
	switch u.Balance {
	case config.RoundRobin:
		o.Balance = upstream.RoundRobin
	case config.ByUser:
		o.Balance = upstream.ByUser
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

// upstreamsView implements admin.Upstreams, with the configuration in force.
type upstreamsView struct{ reloader *reloader }

func (v upstreamsView) List() []admin.Upstream {
	g := v.reloader.current.Load()
	all := []admin.Upstream{}
	for _, name := range slices.Sorted(maps.Keys(g.upstreams)) {
		all = append(all, g.showUpstream(name))
	}
	return all
}

func (v upstreamsView) SetDrained(name, url string, drained bool, by admin.TargetDrain) (admin.Upstream, bool, error) {
	// A reload meanwhile could take out the target that is to serve instead.
	v.reloader.swapping.Lock()
	defer v.reloader.swapping.Unlock()
	g := v.reloader.current.Load()
	pool := g.upstreams[name]
	if pool == nil {
		return admin.Upstream{}, false, admin.ErrNoUpstream
	}
	set := pool.Undrain
	if drained {
		set = pool.Drain
	}
	changed, err := set(url, upstream.Drain{Since: by.Since, From: by.From, Reason: by.Reason})
	switch {
	case errors.Is(err, upstream.ErrUnknownTarget):
		err = admin.ErrNoTarget
	case errors.Is(err, upstream.ErrLastTarget):
		err = admin.ErrLastTarget
	}
	return g.showUpstream(name), changed, err
}

func (g *generation) showUpstream(name string) admin.Upstream {
	u := g.cfg.Upstreams[name]
	shown := admin.Upstream{Name: name, Balance: string(u.Balance), Timeout: u.Timeout.String()}
	for _, t := range g.upstreams[name].Targets() {
		target := admin.UpstreamTarget{URL: t.URL, Weight: t.Weight, Share: t.Share, Healthy: t.Healthy, InFlight: t.InFlight}
		if t.CheckError != nil {
			target.CheckError = t.CheckError.Error()
		}
		if !t.EjectedUntil.IsZero() {
			until := t.EjectedUntil.UTC()
			target.EjectedUntil = &until
		}
		if d := t.Drained; d != nil {
			target.Drained = &admin.TargetDrain{Since: d.Since, From: d.From, Reason: d.Reason}
		}
		shown.Targets = append(shown.Targets, target)
	}
	shown.YAML = targetsYAML(shown)
	return shown
}

// targetsYAML writes the targets of an upstream as the configuration has them, with weight 0 for those
// that are drained.
func targetsYAML(u admin.Upstream) string {
	var b strings.Builder
	fmt.Fprintf(&b, "upstreams:\n  %s:\n    targets:\n", u.Name)
	for _, t := range u.Targets {
		weight := t.Weight
		if t.Drained != nil {
			weight = 0
		}
		fmt.Fprintf(&b, "      - { url: %q, weight: %d }\n", strings.ReplaceAll(t.URL, "$", "$$"), weight)
	}
	return b.String()
}
