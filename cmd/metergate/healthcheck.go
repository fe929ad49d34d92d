package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"metergate/config"
)

// Bounds of one question of healthcheck, and the pause before it asks again.
const (
	healthTimeout = 5 * time.Second
	healthPause   = 50 * time.Millisecond
)

func healthcheck(c *console) error {
	f := c.flags()
	file := configFlag(f)
	admin := f.String("admin", "", "`URL` of the admin listener, or unix:PATH of its socket (default: admin.listen of the configuration)")
	wait := f.Duration("wait", 0, "ask again until the gateway is ready, for this `TIME` at most, such as 10s")
	if _, err := c.parse(f); err != nil {
		return err
	}
	if *wait < 0 {
		return c.usageError("-wait must not be negative")
	}
	given := map[string]bool{}
	f.Visit(func(f *flag.Flag) { given[f.Name] = true })
	base := *admin
	if given["admin"] && given["config"] {
		return c.usageError("give -config or -admin, not both")
	} else if !given["admin"] {
		var err error
		if base, err = c.configuredAdmin(*file, given["config"]); err != nil {
			return err
		}
	}
	url, transport, err := reachAdmin(base)
	ready := strings.TrimSuffix(url, "/") + "/readyz"
	if err == nil {
		_, err = http.NewRequest(http.MethodGet, ready, nil)
	}
	if err != nil {
		return c.usageError("-admin: %v", err)
	}
	client := &http.Client{Transport: transport}
	deadline := time.Now().Add(*wait)
	for {
		body, err := askReady(client, ready)
		if err == nil {
			_, err = c.stdout.Write(body)
			return err
		}
		if time.Until(deadline) <= 0 {
			if *wait > 0 {
				return fmt.Errorf("not ready after %v: %w", *wait, err)
			}
			return fmt.Errorf("not ready: %w", err)
		}
		time.Sleep(healthPause)
	}
}

// configuredAdmin returns the URL or the socket of the admin listener of a configuration; named says that
// the user has given the file. A gateway goes on when its file has become faulty, and must
// not be taken for dead then: the default address is asked instead, with a warning.
func (c *console) configuredAdmin(file string, named bool) (string, error) {
	cfg, err := config.LoadOnly(file, "admin.listen")
	if err != nil {
		if named || !errors.Is(err, fs.ErrNotExist) {
			fmt.Fprintf(c.stderr, "%v\nadmin.listen is not known; asking %s\n", loadError(file, err), defaultAdmin)
		}
		return defaultAdmin, nil
	}
	address, _ := config.ParseListen(cfg.Admin.Listen)
	switch address.Network {
	case config.ListenUnix:
		return cfg.Admin.Listen, nil
	case config.ListenSystemd:
		return "", c.usageError("admin.listen in %s is a socket of systemd; find its address with: systemctl list-sockets; and give it as -admin URL or -admin unix:PATH", file)
	}
	host, port, _ := net.SplitHostPort(address.Address)
	if port == "0" {
		return "", c.usageError("admin.listen in %s has port 0, which the system replaces; find the address in the log, and give it as -admin URL", file)
	}
	if ip, err := netip.ParseAddr(host); host == "" || err == nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return (&url.URL{Scheme: "http", Host: net.JoinHostPort(host, port)}).String(), nil
}

// askReady returns the answer of a gateway that is ready, and otherwise the reason why it
// is not.
func askReady(client *http.Client, url string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(context.Background(), healthTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", res.Status, strings.TrimSpace(string(body)))
	}
	return body, nil
}
