// Package jwtauth tells who sent a request, from the signed token (JWT, RFC 7519)
// that came with it:
//
//	v, err := jwtauth.New(jwtauth.Options{Secret: secret, Algorithms: []string{"HS256"}})
//	...
//	who, err := v.Verify(r) // who.User, who.Plan
//
// What a user is charged for hangs on this, so a token is good only when nobody
// can read it in two ways, and everything else is an *Error, which can be shown to
// the client. The order of the checks is the point:
//
//  1. One Authorization field, one token in it, of at most 8 KiB: verifier.go.
//  2. The header: strict base64url and strict JSON, see strictjson.go. Of its
//     names only alg, crit and typ mean something, and kid where there is a KeySet.
//     Keys that a token brings or leads to (jwk, jku, x5u) are never used nor fetched.
//  3. The signature, by a configured algorithm with the key that New gave it, see
//     keys.go, or that the issuer publishes under the token's kid, see keyset.go.
//     Until here nothing has read the claims.
//  4. The claims: the times, issuer and audience, then user and plan, see
//     claims.go.
//
// A token that was good is known again by its hash for as long as it is good, see
// cache.go: then only the first of these steps is done.
//
// Cryptography and the comparison of times, issuer and audience are golang-jwt's.
// Its Parser is not used: it decodes the claims before it checks the signature,
// and takes names given twice, line breaks in base64 and any crit.
package jwtauth

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"metergate/proxy/jwtauth/jwtrules"
)

// Identity is what a good token says.
type Identity struct {
	// User is 1 to 256 bytes of UTF-8 without control characters and line breaks.
	User string
	// Plan is the token's claim, any text; "" when it has none.
	Plan string
	// Expires is the token's exp claim, in UTC. The leeway is not in it: the token
	// is good that much longer.
	Expires time.Time
}

// Options say which tokens are good. Algorithms and their keys are required.
type Options struct {
	// Secret is the key of HS256, HS384 and HS512: at least 32 bytes. Empty: none.
	Secret []byte
	// PublicKeyPEM is the key of all other algorithms, as a PEM file with one
	// PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE. Empty: none.
	PublicKeyPEM []byte
	// KeySet has more keys for all other algorithms; nil: none. A token of one of these
	// algorithms that has a kid is verified with the key of that name in the KeySet, and
	// nothing else; one without a kid with PublicKeyPEM, and not at all if that is empty.
	// The KeySet is the caller's to start and to retire.
	KeySet *KeySet
	// Algorithms are the only ones accepted: HS256, HS384, HS512, RS256, RS384,
	// RS512, PS256, PS384, PS512 (RSA of at least 2048 bits), ES256, ES384, ES512
	// (EC on the curve P-256, P-384, P-521), EdDSA (Ed25519).
	Algorithms []string
	// Type is what the typ of the header must be, such as at+jwt for access tokens of
	// RFC 9068: a media type, in any case, with or without "application/" in front.
	// Empty: anything, or none.
	Type string
	// Issuer is what the iss claim must be. Empty: anything.
	Issuer string
	// Audience is what the aud claim must be or contain. Empty: anything.
	Audience string
	// Leeway is how far the issuer's clock and this one may differ when exp, nbf and
	// iat are checked. 0: not at all; negative: an error of New.
	Leeway time.Duration
	// UserClaim and PlanClaim name the claims that Identity is from, see jwtrules.ParseClaimPath.
	// Empty: "sub" and "plan".
	UserClaim, PlanClaim string
	// Now is the clock; nil means time.Now. Tests move time with it.
	Now func() time.Time
}

// A Verifier verifies tokens. It is safe for concurrent use. What it accepts never
// changes; it remembers tokens that it has found good, see cache.go.
type Verifier struct {
	schemes    map[string]scheme // by alg
	keys       *KeySet           // nil: none
	typ        string            // the full media type; empty: any
	validator  *jwt.Validator
	leeway     time.Duration
	user, plan []string // the paths of the claims
	now        func() time.Time
	cache      *cache
}

// New returns a Verifier; later changes of what o refers to do not reach it.
// Errors: no algorithm, one that is not known or lacks its kind of key, a secret
// or key that is too weak, a public key that cannot be read, a negative leeway, a
// claim's path with an empty part. They say what to do and hold nothing secret.
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
	if o.Now == nil {
		o.Now = time.Now
	}
	checks := []jwt.ParserOption{
		jwt.WithExpirationRequired(), jwt.WithIssuedAt(), jwt.WithLeeway(o.Leeway), jwt.WithTimeFunc(o.Now),
	}
	if o.Issuer != "" {
		checks = append(checks, jwt.WithIssuer(o.Issuer))
	}
	if o.Audience != "" { // WithAudience("") would ask for one
		checks = append(checks, jwt.WithAudience(o.Audience))
	}
	return &Verifier{
		schemes: s, keys: o.KeySet, typ: fullType(o.Type), validator: jwt.NewValidator(checks...), leeway: o.Leeway,
		user: user, plan: plan, now: o.Now, cache: new(cache),
	}, nil
}

// Verify returns who sent r, by the token in its Authorization field. Nothing of r
// is changed, no other field is looked at, and nothing is sent anywhere but what the
// KeySet sends of its own. It takes 50 ms longer at most when that has to ask for
// keys. Errors are *Error, all of them reasons for a 401, and ErrNoKeys; the Identity
// is then zero.
func (v *Verifier) Verify(r *http.Request) (Identity, error) {
	token, err := bearer(r.Header["Authorization"])
	if err != nil {
		return Identity{}, err
	}
	now, sum := v.now(), sha256.Sum256([]byte(token))
	// Before any key is looked at: a verdict by keys that change meanwhile is by old ones.
	keys := v.keys.version()
	if d := v.cache.get(&sum, now, keys); d != nil {
		return d.id, nil
	}
	d, err := v.verify(r.Context(), token)
	if err != nil {
		return Identity{}, err
	}
	d.sum, d.keys = sum, keys
	v.cache.put(d, now)
	return d.id, nil
}

// verify says who a token is for, and how long that holds.
func (v *Verifier) verify(ctx context.Context, token string) (*verdict, error) {
	c, err := v.signedClaims(ctx, token)
	if err != nil {
		return nil, err
	}
	if err := v.validator.Validate(c); err != nil {
		return nil, reasonFor(err)
	}
	d := new(verdict)
	if d.id.User, err = c.user(v.user); err != nil {
		return nil, err
	}
	if d.id.Plan, err = c.plan(v.plan); err != nil {
		return nil, err
	}
	exp, err := c.GetExpirationTime()
	if err != nil {
		return nil, err
	}
	d.id.Expires, d.until = exp.Time, exp.Add(v.leeway)
	for _, name := range [...]string{"nbf", "iat"} {
		t, err := c.time(name)
		if err != nil {
			return nil, err
		}
		if t != nil && t.Add(-v.leeway).After(d.from) {
			d.from = t.Add(-v.leeway)
		}
	}
	return d, nil
}

// fullType is a typ as a whole media type (RFC 7515, section 4.1.9).
func fullType(typ string) string {
	if typ == "" || strings.Contains(typ, "/") {
		return typ
	}
	return "application/" + typ
}

// typeIs reports whether a header's typ is the one that is asked for.
func (v *Verifier) typeIs(header map[string]any) bool {
	if v.typ == "" {
		return true
	}
	typ, _ := header["typ"].(string)
	typ = fullType(typ)
	// Characters that only fold to ASCII, such as the long s, have more bytes.
	return len(typ) == len(v.typ) && strings.EqualFold(typ, v.typ)
}

// maxToken is the most bytes that a token can have. Real ones have 300 to 2000.
const maxToken = 8 << 10

// bearer returns the token in the Authorization fields of a request. With two of
// them, or two tokens in one, the upstream might believe the other one.
func bearer(fields []string) (string, error) {
	switch len(fields) {
	case 0:
		return "", errNoToken
	case 1:
	default:
		return "", errSeveralFields
	}
	name, token := fields[0], ""
	if i := strings.IndexAny(name, " \t"); i >= 0 {
		name, token = name[:i], name[i:]
	}
	if !strings.EqualFold(name, "Bearer") { // RFC 9110, section 11.1
		// Another scheme, such as Basic, brings no token. Nothing at all is a mistake.
		if strings.Trim(name, ", \t") == "" {
			return "", errField
		}
		return "", errNoToken
	}
	token = strings.TrimLeft(token, " ") // RFC 9110, section 11.4
	switch {
	case len(token) > maxToken:
		return "", errTooLong
	case token == "" || strings.ContainsAny(token, " \t\r\n,"):
		return "", errField
	}
	return token, nil
}

// signedClaims returns the claims of a token whose signature is good.
func (v *Verifier) signedClaims(ctx context.Context, token string) (claims, error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, errParts
	}
	var decoded [3][]byte
	for i, part := range parts {
		var err error
		if decoded[i], err = decodeSegment(part); err != nil {
			return nil, err
		}
	}
	header, err := decodeObject(decoded[0])
	if err != nil {
		return nil, errHeader
	}
	// RFC 7515, section 4.1.11: what is listed must be understood. Nothing is.
	if _, ok := header["crit"]; ok {
		return nil, errCritical
	}
	if !v.typeIs(header) {
		return nil, errType
	}
	alg, _ := header["alg"].(string)
	s, ok := v.schemes[alg]
	if !ok {
		return nil, errSignature
	}
	key, err := v.key(ctx, header, s)
	if err != nil {
		return nil, err
	}
	if s.method.Verify(token[:strings.LastIndexByte(token, '.')], decoded[2], key) != nil {
		return nil, errSignature
	}
	c, err := decodeObject(decoded[1])
	if err != nil {
		return nil, errClaims
	}
	return c, nil
}

// key returns the one key that a token with this header may be signed with. What the
// token says chooses between keys for the same kind of algorithm, and no more.
func (v *Verifier) key(ctx context.Context, header map[string]any, s scheme) (any, error) {
	kid, named := header["kid"]
	switch {
	case jwtrules.IsHMAC(s.algorithm) || v.keys == nil || !named && s.key != nil:
		return s.key, nil
	case !named:
		return nil, errNoKeyID
	}
	if name, _ := kid.(string); name == "" || len(name) > maxKeyID {
		return nil, errKeyID
	}
	key, err := v.keys.key(ctx, header)
	if err != nil {
		return nil, err
	}
	if jwtrules.CheckKeyFor(s.algorithm, key) != nil {
		return nil, errSignature
	}
	return key, nil
}

var base64url = base64.RawURLEncoding.Strict()

// decodeSegment decodes a part of a token. Each value has exactly one encoding.
func decodeSegment(part string) ([]byte, error) {
	// Even a strict Encoding skips line breaks.
	if strings.ContainsAny(part, "\r\n") {
		return nil, errBase64
	}
	b, err := base64url.DecodeString(part)
	if err != nil {
		return nil, errBase64
	}
	return b, nil
}
