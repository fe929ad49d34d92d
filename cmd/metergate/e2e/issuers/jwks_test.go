package issuers

import (
	"crypto"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// An issuer has a key of each of two kinds, and publishes what a test says.
type issuer struct {
	*httptest.Server
	rsa *rsa.PrivateKey
	ed  ed25519.PrivateKey
}

// newIssuer publishes the key set that keys writes.
func newIssuer(t *testing.T, keys func(i *issuer) []string) *issuer {
	t.Helper()
	i := &issuer{}
	var err error
	if i.rsa, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
		t.Fatal(err)
	}
	if _, i.ed, err = ed25519.GenerateKey(rand.Reader); err != nil {
		t.Fatal(err)
	}
	text := `{"keys":[` + strings.Join(keys(i), ",") + `]}`
	i.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, text) }))
	t.Cleanup(i.Close)
	return i
}

// rsaJWK writes an RSA key with an exponent of 65537, and with these members before it.
func rsaJWK(modulus []byte, members string) string {
	return fmt.Sprintf(`{%s"kty":"RSA","n":%q,"e":"AQAB"}`, members, encode(string(modulus)))
}

func (i *issuer) edJWK(members string) string {
	return fmt.Sprintf(`{%s"kty":"OKP","crv":"Ed25519","x":%q}`, members, encode(string(i.ed.Public().(ed25519.PublicKey))))
}

func (i *issuer) signRSA(message []byte) []byte {
	hash := sha256.Sum256(message)
	signature, err := rsa.SignPKCS1v15(nil, i.rsa, crypto.SHA256, hash[:])
	if err != nil {
		panic(err)
	}
	return signature
}

func (i *issuer) signEd(message []byte) []byte { return ed25519.Sign(i.ed, message) }

// startFor runs a gateway that takes the issuer's keys, and waits until it has them.
func startFor(t *testing.T, i *issuer, algorithms string) *gatewaytest.Reloadable {
	t.Helper()
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := gatewaytest.StartWith(t, authYAML(upstream.URL, fmt.Sprintf("jwks_url: %q\nalgorithms: [%s]", i.URL, algorithms)))
	testkit.EventuallyWithin(t, time.Minute, "the gateway is ready", func() bool {
		status, _ := gatewaytest.Get(g.Admin+"/readyz", "")
		return status == 200
	})
	return g
}

// RFC 7517, section 4.5: a kid is optional.
func TestKeysWithoutNames(t *testing.T) {
	key := newIssuer(t, func(i *issuer) []string { return []string{rsaJWK(i.rsa.N.Bytes(), "")} })
	g := startFor(t, key, "RS256, EdDSA")
	wantUsage(t, g.URL, signToken(`{"alg":"RS256"}`, `{"sub":"u"}`, key.signRSA), "free")
	wantUsage(t, g.URL, signToken(`{"alg":"RS256","kid":"k"}`, `{"sub":"u"}`, key.signRSA), "")
	wantUsage(t, g.URL, signToken(`{"alg":"EdDSA"}`, `{"sub":"u"}`, key.signEd), "")

	// Of two kinds of keys with names, a token without a name fits one.
	key = newIssuer(t, func(i *issuer) []string {
		return []string{rsaJWK(i.rsa.N.Bytes(), `"kid":"r",`), i.edJWK(`"kid":"e",`)}
	})
	g = startFor(t, key, "RS256, EdDSA")
	wantUsage(t, g.URL, signToken(`{"alg":"RS256"}`, `{"sub":"u"}`, key.signRSA), "free")
	wantUsage(t, g.URL, signToken(`{"alg":"EdDSA"}`, `{"sub":"u"}`, key.signEd), "free")

	// Of two of one kind, none is tried.
	key = newIssuer(t, func(i *issuer) []string {
		other, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			t.Fatal(err)
		}
		return []string{rsaJWK(i.rsa.N.Bytes(), `"kid":"r",`), rsaJWK(other.N.Bytes(), "")}
	})
	g = startFor(t, key, "RS256")
	wantUsage(t, g.URL, signToken(`{"alg":"RS256"}`, `{"sub":"u"}`, key.signRSA), "")
	wantUsage(t, g.URL, signToken(`{"alg":"RS256","kid":"r"}`, `{"sub":"u"}`, key.signRSA), "free")
}

// RFC 9864: Ed25519 is the new name of EdDSA with a key on that curve.
func TestEd25519ByBothNames(t *testing.T) {
	for _, published := range []string{"", `"alg":"EdDSA",`, `"alg":"Ed25519",`} {
		key := newIssuer(t, func(i *issuer) []string { return []string{i.edJWK(`"kid":"e",` + published)} })
		for algorithms, older := range map[string]string{"EdDSA": "free", "Ed25519": ""} {
			g := startFor(t, key, algorithms)
			wantUsage(t, g.URL, signToken(`{"alg":"Ed25519","kid":"e"}`, `{"sub":"u"}`, key.signEd), "free")
			wantUsage(t, g.URL, signToken(`{"alg":"EdDSA","kid":"e"}`, `{"sub":"u"}`, key.signEd), older)
		}
	}
}

// A key set may have 256 keys, RSA keys may have 16384 bits, and a fetch writes one line.
func TestKeySetsAreBounded(t *testing.T) {
	modulus := func(bits int) []byte { return new(big.Int).SetBit(big.NewInt(1), bits-1, 1).Bytes() }
	const good, changed = `"kid":"r",`, "the issuer's keys have changed"
	lines := func(g *gatewaytest.Reloadable) (found []string) {
		for line := range strings.Lines(g.Output()) {
			if strings.Contains(line, `"jwks_url":"`) {
				found = append(found, line)
			}
		}
		return found
	}

	key := newIssuer(t, func(i *issuer) []string {
		keys := []string{rsaJWK(i.rsa.N.Bytes(), good), rsaJWK(modulus(16384), `"kid":"16384",`), rsaJWK(modulus(16385), `"kid":"16385",`)}
		for len(keys) < 256 {
			keys = append(keys, fmt.Sprintf(`{"kid":"bad-%d","kty":"oct","k":"AAAA"}`, len(keys)))
		}
		return keys
	})
	g := startFor(t, key, "RS256")
	token := signToken(`{"alg":"RS256","kid":"r"}`, `{"sub":"u"}`, key.signRSA)
	wantUsage(t, g.URL, token, "free")
	found := lines(g)
	if len(found) != 1 || !strings.Contains(found[0], changed) || !strings.Contains(found[0], `"kids":["r","16384"]`) ||
		!strings.Contains(found[0], "16385: the RSA key has 16385 bits; it may have at most 16384") || !strings.Contains(found[0], "and 246 more") {
		t.Errorf("256 keys are logged as\n%s", strings.Join(found, ""))
	}

	key = newIssuer(t, func(i *issuer) []string {
		return append(slices.Repeat([]string{`{}`}, 256), rsaJWK(i.rsa.N.Bytes(), good))
	})
	upstream := gatewaytest.StartUpstream(t, "ok")
	g = gatewaytest.StartWith(t, authYAML(upstream.URL, fmt.Sprintf("jwks_url: %q\nalgorithms: [RS256]", key.URL)))
	g.WaitForText("more than 256 keys")
	if status, body := gatewaytest.Get(g.Admin+"/readyz", ""); status != 503 || !strings.Contains(body, "more than 256 keys") {
		t.Errorf("/readyz with 257 keys: %d %s", status, body)
	}
	if found := lines(g); len(found) != 1 {
		t.Errorf("257 keys are logged as\n%s", strings.Join(found, ""))
	}
}
