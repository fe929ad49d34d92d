package jwtauth

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"metergate/proxy/credential"
)

// Each Verifier has keys for both families, a secret and a public key.
func TestVerifyAcceptsOnlyItsAlgorithm(t *testing.T) {
	tokens := map[string]string{}
	for _, alg := range allAlgorithms {
		tokens[alg] = signWith(alg)
	}
	for _, accepted := range allAlgorithms {
		v := newVerifier(t, optionsFor(accepted))
		for _, alg := range allAlgorithms {
			var want *credential.Error
			if alg != accepted && !(accepted == "EdDSA" && alg == "Ed25519") {
				want = errSignature
			}
			wantVerify(t, v, tokens[alg], credential.Identity{User: "u", Expires: noon.Add(time.Minute)}, want)
		}
	}
}

func TestVerifyAcceptsSeveralAlgorithms(t *testing.T) {
	o := optionsFor("RS256")
	o.Algorithms = []string{"HS256", "RS256", "PS512"}
	v := newVerifier(t, o)
	for _, alg := range allAlgorithms {
		var want *credential.Error
		if !slices.Contains(o.Algorithms, alg) {
			want = errSignature
		}
		wantVerify(t, v, signWith(alg), credential.Identity{User: "u", Expires: noon.Add(time.Minute)}, want)
	}
}

// The salt of RSASSA-PSS is as long as the hash (RFC 7518, section 3.5).
func TestVerifyRefusesOtherSalts(t *testing.T) {
	for alg, hash := range map[string]crypto.Hash{"PS256": crypto.SHA256, "PS384": crypto.SHA384, "PS512": crypto.SHA512} {
		v := newVerifier(t, optionsFor(alg))
		for _, salt := range []int{hash.Size(), 1, 20, 32, 48, 64, 2048/8 - hash.Size() - 2} {
			message := encode(`{"alg":"`+alg+`"}`) + "." + encode(`{"sub":"u",`+expires+`}`)
			digest := hash.New()
			digest.Write([]byte(message))
			signature := must(rsa.SignPSS(rand.Reader, rsaKey(), hash, digest.Sum(nil), &rsa.PSSOptions{SaltLength: salt}))
			var want *credential.Error
			if salt != hash.Size() {
				want = errSignature
			}
			wantVerify(t, v, message+"."+encode(string(signature)), credential.Identity{User: "u", Expires: noon.Add(time.Minute)}, want)
		}
	}
}

// Nobody can sign with a public key, in any of its forms.
func TestVerifyRefusesPublicKeysAsSecrets(t *testing.T) {
	for _, family := range []string{"RS256", "PS256", "ES256", "ES384", "ES512", "EdDSA"} {
		for _, algorithms := range [][]string{{family}, {family, "HS256", "HS384", "HS512"}} {
			o := optionsFor(family)
			o.Algorithms = algorithms
			v := newVerifier(t, o)
			block, _ := pem.Decode(o.PublicKeyPEM)
			for _, key := range [][]byte{o.PublicKeyPEM, bytes.TrimSpace(o.PublicKeyPEM), block.Bytes, {}} {
				for _, method := range []*jwt.SigningMethodHMAC{jwt.SigningMethodHS256, jwt.SigningMethodHS384, jwt.SigningMethodHS512} {
					token := jwt.NewWithClaims(method, jwt.MapClaims{"sub": "u", "exp": noon.Unix() + 60})
					wantVerify(t, v, must(token.SignedString(key)), credential.Identity{}, errSignature)
					// Signed by HMAC, but labelled as the public key's algorithm.
					token.Header["alg"] = family
					wantVerify(t, v, must(token.SignedString(key)), credential.Identity{}, errSignature)
				}
			}
		}
	}
	t.Run("labelled HS256, signed by the private key", func(t *testing.T) {
		o := optionsFor("RS256")
		o.Algorithms = []string{"RS256", "HS256"}
		token := jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"sub": "u", "exp": noon.Unix() + 60})
		token.Header["alg"] = "HS256"
		wantVerify(t, newVerifier(t, o), must(token.SignedString(rsaKey())), credential.Identity{}, errSignature)
	})
	t.Run("another's key", func(t *testing.T) {
		token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"sub": "u", "exp": noon.Unix() + 60})
		wantVerify(t, newVerifier(t, optionsFor("ES256")), must(token.SignedString(ecKey(elliptic.P256()))), credential.Identity{}, errSignature)
	})
	t.Run("an ES256 signature of zeros", func(t *testing.T) {
		token := encode(`{"alg":"ES256"}`) + "." + encode(`{"sub":"u",`+expires+`}`) + "." + encode(strings.Repeat("\x00", 64))
		wantVerify(t, newVerifier(t, optionsFor("ES256")), token, credential.Identity{}, errSignature)
	})
}

func TestNewReadsKeyFiles(t *testing.T) {
	for name, c := range map[string]struct {
		alg string
		pem []byte
	}{
		"PKIX":                {"RS256", publicPEM(rsaKey().Public())},
		"PKCS 1":              {"PS384", pemOf("RSA PUBLIC KEY", x509.MarshalPKCS1PublicKey(&rsaKey().PublicKey))},
		"RSA certificate":     {"RS512", certificatePEM(rsaKey())},
		"EC certificate":      {"ES384", certificatePEM(p384Key())},
		"Ed25519 certificate": {"EdDSA", certificatePEM(edKey())},
		"text around it":      {"EdDSA", append([]byte("Public-Key: (256 bit)\n"), append(publicPEM(edKey().Public()), "\nend\n"...)...)},
		"Windows line ends":   {"RS256", bytes.ReplaceAll(publicPEM(rsaKey().Public()), []byte("\n"), []byte("\r\n"))},
	} {
		t.Run(name, func(t *testing.T) {
			o := goodOptions()
			o.Algorithms, o.PublicKeyPEM = []string{c.alg}, c.pem
			wantVerify(t, newVerifier(t, o), signWith(c.alg), credential.Identity{User: "u", Expires: noon.Add(time.Minute)}, nil)
		})
	}
}

func TestNewRefusesBadOptions(t *testing.T) {
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	x25519 := must(ecdh.X25519().GenerateKey(rand.Reader)).PublicKey()
	pkcs8 := pemOf("PRIVATE KEY", must(x509.MarshalPKCS8PrivateKey(p256Key())))
	rsaPublic := publicPEM(rsaKey().Public())
	with := func(pem []byte, algorithms ...string) Options {
		return Options{PublicKeyPEM: pem, Algorithms: algorithms}
	}
	for name, c := range map[string]struct {
		o    Options
		want string
	}{
		"no algorithm":         {Options{Secret: secret}, "algorithms: none given"},
		"an unknown algorithm": {Options{Secret: secret, Algorithms: []string{"HS256", "HS255"}}, `"HS255" must be one of HS256, `},
		"none":                 {Options{Secret: secret, Algorithms: []string{"none"}}, `"none" must be one of`},
		"another case":         {Options{Secret: secret, Algorithms: []string{"hs256"}}, `"hs256" must be one of`},
		"no secret":            {with(rsaPublic, "RS256", "HS256"), "algorithm HS256: needs a secret, and none"},
		"a short secret":       {Options{Secret: secret[:31], Algorithms: []string{"HS256"}}, "HS256: the secret must have at least 32 bytes, got 31"},
		"short for HS384":      {Options{Secret: secret[:47], Algorithms: []string{"HS256", "HS384"}}, "HS384: the secret must have at least 48 bytes for HS384, got 47"},
		"short for HS512":      {Options{Secret: secret[:63], Algorithms: []string{"HS384", "HS512"}}, "HS512: the secret must have at least 64 bytes for HS512, got 63"},
		"a public secret":      {Options{Secret: rsaPublic, Algorithms: []string{"HS256"}}, "HS256: the secret is a PEM file"},
		"no public key":        {Options{Secret: secret, Algorithms: []string{"HS256", "EdDSA"}}, "EdDSA: needs a public key, and none"},
		"a small RSA key":      {with(publicPEM(small.Public()), "PS256"), "public key: the RSA key has 1024 bits; it must have at least 2048"},
		"RSA for ES":           {with(rsaPublic, "ES256"), "ES256: needs an EC key on the curve P-256, and the public key is an RSA key"},
		"RSA for EdDSA":        {with(rsaPublic, "EdDSA"), "EdDSA: needs an Ed25519 key, and the public key is an RSA key"},
		"EC for RS":            {with(publicPEM(p256Key().Public()), "RS256"), "RS256: needs an RSA key, and the public key is an EC key on the curve P-256"},
		"EC for PS":            {with(publicPEM(p256Key().Public()), "PS256"), "PS256: needs an RSA key"},
		"Ed25519 for ES":       {with(publicPEM(edKey().Public()), "ES256"), "the public key is an Ed25519 key"},
		"P-384 for ES256":      {with(publicPEM(p384Key().Public()), "ES256"), "curve P-256, and the public key is an EC key on the curve P-384"},
		"P-256 for ES512":      {with(publicPEM(p256Key().Public()), "ES512"), "curve P-521, and the public key is an EC key on the curve P-256"},
		"the second one":       {with(publicPEM(p256Key().Public()), "ES256", "ES384"), "ES384: needs an EC key on the curve P-384"},
		"X25519":               {with(publicPEM(x25519), "EdDSA"), "public key: the key must be RSA, EC or Ed25519"},
		"not PEM":              {with([]byte("ssh-rsa AAAA"), "RS256"), "public key: has no PEM block; it must have one that begins with -----BEGIN PUBLIC KEY-----"},
		"a broken key":         {with(pemOf("PUBLIC KEY", []byte("x")), "RS256"), "public key: has a PEM block that cannot be read ("},
		"a broken PKCS 1 key":  {with(pemOf("RSA PUBLIC KEY", []byte("x")), "RS256"), "public key: has a PEM block that cannot be read ("},
		"a broken certificate": {with(pemOf("CERTIFICATE", []byte("x")), "RS256"), "public key: has a PEM block that cannot be read ("},
		"another block":        {with(pemOf("CERTIFICATE REQUEST", []byte("x")), "RS256"), "has a PEM block of another kind"},
		"two keys":             {with(append(publicPEM(edKey().Public()), rsaPublic...), "RS256"), "has several PEM blocks"},
		"a private key":        {with(pkcs8, "ES256"), "has a private key, which the gateway must not have"},
		"a PKCS 1 private key": {with(pemOf("RSA PRIVATE KEY", []byte("x")), "RS256"), "has a private key"},
		"an EC private key":    {with(pemOf("EC PRIVATE KEY", []byte("x")), "ES256"), "has a private key"},
		"an encrypted key":     {with(pemOf("ENCRYPTED PRIVATE KEY", []byte("x")), "ES256"), "has a private key"},
		"a private key second": {with(append(bytes.Clone(rsaPublic), pkcs8...), "RS256"), "has a private key"},
		"an unused bad file":   {Options{Secret: secret, Algorithms: []string{"HS256"}, PublicKeyPEM: pkcs8}, "has a private key"},
		"a negative leeway":    {Options{Secret: secret, Algorithms: []string{"HS256"}, Leeway: -1}, "leeway: must not be negative, got -1ns"},
		"an empty user part":   {Options{Secret: secret, Algorithms: []string{"HS256"}, UserClaim: "app."}, `user claim "app.": must be the name of a claim`},
		"an empty plan part":   {Options{Secret: secret, Algorithms: []string{"HS256"}, PlanClaim: "."}, `plan claim ".": must be the name of a claim`},
		"no media type":        {Options{Secret: secret, Algorithms: []string{"HS256"}, Type: "at jwt"}, `type "at jwt": must be a media type`},
		"half an escape":       {Options{Secret: secret, Algorithms: []string{"HS256"}, PlanClaim: `plan\`}, `plan claim "plan\\": must be the name of a claim`},
		"another escape":       {Options{Secret: secret, Algorithms: []string{"HS256"}, PlanClaim: `a\b`}, `write a dot within a name as \. and a backslash as \\`},
		"a URL's own dots":     {Options{Secret: secret, Algorithms: []string{"HS256"}, PlanClaim: "https://example.com/plan"}, `such as https://example\.com/plan`},
	} {
		t.Run(name, func(t *testing.T) {
			v, err := New(c.o)
			if v != nil || err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("got %v and %v, want error: %s", v, err, c.want)
			}
			for _, part := range []string{string(secret[:8]), string(pkcs8[40:60])} {
				if strings.Contains(err.Error(), part) {
					t.Errorf("a key is in the error: %v", err)
				}
			}
		})
	}
}

func TestNewCopiesOptions(t *testing.T) {
	o := optionsFor("RS256")
	o.Secret, o.Algorithms = bytes.Clone(secret), []string{"HS256", "RS256"}
	v := newVerifier(t, o)
	clear(o.Secret)
	clear(o.PublicKeyPEM)
	clear(o.Algorithms)
	for _, alg := range []string{"HS256", "RS256"} {
		wantVerify(t, v, signWith(alg), credential.Identity{User: "u", Expires: noon.Add(time.Minute)}, nil)
	}
}
