package jwtauth

import "strings"

// maxTokenBytes is the greatest length of a token. Most have 300 to 2000 bytes; with the ids
// of 200 groups, the most that Entra writes into one, they have 11 KiB.
const maxTokenBytes = 16 << 10

// bearerToken returns the token in the Authorization headers of a request. Several headers,
// or several tokens in one, are refused: the upstream might believe another one.
func bearerToken(headers []string) (string, error) {
	switch len(headers) {
	case 0:
		return "", errNoToken
	case 1:
	default:
		return "", errSeveralHeaders
	}
	scheme, token := headers[0], ""
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
	switch {
	case len(token) > maxTokenBytes:
		return "", errTooLong
	case token == "" || strings.ContainsAny(token, " \t\r\n,"):
		return "", errBadHeader
	}
	return token, nil
}
