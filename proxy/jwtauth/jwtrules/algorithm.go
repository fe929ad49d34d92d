package jwtrules

import (
	"errors"
	"regexp"
	"slices"
	"strings"
)

// algorithms is never extended with "none".
var algorithms = []string{
	"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512",
	"ES256", "ES384", "ES512", "EdDSA", "Ed25519",
}

// Algorithms returns the names of all algorithms that a token may be signed with.
func Algorithms() []string { return slices.Clone(algorithms) }

// Accepted returns the values of a token's alg that one of the Algorithms accepts. EdDSA is
// the older name, which does not say the curve; Ed25519 means the same on the only curve
// that is supported (RFC 9864, section 2.2). Ed25519 alone does not accept the older name.
func Accepted(algorithm string) []string {
	if algorithm == "EdDSA" {
		return []string{"EdDSA", "Ed25519"}
	}
	return []string{algorithm}
}

// IsHMAC reports whether one of the Algorithms verifies with a secret. All others verify
// with a public key.
func IsHMAC(algorithm string) bool { return strings.HasPrefix(algorithm, "HS") }

// typeRule is for media types without parameters. "application/" may be left out (RFC
// 7515, section 4.1.9); the characters are those of RFC 6838, section 4.2.
var typeRule = regexp.MustCompile(`^([A-Za-z0-9!#$&^_.+-]{1,127}/)?[A-Za-z0-9!#$&^_.+-]{1,127}$`)

// CheckType says what is wrong with a required value of the header typ.
func CheckType(typ string) error {
	if !typeRule.MatchString(typ) {
		return errors.New("must be a media type, such as at+jwt or JWT")
	}
	return nil
}
