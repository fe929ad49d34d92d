package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"metergate/config"
	"metergate/proxy"
	"metergate/proxy/admin"
)

// An app is a whole gateway: both listeners and what stands behind them.
type app struct {
	cfg     *config.Config // at the start
	log     *slog.Logger
	store   *guardedStore
	streams *proxy.Streams
	*reloader

	public, admin         *http.Server
	publicAddr, adminAddr net.Addr
	draining              atomic.Bool
	stopping              chan struct{} // closed when the app stops
	failed                chan error    // a listener that broke
}

// appOptions are what an app is made of.
type appOptions struct {
	cfg *config.Config
	// load loads the configuration again; nil: it is never reloaded.
	load  func() (*config.Config, []string, error)
	log   *slog.Logger
	level *slog.LevelVar // of log; nil: reloads leave it
}

// startApp builds a gateway and serves. When it returns without an error, both
// listeners accept connections. A store that cannot be reached is no error: the
// gateway runs by its on_failure rule until it can.
func startApp(o appOptions) (_ *app, err error) {
	cfg, log := o.cfg, o.log
	a := &app{cfg: cfg, log: log, streams: proxy.NewStreams(), stopping: make(chan struct{}), failed: make(chan error, 2)}
	if a.store, err = buildStore(cfg, log); err != nil {
		return nil, fmt.Errorf("opening the store: %w", err)
	}
	defer func() {
		if err != nil {
			a.store.Close()
		}
	}()
	inFlight := proxy.NewInFlight()
	registry := prometheus.NewRegistry()
	metrics := proxy.NewMetrics(registry)
	a.reloader = newReloader(a.streams)
	a.reloader.load = o.load
	a.reloader.build = func(cfg *config.Config, before *generation) (*generation, error) {
		g, err := buildGeneration(cfg, before, a.store, a.streams, inFlight, metrics, log)
		if err == nil && o.level != nil {
			o.level.Set(cfg.Log.Level)
		}
		return g, err
	}
	if err := a.reloader.start(cfg); err != nil {
		return nil, err
	}
	registry.MustRegister(collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), buildInfo(), guardMetrics{a.store}, openStreams(a.streams))
	registry.MustRegister(a.reloader.metrics()...)
	registry.MustRegister(targetMetrics{a.reloader})
	errorLog := slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	var certificate func() *tls.Certificate
	if cfg.TLS != nil {
		certificate = func() *tls.Certificate { return a.current.Load().certificate }
		registry.MustRegister(certificateExpiry(a.reloader))
	}
	a.public = publicServer(a.reloader, certificate, errorLog)
	a.public.RegisterOnShutdown(a.streams.End)
	a.admin = adminServer(admin.Handler(admin.Options{
		Probes:   probes{a},
		Gateway:  adminView{a},
		Registry: registry,
		Log:      log,
		Store:    a.store,
		Calendar: a.store.Calendar,
		Clock:    a.store.Remote,
	}), errorLog)
	publicListener, err := net.Listen("tcp", cfg.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	adminListener, err := net.Listen("tcp", cfg.Admin.Listen)
	if err != nil {
		publicListener.Close()
		return nil, fmt.Errorf("admin.listen: %w", err)
	}
	a.publicAddr, a.adminAddr = publicListener.Addr(), adminListener.Addr()
	go a.serve(a.public, publicListener)
	go a.serve(a.admin, adminListener)
	if err := a.store.Ping(context.Background()); err != nil {
		log.Warn("the store cannot be reached", "on_failure", string(cfg.Store.OnFailure), "error", err)
	}
	for _, warning := range a.store.check(context.Background()) {
		log.Warn(warning)
	}
	for _, warning := range certificateWarnings(a.current.Load().certificate, time.Now()) {
		log.Warn(warning)
	}
	if o.load != nil {
		go watchFiles(a.files, func() { a.reloadAndLog() }, log, a.stopping)
	}
	return a, nil
}

// files are those that were looked at last, and the hash of what they held then.
func (a *app) files() (names []string, hash string) {
	last := a.attempt.Load()
	return last.files, last.hash
}

// reloadAndLog reloads and says in the log how it went.
func (a *app) reloadAndLog() (warnings []string, err error) {
	warnings, err = a.reloader.reload()
	if err != nil {
		a.log.Error("the configuration was not reloaded; the one before stays in force", "faults", faults(err))
		return nil, err
	}
	a.log.Info("the configuration was reloaded", "hash", a.current.Load().hash[:16])
	for _, warning := range warnings {
		a.log.Warn(warning)
	}
	return warnings, nil
}

// stop drains: readiness turns 503 at once, requests in flight have until the
// shutdown timeout, then their connections are cut.
func (a *app) stop() error {
	a.draining.Store(true)
	close(a.stopping)
	timeout := a.current.Load().cfg.ShutdownTimeout
	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	err := a.public.Shutdown(ctx)
	if err != nil {
		err = fmt.Errorf("requests were still running after %v: %w", timeout, err)
		a.public.Close()
	}
	for _, u := range a.current.Load().upstreams {
		u.Retire()
	}
	if keys := a.current.Load().tokens.keys(); keys != nil {
		keys.Retire()
	}
	// The admin listener goes last: it tells that the gateway drains.
	return errors.Join(err, a.admin.Close(), a.store.Close())
}

func buildInfo() prometheus.Collector {
	version, commit := buildVersion()
	g := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "metergate_build_info", Help: "1, with the version that runs.",
		ConstLabels: prometheus.Labels{"version": version, "commit": commit},
	})
	g.Set(1)
	return g
}
