package jwtauth

import (
	"errors"
	"strconv"

	"github.com/golang-jwt/jwt/v5"

	"metergate/proxy/credential"
)

// Faults of the token, in the order of the checks. Those after errSignature are only seen by
// clients whose token has a good signature.
var (
	errTooLong     = credential.Invalid("the token is too long: it may have " + strconv.Itoa(maxTokenBytes) + " bytes")
	errParts       = credential.Invalid("the token must have three parts, joined by dots")
	errBase64      = credential.Invalid("the token's parts must be base64url without padding")
	errHeader      = credential.Invalid("the token's header must be one JSON object in which no name is given twice")
	errCritical    = credential.Invalid("the token needs an extension (crit) that is not supported")
	errType        = credential.Invalid("the token's type (typ) is not accepted")
	errNoKey       = credential.Invalid("the token's issuer has no key for the token's algorithm")
	errSeveralKeys = credential.Invalid("the token's header must name its key (kid), because its issuer has several for the algorithm")
	errKeyID       = credential.Invalid("the token's kid must be a text of 1 to " + strconv.Itoa(maxKeyIDBytes) + " bytes")
	errUnknownKey  = credential.Invalid("the token's key (kid) is not one of its issuer's keys")
	errSignature   = credential.Invalid("the token's signature or algorithm is not accepted")
	errClaims      = credential.Invalid("the token's claims must be one JSON object in which no name is given twice")
	errTime        = credential.Invalid("the token's exp, nbf and iat must be numbers: seconds since 1970")
	errNoExpiry    = credential.Invalid("the token never expires: it needs the claim exp")
	errExpired     = credential.Invalid("the token has expired")
	errNotYet      = credential.Invalid("the token is not valid yet")
	errIssuedLate  = credential.Invalid("the token was issued in the future: its iat is later than now")
	errIssuer      = credential.Invalid("the token's issuer is not accepted")
	errAudience    = credential.Invalid("the token's audience is not accepted")
	errRefused     = credential.Invalid("the token's claims are not accepted")
	errRequired    = credential.Invalid("the token lacks a claim that this API requires, or the claim has another value")
	errNoUser      = credential.Invalid("the token has no claim that names its user")
	errUser        = credential.Invalid("the token's user must be a text of 1 to 256 bytes without control characters")
	errOrg         = credential.Invalid("the token's organisation must be a text of at most 256 bytes without control characters")
	errUserNumber  = credential.Invalid("the token's user must be a text, or a whole number without a fraction and an exponent")
	errPlan        = credential.Invalid("the token's plan must be a text")
	errPlans       = credential.Invalid("the token's plan must be a text or a list of texts")
)

// fromValidator turns an error of jwt.Validator into one that clients may see. If the error
// joins several, the result is the first one in the order of this function.
func fromValidator(err error) *credential.Error {
	var ours *credential.Error // from the methods of claims
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
