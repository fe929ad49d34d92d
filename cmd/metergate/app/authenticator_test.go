package app

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"go.uber.org/goleak"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/config"
)

// A reload that leaves auth alone keeps the verified tokens and the keys; any other
// change of auth does not. A hundred reloads leave nothing running.
func TestReloadsLeaveNoKeySets(t *testing.T) {
	upstream, a, b := newTarget(t), gatewaytest.StartKeyServer(t), gatewaytest.StartKeyServer(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	text := settings{upstream: upstream.URL, limit: 100, jwt: a.JWTSettings()}.yaml()
	load := func() (*config.Config, []string, error) {
		cfg, err := config.Parse(filepath.Join(dir, "gateway.yaml"), []byte(text), os.LookupEnv)
		return cfg, nil, err
	}
	app := New(Options{Config: parse(t, dir, text), Load: load, Log: slog.New(slog.DiscardHandler)})
	if err := app.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	auth := func() authenticator { return app.reloader.current.Load().auth }
	reload := func(jwt string) authenticator {
		t.Helper()
		text = settings{upstream: upstream.URL, limit: 5, jwt: jwt}.yaml()
		if _, err := app.Reload(); err != nil {
			t.Fatal(err)
		}
		return auth()
	}
	before := auth()
	if now := reload(a.JWTSettings()); now.verifier != before.verifier || !slices.Equal(now.keySets(), before.keySets()) {
		t.Error("a reload of a plan forgot the verified tokens or the keys")
	}
	if now := reload(a.JWTSettings() + ", audience: x"); now.verifier == before.verifier || !slices.Equal(now.keySets(), before.keySets()) {
		t.Error("a reload of another audience kept the verified tokens, or forgot the keys")
	}
	for n := range 100 {
		last := auth()
		now := reload([]*gatewaytest.KeyServer{b, a}[n%2].JWTSettings())
		if now.verifier == last.verifier || slices.Equal(now.keySets(), last.keySets()) || now.waiting() != nil {
			t.Fatal("after a reload of another URL the keys are the previous ones, or missing")
		}
	}
	// Nor does a reload that is refused leave anything running.
	b.Down.Store(true)
	text = settings{upstream: upstream.URL, limit: 5, jwt: b.JWTSettings()}.yaml()
	if _, err := app.Reload(); err == nil {
		t.Error("a reload to a key server that is down succeeded")
	}
	if err := app.Stop(); err != nil {
		t.Error(err)
	}
	http.DefaultClient.CloseIdleConnections()
}

// The file of a public key can change under its name.
func TestAuthenticatorNoticesAnotherKeyInTheSameFile(t *testing.T) {
	dir := t.TempDir()
	cfg := func(key *gatewaytest.KeyServer) *config.Config {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, "key.pem"), publicKeyPEM(t, key), 0o600); err != nil {
			t.Fatal(err)
		}
		return parse(t, dir, settings{upstream: "http://127.0.0.1:9", limit: 5, jwt: "public_key_file: key.pem, algorithms: [ES256]"}.yaml())
	}
	log := slog.New(slog.DiscardHandler)
	a, b := gatewaytest.StartKeyServer(t), gatewaytest.StartKeyServer(t)
	first := &generation{cfg: cfg(a)}
	var err error
	if first.auth, err = buildAuthenticator(context.Background(), first.cfg, nil, log); err != nil {
		t.Fatal(err)
	}
	if same, err := buildAuthenticator(context.Background(), cfg(a), first, log); err != nil || same.verifier != first.auth.verifier {
		t.Errorf("the same key: another verifier, %v", err)
	}
	if other, err := buildAuthenticator(context.Background(), cfg(b), first, log); err != nil || other.verifier == first.auth.verifier {
		t.Errorf("another key: the same verifier, %v", err)
	}
}
