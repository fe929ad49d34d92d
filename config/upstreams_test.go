package config

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestClientReadsFilesAndDigestSeesChanges(t *testing.T) {
	var none *ClientTLS
	if cfg, err := none.Client(); cfg != nil || err != nil {
		t.Errorf("of nothing: %v, %v", cfg, err)
	}
	dir := t.TempDir()
	for _, name := range []string{"ca.pem", "client.pem", "client.key"} {
		data, err := os.ReadFile(filepath.Join("testdata/tls", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.Replace(fmt.Sprintf(base, ""), `[{ url: "http://127.0.0.1:9000" }]`,
		`[{ url: "https://h" }], tls: { ca_file: ca.pem, cert_file: client.pem, key_file: client.key, server_name: api.internal }`, 1)
	parse := func() *ClientTLS {
		cfg, err := Parse(filepath.Join(dir, "x.yaml"), []byte(text), environment)
		if err != nil {
			t.Fatal(err)
		}
		return cfg.Upstreams["api"].TLS
	}
	settings := parse()
	client, err := settings.Client()
	if err != nil {
		t.Fatal(err)
	}
	if client.ServerName != "api.internal" || client.MinVersion != tls.VersionTLS12 || client.InsecureSkipVerify {
		t.Errorf("got %+v", client)
	}
	// The authority has signed the client's certificate, so it verifies it.
	leaf, err := x509.ParseCertificate(client.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: client.RootCAs, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}

	// No other authority is trusted.
	pem, err := os.ReadFile("testdata/tls/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	only := x509.NewCertPool()
	if !only.AppendCertsFromPEM(pem) || !client.RootCAs.Equal(only) {
		t.Error("trusts others too")
	}

	// The same files give equal settings, renewed files do not.
	if *parse() != *settings {
		t.Error("differs without a change")
	}
	ca := filepath.Join(dir, "ca.pem")
	data, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(ca, append(data, data...), 0o600); err != nil {
		t.Fatal(err)
	}
	if *parse() == *settings {
		t.Error("a change of a file is not seen")
	}
	if err := os.Remove(ca); err != nil {
		t.Fatal(err)
	}
	if _, err := settings.Client(); err == nil {
		t.Error("no error without the file")
	}
}

func TestShutdownTimeoutCoversLongestRequest(t *testing.T) {
	for _, c := range []struct {
		upstream, route, given string
		want                   time.Duration
	}{
		{"", "", "", 130 * time.Second},
		{", timeout: 5s", "", "", 15 * time.Second},
		{", timeout: 5s", ", timeout: 10m", "", 610 * time.Second},
		{", timeout: 10m", ", timeout: 5s", "", 610 * time.Second},
		{", timeout: 10m", "", "shutdown_timeout: 1s", time.Second},
	} {
		text := fmt.Sprintf(base, c.given)
		text = strings.Replace(text, "9000\" }]", "9000\" }]"+c.upstream, 1)
		text = strings.Replace(text, "upstream: api", "upstream: api"+c.route, 1)
		cfg, err := Parse("x.yaml", []byte(text), environment)
		if err != nil {
			t.Fatal(err)
		}
		if cfg.ShutdownTimeout != c.want {
			t.Errorf("%+v: got %v", c, cfg.ShutdownTimeout)
		}
	}
}
