package jwtauth

import (
	"testing"

	"metergate/proxy/credential"
)

// A reason must be one header value in the characters of RFC 6750.
func TestErrorsFitIntoChallenge(t *testing.T) {
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

var reasons = []*credential.Error{
	errTooLong, errParts, errBase64, errHeader, errCritical, errType, errNoKey, errSeveralKeys, errKeyID, errUnknownKey, errSignature, errClaims, errTime,
	errNoExpiry, errExpired, errNotYet, errIssuedLate, errIssuer, errAudience, errRefused, errRequired, errNoUser, errUser, errUserNumber, errOrg, errPlan, errPlans,
}
