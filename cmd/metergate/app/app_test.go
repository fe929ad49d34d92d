package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"metergate/cmd/metergate/gatewaytest"
	"metergate/config"
	"metergate/quota/testkit"
)

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// get returns the status and the body of an answer.
func get(t *testing.T, url string) (int, string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res.StatusCode, string(body)
}

// requestsEnd waits until a server gets no more requests from health checks, which come
// every 100 ms. One that was sent before the gateway stopped may still arrive afterwards.
func requestsEnd(t *testing.T, what string, requests *atomic.Int64) {
	t.Helper()
	testkit.Eventually(t, "no more "+what, func() bool {
		before := requests.Load()
		time.Sleep(500 * time.Millisecond)
		return requests.Load() == before
	})
}

// Whatever makes a start fail, nothing goes on: no health checks, no fetches of keys, no
// goroutines, no lock on the store, no listener.
func TestStartThatFailsLeavesNothingRunning(t *testing.T) {
	upstream, keys := newTarget(t), gatewaytest.StartKeyServer(t)
	occupied, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer occupied.Close()
	freeAddr := testkit.FreeAddress(t)
	base := settings{upstream: upstream.URL, limit: 5, jwt: keys.JWTSettings(), health: "{ path: /health, interval: 100ms, timeout: 100ms }"}
	for name, c := range map[string]struct {
		change func(*settings)
		want   string
	}{
		"the public address is in use": {func(s *settings) { s.listen = occupied.Addr().String() }, "listen: "},
		"the admin address is in use":  {func(s *settings) { s.listen, s.admin = freeAddr, occupied.Addr().String() }, "admin.listen: "},
		"a key file is missing":        {func(s *settings) { s.jwt = "public_key_file: gone.pem, algorithms: [ES256]" }, "gone.pem"},
	} {
		t.Run(name, func(t *testing.T) {
			defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
			dir, s := t.TempDir(), base
			c.change(&s)
			os.WriteFile(filepath.Join(dir, "gone.pem"), publicKeyPEM(t, keys), 0o600)
			cfg := parse(t, dir, s.yaml())
			os.Remove(filepath.Join(dir, "gone.pem"))
			if err := New(Options{Config: cfg, Log: quiet()}).Start(t.Context()); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Fatalf("error %v, want one with %q", err, c.want)
			}
			requestsEnd(t, "health checks", &upstream.requests)
			requestsEnd(t, "fetches of keys", &keys.Requests)
			if conn, err := net.Dial("tcp", freeAddr); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("the public address still listens: %v", err)
				if err == nil {
					conn.Close()
				}
			}
			// The folder of the store is free again.
			s = settings{upstream: upstream.URL, limit: 5}
			again := New(Options{Config: parse(t, dir, s.yaml()), Log: quiet()})
			if err := again.Start(t.Context()); err != nil {
				t.Fatalf("a second start, without the fault: %v", err)
			}
			if err := again.Stop(); err != nil {
				t.Error(err)
			}
		})
	}
}

// An App can be embedded: it takes free ports, serves when Start returns, and stops
// without a trace.
func TestStartServesUntilStop(t *testing.T) {
	upstream, keys := newTarget(t), gatewaytest.StartKeyServer(t)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	defer http.DefaultClient.CloseIdleConnections()
	dir := t.TempDir()
	text := settings{upstream: upstream.URL, limit: 5, jwt: keys.JWTSettings(), health: "{ path: /health, interval: 100ms, timeout: 100ms }"}.yaml()
	file := filepath.Join(dir, "gateway.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	a := New(Options{Config: parse(t, dir, text), Log: quiet(), Load: func() (*config.Config, []string, error) { return config.LoadFiles(file) }})
	ctx, cancel := context.WithCancel(t.Context())
	if err := a.Start(ctx); err != nil {
		t.Fatal(err)
	}
	cancel() // it is for Start alone
	if status, body := get(t, "http://"+a.PublicAddr().String()+"/usage"); status != 401 {
		t.Errorf("/usage without a token: %d %s", status, body)
	}
	testkit.Eventually(t, "the gateway is ready, with its keys", func() bool {
		status, body := get(t, "http://"+a.AdminAddr().String()+"/readyz")
		return status == 200 && strings.Contains(body, `"jwks_url":"ok"`)
	})
	if err := a.Stop(); err != nil {
		t.Error(err)
	}
	if err := a.Stop(); err != nil {
		t.Errorf("a second Stop: %v", err)
	}
	if _, err := a.Reload(); !errors.Is(err, errStopping) {
		t.Errorf("a Reload after Stop: %v", err)
	}
	requestsEnd(t, "health checks", &upstream.requests)
}

// Stop does not wait for ever: requests that do not end are cut off, and everything else
// is stopped all the same.
func TestStopCutsOffRequestsThatDoNotEnd(t *testing.T) {
	arrived := make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		close(arrived)
		<-r.Context().Done()
	}))
	defer upstream.Close()
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	text := strings.Replace(settings{upstream: upstream.URL, limit: 5}.yaml(), "shutdown_timeout: 5s", "shutdown_timeout: 100ms", 1)
	a := New(Options{Config: parse(t, dir, text), Log: quiet()})
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", a.PublicAddr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprintf(conn, "GET /api/x HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer %s\r\n\r\n", testkit.Token("u", "free"))
	testkit.Receive(t, "the request reaches the upstream", arrived)
	began := time.Now()
	err = a.Stop()
	if err == nil || !strings.Contains(err.Error(), "stopping the public listener: requests were still running after 100ms") {
		t.Errorf("error %v", err)
	}
	if strings.Count(err.Error(), "\n") > 0 {
		t.Errorf("other clean-ups failed too: %v", err)
	}
	if took := time.Since(began); took > 20*time.Second { // the upstream's timeout would have ended the request
		t.Errorf("it took %v", took)
	}
	if again, err := openStore(parse(t, dir, text), quiet(), nil); err != nil {
		t.Errorf("the store is still open: %v", err)
	} else {
		again.Close()
	}
}

// All that can fail in a reload fails before anything live is touched.
func TestReloadThatFailsChangesNothing(t *testing.T) {
	upstream, keys := newTarget(t), gatewaytest.StartKeyServer(t)
	keys.Down.Store(true)
	dir := t.TempDir()
	good := settings{upstream: upstream.URL, limit: 5, health: "{ path: /health, interval: 100ms, timeout: 100ms }"}
	var text atomic.Value
	text.Store(good.yaml())
	a := New(Options{Config: parse(t, dir, good.yaml()), Log: quiet(), Load: func() (*config.Config, []string, error) {
		cfg, err := config.Parse(filepath.Join(dir, "gateway.yaml"), []byte(text.Load().(string)), os.LookupEnv)
		return cfg, nil, err
	}})
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer a.Stop()
	before := a.reloader.current.Load()
	unreached := newTarget(t)
	for name, bad := range map[string]string{
		"it cannot be parsed":           "listen: [",
		"it is invalid":                 settings{upstream: "ftp://host", limit: 5}.yaml(),
		"the last part cannot be built": settings{upstream: unreached.URL, limit: 7, jwt: keys.JWTSettings(), health: good.health}.yaml(),
	} {
		text.Store(bad)
		if _, err := a.Reload(); err == nil {
			t.Errorf("%s: it was reloaded", name)
		}
		if a.reloader.current.Load() != before {
			t.Errorf("%s: another generation is in force", name)
		}
	}
	checks := upstream.requests.Load()
	testkit.Eventually(t, "the health checks of the pool in force go on", func() bool { return upstream.requests.Load() > checks })
	if n := unreached.requests.Load(); n != 0 {
		t.Errorf("%d health checks of a configuration that is not in force", n)
	}
	text.Store(settings{upstream: upstream.URL, limit: 6}.yaml())
	if _, err := a.Reload(); err != nil || a.reloader.current.Load() == before {
		t.Errorf("a good configuration after bad ones: %v", err)
	}
}

// A reload changes the names for which the admin listener answers.
// While the file of API keys cannot be loaded, a key that was removed from it is good, and the log
// says so.
func TestReloadThatFailsSaysThatRemovedKeysStayValid(t *testing.T) {
	for _, withKeys := range []bool{true, false} {
		dir := t.TempDir()
		keys := filepath.Join(dir, "keys.yaml")
		if err := os.WriteFile(keys, []byte("[]\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		text := settings{upstream: newTarget(t).URL, limit: 5, dir: filepath.Join(dir, "data")}.yaml()
		if withKeys {
			text = strings.Replace(text, "auth: {", fmt.Sprintf("auth: { api_keys: { file: %q },", keys), 1)
		}
		var log bytes.Buffer
		a := New(Options{Config: parse(t, dir, text), Log: slog.New(slog.NewTextHandler(&log, nil)), Load: func() (*config.Config, []string, error) {
			return nil, nil, errors.New("a fault")
		}})
		if err := a.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		_, err := a.Reload()
		a.Stop()
		if err == nil {
			t.Fatal("the configuration was reloaded")
		}
		if got := strings.Contains(log.String(), "API keys that were removed from the file since then stay valid"); got != withKeys {
			t.Errorf("with keys: %v, and the log says %s", withKeys, log.String())
		}
	}
}

func TestReloadChangesAdminHosts(t *testing.T) {
	upstream, dir := newTarget(t), t.TempDir()
	text := settings{upstream: upstream.URL, limit: 5}.yaml()
	wanted := parse(t, dir, strings.Replace(text, "admin: { ", "admin: { hosts: [Gateway.example], ", 1))
	a := New(Options{Config: parse(t, dir, text), Log: quiet(), Load: func() (*config.Config, []string, error) { return wanted, nil, nil }})
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer a.Stop()
	status := func() int {
		req, err := http.NewRequest("GET", "http://"+a.AdminAddr().String()+"/livez", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = "gateway.example:9090"
		res, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		return res.StatusCode
	}
	if got := status(); got != 421 {
		t.Errorf("a name that is not configured: %d", got)
	}
	if _, err := a.Reload(); err != nil {
		t.Fatal(err)
	}
	if got := status(); got != 200 {
		t.Errorf("the name after a reload: %d", got)
	}
}
