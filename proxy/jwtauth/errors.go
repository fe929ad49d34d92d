package jwtauth

import (
	"errors"
	"strconv"

	"github.com/golang-jwt/jwt/v5"
)

// An Error says why a request has no identity. Its text is one of a few fixed ones, which
// clients may see: it holds nothing of the token, of a key or of a library's message. What was
// compared is in a refusal, which wraps an Error.
type Error struct {
	code   string // of RFC 6750, section 3.1; empty if no token was sent
	reason string // goes into a quoted string, so it has no " and no \
}

// Error returns the reason, for the client's developer.
func (e *Error) Error() string { return e.reason }

// Challenge returns the value of the header WWW-Authenticate (RFC 6750, section 3). If no
// token was sent, it has only the realm: the client may not have known that it needs one.
func (e *Error) Challenge() string {
	const realm = `Bearer realm="metergate"`
	if e.code == "" {
		return realm
	}
	return realm + `, error="` + e.code + `", error_description="` + e.reason + `"`
}

// Faults of the request.
var (
	errNoToken        = &Error{"", "no token: send one as Authorization: Bearer TOKEN"}
	errSeveralHeaders = &Error{"invalid_request", "there must be one Authorization header, not several"}
	errBadHeader      = &Error{"invalid_request", "the Authorization header must have the word Bearer, a space and one token"}
)

// Faults of the token, in the order of the checks. Those after errSignature are only seen by
// clients whose token has a good signature.
var (
	errTooLong     = invalidToken("the token is too long: it may have " + strconv.Itoa(maxTokenBytes) + " bytes")
	errParts       = invalidToken("the token must have three parts, joined by dots")
	errBase64      = invalidToken("the token's parts must be base64url without padding")
	errHeader      = invalidToken("the token's header must be one JSON object in which no name is given twice")
	errCritical    = invalidToken("the token needs an extension (crit) that is not supported")
	errType        = invalidToken("the token's type (typ) is not accepted")
	errNoKey       = invalidToken("the token's issuer has no key for the token's algorithm")
	errSeveralKeys = invalidToken("the token's header must name its key (kid), because its issuer has several for the algorithm")
	errKeyID       = invalidToken("the token's kid must be a text of 1 to " + strconv.Itoa(maxKeyIDBytes) + " bytes")
	errUnknownKey  = invalidToken("the token's key (kid) is not one of its issuer's keys")
	errSignature   = invalidToken("the token's signature or algorithm is not accepted")
	errClaims      = invalidToken("the token's claims must be one JSON object in which no name is given twice")
	errTime        = invalidToken("the token's exp, nbf and iat must be numbers: seconds since 1970")
	errNoExpiry    = invalidToken("the token never expires: it needs the claim exp")
	errExpired     = invalidToken("the token has expired")
	errNotYet      = invalidToken("the token is not valid yet")
	errIssuedLate  = invalidToken("the token was issued in the future: its iat is later than now")
	errIssuer      = invalidToken("the token's issuer is not accepted")
	errAudience    = invalidToken("the token's audience is not accepted")
	errRefused     = invalidToken("the token's claims are not accepted")
	errNoUser      = invalidToken("the token has no claim that names its user")
	errUser        = invalidToken("the token's user must be a text of 1 to 256 bytes without control characters")
	errOrg         = invalidToken("the token's organisation must be a text of at most 256 bytes without control characters")
	errPlan        = invalidToken("the token's plan must be a text")
)

func invalidToken(reason string) *Error { return &Error{"invalid_token", reason} }

// fromValidator turns an error of jwt.Validator into one that clients may see. If the error
// joins several, the result is the first one in the order of this function.
func fromValidator(err error) *Error {
	var ours *Error // from the methods of claims
	switch {
	case errors.As(err, &ours):
		return ours
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
