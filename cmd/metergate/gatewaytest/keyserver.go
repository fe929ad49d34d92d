package gatewaytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
)

// A KeyServer publishes the public key of an issuer, unless it is down, and signs tokens
// with the private key.
type KeyServer struct {
	*httptest.Server
	Key      *ecdsa.PrivateKey
	Down     atomic.Bool  // answer 502
	Requests atomic.Int64 // so far
}

// StartKeyServer runs a key server with a new key.
func StartKeyServer(t testing.TB) *KeyServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	s := &KeyServer{Key: key}
	encode := base64.RawURLEncoding.EncodeToString
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.Requests.Add(1)
		if s.Down.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, `{"keys":[{"kty":"EC","kid":"k","crv":"P-256","x":%q,"y":%q}]}`, encode(point[1:33]), encode(point[33:]))
	}))
	t.Cleanup(s.Close)
	return s
}

// JWTSettings is what stands in auth.jwt of a configuration with this key server.
func (s *KeyServer) JWTSettings() string {
	return fmt.Sprintf("jwks_url: %q, algorithms: [ES256]", s.URL)
}

// Token signs a token that is valid for an hour and has no plan.
func (s *KeyServer) Token(user string) string { return s.Sign(jwt.MapClaims{"sub": user}) }

// Sign signs a token with these claims that is valid for an hour.
func (s *KeyServer) Sign(claims jwt.MapClaims) string {
	claims["exp"] = time.Now().Add(time.Hour).Unix()
	token := jwt.NewWithClaims(jwt.SigningMethodES256, claims)
	token.Header["kid"] = "k"
	signed, err := token.SignedString(s.Key)
	if err != nil {
		panic(err)
	}
	return signed
}
