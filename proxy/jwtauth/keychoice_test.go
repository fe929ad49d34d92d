package jwtauth

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha512"
	"fmt"
	"log/slog"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// Only the kid chooses between the issuer's keys.
func TestVerifyChoosesKeyByKeyID(t *testing.T) {
	k := httptest.NewServer(answer(jwksOf(
		rsaA(), ecB(), edC(), named{"p384", p384Key()},
		jwk("ps", rsaKey().Public(), `"alg":"PS256"`, `"use":"sig"`, `"key_ops":["verify"]`),
		named25519("ed", "Ed25519"))))
	defer k.Close()
	s := NewKeySet(k.URL, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if err := s.Fetch(t.Context()); err != nil {
		t.Fatal(err)
	}
	file := ecKey(p256Key().Curve) // the file's key
	both := Options{KeySet: s, Secret: secret, PublicKeyPEM: publicPEM(file.Public()), Algorithms: []string{"HS256", "RS256", "PS256", "ES256", "ES384", "EdDSA"}}
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
	publicRSA := publicPEM(rsaKey().Public())
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
		"no name":                           {signed("RS256", rsaKey()), errNoKeyID, errNoKeyID},
		"no name, but KID":                  {signed("RS256", rsaKey(), "KID", "a"), errNoKeyID, errNoKeyID},
		"an empty name":                     {signed("RS256", rsaKey(), "kid", ""), errKeyID, errKeyID},
		"null":                              {signed("RS256", rsaKey(), "kid", nil), errKeyID, errKeyID},
		"a number":                          {signed("RS256", rsaKey(), "kid", 7), errKeyID, errKeyID},
		"a list":                            {signed("RS256", rsaKey(), "kid", []string{"a"}), errKeyID, errKeyID},
		"a long name":                       {signed("RS256", rsaKey(), "kid", strings.Repeat("a", 257)), errKeyID, errKeyID},
		"the file's key":                    {signed("ES256", file), "u", errNoKeyID},
		"the file's key, under a name":      {signed("ES256", file, "kid", "file"), errUnknownKey, errUnknownKey},
		"the file's key, under another's":   {signed("ES256", file, "kid", "b"), errSignature, errSignature},
		"an issuer's key, without its name": {signed("ES256", p256Key()), errSignature, errNoKeyID},
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
		wantToken(t, v, signed("RS256", rsaKey()), errNoKeyID)
		wantToken(t, v, signed("EdDSA", edKey()), errNoKeyID)
	})
}
