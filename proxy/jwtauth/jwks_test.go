package jwtauth

import (
	"crypto/ecdh"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"math/big"
	"runtime"
	"strings"
	"testing"

	"github.com/MicahParks/jwkset"

	"metergate/proxy/jwtauth/jwtrules"
)

// The keys that can verify signatures are used. One odd key does not
// make the others unusable.
func TestParseKeySetKeepsUsableKeys(t *testing.T) {
	rsaPublic, ecPublic, edPublic := rsaKey().Public(), p256Key().Public(), edKey().Public()
	small := must(rsa.GenerateKey(rand.Reader, 1024)).Public()
	x25519 := must(ecdh.X25519().GenerateKey(rand.Reader)).PublicKey()
	private := must(jwkset.NewJWKFromKey(p256Key(), jwkset.JWKOptions{
		Marshal: jwkset.JWKMarshalOptions{Private: true}, Metadata: jwkset.JWKMetadataOptions{KID: "k"},
	})).Marshal()
	coordinate := strings.Repeat("A", 43) // the point (0, 0) is on no curve
	for name, c := range map[string]struct {
		key  string
		want string // the reason; empty: it is used
	}{
		"RSA":                     {jwk("k", rsaPublic), ""},
		"RSA of 1024 bits":        {jwk("k", small), "the RSA key has 1024 bits; it must have at least 2048"},
		"RSA of 1024 bits, PS":    {jwk("k", small, `"alg":"PS256"`), "the RSA key has 1024 bits; it must have at least 2048"},
		"RSA of 16384 bits":       {rsaOf(16384), ""},
		"RSA of 16385 bits":       {rsaOf(16385), "the RSA key has 16385 bits; it may have at most 16384"},
		"RSA of 400,000 bits":     {rsaOf(400_000), "it may have at most 65536"},
		"64 KiB of certificates":  {jwk("k", rsaPublic, `"x5c":["`+strings.Repeat("A", 1<<16)+`"]`), "it may have at most 65536"},
		"a member twice":          {jwk("k", rsaPublic, `"use":"enc"`, `"use":"sig"`), "not written as RFC 7517 requires"},
		"a member within twice":   {jwk("k", rsaPublic, `"x":{"a":1,"a":1}`), "not written as RFC 7517 requires"},
		"not Unicode":             {jwk("k", rsaPublic, "\"x-own\":\"\xff\""), "not written as RFC 7517 requires"},
		"RSA, an even exponent":   {strings.Replace(jwk("k", rsaPublic), `"e":"AQAB"`, `"e":"Ag"`, 1), "odd"},
		"RSA, an exponent of 1":   {strings.Replace(jwk("k", rsaPublic), `"e":"AQAB"`, `"e":"AQ"`, 1), `"e" is out of range`},
		"RSA, an even modulus":    {`{"kty":"RSA","kid":"k","n":"` + strings.Repeat("AAAA", 85) + `","e":"AQAB"}`, "odd"},
		"RSA, a long exponent":    {strings.Replace(jwk("k", rsaPublic), `"e":"AQAB"`, `"e":"AQAAAAAAAQAB"`, 1), "E in marshal"},
		"RSA without a modulus":   {`{"kty":"RSA","kid":"k","e":"AQAB"}`, `requires parameters "n" and "e"`},
		"P-256":                   {jwk("k", ecPublic), ""},
		"P-384":                   {jwk("k", p384Key().Public()), ""},
		"P-521":                   {jwk("k", p521Key().Public()), ""},
		"P-224":                   {`{"kty":"EC","kid":"k","crv":"P-224","x":"AAAA","y":"AAAA"}`, "unsupported curve"},
		"secp256k1":               {`{"kty":"EC","kid":"k","crv":"secp256k1","x":"` + coordinate + `","y":"` + coordinate + `"}`, "unsupported curve"},
		"not on the curve":        {`{"kty":"EC","kid":"k","crv":"P-256","x":"` + coordinate + `","y":"` + coordinate + `"}`, "not on the specified curve"},
		"the wrong curve":         {jwk("k", p384Key().Public(), `"alg":"ES256"`), "on the curve P-256, and the public key is an EC key on the curve P-384"},
		"the wrong kind":          {jwk("k", ecPublic, `"alg":"RS256"`), "needs an RSA key"},
		"Ed25519":                 {jwk("k", edPublic), ""},
		"Ed25519, by its name":    {named25519("k", "Ed25519"), ""},
		"Ed25519 without an alg":  {strings.Replace(jwk("k", edPublic), `"alg":"EdDSA",`, "", 1), ""},
		"Ed25519 for Ed448":       {named25519("k", "Ed448"), `its alg "Ed448" is not known`},
		"RSA for Ed25519":         {jwk("k", rsaPublic, `"alg":"Ed25519"`), "needs an Ed25519 key"},
		"Ed25519, short":          {`{"kty":"OKP","kid":"k","crv":"Ed25519","x":"AAAA"}`, "should be 32 bytes"},
		"X25519":                  {jwk("k", x25519), "agreement"},
		"Ed448":                   {`{"kty":"OKP","kid":"k","crv":"Ed448","x":"AAAA"}`, "unsupported curve"},
		"a secret":                {`{"kty":"oct","kid":"k","k":"` + coordinate + `"}`, "a secret (oct)"},
		"a secret for HS256":      {`{"kty":"oct","kid":"k","alg":"HS256","k":"` + coordinate + `"}`, "a secret (oct)"},
		"a private key":           {jwk("k", ecPublic, `"d":"`+private.D+`"`), "a private key"},
		"of no kind":              {`{"kid":"k"}`, "unsupported key"},
		"of a new kind":           {`{"kty":"AKP","kid":"k","alg":"ML-DSA-44","pub":"AAAA"}`, "not known"},
		"for signatures":          {jwk("k", rsaPublic, `"use":"sig"`), ""},
		"for encryption":          {jwk("k", rsaPublic, `"use":"enc"`), `its use is "enc"`},
		"for something else":      {jwk("k", rsaPublic, `"use":"SIG"`), `its use is "SIG"`},
		"to verify":               {jwk("k", rsaPublic, `"key_ops":["verify"]`), ""},
		"to verify and more":      {jwk("k", rsaPublic, `"key_ops":["x-own","verify"]`), ""},
		"to encrypt":              {jwk("k", rsaPublic, `"key_ops":["encrypt","wrapKey"]`), "key_ops"},
		"to sign":                 {jwk("k", rsaPublic, `"key_ops":["sign"]`), "key_ops"},
		"to do nothing":           {jwk("k", rsaPublic, `"key_ops":[]`), "key_ops"},
		"alg":                     {jwk("k", rsaPublic, `"alg":"RS512"`), ""},
		"alg of HMAC":             {jwk("k", rsaPublic, `"alg":"HS256"`), "needs a secret"},
		"alg none":                {jwk("k", rsaPublic, `"alg":"none"`), `its alg "none" is not known`},
		"alg for encryption":      {jwk("k", rsaPublic, `"alg":"RSA-OAEP"`), `its alg "RSA-OAEP" is not known`},
		"alg in lower case":       {jwk("k", rsaPublic, `"alg":"rs256"`), `its alg "rs256" is not known`},
		"no kid":                  {unnamed(rsaPublic), ""},
		"an empty kid":            {jwk("", rsaPublic), ""},
		"a number as kid":         {strings.Replace(jwk("k", rsaPublic), `"kid":"k"`, `"kid":7`, 1), "not written as RFC 7517 requires"},
		"a long kid":              {jwk(strings.Repeat("k", 257), rsaPublic), "its kid has more than 256 bytes"},
		"a kid of 256 bytes":      {jwk(strings.Repeat("k", 256), rsaPublic), ""},
		"x5u":                     {jwk("k", rsaPublic, `"x5u":"http://127.0.0.1:1/certificate"`), ""},
		"x5c that is none":        {jwk("k", rsaPublic, `"x5c":["AAAA"]`, `"x5t":"AAAA"`), ""},
		"members of other makers": {jwk("k", rsaPublic, `"issuer":"https://issuer.example"`, `"iat":1`), ""},
		"no object":               {`"k"`, "not written as RFC 7517 requires"},
		"null":                    {`null`, "not written as RFC 7517 requires"},
	} {
		t.Run(name, func(t *testing.T) {
			keys, others, err := parseKeySet([]byte(jwksOf(jwk("first", ecPublic), c.key, jwk("last", edPublic))))
			if err != nil {
				t.Fatal(err)
			}
			used := len(keys) == 3 && len(others) == 0
			if len(keys) < 2 || keys[0].Marshal().KID != "first" || keys[len(keys)-1].Marshal().KID != "last" {
				t.Errorf("the other keys are not there: %d", len(keys))
			}
			switch {
			case c.want == "" && !used:
				t.Errorf("it is not used: %v", others)
			case c.want != "" && (used || len(others) != 1 || !strings.Contains(others[0].reason.Error(), c.want)):
				t.Errorf("used %v, %v, want reason: %s", used, others, c.want)
			}
		})
	}
}

// rsaOf writes an RSA key with a modulus of this many bits.
func rsaOf(bits int) string {
	n := new(big.Int).SetBit(big.NewInt(1), bits-1, 1)
	return `{"kty":"RSA","kid":"k","n":"` + encode(string(n.Bytes())) + `","e":"AQAB"}`
}

// A set has at most 256 keys. Members that mean nothing cost nothing, whatever is in them.
func TestParseKeySetBoundsNumbers(t *testing.T) {
	ofKeys := func(n int) []byte {
		keys := make([]any, n)
		for i := range keys {
			keys[i] = named{fmt.Sprint(i), edKey()}
		}
		return []byte(jwksOf(keys...))
	}
	if keys, unusable, err := parseKeySet(ofKeys(256)); err != nil || len(keys) != 256 || unusable != nil {
		t.Errorf("256 keys: %d, %v, %v", len(keys), unusable, err)
	}
	if keys, _, err := parseKeySet(ofKeys(257)); err == nil || keys != nil || !strings.Contains(err.Error(), "more than 256 keys") {
		t.Errorf("257 keys: %d, error %v", len(keys), err)
	}
	many := strings.Repeat(`{"a":0},`, maxResponseBytes/8-100)
	for name, c := range map[string]struct{ text, want string }{
		"very many keys":     {`{"keys":[` + many + `{}]}`, "more than 256 keys"},
		"a member of others": {`{"x":[` + many + `{}],` + strings.TrimPrefix(jwksOf(edC()), "{"), ""},
		"one huge key":       {`{"keys":[{"kid":"k","x":[` + many + `{}]}]}`, ""},
	} {
		text := []byte(c.text)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := parseKeySet(text)
		runtime.ReadMemStats(&after)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: error %v, want: %s", name, err, c.want)
		}
		if took := after.TotalAlloc - before.TotalAlloc; took > 10<<20 {
			t.Errorf("%s: %d bytes of memory for a text of %d", name, took, len(text))
		}
	}
}

// Of two keys with the same name none is used, unless both verify the same tokens or each is
// for another algorithm.
func TestParseKeySetDropsAmbiguousKeyIDs(t *testing.T) {
	a, b := rsaKey().Public(), p256Key().Public()
	for name, c := range map[string]struct {
		keys []any
		want int
	}{
		"two":                      {[]any{jwk("k", a), jwk("k", b)}, 0},
		"two of one kind":          {[]any{jwk("k", b), jwk("k", ecKey(p256Key().Curve).Public())}, 0},
		"three":                    {[]any{jwk("k", a), jwk("k", a), jwk("k", b)}, 0},
		"one twice":                {[]any{jwk("k", a), jwk("k", a)}, 1},
		"one twice, said more":     {[]any{jwk("k", a), jwk("k", a, `"use":"sig"`, `"key_ops":["verify"]`)}, 1},
		"one for two algs":         {[]any{jwk("k", a, `"alg":"RS256"`), jwk("k", a, `"alg":"PS256"`)}, 2},
		"two for two algs":         {[]any{jwk("k", a, `"alg":"RS256"`), jwk("k", b, `"alg":"ES256"`)}, 2},
		"two for one of two algs":  {[]any{jwk("k", b, `"alg":"ES256"`), jwk("k", a, `"alg":"RS256"`), jwk("k", ecKey(p256Key().Curve).Public(), `"alg":"ES256"`)}, 0},
		"one with and without alg": {[]any{jwk("k", a, `"alg":"RS256"`), jwk("k", a)}, 0},
		"one by two names":         {[]any{named25519("k", "EdDSA"), named25519("k", "Ed25519")}, 1},
		"one for signatures":       {[]any{jwk("k", a, `"use":"enc"`), jwk("k", b)}, 1},
		"one that cannot be used":  {[]any{`{"kty":"oct","kid":"k","k":"AAAA"}`, jwk("k", b)}, 1},
		"two without a name":       {[]any{unnamed(a), unnamed(b)}, 2},
		"one twice, no name":       {[]any{unnamed(a), unnamed(a, `"use":"sig"`)}, 1},
		"one with and without":     {[]any{jwk("k", a), unnamed(a)}, 2},
		"two names":                {[]any{jwk("k", a), jwk("K", a)}, 2},
		"two, and one of its own":  {[]any{jwk("k", a), jwk("k", b), jwk("l", b)}, 1},
	} {
		keys, others, err := parseKeySet([]byte(jwksOf(c.keys...)))
		if err != nil || len(keys) != c.want || len(keys) == 0 && len(others) == 0 {
			t.Errorf("%s: %d keys, %v, %v, want %d", name, len(keys), others, err, c.want)
		}
	}
}

// FuzzParseKeySet checks that a response is refused, or that each key has a name of its own
// or none, is public, and verifies an algorithm that New knows.
func FuzzParseKeySet(f *testing.F) {
	for _, key := range []string{
		jwk("a", rsaKey().Public(), `"use":"sig"`, `"alg":"RS256"`), jwk("b", p256Key().Public()), jwk("c", p521Key().Public()),
		jwk("d", edKey().Public(), `"key_ops":["verify"]`, `"x5u":"http://127.0.0.1:1/"`), `{"kty":"oct","kid":"e","k":"AAAA"}`,
		`{"kty":"RSA","kid":"f","n":"AQ","e":"AQ"}`, `{"kty":"EC","kid":"g","crv":"P-256","x":"_____________________________________________w","y":"AA"}`,
		`{"kty":"OKP","kid":"h","crv":"X25519","x":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}`, `null`, `{"kid":7}`,
	} {
		f.Add([]byte(jwksOf(key)))
		f.Add([]byte(jwksOf(key, jwk("a", rsaKey().Public()))))
	}
	f.Add([]byte(`{"keys":[]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, _, err := parseKeySet(text)
		if err != nil && keys != nil {
			t.Fatal("keys beside an error")
		}
		seen := map[string]bool{}
		for _, k := range keys {
			kid, name := k.Marshal().KID, k.Marshal().KID+" "+string(k.Marshal().ALG)
			if len(kid) > 256 || kid != "" && seen[name] {
				t.Errorf("the kid %q", kid)
			}
			seen[name] = true
			verifies := false
			for name := range methods {
				alg := k.Marshal().ALG.String()
				verifies = verifies || (alg == "" || alg == name) && jwtrules.CheckKeyFor(name, k.Key()) == nil
			}
			if !verifies {
				t.Errorf("no algorithm for %T", k.Key())
			}
		}
	})
}
