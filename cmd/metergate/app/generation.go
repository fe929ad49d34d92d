package app

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/cmd/metergate/host"
	"metergate/config"
	"metergate/proxy"
	"metergate/proxy/admin/recent"
	"metergate/proxy/tracing"
	"metergate/proxy/upstream"
	"metergate/quota/notify"
	"metergate/quota/redisstore"
)

// A generation is what one configuration was built into. It never changes; a reload
// builds the next one.
type generation struct {
	cfg         *config.Config
	hash        string           // of the configuration's files
	loadedAt    time.Time        // when these were read
	capacity    capacity         // cfg has its bound of requests
	certificate *tls.Certificate // of the public listener; nil: no TLS
	storeTLS    *tls.Config      // for new connections to Redis; nil: the defaults
	upstreams   map[string]*upstream.Pool
	auth        authenticator
	receiver    *notify.Receiver // of notifications; nil: none are sent
	traced      traced
	gateway     *proxy.Gateway
}

// A builder builds generations. Its fields are what all generations of a process share.
type builder struct {
	store    proxy.Store
	redis    *redisstore.Store // nil: the store is another one
	plans    *claimedPlans     // of the store
	sender   *notify.Sender
	streams  *proxy.Streams
	recent   *recent.Sampler
	inFlight *proxy.InFlight
	metrics  *proxy.Metrics
	traces   *tracing.Exporter
	log      *slog.Logger
	version  string // of this program

	limits host.Limits
	// Connections of clients to each listener; 0: no bound.
	maxConnections, maxAdminConnections atomic.Int64
	upstreamConnections                 *upstream.Connections
}

// build builds a generation and starts nothing; before is the generation in force, nil
// at the start. The context bounds the first request to another key server.
func (b *builder) build(ctx context.Context, cfg *config.Config, before *generation) (_ *generation, err error) {
	if before != nil {
		cfg = keepUntilRestart(before.cfg, cfg)
	}
	g := &generation{capacity: capacityOf(cfg, b.limits)}
	inForce := *cfg
	inForce.MaxInFlight.Total = g.capacity.requests
	cfg, g.cfg = &inForce, &inForce
	if g.certificate, err = buildCertificate(cfg, before); err != nil {
		return nil, err
	}
	if g.storeTLS, err = buildStoreTLS(cfg, before); err != nil {
		return nil, err
	}
	if g.upstreams, err = buildUpstreams(cfg, before, b.upstreamConnections, b.log); err != nil {
		return nil, err
	}
	if g.auth, err = buildAuthenticator(ctx, cfg, before, b.log); err != nil {
		return nil, err
	}
	if g.receiver, err = buildReceiver(cfg, before); err != nil {
		return nil, fmt.Errorf("notify: %w", err)
	}
	if g.traced, err = b.buildTracing(cfg, before); err != nil {
		return nil, err
	}
	if g.gateway, err = b.gateway(g); err != nil {
		return nil, err
	}
	return g, nil
}

// gateway builds the public handler from the other parts of a generation.
func (b *builder) gateway(g *generation) (*proxy.Gateway, error) {
	cfg := g.cfg
	plans, err := Plans(cfg)
	if err != nil {
		return nil, err
	}
	o := proxy.Options{
		Store:           b.store,
		Verifier:        g.auth.verifier,
		QueryParam:      cfg.Auth.QueryParam,
		Plans:           plans,
		DefaultPlan:     cfg.DefaultPlan,
		KeepsTerms:      cfg.UsesTerms(),
		Location:        cfg.Timezone,
		UpgradeURL:      cfg.UpgradeURL,
		PlanUpgradeURLs: upgradeURLsOf(cfg),
		HistoryDays:     cfg.HistoryDays(),
		Streams:         b.streams,
		Metrics:         b.metrics,
		Tracer:          g.traced.tracer,
		Log:             b.log,
		TrustedProxies:  cfg.TrustedProxies,
		PassHeaders:     cfg.PassHeaders,
		InFlight:        b.inFlight,
		MaxInFlight:     cfg.MaxInFlight.Total,
		MaxUserInFlight: cfg.MaxInFlight.PerUser,
		LogUser:         logUser(cfg),
		QuietSuccesses:  1 - cfg.Log.SampleSuccesses,
	}
	for _, r := range cfg.Routes {
		o.Routes = append(o.Routes, proxy.Route{
			Pattern: r.Match, Endpoint: r.Endpoint, Public: r.Public, Upstream: g.upstreams[r.Upstream], UpstreamName: r.Upstream,
			Timeout: r.Timeout, MaxBody: r.MaxBody, StripPrefix: r.StripPrefix, Upgrade: r.Upgrade,
			UserHeader: r.UserHeader, PlanHeader: r.PlanHeader, DropAuthorization: r.DropAuthorization, KeepCookie: r.KeepCookie,
			Observe: r.Observe, ExactPaths: r.ExactPaths, Targets: targetsOf(cfg, r), Cost: costOf(r.Cost),
		})
	}
	if keys := cfg.Auth.APIKeys; keys != nil {
		o.APIKeys = keys.Keys
	}
	if cookie := cfg.Auth.Cookie; cookie != nil {
		o.Cookie, o.CookieOrigins = cookie.Name, cookie.Origins
	}
	if cfg.CORS != nil {
		o.CORS = &proxy.CORS{AllowedOrigins: cfg.CORS.AllowedOrigins, AllowCredentials: cfg.CORS.AllowCredentials}
	}
	return proxy.New(o)
}

// Check reports faults that only show when a gateway is built from a configuration, such
// as a key that does not fit its algorithm.
func Check(cfg *config.Config) error {
	log := slog.New(slog.DiscardHandler)
	b := &builder{metrics: proxy.NewMetrics(prometheus.NewRegistry()), traces: tracing.NewExporter(tracing.ExporterOptions{Log: log}), log: log}
	_, err := b.build(context.Background(), cfg, nil)
	return err
}
