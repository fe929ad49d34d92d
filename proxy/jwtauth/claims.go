package jwtauth

import (
	"encoding/json"
	"math"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"
)

const (
	// maxUser is the most bytes that a user's name can have.
	maxUser = 256
	// maxTime is the end of the year 9999, the last that RFC 3339 can write, in
	// seconds since 1970. Milliseconds, a common mistake, are beyond it.
	maxTime = 253402300799
)

// claims are a token's, for jwt.Validator. jwt.MapClaims would take null for an
// audience, drop the fraction of a nbf, and convert 1e300 as the processor likes.
// Names are exact: SUB is not sub.
type claims map[string]any

func (c claims) GetExpirationTime() (*jwt.NumericDate, error) {
	exp, err := c.time("exp")
	if exp == nil && err == nil {
		return nil, errNoExpiry
	}
	return exp, err
}

func (c claims) GetNotBefore() (*jwt.NumericDate, error) { return c.time("nbf") }
func (c claims) GetIssuedAt() (*jwt.NumericDate, error)  { return c.time("iat") }

// GetIssuer is only called when an issuer is configured.
func (c claims) GetIssuer() (string, error) {
	if iss, _ := c["iss"].(string); iss != "" {
		return iss, nil
	}
	return "", errIssuer
}

// GetAudience is only called when an audience is configured.
func (c claims) GetAudience() (jwt.ClaimStrings, error) {
	aud, err := jwt.MapClaims(c).GetAudience()
	if err != nil || strings.Join(aud, "") == "" {
		return nil, errAudience
	}
	return aud, nil
}

// GetSubject is never called: the user may be in another claim.
func (c claims) GetSubject() (string, error) { return "", errUser }

// time reads seconds since 1970, which may have a fraction (RFC 7519, section 2).
// A claim that is not there is nil, without an error.
func (c claims) time(name string) (*jwt.NumericDate, error) {
	v, ok := c[name]
	if !ok {
		return nil, nil
	}
	number, ok := v.(json.Number)
	if !ok {
		return nil, errTime
	}
	seconds, err := number.Float64()
	if err != nil || seconds < 0 || seconds > maxTime {
		return nil, errTime
	}
	whole, fraction := math.Modf(seconds)
	return &jwt.NumericDate{Time: time.Unix(int64(whole), int64(fraction*1e9)).UTC()}, nil
}

// at follows a path into objects and reports whether there is something. A path
// that leads through anything else than an object ends at a null.
func (c claims) at(path []string) (any, bool) {
	var v any = map[string]any(c)
	for _, name := range path {
		object, ok := v.(map[string]any)
		if !ok {
			return nil, true
		}
		if v, ok = object[name]; !ok {
			return nil, false
		}
	}
	return v, true
}

// user reads who the token is for.
func (c claims) user(path []string) (string, error) {
	v, ok := c.at(path)
	if !ok {
		return "", errNoUser
	}
	user, _ := v.(string) // what is no text is as bad as an empty one
	if len(user) == 0 || len(user) > maxUser || strings.ContainsFunc(user, breaksLines) {
		return "", errUser
	}
	return user, nil
}

// plan reads the token's plan, "" when it has none.
func (c claims) plan(path []string) (string, error) {
	v, ok := c.at(path)
	if !ok {
		return "", nil
	}
	plan, ok := v.(string)
	if !ok {
		return "", errPlan
	}
	return plan, nil
}

// breaksLines reports what would end a line, or do worse, in a log or a header.
func breaksLines(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
