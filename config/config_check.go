package config

import (
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

func (c *checker) checkListeners() {
	if c.src.failed["listen"] || c.src.failed["admin"] || c.src.failed["admin.listen"] {
		return
	}
	public, _ := ParseListen(c.cfg.Listen)
	admin, _ := ParseListen(c.cfg.Admin.Listen)
	path := "admin.listen"
	if !c.src.given(path) {
		path = "listen"
	}
	switch {
	case public.Network != admin.Network:
	case public.Network == ListenUnix && public.Address == admin.Address:
		c.src.reportAt(path, "listen and admin.listen must have different sockets; both have %s", public.Address)
	case public.Network == ListenSystemd && (public.Address == admin.Address || public.Address == "" || admin.Address == ""):
		c.src.reportAt(path, "listen and admin.listen must name different sockets, such as systemd:http and systemd:admin")
	case public.Network == ListenTCP:
		host, port, _ := net.SplitHostPort(public.Address)
		adminHost, adminPort, _ := net.SplitHostPort(admin.Address)
		if port == adminPort && port != "0" && sameHost(host, adminHost) {
			c.src.reportAt(path, "listen and admin.listen must have different ports; both have %s", port)
		}
	}
}

// checkNetworks checks a list of networks.
func (c *checker) checkNetworks(key string, networks []netip.Prefix) {
	for i, p := range networks {
		path := indexPath(key, i)
		if first := slices.Index(networks, p); first < i && c.usable(path, indexPath(key, first)) {
			c.src.reportAt(path, "is the same as %s; keep one of them%s", indexPath(key, first), c.src.got(path))
		}
	}
}

// checkPassHeaders refuses headers that tell upstreams about users: a client could then
// choose who it is.
func (c *checker) checkPassHeaders() {
	for i, name := range c.cfg.PassHeaders {
		path := indexPath("pass_headers", i)
		for j, r := range c.cfg.Routes {
			if c.usable(path) && (strings.EqualFold(name, r.UserHeader) || strings.EqualFold(name, r.PlanHeader)) {
				c.src.reportAt(path, "must not be the user_header or plan_header of %s; clients could then choose who they are%s", indexPath("routes", j), c.src.got(path))
				break
			}
		}
	}
}

func (c *checker) checkMaxInFlight() {
	const path = "max_in_flight.per_user"
	c.cfg.MaxInFlight.Automatic = !c.src.given("max_in_flight.total")
	if m := c.cfg.MaxInFlight; c.usable(path) && !c.src.failed["max_in_flight.total"] && m.PerUser > m.Total {
		c.src.reportAt(path, "must not be more than the total, which is %d%s", m.Total, c.src.got(path))
	}
}

// The least length of a token of the admin API, and the length below which it is a warning. A
// token of 32 random characters cannot be guessed online, however many guesses are made.
const (
	minTokenBytes  = 16
	safeTokenBytes = 32
)

func (c *checker) checkAdminTokens() {
	const adminPath, viewerPath = "admin.token", "admin.viewer_token"
	if c.src.failed["admin"] {
		return
	}
	admin, viewer := c.cfg.Admin.Token, c.cfg.Admin.ViewerToken
	adminOK := c.checkAdminToken(adminPath, admin, "to turn the admin API off")
	viewerOK := c.checkAdminToken(viewerPath, viewer, "if nobody needs a token that only reads")
	switch {
	case !adminOK || !viewerOK || viewer == "":
	case admin == "":
		c.src.reportAt(viewerPath, "needs admin.token: without it the admin API is off; set both, or remove this key")
	case admin == viewer:
		c.src.reportAt(viewerPath, "must differ from admin.token, or whoever has it can change everything; make one with: openssl rand -hex 32")
	}
}

// checkAdminToken checks a token of the admin API by itself. without says what it is for to remove the key.
func (c *checker) checkAdminToken(path string, token Secret, without string) (ok bool) {
	if c.src.failed[path] {
		return false
	}
	switch n := len(token); {
	case n == 0 && c.src.positions[path].path == path+fileSuffix:
		c.src.reportAt(path, "is empty; put a token into this file, or remove the key %s", without)
	case n > 0 && n < minTokenBytes:
		c.src.reportAt(path, "must have at least %d bytes, got %d; make one with: openssl rand -hex 32", minTokenBytes, n)
	case strings.ContainsFunc(string(token), func(r rune) bool { return r <= ' ' || r > '~' }):
		c.src.reportAt(path, "must be printable ASCII without spaces, because it is sent in a header; make one with: openssl rand -hex 32")
	default:
		return true
	}
	return false
}

// maxThresholds bounds what a store has to compare with each count.
const maxThresholds = 20

func (c *checker) checkNotify() {
	const secret, at = "notify.secret", "notify.at"
	n := c.cfg.Notify
	if n == nil || c.src.failed["notify"] {
		return
	}
	if !c.src.failed[secret] && c.src.given(secret) && !areSigningSecrets(string(n.Secret)) {
		c.src.reportAt(secret, "must be whsec_ followed by 24 to 64 random bytes in base64, or two of these with a space between them; make one with: "+makeSigningSecret)
	}
	if !c.src.given(at) {
		n.At = []int{80, 100}
	}
	switch count := len(n.At); {
	case c.src.failed[at]:
	case count == 0:
		c.src.reportAt(at, "must not be empty; list percentages such as [80, 100], or remove the key")
	case count > maxThresholds:
		c.src.reportAt(at, "must have at most %d thresholds, got %d", maxThresholds, count)
	}
	for i, percent := range n.At {
		path := indexPath(at, i)
		if first := slices.Index(n.At, percent); first < i && c.usable(path, indexPath(at, first)) {
			c.src.reportAt(path, "is the same as %s; keep one of them%s", indexPath(at, first), c.src.got(path))
		}
	}
}

// SigningSecrets returns the secrets with which each event is signed: the one to use from now on, and
// the one before it while it is being changed.
func (n *Notify) SigningSecrets() []string { return strings.Fields(string(n.Secret)) }

// areSigningSecrets checks the text of notify.secret.
func areSigningSecrets(text string) bool {
	secrets := strings.Fields(text)
	for _, s := range secrets {
		encoded, found := strings.CutPrefix(s, "whsec_")
		key, err := base64.StdEncoding.Strict().DecodeString(encoded)
		if !found || err != nil || len(key) < 24 || len(key) > 64 {
			return false
		}
	}
	return len(secrets) == 1 || len(secrets) == 2
}

func (c *checker) checkTracing() {
	const address, headers, tls = "tracing.url", "tracing.headers", "tracing.tls"
	t := c.cfg.Tracing
	if t == nil || c.src.failed["tracing"] {
		return
	}
	if !c.src.failed[headers] {
		if err := checkTraceHeaders(string(t.Headers)); err != nil {
			c.src.reportAt(headers, "%v", err)
		}
	}
	if t.TLS == nil || c.src.failed[tls] {
		return
	}
	c.checkClientTLS(tls, t.TLS)
	if c.usable(address) && !strings.HasPrefix(strings.ToLower(t.URL), "https:") {
		c.src.reportAt(tls, "is only for an https URL; change the URL, or remove tls")
	}
}

// Endpoint is the URL that spans are sent to.
func (t *Tracing) Endpoint() string {
	const path = "/v1/traces"
	return strings.TrimSuffix(strings.TrimRight(t.URL, "/"), path) + path
}

// RequestHeaders are the headers of requests to the collector, with the values in clear text.
func (t *Tracing) RequestHeaders() http.Header {
	h, _ := parseTraceHeaders(string(t.Headers)) // checked
	return h
}

// parseTraceHeaders reads headers as OTEL_EXPORTER_OTLP_HEADERS has them. Errors do not show them.
func parseTraceHeaders(text string) (http.Header, error) {
	h := http.Header{}
	for pair := range strings.SplitSeq(text, ",") {
		if pair = strings.TrimSpace(pair); pair == "" {
			continue
		}
		name, encoded, found := strings.Cut(pair, "=")
		value, err := url.PathUnescape(strings.TrimSpace(encoded))
		if name = strings.TrimSpace(name); !found || err != nil || !httpguts.ValidHeaderFieldName(name) || !httpguts.ValidHeaderFieldValue(value) {
			return nil, errors.New("must be NAME=VALUE, with a comma between two of them, and with % codes in the values, such as Authorization=Bearer%20abc")
		}
		if name = http.CanonicalHeaderKey(name); slices.Contains(setTraceHeaders, name) || h[name] != nil {
			return nil, errors.New("must not have a header that the gateway sets itself (" + strings.Join(setTraceHeaders, ", ") + "), nor one twice")
		}
		h.Set(name, value)
	}
	return h, nil
}

// setTraceHeaders are those of every request to a collector.
var setTraceHeaders = []string{"Content-Type", "Content-Encoding", "Content-Length", "Host", "Transfer-Encoding", "Connection"}

func checkTraceHeaders(text string) error {
	_, err := parseTraceHeaders(text)
	return err
}

// tracingWarnings names a collector's port that speaks another protocol.
func (c *Config) tracingWarnings() []string {
	if c.Tracing == nil {
		return nil
	}
	if u, err := url.Parse(c.Tracing.URL); err != nil || u.Port() != "4317" {
		return nil
	}
	return []string{"tracing.url: 4317 is usually the port of OTLP over gRPC, which the gateway does not speak; OTLP over HTTP is usually 4318"}
}

// sameHost reports whether two hosts have an address in common, as far as that is known
// without looking names up: all interfaces overlap with any host, and localhost is either
// loopback address. Other names are looked up when the listeners open; if they share an
// address, the second listener fails to open.
func sameHost(a, b string) bool {
	x, xErr := netip.ParseAddr(a)
	y, yErr := netip.ParseAddr(b)
	x, y = x.Unmap(), y.Unmap()
	local := func(name string, ip netip.Addr) bool {
		return strings.EqualFold(name, "localhost") && (ip == netip.IPv6Loopback() || ip == netip.AddrFrom4([4]byte{127, 0, 0, 1}))
	}
	switch {
	case a == "" || b == "" || x.IsUnspecified() || y.IsUnspecified():
		return true
	case xErr == nil && yErr == nil:
		return x == y
	case xErr == nil:
		return local(b, x)
	case yErr == nil:
		return local(a, y)
	}
	return strings.EqualFold(a, b)
}

func (c *checker) checkCORS() {
	const origins, credentials = "cors.allowed_origins", "cors.allow_credentials"
	if c.cfg.CORS == nil || !c.usable(origins) {
		return
	}
	allowed := c.cfg.CORS.AllowedOrigins
	switch {
	case len(allowed) == 0:
		c.src.reportAt(origins, "must not be empty; list the origins of your front ends, or remove cors")
	case !c.cfg.CORS.AllowCredentials:
	case slices.Contains(allowed, "*"):
		c.src.reportAt(credentials, `must not be true with the origin "*", because every site could then act for its visitors; list the origins`)
	case c.cfg.Auth.Cookie != nil:
		for i, origin := range allowed {
			if path := indexPath(origins, i); c.usable(path) && strings.Contains(origin, "*") {
				c.src.reportAt(path, "must not have a * with auth.cookie and allow_credentials, because every page there could then read what the visitor's cookie gives access to; list the origins")
			}
		}
	}
	for i, origin := range allowed {
		allowed[i] = normalOrigin(origin)
	}
}
