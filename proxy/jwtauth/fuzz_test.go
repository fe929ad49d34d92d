package jwtauth

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"math/big"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"

	"metergate/proxy/credential"
)

// FuzzVerify checks that a token is refused for one of the reasons, or that it obeys all
// the rules, which the test checks without the code under test. With signed, the token is
// made of header and claims and signed; otherwise it is the text. What a
// Verifier remembers never changes its results. A Verifier that requires a type accepts the
// tokens of that type and no others.
func FuzzVerify(f *testing.F) {
	for _, s := range []struct{ header, claims string }{
		{hs256, `{"app":{"id":"u"},"plan":"pro",` + expires + `,"iss":"i","aud":"a"}`},
		{hs256, `{"app":{"id":"Zoë \ud83d\ude00"},"exp":1800000000.5,"nbf":18e8,"iat":1,"iss":"i","aud":["x","a"],"x":[[{}]]}`},
		{`{"alg":"HS256","typ":"at+jwt"}`, `{"app":{"id":"u"},` + expires + `,"iss":"i","aud":"a"}`},
		{`{"alg":"HS256","typ":"APPLICATION/AT+JWT"}`, `{"app":{"id":"u"},` + expires + `,"iss":"i","aud":"a"}`},
		{`{"alg":"HS256","typ":"JWT","kid":"k"}`, `{"app":{"id":"u","plan":1},"exp":1799999996,"iss":"i","aud":"a"}`},
		{`{"alg":"none"}`, `{"app":{"id":"u"},"exp":1e300,"iss":"i","aud":"a"}`},
		{`{"alg":"HS256","crit":["exp"]}`, `{"app":{"ID":"u"},"exp":"1800000060","iss":7,"aud":[]}`},
		{`{"alg":"HS256","alg":"none"}`, `{"app":{"id":"u","id":"v"},"app":null}`},
		{`{"alg":"HS256"}x`, `{"app":{"id":"a\u2028\n"},"plan":null,"exp":-1}`},
		{hs256, "{\"app\":{\"id\":\"\xff\\ud800\"}}"},
	} {
		f.Add("", []byte(s.header), []byte(s.claims), true, int64(-5e9))
		f.Add(sign(s.header, s.claims), []byte{}, []byte{}, false, int64(5e9))
		f.Add(sign(s.header, s.claims)+"=", []byte{}, []byte{}, false, int64(60e9))
	}
	for _, s := range []string{"", "a.b.c", "..", "a.b.c a.b.c", "a.b.c\n"} {
		f.Add(s, []byte{}, []byte{}, false, int64(0))
	}
	now := noon
	o := goodOptions()
	o.UserClaim, o.Issuer, o.Audience, o.Leeway, o.Now = "app.id", "i", "a", 5*time.Second, func() time.Time { return now }
	v := newVerifier(f, o)
	o.Type = "at+jwt"
	typed := newVerifier(f, o)
	f.Fuzz(func(t *testing.T, token string, header, claims []byte, signed bool, after int64) {
		if signed {
			token = sign(string(header), string(claims))
		}
		now = noon
		got, err := v.Verify(t.Context(), token)
		err = reasonOf(err)
		withType, typeErr := typed.Verify(t.Context(), token)
		typeErr = reasonOf(typeErr)
		if err != nil {
			if e, ok := err.(*credential.Error); !ok || !slices.Contains(reasons, e) || got != (credential.Identity{}) {
				t.Fatalf("got %+v and %#v", got, err)
			}
			if typeErr == nil || typeErr != err && typeErr != errType {
				t.Fatalf("with a type: %v, else %v", typeErr, err)
			}
			return
		}
		typ := obeysRules(t, token, got)
		if good := typ == "at+jwt" || typ == "application/at+jwt"; good != (typeErr == nil) || good && withType != got || !good && typeErr != errType {
			t.Errorf("the type %q: %+v, %v", typ, withType, typeErr)
		}
		now = noon.Add(time.Duration(after))
		var want credential.Identity
		_, d, wantErr := v.verify(t.Context(), token)
		if wantErr == nil {
			want = d.id
		}
		if again, err := v.Verify(t.Context(), token); again != want || reasonOf(err) != reasonOf(wantErr) {
			t.Errorf("after %v: %+v, %v; verified anew %+v, %v", time.Duration(after), again, err, want, wantErr)
		}
	})
}

var compactToken = regexp.MustCompile(`^([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)$`)

// decodeSigned returns the header and the claims of an accepted token, after checking its
// encoding and its signature.
func decodeSigned(t *testing.T, token string) (header, claims map[string]any) {
	t.Helper()
	m := compactToken.FindStringSubmatch(token)
	if m == nil || len(token) > 16384 {
		t.Fatalf("accepted the token %q", token)
	}
	var parts [3]string
	for i := range parts {
		b, err := base64.URLEncoding.DecodeString(m[i+1] + strings.Repeat("=", (4-len(m[i+1])%4)%4))
		if err != nil || strings.TrimRight(base64.URLEncoding.EncodeToString(b), "=") != m[i+1] {
			t.Fatalf("accepted the part %q, %v", m[i+1], err)
		}
		parts[i] = string(b)
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(m[1] + "." + m[2]))
	if string(mac.Sum(nil)) != parts[2] {
		t.Fatal("accepted a bad signature")
	}
	var objects [2]map[string]any
	for i := range objects {
		var err error
		if objects[i], err = lenient(parts[i]); err != nil || !utf8.ValidString(parts[i]) {
			t.Fatalf("accepted %q, %v", parts[i], err)
		}
	}
	return objects[0], objects[1]
}

// obeysRules checks an accepted token without the code under test. It returns the token's
// type with ASCII letters in lower case, empty if it has none.
func obeysRules(t *testing.T, token string, id credential.Identity) (typ string) {
	t.Helper()
	header, claims := decodeSigned(t, token)
	_, crit := header["crit"]
	if header["alg"] != "HS256" || crit {
		t.Errorf("accepted the header %v", header)
	}
	app, _ := claims["app"].(map[string]any)
	user, ok := app["id"].(string)
	if !ok || user != id.User || user == "" || len(user) > 256 || !utf8.ValidString(user) {
		t.Errorf("the user is %q of %v", id.User, claims)
	}
	for _, r := range user {
		if unicode.Is(unicode.Cc, r) || unicode.Is(unicode.Zl, r) || unicode.Is(unicode.Zp, r) {
			t.Errorf("%q in the user %q", r, user)
		}
	}
	plan := claims["plan"]
	if plan == nil {
		plan = ""
	}
	if plan != id.Plan {
		t.Errorf("the plan is %q of %v", id.Plan, claims)
	}
	if claims["iss"] != "i" {
		t.Errorf("the issuer is %v", claims["iss"])
	}
	audience, ok := claims["aud"].([]any)
	if !ok {
		audience = []any{claims["aud"]}
	}
	if !slices.Contains(audience, any("a")) {
		t.Errorf("the audience is %v", audience)
	}
	seconds := func(name string) float64 {
		v, there := claims[name]
		n, ok := v.(interface{ String() string })
		if !there {
			return -1
		}
		if !ok {
			t.Fatalf("%s is %v", name, v)
		}
		f, _, err := big.ParseFloat(n.String(), 10, 53, big.ToNearestEven)
		if err != nil {
			t.Fatal(err)
		}
		s, _ := f.Float64()
		return s
	}
	// At this size a double is exact to 0.2 microseconds.
	now, exp := float64(noon.Unix()), seconds("exp")
	if exp < now-5 || seconds("nbf") > now+5.000001 || seconds("iat") > now+5.000001 {
		t.Errorf("accepted the times of %v", claims)
	}
	if d := float64(id.Expires.UnixMicro())/1e6 - exp; d > 1e-5 || d < -1e-5 {
		t.Errorf("expires at %v of %v", id.Expires, exp)
	}
	typ, _ = header["typ"].(string)
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}, typ)
}
