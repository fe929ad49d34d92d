package config

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
)

// checkTLS checks the certificate of the public listener.
func (c *checker) checkTLS() {
	t := c.cfg.TLS
	if t == nil || !c.usable("tls") {
		return
	}
	if certificate, key := c.keyPair("tls", &t.CertFile, &t.KeyFile); certificate != "" && key != "" {
		t.Digest = fmt.Sprintf("%x", sha256.Sum256([]byte(certificate+key)))
	}
}

// Certificate reads the files. The certificate that it returns has its Leaf set. There is an
// error only if a file has changed since it was checked.
func (t *TLS) Certificate() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
	if err != nil {
		return nil, fmt.Errorf("cert_file and key_file: %w", err)
	}
	return &pair, nil
}

// ClientTLS is how the gateway speaks TLS to servers: to the targets of an upstream, or to Redis.
type ClientTLS struct {
	// A PEM file with the certificates of the authorities to trust instead of the system's. At
	// most 1 MiB.
	CAFile string `yaml:"ca_file"`
	// A PEM file with the certificate that the gateway shows to servers, followed by the
	// intermediate certificates. It needs key_file. Default: the gateway shows none.
	CertFile string `yaml:"cert_file"`
	// A PEM file with the private key of that certificate, without a password. It needs
	// cert_file.
	KeyFile string `yaml:"key_file"`
	// The name or IP address that the servers' certificates must have, which is also the name
	// that the servers are asked for (SNI). Default: the host that the gateway connects to.
	ServerName string `yaml:"server_name" as:"servername"`
	// Digest is the SHA-256 of the content of all files when they were checked, in
	// hexadecimal; empty without files. Two configurations differ when a file has changed.
	Digest string
}

// maxCABytes bounds a file of authorities. The authorities of a system take 220 KiB.
const maxCABytes = 1 << 20

// checkClientTLS checks the files at path.
func (c *checker) checkClientTLS(path string, t *ClientTLS) {
	authorities := c.pemFile(path+".ca_file", &t.CAFile, maxCABytes, checkCertificates)
	certificate, private := c.keyPair(path, &t.CertFile, &t.KeyFile)
	if all := authorities + certificate + private; all != "" {
		t.Digest = fmt.Sprintf("%x", sha256.Sum256([]byte(all)))
	}
}

// Client reads the files and returns the settings for a client. The name of the server is empty
// if none is given. A nil t gives nil, which stands for the defaults. There is an error only if
// a file has changed since it was checked.
func (t *ClientTLS) Client() (*tls.Config, error) {
	if t == nil {
		return nil, nil
	}
	cfg := &tls.Config{ServerName: t.ServerName, MinVersion: tls.VersionTLS12}
	if t.CAFile != "" {
		authorities, err := os.ReadFile(t.CAFile)
		if err != nil {
			return nil, fmt.Errorf("ca_file: %w", err)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(authorities) {
			return nil, errors.New("ca_file has no certificate")
		}
	}
	if t.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(t.CertFile, t.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("cert_file and key_file: %w", err)
		}
		cfg.Certificates = []tls.Certificate{pair}
	}
	return cfg, nil
}

// keyPair checks the files of a certificate and its private key, the keys cert_file and
// key_file below path. It resolves their names and returns their content, which is empty
// for an empty name and after a fault.
func (c *checker) keyPair(path string, certName, keyName *string) (certificate, private string) {
	cert, key := path+".cert_file", path+".key_file"
	certificate = c.pemFile(cert, certName, maxSmallBytes, checkCertificates)
	private = c.pemFile(key, keyName, maxSmallBytes, checkPrivateKey)
	switch {
	case *certName != "" && *keyName == "" && !c.src.failed[key]:
		c.src.reportAt(cert, "needs its private key too; give that as key_file")
	case *keyName != "" && *certName == "" && !c.src.failed[cert]:
		c.src.reportAt(key, "needs its certificate too; give that as cert_file")
	case certificate != "" && private != "":
		if _, err := tls.X509KeyPair([]byte(certificate), []byte(private)); err != nil {
			c.src.reportAt(key, "is not the key of the first certificate in cert_file; put the gateway's own certificate first, then the intermediate ones")
		}
	}
	return certificate, private
}

// pemFile returns the content of the file that the key at path names. It resolves the name,
// and reports an error of check. The content is empty for an empty name and after a fault.
func (c *checker) pemFile(path string, name *string, limit int64, check func([]byte) error) string {
	if !c.usable(path) || *name == "" {
		return ""
	}
	*name = resolvePath(c.dir, *name)
	c.src.files = append(c.src.files, *name)
	text, err := readFile(*name, limit)
	if err == nil {
		err = check([]byte(text))
	}
	if err != nil {
		c.src.reportAt(path, "%v", err) // the name is not shown: somebody may have pasted a key there
		return ""
	}
	return text
}

// checkCertificates checks that data is PEM with certificates and nothing else.
func checkCertificates(data []byte) error {
	n := 0
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			return errors.New("must be a file of certificates; this one has a private key")
		case block.Type != "CERTIFICATE":
			return errors.New("must be a file of certificates, each between BEGIN CERTIFICATE and END CERTIFICATE; this one has something else")
		}
		n++
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return fmt.Errorf("certificate %d of this file cannot be read (%v); copy it again, or ask its issuer", n, err)
		}
	}
	if n == 0 {
		return errors.New("has no PEM certificate; convert a binary file with: openssl x509 -inform der -in FILE")
	}
	return nil
}

// checkPrivateKey checks that data is PEM with a private key. Errors show nothing of it.
func checkPrivateKey(data []byte) error {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch {
		case block.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
			return errors.New("has a password, which the gateway cannot ask for; remove it with: openssl pkey -in FILE -out NEW, and protect that file")
		case strings.HasSuffix(block.Type, "PRIVATE KEY"):
			if !isPrivateKey(block.Bytes) {
				return errors.New("has a private key that cannot be read; it must be RSA, ECDSA or Ed25519, in PKCS #8, PKCS #1 or SEC 1")
			}
			return nil
		}
	}
	return errors.New("has no PEM private key; convert a binary file with: openssl pkey -inform der -in FILE")
}

func isPrivateKey(der []byte) bool {
	if _, err := x509.ParsePKCS8PrivateKey(der); err == nil {
		return true
	}
	if _, err := x509.ParsePKCS1PrivateKey(der); err == nil {
		return true
	}
	_, err := x509.ParseECPrivateKey(der)
	return err == nil
}
