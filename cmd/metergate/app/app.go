// Package app runs a whole gateway inside a process: both listeners and everything
// behind them. It knows neither flags nor signals nor exit codes; those belong to the
// commands of package main. A test can embed it:
//
//	a := app.New(app.Options{Config: cfg, Log: log})
//	if err := a.Start(ctx); err != nil { ... }
//	defer a.Stop()
//	http.Get("http://" + a.PublicAddr().String() + "/usage")
//
// # Starting and stopping
//
// Start does everything that can fail before anything runs in the background: it opens
// the store, builds the first [generation] and takes both addresses. Whatever it starts
// registers a named clean-up. Stop runs the clean-ups in reverse order, and so does a
// Start that fails half-way.
//
// # Reloading
//
// A configuration is built into a generation, which never changes. Reload loads the
// configuration, builds the next generation and swaps an atomic pointer. A request is
// served by one generation to its end. What has not changed is handed over: the pools
// of connections with the health of their targets, the key set, the verified tokens.
package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"metergate/cmd/metergate/host"
	"metergate/cmd/metergate/sockets"
	"metergate/config"
	"metergate/proxy"
	"metergate/proxy/admin"
	"metergate/proxy/admin/recent"
	"metergate/proxy/tracing"
	"metergate/proxy/upstream"
	"metergate/quota/guard"
	"metergate/quota/notify"
)

// Options are what an App is made of.
type Options struct {
	// Config is the configuration to start with.
	Config *config.Config
	// Load loads the configuration again and returns the files it has read, also with an
	// error; nil: Reload is an error, and no files are watched.
	Load func() (*config.Config, []string, error)
	// Log receives the access log and everything else.
	Log *slog.Logger
	// Level is the level of Log, which a reload sets; nil: reloads leave it alone.
	Level *slog.LevelVar
	// Limits are what the process may use; zero: nothing limits it.
	Limits host.Limits
	// Sockets opens what the gateway listens on; nil: the process has been given no sockets.
	Sockets *sockets.Set
	// Predecessor is the process that this one takes over from while both run. It is nil after a start that is
	// no upgrade, and if the other process has stopped serving.
	Predecessor *sockets.Predecessor
	// Version and Commit are shown in the metric metergate_build_info.
	Version, Commit string
}

// An App is a gateway. Create it with New.
type App struct {
	options  Options
	store    *store
	sender   *notify.Sender
	streams  *proxy.Streams
	reloader *reloader
	cleanups cleanups
	actions  admin.Actions
	events   admin.EventStreams
	recent   *recent.Sampler

	startedAt time.Time
	host      string // its name

	publicAddr, adminAddr net.Addr
	public, admin         *listener
	draining, handingOver atomic.Bool
	adminServe            *http.Server
	failed                chan error // has room for both listeners
}

// New returns a gateway that does not run yet.
func New(o Options) *App {
	return &App{options: o, streams: proxy.NewStreams(), failed: make(chan error, 2)}
}

// Start starts the gateway. When it returns nil, both listeners accept connections. It
// must be called once.
//
// A store that cannot be reached is no error: the gateway runs by its on_failure rule
// until the store answers. With an error, everything that was started has been stopped.
// The context bounds the questions that Start asks the store.
func (a *App) Start(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, a.Stop())
		}
	}()
	cfg, log := a.options.Config, a.options.Log
	a.startedAt = time.Now().UTC().Truncate(time.Millisecond)
	a.host, _ = os.Hostname()
	if a.store, err = openStore(cfg, log, a.options.Predecessor); err != nil {
		return fmt.Errorf("opening the store: %w", err)
	}
	a.cleanups.add("store", func(context.Context) error { return a.store.Close() })
	a.sender = notify.New(notify.Options{Store: a.store, StoreNow: a.store.clock.Now, Log: log, NameOf: a.nameInLog})
	a.cleanups.add("notifications", a.sender.Stop)
	registry := prometheus.NewRegistry()
	if err := a.build(ctx, registry); err != nil {
		return err
	}
	publicServer, adminServer := a.publicServer(), a.adminServer(registry)
	if a.public, err = a.listen("listen", cfg.Listen, publicServer, &a.reloader.builder.maxConnections); err != nil {
		return err
	}
	if a.admin, err = a.listen("admin.listen", cfg.Admin.Listen, adminServer, &a.reloader.builder.maxAdminConnections); err != nil {
		return err
	}
	a.public.proxies = func() []netip.Prefix { return a.reloader.current.Load().cfg.ProxyProtocol }
	a.publicAddr, a.adminAddr = a.public.Addr(), a.admin.Addr()
	registry.MustRegister(connectionMetrics{a})

	a.store.Check(ctx) // before there are requests; it logs a fault
	a.cleanups.add("recent metrics", func(context.Context) error { a.recent.Set(false); return nil })
	a.reloader.start()
	a.cleanups.add("upstreams and key set", a.reloader.stop)
	if a.options.Predecessor != nil {
		a.awaitKeys(ctx) // meanwhile the process before serves
	}
	a.adminServe = adminServer
	a.serve("admin listener", adminServer, a.admin, func(ctx context.Context, s *http.Server) error {
		a.events.End()
		return closeServer(ctx, s)
	})
	a.serve("public listener", publicServer, a.public, a.drain)
	a.warn(ctx)
	if a.options.Load != nil {
		a.reloader.watch(func() { a.ReloadFor("file") }, log)
		a.cleanups.add("configuration watch", func(context.Context) error { a.reloader.endWatch(); return nil })
	}
	return nil
}

// build makes the first generation, which serves nothing yet, and registers the metrics.
func (a *App) build(ctx context.Context, registry *prometheus.Registry) error {
	a.recent = recent.New(registry)
	b := &builder{
		store:               a.store,
		redis:               a.store.redis,
		plans:               &a.store.plans,
		sender:              a.sender,
		streams:             a.streams,
		recent:              a.recent,
		inFlight:            proxy.NewInFlight(),
		metrics:             proxy.NewMetrics(registry),
		traces:              tracing.NewExporter(tracing.ExporterOptions{Log: a.options.Log}),
		version:             a.options.Version,
		log:                 a.options.Log,
		limits:              a.options.Limits,
		upstreamConnections: upstream.NewConnections(),
	}
	a.cleanups.add("traces", b.traces.Stop)
	a.reloader = newReloader(b, a.options.Load, a.options.Level)
	if err := a.reloader.build(ctx, a.options.Config); err != nil {
		return err
	}
	registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
		buildInfo(a.options.Version, a.options.Commit),
		storeMetrics{a.store}, openStreams(a.streams), targetMetrics{a.reloader})
	registry.MustRegister(notificationMetrics{a}, traceMetrics{a})
	registry.MustRegister(a.reloader.metrics()...)
	if a.options.Config.TLS != nil {
		registry.MustRegister(certificateExpiry(a.reloader))
	}
	return nil
}

// publicServer serves the clients. Whether it speaks TLS takes a restart to change.
func (a *App) publicServer() *http.Server {
	var certificate func() *tls.Certificate
	if a.options.Config.TLS != nil {
		certificate = func() *tls.Certificate { return a.reloader.current.Load().certificate }
	}
	s := newPublicServer(a.closeWhileLeaving(a.reloader), a.options.Config.IdleTimeout, certificate, errorLog(a.options.Log))
	s.RegisterOnShutdown(a.streams.End)
	return s
}

func (a *App) adminServer(registry *prometheus.Registry) *http.Server {
	var backups admin.Backups
	if a.store.local != nil {
		backups = a.store.local
	}
	return newAdminServer(admin.Handler(admin.Options{
		Backups:      backups,
		Probes:       probes{a},
		Upstreams:    upstreamsView{a.reloader},
		Gateway:      adminView{a},
		Registry:     registry,
		Log:          a.options.Log,
		Store:        a.store,
		HistoryDays:  a.options.Config.HistoryDays(),
		Calendar:     a.store.calendar,
		Clock:        a.store.clock,
		Monitor:      adminView{a},
		Recent:       a.recent,
		EventStreams: &a.events,
		Actions:      &a.actions,
	}), errorLog(a.options.Log))
}

// warn logs what is wrong with the store, the routes and the certificate, and lets the
// gateway run.
func (a *App) warn(ctx context.Context) {
	log := a.options.Log
	for _, warning := range a.store.backend.SetupWarnings(ctx) {
		log.Warn(warning)
	}
	g := a.reloader.current.Load()
	for _, name := range a.options.Sockets.Unused() {
		log.Warn("systemd has passed a socket that neither listen nor admin.listen uses; clients that connect to it wait for ever", "socket", name)
	}
	warnings := slices.Concat(g.capacity.warnings, g.cfg.Warnings(), certificateWarnings(g.cfg, g.certificate, time.Now()))
	for _, warning := range warnings {
		log.Warn(warning)
	}
	a.reloader.warnings.CompareAndSwap(nil, &warnings) // unless there was a reload already
}

// PublicAddr is the address that clients connect to. It is nil before Start.
func (a *App) PublicAddr() net.Addr { return a.publicAddr }

// AdminAddr is the address of the admin listener. It is nil before Start.
func (a *App) AdminAddr() net.Addr { return a.adminAddr }

// Store is where the gateway counts. It is nil before Start, and Stop closes it.
func (a *App) Store() *guard.Store { return a.store.Store }

// Failed receives an error when a listener breaks. The gateway should then be stopped.
func (a *App) Failed() <-chan error { return a.failed }

// ShutdownTimeout is how long Stop lets requests in flight run, by the configuration in
// force.
func (a *App) ShutdownTimeout() time.Duration { return a.configInForce().ShutdownTimeout }

// configInForce is the configuration in force, or the one to start with.
func (a *App) configInForce() *config.Config {
	if a.reloader != nil && a.reloader.current.Load() != nil {
		return a.reloader.current.Load().cfg
	}
	return a.options.Config
}

// Reload loads the configuration again, puts it in force and logs how it went. With an
// error, nothing has changed. The warnings name what changed in the file but needs a
// restart, and what is in force but not right. Reloads run one after the other. Reload
// must not be called before Start.
func (a *App) Reload() (warnings []string, err error) {
	log, before := a.options.Log, a.reloader.current.Load()
	warnings, err = a.reloader.reload()
	if err != nil {
		message := "the configuration was not reloaded; the previous one stays in force"
		if before.cfg.Auth.APIKeys != nil {
			message += ", and API keys that were removed from the file since then stay valid"
		}
		log.Error(message, "faults", faultLines(err))
		return nil, err
	}
	g := a.reloader.current.Load()
	log.Info("the configuration was reloaded", "hash", g.hash[:16])
	if g.storeTLS != before.storeTLS {
		// Open connections stay, so that a mistake would show when the next one is made.
		if _, err := reachStore(context.Background(), g.cfg); err != nil {
			warnings = append(warnings, fmt.Sprintf("store.tls has changed, and a new connection to the store fails: %v; open connections stay in use", err))
		}
	}
	for _, warning := range warnings {
		log.Warn(warning)
	}
	return warnings, nil
}

// ShutdownDelay is how long the gateway should serve on after Leave, by the configuration in force.
func (a *App) ShutdownDelay() time.Duration { return a.configInForce().ShutdownDelay }

// Leave tells load balancers and clients to move away, and goes on serving: /readyz answers 503, and
// responses over HTTP/1.1 close their connections. Stop should follow after ShutdownDelay.
func (a *App) Leave() { a.draining.Store(true) }

// ReloadFor is Reload for something other than an administrator's request, such as SIGHUP. It is in the
// list of actions as well.
func (a *App) ReloadFor(from string) {
	warnings, err := a.Reload()
	a.actions.Add(admin.Action{Action: "reload", From: from, Detail: strings.Join(warnings, "; "), Outcome: admin.OutcomeOf(err)})
}

// stopGrace is what the other clean-ups may take after the requests in flight have used
// up the shutdown timeout.
const stopGrace = 5 * time.Second

// Stop shuts down gracefully: /readyz answers 503 at once, requests in flight may run
// until the shutdown timeout, then their connections are closed. Everything that was
// started is stopped, in reverse order. A second Stop does nothing.
func (a *App) Stop() error {
	a.Leave()
	// A fresh context: the one that Start got may have ended.
	ctx, cancel := context.WithTimeout(context.Background(), a.ShutdownTimeout()+stopGrace)
	defer cancel()
	return a.cleanups.run(ctx)
}
