package app

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
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

// publicKeyPEM returns the public key of a key server as a file has it.
func publicKeyPEM(t testing.TB, s *gatewaytest.KeyServer) []byte {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(s.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
}
