package config

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"metergate/proxy/apikeys"
	"metergate/quota"
)

// environment has the variables of the files in testdata.
func environment(name string) (string, bool) {
	v, ok := map[string]string{
		"LONG_SECRET":  "0123456789012345678901234567890123456789",
		"SHORT_SECRET": "hunter2",
		"EMPTY":        "",
		"N":            "5000",
		"WORD":         "many",
		"LIST":         "[a, b]",
		"STRUCTURE":    "x\nlisten: :1",
		"NULL":         "null",
		"DOLLARS":      "$$${N}",
		"ORIGIN":       "https://app.example.com",
	}[name]
	return v, ok
}

func parseFile(t *testing.T, file string) (*Config, error) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return Parse(file, data, environment)
}

// Each file in testdata/bad has its messages beside it.
func TestParseRefusesBadFilesWithTheirMessages(t *testing.T) {
	files, _ := filepath.Glob("testdata/bad/*.yaml")
	if len(files) < 35 {
		t.Fatalf("only %d files", len(files))
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			want, err := os.ReadFile(strings.TrimSuffix(file, ".yaml") + ".txt")
			if err != nil {
				t.Fatal(err)
			}
			cfg, err := parseFile(t, file)
			if err == nil || cfg != nil {
				t.Fatalf("accepted: %v, %v", cfg, err)
			}
			got := strings.ReplaceAll(err.Error(), "testdata/bad/", "") + "\n"
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if strings.Contains(got, "hunter2") {
				t.Error("shows a secret")
			}
		})
	}
}

var compare = []cmp.Option{
	cmp.Comparer(func(a, b *time.Location) bool { return a.String() == b.String() }),
	cmp.Comparer(func(a, b *url.URL) bool { return a.String() == b.String() }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b *apikeys.Set) bool { return slices.Equal(a.Keys(), b.Keys()) }),
	// Two different secrets are formatted alike.
	cmp.Transformer("text", func(s Secret) string { return string(s) }),
	cmpopts.IgnoreFields(Limit{}, "Line"), // see TestCostsThatCannotBePaid
}

func address(t *testing.T, s string) *url.URL {
	t.Helper()
	u, err := url.Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func digest(t *testing.T, files ...string) string {
	t.Helper()
	h := sha256.New()
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		h.Write(data)
	}
	return hex.EncodeToString(h.Sum(nil))
}

func TestParseFillsInDefaults(t *testing.T) {
	cfg, err := parseFile(t, "testdata/good/minimal.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Listen:          ":8080",
		ShutdownTimeout: 130 * time.Second,
		IdleTimeout:     2 * time.Minute,
		MaxInFlight:     MaxInFlight{Total: 10_000, Automatic: true, PerUser: 1000},
		Admin:           Admin{Listen: "127.0.0.1:9090"},
		Store: Store{
			URL: "embedded:testdata/good/data", Protocol: 3, Prefix: "metergate", Timeout: 250 * time.Millisecond,
			OnFailure: Allow, OnDataLoss: ContinueAfterLoss, Journal: "testdata/good/data/journal", Keep: 400 * 24 * time.Hour,
		},
		Auth: Auth{JWT: []JWT{{
			Secret: "0123456789abcdef0123456789abcdef", Algorithms: []string{"HS256"}, Leeway: 5 * time.Second,
			Claims: Claims{User: "sub", Plan: "plan"},
		}}},
		DefaultPlan: "free",
		Plans:       map[string]Plan{"free": {}},
		Timezone:    time.UTC,
		WarnAt:      80,
		Upstreams: map[string]Upstream{"api": {
			Targets: []Target{{URL: address(t, "http://127.0.0.1:9000"), Weight: 1}}, Balance: LeastInFlight,
			Eject: Eject{ConnectFailures: 3, For: 10 * time.Second}, Host: HostTarget,
			Timeout: 2 * time.Minute, IdleTimeout: 90 * time.Second, MaxConnectionAge: time.Minute, MaxBody: 33554432,
		}},
		Routes: []Route{{Match: "/", Upstream: "api", Timeout: 2 * time.Minute, MaxBody: 33554432, Line: 7}},
		Log:    Log{Level: slog.LevelInfo, Format: "json", User: LogPlain, SampleSuccesses: 1},
		Files:  []string{"testdata/good/minimal.yaml"},
	}
	if diff := cmp.Diff(want, cfg, compare...); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if dir, ok := cfg.Store.Embedded(); !ok || dir != "testdata/good/data" {
		t.Errorf("Embedded() = %q, %v", dir, ok)
	}
}

// keysOfEverything are those of testdata/keys.txt.
func keysOfEverything(t *testing.T) *apikeys.Set {
	t.Helper()
	file, err := os.Open("testdata/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	keys, faults, err := apikeys.Read(file, func(string) bool { return true })
	if err != nil || len(faults) > 0 || len(keys.Keys()) != 2 {
		t.Fatal(keys.Keys(), faults, err)
	}
	return keys
}

func TestParseReadsEveryKey(t *testing.T) {
	cfg, err := parseFile(t, "testdata/good/everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	zone, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Fatal(err)
	}
	want := &Config{
		Listen:          "[::1]:0",
		ShutdownTimeout: 90 * time.Second,
		ShutdownDelay:   10 * time.Second,
		IdleTimeout:     24 * time.Hour,
		TLS: &TLS{CertFile: "testdata/tls/client.pem", KeyFile: "testdata/tls/client.key",
			Digest: digest(t, "testdata/tls/client.pem", "testdata/tls/client.key")},
		TrustedProxies: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.7/32"),
			netip.MustParsePrefix("2001:db8::/32"), netip.MustParsePrefix("::1/128")},
		ProxyProtocol: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), {}},
		MaxInFlight:   MaxInFlight{Total: 1_000_000},
		Admin:         Admin{Listen: "localhost:9091", Token: "0123456789abcdef"},
		Store: Store{
			URL: "rediss://user:p%23ss@redis.example:6380/3",
			TLS: &ClientTLS{
				CAFile: "testdata/tls/ca.pem", CertFile: "testdata/tls/client.pem", KeyFile: "testdata/tls/client.key",
				ServerName: "10.0.0.1",
				Digest:     digest(t, "testdata/tls/ca.pem", "testdata/tls/client.pem", "testdata/tls/client.key"),
			},
			Protocol: 2, Prefix: "a.b:c_d-e", Timeout: time.Second,
			OnFailure: Deny, OnDataLoss: DenyAfterLoss, Journal: "/var/lib/metergate/journal", Keep: 36 * time.Hour,
		},
		History: &History{Keep: 400 * 24 * time.Hour},
		Billing: &Billing{Keep: 35 * 24 * time.Hour},
		Notify: &Notify{URL: "https://hooks.example:8443/metergate?p=1", At: []int{1000, 1},
			Secret: "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE= whsec_b2xkb2xkb2xkb2xkb2xkb2xkb2xkb2xk"},
		Tracing: &Tracing{URL: "https://collector.example:4318/otlp/", Sample: 1, Service: "shop/gateway",
			Headers: "authorization=Bearer%20a%2Cb,x-tenant=shop", Timeout: 100 * time.Millisecond,
			TLS: &ClientTLS{CAFile: "testdata/tls/ca.pem", Digest: digest(t, "testdata/tls/ca.pem")}},
		Auth: Auth{JWT: []JWT{{
			Name: "app_1", Secret: "from-a-file-0123456789abcdef0123456789abcdef0123456789abcdef0123", PublicKeyFile: "testdata/key.pem",
			JWKSURL:    "https://issuer.example:8443/keys?p=1",
			Algorithms: []string{"HS512", "ES256", "RS256"}, Type: "application/at+jwt", Issuer: "https://issuer.example", Audience: "analysis",
			Claims:         Claims{User: "app.user.id", Plan: `https://example\.com/app.plan`, Org: "org_id", Anchor: "app.since"},
			Plans:          ClaimPlans{{"*", "none"}, {"gold", "pro"}, {"7", "also_PRO-2"}, {"true", "pro"}},
			Require:        map[string][]string{"azp": {"web", "7", "true"}, `https://a\.b/c`: {"x"}},
			UserFromNumber: true,
		}}, Cookie: &Cookie{Name: "__Host-session", Origins: []string{"https://app.example.com", "http://localhost:5173"}},
			QueryParam: "access_token",
			APIKeys:    &APIKeys{File: "testdata/keys.txt", Keys: keysOfEverything(t)}},
		DefaultPlan: "pro",
		Plans:       plansOfEverything(),
		Timezone:    zone,
		WarnAt:      100,
		UpgradeURL:  "https://example.com/pricing?from=api",
		Upstreams:   upstreamsOfEverything(t),
		Routes:      routesOfEverything(),
		CORS: &CORS{
			AllowedOrigins:   []string{"https://app.example.com", "http://localhost:5173", "http://[::1]", "capacitor://localhost"},
			AllowCredentials: true,
		},
		Log: Log{Level: slog.LevelWarn, Format: "text", User: LogHash, SampleSuccesses: 0.25},
		Files: []string{"testdata/good/everything.yaml", "testdata/signing.txt", "testdata/secret.txt", "testdata/tls/client.pem", "testdata/tls/client.key",
			"testdata/tls/ca.pem", "testdata/tls/client.pem", "testdata/tls/client.key", "testdata/tls/ca.pem",
			"testdata/keys.txt", "testdata/key.pem", "testdata/tls/ca.pem", "testdata/tls/client.pem", "testdata/tls/client.key"},
	}
	if diff := cmp.Diff(want, cfg, compare...); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if dir, ok := cfg.Store.Embedded(); ok {
		t.Errorf("Embedded() = %q, true", dir)
	}
}

// The next functions return what testdata/good/everything.yaml says.

func plansOfEverything() map[string]Plan {
	limits := []Limit{
		{Requests: new(int64(5000)), Per: quota.Month},
		{Requests: new(int64(0)), Per: quota.Month, Endpoint: "image-analysis"},
		{Requests: new(int64(1)), Per: quota.Minute}, {Requests: new(int64(2)), Per: quota.Hour}, {Requests: new(int64(3)), Per: quota.Day, Carry: "1"},
		{Requests: new(int64(4)), Per: quota.Week}, {Requests: new(int64(1_000_000_000_000)), Per: quota.Year},
	}
	return map[string]Plan{
		"pro":        {Limits: limits, Attempts: &Attempts{Requests: 10000, Per: "second"}, Observe: true},
		"also_PRO-2": {Limits: limits, Attempts: &Attempts{Requests: 10000, Per: "second"}, Observe: true},
		"none": {Anchor: "claim", UpgradeURL: "http://127.0.0.1:8080/upgrade?from=none", Limits: []Limit{}, Attempts: &Attempts{Requests: 1, Per: "day"}, Shared: []Limit{
			{Requests: new(int64(0)), Per: quota.Month, Endpoint: "image-analysis"}, {Units: new(int64(9)), Per: quota.Month, Soft: true}, {Units: new(int64(9)), Per: quota.Ever},
			{Units: new(int64(9)), Per: quota.Day, Carry: "all"},
		}},
	}
}

func upstreamsOfEverything(t *testing.T) map[string]Upstream {
	t.Helper()
	return map[string]Upstream{
		"analysis": {
			Targets: []Target{
				{URL: address(t, "https://api.example:8443/v1/"), Weight: 1},
				{URL: address(t, "http://api.example:8443/v1/"), Weight: 1000},
				{URL: address(t, "https://api.example:8443/v2/")},
			},
			Balance: RoundRobin,
			Health:  &Health{Path: "/healthz/%C3%A4/", Interval: 100 * time.Millisecond, Timeout: 10 * time.Millisecond},
			Eject:   Eject{ConnectFailures: 100, ServerErrors: 1000, For: time.Hour},
			TLS: &ClientTLS{
				CAFile: "testdata/tls/ca.pem", CertFile: "testdata/tls/client.pem", KeyFile: "testdata/tls/client.key",
				ServerName: "api.internal",
				Digest:     digest(t, "testdata/tls/ca.pem", "testdata/tls/client.pem", "testdata/tls/client.key"),
			},
			Host: "api.internal:8443", Timeout: time.Hour, IdleTimeout: 100 * time.Millisecond, MaxConnectionAge: time.Second, MaxBody: 2_000_000,
		},
		"unused": {
			Targets: []Target{{URL: address(t, "http://[::1]:9000"), Weight: 1}}, Balance: LeastInFlight,
			Health: &Health{Path: "/", Interval: time.Second, Timeout: time.Second},
			Eject:  Eject{ConnectFailures: 1, For: 10 * time.Second}, Host: HostClient,
			Timeout: 1500 * time.Millisecond, IdleTimeout: 90 * time.Second, MaxConnectionAge: time.Minute, MaxBody: 1 << 30,
		},
	}
}

func routesOfEverything() []Route {
	return []Route{
		{Match: "POST /api/image-analysis", Endpoint: "image-analysis", Upstream: "analysis",
			Timeout: time.Hour, MaxBody: 2_000_000, Observe: true, Line: 93},
		{Match: "/api/", Upstream: "analysis", Timeout: time.Millisecond, MaxBody: 1, StripPrefix: "/api", Upgrade: true,
			UserHeader: "X-User", PlanHeader: "X-Plan", DropAuthorization: true, KeepCookie: true, Line: 94},
		{Match: "GET example.com/api/{id}/{$}", Upstream: "analysis", Public: true,
			Timeout: time.Hour, MaxBody: 2_000_000, Line: 105},
		{Match: "GET /gr%C3%B6%C3%9Fe/a%20b", Upstream: "unused", StripPrefix: "/gr%C3%B6%C3%9Fe/a%20b",
			Timeout: 1500 * time.Millisecond, MaxBody: 1 << 30, Line: 112},
		{Match: "PURGE /usages/{rest...}", Upstream: "analysis", Timeout: time.Hour, MaxBody: 2_000_000, Line: 113},
	}
}

func TestParseExpandsVariablesInValuesOnly(t *testing.T) {
	cfg, err := parseFile(t, "testdata/good/variables.yaml")
	if err != nil {
		t.Fatal(err)
	}
	jwt := cfg.Auth.JWT[0]
	for _, c := range []struct{ what, got, want string }{
		{"a number in a text", string(jwt.Secret), "0123456789012345678901234567890123456789"},
		{"lines in a text", jwt.Issuer, "x\nlisten: :1"},
		{"null and an empty text", jwt.Audience, "null"},
		{"dollars", jwt.Claims.User, "a$b$${N}$c$"},
		{"a variable is not expanded again", jwt.Claims.Plan, "$$${N}"},
		{"several in one", cfg.Listen, "localhost:5000"},
		{"empty", cfg.UpgradeURL, ""},
		{"in a list", cfg.CORS.AllowedOrigins[0], "https://app.example.com"},
		{"in a pattern", cfg.Routes[0].Match, "GET /items/{$}"},
	} {
		if c.got != c.want {
			t.Errorf("%s: got %q, want %q", c.what, c.got, c.want)
		}
	}
	api := cfg.Upstreams["api"]
	if cfg.Admin.Token != "" || api.Targets[0].Weight != 7 || *api.TLS != (ClientTLS{}) || api.Host != HostClient || api.MaxBody != 3072 {
		t.Errorf("the token is %q, the upstream %+v", string(cfg.Admin.Token), api)
	}
	if r := cfg.Routes[0]; !r.Upgrade || r.UserHeader != "X-User" || r.MaxBody != 3072 {
		t.Errorf("the route is %+v", r)
	}
	want := []Limit{{Requests: new(int64(5000)), Per: quota.Month}, {Requests: new(int64(5)), Per: quota.Day}, {Requests: new(int64(50007)), Per: quota.Hour}}
	if diff := cmp.Diff(want, cfg.Plans["free"].Limits, compare...); diff != "" {
		t.Error(diff)
	}
	if cfg.Store.Timeout != 5*time.Second || !cfg.CORS.AllowCredentials {
		t.Errorf("timeout %v, credentials %v", cfg.Store.Timeout, cfg.CORS.AllowCredentials)
	}
}

func TestShippedFileIsValid(t *testing.T) {
	t.Setenv("JWT_SECRET", strings.Repeat("5f", 32))
	t.Setenv("REDIS_URL", "")
	t.Setenv("METERGATE_ADMIN_TOKEN", "")
	t.Setenv("UPSTREAM_URL", "")
	cfg, err := Load("../gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if cfg.Listen != ":8080" || cfg.Admin.Listen != "127.0.0.1:9090" || cfg.Admin.Token != "" || cfg.DefaultPlan != "free" || len(cfg.Plans) != 3 || len(cfg.Routes) != 7 {
		t.Errorf("got %+v", cfg)
	}
	if dir, ok := cfg.Store.Embedded(); !ok || dir != "../data" {
		t.Errorf("embedded store in %q, %v", dir, ok)
	}
	t.Setenv("REDIS_URL", "redis://127.0.0.1:6379")
	if cfg, err = Load("../gateway.yaml"); err != nil || cfg.Store.URL != "redis://127.0.0.1:6379" {
		t.Errorf("with REDIS_URL: %v", err)
	}
}

func TestShippedFileCommentsOutValidKeys(t *testing.T) {
	data, err := os.ReadFile("../gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	commented := regexp.MustCompile(`(?m)^( *)# ([a-z_]+: |- \{)`)
	if n := len(commented.FindAll(data, -1)); n < 10 {
		t.Fatalf("only %d", n)
	}
	_, err = Parse("../gateway.yaml", commented.ReplaceAll(data, []byte("$1$2")), func(name string) (string, bool) {
		v, ok := map[string]string{"JWT_SECRET": strings.Repeat("5f", 32), "WEBHOOK_SECRET": "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz"}[name]
		return v, ok
	})
	var faults Errors
	if !errors.As(err, &faults) {
		t.Fatal("its files are there")
	}
	for _, fault := range faults {
		if !strings.HasSuffix(fault.Path, "_file") && fault.Path != keyFilePath && !strings.Contains(fault.Message, "is only for") && !strings.Contains(fault.Message, "is for none of") {
			t.Error(fault)
		}
	}
}

func TestLoadFailsWithoutAReadableFile(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, make([]byte, 1<<20+1), 0o600); err != nil {
		t.Fatal(err)
	}
	missing := filepath.Join(dir, "missing.yaml")
	if _, err := Load(missing); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("missing: %v", err)
	}
	for _, file := range []string{dir, large} {
		var faults Errors
		if cfg, err := Load(file); err == nil || cfg != nil || errors.As(err, &faults) {
			t.Errorf("%s: %v, %v", file, cfg, err)
		}
	}
}

func TestTracingEndpointAndHeaders(t *testing.T) {
	for url, want := range map[string]string{
		"http://collector:4318":               "http://collector:4318/v1/traces",
		"http://collector:4318/":              "http://collector:4318/v1/traces",
		"https://api.example/otlp":            "https://api.example/otlp/v1/traces",
		"https://api.example/otlp/v1/traces":  "https://api.example/otlp/v1/traces",
		"https://api.example/otlp/v1/traces/": "https://api.example/otlp/v1/traces",
	} {
		if got := (&Tracing{URL: url}).Endpoint(); got != want {
			t.Errorf("%s: %s, want %s", url, got, want)
		}
	}
	got := (&Tracing{Headers: " authorization = Bearer%20a%2Cb+c , x-tenant=shop=1,"}).RequestHeaders()
	if diff := cmp.Diff(http.Header{"Authorization": {"Bearer a,b+c"}, "X-Tenant": {"shop=1"}}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	for _, text := range []string{"a", "a=%zz", "a b=c", "=c", "a=%0d%0ab: c", "host=x", "a=1,A=2"} {
		if err := checkTraceHeaders(text); err == nil || strings.Contains(err.Error(), "%zz") {
			t.Errorf("%q: %v", text, err)
		}
	}
	port := &Config{Tracing: &Tracing{URL: "http://collector:4317"}}
	if got := port.tracingWarnings(); len(got) != 1 || !strings.Contains(got[0], "4318") {
		t.Errorf("%q", got)
	}
}
