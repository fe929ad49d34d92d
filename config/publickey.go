package config

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
)

// minRSABits is the least size of an RSA key (RFC 7518, sections 3.3 and 3.5).
const minRSABits = 2048

// parsePublicKey returns the one key in data, a PEM file. Of a certificate only the
// key counts. Errors show nothing of the file: it may be a private key.
func parsePublicKey(data []byte) (key any, err error) {
	// Also in a block that is broken, or not the first.
	if bytes.Contains(data, []byte("PRIVATE KEY-----")) {
		return nil, errors.New("has a private key, which the gateway must not have; make a public one of it with: openssl pkey -in FILE -pubout")
	}
	block, rest := pem.Decode(data)
	if block == nil {
		return nil, errors.New("has no PEM block; it must have one that begins with -----BEGIN PUBLIC KEY-----")
	}
	if bytes.Contains(rest, []byte("-----BEGIN ")) {
		return nil, errors.New("has several PEM blocks; keep only that of the issuer's key")
	}
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
		return nil, errors.New("has another kind of PEM block than PUBLIC KEY, RSA PUBLIC KEY and CERTIFICATE")
	}
	if err != nil {
		return nil, fmt.Errorf("has a PEM block that cannot be read (%v); copy it again, or ask its issuer", err)
	}
	if fault := publicKeyFault(key); fault != "" {
		return nil, errors.New(fault)
	}
	return key, nil
}

// publicKeyFault says why a key is good for no algorithm at all.
func publicKeyFault(key any) string {
	switch key := key.(type) {
	case *rsa.PublicKey:
		switch bits := key.N.BitLen(); {
		case bits < minRSABits:
			return fmt.Sprintf("has an RSA key of %d bits, and needs one of at least %d", bits, minRSABits)
		case key.E < 3 || key.E%2 == 0 || key.N.Bit(0) == 0: // crypto/rsa refuses it, with every token
			return "has an RSA key that verifies nothing: exponent and modulus must be odd; ask its issuer"
		}
	case *ecdsa.PublicKey:
		switch key.Curve.Params().BitSize {
		case 256, 384, 521:
		default:
			return fmt.Sprintf("has %s, which no algorithm has; it must be P-256, P-384 or P-521", keyKind(key))
		}
	case ed25519.PublicKey:
	default:
		return "has a key of another kind than RSA, EC and Ed25519"
	}
	return ""
}

// neededKey is the kind of public key that verifies an algorithm.
func neededKey(algorithm string) string {
	switch algorithm {
	case "ES256":
		return "an EC key on the curve P-256"
	case "ES384":
		return "an EC key on the curve P-384"
	case "ES512":
		return "an EC key on the curve P-521" // no slip: RFC 7518, section 3.4
	case "EdDSA":
		return "an Ed25519 key"
	}
	return "an RSA key"
}

// keyKind is the kind of a public key, as neededKey has it.
func keyKind(key any) string {
	switch key := key.(type) {
	case *ecdsa.PublicKey:
		return "an EC key on the curve " + key.Curve.Params().Name
	case ed25519.PublicKey:
		return "an Ed25519 key"
	}
	return "an RSA key"
}

// isPEM reports whether a secret is a key for other algorithms: of a public one,
// which everybody may know, everybody could sign.
func isPEM(secret Secret) bool { return strings.Contains(string(secret), "-----BEGIN ") }
