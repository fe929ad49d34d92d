package jwtauth

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha512"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"metergate/quota/testkit"
)

// Only the kid chooses between the issuer's keys for an algorithm.
func TestVerifyChoosesKeyByKeyID(t *testing.T) {
	k := httptest.NewServer(answer(jwksOf(
		rsaA(), ecB(), edC(), named{"p384", p384Key()}, named{"p521-1", p521Key()}, named{"p521-2", ecKey(p521Key().Curve)},
		jwk("ps", rsaKey().Public(), `"alg":"PS256"`, `"use":"sig"`, `"key_ops":["verify"]`),
		jwk("two", rsaKey().Public(), `"alg":"RS256"`), jwk("two", p256Key().Public(), `"alg":"ES256"`),
		named25519("ed", "Ed25519"))))
	defer k.Close()
	s := NewKeySet(JWKS, k.URL, testkit.Log(t))
	if err := s.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := ecKey(p256Key().Curve) // the file's key
	both := Options{KeySet: s, Secret: secret, PublicKeyPEM: publicPEM(file.Public()), Algorithms: []string{"HS256", "RS256", "PS256", "ES256", "ES384", "ES512", "RS384", "EdDSA"}}
	alone := both
	alone.PublicKeyPEM = nil
	signed := func(alg string, key any, header ...any) string {
		token := jwt.NewWithClaims(methodFor(alg), jwt.MapClaims{"sub": "u", "exp": time.Now().Add(time.Hour).Unix()})
		token.Header["alg"] = alg
		for i := 0; i < len(header); i += 2 {
			token.Header[header[i].(string)] = header[i+1]
		}
		return must(token.SignedString(key))
	}
	// golang-jwt would accept a padded signature by a key on P-256 for ES384.
	padded := func() string {
		text := encode(`{"alg":"ES384","kid":"b"}`) + "." + encode(fmt.Sprintf(`{"sub":"u","exp":%d}`, time.Now().Unix()+60))
		hash := sha512.Sum384([]byte(text))
		r, s, err := ecdsa.Sign(rand.Reader, p256Key(), hash[:])
		if err != nil {
			t.Fatal(err)
		}
		return text + "." + encode(string(append(r.FillBytes(make([]byte, 48)), s.FillBytes(make([]byte, 48))...)))
	}()
	publicRSA, other := publicPEM(rsaKey().Public()), must(rsa.GenerateKey(rand.Reader, 2048))
	for name, c := range map[string]struct {
		token               string
		wantBoth, wantAlone any
	}{
		"an RSA key":                        {signed("RS256", rsaKey(), "kid", "a"), "u", "u"},
		"an RSA key, PSS":                   {signed("PS256", rsaKey(), "kid", "a"), "u", "u"},
		"an EC key":                         {signed("ES256", p256Key(), "kid", "b"), "u", "u"},
		"a P-384 key":                       {signed("ES384", p384Key(), "kid", "p384"), "u", "u"},
		"an Ed25519 key":                    {signed("EdDSA", edKey(), "kid", "c"), "u", "u"},
		"an Ed25519 key, by its new name":   {signed("Ed25519", edKey(), "kid", "c"), "u", "u"},
		"a key for Ed25519":                 {signed("Ed25519", edKey(), "kid", "ed"), "u", "u"},
		"a key for Ed25519, by EdDSA":       {signed("EdDSA", edKey(), "kid", "ed"), "u", "u"},
		"Ed25519 with an RSA key's name":    {signed("Ed25519", edKey(), "kid", "a"), errSignature, errSignature},
		"Ed448":                             {signed("EdDSA", edKey(), "kid", "c", "alg", "Ed448"), errSignature, errSignature},
		"the first of two keys by one name": {signed("RS256", rsaKey(), "kid", "two"), "u", "u"},
		"the other one":                     {signed("ES256", p256Key(), "kid", "two"), "u", "u"},
		"an alg of neither":                 {signed("PS256", rsaKey(), "kid", "two"), errSignature, errSignature},
		"the alg that the key is for":       {signed("PS256", rsaKey(), "kid", "ps"), "u", "u"},
		"another alg than the key is for":   {signed("RS256", rsaKey(), "kid", "ps"), errSignature, errSignature},
		"an alg that is not listed":         {signed("RS512", rsaKey(), "kid", "a"), errSignature, errSignature},
		"an alg for another kind":           {signed("RS256", rsaKey(), "kid", "b"), errSignature, errSignature},
		"an alg for another curve":          {signed("ES256", p256Key(), "kid", "p384"), errSignature, errSignature},
		"an alg for another curve, padded":  {padded, errSignature, errSignature},
		"the name of another key":           {signed("PS256", rsaKey(), "kid", "c"), errSignature, errSignature},
		"a name in another case":            {signed("RS256", rsaKey(), "kid", "A"), errUnknownKey, errUnknownKey},
		"a name that nobody has":            {signed("RS256", rsaKey(), "kid", "z"), errUnknownKey, errUnknownKey},
		"a path":                            {signed("RS256", rsaKey(), "kid", "../a"), errUnknownKey, errUnknownKey},
		"SQL":                               {signed("RS256", rsaKey(), "kid", "a' OR 'a'='a"), errUnknownKey, errUnknownKey},
		"no name":                           {signed("RS256", rsaKey()), "u", "u"},
		"no name, another RSA key":          {signed("RS256", other), errSignature, errSignature},
		"no name, one key by two names":     {signed("PS256", rsaKey()), "u", "u"},
		"no name, two keys":                 {signed("ES512", p521Key()), errSeveralKeys, errSeveralKeys},
		"no name, HMAC with a public key":   {signed("HS384", publicRSA), errSignature, errSignature},
		"no name, but KID":                  {signed("RS256", rsaKey(), "KID", "c"), "u", "u"},
		"an empty name":                     {signed("RS256", rsaKey(), "kid", ""), errKeyID, errKeyID},
		"null":                              {signed("RS256", rsaKey(), "kid", nil), "u", "u"},
		"null, the file's key":              {signed("ES256", file, "kid", nil), "u", errSignature},
		"null, two keys":                    {signed("ES512", p521Key(), "kid", nil), errSeveralKeys, errSeveralKeys},
		"a number":                          {signed("RS256", rsaKey(), "kid", 7), errKeyID, errKeyID},
		"a list":                            {signed("RS256", rsaKey(), "kid", []string{"a"}), errKeyID, errKeyID},
		"a long name":                       {signed("RS256", rsaKey(), "kid", strings.Repeat("a", 257)), errKeyID, errKeyID},
		"the file's key":                    {signed("ES256", file), "u", errSignature},
		"the file's key, under a name":      {signed("ES256", file, "kid", "file"), errUnknownKey, errUnknownKey},
		"the file's key, under another's":   {signed("ES256", file, "kid", "b"), errSignature, errSignature},
		"an issuer's key, without its name": {signed("ES256", p256Key()), errSignature, "u"},
		"the secret":                        {signed("HS256", secret), "u", "u"},
		"the secret, under a name":          {signed("HS256", secret, "kid", "a"), "u", "u"},
		"HMAC with a public key":            {signed("HS256", publicRSA, "kid", "a"), errSignature, errSignature},
		"jku and x5u":                       {signed("RS256", rsaKey(), "kid", "a", "jku", "http://127.0.0.1:1/", "x5u", "http://127.0.0.1:1/"), "u", "u"},
	} {
		t.Run(name, func(t *testing.T) {
			wantToken(t, newVerifier(t, both), c.token, c.wantBoth)
			wantToken(t, newVerifier(t, alone), c.token, c.wantAlone)
		})
	}
	t.Run("the file alone", func(t *testing.T) { // without a KeySet, a kid has no meaning
		o := both
		o.KeySet, o.Algorithms = nil, []string{"ES256"}
		wantToken(t, newVerifier(t, o), signed("ES256", file, "kid", "z"), "u")
	})
	t.Run("a file for one of the algorithms", func(t *testing.T) {
		v := newVerifier(t, both)
		wantToken(t, v, signed("RS256", rsaKey()), "u")
		wantToken(t, v, signed("EdDSA", edKey()), "u")
		wantToken(t, v, signed("ES512", p521Key()), errSeveralKeys)
	})
}

// unnamed is a public key without a kid, with additional members.
func unnamed(key crypto.PublicKey, members ...string) string {
	return strings.Replace(jwk("k", key, members...), `"kid":"k",`, "", 1)
}

// RFC 7517, section 4.5: a key may have no name. A token that names no key is verified if one
// key fits its algorithm, and a key without a name never verifies a token that names one.
func TestVerifyTakesTheOnlyKeyThatFits(t *testing.T) {
	rsaPublic, second := rsaKey().Public(), must(rsa.GenerateKey(rand.Reader, 2048)).Public()
	for name, c := range map[string]struct {
		keys                []any
		rs256, ps256, es256 any // without a kid
		named               any // RS256 with the kid k
	}{
		"an RSA key":              {[]any{unnamed(rsaPublic)}, "u", "u", errNoKey, errUnknownKey},
		"an empty name":           {[]any{jwk("", rsaPublic)}, "u", "u", errNoKey, errUnknownKey},
		"null as a name":          {[]any{unnamed(rsaPublic, `"kid":null`)}, "u", "u", errNoKey, errUnknownKey},
		"for one algorithm":       {[]any{unnamed(rsaPublic, `"alg":"RS256"`, `"use":"sig"`)}, "u", errNoKey, errNoKey, errUnknownKey},
		"with a name":             {[]any{jwk("k", rsaPublic)}, "u", "u", errNoKey, "u"},
		"of each kind":            {[]any{unnamed(rsaPublic), unnamed(p256Key().Public()), unnamed(edKey().Public())}, "u", "u", "u", errUnknownKey},
		"one of two has a name":   {[]any{unnamed(second), jwk("k", rsaPublic)}, errSeveralKeys, errSeveralKeys, errNoKey, "u"},
		"two":                     {[]any{unnamed(rsaPublic), unnamed(second)}, errSeveralKeys, errSeveralKeys, errNoKey, errUnknownKey},
		"the same twice":          {[]any{unnamed(rsaPublic), unnamed(rsaPublic), jwk("k", rsaPublic)}, "u", "u", errNoKey, "u"},
		"one for each algorithm":  {[]any{unnamed(rsaPublic, `"alg":"RS256"`), unnamed(second, `"alg":"PS256"`)}, "u", errSignature, errNoKey, errUnknownKey},
		"another for encryption":  {[]any{unnamed(second, `"use":"enc"`), unnamed(rsaPublic)}, "u", "u", errNoKey, errUnknownKey},
		"only another":            {[]any{unnamed(second)}, errSignature, errSignature, errNoKey, errUnknownKey},
		"an EC key":               {[]any{unnamed(p256Key().Public())}, errNoKey, errNoKey, "u", errUnknownKey},
		"a key on another curve":  {[]any{unnamed(p384Key().Public())}, errNoKey, errNoKey, errNoKey, errUnknownKey},
		"a name for two others":   {[]any{jwk("l", rsaPublic), jwk("l", second), jwk("k", rsaPublic)}, "u", "u", errNoKey, "u"},
		"a secret beside the key": {[]any{`{"kty":"oct","k":"AAAA"}`, unnamed(rsaPublic)}, "u", "u", errNoKey, errUnknownKey},
	} {
		t.Run(name, func(t *testing.T) {
			k := httptest.NewServer(answer(jwksOf(c.keys...)))
			defer k.Close()
			s := NewKeySet(JWKS, k.URL, slog.New(slog.DiscardHandler))
			if err := s.Fetch(t.Context()); err != nil {
				t.Fatal(err)
			}
			sign := func(alg string, key any, kid ...any) string {
				token := jwt.NewWithClaims(methodFor(alg), jwt.MapClaims{"sub": "u", "exp": time.Now().Add(time.Hour).Unix()})
				if kid != nil {
					token.Header["kid"] = kid[0]
				}
				return must(token.SignedString(key))
			}
			v := verifierOf(t, s)
			for _, token := range []struct {
				token string
				want  any
			}{
				{sign("RS256", rsaKey()), c.rs256}, {sign("PS256", rsaKey()), c.ps256}, {sign("ES256", p256Key()), c.es256},
				{sign("RS256", rsaKey(), "k"), c.named}, {sign("RS256", rsaKey(), ""), errKeyID},
				{sign("RS256", rsaKey(), "unknown"), errUnknownKey},
			} {
				wantToken(t, v, token.token, token.want)
			}
		})
	}
}

// A key without a name that was replaced is noticed by the first token of the new key, as a
// new name would be. While the issuer cannot be asked, such a token is neither good nor bad.
func TestKeySetNoticesReplacedKeyWithoutName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		before, after := rsaKey(), must(rsa.GenerateKey(rand.Reader, 2048))
		k, s, _ := newKeyServer(t, unnamed(before.Public()))
		v := verifierOf(t, s)
		s.Start()
		synctest.Wait()
		sign := func(key *rsa.PrivateKey) string {
			return must(jwt.NewWithClaims(jwt.SigningMethodRS256, jwt.MapClaims{"sub": "u", "exp": time.Now().Add(24 * time.Hour).Unix()}).SignedString(key))
		}
		wantToken(t, v, sign(before), "u")
		time.Sleep(time.Minute)
		k.serve(answer(jwksOf(unnamed(after.Public()))))
		wantToken(t, v, sign(after), "u")
		if n := k.asked.Load(); n != 2 {
			t.Errorf("asked %d times, want 2", n)
		}
		wantToken(t, v, sign(before), errSignature) // the keys are too new to ask again

		time.Sleep(time.Minute)
		k.serve(hang)
		wantToken(t, v, sign(before), ErrNoKeys)
		wantToken(t, v, sign(after), "u")
		time.Sleep(time.Minute)
		k.serve(answer(jwksOf(unnamed(after.Public()))))
		time.Sleep(time.Minute)
		synctest.Wait()
		wantToken(t, v, sign(before), errSignature)
		asked := k.asked.Load()
		for range 100 { // forged tokens cost one fetch in ten seconds, as unknown names do
			wantToken(t, v, sign(before), errSignature)
			time.Sleep(100 * time.Millisecond)
		}
		if n := k.asked.Load() - asked; n > 2 {
			t.Errorf("asked %d times within ten seconds", n)
		}
	})
}
