package jwtauth

import "testing"

// A challenge must be one header value in the characters of RFC 6750.
func TestErrorsFitIntoChallenge(t *testing.T) {
	for want, e := range map[string]*Error{
		`Bearer realm="metergate"`: errNoToken,
		`Bearer realm="metergate", error="invalid_request", error_description="there must be one Authorization header, not several"`: errSeveralHeaders,
		`Bearer realm="metergate", error="invalid_token", error_description="the token has expired"`:                                 errExpired,
	} {
		if got := e.Challenge(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	seen := map[string]bool{}
	for _, e := range reasons {
		if seen[e.Error()] {
			t.Errorf("two errors say %q", e)
		}
		seen[e.Error()] = true
		for _, r := range e.Error() { // RFC 6750, section 3
			if r < ' ' || r > '~' || r == '"' || r == '\\' {
				t.Errorf("%q in %q", r, e)
			}
		}
	}
}

var reasons = []*Error{
	errNoToken, errSeveralHeaders, errBadHeader, errTooLong, errParts, errBase64, errHeader, errCritical, errType, errNoKey, errSeveralKeys, errKeyID, errUnknownKey, errSignature, errClaims, errTime,
	errNoExpiry, errExpired, errNotYet, errIssuedLate, errIssuer, errAudience, errRefused, errNoUser, errUser, errPlan,
}
