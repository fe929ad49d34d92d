package jwtauth

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"metergate/proxy/credential"
	"metergate/proxy/jwtauth/jwtrules"
)

// Options say which tokens of an issuer are accepted. Algorithms and a key for each of them are required.
type Options struct {
	// Name is what Identity.Issuer is. Empty: the issuer has no name.
	Name string
	// Path is where the Options stand in the configuration, for texts that the operator reads.
	// Empty: auth.jwt.
	Path string
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
	// UserFromNumber accepts a user that is a whole number, as the text of its digits.
	UserFromNumber bool
	// Plans are the plans that the values of PlanClaim mean, in the order in which they are tried;
	// jwtrules.AnyValue is tried last, wherever it stands. The claim may then be a list of texts. A value
	// without a plan means the default plan. Empty: a value is the name of a plan.
	Plans []PlanOf
	// Require has further claims by their paths, and the values that each of them may have. Of a
	// list, one element must be among them; of the text of a claim scope or scp, one word.
	Require map[string][]string
	// AnchorClaim is likewise that of Identity.Anchor. Empty: tokens say nothing of it.
	AnchorClaim string
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// An Issuer judges the tokens of one issuer. It does not change, and is safe for concurrent use.
type Issuer struct {
	id         uint64            // no other Issuer has it
	schemes    map[string]scheme // by alg
	keys       *KeySet           // nil if there is none
	typ        string            // the full media type; empty for any
	validator  *jwt.Validator
	leeway     time.Duration
	user, plan []string // the paths of their claims
	org        []string // likewise; empty: tokens name no organisation
	anchor     []string // likewise; empty: tokens have no anchor
	numbers    bool     // users may be whole numbers
	plans      *planMap
	require    []requirement
	now        func() time.Time
	options    struct { // for the log
		Name, Path             string
		Algorithms             []string
		Type, Issuer, Audience string
	}
}

// lastIssuer is the id of the Issuer that was made last.
var lastIssuer atomic.Uint64

// NewIssuer returns an Issuer. It copies what o refers to. Errors: no algorithm, an algorithm that
// is not known or lacks its kind of key, a secret or key that is too weak, a public key that
// cannot be read, a negative leeway, a bad path of a claim, a plan or a required value that is empty. They say what to do and show no
// secret.
func NewIssuer(o Options) (*Issuer, error) {
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
	plans, err := newPlanMap(o.Plans)
	if err != nil {
		return nil, err
	}
	require, err := newRequirements(o.Require)
	if err != nil {
		return nil, err
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
	issuer := &Issuer{
		id: lastIssuer.Add(1), schemes: s, keys: o.KeySet, typ: fullType(o.Type), validator: jwt.NewValidator(checks...), leeway: o.Leeway,
		user: user, plan: plan, org: org, anchor: anchor, numbers: o.UserFromNumber, plans: plans, require: require, now: o.Now,
	}
	issuer.options.Name, issuer.options.Path, issuer.options.Algorithms = o.Name, cmp.Or(o.Path, "auth.jwt"), slices.Clone(o.Algorithms)
	issuer.options.Type, issuer.options.Issuer, issuer.options.Audience = o.Type, o.Issuer, o.Audience
	return issuer, nil
}

// verify checks a token, and returns who it is for and how long that holds.
func (i *Issuer) verify(ctx context.Context, t *parsedToken) (*verdict, error) {
	// Read the version before any key: if the keys change meanwhile, the verdict counts as one
	// by old keys.
	d := &verdict{issuer: i.id, keys: i.keys.version()}
	c, err := i.signedClaims(ctx, t)
	if err != nil {
		return nil, err
	}
	if err := i.validator.Validate(c); err != nil {
		return nil, i.explainClaims(fromValidator(err), c)
	}
	if err := i.checkRequirements(c); err != nil {
		return nil, err
	}
	d.id.Issuer = i.options.Name
	var refused *credential.Error
	if d.id.User, refused = c.readUser(i.user, i.numbers); refused != nil {
		return nil, i.explainPath(refused, c, "user", i.user)
	}
	if d.id.Plan, d.id.UnknownPlan, refused = c.readPlan(i.plan, i.plans); refused != nil {
		return nil, i.explainPath(refused, c, "plan", i.plan)
	}
	if len(i.org) > 0 {
		if d.id.Org, refused = c.readOrg(i.org); refused != nil {
			return nil, i.explainPath(refused, c, "org", i.org)
		}
	}
	if len(i.anchor) > 0 {
		d.id.Anchor = c.readAnchor(i.anchor)
	}
	exp, err := c.GetExpirationTime()
	if err != nil {
		return nil, err
	}
	d.id.Expires, d.until = exp.Time, exp.Add(i.leeway)
	for _, name := range [...]string{"nbf", "iat"} {
		date, err := c.numericDate(name)
		if err != nil {
			return nil, err
		}
		if date != nil && date.Add(-i.leeway).After(d.from) {
			d.from = date.Add(-i.leeway)
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
func (i *Issuer) hasType(header map[string]any) bool {
	if i.typ == "" {
		return true
	}
	typ, _ := header["typ"].(string)
	typ = fullType(typ)
	// The lengths differ if a character only folds to ASCII, such as the long s.
	return len(typ) == len(i.typ) && strings.EqualFold(typ, i.typ)
}

// signedClaims checks the signature of a token and returns its claims.
func (i *Issuer) signedClaims(ctx context.Context, t *parsedToken) (claims, error) {
	header, err := decodeObject(t.header)
	if err != nil {
		return nil, errHeader
	}
	// RFC 7515, section 4.1.11: every extension listed must be understood. None is.
	if _, ok := header["crit"]; ok {
		return nil, errCritical
	}
	if !i.hasType(header) {
		return nil, because(errType, "typ is %s; %s.type is %q", shown(header["typ"]), i.options.Path, i.options.Type)
	}
	alg, _ := header["alg"].(string)
	s, ok := i.schemes[alg]
	if !ok {
		return nil, i.explainAlgorithm(header["alg"])
	}
	if err := i.checkSignature(ctx, header, s, t.signed, t.signature); err != nil {
		return nil, i.explainKey(err, header, s)
	}
	return t.decodeClaims()
}

// checkSignature verifies a token's signature with the one key that it may be signed with. A
// token can only choose between keys for the same kind of algorithm.
func (i *Issuer) checkSignature(ctx context.Context, header map[string]any, s scheme, signed string, signature []byte) error {
	kid := header["kid"]
	named := kid != nil // some issuers write null for a key without a name
	if jwtrules.IsHMAC(s.algorithm) || i.keys == nil || !named && s.key != nil {
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
	key, err := i.keys.keyFor(ctx, header, s.algorithm)
	if err != nil {
		return err
	}
	if s.method.Verify(signed, signature, key) == nil {
		return nil
	}
	if named {
		return errSignature
	}
	if key, err = i.keys.replacementFor(ctx, key, s.algorithm); err != nil {
		return err
	}
	if s.method.Verify(signed, signature, key) != nil {
		return errSignature
	}
	return nil
}
