package config

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"
)

func (c *checker) checkUpstreams() {
	if !c.usable("upstreams") {
		return
	}
	if len(c.cfg.Upstreams) == 0 {
		c.src.reportAt("upstreams", "must have at least one upstream")
	}
	for _, name := range slices.Sorted(maps.Keys(c.cfg.Upstreams)) {
		u := c.cfg.Upstreams[name]
		path := joinPath("upstreams", name)
		c.checkName(path, name)
		c.checkTargets(path+".targets", u.Targets)
		c.checkHealth(path+".health", u.Health)
		c.checkUpstreamTLS(path, u)
		if age := path + ".max_connection_age"; !c.src.failed[age] && u.MaxConnectionAge > 0 && u.MaxConnectionAge < time.Second {
			c.src.reportAt(age, "must be 0s for no bound, or at least 1s, so that connections are not made all the time%s", c.src.got(age))
		}
	}
}

func (c *checker) checkTargets(path string, targets []Target) {
	if !c.usable(path) {
		return
	}
	if len(targets) == 0 {
		c.src.reportAt(path, "must have at least one target")
		return
	}
	first := map[string]string{} // by address: the path of the target's URL
	weight, complete := 0, true
	for i, t := range targets {
		at := indexPath(path, i)
		complete = complete && !c.src.failed[at] && !c.src.failed[at+".weight"]
		weight += t.Weight
		if at += ".url"; !c.usable(at) {
			continue
		}
		address := addressOf(t.URL)
		if other, ok := first[address]; ok {
			c.src.reportAt(at, "is the same as %s on line %d; keep one of them, with a larger weight if it should get more", other, c.src.line(other))
		} else {
			first[address] = at
		}
	}
	if complete && weight == 0 {
		c.src.reportAt(path, "must not all have weight 0, because no request could then be sent")
	}
}

// addressOf returns a URL in one form for all the ways in which it can be written.
func addressOf(u *url.URL) string {
	port := u.Port()
	switch {
	case u.Scheme == "unix":
		return u.String()
	case port == "" && u.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port) + strings.TrimSuffix(u.EscapedPath(), "/")
}

func (c *checker) checkHealth(path string, h *Health) {
	interval, timeout := path+".interval", path+".timeout"
	switch {
	case h == nil || c.src.failed[interval] || c.src.failed[timeout]:
	case !c.src.given(timeout):
		h.Timeout = min(h.Timeout, h.Interval)
	case h.Timeout > h.Interval:
		c.src.reportAt(timeout, "must not be longer than the interval%s", c.src.got(timeout))
	}
}

func (c *checker) checkUpstreamTLS(upstream string, u Upstream) {
	path := upstream + ".tls"
	if u.TLS == nil || !c.usable(path) {
		return
	}
	if c.noTargetIsHTTPS(upstream+".targets", u.Targets) {
		c.src.reportAt(path, "is only for https targets, and there are none; write https:// in their URLs, or remove this key")
	}
	c.checkClientTLS(path, u.TLS)
}

// noTargetIsHTTPS reports whether all targets were decoded and none is https.
func (c *checker) noTargetIsHTTPS(path string, targets []Target) bool {
	if !c.usable(path) {
		return false
	}
	for i, t := range targets {
		if !c.usable(indexPath(path, i), indexPath(path, i)+".url") || t.URL.Scheme == "https" {
			return false
		}
	}
	return true
}

// fillShutdownTimeout fills in the default: enough for the longest request.
func (c *checker) fillShutdownTimeout() {
	if c.src.given("shutdown_timeout") {
		return
	}
	longest := time.Duration(0)
	for _, u := range c.cfg.Upstreams {
		longest = max(longest, u.Timeout)
	}
	for _, r := range c.cfg.Routes {
		longest = max(longest, r.Timeout)
	}
	c.cfg.ShutdownTimeout = longest + 10*time.Second
}

// socketWarnings names the sockets of targets that are not there.
func (c *Config) socketWarnings() (warnings []string) {
	for _, name := range slices.Sorted(maps.Keys(c.Upstreams)) {
		for i, t := range c.Upstreams[name].Targets {
			if t.URL.Scheme != "unix" || t.Weight == 0 {
				continue
			}
			at := indexPath(joinPath("upstreams", name)+".targets", i) + ".url"
			switch info, err := os.Stat(t.URL.Path); {
			case err != nil:
				warnings = append(warnings, fmt.Sprintf("%s: requests fail until there is a socket: %v", at, err))
			case info.Mode()&os.ModeSocket == 0:
				warnings = append(warnings, fmt.Sprintf("%s: requests fail, because %s is not a socket", at, t.URL.Path))
			}
		}
	}
	return warnings
}
