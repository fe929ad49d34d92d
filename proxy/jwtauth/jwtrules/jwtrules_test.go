package jwtrules

import (
	"crypto"
	"crypto/dsa"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math"
	"math/big"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCheckKeyForAcceptsOnlyKeysOfTheAlgorithm(t *testing.T) {
	ecKey := func(curve elliptic.Curve) crypto.PublicKey {
		key, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return &key.PublicKey
	}
	edKey, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	odd := new(big.Int).SetBit(big.NewInt(1), 2047, 1)
	for _, c := range []struct {
		name string
		key  crypto.PublicKey
		fits []string
	}{
		{"RSA", &rsa.PublicKey{N: odd, E: 65537}, []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}},
		{"RSA, 2047 bits", &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 2046, 1), E: 65537}, nil},
		{"RSA, 16384 bits", &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 16383, 1), E: 65537}, []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}},
		{"RSA, 16385 bits", &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 16384, 1), E: 65537}, nil},
		{"RSA, even exponent", &rsa.PublicKey{N: odd, E: 4}, nil},
		{"RSA, exponent of 31 bits", &rsa.PublicKey{N: odd, E: math.MaxInt32}, []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}},
		{"RSA, exponent of 32 bits", &rsa.PublicKey{N: odd, E: math.MaxInt32 + 2}, nil},
		{"RSA, exponent 1", &rsa.PublicKey{N: odd, E: 1}, nil},
		{"RSA, even modulus", &rsa.PublicKey{N: new(big.Int).Add(odd, big.NewInt(1)), E: 65537}, nil},
		{"P-224", ecKey(elliptic.P224()), nil},
		{"P-256", ecKey(elliptic.P256()), []string{"ES256"}},
		{"P-384", ecKey(elliptic.P384()), []string{"ES384"}},
		{"P-521", ecKey(elliptic.P521()), []string{"ES512"}},
		{"Ed25519", edKey, []string{"EdDSA", "Ed25519"}},
		{"DSA", &dsa.PublicKey{}, nil},
		{"none", nil, nil},
	} {
		if err := CheckPublicKey(c.key); (err == nil) != (len(c.fits) > 0) {
			t.Errorf("%s: error %v", c.name, err)
		}
		for _, algorithm := range Algorithms() {
			if err := CheckKeyFor(algorithm, c.key); (err == nil) != slices.Contains(c.fits, algorithm) {
				t.Errorf("%s, %s: error %v", c.name, algorithm, err)
			}
		}
	}
}

func TestCheckSecretRefusesShortAndPublicKeys(t *testing.T) {
	for secret, want := range map[string]string{
		strings.Repeat("s", 32): "",
		strings.Repeat("s", 31): "must have at least 32 bytes, got 31",
		"":                      "must have at least 32 bytes, got 0",
		strings.Repeat("s", 63): "",
		"x\n-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQ\n": "is a PEM file; give it as the public key",
	} {
		err := CheckSecret([]byte(secret))
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), want)) {
			t.Errorf("%q: error %v, want %q", secret, err, want)
		}
	}
}

func TestParseClaimPathSplitsAtUnescapedDots(t *testing.T) {
	for path, want := range map[string][]string{
		"sub":                    {"sub"},
		"app.user.id":            {"app", "user", "id"},
		"a b":                    {"a b"},
		`a\.b`:                   {"a.b"},
		`a\\`:                    {`a\`},
		`a\\.b`:                  {`a\`, "b"},
		`a\\\.b`:                 {`a\.b`},
		`\.`:                     {"."},
		"://":                    {"://"},
		"https://a.b":            {"https://a", "b"},
		`https://a\.b/c.d`:       {"https://a.b/c", "d"},
		`https://a\.b/c\.d`:      {"https://a.b/c.d"},
		"a/b.c/d":                {"a/b", "c/d"},
		`https://a\.b/c.https\.`: {"https://a.b/c", "https."},
	} {
		got, err := ParseClaimPath(path)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%q: error %v, -want +got:\n%s", path, err, diff)
		}
	}
}

func TestParseClaimPathRefusesAmbiguousPaths(t *testing.T) {
	for _, path := range []string{
		"", ".", "a.", ".a", "a..b", `\`, `a\`, `\a`, `a\b`, `a\\\`, `a\..`,
		"https://a.b/c", `https://a\.b.c/d`, `https://a\\.b/c`, "https://a/b.c/d",
	} {
		if names, err := ParseClaimPath(path); err == nil {
			t.Errorf("%q: got %q, want an error", path, names)
		}
	}
}

func TestCheckTypeAcceptsMediaTypes(t *testing.T) {
	for typ, want := range map[string]bool{
		"JWT": true, "at+jwt": true, "application/at+jwt": true,
		"": false, "at jwt": false, "a/b/c": false, "a/": false, "a;b=c": false,
	} {
		if err := CheckType(typ); (err == nil) != want {
			t.Errorf("%q: error %v", typ, err)
		}
	}
}
