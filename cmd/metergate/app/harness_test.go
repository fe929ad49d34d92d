package app

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"metergate/config"
	"metergate/quota/testkit"
)

// A settings is what tests change in a configuration.
type settings struct {
	listen, admin string // default: a free port
	dir           string // of the embedded store
	upstream      string // URL of the target
	health        string // of the upstream: "{ path: /health, interval: 100ms }"; empty: no checks
	jwt           string // what stands within auth.jwt; empty: testkit.Secret
	limit         int    // requests a month of the plan free
	more          string // other settings
}

// yaml returns a configuration with one upstream, to which everything is forwarded.
func (s settings) yaml() string {
	for value, byDefault := range map[*string]string{
		&s.listen: "127.0.0.1:0", &s.admin: "127.0.0.1:0", &s.dir: "data", &s.jwt: fmt.Sprintf("secret: %q, algorithms: [HS256]", testkit.Secret),
	} {
		if *value == "" {
			*value = byDefault
		}
	}
	if s.health != "" {
		s.health = ", health: " + s.health
	}
	return fmt.Sprintf(`
listen: %q
admin: { listen: %q }
shutdown_timeout: 5s
store: { url: "embedded:%s" }
auth: { jwt: { %s } }
default_plan: free
plans: { free: { limits: [{ requests: %d, per: month }] } }
upstreams: { api: { targets: [{ url: %q }], timeout: 20s%s } }
routes: [{ match: "/api/", endpoint: api, upstream: api }]
%s`, s.listen, s.admin, s.dir, s.jwt, s.limit, s.upstream, s.health, s.more)
}

// parse parses a configuration as if it stood in a folder.
func parse(t testing.TB, dir, text string) *config.Config {
	t.Helper()
	cfg, err := config.Parse(filepath.Join(dir, "gateway.yaml"), []byte(text), os.LookupEnv)
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// A target is an upstream's server. It counts its requests.
type target struct {
	*httptest.Server
	requests atomic.Int64
}

func newTarget(t testing.TB) *target {
	s := new(target)
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		io.Copy(io.Discard, r.Body)
	}))
	t.Cleanup(s.Close)
	return s
}

// A keyServer publishes the public key of a jwks_url, unless it is down. It counts its
// requests.
type keyServer struct {
	*httptest.Server
	key      *ecdsa.PrivateKey
	down     atomic.Bool
	requests atomic.Int64
}

func newKeyServer(t testing.TB) *keyServer {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	s := &keyServer{key: key}
	encode := base64.RawURLEncoding.EncodeToString
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.requests.Add(1)
		if s.down.Load() {
			http.Error(w, "down", http.StatusBadGateway)
			return
		}
		fmt.Fprintf(w, `{"keys":[{"kty":"EC","kid":"k","crv":"P-256","x":%q,"y":%q}]}`, encode(point[1:33]), encode(point[33:]))
	}))
	t.Cleanup(s.Close)
	return s
}

// jwt returns what stands within auth.jwt to use the server's keys.
func (s *keyServer) jwt() string { return fmt.Sprintf("jwks_url: %q, algorithms: [ES256]", s.URL) }

// pem returns the public key as a file has it.
func (s *keyServer) pem(t testing.TB) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(s.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
