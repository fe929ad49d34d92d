package jwtrules

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
	"math"
)

const (
	// minRSABits is the least size of an RSA key (RFC 7518, sections 3.3 and 3.5).
	minRSABits = 2048
	// maxRSABits bounds what it costs to verify a token: about 10 ms at this size, 200 times as
	// much as with the least one.
	maxRSABits = 16384
)

// minSecretBytes is the least length of a secret by algorithm: that of the hash (RFC 7518,
// section 3.2).
var minSecretBytes = map[string]int{"HS256": 32, "HS384": 48, "HS512": 64}

// CheckSecret says what is wrong with the secret of the HMAC algorithms: it must have at
// least 32 bytes, 48 if HS384 and 64 if HS512 is one of the algorithms. It must not be a PEM
// file: anybody may know a public key, so with one as the secret anybody could sign tokens.
func CheckSecret(secret []byte, algorithms ...string) error {
	strictest := "HS256"
	for _, name := range algorithms {
		if minSecretBytes[name] > minSecretBytes[strictest] {
			strictest = name
		}
	}
	switch least := minSecretBytes[strictest]; {
	case len(secret) < least && strictest == "HS256":
		return fmt.Errorf("must have at least %d bytes, got %d; make one with: openssl rand -hex 32", least, len(secret))
	case len(secret) < least:
		return fmt.Errorf("must have at least %d bytes for %s, got %d; make one with: openssl rand -hex %[1]d, and give it to the issuer as well; or let the issuer sign with HS256, and list only that in algorithms",
			least, strictest, len(secret))
	case bytes.Contains(secret, []byte("-----BEGIN ")):
		return errors.New("is a PEM file; give it as the public key (public_key_file), with the issuer's algorithm such as RS256")
	}
	return nil
}

// ParsePublicKey returns the one public key in a PEM file with a PUBLIC KEY, an RSA PUBLIC
// KEY or a CERTIFICATE, and checks it with CheckPublicKey. Of a certificate only the key
// counts, not its dates or its issuer.
func ParsePublicKey(text []byte) (crypto.PublicKey, error) {
	// Look at the whole text: a private key may be in a damaged block, or in a later one.
	if bytes.Contains(text, []byte("PRIVATE KEY-----")) {
		return nil, errors.New("has a private key, which the gateway must not have; make the public key with: openssl pkey -in FILE -pubout")
	}
	block, rest := pem.Decode(text)
	if block == nil {
		return nil, errors.New("has no PEM block; it must have one that begins with -----BEGIN PUBLIC KEY-----")
	}
	if bytes.Contains(rest, []byte("-----BEGIN ")) {
		return nil, errors.New("has several PEM blocks; keep only the one with the issuer's key")
	}
	var key crypto.PublicKey
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		key, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "RSA PUBLIC KEY":
		key, err = x509.ParsePKCS1PublicKey(block.Bytes)
	case "CERTIFICATE":
		var certificate *x509.Certificate
		if certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
			key = certificate.PublicKey
		}
	default:
		return nil, errors.New("has a PEM block of another kind; it must be PUBLIC KEY, RSA PUBLIC KEY or CERTIFICATE")
	}
	if err != nil {
		return nil, fmt.Errorf("has a PEM block that cannot be read (%w); copy it again, or ask its issuer", err)
	}
	return key, CheckPublicKey(key)
}

// CheckPublicKey says why a key is good for no algorithm at all. Good keys are RSA of 2048 to
// 16384 bits, EC on the curves P-256, P-384 and P-521, and Ed25519.
func CheckPublicKey(key crypto.PublicKey) error {
	switch key := key.(type) {
	case *rsa.PublicKey:
		switch bits := key.N.BitLen(); {
		case key.E < 3 || key.E%2 == 0 || key.E > math.MaxInt32 || key.N.Bit(0) == 0:
			// crypto/rsa refuses such a key, but only when it verifies a token.
			return errors.New("the RSA key verifies nothing: its exponent and its modulus must be odd, and the exponent may have 31 bits; ask its issuer for another one")
		case bits < minRSABits:
			return fmt.Errorf("the RSA key has %d bits; it must have at least %d", bits, minRSABits)
		case bits > maxRSABits:
			return fmt.Errorf("the RSA key has %d bits; it may have at most %d", bits, maxRSABits)
		}
	case *ecdsa.PublicKey:
		if KindOf(key) == "" {
			return fmt.Errorf("the EC key is on the curve %s, which no algorithm uses; it must be on P-256, P-384 or P-521", key.Curve.Params().Name)
		}
	case ed25519.PublicKey:
	default:
		return errors.New("the key must be RSA, EC or Ed25519")
	}
	return nil
}

// A KeyKind names a kind of key in an error message. Keys of one kind verify the same
// algorithms.
type KeyKind string

// The kinds of keys.
const (
	Secret  KeyKind = "a secret"
	RSA     KeyKind = "an RSA key"
	P256    KeyKind = "an EC key on the curve P-256"
	P384    KeyKind = "an EC key on the curve P-384"
	P521    KeyKind = "an EC key on the curve P-521"
	Ed25519 KeyKind = "an Ed25519 key"
)

// KindFor returns the kind of key that verifies one of the Algorithms.
func KindFor(algorithm string) KeyKind {
	switch algorithm {
	case "HS256", "HS384", "HS512":
		return Secret
	case "ES256":
		return P256
	case "ES384":
		return P384
	case "ES512":
		return P521 // not a typing error: RFC 7518, section 3.4
	case "EdDSA", "Ed25519":
		return Ed25519
	}
	return RSA
}

// KindOf returns the kind of a public key, and "" for a key that no algorithm uses.
func KindOf(key crypto.PublicKey) KeyKind {
	switch key := key.(type) {
	case *rsa.PublicKey:
		return RSA
	case *ecdsa.PublicKey:
		switch key.Curve.Params().BitSize {
		case 256:
			return P256
		case 384:
			return P384
		case 521:
			return P521
		}
	case ed25519.PublicKey:
		return Ed25519
	}
	return ""
}

// CheckKeyFor says why a public key does not verify the signatures of an algorithm. It
// includes CheckPublicKey. crypto/ecdsa would verify with any curve.
func CheckKeyFor(algorithm string, key crypto.PublicKey) error {
	if err := CheckPublicKey(key); err != nil {
		return err
	}
	if needed, kind := KindFor(algorithm), KindOf(key); kind != needed {
		return fmt.Errorf("needs %s, and the public key is %s", needed, kind)
	}
	return nil
}
