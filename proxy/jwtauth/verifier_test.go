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
	"encoding/base64"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

var (
	secret = []byte("0123456789abcdef0123456789abcdef")
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

// signerFor is the private key for an algorithm other than HS*.
func signerFor(alg string) crypto.Signer {
	if k, ok := privateKey[alg]; ok {
		return k()
	}
	return privateKey[alg[:2]]()
}

// good accepts HS256 at noon, without leeway.
func good() Options {
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

// sign makes a token of the two texts as they are, with HS256 whatever they say.
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

func request(fields ...string) *http.Request {
	r := &http.Request{Header: http.Header{}}
	if fields != nil {
		r.Header["Authorization"] = fields
	}
	return r
}

// check verifies and compares: either want is nil, or the error is want.
func check(t *testing.T, v *Verifier, r *http.Request, id Identity, want *Error) {
	t.Helper()
	got, err := v.Verify(r)
	if want == nil {
		if err != nil {
			t.Errorf("refused: %v", err)
		} else if got.User != id.User || got.Plan != id.Plan || !got.Expires.Equal(id.Expires) {
			t.Errorf("got %+v, want %+v", got, id)
		}
		return
	}
	if e, ok := err.(*Error); !ok || e != want {
		t.Errorf("got error %v, want: %v", err, want)
	}
	if got != (Identity{}) {
		t.Errorf("an identity beside the error: %+v", got)
	}
}

func TestAuthorization(t *testing.T) {
	v := newVerifier(t, good())
	token := sign(hs256, `{"sub":"u",`+expires+`}`)
	u := Identity{User: "u", Expires: noon.Add(time.Minute)}
	for name, c := range map[string]struct {
		fields []string
		want   *Error
	}{
		"good":                      {[]string{"Bearer " + token}, nil},
		"scheme in lower case":      {[]string{"bearer " + token}, nil},
		"scheme in mixed case":      {[]string{"bEARER " + token}, nil},
		"several spaces":            {[]string{"Bearer   " + token}, nil},
		"no field":                  {nil, errNoToken},
		"another scheme":            {[]string{"Basic dTpw"}, errNoToken},
		"a scheme that begins so":   {[]string{"BearerToken " + token}, errNoToken},
		"a token alone":             {[]string{token}, errNoToken},
		"two fields":                {[]string{"Bearer " + token, "Bearer " + token}, errSeveralFields},
		"two fields, one empty":     {[]string{"", "Bearer " + token}, errSeveralFields},
		"two fields, another first": {[]string{"Basic dTpw", "Bearer " + token}, errSeveralFields},
		"empty":                     {[]string{""}, errField},
		"a comma":                   {[]string{", Bearer " + token}, errField},
		"the word alone":            {[]string{"Bearer"}, errField},
		"the word and a space":      {[]string{"Bearer "}, errField},
		"a tab":                     {[]string{"Bearer\t" + token}, errField},
		"a space after":             {[]string{"Bearer " + token + " "}, errField},
		"two tokens":                {[]string{"Bearer " + token + " " + token}, errField},
		"two in a list":             {[]string{"Bearer " + token + ",Bearer " + token}, errField},
		"the word twice":            {[]string{"Bearer Bearer " + token}, errField},
		"a line break after":        {[]string{"Bearer " + token + "\r\n"}, errField},
	} {
		t.Run(name, func(t *testing.T) { check(t, v, request(c.fields...), u, c.want) })
	}
	t.Run("elsewhere", func(t *testing.T) {
		r, err := http.NewRequest("POST", "/?access_token="+token, strings.NewReader("access_token="+token))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Proxy-Authorization", "Bearer "+token)
		r.Header.Set("Cookie", "Authorization=Bearer "+token)
		check(t, v, r, Identity{}, errNoToken)
	})
}

func TestLength(t *testing.T) {
	v := newVerifier(t, good())
	// The claims grow in steps of three bytes; their header brings what is left over.
	for header := hs256; len(header) < len(hs256)+3; header += " " {
		claims := `{"sub":"u",` + expires + `,"x":"`
		rest := 8192 - len(sign(header, claims+`"}`))
		for fill := rest*3/4 - 4; fill < rest*3/4+4; fill++ {
			token := sign(header, claims+strings.Repeat("x", fill)+`"}`)
			var want *Error
			if len(token) > 8192 {
				want = errTooLong
			}
			check(t, v, request("Bearer "+token), Identity{User: "u", Expires: noon.Add(time.Minute)}, want)
		}
	}
	check(t, v, request("Bearer "+strings.Repeat(".", 1<<20)), Identity{}, errTooLong)
}

func TestParts(t *testing.T) {
	v := newVerifier(t, good())
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
		want  *Error
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
			id := Identity{User: "u", Expires: noon.Add(time.Minute)}
			if name == "the other alphabet" {
				id.User = "??>"
				if !strings.ContainsAny(c.token, "_-") {
					t.Fatal("the token does not need the alphabet")
				}
			}
			check(t, v, request("Bearer "+c.token), id, c.want)
		})
	}
	// bearer refuses these; base64 would not.
	for _, b := range []string{"\n", "\r", "\r\n"} {
		if _, err := v.signedClaims(t.Context(), parts[0]+"."+parts[1]+b+"."+parts[2]); err != errBase64 {
			t.Errorf("a line break: %v", err)
		}
	}
}

func TestHeader(t *testing.T) {
	v := newVerifier(t, good())
	attacker := ecKey(elliptic.P256())
	for header, want := range map[string]*Error{
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
			check(t, v, request("Bearer "+token), Identity{User: "u", Expires: noon.Add(time.Minute)}, want)
		})
	}
	t.Run("none, not signed", func(t *testing.T) {
		for _, alg := range []string{"none", "None", "nOnE", "NONE"} {
			token := encode(`{"alg":"`+alg+`"}`) + "." + encode(`{"sub":"u",`+expires+`}`) + "."
			check(t, v, request("Bearer "+token), Identity{}, errSignature)
		}
	})
	t.Run("a key that the token brings", func(t *testing.T) {
		v := newVerifier(t, optionsFor("ES256"))
		point := must(attacker.PublicKey.Bytes())
		token := jwt.NewWithClaims(jwt.SigningMethodES256, jwt.MapClaims{"sub": "u", "exp": noon.Unix() + 60})
		token.Header["jwk"] = map[string]string{"kty": "EC", "crv": "P-256", "x": encode(string(point[1:33])), "y": encode(string(point[33:]))}
		check(t, v, request("Bearer "+must(token.SignedString(attacker))), Identity{}, errSignature)
	})
}

// The type of a token is a media type (RFC 7515, section 4.1.9).
func TestType(t *testing.T) {
	for _, c := range []struct {
		typ, header string
		want        *Error
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
			o := good()
			o.Type = c.typ
			header := strings.TrimSuffix(`{"alg":"HS256",`+c.header, ",") + "}"
			check(t, newVerifier(t, o), request("Bearer "+sign(header, `{"sub":"u",`+expires+`}`)),
				Identity{User: "u", Expires: noon.Add(time.Minute)}, c.want)
		})
	}
}

func TestClaims(t *testing.T) {
	id := func(user, plan string) Identity {
		return Identity{User: user, Plan: plan, Expires: noon.Add(time.Minute)}
	}
	for _, c := range []struct {
		claims string // after exp
		id     Identity
		want   *Error
	}{
		{`"sub":"u"`, id("u", ""), nil},
		{`"sub":"u","plan":"pro"`, id("u", "pro"), nil},
		{`"sub":"u","plan":""`, id("u", ""), nil},
		{`"sub":"u","iss":7,"aud":7,"jti":[],"PLAN":7,"Sub":8`, id("u", ""), nil},
		{`"sub":"Zo\u00eb \ud83d\ude00"`, id("Zoë 😀", ""), nil},
		{`"sub":"Zoë 😀"`, id("Zoë 😀", ""), nil},
		{`"sub":"\ufffd"`, id("\ufffd", ""), nil},
		{`"sub":"a\\ud800"`, id(`a\ud800`, ""), nil},
		{`"sub":"` + strings.Repeat("x", 256) + `"`, id(strings.Repeat("x", 256), ""), nil},
		{`"sub":"` + strings.Repeat("é", 128) + `"`, id(strings.Repeat("é", 128), ""), nil},
		{`"sub":"` + strings.Repeat("x", 257) + `"`, Identity{}, errUser},
		{`"sub":"` + strings.Repeat("é", 128) + `x"`, Identity{}, errUser},
		{`"plan":"pro"`, Identity{}, errNoUser},
		{`"SUB":"u"`, Identity{}, errNoUser},
		{`"Sub":"u"`, Identity{}, errNoUser},
		{`"ſub":"u"`, Identity{}, errNoUser}, // folds to sub
		{`"sub":""`, Identity{}, errUser},
		{`"sub":null`, Identity{}, errUser},
		{`"sub":17`, Identity{}, errUser},
		{`"sub":true`, Identity{}, errUser},
		{`"sub":["u"]`, Identity{}, errUser},
		{`"sub":{"sub":"u"}`, Identity{}, errUser},
		{`"sub":"a\nb"`, Identity{}, errUser},
		{`"sub":"a\r"`, Identity{}, errUser},
		{`"sub":"\u0000"`, Identity{}, errUser},
		{`"sub":"a\tb"`, Identity{}, errUser},
		{`"sub":"a\u007f"`, Identity{}, errUser},
		{`"sub":"a\u0085"`, Identity{}, errUser},
		{`"sub":"a\u009f"`, Identity{}, errUser},
		{`"sub":"a\u2028b"`, Identity{}, errUser},
		{"\"sub\":\"a\u2029b\"", Identity{}, errUser},
		{`"sub":"u","plan":null`, Identity{}, errPlan},
		{`"sub":"u","plan":1`, Identity{}, errPlan},
		{`"sub":"u","plan":["pro"]`, Identity{}, errPlan},
		{`"sub":"u","plan":{"name":"pro"}`, Identity{}, errPlan},

		{`"sub":"u","sub":"v"`, Identity{}, errClaims},
		{`"sub":"u","sub":"u"`, Identity{}, errClaims},
		{`"sub":"u","su\u0062":"v"`, Identity{}, errClaims},
		{`"sub":"u","exp":1800000090`, Identity{}, errClaims},
		{`"sub":"u","x":{"y":[{"z":1,"z":1}]}`, Identity{}, errClaims},
		{`"sub":"\ud800"`, Identity{}, errClaims},
		{`"sub":"\ud800\u0041"`, Identity{}, errClaims},
		{`"sub":"\ude00\ud83d"`, Identity{}, errClaims},
		{"\"sub\":\"a\xffb\"", Identity{}, errClaims},
		{"\"sub\":\"a\nb\"", Identity{}, errClaims}, // a bare line break is no JSON
		{`"sub":"u","x":` + nested(maxDepth-1), id("u", ""), nil},
		{`"sub":"u","x":` + nested(maxDepth), Identity{}, errClaims},
		{`"sub":"u"} {"x":1`, Identity{}, errClaims},
		{`"sub":"u"}, {"x":1`, Identity{}, errClaims},
	} {
		t.Run(c.claims[:min(len(c.claims), 40)], func(t *testing.T) {
			token := sign(hs256, `{`+expires+`,`+c.claims+`}`)
			check(t, newVerifier(t, good()), request("Bearer "+token), c.id, c.want)
		})
	}
}

func TestClaimPaths(t *testing.T) {
	o := good()
	o.UserClaim, o.PlanClaim = "app.user.id", "app.plan"
	v := newVerifier(t, o)
	id := func(user, plan string) Identity {
		return Identity{User: user, Plan: plan, Expires: noon.Add(time.Minute)}
	}
	for claims, c := range map[string]struct {
		id   Identity
		want *Error
	}{
		`"app":{"user":{"id":"u"},"plan":"pro"}`:           {id("u", "pro"), nil},
		`"app":{"user":{"id":"u"}}`:                        {id("u", ""), nil},
		`"app":{"user":{"id":"u"}},"sub":"v","plan":"pro"`: {id("u", ""), nil},
		`"sub":"u"`:                                       {Identity{}, errNoUser},
		`"app":{}`:                                        {Identity{}, errNoUser},
		`"app":{"user":{"ID":"u"}}`:                       {Identity{}, errNoUser},
		`"App":{"user":{"id":"u"}}`:                       {Identity{}, errNoUser},
		`"app.user.id":"u"`:                               {Identity{}, errNoUser},
		`"app":{"user":"u"}`:                              {Identity{}, errUser},
		`"app":[{"user":{"id":"u"}}]`:                     {Identity{}, errUser},
		`"app":null`:                                      {Identity{}, errUser},
		`"app":{"user":{"id":7}}`:                         {Identity{}, errUser},
		`"app":{"user":{"id":"u"},"plan":{}}`:             {Identity{}, errPlan},
		`"app":{"user":{"id":"u","id":"v"}}`:              {Identity{}, errClaims},
		`"app":{"user":{"id":"u"}},"app":{"user":{}}`:     {Identity{}, errClaims},
		`"app":{"user":{"id":"u"},"user":{"id":"v"}}`:     {Identity{}, errClaims},
		`"app":{"user":{"id":"u"},"\u0070lan":"","plan":`: {Identity{}, errClaims},
	} {
		t.Run(claims, func(t *testing.T) {
			check(t, v, request("Bearer "+sign(hs256, `{`+expires+`,`+claims+`}`)), c.id, c.want)
		})
	}
	o.UserClaim, o.PlanClaim = "sub", "sub.plan"
	check(t, newVerifier(t, o), request("Bearer "+sign(hs256, `{"sub":"u",`+expires+`}`)), Identity{}, errPlan)
}

// Paths to claims whose names have dots, which is what issuers do who want a name of
// their own: a URL.
func TestClaimNamesWithDots(t *testing.T) {
	id := func(user, plan string) Identity {
		return Identity{User: user, Plan: plan, Expires: noon.Add(time.Minute)}
	}
	for _, c := range []struct {
		user, plan string // paths
		claims     string
		id         Identity
		want       *Error
	}{
		{"", `https://example\.com/plan`, `"sub":"u","https://example.com/plan":"pro"`, id("u", "pro"), nil},
		{"", `https://example\.com/plan`, `"sub":"u","https://example":{"com/plan":"pro"}`, id("u", ""), nil},
		{`https://example\.com/user\.id`, "", `"https://example.com/user.id":"u"`, id("u", ""), nil},
		{`https://issuer\.example/claims.user`, "", `"https://issuer.example/claims":{"user":"u"}`, id("u", ""), nil},
		{`issuer\.example.user`, `issuer\.example.plan`, `"issuer.example":{"user":"u","plan":"pro"}`, id("u", "pro"), nil},
		{`issuer\.example.user`, "", `"issuer":{"example":{"user":"u"}}`, Identity{}, errNoUser},
		{`app.user`, "", `"app.user":"u"`, Identity{}, errNoUser},
		{`app\.user`, "", `"app":{"user":"u"}`, Identity{}, errNoUser},
		{`a\\b`, "", `"a\\b":"u"`, id("u", ""), nil},
		{`a\\.b`, "", `"a\\":{"b":"u"}`, id("u", ""), nil},
		{`a\\\.b`, "", `"a\\.b":"u"`, id("u", ""), nil},
	} {
		o := good()
		o.UserClaim, o.PlanClaim = c.user, c.plan
		t.Run(c.user+" "+c.plan+" "+c.claims, func(t *testing.T) {
			check(t, newVerifier(t, o), request("Bearer "+sign(hs256, `{`+expires+`,`+c.claims+`}`)), c.id, c.want)
		})
	}
}

func TestTimes(t *testing.T) {
	const second, leeway = time.Second, 5 * time.Second
	for _, c := range []struct {
		claims string
		at     time.Duration // after noon, 1,800,000,000 s
		leeway time.Duration
		want   *Error
	}{
		// Not on or after exp (RFC 7519, section 4.1.4).
		{`"exp":1800000000`, -1, 0, nil},
		{`"exp":1800000000`, 0, 0, errExpired},
		{`"exp":1800000000`, leeway - 1, leeway, nil},
		{`"exp":1800000000`, leeway, leeway, errExpired},
		{`"exp":1800000000.5`, second/2 - 1, 0, nil},
		{`"exp":1800000000.5`, second / 2, 0, errExpired},
		{`"exp":18e8`, -1, 0, nil},
		{`"exp":18e8`, 0, 0, errExpired},
		{`"exp":0`, 0, 0, errExpired},
		{`"exp":253402300799`, 0, 0, nil},
		// Not before nbf (4.1.5), which may be now.
		{expires + `,"nbf":1800000000`, 0, 0, nil},
		{expires + `,"nbf":1800000000`, -1, 0, errNotYet},
		{expires + `,"nbf":1800000000`, -leeway, leeway, nil},
		{expires + `,"nbf":1800000000`, -leeway - 1, leeway, errNotYet},
		{expires + `,"nbf":1800000000.5`, second / 2, 0, nil},
		{expires + `,"nbf":1800000000.5`, second/2 - 1, 0, errNotYet},
		{expires + `,"nbf":0`, 0, 0, nil},
		// Not issued later than now.
		{expires + `,"iat":1800000000`, 0, 0, nil},
		{expires + `,"iat":1800000000`, -1, 0, errIssuedLate},
		{expires + `,"iat":1800000000`, -leeway, leeway, nil},
		{expires + `,"iat":1800000000`, -leeway - 1, leeway, errIssuedLate},
		// Of several faults the first.
		{`"exp":1,"nbf":1900000000,"iat":1900000000`, 0, 0, errExpired},
		{expires + `,"nbf":1900000000,"iat":1900000000`, 0, 0, errNotYet},

		{`"x":1`, 0, 0, errNoExpiry},
		{`"EXP":1800000060`, 0, 0, errNoExpiry},
		{`"exp":null`, 0, 0, errTime},
		{`"exp":"1800000060"`, 0, 0, errTime},
		{`"exp":[1800000060]`, 0, 0, errTime},
		{`"exp":true`, 0, 0, errTime},
		{`"exp":-1`, 0, 0, errTime},
		{`"exp":1800000060000`, 0, 0, errTime}, // milliseconds
		{`"exp":253402300800`, 0, 0, errTime},
		{`"exp":1e300`, 0, 0, errTime},
		{`"exp":1e400`, 0, 0, errTime},
		{`"exp":9223372036854775808`, 0, 0, errTime},
		{expires + `,"nbf":"0"`, 0, 0, errTime},
		{expires + `,"nbf":null`, 0, 0, errTime},
		{expires + `,"nbf":-1e300`, 0, 0, errTime},
		{expires + `,"nbf":1e19`, 0, 0, errTime},
		{expires + `,"iat":"0"`, 0, 0, errTime},
		{expires + `,"iat":null`, 0, 0, errTime},
		{expires + `,"iat":{}`, 0, 0, errTime},
		{`"exp":NaN`, 0, 0, errClaims},
		{`"exp":01800000060`, 0, 0, errClaims},
		{`"exp":0x7fffffff`, 0, 0, errClaims},
	} {
		t.Run(fmt.Sprint(c.claims, " at ", c.at, " leeway ", c.leeway), func(t *testing.T) {
			o := good()
			o.Leeway, o.Now = c.leeway, func() time.Time { return noon.Add(c.at) }
			_, err := newVerifier(t, o).Verify(request("Bearer " + sign(hs256, `{"sub":"u",`+c.claims+`}`)))
			if got, _ := err.(*Error); got != c.want {
				t.Errorf("got error %v, want: %v", err, c.want)
			}
		})
	}
}

func TestExpires(t *testing.T) {
	o := good()
	o.Leeway = time.Minute
	for exp, want := range map[string]time.Time{
		"1800000060":   noon.Add(time.Minute),
		"1800000060.5": noon.Add(time.Minute + time.Second/2),
		"253402300799": time.Date(9999, time.December, 31, 23, 59, 59, 0, time.UTC),
	} {
		token := sign(hs256, `{"sub":"u","exp":`+exp+`}`)
		check(t, newVerifier(t, o), request("Bearer "+token), Identity{User: "u", Expires: want}, nil)
	}
}

func TestIssuerAndAudience(t *testing.T) {
	const issuer, audience = "https://issuer.example", "analysis"
	for _, c := range []struct {
		issuer, audience string
		claims           string
		want             *Error
	}{
		{issuer, "", `"iss":"https://issuer.example"`, nil},
		{issuer, "", `"iss":"https://issuer.example/"`, errIssuer},
		{issuer, "", `"iss":"https://ISSUER.example"`, errIssuer},
		{issuer, "", `"iss":"https://issuer.example.evil"`, errIssuer},
		{issuer, "", `"iss":["https://issuer.example"]`, errIssuer},
		{issuer, "", `"ISS":"https://issuer.example"`, errIssuer},
		{issuer, "", `"iss":""`, errIssuer},
		{issuer, "", `"iss":null`, errIssuer},
		{issuer, "", `"iss":7`, errIssuer},
		{issuer, "", `"x":1`, errIssuer},
		{"", audience, `"aud":"analysis"`, nil},
		{"", audience, `"aud":["analysis"]`, nil},
		{"", audience, `"aud":["other","analysis"]`, nil},
		{"", audience, `"aud":"other"`, errAudience},
		{"", audience, `"aud":"Analysis"`, errAudience},
		{"", audience, `"aud":"analysis other"`, errAudience},
		{"", audience, `"aud":[]`, errAudience},
		{"", audience, `"aud":""`, errAudience},
		{"", audience, `"aud":[""]`, errAudience},
		{"", audience, `"aud":["analysis",7]`, errAudience},
		{"", audience, `"aud":{"analysis":1}`, errAudience},
		{"", audience, `"aud":null`, errAudience},
		{"", audience, `"aud":7`, errAudience},
		{"", audience, `"AUD":"analysis"`, errAudience},
		{"", audience, `"x":1`, errAudience},
		{issuer, audience, `"iss":"https://issuer.example","aud":"analysis"`, nil},
		{issuer, audience, `"iss":"https://issuer.example","aud":"other"`, errAudience},
		{issuer, audience, `"iss":"other","aud":"analysis"`, errIssuer},
	} {
		t.Run(c.claims, func(t *testing.T) {
			o := good()
			o.Issuer, o.Audience = c.issuer, c.audience
			_, err := newVerifier(t, o).Verify(request("Bearer " + sign(hs256, `{"sub":"u",`+expires+`,`+c.claims+`}`)))
			if got, _ := err.(*Error); got != c.want {
				t.Errorf("got error %v, want: %v", err, c.want)
			}
		})
	}
}

// TestErrors: an error's challenge is one field value in RFC 6750's characters.
func TestErrors(t *testing.T) {
	for want, e := range map[string]*Error{
		`Bearer realm="metergate"`: errNoToken,
		`Bearer realm="metergate", error="invalid_request", error_description="there must be one Authorization field, not several"`: errSeveralFields,
		`Bearer realm="metergate", error="invalid_token", error_description="the token has expired"`:                                errExpired,
	} {
		if got := e.Challenge(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	seen := map[string]bool{}
	for _, e := range reasons {
		if seen[e.Error()] {
			t.Errorf("two errors say %q", e)
		}
		seen[e.Error()] = true
		for _, r := range e.Error() { // RFC 6750, section 3
			if r < ' ' || r > '~' || r == '"' || r == '\\' {
				t.Errorf("%q in %q", r, e)
			}
		}
	}
}

var reasons = []*Error{
	errNoToken, errSeveralFields, errField, errTooLong, errParts, errBase64, errHeader, errCritical, errType, errNoKeyID, errKeyID, errUnknownKey, errSignature, errClaims, errTime,
	errNoExpiry, errExpired, errNotYet, errIssuedLate, errIssuer, errAudience, errRefused, errNoUser, errUser, errPlan,
}

func TestConcurrent(t *testing.T) {
	v := newVerifier(t, good())
	var wait sync.WaitGroup
	for i := range 8 {
		user := fmt.Sprint("u-", i)
		r := request("Bearer " + sign(hs256, `{"sub":"`+user+`",`+expires+`}`))
		wait.Go(func() {
			for range 200 {
				if id, err := v.Verify(r); err != nil || id.User != user {
					t.Errorf("got %q, %v, want %q", id.User, err, user)
				}
			}
		})
	}
	wait.Wait()
}

// nested is an array in arrays: depth levels.
func nested(depth int) string { return strings.Repeat("[", depth) + strings.Repeat("]", depth) }
