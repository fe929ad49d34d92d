package app

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"metergate/config"
	"metergate/proxy/jwtauth"
	"metergate/quota/redisstore"
)

// reachTimeout bounds the attempt to reach one target.
const reachTimeout = 5 * time.Second

// A Reached says whether a part that a gateway depends on can be reached.
type Reached struct {
	Part     string   // "store", "upstreams.api.targets[0] (http://10.0.0.1:9000)"
	Warnings []string // what is set up badly, although it can be reached
	Err      error    // nil: it can be reached
}

// CheckOnline tries to reach everything that a gateway with this configuration talks
// to: the store, the key servers, each target and the collector of spans. It calls report after each of them.
func CheckOnline(ctx context.Context, cfg *config.Config, report func(Reached)) {
	store := Reached{Part: "store"}
	store.Warnings, store.Err = reachStore(ctx, cfg)
	report(store)
	for i := range cfg.Auth.JWT {
		l := keyLocationOf(&cfg.Auth.JWT[i])
		if l.url == "" {
			continue
		}
		shown, _, _ := strings.Cut(l.url, "?") // the query may hold a secret
		keys := jwtauth.NewKeySet(l.form, l.url, slog.New(slog.DiscardHandler))
		report(Reached{Part: fmt.Sprintf("%s.%s (%s)", cfg.Auth.PathOf(i), l.form, shown), Err: keys.Fetch(ctx)})
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Upstreams)) {
		u := cfg.Upstreams[name]
		for i, target := range u.Targets {
			report(Reached{
				Part: fmt.Sprintf("upstreams.%s.targets[%d] (%s)", name, i, target.URL.Redacted()),
				Err:  reachTarget(ctx, u, target.URL),
			})
		}
	}
	if t := cfg.Tracing; t != nil {
		report(Reached{Part: fmt.Sprintf("tracing.url (%s)", t.Endpoint()), Err: reachCollector(ctx, t)})
	}
}

// reachCollector sends no spans to the collector, which answers all the same.
func reachCollector(ctx context.Context, t *config.Tracing) error {
	c, err := newCollector(t, "validate")
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	return c.Check(ctx)
}

// reachStore has Redis count. An error says why it does not, or what else is wrong with it. The embedded store is not opened, because a gateway may be
// running on it.
func reachStore(ctx context.Context, cfg *config.Config) (warnings []string, err error) {
	if _, embedded := cfg.Store.Embedded(); embedded {
		return nil, nil
	}
	options, err := redisOptions(cfg)
	if err != nil {
		return nil, err
	}
	s, err := redisstore.Open(options)
	if err != nil {
		return nil, err
	}
	defer s.Close()
	if err := s.Check(ctx); err != nil {
		return nil, err
	}
	var faults []error
	for _, w := range s.Weaknesses() {
		faults = append(faults, errors.New(w.Fault))
	}
	return s.SetupWarnings(ctx), errors.Join(faults...)
}

// reachTarget requests the health path of a target. Without one, it only connects, with
// TLS if the URL says so: any other request might cost money.
func reachTarget(ctx context.Context, u config.Upstream, target *url.URL) error {
	tlsConfig, err := u.TLS.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	transport := &http.Transport{TLSClientConfig: tlsConfig}
	defer transport.CloseIdleConnections()
	network, addr := "tcp", target.Host
	switch target.Scheme {
	case "h2c":
		transport.Protocols = new(http.Protocols)
		transport.Protocols.SetUnencryptedHTTP2(true)
	case "unix":
		network, addr = "unix", target.Path
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
	}
	if u.Health != nil {
		return checkHealth(ctx, transport, target, u.Health.Path)
	}
	if network == "tcp" && target.Port() == "" {
		port := "80"
		if target.Scheme == "https" {
			port = "443"
		}
		addr = net.JoinHostPort(target.Hostname(), port)
	}
	var conn net.Conn
	if target.Scheme == "https" {
		conn, err = (&tls.Dialer{Config: tlsConfig}).DialContext(ctx, network, addr)
	} else {
		conn, err = new(net.Dialer).DialContext(ctx, network, addr)
	}
	if err != nil {
		return err
	}
	return conn.Close()
}

func checkHealth(ctx context.Context, transport *http.Transport, target *url.URL, path string) error {
	web := *target
	switch target.Scheme {
	case "h2c":
		web.Scheme = "http"
	case "unix":
		web = url.URL{Scheme: "http", Host: "localhost"}
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, web.JoinPath(path).String(), nil)
	if err != nil {
		return err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode/100 != 2 {
		return fmt.Errorf("%s answers %s", path, res.Status)
	}
	return nil
}
