package main

import (
	"context"
	"errors"
	"fmt"

	"metergate/proxy/upstream"
	"metergate/quota"
)

// probes implements admin.Probes for an app.
type probes struct{ app *app }

func (p probes) Draining() bool { return p.app.draining.Load() }

// Waiting reports that the first keys of the jwks_url are still missing.
func (p probes) Waiting() error {
	if keys := p.app.current.Load().tokens.keys(); keys != nil {
		return keys.Missing()
	}
	return nil
}

// Checks are the store, each upstream, and the key server.
func (p probes) Checks() map[string]func(context.Context) error {
	checks := map[string]func(context.Context) error{"store": p.app.store.Ping}
	for name, pool := range p.app.current.Load().upstreams {
		checks["upstream "+name] = func(context.Context) error { return poolFaults(pool) }
	}
	if keys := p.app.current.Load().tokens.keys(); keys != nil {
		checks["jwks_url"] = func(context.Context) error { return keys.Fault() }
	}
	return checks
}

// poolFaults names the targets that get no requests; nil: there are none.
func poolFaults(pool *upstream.Pool) error {
	var faults []error
	for _, t := range pool.Targets() {
		switch {
		case !t.Healthy:
			faults = append(faults, fmt.Errorf("%s is not healthy: %w", t.URL, t.CheckError))
		case !t.EjectedUntil.IsZero():
			faults = append(faults, fmt.Errorf("%s has failed requests and is left out", t.URL))
		}
	}
	return errors.Join(faults...)
}

// adminView implements admin.Gateway for an app, always with the configuration in force.
type adminView struct{ app *app }

func (v adminView) AdminToken() string              { return string(v.app.current.Load().cfg.Admin.Token) }
func (v adminView) ReloadConfig() ([]string, error) { return v.app.reloadAndLog() }
func (v adminView) EffectiveConfig() any            { return v.app.current.Load().cfg.Effective() }
func (v adminView) Terms(claim string) quota.PlanChoice {
	return v.app.current.Load().gateway.Terms(claim)
}
