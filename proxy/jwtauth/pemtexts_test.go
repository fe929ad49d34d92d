package jwtauth

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// pemTexts writes a JSON object as Firebase does. The members are a name and its text in turn.
func pemTexts(members ...string) string {
	var b strings.Builder
	for i := 0; i < len(members); i += 2 {
		fmt.Fprintf(&b, ",%s:%s", must(json.Marshal(members[i])), must(json.Marshal(members[i+1])))
	}
	return "{" + strings.TrimPrefix(b.String(), ",") + "}"
}

// One odd text does not make the others unusable.
func TestParsePEMTextsKeepsUsableKeys(t *testing.T) {
	good := string(certificatePEM(rsaKey()))
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	private := string(pemOf("PRIVATE KEY", []byte("x")))
	for name, c := range map[string]struct {
		name, value string // value is JSON
		want        string // the reason; empty: it is used
	}{
		"a certificate of RSA":     {"k", string(must(json.Marshal(good))), ""},
		"a certificate of P-256":   {"k", string(must(json.Marshal(string(certificatePEM(p256Key()))))), ""},
		"a certificate of Ed25519": {"k", string(must(json.Marshal(string(certificatePEM(edKey()))))), ""},
		"a public key":             {"k", string(must(json.Marshal(string(publicPEM(p384Key().Public()))))), ""},
		"RSA of 1024 bits":         {"k", string(must(json.Marshal(string(certificatePEM(small))))), "the RSA key has 1024 bits"},
		"a private key":            {"k", string(must(json.Marshal(private))), "has a private key"},
		"two certificates":         {"k", string(must(json.Marshal(good + good))), "has several PEM blocks"},
		"a text":                   {"k", `"MIID"`, "has no PEM block"},
		"an empty text":            {"k", `""`, "has no PEM block"},
		"null":                     {"k", `null`, "it is not a PEM text"},
		"a number":                 {"k", `7`, "it is not a PEM text"},
		"a list":                   {"k", `[]`, "it is not a PEM text"},
		"an object":                {"k", `{}`, "it is not a PEM text"},
		"a long text":              {"k", `"` + strings.Repeat("A", 1<<16) + `"`, "it may have at most 65536"},
		"an empty name":            {"", string(must(json.Marshal(good))), "its name must have 1 to 256 bytes"},
		"a long name":              {strings.Repeat("k", 257), string(must(json.Marshal(good))), "its name must have 1 to 256 bytes"},
		"the longest name":         {strings.Repeat("k", 256), string(must(json.Marshal(good))), ""},
		"keys, as a name":          {"keys", string(must(json.Marshal(good))), ""},
	} {
		t.Run(name, func(t *testing.T) {
			text := fmt.Sprintf(`{"good":%s,%s:%s}`, must(json.Marshal(good)), must(json.Marshal(c.name)), c.value)
			keys, unusable, err := parsePEMTexts([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			wantKeys := 1
			if c.want == "" {
				wantKeys = 2
			}
			if len(keys) != wantKeys || len(unusable) != 2-wantKeys || keys[0].Marshal().KID != "good" {
				t.Fatalf("%d keys, %d unusable", len(keys), len(unusable))
			}
			if c.want != "" && !strings.Contains(unusable[0].reason.Error(), c.want) {
				t.Errorf("got %v, want %s", unusable[0].reason, c.want)
			}
		})
	}
}

func TestParsePEMTextsRefusesOtherDocuments(t *testing.T) {
	many := make([]string, 0, 514)
	for i := range 257 {
		many = append(many, fmt.Sprint("k", i), "x")
	}
	for text, want := range map[string]string{
		``:                          "not a JSON object",
		`[]`:                        "not a JSON object",
		`"x"`:                       "not a JSON object",
		`<html>`:                    "not a JSON object",
		`{"a":"x"`:                  "not a JSON object",
		`{"a"}`:                     "not a JSON object",
		`{"a":"x"}{}`:               "not one JSON object",
		`{"a":"x","a":"y"}`:         "ambiguous: a name is given twice",
		`{"a":"x","\u0061":"y"}`:    "ambiguous: a name is given twice",
		"{\"a\":\"\xff\"}":          "not valid Unicode",
		`{"\ud800":"x"}`:            "not valid Unicode",
		jwksOf(rsaA()):              "is a JSON Web Key Set; configure it as jwks_url",
		pemTexts(many...):           "more than 256 keys",
		pemTexts(many[:2]...):       "",
		pemTexts(many[:512]...):     "",
		` { "a" : "x" } ` + "\n":    "",
		`{"keys":"x"}`:              "",
		`{"x":{"y":[1,2,"three"]}}`: "",
	} {
		_, _, err := parsePEMTexts([]byte(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%.60s: %v, want %s", text, err, want)
		}
	}
}

// Keys of this form are fetched, replaced and kept as those of a JSON Web Key Set are.
func TestKeySetOfPEMTexts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		k, s, log := newKeyServer(t)
		s.form = X509
		k.serve(answer(pemTexts("a", string(certificatePEM(rsaKey())), "bad", "x")))
		s.Start()
		synctest.Wait()
		v := verifierOf(t, s)
		other := must(rsa.GenerateKey(rand.Reader, 2048))
		wantToken(t, v, signAs(rsaA(), "u"), "u")
		wantToken(t, v, signAs(named{"a", other}, "u"), errSignature)
		wantToken(t, v, signAs(named{"bad", rsaKey()}, "u"), errUnknownKey)
		if text := log.String(); !strings.Contains(text, "some are not used") || !strings.Contains(text, "bad: has no PEM block") {
			t.Errorf("the log is\n%s", text)
		}

		// A token with a new kid makes the KeySet ask again, at most every ten seconds.
		k.serve(answer(pemTexts("b", string(certificatePEM(other)))))
		time.Sleep(time.Minute)
		wantToken(t, v, signAs(named{"b", other}, "u"), "u")
		wantToken(t, v, signAs(rsaA(), "u"), errUnknownKey)
		asked := k.asked.Load()
		for range 100 {
			wantToken(t, v, signAs(rsaA(), "u"), errUnknownKey)
		}
		if n := k.asked.Load() - asked; n > 0 {
			t.Errorf("asked %d times for a kid that nobody has", n)
		}

		// What is no such object leaves the keys as they were.
		for _, body := range []string{`{}`, `[]`, `{"b":"x"}`, jwksOf(rsaA()), strings.Repeat(" ", 1<<20+1)} {
			k.serve(answer(body))
			time.Sleep(refreshEvery + time.Minute)
			synctest.Wait()
			if s.Fault() == nil {
				t.Errorf("%.20q is no fault", body)
			}
			wantToken(t, v, signAs(named{"b", other}, "v"), "v")
		}
		if strings.Contains(log.String(), plantedKey) {
			t.Error("the log shows the query")
		}
	})
}

// x5cOf writes a key with a certificate and no parameters.
func x5cOf(kid, kty string, members ...string) string {
	return `{"kid":"` + kid + `","kty":"` + kty + `",` + strings.Join(members, ",") + `}`
}

func x5c(keys ...crypto.Signer) string {
	var texts []string
	for _, key := range keys {
		block, _ := pem.Decode(certificatePEM(key))
		texts = append(texts, `"`+base64.StdEncoding.EncodeToString(block.Bytes)+`"`)
	}
	return `"x5c":[` + strings.Join(texts, ",") + `]`
}

// A key may be in its certificate alone. Beside parameters, a certificate has no meaning.
func TestKeysInCertificates(t *testing.T) {
	other := must(rsa.GenerateKey(rand.Reader, 2048))
	small := must(rsa.GenerateKey(rand.Reader, 1024))
	for name, c := range map[string]struct {
		key  string
		want string // the reason; empty: it is used
		of   crypto.Signer
	}{
		"RSA":                         {x5cOf("k", "RSA", x5c(rsaKey())), "", rsaKey()},
		"with an alg and a use":       {x5cOf("k", "RSA", `"alg":"RS256"`, `"use":"sig"`, `"x5t":"AAAA"`, x5c(rsaKey())), "", rsaKey()},
		"P-256":                       {x5cOf("k", "EC", x5c(p256Key())), "", p256Key()},
		"P-256, with its curve":       {x5cOf("k", "EC", `"crv":"P-256"`, x5c(p256Key())), "", p256Key()},
		"Ed25519":                     {x5cOf("k", "OKP", x5c(edKey())), "", edKey()},
		"the first of a chain":        {x5cOf("k", "RSA", x5c(rsaKey(), other, p256Key())), "", rsaKey()},
		"beside parameters":           {jwk("k", rsaKey().Public(), x5c(other)), "", rsaKey()},
		"beside a modulus":            {x5cOf("k", "RSA", `"n":"AQAB"`, x5c(rsaKey())), `requires parameters "n" and "e"`, nil},
		"RSA of 1024 bits":            {x5cOf("k", "RSA", x5c(small)), "the RSA key has 1024 bits", nil},
		"another kind":                {x5cOf("k", "RSA", x5c(p256Key())), "its certificate (x5c) has a key of another kind", nil},
		"another curve":               {x5cOf("k", "EC", `"crv":"P-384"`, x5c(p256Key())), "its certificate (x5c) has a key of another kind", nil},
		"no kind":                     {x5cOf("k", "", x5c(rsaKey())), "its certificate (x5c) has a key of another kind", nil},
		"an alg that does not fit":    {x5cOf("k", "RSA", `"alg":"ES256"`, x5c(rsaKey())), "needs an EC key", nil},
		"for encryption":              {x5cOf("k", "RSA", `"use":"enc"`, x5c(rsaKey())), `its use is "enc"`, nil},
		"no base64":                   {x5cOf("k", "RSA", `"x5c":["-_-_"]`), "its certificate (x5c) is not base64", nil},
		"a PEM text":                  {x5cOf("k", "RSA", `"x5c":[`+string(must(json.Marshal(string(certificatePEM(rsaKey())))))+`]`), "its certificate (x5c) is not base64", nil},
		"no certificate":              {x5cOf("k", "RSA", `"x5c":["AAAA"]`), "its certificate (x5c) cannot be read", nil},
		"no certificates":             {x5cOf("k", "RSA", `"x5c":[]`), `requires parameters "n" and "e"`, nil},
		"a URL of certificates alone": {x5cOf("k", "RSA", `"x5u":"http://127.0.0.1:1/"`), `requires parameters "n" and "e"`, nil},
	} {
		t.Run(name, func(t *testing.T) {
			keys, unusable, err := parseKeySet([]byte(jwksOf(c.key)))
			switch {
			case err != nil:
				t.Fatal(err)
			case c.want != "" && (len(unusable) != 1 || !strings.Contains(unusable[0].reason.Error(), c.want)):
				t.Errorf("%d keys, %v, want: %s", len(keys), unusable, c.want)
			case c.want == "" && (len(keys) != 1 || !sameKey(keys[0].Key(), c.of.Public())):
				t.Errorf("%d keys, %v", len(keys), unusable)
			}
		})
	}
}

// FuzzParsePEMTexts checks that whatever a key server sends, the keys are good ones with names of
// their own.
func FuzzParsePEMTexts(f *testing.F) {
	f.Add([]byte(pemTexts("a", string(certificatePEM(rsaKey())), "b", string(publicPEM(p256Key().Public())), "c", "x")))
	f.Add([]byte(`{"a":1,"a":2}`))
	f.Add([]byte(jwksOf(rsaA(), x5cOf("k", "RSA", x5c(rsaKey())))))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, unusable, err := parsePEMTexts(text)
		if err != nil && (keys != nil || unusable != nil) {
			t.Fatalf("%d and %d keys beside %v", len(keys), len(unusable), err)
		}
		names := map[string]bool{}
		for _, k := range keys {
			if kid := k.Marshal().KID; kid == "" || len(kid) > 256 || names[kid] {
				t.Errorf("a key is called %q", kid)
			}
			names[k.Marshal().KID] = true
		}
		if len(keys)+len(unusable) > 256 {
			t.Errorf("%d keys: %v", len(keys)+len(unusable), slices.Collect(maps.Keys(names)))
		}
	})
}
