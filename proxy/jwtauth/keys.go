package jwtauth

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/golang-jwt/jwt/v5"
)

// Bounds of keys.
const (
	minSecret  = 32   // bytes, as in package config
	minRSABits = 2048 // RFC 7518, sections 3.3 and 3.5
)

// methods are the algorithms that New knows. golang-jwt's own table can be added
// to by any package, and has "none".
var methods = map[string]jwt.SigningMethod{
	"HS256": jwt.SigningMethodHS256, "HS384": jwt.SigningMethodHS384, "HS512": jwt.SigningMethodHS512,
	"RS256": jwt.SigningMethodRS256, "RS384": jwt.SigningMethodRS384, "RS512": jwt.SigningMethodRS512,
	"PS256": jwt.SigningMethodPS256, "PS384": jwt.SigningMethodPS384, "PS512": jwt.SigningMethodPS512,
	"ES256": jwt.SigningMethodES256, "ES384": jwt.SigningMethodES384, "ES512": jwt.SigningMethodES512,
	"EdDSA": jwt.SigningMethodEdDSA,
}

// A scheme is an algorithm with the key that it is used with: the secret for HMAC, the
// key of the file for all others, or nil if they have only a KeySet. Since they are put
// together before there is a token, no token can bring an algorithm to a key of another
// kind; for keys of a KeySet, fits sees to that.
type scheme struct {
	method jwt.SigningMethod
	key    any
}

func (s scheme) symmetric() bool {
	_, ok := s.method.(*jwt.SigningMethodHMAC)
	return ok
}

// schemes gives each algorithm its kind of key, and checks both. With a keySet the file
// may lack, or have a key for some of the algorithms only.
func schemes(algorithms []string, secret, publicKeyPEM []byte, keySet bool) (map[string]scheme, error) {
	if len(algorithms) == 0 {
		return nil, errors.New("algorithms: none are given; list what the issuer signs with, such as HS256")
	}
	var public crypto.PublicKey
	if len(publicKeyPEM) > 0 {
		var err error
		if public, err = parsePublicKey(publicKeyPEM); err != nil {
			return nil, fmt.Errorf("public key: %w", err)
		}
	}
	byName := make(map[string]scheme, len(algorithms))
	for _, name := range algorithms {
		method, ok := methods[name]
		if !ok {
			known := strings.Join(slices.Sorted(maps.Keys(methods)), ", ")
			return nil, fmt.Errorf("algorithms: %q is not one of %s", name, known)
		}
		key, err := keyFor(method, secret, public)
		if _, hmac := method.(*jwt.SigningMethodHMAC); err != nil && keySet && !hmac {
			key, err = nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("algorithm %s: %w", name, err)
		}
		byName[name] = scheme{method, key}
	}
	return byName, nil
}

// keyFor picks the key for a method and checks that it is good enough. public is
// nil when there is none.
func keyFor(method jwt.SigningMethod, secret []byte, public crypto.PublicKey) (any, error) {
	if _, ok := method.(*jwt.SigningMethodHMAC); ok {
		return secret, checkSecret(secret)
	}
	if public == nil {
		return nil, errors.New("needs a public key, and none is given")
	}
	return public, fits(method, public)
}

// fits checks that a public key is of the kind that a method uses, and good enough.
func fits(method jwt.SigningMethod, public crypto.PublicKey) error {
	switch m := method.(type) {
	case *jwt.SigningMethodRSA, *jwt.SigningMethodRSAPSS:
		key, ok := public.(*rsa.PublicKey)
		if !ok {
			return fmt.Errorf("needs an RSA key; the public key is %s", kindOf(public))
		}
		if n := key.N.BitLen(); n < minRSABits {
			return fmt.Errorf("needs an RSA key of at least %d bits; the public key has %d", minRSABits, n)
		}
	case *jwt.SigningMethodECDSA:
		// crypto/ecdsa verifies with any curve; RFC 7518, section 3.4 has one each.
		key, ok := public.(*ecdsa.PublicKey)
		if !ok || key.Curve.Params().BitSize != m.CurveBits {
			return fmt.Errorf("needs an EC key on the curve P-%d; the public key is %s", m.CurveBits, kindOf(public))
		}
	case *jwt.SigningMethodEd25519:
		if _, ok := public.(ed25519.PublicKey); !ok {
			return fmt.Errorf("needs an Ed25519 key; the public key is %s", kindOf(public))
		}
	default:
		return errors.New("verifies with a secret, not with a public key")
	}
	return nil
}

func checkSecret(secret []byte) error {
	switch {
	case len(secret) == 0:
		return errors.New("needs a secret, and none is given")
	case len(secret) < minSecret:
		return fmt.Errorf("needs a secret of at least %d bytes, got %d; make one with: openssl rand -hex 32", minSecret, len(secret))
	case bytes.Contains(secret, []byte("-----BEGIN ")):
		// Of a public key, which everybody may know, everybody could sign.
		return errors.New("the secret is a PEM file; give that as the public key, with the issuer's algorithm such as RS256")
	}
	return nil
}

// kindOf names a key for an error.
func kindOf(public crypto.PublicKey) string {
	switch key := public.(type) {
	case *rsa.PublicKey:
		return "an RSA key"
	case *ecdsa.PublicKey:
		return "an EC key on the curve " + key.Curve.Params().Name
	case ed25519.PublicKey:
		return "an Ed25519 key"
	}
	return fmt.Sprintf("of another kind (%T)", public)
}

// makePublic is the cure for most faults of a key file.
const makePublic = "; make one from the private key with: openssl pkey -in private.pem -pubout"

// parsePublicKey reads the one public key of a PEM file. Of a certificate only the
// key is used: neither its dates nor who signed it are looked at.
func parsePublicKey(text []byte) (crypto.PublicKey, error) {
	// Also in a block that is broken, or not the first.
	if bytes.Contains(text, []byte("PRIVATE KEY-----")) {
		return nil, errors.New("this is a private key, which the gateway must not have" + makePublic)
	}
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("no PEM block is in it; it must have -----BEGIN PUBLIC KEY-----" + makePublic)
	}
	if bytes.Contains(rest, []byte("-----BEGIN ")) {
		return nil, errors.New("there must be one PEM block, not several; keep the one of the issuer's key")
	}
	var key crypto.PublicKey
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = c.PublicKey
		}
	default:
		return nil, fmt.Errorf("a PEM block %q cannot be used, only PUBLIC KEY, RSA PUBLIC KEY and CERTIFICATE%s", block.Type, makePublic)
	}
	if err != nil {
		return nil, fmt.Errorf("the PEM block %s cannot be read: %w%s", block.Type, err, makePublic)
	}
	if key == nil { // a certificate of a kind of key that crypto/x509 does not know
		return nil, errors.New("the certificate has a key of an unknown kind; it must be RSA, EC or Ed25519")
	}
	return key, nil
}
