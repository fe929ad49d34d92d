package gatewaytest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"metergate/quota"
	"metergate/quota/testkit"
)

// A KeyPair is a self-signed certificate for 127.0.0.1, and its key.
type KeyPair struct {
	Cert, Key []byte // PEM
	Parsed    *x509.Certificate
}

// NewKeyPair makes a key pair whose certificate is valid between two times.
func NewKeyPair(t testing.TB, from, until time.Time) KeyPair {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "metergate test"},
		NotBefore: from, NotAfter: until,
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		KeyUsage:    x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return KeyPair{
		pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}),
		parsed,
	}
}

// ValidKeyPair makes a key pair that is valid now.
func ValidKeyPair(t testing.TB) KeyPair {
	return NewKeyPair(t, time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour))
}

// TLSLine turns TLS on in a configuration, with the files that [StartTLS] writes.
const TLSLine = "tls: { cert_file: cert.pem, key_file: key.pem }\n"

// A TLSGateway is a gateway with a TLS listener.
type TLSGateway struct {
	*Reloadable
	Pair KeyPair // that it started with
	Addr string  // HOST:PORT of the TLS listener
	Text string  // of the configuration that it started with
}

// StartTLS runs a gateway with [ReloadYAML], a limit of 100 and a key pair, in the files
// cert.pem and key.pem. edits are pairs of a text in the configuration and its
// replacement.
func StartTLS(t testing.TB, p KeyPair, upstream string, edits ...string) *TLSGateway {
	t.Helper()
	dir := t.TempDir()
	file := filepath.Join(dir, "gateway.yaml")
	g := &TLSGateway{Pair: p, Text: strings.NewReplacer(edits...).Replace(ReloadYAML(upstream, 100) + TLSLine)}
	testkit.WriteFile(t, file, g.Text)
	testkit.WriteFile(t, filepath.Join(dir, "cert.pem"), p.Cert)
	testkit.WriteFile(t, filepath.Join(dir, "key.pem"), p.Key)
	g.Reloadable = StartFile(t, nil, file)
	g.Addr = strings.TrimPrefix(g.URL, "http://")
	g.URL = "https://" + g.Addr
	return g
}

// Replace replaces a file beside the configuration.
func (g *TLSGateway) Replace(name string, data []byte) {
	g.T.Helper()
	ReplaceFile(g.T, filepath.Join(filepath.Dir(g.File), name), data)
}

// Certificate is the one that the gateway shows to a new connection.
func (g *TLSGateway) Certificate() *x509.Certificate {
	g.T.Helper()
	conn, err := tls.Dial("tcp", g.Addr, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		g.T.Fatal(err)
	}
	defer conn.Close()
	return conn.ConnectionState().PeerCertificates[0]
}

// Usage reads a user's usage with a client that trusts the gateway.
func (g *TLSGateway) Usage(client *http.Client, user string) (u quota.Usage) {
	g.T.Helper()
	res, body := Ask(g.T, client, "GET", g.URL+"/usage", testkit.Token(user, "free"), nil)
	if err := json.Unmarshal([]byte(body), &u); err != nil || res.StatusCode != 200 {
		g.T.Fatalf("GET /usage: %s, error %v: %s", res.Status, err, body)
	}
	return u
}

// TrustingClient returns a client that trusts p and nothing else, has connections of its
// own, and speaks HTTP/2 or HTTP/1.1.
func TrustingClient(t testing.TB, p KeyPair, http2 bool) *http.Client {
	roots := x509.NewCertPool()
	roots.AddCert(p.Parsed)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, Protocols: new(http.Protocols)}
	transport.Protocols.SetHTTP1(!http2)
	transport.Protocols.SetHTTP2(http2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: time.Minute}
}

// Ask sends a request and reads its response, which there has to be.
func Ask(t testing.TB, client *http.Client, method, url, token string, body io.Reader) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+token)
	res, err := client.Do(req)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	defer res.Body.Close()
	text, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, url, err)
	}
	return res, string(text)
}
