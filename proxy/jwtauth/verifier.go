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
//  3. If there are several issuers, the claim iss chooses the one that judges the token. The
//     claims are strict JSON. A token whose iss is nobody's is refused without a key being tried.
//  4. The signature is good, by a configured algorithm and the key that belongs to it. That
//     is a key given to New, see keys.go, or the key that the issuer publishes under the
//     token's kid, see keylookup.go. For a token without a kid it is the issuer's only key for
//     the algorithm. With one issuer, nothing has read the claims before this.
//  5. The times, issuer and audience are good, and the claims name a user, see claims.go.
//
// A token that was good is recognised by its hash for as long as it stays good, see cache.go.
// Then only the first check is made.
//
// golang-jwt does the cryptography and compares times, issuer and audience. Its Parser is not
// used, because it decodes the claims before it checks the signature, and accepts duplicate
// names, line breaks in base64 and any crit.
package jwtauth

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"metergate/proxy/credential"
)

// A Verifier verifies the tokens of all issuers. It is safe for concurrent use. It remembers good
// tokens, see cache.go.
type Verifier struct {
	issuers issuerList
	byIss   map[string]*Issuer // nil for a single issuer, which judges all tokens
	now     func() time.Time
	cache   *cache
}

// New returns a Verifier of a single issuer. Errors are those of NewIssuer.
func New(o Options) (*Verifier, error) {
	issuer, err := NewIssuer(o)
	if err != nil {
		return nil, err
	}
	return NewVerifier(nil, issuer)
}

// NewVerifier returns a Verifier of one or more issuers. If some of them are also in the Verifier
// before, which may be nil, both share what they remember of the tokens of these. Several issuers
// must have different values of Options.Issuer, and none may be empty.
func NewVerifier(before *Verifier, issuers ...*Issuer) (*Verifier, error) {
	if len(issuers) == 0 {
		return nil, errors.New("no issuer of tokens is given")
	}
	v := &Verifier{issuers: issuers, now: issuers[0].now}
	if len(issuers) > 1 {
		v.byIss = make(map[string]*Issuer, len(issuers))
		for _, i := range issuers {
			iss := i.options.Issuer
			if iss == "" {
				return nil, fmt.Errorf("%s: one of several issuers needs the value that its tokens have as iss", i.options.Path)
			}
			if v.byIss[iss] != nil {
				return nil, fmt.Errorf("%s and %s are the same issuer, %q", v.byIss[iss].options.Path, i.options.Path, iss)
			}
			v.byIss[iss] = i
		}
	}
	if before != nil && slices.ContainsFunc(issuers, func(i *Issuer) bool { return slices.Contains(before.issuers, i) }) {
		v.cache = before.cache
	} else {
		v.cache = new(cache)
	}
	return v, nil
}

// Verify returns who a token is for. If a KeySet has to fetch keys for the token, Verify waits
// for at most 50 ms. Errors are ErrNoKeys, and those that are or wrap a *credential.Error, which
// is the reason for a 401; their own text also says what was compared, for the operator alone.
// The Identity is then zero, but for the Issuer that has judged the token.
func (v *Verifier) Verify(ctx context.Context, token string) (credential.Identity, error) {
	if len(token) > maxTokenBytes {
		return credential.Identity{}, errTooLong
	}
	now, sum := v.now(), sha256.Sum256([]byte(token))
	if d := v.cache.get(&sum, now, v.issuers); d != nil {
		return d.id, nil
	}
	issuer, d, err := v.verify(ctx, token)
	switch {
	case issuer == nil:
		return credential.Identity{}, err
	case err != nil:
		return credential.Identity{Issuer: issuer.options.Name}, err
	}
	d.sum = sum
	v.cache.put(d, now, v.issuers)
	return d.id, nil
}

// verify verifies a token, whether it is remembered or not. The issuer is the one that has judged
// it, nil if none has.
func (v *Verifier) verify(ctx context.Context, token string) (issuer *Issuer, d *verdict, err error) {
	t, err := parse(token)
	if err != nil {
		return nil, nil, err
	}
	if issuer, err = v.issuerOf(&t); err != nil {
		return nil, nil, err
	}
	d, err = issuer.verify(ctx, &t)
	return issuer, d, err
}

// issuerOf returns the issuer that judges a token. What the token says of it is not yet known to
// be true; the issuer's own keys will tell.
func (v *Verifier) issuerOf(t *parsedToken) (*Issuer, error) {
	if v.byIss == nil {
		return v.issuers[0], nil
	}
	c, err := t.decodeClaims()
	if err != nil {
		return nil, err
	}
	iss, _ := c["iss"].(string) // another value is nobody's, like an empty text
	if issuer := v.byIss[iss]; issuer != nil {
		return issuer, nil
	}
	return nil, because(errIssuer, "%s; no entry of auth.jwt has this issuer", c.shownClaim("iss"))
}

// An issuerList is what decides whether a verdict holds.
type issuerList []*Issuer

// hold reports whether a verdict holds at a time: its issuer is in the list and has the same keys.
func (l issuerList) hold(d *verdict, now time.Time) bool {
	for _, i := range l {
		if i.id == d.issuer {
			return d.keys == i.keys.version() && !now.Before(d.from) && now.Before(d.until)
		}
	}
	return false
}
