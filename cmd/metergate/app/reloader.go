package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/config"
	"metergate/proxy/admin"
)

var (
	errNoLoad   = errors.New("this gateway has no configuration file to load again")
	errStopping = errors.New("the gateway is shutting down")
)

// A reloader has the generation in force and replaces it.
type reloader struct {
	current atomic.Pointer[generation]
	// lastLoad is about the latest attempt to load, whatever asked for it and however it
	// ended.
	lastLoad atomic.Pointer[loadAttempt]
	// warnings are about the configuration in force.
	warnings atomic.Pointer[[]string]

	builder *builder
	load    func() (*config.Config, []string, error) // nil: there is nothing to load
	level   *slog.LevelVar                           // nil: reloads leave the log's level alone

	mu      sync.Mutex // held during a reload
	stopped bool       // no more reloads
	// swapping is held while a generation takes the place of another, and while a target is drained.
	swapping sync.Mutex
	ctx      context.Context
	cancel   context.CancelFunc // makes a reload give up
	watcher  fileWatcher

	successful, loadedAt prometheus.Gauge
	loadedHash           *prometheus.GaugeVec
	reloads              *prometheus.CounterVec
}

// A loadAttempt has the files that were read, and the hash of what they held.
type loadAttempt struct {
	files []string
	hash  string
	err   error // why the configuration was refused; nil: it is in force, or not yet judged
	at    time.Time
}

func newReloader(b *builder, load func() (*config.Config, []string, error), level *slog.LevelVar) *reloader {
	r := &reloader{
		builder: b,
		load:    load,
		level:   level,
		successful: prometheus.NewGauge(prometheus.GaugeOpts{Name: "metergate_config_last_reload_successful",
			Help: "1 if the configuration as it is now is in force, 0 if it was refused and the previous one is in force."}),
		loadedAt: prometheus.NewGauge(prometheus.GaugeOpts{Name: "metergate_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration in force was loaded."}),
		loadedHash: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "metergate_config_hash",
			Help: "Always 1; the label has the first 16 digits of the SHA-256 of the configuration in force."}, []string{"sha256"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "metergate_config_reloads_total",
			Help: "Attempts to reload the configuration, by result: success or failure."}, []string{"result"}),
	}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	for _, result := range []string{"success", "failure"} {
		r.reloads.WithLabelValues(result) // at 0 from the start, so that the first one shows as an increase
	}
	return r
}

func (r *reloader) metrics() []prometheus.Collector {
	return []prometheus.Collector{r.successful, r.loadedAt, r.loadedHash, r.reloads}
}

// ServeHTTP serves a request with the generation in force, to its end.
func (r *reloader) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.current.Load().gateway.ServeHTTP(w, req)
}

// build builds the first generation and starts nothing.
func (r *reloader) build(ctx context.Context, cfg *config.Config) error {
	attempt := &loadAttempt{files: cfg.Files, hash: hashFiles(cfg.Files), at: time.Now()}
	g, err := r.builder.build(ctx, cfg, nil)
	if err != nil {
		return err
	}
	g.hash, g.loadedAt = attempt.hash, attempt.at
	r.lastLoad.Store(attempt)
	r.current.Store(g)
	return nil
}

// start starts the first generation.
func (r *reloader) start() { r.swap(r.current.Load(), nil) }

// reload loads the configuration, builds a generation from it and puts it in force. All
// that can fail comes before swap: with an error, nothing has changed.
func (r *reloader) reload() (warnings []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.stopped:
		return nil, errStopping
	case r.load == nil:
		return nil, errNoLoad
	}
	before := r.current.Load()
	cfg, attempt, err := r.loadUnchanged()
	r.lastLoad.Store(&attempt)
	var g *generation
	if err == nil {
		g, err = r.builder.build(r.ctx, cfg, before)
	}
	if err != nil {
		r.lastLoad.Store(&loadAttempt{attempt.files, attempt.hash, err, attempt.at})
		r.successful.Set(0)
		r.reloads.WithLabelValues("failure").Inc()
		return nil, err
	}
	g.hash, g.loadedAt = attempt.hash, attempt.at
	r.swap(g, before)
	r.reloads.WithLabelValues("success").Inc()
	warnings = slices.Concat(restartWarnings(before.cfg, cfg), g.capacity.warnings, cfg.Warnings(), certificateWarnings(g.cfg, g.certificate, time.Now()))
	r.warnings.Store(&warnings)
	return warnings, nil
}

// loadUnchanged loads until the files have the same content before and after, so that
// the hash is of what was loaded. It gives up after five times: if the files change all
// the time, the watcher soon asks for another reload.
func (r *reloader) loadUnchanged() (cfg *config.Config, attempt loadAttempt, err error) {
	files := r.lastLoad.Load().files
	attempt.at = time.Now()
	for range 5 {
		before := hashFiles(files)
		cfg, attempt.files, err = r.load()
		attempt.hash = hashFiles(attempt.files)
		if slices.Equal(files, attempt.files) && before == attempt.hash {
			break
		}
		files = attempt.files
	}
	return cfg, attempt, err
}

// swap starts a generation, puts it in force and retires what it does not share with the
// one before; before is nil at the start. It cannot fail.
func (r *reloader) swap(g, before *generation) {
	r.swapping.Lock()
	defer r.swapping.Unlock()
	for name, pool := range g.upstreams {
		if before != nil && before.upstreams[name] != nil && before.upstreams[name] != pool {
			pool.AdoptState(before.upstreams[name])
		}
	}
	for _, pool := range g.upstreams {
		pool.Start() // does nothing to a pool that was taken over
	}
	for _, keys := range g.auth.keySets() {
		keys.Start() // nor to such a key set
	}
	if before != nil && g.storeTLS != before.storeTLS && r.builder.redis != nil {
		r.builder.redis.SetTLS(g.storeTLS)
	}
	if r.level != nil {
		r.level.Set(g.cfg.Log.Level)
	}
	r.builder.traces.SetCollector(g.traced.collector)
	r.builder.apply(g.capacity)
	r.current.Store(g)
	r.builder.plans.set(g.gateway.PlansFor)
	if before == nil || before.receiver != g.receiver {
		r.builder.sender.SetReceiver(g.receiver)
	}
	r.builder.streams.Follow(g.gateway)
	r.builder.recent.Set(g.cfg.Admin.Token != "") // nobody else can read what it keeps
	if before != nil {
		before.retire(g)
	}
	r.successful.Set(1)
	r.loadedAt.Set(float64(time.Now().UnixMilli()) / 1000)
	r.loadedHash.Reset()
	r.loadedHash.WithLabelValues(g.hash[:16]).Set(1)
}

// retire stops the pools and the key sets of a generation, except for those that its
// successor has taken over; next is nil if there is none.
func (g *generation) retire(next *generation) {
	for name, pool := range g.upstreams {
		if next == nil || next.upstreams[name] != pool {
			pool.Retire()
		}
	}
	for _, keys := range g.auth.keySets() {
		if next == nil || !slices.Contains(next.auth.keySets(), keys) {
			keys.Retire()
		}
	}
}

// stop makes a reload that is running give up, waits for it and retires the generation
// in force. No reload can follow.
func (r *reloader) stop(ctx context.Context) error {
	r.cancel()
	return within(ctx, func() {
		r.watcher.wait()
		r.mu.Lock()
		defer r.mu.Unlock()
		r.stopped = true
		r.current.Load().retire(nil)
	})
}

// within runs f, but returns the context's error if that ends first; f then runs on.
func within(ctx context.Context, f func()) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// watch calls reload whenever the files have changed since the latest attempt to load
// them, until endWatch.
func (r *reloader) watch(reload func(), log *slog.Logger) {
	r.watcher.start(r.files, reload, log)
}

// endWatch does not wait for a reload that is running; stop does.
func (r *reloader) endWatch() { r.watcher.end() }

// files returns the files that were read at the latest attempt, and the hash of what
// they held then.
func (r *reloader) files() (names []string, hash string) {
	attempt := r.lastLoad.Load()
	return attempt.files, attempt.hash
}

// fault says why the files as they are now are not in force; nil: they are.
func (r *reloader) fault() error {
	err := r.lastLoad.Load().err
	if err == nil {
		return nil
	}
	lines := faultLines(err)
	more := ""
	if n := len(lines) - 1; n > 0 {
		more = fmt.Sprintf(" (and %d more; see the log)", n)
	}
	return fmt.Errorf("refused, and the previous one stays in force: %s%s", lines[0], more)
}

// state is what the overview shows of the configuration.
func (r *reloader) state() admin.ConfigState {
	g, last := r.current.Load(), r.lastLoad.Load()
	s := admin.ConfigState{Hash: g.hash, LoadedAt: g.loadedAt.UTC().Truncate(time.Millisecond), Warnings: []string{}}
	if len(g.cfg.Files) > 0 {
		s.File = g.cfg.Files[0]
	}
	if last.err != nil {
		s.LastFault = &admin.ConfigFault{At: last.at.UTC().Truncate(time.Millisecond), Lines: faultLines(last.err)}
	}
	if warnings := r.warnings.Load(); warnings != nil {
		s.Warnings = append(s.Warnings, *warnings...)
	}
	return s
}

// faultLines returns what is wrong with a configuration, a line for each fault.
func faultLines(err error) (lines []string) {
	var list config.Errors
	if !errors.As(err, &list) {
		return []string{err.Error()}
	}
	for _, f := range list {
		lines = append(lines, f.Error())
	}
	return lines
}
