package redistest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"path/filepath"
	"testing"
	"time"

	"metergate/quota/testkit"
)

// An Authority issues certificates to the servers and the clients of a test. Servers that get
// one speak TLS only, and ask for a client certificate of the same authority.
type Authority struct {
	// CAFile is a PEM file with the authority's certificate.
	CAFile string
	// Server is valid for 127.0.0.1 and localhost, and Client for no host.
	Server, Client KeyFiles

	t           testing.TB
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// KeyFiles are the PEM files of a certificate and its key.
type KeyFiles struct{ CertFile, KeyFile string }

// NewAuthority makes an authority with certificates that are valid now.
func NewAuthority(t testing.TB) *Authority {
	t.Helper()
	a := &Authority{t: t}
	var files KeyFiles
	files, a.certificate, a.key = a.issue(&x509.Certificate{
		Subject: pkix.Name{CommonName: "authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: time.Now().Add(48 * time.Hour),
	})
	a.CAFile = files.CertFile
	a.Server = a.Issue(time.Now().Add(24*time.Hour), "127.0.0.1", "localhost")
	a.Client = a.Issue(time.Now().Add(24 * time.Hour))
	return a
}

// Issue makes a certificate that is valid until a time, for names and IP addresses.
func (a *Authority) Issue(until time.Time, hosts ...string) KeyFiles {
	a.t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "issued"}, NotBefore: time.Now().Add(-48 * time.Hour), NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	for _, host := range hosts {
		if ip := net.ParseIP(host); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, host)
		}
	}
	files, _, _ := a.issue(template)
	return files
}

// issue makes a key and its certificate, which signs itself if there is no other yet.
func (a *Authority) issue(template *x509.Certificate) (KeyFiles, *x509.Certificate, *ecdsa.PrivateKey) {
	a.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, signer := a.certificate, a.key
	if parent == nil {
		parent, signer = template, key
	}
	template.SerialNumber = big.NewInt(time.Now().UnixNano())
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	dir := a.t.TempDir()
	files := KeyFiles{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	testkit.WriteFile(a.t, files.CertFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	testkit.WriteFile(a.t, files.KeyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
	return files, certificate, key
}

// ClientTLS returns the settings of a client that trusts the authority, and shows a certificate;
// without files it shows none.
func (a *Authority) ClientTLS(files KeyFiles) *tls.Config {
	a.t.Helper()
	config := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	config.RootCAs.AddCert(a.certificate)
	if files != (KeyFiles{}) {
		pair, err := tls.LoadX509KeyPair(files.CertFile, files.KeyFile)
		if err != nil {
			a.t.Fatal(err)
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

// settings are the lines of a server's configuration. Nodes of a cluster, replicas and Sentinels
// speak TLS with each other too.
func (a *Authority) settings() [][2]string {
	return [][2]string{
		{"tls-ca-cert-file", a.CAFile}, {"tls-cert-file", a.Server.CertFile}, {"tls-key-file", a.Server.KeyFile},
		{"tls-auth-clients", "yes"}, {"tls-replication", "yes"}, {"tls-cluster", "yes"},
	}
}

// StartTLS is Start for a server with TLS.
func StartTLS(t testing.TB, a *Authority, args ...string) *Server {
	t.Helper()
	return (&Server{t: t, authority: a, args: args}).launch(testkit.FreeAddress)
}
