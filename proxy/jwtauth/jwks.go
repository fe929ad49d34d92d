package jwtauth

import (
	"crypto/ecdh"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/MicahParks/jwkset"

	"metergate/proxy/jwtauth/jwtrules"
)

// maxKeyID is the most bytes that a kid can have. Real ones have up to 64.
const maxKeyID = 256

// An unfit key is one that no token is verified with.
type unfit struct {
	kid    string
	reason error
}

// parseSet returns the keys of a JSON Web Key Set that tokens can be verified with,
// each with a kid of its own, and those that cannot be used (RFC 7517, section 5: one
// odd key must not cost the others). An error says that it is no such set.
func parseSet(text []byte) (keys []jwkset.JWK, others []unfit, err error) {
	if _, err := decodeObject(text); err != nil {
		return nil, nil, fmt.Errorf("the answer is no JSON object: %w", err)
	}
	var set struct {
		Keys []json.RawMessage `json:"keys"`
	}
	if err := json.Unmarshal(text, &set); err != nil || set.Keys == nil {
		return nil, nil, errors.New(`the answer is no JSON Web Key Set: it has no list "keys"`)
	}
	var ambiguous []string
	for _, text := range set.Keys {
		key, kid, err := parseKey(text)
		same := func(k jwkset.JWK) bool { return k.Marshal().KID == kid }
		switch i := slices.IndexFunc(keys, same); {
		case err != nil:
			others = append(others, unfit{kid, err})
		case i < 0:
			keys = append(keys, key)
		case !equal(keys[i], key):
			ambiguous = append(ambiguous, kid)
			others = append(others, unfit{kid, errors.New("another key has the same kid, and none of them is used")})
		}
	}
	keys = slices.DeleteFunc(keys, func(k jwkset.JWK) bool { return slices.Contains(ambiguous, k.Marshal().KID) })
	return keys, others, nil
}

// equal reports whether it makes no difference which of two keys verifies a token.
func equal(a, b jwkset.JWK) bool {
	x, y := a.Marshal(), b.Marshal()
	x.USE, x.KEYOPS, y.USE, y.KEYOPS = "", nil, "", nil // both are good for verifying
	return x.ALG == y.ALG && x.KTY == y.KTY && x.CRV == y.CRV && x.X == y.X && x.Y == y.Y && x.N == y.N && x.E == y.E
}

// parseKey reads one key. The error says why no token can be verified with it; kid is
// then what there is to name it by.
func parseKey(text []byte) (key jwkset.JWK, kid string, err error) {
	var m jwkset.JWKMarshal
	if err := json.Unmarshal(text, &m); err != nil {
		return key, "", errors.New("it is not written as RFC 7517 has it")
	}
	kid = m.KID[:min(len(m.KID), maxKeyID)]
	_, known := methods[string(m.ALG)]
	switch {
	case m.KID == "" || len(m.KID) > maxKeyID:
		return key, kid, fmt.Errorf("it must have a kid of 1 to %d bytes", maxKeyID)
	case m.KTY == jwkset.KtyOct:
		return key, kid, errors.New("it is a secret (oct), which everybody can read here")
	case m.D != "" || m.K != "":
		return key, kid, errors.New("it is a private key, which everybody can read here; the issuer must replace it")
	case m.USE != "" && m.USE != jwkset.UseSig:
		return key, kid, fmt.Errorf("its use is %q, not sig", m.USE)
	case m.KEYOPS != nil && !slices.Contains(m.KEYOPS, jwkset.KeyOpsVerify):
		return key, kid, errors.New("its key_ops do not have verify")
	case m.ALG != "" && !known:
		return key, kid, fmt.Errorf("its alg %q is not known", m.ALG)
	}
	// Certificates are not looked at, and x5u least of all.
	m = jwkset.JWKMarshal{KTY: m.KTY, KID: m.KID, ALG: m.ALG, USE: m.USE, KEYOPS: m.KEYOPS, CRV: m.CRV, X: m.X, Y: m.Y, N: m.N, E: m.E}
	if key, err = jwkset.NewJWKFromMarshal(m, jwkset.JWKMarshalOptions{}, jwkset.JWKValidateOptions{SkipKeyOps: true}); err != nil {
		return key, kid, err
	}
	if _, ok := key.Key().(*ecdh.PublicKey); ok {
		return key, kid, errors.New("it is a key for agreement (X25519), not for signatures")
	}
	if known {
		return key, kid, jwtrules.CheckKeyFor(string(m.ALG), key.Key())
	}
	return key, kid, jwtrules.CheckPublicKey(key.Key())
}
