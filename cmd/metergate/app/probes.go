package app

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"metergate/proxy/upstream"
)

// probes implements admin.Probes.
type probes struct{ app *App }

func (p probes) Draining() bool { return p.app.draining.Load() }

// Waiting reports that the first keys of an issuer are still missing.
func (p probes) Waiting() error { return p.app.reloader.current.Load().auth.waiting() }

// Checks are the configuration, the room for requests, the store, whether it has its data, the
// journal, each upstream, and each key server.
func (p probes) Checks() map[string]func(context.Context) error {
	g := p.app.reloader.current.Load()
	checks := map[string]func(context.Context) error{
		"configuration": func(context.Context) error { return p.app.reloader.fault() },
		"store":         func(context.Context) error { return p.app.store.fault() },
		"capacity":      func(context.Context) error { return p.capacityFault() },
	}
	if _, embedded := g.cfg.Store.Embedded(); !embedded {
		checks["data"] = func(context.Context) error { return p.app.store.backend.DataFault() }
		checks["journal"] = func(context.Context) error { return p.app.store.JournalFault() }
	}
	for name, pool := range g.upstreams {
		checks["upstream "+name] = func(context.Context) error { return poolFaults(pool) }
	}
	for _, i := range g.auth.issuers {
		if keys := i.keys(); keys != nil {
			checks[strings.TrimSpace(string(i.keysAt.form)+" "+i.name)] = func(context.Context) error { return keys.Fault() }
		}
	}
	return checks
}

// capacityFault says what clients have been waiting for, or were refused for, during the last ten
// seconds; nil: nothing.
func (p probes) capacityFault() error {
	faults := []error{p.app.public.fault(), p.app.admin.fault()}
	if time.Since(p.app.reloader.builder.inFlight.LastRefused()) <= recentTrouble {
		faults = append(faults, fmt.Errorf("requests are refused: there is room for %d at once", p.app.reloader.current.Load().capacity.requests))
	}
	return errors.Join(faults...)
}

// poolFaults names the targets that get no requests; nil if all of them do.
func poolFaults(pool *upstream.Pool) error {
	var faults []error
	for _, t := range pool.Targets() {
		switch {
		case !t.Healthy:
			faults = append(faults, fmt.Errorf("%s is not healthy: %w", t.URL, t.CheckError))
		case !t.EjectedUntil.IsZero():
			faults = append(faults, fmt.Errorf("%s is ejected: too many requests to it failed", t.URL))
		}
	}
	return errors.Join(faults...)
}
