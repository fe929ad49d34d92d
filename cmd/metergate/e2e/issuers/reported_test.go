package issuers

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// signWith signs as RS256, RS384 or RS512 does.
func (i *issuer) signWith(hash crypto.Hash) func(message []byte) []byte {
	return func(message []byte) []byte {
		h := hash.New()
		h.Write(message)
		signature, err := rsa.SignPKCS1v15(nil, i.rsa, hash, h.Sum(nil))
		if err != nil {
			panic(err)
		}
		return signature
	}
}

// Some issuers publish a key once for each algorithm, all under one kid
// (github.com/keycloak/keycloak/issues/14794 and 15616).
func TestKeysOfOneNameForSeveralAlgorithms(t *testing.T) {
	key := newIssuer(t, func(i *issuer) (keys []string) {
		for _, alg := range []string{"RS256", "RS512", "RS384"} {
			keys = append(keys, rsaJWK(i.rsa.N.Bytes(), fmt.Sprintf(`"kid":"k","use":"sig","alg":%q,`, alg)))
		}
		return keys
	})
	g := startFor(t, key, "RS256, RS512, PS256")
	wantUsage(t, g.URL, signToken(`{"alg":"RS256","kid":"k"}`, `{"sub":"u"}`, key.signWith(crypto.SHA256)), "free")
	wantUsage(t, g.URL, signToken(`{"alg":"RS512","kid":"k"}`, `{"sub":"u"}`, key.signWith(crypto.SHA512)), "free")
	wantUsage(t, g.URL, signToken(`{"alg":"RS384","kid":"k"}`, `{"sub":"u"}`, key.signWith(crypto.SHA384)), "") // not configured
	wantUsage(t, g.URL, signToken(`{"alg":"PS256","kid":"k"}`, `{"sub":"u"}`, key.signWith(crypto.SHA256)), "") // no key is for it
}

// A realm of Keycloak publishes a key for encryption beside the one for signatures
// (github.com/greenpau/caddy-security/issues/170). Other issuers leave use and alg out
// (github.com/keycloak/keycloak/issues/28004), or write a zero byte before the modulus
// (github.com/WrenSecurity/wrenam/pull/49).
func TestKeySetOfARealm(t *testing.T) {
	key := newIssuer(t, func(i *issuer) []string {
		return []string{
			rsaJWK(i.rsa.N.Bytes(), `"kid":"enc","use":"enc","alg":"RSA-OAEP","x5c":["AAAA"],"x5t":"AAAA",`),
			rsaJWK(i.rsa.N.Bytes(), `"kid":"sig","use":"sig","alg":"RS256","x5c":["AAAA"],"x5t#S256":"AAAA",`),
			rsaJWK(i.rsa.N.Bytes(), `"kid":"plain",`),
			rsaJWK(append([]byte{0}, i.rsa.N.Bytes()...), `"kid":"zero",`),
		}
	})
	g := startFor(t, key, "RS256")
	for kid, plan := range map[string]string{"sig": "free", "plain": "free", "zero": "free", "enc": ""} {
		wantUsage(t, g.URL, signToken(fmt.Sprintf(`{"alg":"RS256","kid":%q}`, kid), `{"sub":"u"}`, key.signRSA), plan)
	}
	g.WaitForText(`enc: its use is \"enc\", not sig`)
}

// RFC 7518, section 6.2.1.2, wants a coordinate with its zero bytes; one key in 128 of jjwt 0.12
// has a shorter one (github.com/jwtk/jjwt/issues/901).
func TestShortCoordinateIsTheSameKey(t *testing.T) {
	var private *ecdsa.PrivateKey
	var point []byte
	for point == nil || point[1] != 0 {
		var err error
		if private, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
		if point, err = private.PublicKey.Bytes(); err != nil {
			t.Fatal(err)
		}
	}
	short := new(big.Int).SetBytes(point[1:33]).Bytes()
	key := newIssuer(t, func(*issuer) []string {
		return []string{fmt.Sprintf(`{"kid":"k","kty":"EC","crv":"P-256","x":%q,"y":%q}`, encode(string(short)), encode(string(point[33:])))}
	})
	g := startFor(t, key, "ES256")
	wantUsage(t, g.URL, signToken(`{"alg":"ES256","kid":"k"}`, `{"sub":"u"}`, func(message []byte) []byte {
		h := crypto.SHA256.New()
		h.Write(message)
		r, s, err := ecdsa.Sign(rand.Reader, private, h.Sum(nil))
		if err != nil {
			panic(err)
		}
		return append(r.FillBytes(make([]byte, 32)), s.FillBytes(make([]byte, 32))...)
	}), "free")
}

// Claims that libraries disagree about, and what users see of them.
func TestReportedClaims(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := gatewaytest.StartWith(t, authYAML(upstream.URL, fmt.Sprintf("secret: %q", secret)))
	now := float64(time.Now().UnixMilli()) / 1000
	for _, c := range []struct{ name, claims, plan string }{
		// github.com/golang-jwt/jwt/pull/9, github.com/panva/openid-client/issues/263
		{"fractions", fmt.Sprintf(`{"sub":"u","exp":%.3f,"iat":%.3f,"nbf":%.3f}`, now+60, now-60, now-60), "free"},
		// github.com/go-jose/go-jose/pull/278: it was taken for a time that has passed
		{"a time that no clock shows", fmt.Sprintf(`{"sub":"u","exp":%.0f,"nbf":1e19}`, now+60), ""},
		{"times as texts", fmt.Sprintf(`{"sub":"u","exp":"%.0f"}`, now+60), ""}, // github.com/luraproject/lura/issues/462
		{"a number as user", fmt.Sprintf(`{"sub":17,"exp":%.0f}`, now+60), ""},  // github.com/jpadilla/pyjwt/issues/1017
	} {
		t.Run(c.name, func(t *testing.T) {
			message := encode(`{"alg":"HS256"}`) + "." + encode(c.claims)
			wantUsage(t, g.URL, message+"."+encode(string(hs256([]byte(message)))), c.plan)
		})
	}
	g.WaitForText("the claim sub (auth.jwt.claims.user) is a number")
}

// Without an audience, Auth0 encrypts its access tokens
// (github.com/auth0-samples/auth0-python-web-app/issues/68), and other issuers give out tokens
// that only they can read. The log says so.
func TestTokensThatCannotBeRead(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := gatewaytest.StartWith(t, authYAML(upstream.URL, fmt.Sprintf("secret: %q", secret)))
	wantUsage(t, g.URL, encode(`{"alg":"dir","enc":"A256GCM"}`)+"..AAAA.AAAA.AAAA", "")
	g.WaitForText("it has five, so it is encrypted (JWE)")
	wantUsage(t, g.URL, "gho_16C7e42F292c6912E7710c838347Ae178B4a", "")
	g.WaitForText("it has one, so only its issuer can read it")
}

// The usual mistakes with a jwks_url are named: the URL of the OpenID configuration, and
// that of Firebase's certificates.
func TestOtherDocumentsAreNotKeySets(t *testing.T) {
	upstream := gatewaytest.StartUpstream(t, "ok")
	for text, want := range map[string]string{
		`{"issuer":"https://i.example","jwks_uri":"https://i.example/keys","claims_supported":["sub"]}`: `the set is at its jwks_uri, \"https://i.example/keys\"`,
		`{"7cf7f8727091":"-----BEGIN CERTIFICATE-----\nMIID"}`:                                          "if it has them by their kids, configure it as x509_url",
	} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) }))
		t.Cleanup(server.Close)
		g := gatewaytest.StartWith(t, authYAML(upstream.URL, fmt.Sprintf("jwks_url: %q\nalgorithms: [RS256]", server.URL)))
		g.WaitForText(want)
		testkit.Eventually(t, "readyz names it", func() bool {
			status, body := gatewaytest.Get(g.Admin+"/readyz", "")
			return status == 503 && strings.Contains(body, want)
		})
	}
}
