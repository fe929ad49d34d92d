package jwtauth

import (
	"errors"
	"strconv"

	"github.com/golang-jwt/jwt/v5"
)

// An Error says why a request has no identity. Each is one of a few fixed texts:
// nothing of the token, the keys or a library's message is in it, so that a
// client can see it.
type Error struct {
	code   string // of RFC 6750, section 3.1; empty: no token was sent
	reason string // goes into a quoted string: no " and no \
}

// Error returns the reason, for the client's developer.
func (e *Error) Error() string { return e.reason }

// Challenge returns the value of WWW-Authenticate (RFC 6750, section 3). Without
// a token it has the realm alone: the client may not have known that it needs one.
func (e *Error) Challenge() string {
	const realm = `Bearer realm="metergate"`
	if e.code == "" {
		return realm
	}
	return realm + `, error="` + e.code + `", error_description="` + e.reason + `"`
}

// Why the request is not good.
var (
	errNoToken       = &Error{"", "no token: send one as Authorization: Bearer TOKEN"}
	errSeveralFields = &Error{"invalid_request", "there must be one Authorization field, not several"}
	errField         = &Error{"invalid_request", "the Authorization field must have the word Bearer, a space and one token"}
)

// Why the token is not good, in the order of the checks. Only who can sign a
// token sees those after errSignature.
var (
	errTooLong    = invalid("the token is too long: it may have " + strconv.Itoa(maxToken) + " bytes")
	errParts      = invalid("the token must have three parts, joined by dots")
	errBase64     = invalid("the token's parts must be base64url without padding")
	errHeader     = invalid("the token's header must be one JSON object in which no name is given twice")
	errCritical   = invalid("the token needs an extension (crit) that is not supported")
	errType       = invalid("the token's type (typ) is not accepted")
	errNoKeyID    = invalid("the token's header must name its key (kid)")
	errKeyID      = invalid("the token's kid must be a text of 1 to " + strconv.Itoa(maxKeyID) + " bytes")
	errUnknownKey = invalid("the token's key (kid) is not one of its issuer's")
	errSignature  = invalid("the token's signature or algorithm is not accepted")
	errClaims     = invalid("the token's claims must be one JSON object in which no name is given twice")
	errTime       = invalid("the token's exp, nbf and iat must be numbers: seconds since 1970")
	errNoExpiry   = invalid("the token never expires: it needs the claim exp")
	errExpired    = invalid("the token has expired")
	errNotYet     = invalid("the token is not valid yet")
	errIssuedLate = invalid("the token was issued in the future: its iat is later than now")
	errIssuer     = invalid("the token's issuer is not accepted")
	errAudience   = invalid("the token's audience is not accepted")
	errRefused    = invalid("the token's claims are not accepted")
	errNoUser     = invalid("the token has no claim that names its user")
	errUser       = invalid("the token's user must be a text of 1 to 256 bytes without control characters")
	errPlan       = invalid("the token's plan must be a text")
)

func invalid(reason string) *Error { return &Error{"invalid_token", reason} }

// reasonFor turns an error of jwt.Validator into one to show. It is for the first
// of several that this list has.
func reasonFor(err error) *Error {
	var own *Error // from the methods of claims
	switch {
	case errors.As(err, &own):
		return own
	case errors.Is(err, jwt.ErrTokenExpired):
		return errExpired
	case errors.Is(err, jwt.ErrTokenNotValidYet):
		return errNotYet
	case errors.Is(err, jwt.ErrTokenUsedBeforeIssued):
		return errIssuedLate
	case errors.Is(err, jwt.ErrTokenInvalidIssuer):
		return errIssuer
	case errors.Is(err, jwt.ErrTokenInvalidAudience):
		return errAudience
	}
	return errRefused
}
