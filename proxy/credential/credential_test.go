package credential

import "testing"

// A challenge must be one header value in the characters of RFC 6750.
func TestErrorFitsIntoChallenge(t *testing.T) {
	for want, e := range map[string]*Error{
		`Bearer realm="metergate"`: errNoToken,
		`Bearer realm="metergate", error="invalid_request", error_description="there must be one Authorization header, not several"`: errSeveralHeaders,
		`Bearer realm="metergate", error="invalid_token", error_description="the token has expired"`:                                 Invalid("the token has expired"),
	} {
		if got := e.Challenge(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	for _, e := range []*Error{errNoToken, errSeveralHeaders, errBadHeader} {
		for _, r := range e.Error() { // RFC 6750, section 3
			if r < ' ' || r > '~' || r == '"' || r == '\\' {
				t.Errorf("%q in %q", r, e)
			}
		}
	}
}
