package jwtauth

import (
	"encoding/json"
	"math"
	"regexp"
	"strings"
	"time"
	"unicode"

	"github.com/golang-jwt/jwt/v5"

	"metergate/proxy/credential"
)

const (
	// maxIDBytes is the greatest length of the id of a user or an organisation.
	maxIDBytes = 256
	// maxSeconds is the end of the year 9999 in seconds since 1970, the last time that RFC
	// 3339 can write. A time in milliseconds, a common mistake, is greater.
	maxSeconds = 253402300799
)

// claims are a token's claims, for jwt.Validator. jwt.MapClaims would accept null as an
// audience, drop the fraction of nbf, and convert 1e300 in a way that depends on the
// processor. Names are exact: SUB is not sub.
type claims map[string]any

// GetExpirationTime returns the claim exp, which is required.
func (c claims) GetExpirationTime() (*jwt.NumericDate, error) {
	exp, err := c.numericDate("exp")
	if exp == nil && err == nil {
		return nil, errNoExpiry
	}
	return exp, err
}

// GetNotBefore returns the claim nbf, nil if there is none.
func (c claims) GetNotBefore() (*jwt.NumericDate, error) { return c.numericDate("nbf") }

// GetIssuedAt returns the claim iat, nil if there is none.
func (c claims) GetIssuedAt() (*jwt.NumericDate, error) { return c.numericDate("iat") }

// GetIssuer returns the claim iss. It is only called when an issuer is configured.
func (c claims) GetIssuer() (string, error) {
	if iss, _ := c["iss"].(string); iss != "" {
		return iss, nil
	}
	return "", errIssuer
}

// GetAudience returns the claim aud. It is only called when an audience is configured.
func (c claims) GetAudience() (jwt.ClaimStrings, error) {
	aud, err := jwt.MapClaims(c).GetAudience()
	if err != nil || strings.Join(aud, "") == "" {
		return nil, errAudience
	}
	return aud, nil
}

// GetSubject is never called: the user may be in another claim.
func (c claims) GetSubject() (string, error) { return "", errUser }

// numericDate reads a claim in seconds since 1970, which may have a fraction (RFC 7519,
// section 2). Without the claim it returns nil and no error.
func (c claims) numericDate(name string) (*jwt.NumericDate, error) {
	v, ok := c[name]
	if !ok {
		return nil, nil
	}
	number, ok := v.(json.Number)
	if !ok {
		return nil, errTime
	}
	seconds, err := number.Float64()
	if err != nil || seconds < 0 || seconds > maxSeconds {
		return nil, errTime
	}
	whole, fraction := math.Modf(seconds)
	return &jwt.NumericDate{Time: time.Unix(int64(whole), int64(fraction*1e9)).UTC()}, nil
}

// lookUp follows a path into objects. found is false if the last name, or an object on the
// way, does not exist or is null: issuers write null for what a user does not have. A path
// that leads through another value ends at an empty object, which is no good value of any claim.
func (c claims) lookUp(path []string) (value any, found bool) {
	var v any = map[string]any(c)
	for _, name := range path {
		object, ok := v.(map[string]any)
		if !ok {
			return map[string]any{}, true
		}
		if v = object[name]; v == nil {
			return nil, false
		}
	}
	return v, true
}

// wholeNumber matches the only spelling of a whole number: 17 is not also 17.0 or 1.7e1. Digits are
// never lost: the text of the number is the id.
var wholeNumber = regexp.MustCompile(`^(0|-?[1-9][0-9]*)$`)

// readUser returns the user that the token is for. With numbers, a user may be a whole number.
func (c claims) readUser(path []string, numbers bool) (string, *credential.Error) {
	v, ok := c.lookUp(path)
	if !ok {
		return "", errNoUser
	}
	if n, ok := v.(json.Number); ok && numbers {
		if wholeNumber.MatchString(n.String()) && isID(n.String()) {
			return n.String(), nil
		}
		return "", errUserNumber
	}
	user, _ := v.(string) // a value that is not a text is as bad as an empty text
	if user == "" || !isID(user) {
		return "", errUser
	}
	return user, nil
}

// isID reports whether a text that is not empty can be the id of a user or an organisation.
func isID(text string) bool {
	return len(text) <= maxIDBytes && !strings.ContainsFunc(text, breaksLines)
}

// readOrg returns the organisation that the token is for, "" if it is for none.
func (c claims) readOrg(path []string) (string, *credential.Error) {
	v, ok := c.lookUp(path)
	if !ok {
		return "", nil
	}
	org, ok := v.(string)
	if !ok || !isID(org) {
		return "", errOrg
	}
	return org, nil
}

// readPlan returns the token's plan, "" if it has none. With plans, unknown is the text that is
// there if it means no plan.
func (c claims) readPlan(path []string, plans *planMap) (plan, unknown string, refused *credential.Error) {
	v, ok := c.lookUp(path)
	if !ok {
		return "", "", nil
	}
	if plans != nil {
		return plans.planOf(v)
	}
	plan, ok = v.(string)
	if !ok {
		return "", "", errPlan
	}
	return plan, "", nil
}

// readAnchor returns the token's anchor, "" if it has none. A value that is no text and no number is
// returned as JSON.
func (c claims) readAnchor(path []string) string {
	v, ok := c.lookUp(path)
	if !ok {
		return ""
	}
	switch v := v.(type) {
	case string:
		return v
	case json.Number:
		return v.String()
	}
	text, _ := json.Marshal(v)
	return string(text)
}

// breaksLines reports whether r could end a line or do other harm in a log or a header.
func breaksLines(r rune) bool { return unicode.IsControl(r) || r == '\u2028' || r == '\u2029' }
