package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/url"
	"slices"
	"time"

	"metergate/config"
)

func validate(c *console) error {
	f := c.flags("validate")
	file := configFlag(f)
	online := f.Bool("online", false, "also try to reach the store and the targets of the upstreams")
	if err := c.parse(f); err != nil {
		return err
	}
	cfg, err := load(*file)
	if err != nil {
		return err
	}
	if err := checkBuild(cfg); err != nil {
		return errUsage(fmt.Sprintf("%s: %v", *file, err))
	}
	fmt.Fprintf(c.stdout, "%s: valid: %d plans, %d routes, %d upstreams\n", *file, len(cfg.Plans), len(cfg.Routes), len(cfg.Upstreams))
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
	for _, name := range slices.Sorted(maps.Keys(cfg.Upstreams)) {
		for i, target := range cfg.Upstreams[name].Targets {
			report(fmt.Sprintf("upstreams.%s.targets[%d] (%s)", name, i, target.URL.Redacted()), tryTarget(target.URL))
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
	for _, warning := range s.Check(ctx) {
		fmt.Fprintf(c.stdout, "store: warning: %s\n", warning)
	}
	return nil
}

// tryTarget connects to a target. What it would answer is not asked: that may cost.
func tryTarget(u *url.URL) error {
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	conn, err := net.DialTimeout("tcp", net.JoinHostPort(u.Hostname(), port), 5*time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}
