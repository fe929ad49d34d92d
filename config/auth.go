package config

import (
	"crypto"
	"maps"
	"slices"
	"time"

	"metergate/proxy/jwtauth/jwtrules"
	"metergate/quota"
)

// Auth says how users are identified.
type Auth struct {
	// Which signed tokens (JWT) are accepted: those of one issuer, or of each issuer in a list.
	// Required unless there are api_keys.
	JWT []JWT `yaml:"jwt" single:"true"`
	// Lets browsers bring the token in a cookie. A token in the Authorization header goes first.
	// Default: no cookie is read.
	Cookie *Cookie `yaml:"cookie"`
	// The parameter of the query that may have the token, such as access_token, for GET
	// /usage/stream and routes with upgrade: allow. Browsers cannot set a header there. The
	// upstream does not get the parameter. Default: no token in the query is accepted.
	QueryParam string `yaml:"query_param" as:"parameter"`
	// Which API keys are accepted, as Authorization: Bearer mg_... or X-API-Key: mg_.... Default:
	// none.
	APIKeys *APIKeys `yaml:"api_keys"`
}

// JWT says which tokens of an issuer are accepted. At least one of secret, public_key_file,
// jwks_url and x509_url is required.
type JWT struct {
	// What the issuer is called in logs and metrics. Each issuer in a list has another name.
	// Default: in a list of several, the value of issuer.
	Name string `yaml:"name" as:"issuername"`
	// The secret that verifies HS256, HS384 and HS512. It must have at least 32 bytes for
	// HS256, 48 for HS384 and 64 for HS512 (RFC 7518, section 3.2).
	Secret Secret `yaml:"secret"`
	// A PEM file with the key that verifies all other algorithms: one PUBLIC KEY, RSA PUBLIC
	// KEY or CERTIFICATE. The key must be RSA of 2048 to 16384 bits, EC on the curve P-256,
	// P-384 or P-521, or Ed25519.
	PublicKeyFile string `yaml:"public_key_file"`
	// The URL at which the issuer publishes its public keys as a JSON Web Key Set (RFC 7517),
	// for all algorithms without a secret. It must be https, or http on this machine
	// (localhost, 127.0.0.1, [::1]), without user, password and fragment. The query may hold a
	// key and is never shown. docs/tokens.md says which key verifies which token.
	JWKSURL string `yaml:"jwks_url" as:"jwks"`
	// The URL at which the issuer publishes its public keys as a JSON object with a PEM text for each
	// key, such as a certificate, by the kid of the key, as Firebase does. All else is as for
	// jwks_url, which an issuer cannot have as well.
	X509URL string `yaml:"x509_url" as:"jwks"`
	// The only algorithms accepted, each once. EdDSA also accepts tokens that say Ed25519, the
	// newer name (RFC 9864); Ed25519 accepts only these. Each algorithm needs its kind of key,
	// and each key needs one of its algorithms. Default: [HS256] if secret is the only key,
	// otherwise required.
	Algorithms []string `yaml:"algorithms" as:"algorithm"`
	// The media type that the typ of a token's header must be, such as at+jwt for the access
	// tokens of RFC 9068. Upper and lower case and a leading application/ make no
	// difference. Default: any.
	Type string `yaml:"type" as:"mediatype"`
	// The value that the iss claim must have. In a list, it decides which issuer judges a token, so
	// each has another one. Default: any; required for each of several issuers.
	Issuer string `yaml:"issuer"`
	// The value that the aud claim must contain. Default: any.
	Audience string `yaml:"audience"`
	// How far the clocks of the issuer and the gateway may differ when exp, nbf and iat are
	// checked.
	Leeway time.Duration `yaml:"leeway" default:"5s" min:"0s" max:"5m"`
	// The claims that hold the user, the plan, the organisation and the anchor.
	Claims Claims `yaml:"claims"`
	// Which plan each value of the plan claim means. The claim may then also be a list of texts: the
	// first entry of this mapping whose value is in the list decides, in the order of the file. "*"
	// stands for all other values, and is tried last. A value without an entry, and a claim that is
	// absent, null or empty, means default_plan. Default: the value is the name of a plan.
	Plans ClaimPlans `yaml:"plans"`
	// Further claims, as paths like those in claims, and the values that each may have: texts,
	// numbers, true or false. Of a claim that is a list, one element must be among them; of scope
	// and scp, one of the words. A token that lacks one of them is answered 401. Default: none.
	Require map[string][]string `yaml:"require" keys:"claim"`
	// Accepts a user that is a whole number, such as 17, as the text of its digits. By default such a
	// token is answered 401.
	UserFromNumber bool `yaml:"user_from_number"`
}

// ClaimPlans says which plans the values of the plan claim mean, in the order of the file.
type ClaimPlans []ClaimPlan

// A ClaimPlan says which plan a value means.
type ClaimPlan struct{ Value, Plan string }

// Claims name the claims that are read from a token. A dotted path reaches into objects:
// app.plan is the member plan of the claim app. A dot within a name is written \. and a
// backslash \\, so the claim https://example.com/plan is written https://example\.com/plan.
// The paths must differ, and none may lead into another.
type Claims struct {
	// The claim with the id of the user.
	User string `yaml:"user" default:"sub" as:"claim"`
	// The claim with the plan of the user.
	Plan string `yaml:"plan" default:"plan" as:"claim"`
	// The claim with the id of the user's organisation, whose members share the shared limits of
	// their plan. A user has a count of their own in each organisation. A token in which the claim is
	// absent, null or empty is for no organisation. Default: no token is.
	Org string `yaml:"org" as:"claim"`
	// The claim that says on which day the user's months begin, for plans with anchor: claim. It is a
	// day of the month, 1 to 31, an RFC 3339 date or time, or a time in Unix seconds (from 100000000,
	// in 1973, on). Of a time, the day in timezone counts. A date or time also says in which month the
	// user's years begin. If a token has no such claim, or one in another form, the user's months begin
	// on the 1st. Default: no token has one.
	Anchor string `yaml:"anchor" as:"claim"`
}

// hasClaim reports whether tokens of some issuer have a claim that claims returns the path
// of.
func (a Auth) hasClaim(path func(Claims) string) bool {
	return slices.ContainsFunc(a.JWT, func(j JWT) bool { return path(j.Claims) != "" })
}

// HasOrganisations reports whether tokens of some issuer, or some API keys, name organisations.
func (a Auth) HasOrganisations() bool {
	return a.hasClaim(func(c Claims) string { return c.Org }) || a.APIKeys != nil && a.APIKeys.Keys.HasOrganisations()
}

// hasAnchors reports whether tokens of some issuer have anchors.
func (a Auth) hasAnchors() bool { return a.hasClaim(func(c Claims) string { return c.Anchor }) }

const (
	jwtPath         = "auth.jwt"
	anchorClaimPath = "auth.jwt.claims.anchor"
)

// PathOf returns the path of an issuer in the configuration: auth.jwt if it is the only one, and
// auth.jwt[0], auth.jwt[1] and so on in a list of several.
func (a Auth) PathOf(i int) string {
	if len(a.JWT) == 1 {
		return jwtPath
	}
	return indexPath(jwtPath, i)
}

// NameOf returns what an issuer is called in logs and metrics. It is empty for a single issuer
// without a name.
func (a Auth) NameOf(i int) string {
	if name := a.JWT[i].Name; name != "" || len(a.JWT) == 1 {
		return name
	}
	return a.JWT[i].Issuer
}

func (c *checker) checkAuth() {
	if !c.usable("auth") {
		return
	}
	c.checkCookie()
	c.checkAPIKeys()
	if !c.src.given(jwtPath) && !c.src.failed[jwtPath] {
		c.checkNoTokens()
	}
	if !c.usable(jwtPath) {
		return
	}
	if len(c.cfg.Auth.JWT) == 0 {
		c.src.reportAt(jwtPath, "must not be empty; list at least one issuer")
	}
	isList := c.src.given(indexPath(jwtPath, 0))
	for i := range c.cfg.Auth.JWT {
		path := jwtPath
		if isList {
			path = indexPath(jwtPath, i)
		}
		if c.usable(path) {
			c.checkIssuer(i, path)
			(&issuerChecker{checker: c, path: path, jwt: &c.cfg.Auth.JWT[i]}).check()
		}
	}
}

// checkIssuer checks what tells one of several issuers from those before it.
func (c *checker) checkIssuer(i int, path string) {
	all := c.cfg.Auth.JWT
	at := path + ".issuer"
	if len(all) > 1 && all[i].Issuer == "" && !c.src.failed[at] {
		c.src.reportAt(at, "is required for each of several issuers: the iss of a token decides which of them judges it")
	}
	for j := range all[:i] {
		switch earlier := indexPath(jwtPath, j); {
		case c.src.failed[earlier]:
		case all[i].Issuer != "" && all[i].Issuer == all[j].Issuer && c.usable(at):
			c.src.reportAt(at, "is the issuer of %s as well; keep one of them, or give both the keys of the other%s", earlier, c.src.got(at))
			return
		case all[i].Name != "" && all[i].Name == all[j].Name && c.usable(path+".name"):
			c.src.reportAt(path+".name", "is the name of %s as well; choose another one%s", earlier, c.src.got(path+".name"))
			return
		}
	}
}

// An issuerChecker checks one issuer.
type issuerChecker struct {
	*checker
	path string // its own
	jwt  *JWT
}

// at returns the path of a key of the issuer.
func (c *issuerChecker) at(key string) string { return c.path + "." + key }

func (c *issuerChecker) check() {
	c.checkClaims()
	c.checkClaimPlans()
	c.checkRequire()
	jwt, secretPath := c.jwt, c.at("secret")
	// A key that could not be read counts as given: its own fault has been reported.
	given := givenKeys{
		secret:    jwt.Secret != "" || c.src.failed[secretPath],
		publicKey: jwt.PublicKeyFile != "" || c.src.failed[c.at("public_key_file")],
		published: jwt.JWKSURL != "" || c.src.failed[c.at("jwks_url")],
		url:       c.at("jwks_url"),
	}
	if jwt.X509URL != "" || c.src.failed[c.at("x509_url")] {
		if given.published {
			c.src.reportAt(c.at("x509_url"), "give jwks_url or x509_url, not both; the kid of a token could otherwise name two keys")
		}
		given.published, given.url = true, c.at("x509_url")
	}
	if !given.secret && !given.publicKey && !given.published {
		path := c.path
		if c.src.given(secretPath) {
			path = secretPath // given, but empty
		}
		c.src.reportAt(path, "needs a secret, a secret_file, a public_key_file, a jwks_url or an x509_url to verify tokens with")
		return
	}
	if jwt.Secret != "" {
		if err := jwtrules.CheckSecret([]byte(jwt.Secret), jwt.Algorithms...); err != nil {
			c.src.reportAt(secretPath, "%v", err)
		}
	}
	c.pemFile(c.at("public_key_file"), &jwt.PublicKeyFile, maxSmallBytes, func(data []byte) error {
		key, err := jwtrules.ParsePublicKey(data)
		if err == nil {
			given.parsed = key
		}
		return err
	})
	c.checkAlgorithms(given)
}

// givenKeys says which keys a configuration has for tokens.
type givenKeys struct {
	secret, publicKey, published bool
	url                          string // the path of the URL of published keys
	// parsed is the key of public_key_file; nil if there is none, or if it is not good.
	parsed crypto.PublicKey
}

// checkAlgorithms checks that each algorithm has its kind of key, and that each key is for
// one of the algorithms.
func (c *issuerChecker) checkAlgorithms(keys givenKeys) {
	jwt, algorithmsPath := c.jwt, c.at("algorithms")
	switch given := c.src.given(algorithmsPath); {
	case c.src.failed[algorithmsPath]:
		return
	case !given && (keys.publicKey || keys.published):
		c.src.reportAt(algorithmsPath, "is required with a public_key_file, a jwks_url or an x509_url: list what the issuer signs with, such as [RS256]")
	case !given:
		jwt.Algorithms = []string{"HS256"}
	case len(jwt.Algorithms) == 0:
		c.src.reportAt(algorithmsPath, "must not be empty; list what the issuer signs with, such as [HS256]")
	}
	faults, publicKeyUsed, publishedUsed := len(c.src.errs), false, false
	for i, a := range jwt.Algorithms {
		path := indexPath(algorithmsPath, i)
		first := slices.Index(jwt.Algorithms, a)
		switch hmac := jwtrules.IsHMAC(a); {
		case c.src.failed[path]:
			publicKeyUsed, publishedUsed = true, true // nobody can know which algorithm was meant
		case first < i:
			c.src.reportAt(path, "is the same as %s; keep one of them%s", indexPath(algorithmsPath, first), c.src.got(path))
		case hmac && !keys.secret:
			c.src.reportAt(path, "%s needs %s", a, c.at("secret"))
		case !hmac && !keys.publicKey && !keys.published:
			c.src.reportAt(path, "%s needs %s or %s", a, c.at("public_key_file"), c.at("jwks_url"))
		case !hmac && keys.parsed != nil && !keys.published && jwtrules.KindFor(a) != jwtrules.KindOf(keys.parsed):
			c.src.reportAt(path, "%s needs %s; %s has %s", a, jwtrules.KindFor(a), c.at("public_key_file"), jwtrules.KindOf(keys.parsed))
		case !hmac:
			publishedUsed = true
			publicKeyUsed = publicKeyUsed || keys.parsed == nil || jwtrules.KindFor(a) == jwtrules.KindOf(keys.parsed)
		}
	}
	// With an algorithm forgotten, every token would be refused, and nothing would say why.
	const unused = "is for none of %s; add what its issuer signs with, such as RS256, or remove this key"
	publicKeyPath := c.at("public_key_file")
	switch {
	case len(c.src.errs) > faults || len(jwt.Algorithms) == 0:
	case keys.published && !c.src.failed[keys.url] && !publishedUsed:
		c.src.reportAt(keys.url, unused, algorithmsPath)
	case keys.published && keys.publicKey && !c.src.failed[publicKeyPath] && !publicKeyUsed:
		c.src.reportAt(publicKeyPath, unused, algorithmsPath)
	}
}

// checkClaims checks that the claims can all be texts: a claim that contains another one is an
// object.
func (c *issuerChecker) checkClaims() {
	claims := &c.jwt.Claims
	all := []struct{ name, value string }{{"user", claims.User}, {"plan", claims.Plan}, {"org", claims.Org}, {"anchor", claims.Anchor}}
	for i, later := range all {
		for _, earlier := range all[:i] {
			c.checkSeparateClaims(earlier.name, earlier.value, later.name, later.value)
		}
	}
}

// checkSeparateClaims checks that neither of two claims leads into the other.
func (c *issuerChecker) checkSeparateClaims(first, firstPath, second, secondPath string) {
	claims := c.at("claims.")
	// A path that is bad or not given leaves nothing to compare.
	a, _ := jwtrules.ParseClaimPath(firstPath)
	b, _ := jwtrules.ParseClaimPath(secondPath)
	shorter := min(len(a), len(b))
	if shorter == 0 || c.src.failed[claims+first] || c.src.failed[claims+second] || !slices.Equal(a[:shorter], b[:shorter]) {
		return
	}
	if !c.src.given(claims + second) {
		first, second = second, first
	}
	c.src.reportAt(claims+second, "must be another claim than %s, and neither may lead into the other%s", first, c.src.got(claims+second))
}

// checkClaimPlans checks that the plans of values exist.
func (c *issuerChecker) checkClaimPlans() {
	at := c.at("plans")
	if !c.usable(at) {
		return
	}
	if len(c.jwt.Plans) == 0 {
		c.src.reportAt(at, "must not be empty; map the values of the claim to plans, such as { gold: pro, \"*\": free }")
	}
	for _, p := range c.jwt.Plans {
		path := joinPath(at, p.Value)
		switch _, known := c.cfg.Plans[p.Plan]; {
		case p.Value == "":
			c.src.reportAt(path, "must not be an empty value: a claim that is empty means default_plan")
		case c.usable("plans", path) && !known:
			c.src.reportAt(path, "there is no such plan%s; %s", c.src.got(path), quota.ListNames("plan", slices.Sorted(maps.Keys(c.cfg.Plans))))
		}
	}
}

// checkRequire checks the paths and the values of required claims.
func (c *issuerChecker) checkRequire() {
	at := c.at("require")
	if c.usable(at) && len(c.jwt.Require) == 0 {
		c.src.reportAt(at, "must not be empty; name claims and the values that they may have, such as { azp: [web] }, or remove it")
	}
	for _, claim := range slices.Sorted(maps.Keys(c.jwt.Require)) {
		path, values := joinPath(at, claim), c.jwt.Require[claim]
		if !c.usable(path) {
			continue
		}
		if _, err := jwtrules.ParseClaimPath(claim); err != nil {
			c.src.reportAt(path, "its key %v", err)
		}
		if len(values) == 0 {
			c.src.reportAt(path, "must not be empty; list the values that the claim may have")
		}
		for i, value := range values {
			if value == "" && c.usable(indexPath(path, i)) {
				c.src.reportAt(indexPath(path, i), "must not be empty")
			}
		}
	}
}
