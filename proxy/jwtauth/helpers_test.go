package jwtauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"metergate/proxy/credential"
)

var (
	secret = []byte(strings.Repeat("0123456789abcdef", 4)) // long enough for HS512
	noon   = time.Unix(1_800_000_000, 0)

	rsaKey     = sync.OnceValue(func() *rsa.PrivateKey { return must(rsa.GenerateKey(rand.Reader, 2048)) })
	edKey      = sync.OnceValue(func() ed25519.PrivateKey { _, k, err := ed25519.GenerateKey(nil); return must(k, err) })
	p256Key    = sync.OnceValue(func() *ecdsa.PrivateKey { return ecKey(elliptic.P256()) })
	p384Key    = sync.OnceValue(func() *ecdsa.PrivateKey { return ecKey(elliptic.P384()) })
	p521Key    = sync.OnceValue(func() *ecdsa.PrivateKey { return ecKey(elliptic.P521()) })
	ecKey      = func(c elliptic.Curve) *ecdsa.PrivateKey { return must(ecdsa.GenerateKey(c, rand.Reader)) }
	privateKey = map[string]func() crypto.Signer{
		"RS": func() crypto.Signer { return rsaKey() }, "PS": func() crypto.Signer { return rsaKey() },
		"Ed":    func() crypto.Signer { return edKey() },
		"ES256": func() crypto.Signer { return p256Key() },
		"ES384": func() crypto.Signer { return p384Key() },
		"ES512": func() crypto.Signer { return p521Key() },
	}
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// signerFor returns the private key for an algorithm other than HS*.
func signerFor(alg string) crypto.Signer {
	if k, ok := privateKey[alg]; ok {
		return k()
	}
	return privateKey[alg[:2]]()
}

// goodOptions accept HS256 at noon, without leeway.
func goodOptions() Options {
	return Options{Secret: secret, Algorithms: []string{"HS256"}, Now: func() time.Time { return noon }}
}

func newVerifier(t testing.TB, o Options) *Verifier {
	t.Helper()
	v, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func encode(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }

// sign makes a token of two texts as they are. It signs with HS256, whatever they say.
func sign(header, claims string) string { return signParts(encode(header), encode(claims)) }

func signParts(header, claims string) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(header + "." + claims))
	return header + "." + claims + "." + base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

const (
	hs256   = `{"alg":"HS256"}`
	expires = `"exp":1800000060`
)

// reasonOf returns the *credential.Error of a refused token, and any other error as it is.
func reasonOf(err error) error {
	var reason *credential.Error
	if errors.As(err, &reason) {
		return reason
	}
	return err
}

// wantVerify verifies a token and compares the identity, or the error if want is not nil.
func wantVerify(t *testing.T, v *Verifier, token string, id credential.Identity, want *credential.Error) {
	t.Helper()
	got, err := v.Verify(t.Context(), token)
	if want == nil {
		if err != nil {
			t.Errorf("refused: %v", err)
		} else if got.User != id.User || got.Plan != id.Plan || !got.Expires.Equal(id.Expires) {
			t.Errorf("got %+v, want %+v", got, id)
		}
		return
	}
	if reasonOf(err) != error(want) {
		t.Errorf("got error %v, want: %v", err, want)
	}
	if got != (credential.Identity{}) {
		t.Errorf("an identity beside the error: %+v", got)
	}
}

// nested returns arrays within arrays, depth levels in all.
func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }

func pemOf(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

func publicPEM(key crypto.PublicKey) []byte {
	return pemOf("PUBLIC KEY", must(x509.MarshalPKIXPublicKey(key)))
}

func certificatePEM(key crypto.Signer) []byte {
	// The certificate has long expired: only its key counts.
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: noon.AddDate(-10, 0, 0)}
	return pemOf("CERTIFICATE", must(x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)))
}

// optionsFor returns options that accept one algorithm. They have a secret, and a public key
// if the algorithm needs one.
func optionsFor(alg string) Options {
	o := goodOptions()
	o.Algorithms = []string{alg}
	if !strings.HasPrefix(alg, "HS") {
		o.PublicKeyPEM = publicPEM(signerFor(alg).Public())
	}
	return o
}

// methodFor is golang-jwt's method for an algorithm. It does not know the name Ed25519.
func methodFor(alg string) jwt.SigningMethod {
	if alg == "Ed25519" {
		return jwt.SigningMethodEdDSA
	}
	return jwt.GetSigningMethod(alg)
}

// signWith signs a token by an algorithm with the key that it needs.
func signWith(alg string) string {
	var key any = secret
	if !strings.HasPrefix(alg, "HS") {
		key = signerFor(alg)
	}
	token := jwt.NewWithClaims(methodFor(alg), jwt.MapClaims{"sub": "u", "exp": noon.Unix() + 60})
	token.Header["alg"] = alg
	return must(token.SignedString(key))
}

var allAlgorithms = []string{
	"HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA", "Ed25519",
}
