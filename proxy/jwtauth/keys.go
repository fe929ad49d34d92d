package jwtauth

import (
	"crypto"
	"crypto/rsa"
	"errors"
	"fmt"
	"strings"

	"github.com/golang-jwt/jwt/v5"

	"metergate/proxy/jwtauth/jwtrules"
)

// methods are the implementations of jwtrules.Algorithms. golang-jwt's own table is not
// used: any package can add to it, and it has "none".
var methods = map[string]jwt.SigningMethod{
	"HS256": jwt.SigningMethodHS256, "HS384": jwt.SigningMethodHS384, "HS512": jwt.SigningMethodHS512,
	"RS256": jwt.SigningMethodRS256, "RS384": jwt.SigningMethodRS384, "RS512": jwt.SigningMethodRS512,
	"PS256": strictPSS("PS256", crypto.SHA256), "PS384": strictPSS("PS384", crypto.SHA384), "PS512": strictPSS("PS512", crypto.SHA512),
	"ES256": jwt.SigningMethodES256, "ES384": jwt.SigningMethodES384, "ES512": jwt.SigningMethodES512,
	"EdDSA": jwt.SigningMethodEdDSA, "Ed25519": jwt.SigningMethodEdDSA,
}

// strictPSS returns a method that verifies RSASSA-PSS only with a salt as long as the hash
// (RFC 7518, section 3.5). golang-jwt's own methods verify with any salt.
func strictPSS(name string, hash crypto.Hash) jwt.SigningMethod {
	return &jwt.SigningMethodRSAPSS{
		SigningMethodRSA: &jwt.SigningMethodRSA{Name: name, Hash: hash},
		Options:          &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthEqualsHash},
	}
}

// keyAlgorithm returns the name under which a key's own alg and a token's are compared: EdDSA
// and Ed25519 are one algorithm for an Ed25519 key (RFC 9864, section 2.2).
func keyAlgorithm(alg string) string {
	if alg == "Ed25519" {
		return "EdDSA"
	}
	return alg
}

// A scheme is an algorithm with the key that verifies it: the secret for HMAC, the key of
// the file for all others, or nil if only a KeySet has keys for it. Algorithm and key are
// paired before any token arrives, so no token can use an algorithm with a key of another
// kind. For keys of a KeySet, Verifier.keyFor checks the pair.
type scheme struct {
	algorithm string // as keyAlgorithm names it
	method    jwt.SigningMethod
	key       any
}

// newSchemes pairs each algorithm with its key and checks both. The result is by the alg of a
// token. With a key set, the public key may be missing, or may fit only some of the
// algorithms.
func newSchemes(algorithms []string, secret, publicKeyPEM []byte, hasKeySet bool) (map[string]scheme, error) {
	if len(algorithms) == 0 {
		return nil, errors.New("algorithms: none given; list what the issuer signs with, such as HS256")
	}
	var public crypto.PublicKey
	if len(publicKeyPEM) > 0 {
		var err error
		if public, err = jwtrules.ParsePublicKey(publicKeyPEM); err != nil {
			return nil, fmt.Errorf("public key: %w", err)
		}
	}
	schemes := make(map[string]scheme, len(algorithms))
	for _, name := range algorithms {
		method, ok := methods[name]
		if !ok {
			return nil, fmt.Errorf("algorithms: %q must be one of %s", name, strings.Join(jwtrules.Algorithms(), ", "))
		}
		key, err := keyFor(name, secret, public)
		if err != nil && hasKeySet && !jwtrules.IsHMAC(name) {
			key, err = nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("algorithm %s: %w", name, err)
		}
		for _, alg := range jwtrules.Accepted(name) {
			schemes[alg] = scheme{keyAlgorithm(name), method, key}
		}
	}
	return schemes, nil
}

// keyFor returns the key for an algorithm after checking it. public is nil if there is
// none.
func keyFor(algorithm string, secret []byte, public crypto.PublicKey) (any, error) {
	switch {
	case jwtrules.IsHMAC(algorithm) && len(secret) == 0:
		return nil, errors.New("needs a secret, and none is given")
	case jwtrules.IsHMAC(algorithm):
		if err := jwtrules.CheckSecret(secret, algorithm); err != nil {
			return nil, fmt.Errorf("the secret %w", err)
		}
		return secret, nil
	case public == nil:
		return nil, errors.New("needs a public key, and none is given")
	}
	return public, jwtrules.CheckKeyFor(algorithm, public)
}
