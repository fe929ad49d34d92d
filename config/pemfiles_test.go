package config

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

func TestCertificateReadsFilesAndDigestSeesChanges(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"client.pem", "client.key"} {
		data, err := os.ReadFile(filepath.Join("testdata/tls", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := fmt.Sprintf(base, "tls: { cert_file: client.pem, key_file: client.key }")
	parse := func() *TLS {
		cfg, err := Parse(filepath.Join(dir, "x.yaml"), []byte(text), environment)
		if err != nil {
			t.Fatal(err)
		}
		return cfg.TLS
	}
	settings := parse()
	got, err := settings.Certificate()
	if err != nil {
		t.Fatal(err)
	}
	if got.Leaf == nil || !bytes.Equal(got.Leaf.Raw, got.Certificate[0]) {
		t.Error("the leaf is not set")
	}
	if *parse() != *settings {
		t.Error("differs without a change")
	}
	file := filepath.Join(dir, "client.pem")
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, append(data, data...), 0o600); err != nil {
		t.Fatal(err)
	}
	if *parse() == *settings {
		t.Error("a change of a file is not seen")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if _, err := settings.Certificate(); err == nil {
		t.Error("no error without the file")
	}
}
