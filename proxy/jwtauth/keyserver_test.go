package jwtauth

import (
	"bytes"
	"context"
	"crypto"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/MicahParks/jwkset"
	"github.com/golang-jwt/jwt/v5"
)

// pipes is a listener without a network, so that tests can run in a synctest bubble.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

func newPipes() *pipes {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	return p
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error { p.close(); return nil }

func (p *pipes) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 80} }

func (p *pipes) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case p.conns <- theirs:
		return ours, nil
	case <-p.closed:
		return nil, syscallRefused
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

var syscallRefused = &net.OpError{Op: "dial", Net: "tcp", Err: fmt.Errorf("connection refused")}

// A keyServer is an issuer whose keys and faults a test can change.
type keyServer struct {
	*httptest.Server
	handler atomic.Pointer[http.HandlerFunc]
	asked   atomic.Int64
}

// plantedKey is in the query of the URL, and must not be shown anywhere.
const plantedKey = "planted-key-of-the-key-server"

// newKeyServer serves the keys. It must be called in a synctest bubble.
func newKeyServer(t *testing.T, keys ...any) (*keyServer, *KeySet, *logged) {
	k := new(keyServer)
	k.serve(answer(jwksOf(keys...)))
	p := newPipes()
	k.Server = &httptest.Server{Listener: p, Config: &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		k.asked.Add(1)
		(*k.handler.Load())(w, r)
	})}}
	k.Start()
	log := new(logged)
	s := NewKeySet(JWKS, "http://issuer.example/keys?key="+plantedKey, slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelDebug})))
	s.client.Transport.(*http.Transport).DialContext = p.dial
	t.Cleanup(func() {
		s.Retire()
		k.Close()
		s.client.CloseIdleConnections()
		synctest.Wait()
	})
	return k, s, log
}

func (k *keyServer) serve(h http.HandlerFunc) { k.handler.Store(&h) }

// A logged collects what is logged.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *logged) reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.text.Reset()
}

func answer(body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, body) }
}

// hang sends no response until the client is gone.
func hang(w http.ResponseWriter, r *http.Request) { <-r.Context().Done() }

// named is a key with its kid.
type named struct {
	kid string
	key crypto.Signer
}

// jwk writes a public key as RFC 7517 does, with additional members.
func jwk(kid string, key crypto.PublicKey, members ...string) string {
	j, err := jwkset.NewJWKFromKey(key, jwkset.JWKOptions{Metadata: jwkset.JWKMetadataOptions{KID: kid}})
	if err != nil {
		panic(err)
	}
	text := string(must(json.Marshal(j.Marshal())))
	return strings.TrimSuffix(text, "}") + strings.Join(append([]string{""}, members...), ",") + "}"
}

// named25519 writes the Ed25519 key with an alg.
func named25519(kid, alg string) string {
	return strings.Replace(jwk(kid, edKey().Public()), `"alg":"EdDSA"`, `"alg":"`+alg+`"`, 1)
}

// jwksOf writes a set of named keys and of keys that are texts already.
func jwksOf(keys ...any) string {
	var texts []string
	for _, k := range keys {
		switch k := k.(type) {
		case named:
			texts = append(texts, jwk(k.kid, k.key.Public()))
		case string:
			texts = append(texts, k)
		}
	}
	return `{"keys":[` + strings.Join(texts, ",") + `]}`
}

// signAs signs a token for a user with a key that its header names. It expires in a day.
func signAs(k named, user string) string {
	alg := map[string]string{"*rsa.PrivateKey": "RS256", "ed25519.PrivateKey": "EdDSA", "*ecdsa.PrivateKey": "ES256"}[fmt.Sprintf("%T", k.key)]
	token := jwt.NewWithClaims(jwt.GetSigningMethod(alg), jwt.MapClaims{"sub": user, "exp": time.Now().Add(24 * time.Hour).Unix()})
	token.Header["kid"] = k.kid
	return must(token.SignedString(k.key))
}

// asymmetric are the algorithms with keys that can be published.
var asymmetric = allAlgorithms[3:]

func verifierOf(t *testing.T, s *KeySet) *Verifier {
	t.Helper()
	return newVerifier(t, Options{KeySet: s, Algorithms: asymmetric})
}

// verifyToken verifies a token and returns the user or the error.
func verifyToken(v *Verifier, token string) any {
	id, err := v.Verify(context.Background(), token)
	if err != nil {
		return reasonOf(err)
	}
	return id.User
}

func wantToken(t *testing.T, v *Verifier, token string, want any) {
	t.Helper()
	if got := verifyToken(v, token); got != want {
		t.Errorf("got %v, want %v", got, want)
	}
}

var (
	rsaA = func() named { return named{"a", rsaKey()} }
	ecB  = func() named { return named{"b", p256Key()} }
	edC  = func() named { return named{"c", edKey()} }
)
