package main

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
)

func validate(c *console) error {
	f := c.flags("validate")
	file := configFlag(f)
	online := f.Bool("online", false, "also try to reach the store, the key server and the targets of the upstreams")
	if err := c.parse(f); err != nil {
		return err
	}
	cfg, err := load(*file)
	if err != nil {
		return err
	}
	fmt.Fprintf(c.stdout, "%s: valid: %d plans, %d routes, %d upstreams\n", *file, len(cfg.Plans), len(cfg.Routes), len(cfg.Upstreams))
	certificate, err := buildCertificate(cfg, nil)
	if err != nil {
		return err
	}
	for _, warning := range certificateWarnings(certificate, time.Now()) {
		fmt.Fprintf(c.stdout, "%s: warning: %s\n", *file, warning)
	}
	if !*online {
		return nil
	}
	failed := false
	report := func(what string, err error) {
		if err != nil {
			failed = true
			fmt.Fprintf(c.stdout, "%s: %v\n", what, err)
			return
		}
		fmt.Fprintf(c.stdout, "%s: ok\n", what)
	}
	report("store", tryStore(c, cfg))
	if url := cfg.Auth.JWT.JWKSURL; url != "" {
		shown, _, _ := strings.Cut(url, "?") // the rest may be a secret
		report("auth.jwt.jwks_url ("+shown+")", jwtauth.NewKeySet(url, slog.New(slog.DiscardHandler)).Fetch(context.Background()))
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Upstreams)) {
		for i, target := range cfg.Upstreams[name].Targets {
			report(fmt.Sprintf("upstreams.%s.targets[%d] (%s)", name, i, target.URL.Redacted()), tryTarget(cfg.Upstreams[name], target.URL))
		}
	}
	if failed {
		return errors.New("not everything can be reached")
	}
	return nil
}

// tryStore asks Redis for a sign of life. The embedded store is not opened: a gateway
// may be running on it.
func tryStore(c *console, cfg *config.Config) error {
	if _, embedded := cfg.Store.Embedded(); embedded {
		return nil
	}
	s, err := openRedis(cfg, nil)
	if err != nil {
		return err
	}
	defer s.Close()
	ctx := context.Background()
	if err := s.Ping(ctx); err != nil {
		return err
	}
	for _, warning := range s.SetupWarnings(ctx) {
		fmt.Fprintf(c.stdout, "store: warning: %s\n", warning)
	}
	return nil
}

// tryTarget connects to a target, with TLS where it has that, and asks its health
// where there is a path for it. Nothing else is asked: that may cost.
func tryTarget(u config.Upstream, target *url.URL) error {
	tlsConfig, err := u.TLS.Client()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if u.Health != nil {
		transport := &http.Transport{TLSClientConfig: tlsConfig}
		defer transport.CloseIdleConnections()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, target.JoinPath(u.Health.Path).String(), nil)
		if err != nil {
			return err
		}
		res, err := transport.RoundTrip(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if res.StatusCode/100 != 2 {
			return fmt.Errorf("%s answers %s", u.Health.Path, res.Status)
		}
		return nil
	}
	port := target.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[target.Scheme]
	}
	addr := net.JoinHostPort(target.Hostname(), port)
	var conn net.Conn
	if target.Scheme == "https" {
		conn, err = (&tls.Dialer{Config: tlsConfig}).DialContext(ctx, "tcp", addr)
	} else {
		conn, err = new(net.Dialer).DialContext(ctx, "tcp", addr)
	}
	if err != nil {
		return err
	}
	return conn.Close()
}
