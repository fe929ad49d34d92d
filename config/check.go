package config

import (
	"crypto"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"

	"metergate/proxy/jwtauth/jwtrules"
	"metergate/quota/redisstore/redisurl"
)

// A checker sees to the rules that one value alone cannot break, and fills in
// what depends on other values. It says nothing about what has not been decoded:
// that has been reported.
type checker struct {
	src *source
	dir string // of the configuration file
	cfg *Config
}

func (c *checker) check() {
	c.listeners()
	c.tls()
	c.trustedProxies()
	c.maxInFlight()
	c.token()
	c.store()
	c.jwt()
	c.upstreams()
	c.routes()
	c.shutdownTimeout()
	c.plans()
	c.cors()
}

// usable reports whether all paths are given and hold what they should.
func (c *checker) usable(paths ...string) bool {
	for _, p := range paths {
		if !c.src.given(p) || c.src.failed[p] {
			return false
		}
	}
	return true
}

func (c *checker) listeners() {
	if c.src.failed["listen"] || c.src.failed["admin"] || c.src.failed["admin.listen"] {
		return
	}
	host, port, _ := net.SplitHostPort(c.cfg.Listen)
	adminHost, adminPort, _ := net.SplitHostPort(c.cfg.Admin.Listen)
	if port == adminPort && port != "0" && sameHost(host, adminHost) {
		path := "admin.listen"
		if !c.src.given(path) {
			path = "listen"
		}
		c.src.at(path, "listen and admin.listen must have different ports, both have %s", port)
	}
}

func (c *checker) trustedProxies() {
	for i, p := range c.cfg.TrustedProxies {
		path := index("trusted_proxies", i)
		if first := slices.Index(c.cfg.TrustedProxies, p); first < i && c.usable(path) {
			c.src.at(path, "is the same as %s; keep one of them%s", index("trusted_proxies", first), c.src.got(path))
		}
	}
}

func (c *checker) maxInFlight() {
	const path = "max_in_flight.per_user"
	if m := c.cfg.MaxInFlight; c.usable(path) && !c.src.failed["max_in_flight.total"] && m.PerUser > m.Total {
		c.src.at(path, "must not be more than the total, which is %d%s", m.Total, c.src.got(path))
	}
}

// minToken is the least length of the admin API's token, in bytes: 128 bits.
const minToken = 16

func (c *checker) token() {
	const path = "admin.token"
	token := string(c.cfg.Admin.Token)
	if c.src.failed["admin"] || c.src.failed[path] {
		return
	}
	switch n := len(token); {
	case n == 0 && c.src.places[path].path == path+fileSuffix:
		c.src.at(path, "is empty; put a token into this file, or remove the key: the admin API is then off")
	case n > 0 && n < minToken:
		c.src.at(path, "must have at least %d bytes, got %d; make one with: openssl rand -hex 32", minToken, n)
	case strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r > '~' }):
		c.src.at(path, "must be printable ASCII without blanks, it is sent in a header; make one with: openssl rand -hex 32")
	}
}

// sameHost reports whether two hosts have an address in common, as far as that can be
// known: all interfaces overlap with any host, and localhost is either loopback address.
// Other names are looked up only when the listeners open, and then one of them fails.
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

func (c *checker) store() {
	c.cfg.Store.Journal = within(c.dir, c.cfg.Store.Journal)
	if c.src.failed["store.url"] {
		return
	}
	s := &c.cfg.Store
	if dir, ok := s.Embedded(); ok {
		if dir == "" || strings.HasPrefix(dir, "//") {
			c.src.at("store.url", "must be embedded:DIR, such as embedded:./data or embedded:/var/lib/metergate")
			return
		}
		s.URL = Secret(embedded + within(c.dir, dir))
		return
	}
	if _, err := redisurl.Parse(string(s.URL)); errors.Is(err, redisurl.ErrScheme) {
		c.src.at("store.url", "must be embedded:DIR, %s", redisurl.Forms)
	} else if err != nil {
		c.src.at("store.url", "%v", err)
	}
}

func (c *checker) jwt() {
	const secret, key, set, algs = "auth.jwt.secret", "auth.jwt.public_key_file", "auth.jwt.jwks_url", "auth.jwt.algorithms"
	if !c.usable("auth", "auth.jwt") {
		return
	}
	c.claims()
	jwt := &c.cfg.Auth.JWT
	// One that could not be read is there all the same.
	haveSecret := jwt.Secret != "" || c.src.failed[secret]
	haveKey := jwt.PublicKeyFile != "" || c.src.failed[key]
	haveSet := jwt.JWKSURL != "" || c.src.failed[set]
	if !haveSecret && !haveKey && !haveSet {
		path := "auth.jwt"
		if c.src.given(secret) {
			path = secret // given, but empty
		}
		c.src.at(path, "needs a secret, a secret_file, a public_key_file or a jwks_url to verify tokens with")
		return
	}
	if jwt.Secret != "" {
		if err := jwtrules.CheckSecret([]byte(jwt.Secret)); err != nil {
			c.src.at(secret, "%v", err)
		}
	}
	var public crypto.PublicKey // nil: there is none, or it is not good
	c.pemFile(key, &jwt.PublicKeyFile, maxSmall, func(data []byte) error {
		parsed, err := jwtrules.ParsePublicKey(data)
		if err == nil {
			public = parsed
		}
		return err
	})
	switch {
	case c.src.failed[algs]:
		return
	case !c.src.given(algs) && (haveKey || haveSet):
		c.src.at(algs, "is required with a public_key_file or a jwks_url: list what the issuer signs with, such as [RS256]")
	case !c.src.given(algs):
		jwt.Algorithms = []string{"HS256"}
	case len(jwt.Algorithms) == 0:
		c.src.at(algs, "must not be empty; list what the issuer signs with, such as [HS256]")
	}
	faults, keyUsed, setUsed := len(c.src.errs), false, false
	for i, a := range jwt.Algorithms {
		path := index(algs, i)
		first := slices.Index(jwt.Algorithms, a)
		switch hmac := jwtrules.IsHMAC(a); {
		case c.src.failed[path]:
			keyUsed, setUsed = true, true // as far as one can know
		case first < i:
			c.src.at(path, "is the same as %s; keep one of them%s", index(algs, first), c.src.got(path))
		case hmac && !haveSecret:
			c.src.at(path, "%s needs auth.jwt.secret", a)
		case !hmac && !haveKey && !haveSet:
			c.src.at(path, "%s needs auth.jwt.public_key_file or auth.jwt.jwks_url", a)
		case !hmac && public != nil && !haveSet && jwtrules.KindFor(a) != jwtrules.KindOf(public):
			c.src.at(path, "%s needs %s; auth.jwt.public_key_file has %s", a, jwtrules.KindFor(a), jwtrules.KindOf(public))
		case !hmac:
			setUsed = true
			keyUsed = keyUsed || public == nil || jwtrules.KindFor(a) == jwtrules.KindOf(public)
		}
	}
	// Who forgets the algorithm would wonder why every token is refused.
	const unused = "is for none of auth.jwt.algorithms; add what its issuer signs with, such as RS256, or remove this key"
	switch {
	case len(c.src.errs) > faults || len(jwt.Algorithms) == 0:
	case haveSet && !c.src.failed[set] && !setUsed:
		c.src.at(set, unused)
	case haveSet && haveKey && !c.src.failed[key] && !keyUsed:
		c.src.at(key, unused)
	}
}

// claims sees to it that user and plan are two texts: what has another claim within
// is an object.
func (c *checker) claims() {
	const user, plan = "auth.jwt.claims.user", "auth.jwt.claims.plan"
	// An error has been reported by the decoder, and leaves nothing to compare.
	a, _ := jwtrules.ParseClaimPath(c.cfg.Auth.JWT.Claims.User)
	b, _ := jwtrules.ParseClaimPath(c.cfg.Auth.JWT.Claims.Plan)
	shorter := min(len(a), len(b))
	switch {
	case c.src.failed[user] || c.src.failed[plan] || !slices.Equal(a[:shorter], b[:shorter]):
	case c.src.given(plan):
		c.src.at(plan, "must be another claim than user, and neither within the other%s", c.src.got(plan))
	default:
		c.src.at(user, "must be another claim than plan, and neither within the other%s", c.src.got(user))
	}
}

func (c *checker) checkName(path, name string) {
	if !nameRule.MatchString(name) {
		c.src.at(path, "a name must have 1 to 64 letters, digits, - and _")
	}
}

func (c *checker) plans() {
	if !c.usable("plans") {
		return
	}
	names := slices.Sorted(maps.Keys(c.cfg.Plans))
	if len(names) == 0 {
		c.src.at("plans", "must have at least one plan")
	} else if c.usable("default_plan") && !slices.Contains(names, c.cfg.DefaultPlan) {
		c.src.at("default_plan", "there is no such plan%s; the plans are %s", c.src.got("default_plan"), listed(names))
	}
	endpoints, complete := c.endpoints()
	for _, name := range names {
		path := join("plans", name)
		c.checkName(path, name)
		first := map[[2]string]string{} // by endpoint and window: the path of its limit
		for i, l := range c.cfg.Plans[name].Limits {
			at := index(join(path, "limits"), i)
			endpoint := at + ".endpoint"
			c.requests(at+".requests", l.Requests)
			if c.src.failed[endpoint] {
				continue
			}
			if l.Endpoint != "" && complete && !slices.Contains(endpoints, l.Endpoint) {
				c.src.at(endpoint, "no route counts under it%s; the endpoints are %s", c.src.got(endpoint), listed(endpoints))
			}
			if !c.usable(at + ".per") {
				continue
			}
			kind := [2]string{l.Endpoint, l.Per}
			if other, ok := first[kind]; ok {
				c.src.at(at, "is for the same window and endpoint as %s on line %d; keep one of them", other, c.src.line(other))
			} else {
				first[kind] = at
			}
		}
	}
}

// maxRequests bounds a limit: stores compute with 53 bits.
const maxRequests = 1_000_000_000_000

func (c *checker) requests(path string, n int64) {
	switch {
	case !c.usable(path):
	case n < 0:
		c.src.at(path, "must be positive%s", c.src.got(path))
	case n > maxRequests:
		c.src.at(path, "must be at most %d%s", maxRequests, c.src.got(path))
	}
}

// endpoints returns those of all routes; complete: none is missing because of a
// fault.
func (c *checker) endpoints() (names []string, complete bool) {
	if !c.usable("routes") {
		return nil, false
	}
	for i, r := range c.cfg.Routes {
		route := index("routes", i)
		if c.src.failed[route] || c.src.failed[route+".endpoint"] {
			return nil, false
		}
		if r.Endpoint != "" && !slices.Contains(names, r.Endpoint) {
			names = append(names, r.Endpoint)
		}
	}
	slices.Sort(names)
	return names, true
}

// listed is the end of a message that says what there is.
func listed(names []string) string {
	const most = 20
	switch {
	case len(names) == 0:
		return "none"
	case len(names) > most:
		return strings.Join(names[:most], ", ") + " and others"
	}
	return strings.Join(names, ", ")
}

func (c *checker) cors() {
	const origins, credentials = "cors.allowed_origins", "cors.allow_credentials"
	if c.cfg.CORS == nil || !c.usable(origins) {
		return
	}
	switch {
	case len(c.cfg.CORS.AllowedOrigins) == 0:
		c.src.at(origins, `must not be empty; list the origins of your front ends, or remove cors`)
	case c.cfg.CORS.AllowCredentials && slices.Contains(c.cfg.CORS.AllowedOrigins, "*"):
		c.src.at(credentials, `must not be true with the origin "*": every site could act for its visitors; list the origins`)
	}
}
