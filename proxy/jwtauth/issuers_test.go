package jwtauth

import (
	"crypto"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/golang-jwt/jwt/v5"

	"metergate/proxy/credential"
)

const (
	issA = "https://a.example/"
	issB = "https://b.example/"
	issC = "c"
)

// threeIssuers are: A with RS256 and the claim sub, B with EdDSA, an audience and another claim,
// and C with a secret.
func threeIssuers(t testing.TB) (a, b, c *Issuer) {
	t.Helper()
	now := func() time.Time { return noon }
	issuers := make([]*Issuer, 3)
	for i, o := range []Options{
		{Name: "a", Path: "auth.jwt[0]", Issuer: issA, PublicKeyPEM: publicPEM(rsaKey().Public()), Algorithms: []string{"RS256"}, Now: now},
		{Name: "b", Path: "auth.jwt[1]", Issuer: issB, PublicKeyPEM: publicPEM(edKey().Public()), Algorithms: []string{"EdDSA"}, Audience: "analysis", UserClaim: "uid", PlanClaim: "app.plan", OrgClaim: "org", Now: now},
		{Name: "c", Path: "auth.jwt[2]", Issuer: issC, Secret: secret, Algorithms: []string{"HS256"}, Now: now},
	} {
		var err error
		if issuers[i], err = NewIssuer(o); err != nil {
			t.Fatal(err)
		}
	}
	return issuers[0], issuers[1], issuers[2]
}

// signText signs two texts as they are, as alg does.
func signText(alg, header, claims string) string {
	text := encode(header) + "." + encode(claims)
	var key any = secret
	if !strings.HasPrefix(alg, "HS") {
		key = crypto.PrivateKey(signerFor(alg))
	}
	return text + "." + encode(string(must(methodFor(alg).Sign(text, key))))
}

// The iss of a token chooses its issuer, whose keys and rules then count, and no other's.
func TestIssuerJudgesOnlyItsOwnTokens(t *testing.T) {
	a, b, c := threeIssuers(t)
	v, err := NewVerifier(nil, a, b, c)
	if err != nil {
		t.Fatal(err)
	}
	const ed = `{"alg":"EdDSA"}`
	const rs = `{"alg":"RS256"}`
	id := func(issuer, user, plan, org string) credential.Identity {
		return credential.Identity{Issuer: issuer, User: user, Plan: plan, Org: org, Expires: noon.Add(time.Minute).UTC()}
	}
	refused := func(issuer string) credential.Identity { return credential.Identity{Issuer: issuer} }
	for name, c := range map[string]struct {
		token string
		id    credential.Identity
		want  error
	}{
		"of A":                        {signText("RS256", rs, `{"iss":"`+issA+`","sub":"u","plan":"pro",`+expires+`}`), id("a", "u", "pro", ""), nil},
		"of A, escaped":               {signText("RS256", rs, `{"iss":"https:\/\/a.example\u002f","sub":"u",`+expires+`}`), id("a", "u", "", ""), nil},
		"of B":                        {signText("EdDSA", ed, `{"iss":"`+issB+`","aud":["analysis"],"uid":"u","sub":"x","plan":"x","app":{"plan":"free"},"org":"acme",`+expires+`}`), id("b", "u", "free", "acme"), nil},
		"of B, of RFC 9864":           {signText("EdDSA", `{"alg":"Ed25519"}`, `{"iss":"`+issB+`","aud":"analysis","uid":"u",`+expires+`}`), id("b", "u", "", ""), nil},
		"of C":                        {signText("HS256", hs256, `{"iss":"c","sub":"u","org":"no claim of C's",`+expires+`}`), id("c", "u", "", ""), nil},
		"by A's key, for B":           {signText("RS256", rs, `{"iss":"`+issB+`","aud":"analysis","uid":"u",`+expires+`}`), refused("b"), errSignature},
		"by B's key, for A":           {signText("EdDSA", ed, `{"iss":"`+issA+`","sub":"u",`+expires+`}`), refused("a"), errSignature},
		"by C's secret, for A":        {signText("HS256", hs256, `{"iss":"`+issA+`","sub":"u",`+expires+`}`), refused("a"), errSignature},
		"by C's secret, as A's alg":   {signText("HS256", rs, `{"iss":"`+issA+`","sub":"u",`+expires+`}`), refused("a"), errSignature},
		"B's without its audience":    {signText("EdDSA", ed, `{"iss":"`+issB+`","uid":"u",`+expires+`}`), refused("b"), errAudience},
		"B's with A's claims":         {signText("EdDSA", ed, `{"iss":"`+issB+`","aud":"analysis","sub":"u",`+expires+`}`), refused("b"), errNoUser},
		"A's, expired":                {signText("RS256", rs, `{"iss":"`+issA+`","sub":"u","exp":1799999990}`), refused("a"), errExpired},
		"no issuer":                   {signText("RS256", rs, `{"sub":"u",`+expires+`}`), refused(""), errIssuer},
		"null":                        {signText("RS256", rs, `{"iss":null,"sub":"u",`+expires+`}`), refused(""), errIssuer},
		"empty":                       {signText("RS256", rs, `{"iss":"","sub":"u",`+expires+`}`), refused(""), errIssuer},
		"a number":                    {signText("RS256", rs, `{"iss":7,"sub":"u",`+expires+`}`), refused(""), errIssuer},
		"a list":                      {signText("RS256", rs, `{"iss":["`+issA+`"],"sub":"u",`+expires+`}`), refused(""), errIssuer},
		"an object":                   {signText("RS256", rs, `{"iss":{"iss":"`+issA+`"},"sub":"u",`+expires+`}`), refused(""), errIssuer},
		"without its slash":           {signText("RS256", rs, `{"iss":"https://a.example","sub":"u",`+expires+`}`), refused(""), errIssuer},
		"in another case":             {signText("RS256", rs, `{"iss":"https://A.example/","sub":"u",`+expires+`}`), refused(""), errIssuer},
		"a space after":               {signText("RS256", rs, `{"iss":"`+issA+` ","sub":"u",`+expires+`}`), refused(""), errIssuer},
		"a zero byte after":           {signText("RS256", rs, `{"iss":"`+issA+`\u0000","sub":"u",`+expires+`}`), refused(""), errIssuer},
		"ISS":                         {signText("RS256", rs, `{"ISS":"`+issA+`","sub":"u",`+expires+`}`), refused(""), errIssuer},
		"of a stranger":               {signText("RS256", rs, `{"iss":"https://d.example/","sub":"u",`+expires+`}`), refused(""), errIssuer},
		"twice":                       {signText("RS256", rs, `{"iss":"`+issA+`","iss":"`+issB+`","sub":"u",`+expires+`}`), refused(""), errClaims},
		"twice the same":              {signText("RS256", rs, `{"iss":"`+issA+`","iss":"`+issA+`","sub":"u",`+expires+`}`), refused(""), errClaims},
		"twice, escaped":              {signText("RS256", rs, `{"iss":"`+issA+`","\u0069ss":"`+issB+`","sub":"u",`+expires+`}`), refused(""), errClaims},
		"claims that are not JSON":    {signText("RS256", rs, `iss`), refused(""), errClaims},
		"claims that are a list":      {signText("RS256", rs, `[{"iss":"`+issA+`"}]`), refused(""), errClaims},
		"something after the claims":  {signText("RS256", rs, `{"iss":"`+issA+`","sub":"u",`+expires+`}{}`), refused(""), errClaims},
		"bad Unicode":                 {signText("RS256", rs, `{"iss":"`+issA+`","sub":"\ud800",`+expires+`}`), refused(""), errClaims},
		"too deep":                    {signText("RS256", rs, `{"iss":"`+issA+`","sub":"u","x":`+nested(maxDepth)+`,`+expires+`}`), refused(""), errClaims},
		"iss in the header alone":     {signText("RS256", `{"alg":"RS256","iss":"`+issA+`"}`, `{"sub":"u",`+expires+`}`), refused(""), errIssuer},
		"another iss in the header":   {signText("RS256", `{"alg":"RS256","iss":"`+issB+`"}`, `{"iss":"`+issA+`","sub":"u",`+expires+`}`), id("a", "u", "", ""), nil},
		"none":                        {encode(`{"alg":"none"}`) + "." + encode(`{"iss":"`+issA+`","sub":"u",`+expires+`}`) + ".", refused("a"), errSignature},
		"an extension":                {signText("RS256", `{"alg":"RS256","crit":["exp"]}`, `{"iss":"`+issA+`","sub":"u",`+expires+`}`), refused("a"), errCritical},
		"a header that is not JSON":   {signText("RS256", `x`, `{"iss":"`+issA+`","sub":"u",`+expires+`}`), refused("a"), errHeader},
		"padding":                     {signText("RS256", rs, `{"iss":"`+issA+`","sub":"u",`+expires+`}`) + "=", refused(""), errBase64},
		"two parts":                   {encode(rs) + "." + encode(`{"iss":"`+issA+`"}`), refused(""), errParts},
		"more than 16 KiB of nothing": {strings.Repeat("a", 16385), refused(""), errTooLong},
	} {
		t.Run(name, func(t *testing.T) {
			for range 2 { // verified, and remembered
				got, err := v.Verify(t.Context(), c.token)
				if got != c.id || reasonOf(err) != c.want {
					t.Errorf("got %+v and %v, want %+v and %v", got, err, c.id, c.want)
				}
			}
		})
	}
	_, err = v.Verify(t.Context(), signText("RS256", rs, `{"iss":"https://d.example/"}`))
	if want := errIssuer.Error() + `: iss is "https://d.example/"; no entry of auth.jwt has this issuer`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
	_, err = v.Verify(t.Context(), signText("EdDSA", ed, `{"iss":"`+issB+`",`+expires+`}`))
	if want := errAudience.Error() + `: there is no claim aud; auth.jwt[1].audience is "analysis"`; err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestIssuersMustDiffer(t *testing.T) {
	a, b, _ := threeIssuers(t)
	o := Options{Path: "auth.jwt[2]", Secret: secret, Algorithms: []string{"HS256"}}
	without := must(NewIssuer(o))
	o.Issuer = issA
	same := must(NewIssuer(o))
	for want, issuers := range map[string][]*Issuer{
		"no issuer of tokens is given": nil,
		"auth.jwt[2]: one of several issuers needs the value that its tokens have as iss":      {a, without, b},
		`auth.jwt[0] and auth.jwt[2] are the same issuer, "https://a.example/"`:                {a, b, same},
		"auth.jwt[2]: one of several issuers needs the value that its tokens have as iss\x00b": {without, without},
	} {
		want, _, _ = strings.Cut(want, "\x00")
		if _, err := NewVerifier(nil, issuers...); err == nil || err.Error() != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := NewVerifier(nil, without); err != nil {
		t.Errorf("a single issuer without an iss: %v", err)
	}
}

// A new Verifier remembers the tokens of the issuers that it has taken over, and not those of the
// others. The one before goes on as it was.
func TestVerifierTakesOverTokensByIssuer(t *testing.T) {
	a, b, c := threeIssuers(t)
	_, otherB, _ := threeIssuers(t)
	tokens := []string{
		signText("RS256", `{"alg":"RS256"}`, `{"iss":"`+issA+`","sub":"u",`+expires+`}`),
		signText("EdDSA", `{"alg":"EdDSA"}`, `{"iss":"`+issB+`","aud":"analysis","uid":"u",`+expires+`}`),
		signText("HS256", hs256, `{"iss":"c","sub":"u",`+expires+`}`),
	}
	before := must(NewVerifier(nil, a, b, c))
	accepts := func(v *Verifier) (good [3]bool) {
		for i, token := range tokens {
			_, err := v.Verify(t.Context(), token)
			good[i] = err == nil
		}
		return good
	}
	if got := accepts(before); got != [3]bool{true, true, true} {
		t.Fatalf("accepted: %v", got)
	}
	// Without keys, only a token that is remembered is good.
	for _, i := range []*Issuer{a, b, c, otherB} {
		i.schemes = nil
	}
	if got := accepts(must(NewVerifier(before, a, otherB, c))); got != [3]bool{true, false, true} {
		t.Errorf("with another B, remembered: %v", got)
	}
	if got := accepts(must(NewVerifier(before, c, a))); got != [3]bool{true, false, true} {
		t.Errorf("without B, remembered: %v", got)
	}
	if got := accepts(must(NewVerifier(before, otherB))); got != [3]bool{} {
		t.Errorf("with another B alone, remembered: %v", got)
	}
	if got := accepts(before); got != [3]bool{true, true, true} {
		t.Errorf("by the Verifier before, remembered: %v", got)
	}
}

// The keys of an issuer are asked for by its tokens alone, and an issuer whose keys are not there
// leaves the others alone. New keys of an issuer end only its own verdicts.
func TestKeysOfIssuersAreApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ka, sa, _ := newKeyServer(t, rsaA())
		kb, sb, _ := newKeyServer(t, edC())
		issuer := func(iss string, s *KeySet) *Issuer {
			return must(NewIssuer(Options{Name: iss, Issuer: iss, KeySet: s, Algorithms: asymmetric}))
		}
		a, b := issuer(issA, sa), issuer(issB, sb)
		v := must(NewVerifier(nil, a, b))
		sign := func(k named, iss string) string {
			alg := map[bool]string{true: "RS256", false: "EdDSA"}[k.kid == "a"]
			token := jwt.NewWithClaims(methodFor(alg), jwt.MapClaims{"iss": iss, "sub": "u", "exp": time.Now().Add(24 * time.Hour).Unix()})
			token.Header["kid"] = k.kid
			return must(token.SignedString(k.key))
		}
		wants := func(token string, want error) {
			t.Helper()
			if _, err := v.Verify(t.Context(), token); reasonOf(err) != want {
				t.Errorf("got %v, want %v", err, want)
			}
		}
		kb.serve(hang)
		sa.Start()
		sb.Start()
		synctest.Wait()
		if sa.Missing() != nil || !sa.Asked() || sb.Missing() == nil || sb.Asked() {
			t.Fatalf("missing: %v and %v", sa.Missing(), sb.Missing())
		}
		wants(sign(rsaA(), issA), nil)
		start := time.Now()
		wants(sign(edC(), issB), ErrNoKeys)
		if took := time.Since(start); took != maxTokenWait {
			t.Errorf("a token of the issuer without keys waited %v", took)
		}
		start = time.Now()
		wants(sign(rsaA(), issA), nil)
		if took := time.Since(start); took != 0 {
			t.Errorf("a token of the other issuer waited %v", took)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if err := sb.Missing(); !sb.Asked() || err == nil || errors.Is(err, errNotFetched) {
			t.Errorf("a minute later, missing: %v", err)
		}
		kb.serve(answer(jwksOf(edC())))
		time.Sleep(time.Minute)
		synctest.Wait()
		tokenB := sign(edC(), issB)
		wants(tokenB, nil)

		// A stranger's token with an unknown kid makes nobody ask.
		askedA, askedB := ka.asked.Load(), kb.asked.Load()
		for range 10 {
			time.Sleep(time.Second * 15)
			wants(sign(named{"z", edKey()}, "https://d.example/"), errIssuer)
			synctest.Wait()
		}
		if ka.asked.Load() != askedA || kb.asked.Load() != askedB {
			t.Errorf("a stranger's token made the gateway ask for keys")
		}
		// One of A makes it ask A.
		wants(sign(named{"z", edKey()}, issA), errUnknownKey)
		if ka.asked.Load() != askedA+1 || kb.asked.Load() != askedB {
			t.Errorf("asked A %d and B %d times", ka.asked.Load()-askedA, kb.asked.Load()-askedB)
		}

		// B withdraws its key. What is remembered of A's tokens stays.
		tokenA := sign(rsaA(), issA)
		wants(tokenA, nil)
		kb.serve(answer(jwksOf(ecB())))
		time.Sleep(refreshEvery)
		synctest.Wait()
		schemes := a.schemes
		a.schemes = nil
		wants(tokenA, nil)
		a.schemes = schemes
		wants(tokenB, errUnknownKey)
	})
}

// FuzzIssuers checks that a token is only ever good by the issuer that its iss names.
func FuzzIssuers(f *testing.F) {
	a, b, c := threeIssuers(f)
	v, err := NewVerifier(nil, a, b, c)
	if err != nil {
		f.Fatal(err)
	}
	alone := map[string]*Verifier{}
	for name, i := range map[string]*Issuer{"a": a, "b": b, "c": c} {
		alone[name] = must(NewVerifier(nil, i))
	}
	for _, alg := range []string{"RS256", "EdDSA", "HS256"} {
		for _, iss := range []string{issA, issB, issC, "d"} {
			f.Add(alg, `{"alg":"`+alg+`"}`, fmt.Sprintf(`{"iss":%q,"aud":"analysis","sub":"u","uid":"u",%s}`, iss, expires))
		}
	}
	f.Fuzz(func(t *testing.T, alg, header, claims string) {
		if alg != "RS256" && alg != "EdDSA" && alg != "HS256" {
			return
		}
		token := signText(alg, header, claims)
		got, err := v.Verify(t.Context(), token)
		accepted := 0
		for name, one := range alone {
			want, err := one.Verify(t.Context(), token)
			if err == nil {
				accepted++
				if got != want || got.Issuer != name {
					t.Errorf("%s alone: %+v, all: %+v", name, want, got)
				}
			}
		}
		if accepted > 1 || accepted == 1 != (err == nil) {
			t.Errorf("accepted by %d issuers alone, and by all: %+v, %v", accepted, got, err)
		}
	})
}
