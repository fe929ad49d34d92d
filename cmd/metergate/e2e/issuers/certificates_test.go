package issuers

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/quota/testkit"
)

// certificate returns a self-signed certificate of the issuer's RSA key.
func (i *issuer) certificate(t *testing.T) []byte {
	t.Helper()
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, i.rsa.Public(), i.rsa)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

// RFC 7517, section 4.7: some issuers publish a key only as a certificate. Some write null for a
// key without a name, in the key set and in tokens.
func TestKeysInCertificatesAndNullNames(t *testing.T) {
	key := newIssuer(t, func(i *issuer) []string {
		return []string{fmt.Sprintf(`{"kid":"c","kty":"RSA","use":"sig","x5t":"AAAA","x5c":[%q]}`, base64.StdEncoding.EncodeToString(i.certificate(t)))}
	})
	g := startFor(t, key, "RS256")
	wantUsage(t, g.URL, signToken(`{"alg":"RS256","kid":"c"}`, `{"sub":"u"}`, key.signRSA), "free")
	wantUsage(t, g.URL, signToken(`{"alg":"RS256","kid":null}`, `{"sub":"u"}`, key.signRSA), "free")
	wantUsage(t, g.URL, signToken(`{"alg":"RS256","kid":"d"}`, `{"sub":"u"}`, key.signRSA), "")
	wantUsage(t, g.URL, signToken(`{"alg":"RS256","kid":""}`, `{"sub":"u"}`, key.signRSA), "")

	key = newIssuer(t, func(i *issuer) []string { return []string{rsaJWK(i.rsa.N.Bytes(), `"kid":null,`)} })
	g = startFor(t, key, "RS256")
	wantUsage(t, g.URL, signToken(`{"alg":"RS256","kid":null}`, `{"sub":"u"}`, key.signRSA), "free")
}

// Firebase publishes its keys as certificates by their kids. They are kept up to date as those of
// a jwks_url are, and the query of the URL is shown nowhere.
func TestCertificatesByTheirNames(t *testing.T) {
	none := func(*issuer) []string { return nil }
	a, b := newIssuer(t, none), newIssuer(t, none)
	var text atomic.Value
	publish := func(kid string, of *issuer) {
		certificate := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: of.certificate(t)})
		data, err := json.MarshalIndent(map[string]string{kid: string(certificate)}, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		text.Store(string(data))
	}
	publish("a", a)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, text.Load().(string))
	}))
	t.Cleanup(server.Close)
	upstream := gatewaytest.StartUpstream(t, "ok")
	g := gatewaytest.StartWith(t, authYAML(upstream.URL, fmt.Sprintf("x509_url: \"%s/certs?key=planted-query\"\nalgorithms: [RS256]", server.URL)))
	var ready string
	testkit.EventuallyWithin(t, time.Minute, "the gateway is ready", func() (ok bool) {
		status, body := gatewaytest.Get(g.Admin+"/readyz", "")
		ready = body
		return status == 200
	})
	if !strings.Contains(ready, `"x509_url":"ok"`) {
		t.Errorf("/readyz: %s", ready)
	}
	token := signToken(`{"alg":"RS256","kid":"a"}`, `{"sub":"u"}`, a.signRSA)
	wantUsage(t, g.URL, token, "free")
	wantUsage(t, g.URL, signToken(`{"alg":"RS256","kid":"a"}`, `{"sub":"u"}`, b.signRSA), "")
	g.WaitForText(`the signature does not fit the key \"a\" of auth.jwt.x509_url`)

	// The first token of a new key makes the gateway ask, ten seconds after it has last asked.
	publish("b", b)
	testkit.EventuallyWithin(t, time.Minute, "the new key is in use", func() bool {
		status, _ := gatewaytest.Get(g.URL+"/usage", signToken(`{"alg":"RS256","kid":"b"}`, `{"sub":"u"}`, b.signRSA))
		return status == 200
	})
	wantUsage(t, g.URL, token, "")

	shown := gatewaytest.Administer(t, g.Process, "GET", "/admin/config", "")
	if !strings.Contains(shown, "?[redacted]") {
		t.Errorf("/admin/config: %s", shown)
	}
	if strings.Contains(shown+ready+g.Output(), "planted-query") {
		t.Error("the query of the URL is shown")
	}
}
