// Package credential has what all ways to say who sent a request have in common: where a
// request brings its token, who a good token is for, and why a request is answered 401.
//
// It only takes the token or the API key out of the request, wherever Sources say that it may be, and
// keeps the upstream from getting it. Package jwtauth judges what a token says, and package apikeys
// knows the keys.
package credential

import "time"

// Identity is who a good token is for.
type Identity struct {
	// User is the id of the user: 1 to 256 bytes of UTF-8 without control characters and line
	// breaks.
	User string
	// Plan is the plan that the token names, any text; "" if it names none.
	Plan string
	// UnknownPlan is a text that the token has where its plan stands, if the configuration maps
	// such texts to plans and this one to none; cut after 100 bytes. Plan is then "".
	UnknownPlan string
	// Org is the id of the user's organisation, which has the form of a user's; "" if the token names
	// none.
	Org string
	// Anchor is what the token says of the day on which the user's months begin: a text or number,
	// as it is there; "" if it says nothing. It may be of any form.
	Anchor string
	// Issuer is the name of the issuer that has judged the token; "" if it has none.
	Issuer string
	// APIKey is the id of the API key; "" if the request has a token.
	APIKey string
	// Expires is when the token expires, in UTC. The token is good until the leeway after it. It is
	// zero for an API key that does not expire.
	Expires time.Time
}

// An Error says why a request has no identity. Its text is one of a few fixed ones, which
// clients may see: it holds nothing of the token, of a key or of a library's message. An error
// for the operator, which may say more, wraps an Error.
type Error struct {
	code   string // of RFC 6750, section 3.1; empty if no token was sent
	reason string // goes into a quoted string, so it has no " and no \
}

// Invalid returns an Error about the token itself. The reason is printable ASCII without " and \.
func Invalid(reason string) *Error { return &Error{"invalid_token", reason} }

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
