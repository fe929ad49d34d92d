// Package jwtauth judges a signed token (JWT, RFC 7519), and says who it is for:
//
//	v, err := jwtauth.New(jwtauth.Options{Secret: secret, Algorithms: []string{"HS256"}})
//	...
//	id, err := v.Verify(ctx, token) // id.User, id.Plan, id.Org
//
// Where a request brings its token is not decided here, see package credential.
//
// Users are charged by this, so a token is accepted only if nobody can read it in two ways.
// Everything else is a *credential.Error, which can be shown to the client. The order of the
// checks matters:
//
//  1. The token has at most 16 KiB.
//  2. The header of the token is strict base64url and strict JSON, see strictjson.go. Only
//     alg, crit and typ have a meaning, and kid if there is a KeySet. Keys that a token
//     contains or points to (jwk, jku, x5u) are never used or fetched.
//  3. The signature is good, by a configured algorithm and the key that belongs to it. That
//     is a key given to New, see keys.go, or the key that the issuer publishes under the
//     token's kid, see keylookup.go. For a token without a kid it is the issuer's only key for
//     the algorithm. Nothing has read the claims before this.
//  4. The times, issuer and audience are good, and the claims name a user, see claims.go.
//
// A token that was good is recognised by its hash for as long as it stays good, see cache.go.
// Then only the first check is made.
//
// golang-jwt does the cryptography and compares times, issuer and audience. Its Parser is not
// used, because it decodes the claims before it checks the signature, and accepts duplicate
// names, line breaks in base64 and any crit.
package jwtauth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"metergate/proxy/credential"
	"metergate/proxy/jwtauth/jwtrules"
)

// Options say which tokens are accepted. Algorithms and a key for each of them are required.
type Options struct {
	// Secret is the key of HS256, HS384 and HS512: at least 32, 48 and 64 bytes. Empty: none.
	Secret []byte
	// PublicKeyPEM is the key of all other algorithms, the content of a PEM file with one PUBLIC
	// KEY, RSA PUBLIC KEY or CERTIFICATE. Empty: none.
	PublicKeyPEM []byte
	// KeySet has more keys for all other algorithms; nil: none. If a token of one of these
	// algorithms has a kid, it is verified only with the key of that name in the KeySet. If it
	// has no kid, it is verified with PublicKeyPEM if that fits the algorithm, and otherwise
	// with the only key of the KeySet that fits (RFC 7517, section 4.5, makes names optional).
	// If several fit, it is refused: no token is tried with one key after the other. The caller
	// starts and retires the KeySet.
	KeySet *KeySet
	// Algorithms are the only ones accepted: HS256, HS384, HS512, RS256, RS384, RS512, PS256,
	// PS384, PS512 (RSA of 2048 to 16384 bits), ES256, ES384, ES512 (EC on the curve P-256,
	// P-384, P-521), EdDSA and Ed25519 (an Ed25519 key). EdDSA accepts tokens with both of its
	// names, see jwtrules.Accepted.
	Algorithms []string
	// Type is what the typ of the token's header must be, such as at+jwt for access tokens of
	// RFC 9068: a media type, in any case, with or without "application/" in front. Empty:
	// anything, or no typ.
	Type string
	// Issuer is what the iss claim must be. Empty: anything.
	Issuer string
	// Audience is what the aud claim must be or contain. Empty: anything.
	Audience string
	// Leeway is how far the issuer's clock and this one may differ when exp, nbf and iat are
	// checked. New refuses a negative one.
	Leeway time.Duration
	// UserClaim and PlanClaim are the paths of the claims with the user and the plan, see
	// jwtrules.ParseClaimPath. Empty: "sub" and "plan".
	UserClaim, PlanClaim string
	// OrgClaim is likewise that of the organisation. Empty: no token is for an organisation.
	OrgClaim string
	// AnchorClaim is likewise that of Identity.Anchor. Empty: tokens say nothing of it.
	AnchorClaim string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// maxTokenBytes is the greatest length of a token. Most have 300 to 2000 bytes; with the ids
// of 200 groups, the most that Entra writes into one, they have 11 KiB.
const maxTokenBytes = 16 << 10

// A Verifier verifies tokens. It is safe for concurrent use. It remembers good tokens, see
// cache.go.
type Verifier struct {
	schemes    map[string]scheme // by alg
	keys       *KeySet           // nil if there is none
	typ        string            // the full media type; empty for any
	validator  *jwt.Validator
	leeway     time.Duration
	user, plan []string // the paths of their claims
	org        []string // likewise; empty: tokens name no organisation
	anchor     []string // likewise; empty: tokens have no anchor
	now        func() time.Time
	cache      *cache
	options    struct { // for the log
		Algorithms             []string
		Type, Issuer, Audience string
	}
}

// New returns a Verifier. It copies what o refers to. Errors: no algorithm, an algorithm that
// is not known or lacks its kind of key, a secret or key that is too weak, a public key that
// cannot be read, a negative leeway, a bad path of a claim. They say what to do and show no
// secret.
func New(o Options) (*Verifier, error) {
	s, err := newSchemes(o.Algorithms, bytes.Clone(o.Secret), o.PublicKeyPEM, o.KeySet != nil)
	if err != nil {
		return nil, err
	}
	if o.Type != "" {
		if err := jwtrules.CheckType(o.Type); err != nil {
			return nil, fmt.Errorf("type %q: %w", o.Type, err)
		}
	}
	if o.Leeway < 0 {
		return nil, fmt.Errorf("leeway: must not be negative, got %v", o.Leeway)
	}
	user, err := jwtrules.ParseClaimPath(cmp.Or(o.UserClaim, "sub"))
	if err != nil {
		return nil, fmt.Errorf("user claim %q: %w", o.UserClaim, err)
	}
	plan, err := jwtrules.ParseClaimPath(cmp.Or(o.PlanClaim, "plan"))
	if err != nil {
		return nil, fmt.Errorf("plan claim %q: %w", o.PlanClaim, err)
	}
	var org []string
	if o.OrgClaim != "" {
		if org, err = jwtrules.ParseClaimPath(o.OrgClaim); err != nil {
			return nil, fmt.Errorf("org claim %q: %w", o.OrgClaim, err)
		}
	}
	var anchor []string
	if o.AnchorClaim != "" {
		if anchor, err = jwtrules.ParseClaimPath(o.AnchorClaim); err != nil {
			return nil, fmt.Errorf("anchor claim %q: %w", o.AnchorClaim, err)
		}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	checks := []jwt.ParserOption{
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(o.Leeway), jwt.WithTimeFunc(o.Now),
	}
	if o.Issuer != "" {
		checks = append(checks, jwt.WithIssuer(o.Issuer))
	}
	if o.Audience != "" { // WithAudience("") would require the claim
		checks = append(checks, jwt.WithAudience(o.Audience))
	}
	verifier := &Verifier{
		schemes: s, keys: o.KeySet, typ: fullType(o.Type), validator: jwt.NewValidator(checks...), leeway: o.Leeway,
		user: user, plan: plan, org: org, anchor: anchor, now: o.Now, cache: new(cache),
	}
	verifier.options.Algorithms = slices.Clone(o.Algorithms)
	verifier.options.Type, verifier.options.Issuer, verifier.options.Audience = o.Type, o.Issuer, o.Audience
	return verifier, nil
}

// Verify returns who a token is for. If the KeySet has to fetch keys for the token, Verify waits
// for at most 50 ms. Errors are ErrNoKeys, and those that are or wrap a *credential.Error, which
// is the reason for a 401; their own text also says what was compared, for the operator alone.
// The Identity is then zero.
func (v *Verifier) Verify(ctx context.Context, token string) (credential.Identity, error) {
	if len(token) > maxTokenBytes {
		return credential.Identity{}, errTooLong
	}
	now, sum := v.now(), sha256.Sum256([]byte(token))
	// Read the version before any key: if the keys change meanwhile, the verdict counts as one
	// by old keys.
	keys := v.keys.version()
	if d := v.cache.get(&sum, now, keys); d != nil {
		return d.id, nil
	}
	d, err := v.verify(ctx, token)
	if err != nil {
		return credential.Identity{}, err
	}
	d.sum, d.keys = sum, keys
	v.cache.put(d, now)
	return d.id, nil
}

// verify checks a token, and returns who it is for and how long that holds.
func (v *Verifier) verify(ctx context.Context, token string) (*verdict, error) {
	c, err := v.signedClaims(ctx, token)
	if err != nil {
		return nil, err
	}
	if err := v.validator.Validate(c); err != nil {
		return nil, v.explainClaims(fromValidator(err), c)
	}
	d := new(verdict)
	var refused *credential.Error
	if d.id.User, refused = c.readUser(v.user); refused != nil {
		return nil, explainPath(refused, c, "user", v.user)
	}
	if d.id.Plan, refused = c.readPlan(v.plan); refused != nil {
		return nil, explainPath(refused, c, "plan", v.plan)
	}
	if len(v.org) > 0 {
		if d.id.Org, refused = c.readOrg(v.org); refused != nil {
			return nil, explainPath(refused, c, "org", v.org)
		}
	}
	if len(v.anchor) > 0 {
		d.id.Anchor = c.readAnchor(v.anchor)
	}
	exp, err := c.GetExpirationTime()
	if err != nil {
		return nil, err
	}
	d.id.Expires, d.until = exp.Time, exp.Add(v.leeway)
	for _, name := range [...]string{"nbf", "iat"} {
		t, err := c.numericDate(name)
		if err != nil {
			return nil, err
		}
		if t != nil && t.Add(-v.leeway).After(d.from) {
			d.from = t.Add(-v.leeway)
		}
	}
	return d, nil
}

// fullType returns a typ as a full media type (RFC 7515, section 4.1.9).
func fullType(typ string) string {
	if typ == "" || strings.Contains(typ, "/") {
		return typ
	}
	return "application/" + typ
}

// hasType reports whether a token's header has the required typ.
func (v *Verifier) hasType(header map[string]any) bool {
	if v.typ == "" {
		return true
	}
	typ, _ := header["typ"].(string)
	typ = fullType(typ)
	// The lengths differ if a character only folds to ASCII, such as the long s.
	return len(typ) == len(v.typ) && strings.EqualFold(typ, v.typ)
}

// signedClaims checks the signature of a token and returns its claims.
func (v *Verifier) signedClaims(ctx context.Context, token string) (claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, explainParts(len(parts))
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = decodePart(part); err != nil {
			return nil, err
		}
	}
	header, err := decodeObject(decoded[0])
	if err != nil {
		return nil, errHeader
	}
	// RFC 7515, section 4.1.11: every extension listed must be understood. None is.
	if _, ok := header["crit"]; ok {
		return nil, errCritical
	}
	if !v.hasType(header) {
		return nil, because(errType, "typ is %s; auth.jwt.type is %q", shown(header["typ"]), v.options.Type)
	}
	alg, _ := header["alg"].(string)
	s, ok := v.schemes[alg]
	if !ok {
		return nil, v.explainAlgorithm(header["alg"])
	}
	if err := v.checkSignature(ctx, header, s, token[:strings.LastIndexByte(token, '.')], decoded[2]); err != nil {
		return nil, v.explainKey(err, header, s)
	}
	c, err := decodeObject(decoded[1])
	if err != nil {
		return nil, errClaims
	}
	return c, nil
}

// checkSignature verifies a token's signature with the one key that it may be signed with. A
// token can only choose between keys for the same kind of algorithm.
func (v *Verifier) checkSignature(ctx context.Context, header map[string]any, s scheme, signed string, signature []byte) error {
	kid, named := header["kid"]
	if jwtrules.IsHMAC(s.algorithm) || v.keys == nil || !named && s.key != nil {
		if s.method.Verify(signed, signature, s.key) != nil {
			return errSignature
		}
		return nil
	}
	name, _ := kid.(string)
	if named && (name == "" || len(name) > maxKeyIDBytes) {
		return errKeyID
	}
	if header["alg"] != s.algorithm { // the token says Ed25519, and the keys EdDSA
		header["alg"] = s.algorithm
	}
	key, err := v.keys.keyFor(ctx, header, s.algorithm)
	if err != nil {
		return err
	}
	if s.method.Verify(signed, signature, key) == nil {
		return nil
	}
	if named {
		return errSignature
	}
	if key, err = v.keys.replacementFor(ctx, key, s.algorithm); err != nil {
		return err
	}
	if s.method.Verify(signed, signature, key) != nil {
		return errSignature
	}
	return nil
}

var base64url = base64.RawURLEncoding.Strict()

// decodePart decodes one of the three parts of a token. Each value has exactly one encoding.
func decodePart(part string) ([]byte, error) {
	// base64 skips line breaks, even if it is strict.
	if strings.ContainsAny(part, "\r\n") {
		return nil, errBase64
	}
	b, err := base64url.DecodeString(part)
	if err != nil {
		return nil, errBase64
	}
	return b, nil
}
