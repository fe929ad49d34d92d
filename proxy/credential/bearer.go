package credential

import (
	"net/http"
	"strings"
)

// Faults of the request.
var (
	errNoToken        = &Error{"", "no token: send one as Authorization: Bearer TOKEN"}
	errSeveralHeaders = &Error{"invalid_request", "there must be one Authorization header, not several"}
	errBadHeader      = &Error{"invalid_request", "the Authorization header must have the word Bearer, a space and one token"}
)

// BearerToken returns the token in the Authorization header of a request. It reads no other
// header. Several headers, or several tokens in one, are refused: the upstream might believe
// another one. The token is not empty; it may have any length. Errors are *Error.
func BearerToken(h http.Header) (string, error) {
	values := h["Authorization"]
	switch len(values) {
	case 0:
		return "", errNoToken
	case 1:
	default:
		return "", errSeveralHeaders
	}
	scheme, token := values[0], ""
	if i := strings.IndexAny(scheme, " \t"); i >= 0 {
		scheme, token = scheme[:i], scheme[i:]
	}
	if !strings.EqualFold(scheme, "Bearer") { // RFC 9110, section 11.1
		// Another scheme, such as Basic, brings no token. An empty header is a mistake.
		if strings.Trim(scheme, ", \t") == "" {
			return "", errBadHeader
		}
		return "", errNoToken
	}
	token = strings.TrimLeft(token, " ") // RFC 9110, section 11.4
	if token == "" || strings.ContainsAny(token, " \t\r\n,") {
		return "", errBadHeader
	}
	return token, nil
}
