package config

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"metergate/proxy/jwtauth/jwtrules"
)

// pemOf returns a PEM block.
func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// pkix returns a public key as PEM.
func pkix(t *testing.T, key crypto.PublicKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("PUBLIC KEY", der)
}

// certificate returns a self-signed certificate as PEM.
func certificate(t *testing.T, key crypto.Signer) string {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return pemOf("CERTIFICATE", der)
}

func ecKey(t *testing.T, curve elliptic.Curve) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

// parseWithKey parses a configuration whose public key file has this content.
func parseWithKey(t *testing.T, key, algorithms string) error {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key.pem"), []byte(key), 0o600); err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer(
		"secret: 0123456789abcdef0123456789abcdef }", "secret: "+strings.Repeat("0123456789abcdef", 4)+", public_key_file: key.pem, algorithms: ["+algorithms+"] }",
	).Replace(fmt.Sprintf(base, ""))
	_, err := Parse(filepath.Join(dir, "x.yaml"), []byte(text), environment)
	return err
}

func TestPublicKeyFitsOnlyItsAlgorithms(t *testing.T) {
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	edPublic, edKey, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p256, p384, p521 := ecKey(t, elliptic.P256()), ecKey(t, elliptic.P384()), ecKey(t, elliptic.P521())
	for _, c := range []struct {
		name, key string
		fit       []string
	}{
		{"RSA", pkix(t, &rsaKey.PublicKey), []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}},
		{"PKCS #1", pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey.PublicKey)), []string{"RS256", "RS384", "RS512", "PS256", "PS384", "PS512"}},
		{"P-256", "a comment\n" + pkix(t, &p256.PublicKey), []string{"ES256"}},
		{"P-384", pkix(t, &p384.PublicKey), []string{"ES384"}},
		{"P-521", pkix(t, &p521.PublicKey), []string{"ES512"}},
		{"Ed25519", pkix(t, edPublic), []string{"EdDSA", "Ed25519"}},
		{"certificate", certificate(t, edKey), []string{"EdDSA", "Ed25519"}},
		{"certificate of P-384", certificate(t, p384), []string{"ES384"}},
	} {
		for _, a := range jwtrules.Algorithms() {
			fits := strings.HasPrefix(a, "HS")
			for _, f := range c.fit {
				fits = fits || f == a
			}
			err := parseWithKey(t, c.key, a)
			switch {
			case fits && err != nil:
				t.Errorf("%s, %s: %v", c.name, a, err)
			case !fits && (err == nil || !strings.Contains(err.Error(), "x.yaml:1: auth.jwt.algorithms[0]: "+a+" needs an ")):
				t.Errorf("%s, %s: error %v", c.name, a, err)
			}
		}
	}
}

// A file without a good public key is one fault, at its own key. Nothing of a private key is
// shown.
func TestPublicKeyFileFaultsShowNoKey(t *testing.T) {
	weak, err := os.ReadFile("testdata/key-weak.pem")
	if err != nil {
		t.Fatal(err)
	}
	good, err := os.ReadFile("testdata/key.pem")
	if err != nil {
		t.Fatal(err)
	}
	private, err := os.ReadFile("testdata/tls/client.key")
	if err != nil {
		t.Fatal(err)
	}
	odd := new(big.Int).SetBit(big.NewInt(1), 2047, 1)
	x25519, err := ecdh.X25519().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p224 := ecKey(t, elliptic.P224())
	spoilt := bytes.Replace(bytes.Clone(private), []byte("\nM"), []byte("\n!M"), 1)
	for name, c := range map[string]struct{ key, want string }{
		"empty":                {"", "has no PEM block"},
		"text":                 {"hunter2", "has no PEM block"},
		"cut short":            {string(good[:60]), "has no PEM block"},
		"private":              {string(private), "has a private key"},
		"private, spoilt":      {string(spoilt), "has a private key"},
		"private, second":      {string(good) + string(private), "has a private key"},
		"two":                  {string(good) + string(good), "has several PEM blocks"},
		"something else":       {pemOf("CERTIFICATE REQUEST", []byte("x")), "has a PEM block of another kind"},
		"no key inside":        {pemOf("PUBLIC KEY", []byte("x")), "has a PEM block that cannot be read"},
		"no key inside, PKCS1": {pemOf("RSA PUBLIC KEY", []byte("x")), "has a PEM block that cannot be read"},
		"no certificate":       {pemOf("CERTIFICATE", []byte("x")), "has a PEM block that cannot be read"},
		"weak":                 {string(weak), "the RSA key has 1024 bits; it must have at least 2048"},
		"16385 bits":           {pkix(t, &rsa.PublicKey{N: new(big.Int).SetBit(big.NewInt(1), 16384, 1), E: 65537}), "the RSA key has 16385 bits; it may have at most 16384"},
		"even exponent":        {pkix(t, &rsa.PublicKey{N: odd, E: 4}), "the RSA key verifies nothing"},
		"exponent 1":           {pkix(t, &rsa.PublicKey{N: odd, E: 1}), "the RSA key verifies nothing"},
		"even modulus":         {pkix(t, &rsa.PublicKey{N: new(big.Int).Add(odd, big.NewInt(1)), E: 65537}), "the RSA key verifies nothing"},
		"P-224":                {pkix(t, &p224.PublicKey), "the EC key is on the curve P-224, which no algorithm uses"},
		"X25519":               {pkix(t, x25519.PublicKey()), "the key must be RSA, EC or Ed25519"},
		"too large":            {strings.Repeat("x", maxSmallBytes+1), "must be a file of at most 64 KiB"},
	} {
		err := parseWithKey(t, c.key, "RS256")
		if err == nil || !strings.HasPrefix(err.Error()[strings.LastIndexByte(err.Error(), '/')+1:], "x.yaml:1: auth.jwt.public_key_file: "+c.want) {
			t.Errorf("%s: error %v, want: %s", name, err, c.want)
			continue
		}
		// There must be no second fault, at the algorithms.
		if strings.Contains(err.Error(), "\n") || strings.Contains(err.Error(), strings.Split(string(private), "\n")[1]) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A secret is at least as long as the hash of its algorithm (RFC 7518, section 3.2).
func TestSecretIsAsLongAsTheHash(t *testing.T) {
	const short = "; make one with: openssl rand -hex "
	for _, c := range []struct {
		bytes      int
		algorithms string
		want       string
	}{
		{32, "HS256", ""},
		{48, "HS256, HS384", ""},
		{64, "HS512, HS256, HS384", ""},
		{31, "HS256", "must have at least 32 bytes, got 31" + short + "32"},
		{47, "HS384", "must have at least 48 bytes for HS384, got 47" + short + "48, and give it to the issuer as well; or let the issuer sign with HS256, and list only that in algorithms"},
		{32, "HS256, HS384", "must have at least 48 bytes for HS384, got 32" + short + "48"},
		{63, "HS512", "must have at least 64 bytes for HS512, got 63" + short + "64"},
		{32, "HS256, HS512, HS384", "must have at least 64 bytes for HS512, got 32" + short + "64"},
	} {
		auth := "auth:\n  jwt:\n    secret: " + strings.Repeat("s", c.bytes) + "\n    algorithms: [" + c.algorithms + "]\n"
		_, rest, _ := strings.Cut(fmt.Sprintf(base, ""), "\n")
		_, err := Parse("x.yaml", []byte(auth+rest), environment)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%d bytes, %s: %v", c.bytes, c.algorithms, err)
		case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), "x.yaml:3: auth.jwt.secret: "+c.want)):
			t.Errorf("%d bytes, %s: error %v, want: %s", c.bytes, c.algorithms, err, c.want)
		}
	}
}

// With a public key as the secret, anybody could sign.
func TestSecretMustNotBeAPublicKey(t *testing.T) {
	text := strings.Replace(fmt.Sprintf(base, ""), "secret: 0123456789abcdef0123456789abcdef", "secret_file: testdata/key.pem", 1)
	_, err := Parse("x.yaml", []byte(text), environment)
	if want := "x.yaml:1: auth.jwt.secret_file: is a PEM file; "; err == nil || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("error %v, want: %s", err, want)
	}
}

func TestClaimsMustBeSeparate(t *testing.T) {
	for claims, want := range map[string]string{
		"user: id":                         "",
		"user: a.b, plan: a.c":             "",
		"user: plan2":                      "",
		"user: plan":                       "claims.user: must be another claim than plan",
		"plan: sub":                        "claims.plan: must be another claim than user",
		"user: a.b, plan: a.b":             "claims.plan: must be another claim than user",
		"user: a, plan: a.b":               "claims.plan: must be another claim than user",
		"user: a.b, plan: a":               "claims.plan: must be another claim than user",
		"user: plan.id":                    "claims.user: must be another claim than plan",
		"org: org":                         "",
		"user: a.b, org: a.c":              "",
		"org: sub":                         "claims.org: must be another claim than user",
		"org: plan.id":                     "claims.org: must be another claim than plan",
		"plan: org, org: org":              "claims.org: must be another claim than plan",
		`user: "${A:-x}", plan: "${A:-x}"`: "claims.plan: must be another claim than user",
	} {
		text := strings.Replace(fmt.Sprintf(base, ""), "}", ", claims: { "+claims+" } }", 1)
		_, err := Parse("x.yaml", []byte(text), environment)
		if want == "" && err != nil || want != "" && (err == nil || !strings.HasPrefix(err.Error(), "x.yaml:1: auth.jwt."+want)) {
			t.Errorf("{ %s }: error %v, want: %q", claims, err, want)
		}
	}
}

func TestJWKSURLIsAcceptedAloneOrWithOtherKeys(t *testing.T) {
	const https = "https://issuer.example/keys"
	for _, c := range []struct{ url, others, algorithms string }{
		{https, "", "RS256"},
		{https, "", "RS256, PS512, ES256, ES384, ES512, EdDSA, Ed25519"},
		{"https://issuer.example:8443/keys?policy=b2c", "", "RS256"},
		{"https://10.0.0.1", "", "RS256"},
		{"http://localhost:8081/realms/a/protocol/openid-connect/certs", "", "RS256"},
		{"http://127.0.0.1/", "", "RS256"},
		{"http://127.8.8.8:1", "", "RS256"},
		{"http://[::1]:8081/keys", "", "RS256"},
		{https, "secret: 0123456789abcdef0123456789abcdef, ", "HS256, RS256"},
		{https, "public_key_file: key.pem, ", "ES256"}, // on P-256
		{https, "public_key_file: key.pem, ", "RS256, ES256, EdDSA"},
		{"${NONE:-}", "secret: 0123456789abcdef0123456789abcdef, ", "HS256"},
		{"${NONE:-}", "public_key_file: key.pem, ", "ES256"},
	} {
		text := fmt.Sprintf(`auth: { jwt: { jwks_url: "%s", %salgorithms: [%s] } }
default_plan: free
plans: { free: {} }
upstreams: { api: { targets: [{ url: "http://127.0.0.1:9000" }] } }
routes: [{ match: /, upstream: api }]
`, c.url, c.others, c.algorithms)
		cfg, err := Parse("testdata/gateway.yaml", []byte(text), func(string) (string, bool) { return "", false })
		if err != nil {
			t.Error(err)
			continue
		}
		want := c.url
		if want == "${NONE:-}" {
			want = ""
		}
		if got := cfg.Auth.JWT[0].JWKSURL; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// A single mapping, or a list of one, is what auth.jwt has been so far. In a list of several, each
// issuer has its own keys and rules.
func TestIssuersInAList(t *testing.T) {
	cfg, err := parseFile(t, "testdata/good/issuers.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i, jwt := range cfg.Auth.JWT {
		got = append(got, fmt.Sprint(cfg.Auth.PathOf(i), " ", cfg.Auth.NameOf(i), " ", jwt.Issuer, " ", jwt.X509URL, " ", jwt.Algorithms, " ", jwt.Leeway, " ", jwt.Claims.User, jwt.Claims.Org))
	}
	want := []string{
		"auth.jwt[0] one https://one.example/  [RS256] 5s sub",
		"auth.jwt[1] https://two.example/ https://two.example/  [HS256] 5s suborg_id",
		"auth.jwt[2] three https://app.example.com http://localhost:8081/certs?p=1 [ES256 RS256] 0s sub",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !cfg.Auth.HasOrganisations() {
		t.Error("an issuer names organisations")
	}
	const mapping = "{ secret: 0123456789abcdef0123456789abcdef }"
	var both [2]*Config
	for i, jwt := range []string{mapping, "[" + mapping + "]"} {
		if both[i], err = Parse("x.yaml", []byte(strings.Replace(fmt.Sprintf(base, ""), mapping, jwt, 1)), environment); err != nil {
			t.Fatal(err)
		}
		if name := both[i].Auth.NameOf(0); name != "" {
			t.Errorf("a single issuer is called %q", name)
		}
	}
	if diff := cmp.Diff(both[0].Auth, both[1].Auth, compare...); diff != "" {
		t.Error(diff)
	}
	if _, isMapping := both[0].Redacted()["auth"].(map[string]any)["jwt"].(map[string]any); !isMapping {
		t.Error("a single mapping is shown as something else")
	}
}
