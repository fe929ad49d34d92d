package jwtauth

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/MicahParks/jwkset"

	"metergate/proxy/jwtauth/jwtrules"
)

const (
	// maxKeyIDBytes is the greatest length of a kid. Real ones have up to 64 bytes.
	maxKeyIDBytes = 256
	// maxKeys is the greatest number of keys in a set. Real sets have up to ten.
	maxKeys = 256
	// maxKeyBytes is the greatest length of a key's text. With its certificates, a real one has
	// up to 10 KiB. Decoded, a text takes up to forty times its length.
	maxKeyBytes = 64 << 10
)

// An unusableKey is a key of a set with which no token is verified.
type unusableKey struct {
	kid    string
	reason error
}

// parseKeySet returns the keys of a JSON Web Key Set that can verify tokens, and the keys that
// cannot be used. Keys with the same kid differ in their alg; several may have no kid. One odd
// key does not make the others unusable (RFC 7517, section 5). The error says that the text is
// not a key set.
func parseKeySet(text []byte) (keys []jwkset.JWK, unusable []unusableKey, err error) {
	texts, err := splitKeySet(text)
	if err != nil {
		return nil, nil, err
	}
	var ambiguous []string
	for _, text := range texts {
		key, kid, err := parseKey(text)
		if err != nil {
			unusable = append(unusable, unusableKey{kid, err})
			continue
		}
		same := func(k jwkset.JWK) bool {
			if k.Marshal().KID != kid {
				return false
			}
			return interchangeable(k, key) || kid != "" && !forOtherAlgorithm(k, key)
		}
		switch i := slices.IndexFunc(keys, same); {
		case i < 0:
			keys = append(keys, key)
		case !interchangeable(keys[i], key):
			ambiguous = append(ambiguous, kid)
			unusable = append(unusable, unusableKey{kid, errors.New("another key has the same kid, and none of them is used; keys may only share a kid if each has another alg")})
		}
	}
	keys = slices.DeleteFunc(keys, func(k jwkset.JWK) bool { return slices.Contains(ambiguous, k.Marshal().KID) })
	return keys, unusable, nil
}

// errNoKeyList says that a text has the form of an object, and is not a key set.
var errNoKeyList = errors.New(`the response is not a JSON Web Key Set: it has no list "keys". Certificates (x509) are not one either; if it has them by their kids, configure it as x509_url`)

var errTooManyKeys = fmt.Errorf("the response has more than %d keys; its issuer must remove those that are no longer used", maxKeys)

// splitKeySet returns the texts of the keys in a key set. It keeps nothing else of the text,
// and stops at the first key too many.
func splitKeySet(text []byte) (keys []json.RawMessage, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	if token, err := dec.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New("the response is not a JSON object")
	}
	elsewhere := ""
	for dec.More() {
		name, err := dec.Token()
		switch {
		case err != nil:
			return nil, fmt.Errorf("the response is not a JSON object: %w", decoderError(err))
		case name == "keys" && keys != nil:
			return nil, errors.New(`the response is ambiguous: it has "keys" twice`)
		case name == "keys":
			keys, err = splitKeys(dec)
		case name == "jwks_uri": // OpenID Connect Discovery 1.0, section 3
			var value json.RawMessage
			if err = dec.Decode(&value); err == nil {
				json.Unmarshal(value, &elsewhere) // another value is none
			}
		default: // RFC 7517, section 5: other members are ignored
			err = dec.Decode(new(json.RawMessage))
		}
		if err != nil {
			return nil, err
		}
	}
	if err := endOfObject(dec); err != nil {
		return nil, err
	}
	switch {
	case keys != nil:
		return keys, nil
	case elsewhere != "":
		return nil, fmt.Errorf("the response is an OpenID configuration, not a JSON Web Key Set; the set is at its jwks_uri, %.200q", elsewhere)
	}
	return nil, errNoKeyList
}

// endOfObject reads the end of the one object of a response.
func endOfObject(dec *json.Decoder) error {
	if _, err := dec.Token(); err != nil {
		return fmt.Errorf("the response is not a JSON object: %w", decoderError(err))
	}
	if _, err := dec.Token(); err != io.EOF {
		return fmt.Errorf("the response is not one JSON object: %w", errTrailing)
	}
	return nil
}

// splitKeys reads the list of a key set. The result is not nil.
func splitKeys(dec *json.Decoder) ([]json.RawMessage, error) {
	if token, err := dec.Token(); err != nil || token != json.Delim('[') {
		return nil, errNoKeyList
	}
	keys := []json.RawMessage{}
	for dec.More() {
		if len(keys) == maxKeys {
			return nil, errTooManyKeys
		}
		var key json.RawMessage
		if err := dec.Decode(&key); err != nil {
			return nil, fmt.Errorf("the response is not JSON: %w", decoderError(err))
		}
		keys = append(keys, key)
	}
	_, err := dec.Token()
	return keys, err
}

// forOtherAlgorithm reports whether a token's alg chooses between two keys: some issuers publish
// a key of one kid for RS256, and again for RS512.
func forOtherAlgorithm(a, b jwkset.JWK) bool {
	x, y := a.Marshal().ALG, b.Marshal().ALG
	return x != "" && y != "" && x != y
}

// interchangeable reports whether two keys verify the same tokens.
func interchangeable(a, b jwkset.JWK) bool {
	x, y := a.Marshal(), b.Marshal()
	x.USE, x.KEYOPS, y.USE, y.KEYOPS = "", nil, "", nil // both keys may verify
	return x.ALG == y.ALG && x.KTY == y.KTY && x.CRV == y.CRV && x.X == y.X && x.Y == y.Y && x.N == y.N && x.E == y.E
}

// addCertificateKey adds the key of the first certificate in x5c (RFC 7517, section 4.7). As with
// a certificate in public_key_file, only the key counts: the issuer publishes it for as long as it
// is good.
func addCertificateKey(m *jwkset.JWKMarshal) error {
	der, err := base64.StdEncoding.Strict().DecodeString(m.X5C[0])
	if err != nil {
		return errors.New("its certificate (x5c) is not base64")
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		return errors.New("its certificate (x5c) cannot be read")
	}
	of, err := keyParameters(certificate.PublicKey)
	switch {
	case err != nil:
		return fmt.Errorf("its certificate (x5c): %w", err)
	case of.KTY != m.KTY || m.CRV != "" && of.CRV != m.CRV:
		return errors.New("its certificate (x5c) has a key of another kind")
	}
	m.CRV, m.X, m.Y, m.N, m.E = of.CRV, of.X, of.Y, of.N, of.E
	return nil
}

// keyParameters returns a public key as a JSON Web Key has it.
func keyParameters(key crypto.PublicKey) (m jwkset.JWKMarshal, err error) {
	if err := jwtrules.CheckPublicKey(key); err != nil {
		return m, err
	}
	j, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{})
	if err != nil {
		return m, err
	}
	return j.Marshal(), nil
}

// parseKey reads one key. The error says why the key cannot verify tokens. kid names the key
// in both cases; it is empty if the key has none (RFC 7517, section 4.5, makes it optional).
func parseKey(text []byte) (key jwkset.JWK, kid string, err error) {
	var m jwkset.JWKMarshal
	malformed := json.Unmarshal(text, &m)
	kid = m.KID[:min(len(m.KID), maxKeyIDBytes)]
	if len(text) > maxKeyBytes {
		return key, kid, fmt.Errorf("it has %d bytes; it may have at most %d", len(text), maxKeyBytes)
	}
	if _, err := decodeObject(text); err != nil || malformed != nil {
		return key, kid, errors.New("it is not written as RFC 7517 requires")
	}
	_, known := methods[string(m.ALG)]
	switch {
	case len(m.KID) > maxKeyIDBytes:
		return key, kid, fmt.Errorf("its kid has more than %d bytes", maxKeyIDBytes)
	case m.KTY == jwkset.KtyOct:
		return key, kid, errors.New("it is a secret (oct), which anybody can read here")
	case m.D != "" || m.K != "":
		return key, kid, errors.New("it is a private key, which anybody can read here; the issuer must replace it")
	case m.USE != "" && m.USE != jwkset.UseSig:
		return key, kid, fmt.Errorf("its use is %q, not sig", m.USE)
	case m.KEYOPS != nil && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify):
		return key, kid, errors.New("its key_ops do not include verify")
	case m.ALG != "" && !known:
		return key, kid, fmt.Errorf("its alg %q is not known", m.ALG)
	}
	// A certificate counts only if there is no other key, and the URL x5u never does.
	if m.N == "" && m.E == "" && m.X == "" && m.Y == "" && len(m.X5C) > 0 {
		if err := addCertificateKey(&m); err != nil {
			return key, kid, err
		}
	}
	alg := jwkset.ALG(keyAlgorithm(string(m.ALG)))
	m = jwkset.JWKMarshal{KTY: m.KTY, KID: m.KID, ALG: alg, USE: m.USE, KEYOPS: m.KEYOPS, CRV: m.CRV, X: m.X, Y: m.Y, N: m.N, E: m.E}
	if key, err = jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{SkipKeyOps: true}); err != nil {
		return key, kid, err
	}
	if _, ok := key.Key().(*ecdh.PublicKey); ok {
		return key, kid, errors.New("it is a key for key agreement (X25519), not for signatures")
	}
	if known {
		return key, kid, jwtrules.CheckKeyFor(string(m.ALG), key.Key())
	}
	return key, kid, jwtrules.CheckPublicKey(key.Key())
}
