package jwtauth

import (
	"crypto/elliptic"
	"encoding/base64"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"metergate/proxy/credential"
)

func TestVerifyRefusesMalformedParts(t *testing.T) {
	v := newVerifier(t, goodOptions())
	claims := `{"sub":"u",` + expires + `}`
	// The signature's last character carries two bits that must be 0: A to B sets one.
	token := sign(hs256, claims)
	last := strings.IndexByte("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", token[len(token)-1])
	if last%4 != 0 {
		t.Fatal("the last character has no unused bits")
	}
	parts := strings.Split(token, ".")
	signature := must(base64.RawURLEncoding.DecodeString(parts[2]))
	for name, c := range map[string]struct {
		token string
		want  *credential.Error
	}{
		"good":                    {token, nil},
		"garbage":                 {"abc", errParts},
		"two parts":               {parts[0] + "." + parts[1], errParts},
		"four parts":              {token + ".", errParts},
		"five parts, encrypted":   {"e30.e30.e30.e30.e30", errParts},
		"no signature":            {parts[0] + "." + parts[1] + ".", errSignature},
		"nothing but dots":        {"..", errHeader},
		"padding":                 {token + "=", errBase64},
		"padding of the header":   {signParts(base64.URLEncoding.EncodeToString([]byte(hs256+" ")), parts[1]), errBase64},
		"the other alphabet":      {sign(hs256, `{"sub":"??>",`+expires+`}`), nil},
		"a + in the claims":       {signParts(parts[0], strings.ReplaceAll(encode(`{"sub":"??>",`+expires+`}`), "_", "/")), errBase64},
		"bits that are not used":  {token[:len(token)-1] + string("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"[last+1]), errBase64},
		"a letter that is none":   {token + "%", errBase64},
		"a NUL":                   {token + "\x00", errBase64},
		"a signature cut":         {parts[0] + "." + parts[1] + "." + encode(string(signature[:31])), errSignature},
		"a signature longer":      {token + "AAAA", errSignature},
		"another signature":       {parts[0] + "." + parts[1] + "." + encode(strings.Repeat("x", 32)), errSignature},
		"other claims":            {parts[0] + "." + encode(`{"sub":"v",`+expires+`}`) + "." + parts[2], errSignature},
		"another header":          {encode(`{"alg":"HS256","x":1}`) + "." + parts[1] + "." + parts[2], errSignature},
		"bad claims, not signed":  {parts[0] + "." + encode("{") + "." + parts[2], errSignature},
		"bad claims, signed":      {sign(hs256, "{"), errClaims},
		"old claims, not signed":  {parts[0] + "." + encode(`{"sub":"u","exp":1}`) + "." + parts[2], errSignature},
		"claims in another shape": {sign(hs256, `[{"sub":"u",`+expires+`}]`), errClaims},
	} {
		t.Run(name, func(t *testing.T) {
			id := credential.Identity{User: "u", Expires: noon.Add(time.Minute)}
			if name == "the other alphabet" {
				id.User = "??>"
				if !strings.ContainsAny(c.token, "_-") {
					t.Fatal("the token does not need the alphabet")
				}
			}
			wantVerify(t, v, c.token, id, c.want)
		})
	}
	// bearerToken refuses these, base64 would not.
	for _, b := range []string{"\n", "\r", "\r\n"} {
		if _, err := parse(parts[0] + "." + parts[1] + b + "." + parts[2]); err != errBase64 {
			t.Errorf("a line break: %v", err)
		}
	}
}

func TestVerifyReadsHeaderStrictly(t *testing.T) {
	v := newVerifier(t, goodOptions())
	attacker := ecKey(elliptic.P256())
	for header, want := range map[string]*credential.Error{
		`{"alg":"HS256","typ":"JWT"}`:                        nil,
		` {"alg" : "HS256"} `:                                nil,
		`{"kid":"../../dev/null","alg":"HS256"}`:             nil,
		`{"alg":"HS256","kid":7,"x5u":["x"],"x5c":null}`:     nil,
		`{"alg":"HS256","jku":"http://127.0.0.1:1/keys"}`:    nil,
		`{"alg":"HS256","jwk":{"kty":"oct","k":"AAAA"}}`:     nil,
		`{"\u0061lg":"HS256"}`:                               nil,
		`{}`:                                                 errSignature,
		`{"ALG":"HS256"}`:                                    errSignature,
		`{"Alg":"HS256"}`:                                    errSignature,
		`{"alg":"hs256"}`:                                    errSignature,
		`{"alg":" HS256"}`:                                   errSignature,
		`{"alg":""}`:                                         errSignature,
		`{"alg":null}`:                                       errSignature,
		`{"alg":["HS256"]}`:                                  errSignature,
		`{"alg":256}`:                                        errSignature,
		`{"alg":"none"}`:                                     errSignature,
		`{"alg":"None"}`:                                     errSignature,
		`{"alg":"NONE"}`:                                     errSignature,
		`{"alg":"HS384"}`:                                    errSignature,
		`{"alg":"HS512"}`:                                    errSignature,
		`{"alg":"RS256"}`:                                    errSignature,
		`{"alg":"ES256"}`:                                    errSignature,
		`{"alg":"EdDSA"}`:                                    errSignature,
		`{"alg":"HS256","crit":["b64"],"b64":false}`:         errCritical,
		`{"alg":"HS256","crit":["exp"]}`:                     errCritical,
		`{"alg":"HS256","crit":[]}`:                          errCritical,
		`{"alg":"HS256","crit":null}`:                        errCritical,
		`{"alg":"none","alg":"HS256"}`:                       errHeader,
		`{"alg":"HS256","alg":"HS256"}`:                      errHeader,
		`{"alg":"HS256","\u0061lg":"none"}`:                  errHeader,
		`{"alg":"HS256","jwk":{"k":1,"k":2}}`:                errHeader,
		`{"alg":"HS256","x":[{"k":1,"k":2}]}`:                errHeader,
		`{"alg":"HS256"}{}`:                                  errHeader,
		`{"alg":"HS256"}x`:                                   errHeader,
		`{"alg":"HS256",}`:                                   errHeader,
		`{"alg":"HS256"`:                                     errHeader,
		`["alg","HS256"]`:                                    errHeader,
		`"HS256"`:                                            errHeader,
		`null`:                                               errHeader,
		``:                                                   errHeader,
		"{\"alg\":\"HS256\",\"x\":\"\xff\"}":                 errHeader,
		"\ufeff" + `{"alg":"HS256"}`:                         errHeader,
		`{"alg":"HS256","x":` + nested(maxDepth-1) + `}`:     nil,
		`{"alg":"HS256","x":` + nested(maxDepth) + `}`:       errHeader,
		`{"alg":"HS256","x":` + strings.Repeat("[", 2000):    errHeader,
		`{"alg":"HS256","x":` + strings.Repeat(`{"":`, 1000): errHeader,
	} {
		t.Run(header[:min(len(header), 40)], func(t *testing.T) {
			token := sign(header, `{"sub":"u",`+expires+`}`)
			wantVerify(t, v, token, credential.Identity{User: "u", Expires: noon.Add(time.Minute)}, want)
		})
	}
	t.Run("none, not signed", func(t *testing.T) {
		for _, alg := range []string{"none", "None", "nOnE", "NONE"} {
			token := encode(`{"alg":"`+alg+`"}`) + "." + encode(`{"sub":"u",`+expires+`}`) + "."
			wantVerify(t, v, token, credential.Identity{}, errSignature)
		}
	})
	t.Run("a key that the token brings", func(t *testing.T) {
		v := newVerifier(t, optionsFor("ES256"))
		point := must(attacker.PublicKey.Bytes())
		token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"sub": "u", "exp": noon.Unix() + 60})
		token.Header["jwk"] = map[string]string{"kty": "EC", "crv": "P-256", "x": encode(string(point[1:33])), "y": encode(string(point[33:]))}
		wantVerify(t, v, must(token.SignedString(attacker)), credential.Identity{}, errSignature)
	})
}

// The type of a token is a media type (RFC 7515, section 4.1.9).
func TestVerifyRequiresConfiguredType(t *testing.T) {
	for _, c := range []struct {
		typ, header string
		want        *credential.Error
	}{
		{"", ``, nil},
		{"", `"typ":7`, nil},
		{"", `"typ":"at+jwt"`, nil},
		{"at+jwt", `"typ":"at+jwt"`, nil},
		{"at+jwt", `"typ":"AT+JWT"`, nil},
		{"at+jwt", `"typ":"application/at+jwt"`, nil},
		{"at+jwt", `"typ":"Application/At+Jwt"`, nil},
		{"application/at+jwt", `"typ":"at+jwt"`, nil},
		{"APPLICATION/AT+JWT", `"typ":"at+jwt"`, nil},
		{"example/x", `"typ":"example/X"`, nil},
		{"jws", `"typ":"JWS"`, nil},
		{"at+jwt", ``, errType},
		{"at+jwt", `"TYP":"at+jwt"`, errType},
		{"at+jwt", `"typ":""`, errType},
		{"at+jwt", `"typ":null`, errType},
		{"at+jwt", `"typ":7`, errType},
		{"at+jwt", `"typ":["at+jwt"]`, errType},
		{"at+jwt", `"typ":"JWT"`, errType},
		{"at+jwt", `"typ":"at+jwt "`, errType},
		{"at+jwt", `"typ":"/at+jwt"`, errType},
		{"at+jwt", `"typ":"text/at+jwt"`, errType},
		{"at+jwt", `"typ":"application/application/at+jwt"`, errType},
		{"at+jwt", `"typ":"at+jwt;charset=utf-8"`, errType},
		{"at+jwt", `"cty":"at+jwt"`, errType},
		{"jws", `"typ":"jw\u017f"`, errType}, // folds to s
		{"example/x", `"typ":"x"`, errType},
		{"at+jwt", `"typ":"at+jwt","typ":"at+jwt"`, errHeader},
	} {
		t.Run(c.typ+" "+c.header, func(t *testing.T) {
			o := goodOptions()
			o.Type = c.typ
			header := strings.TrimSuffix(`{"alg":"HS256",`+c.header, ",") + "}"
			wantVerify(t, newVerifier(t, o), sign(header, `{"sub":"u",`+expires+`}`),
				credential.Identity{User: "u", Expires: noon.Add(time.Minute)}, c.want)
		})
	}
}

func TestVerifyIsSafeForConcurrentUse(t *testing.T) {
	v := newVerifier(t, goodOptions())
	var wait sync.WaitGroup
	for i := range 8 {
		user := fmt.Sprint("u-", i)
		token := sign(hs256, `{"sub":"`+user+`",`+expires+`}`)
		wait.Go(func() {
			for range 200 {
				if id, err := v.Verify(t.Context(), token); err != nil || id.User != user {
					t.Errorf("got %q, %v, want %q", id.User, err, user)
				}
			}
		})
	}
	wait.Wait()
}

func TestVerifyRefusesTokensOver16KiB(t *testing.T) {
	v := newVerifier(t, goodOptions())
	// The claims grow in steps of three bytes, and the header by single bytes.
	for header := hs256; len(header) < len(hs256)+3; header += " " {
		claims := `{"sub":"u",` + expires + `,"x":"`
		rest := 16384 - len(sign(header, claims+`"}`))
		for fill := rest*3/4 - 4; fill < rest*3/4+4; fill++ {
			token := sign(header, claims+strings.Repeat("x", fill)+`"}`)
			var want *credential.Error
			if len(token) > 16384 {
				want = errTooLong
			}
			wantVerify(t, v, token, credential.Identity{User: "u", Expires: noon.Add(time.Minute)}, want)
		}
	}
	wantVerify(t, v, strings.Repeat(".", 1<<20), credential.Identity{}, errTooLong)
}
