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

// TestClient: what the files hold is what a client of the targets uses.
func TestClient(t *testing.T) {
	var none *UpstreamTLS
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
	parse := func() *UpstreamTLS {
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
	// The authority signed the client's certificate, and so verifies it.
	leaf, err := x509.ParseCertificate(client.Certificates[0].Certificate[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := leaf.Verify(x509.VerifyOptions{Roots: client.RootCAs, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		t.Error(err)
	}

	// And it is the only one.
	pem, err := os.ReadFile("testdata/tls/ca.pem")
	if err != nil {
		t.Fatal(err)
	}
	only := x509.NewCertPool()
	if !only.AppendCertsFromPEM(pem) || !client.RootCAs.Equal(only) {
		t.Error("trusts others too")
	}

	// The same files are the same settings; renewed ones are not.
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

// TestShutdownTimeout: the default is enough for the longest request.
func TestShutdownTimeout(t *testing.T) {
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

func TestCheckHost(t *testing.T) {
	for _, text := range []string{
		"target", "client", "api", "api.internal", "api.internal:8080", "10.0.0.1", "10.0.0.1:1", "[::1]", "[2001:db8::1]:65535", "client:80", "targets:80", "my_host",
	} {
		if err := checkHost(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "Target", "clients", "a b", "http://a", "a/b", "u@a", "a:", "a:0", "a:65536", "a:x", "::1", "[::1", "[a]", "[::1]x", "[fe80::1%eth0]", "a:1:2", "[10.0.0.1]", "a\r\nb",
	} {
		if checkHost(text) == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}

func TestCheckPath(t *testing.T) {
	for _, text := range []string{"/", "/a", "/a/", "/a/b;v=1", "/gr%C3%B6%C3%9Fe", "/a%20b", "/a%3Fb", "/!$&'()*+,;=:@[]~"} {
		if err := checkPath(text); err != nil {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, text := range []string{
		"", "a", "//", "/a//b", "/.", "/a/..", "/%2e", "/a;/..;x", "/;x", "/a%2Fb", `/a\b`, "/a%0Ab", "/a%C2%9Fb", "/%ff", "/%C3", "/a%", "/a%4", "/a?b", "/a#b",
		"/ö", "/%c3%b6", "/%41", "/a b", "/{a}", "/a|b",
	} {
		if checkPath(text) == nil {
			t.Errorf("%q: accepted", text)
		}
	}
}
