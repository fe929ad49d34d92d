package jwtauth

import (
	"encoding/base64"
	"strings"
)

// maxTokenBytes is the greatest length of a token. Most have 300 to 2000 bytes; with the ids
// of 200 groups, the most that Entra writes into one, they have 11 KiB.
const maxTokenBytes = 16 << 10

// A parsedToken is a token that has been taken apart, and not been judged.
type parsedToken struct {
	signed                    string // what the signature is of
	header, claims, signature []byte
	decoded                   claims // nil until decodeClaims
}

// parse takes a token apart.
func parse(token string) (t parsedToken, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return t, explainParts(len(parts))
	}
	t.signed = token[:strings.LastIndexByte(token, '.')]
	if t.header, err = decodePart(parts[0]); err != nil {
		return t, err
	}
	if t.claims, err = decodePart(parts[1]); err != nil {
		return t, err
	}
	t.signature, err = decodePart(parts[2])
	return t, err
}

// decodeClaims returns the claims, which may be anybody's as long as the signature has not been
// checked.
func (t *parsedToken) decodeClaims() (claims, error) {
	if t.decoded == nil {
		object, err := decodeObject(t.claims)
		if err != nil {
			return nil, errClaims
		}
		t.decoded = object
	}
	return t.decoded, nil
}

var base64url = base64.RawURLEncoding.Strict()

// decodePart decodes one of the three parts of a token. Each value has exactly one encoding.
func decodePart(part string) ([]byte, error) {
	// base64 skips line breaks, even if it is strict.
	if strings.ContainsAny(part, "\r\n") {
		return nil, errBase64
	}
	b, err := base64url.DecodeString(part)
	if err != nil {
		return nil, errBase64
	}
	return b, nil
}
