package main

import (
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"metergate/config"
	"metergate/proxy"
	"metergate/proxy/upstream"
)

// A generation is what one configuration has been built into. It does not change;
// a reload makes the next one.
type generation struct {
	cfg         *config.Config
	hash        string           // of the configuration's files
	certificate *tls.Certificate // of the public listener; nil: it speaks no TLS
	upstreams   map[string]*upstream.Pool
	tokens      tokens
	gateway     *proxy.Gateway
}

// A reloader has the current generation and replaces it.
type reloader struct {
	current atomic.Pointer[generation]

	// attempt is the last try to load, whoever asked for it and however it ended.
	attempt atomic.Pointer[attempt]

	mu   sync.Mutex // one reload at a time
	load func() (*config.Config, []string, error)
	// build makes a generation and touches nothing that lives; before may be nil.
	build   func(cfg *config.Config, before *generation) (*generation, error)
	streams *proxy.Streams

	successful, at prometheus.Gauge
	loaded         *prometheus.GaugeVec
	reloads        *prometheus.CounterVec
}

// An attempt has the files that were looked at, and the hash of what they held.
type attempt struct {
	files []string
	hash  string
}

func newReloader(streams *proxy.Streams) *reloader {
	r := &reloader{
		streams: streams,
		successful: prometheus.NewGauge(prometheus.GaugeOpts{Name: "metergate_config_last_reload_successful",
			Help: "1 if the configuration as it is now was loaded, 0 if it was refused and the one before is in force."}),
		at: prometheus.NewGauge(prometheus.GaugeOpts{Name: "metergate_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration in force was loaded."}),
		loaded: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "metergate_config_hash",
			Help: "1, with the SHA-256 of the configuration in force, its first 16 digits."}, []string{"sha256"}),
		reloads: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "metergate_config_reloads_total",
			Help: "Tries to load the configuration again, by result: success or failure."}, []string{"result"}),
	}
	for _, result := range []string{"success", "failure"} {
		r.reloads.WithLabelValues(result) // so that the first one shows as a rise
	}
	return r
}

func (r *reloader) metrics() []prometheus.Collector {
	return []prometheus.Collector{r.successful, r.at, r.loaded, r.reloads}
}

// ServeHTTP serves a request by the current generation, to its end.
func (r *reloader) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	r.current.Load().gateway.ServeHTTP(w, req)
}

// start builds the first generation.
func (r *reloader) start(cfg *config.Config) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempt.Store(&attempt{cfg.Files, hashFiles(cfg.Files)})
	return r.swap(cfg, r.attempt.Load().hash)
}

// reload loads the configuration again and puts it in force, or says why not; then
// nothing has changed. The warnings name what cannot change in a running process, and
// what is in force and still not right.
func (r *reloader) reload() (warnings []string, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	before := r.current.Load()
	cfg, tried, err := r.loadWhole()
	r.attempt.Store(&tried)
	if err == nil {
		err = r.swap(cfg, tried.hash)
	}
	if err != nil {
		r.successful.Set(0)
		r.reloads.WithLabelValues("failure").Inc()
		return nil, err
	}
	r.reloads.WithLabelValues("success").Inc()
	return append(fixed(before.cfg, cfg), certificateWarnings(r.current.Load().certificate, time.Now())...), nil
}

// loadWhole loads until the files are the same before and after, so that the hash is
// of what was loaded. A few times will do: who writes all the time is loaded again.
func (r *reloader) loadWhole() (cfg *config.Config, tried attempt, err error) {
	files := r.attempt.Load().files
	for range 5 {
		before := hashFiles(files)
		cfg, tried.files, err = r.load()
		tried.hash = hashFiles(tried.files)
		if slices.Equal(files, tried.files) && before == tried.hash {
			break
		}
		files = tried.files
	}
	return cfg, tried, err
}

func (r *reloader) swap(cfg *config.Config, hash string) error {
	before := r.current.Load()
	g, err := r.build(cfg, before)
	if err != nil {
		return err
	}
	g.hash = hash
	for name, u := range g.upstreams {
		if before != nil && before.upstreams[name] != nil && before.upstreams[name] != u {
			u.Inherit(before.upstreams[name])
		}
	}
	for _, u := range g.upstreams {
		u.Start() // those that are taken over have been
	}
	keys := g.tokens.keys()
	if keys != nil {
		keys.Start() // as above
	}
	r.current.Store(g)
	r.streams.Follow(g.gateway)
	if before != nil {
		for name, u := range before.upstreams {
			if g.upstreams[name] != u {
				u.Retire()
			}
		}
		if old := before.tokens.keys(); old != nil && old != keys {
			old.Retire()
		}
	}
	r.successful.Set(1)
	r.at.Set(float64(time.Now().UnixMilli()) / 1000)
	r.loaded.Reset()
	r.loaded.WithLabelValues(g.hash[:16]).Set(1)
	return nil
}

// fixed names what differs between two configurations and takes a restart.
func fixed(running, wanted *config.Config) (warnings []string) {
	for _, f := range []struct {
		name string
		same bool
	}{
		{"listen", running.Listen == wanted.Listen},
		{"tls (on or off)", (running.TLS != nil) == (wanted.TLS != nil)},
		{"admin.listen", running.Admin.Listen == wanted.Admin.Listen},
		{"store", reflect.DeepEqual(running.Store, wanted.Store)},
		{"timezone", running.Timezone.String() == wanted.Timezone.String()},
		{"log.format", running.Log.Format == wanted.Log.Format},
	} {
		if !f.same {
			warnings = append(warnings, f.name+" has changed in the file; it takes a restart, and the old value stays in force")
		}
	}
	return warnings
}

// keepFixed puts what takes a restart into a configuration, so that what follows
// sees what is in force.
func keepFixed(running, wanted *config.Config) *config.Config {
	c := *wanted
	c.Listen, c.Store, c.Timezone = running.Listen, running.Store, running.Timezone
	c.Admin.Listen, c.Log.Format = running.Admin.Listen, running.Log.Format
	if (running.TLS != nil) != (wanted.TLS != nil) {
		c.TLS = running.TLS
	}
	return &c
}

// hashFiles is over names and contents; a file that cannot be read counts as empty.
func hashFiles(files []string) string {
	h := sha256.New()
	for _, name := range files {
		data, _ := os.ReadFile(name)
		fmt.Fprintf(h, "%q %d\n", name, len(data))
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// faults are the lines that say what is wrong with a configuration.
func faults(err error) (lines []string) {
	var list config.Errors
	if !errors.As(err, &list) {
		return []string{err.Error()}
	}
	for _, f := range list {
		lines = append(lines, f.Error())
	}
	return lines
}
