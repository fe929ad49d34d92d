package issuers

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// The salt of a PSS signature is as long as the hash (RFC 7518, section 3.5).
func TestOtherSaltsAreRefused(t *testing.T) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "key.pem")
	testkit.WriteFile(t, file, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := gatewaytest.StartWith(t, authYAML(upstream.URL, fmt.Sprintf("public_key_file: %q\nalgorithms: [PS256, PS384, PS512]", file)))
	for alg, hash := range map[string]crypto.Hash{"PS256": crypto.SHA256, "PS384": crypto.SHA384, "PS512": crypto.SHA512} {
		for _, salt := range []int{hash.Size(), 20, 256 - 2 - hash.Size()} {
			plan := "free"
			if salt != hash.Size() {
				plan = ""
			}
			token := signToken(`{"alg":"`+alg+`"}`, `{"sub":"u"}`, func(message []byte) []byte {
				digest := hash.New()
				digest.Write(message)
				signature, err := rsa.SignPSS(rand.Reader, key, hash, digest.Sum(nil), &rsa.PSSOptions{SaltLength: salt})
				if err != nil {
					t.Fatal(err)
				}
				return signature
			})
			wantUsage(t, g.URL, token, plan)
		}
	}
}

// A secret that is shorter than the hash of its algorithm (RFC 7518, section 3.2) is refused
// before the gateway serves.
func TestShortSecretIsRefused(t *testing.T) {
	for _, c := range []struct {
		bytes     int
		algorithm string
		want      string // empty: it is accepted
	}{
		{47, "HS384", "must have at least 48 bytes for HS384, got 47; make one with: openssl rand -hex 48"},
		{48, "HS384", ""},
		{63, "HS512", "must have at least 64 bytes for HS512, got 63; make one with: openssl rand -hex 64"},
		{64, "HS512", ""},
	} {
		file := filepath.Join(t.TempDir(), "gateway.yaml")
		testkit.WriteFile(t, file, authYAML("http://127.0.0.1:1", fmt.Sprintf("secret: %s\nalgorithms: [%s]", secret[:c.bytes], c.algorithm)))
		code, output := gatewaytest.Run(t, nil, "validate", "-config", file)
		if c.want == "" && code != 0 {
			t.Errorf("%s with %d bytes: exit status %d\n%s", c.algorithm, c.bytes, code, output)
		}
		if line := file + ":8: auth.jwt.secret: " + c.want; c.want != "" && (code != 2 || !strings.Contains(output, line)) {
			t.Errorf("%s with %d bytes: exit status %d, want the line %s\n%s", c.algorithm, c.bytes, code, line, output)
		}
	}
}
