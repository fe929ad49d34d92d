package config

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"
)

const planted = "hunter2-hunter2-hunter2-hunter2-hunter2"

func TestPrintingAConfigShowsNoSecrets(t *testing.T) {
	cfg, err := Parse("x.yaml", []byte(`
auth: { jwt: { secret: "${SECRET}" } }
admin: { token: "${SECRET}" }
store: { url: "redis://:${SECRET}@localhost:6379" }
default_plan: free
plans: { free: {} }
upstreams:
  api:
    targets: [{ url: "https://127.0.0.1:9000" }]
    tls: { cert_file: testdata/tls/client.pem, key_file: testdata/tls/client.key }
routes: [{ match: /, upstream: api }]
`), func(string) (string, bool) { return planted, true })
	if err != nil {
		t.Fatal(err)
	}
	if string(cfg.Auth.JWT[0].Secret) != planted || string(cfg.Store.URL) != "redis://:"+planted+"@localhost:6379" {
		t.Fatal("the secrets themselves are not there")
	}
	var out bytes.Buffer
	for _, v := range []any{cfg, *cfg, cfg.Auth, cfg.Upstreams["api"].TLS, cfg.Auth.JWT[0].Secret, &cfg.Auth.JWT[0].Secret, []Secret{cfg.Store.URL}} {
		fmt.Fprintf(&out, "%v %+v %#v %s %q %x %d %t\n", v, v, v, v, v, v, v, v)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "value", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "value", v)
	}
	for _, marshal := range []func(any) ([]byte, error){json.Marshal, yaml.Marshal} {
		data, err := marshal(cfg.Store)
		if err != nil || !bytes.Contains(data, []byte("[redacted]")) {
			t.Errorf("marshalled: %s, %v", data, err)
		}
		auth, err := marshal(cfg.Auth)
		if err != nil {
			t.Error(err)
		}
		out.Write(data)
		out.Write(auth)
	}
	whole, err := json.Marshal(cfg)
	if err != nil {
		t.Error(err)
	}
	out.Write(whole)
	pem, err := os.ReadFile("testdata/tls/client.key")
	if err != nil {
		t.Fatal(err)
	}
	key := strings.Split(string(pem), "\n")[1]
	for _, form := range []string{"hunter2", fmt.Sprintf("%x", "hunter2"), fmt.Sprintf("%X", "hunter2"), key} {
		if strings.Contains(out.String(), form) {
			t.Errorf("%q in:\n%s", form, out.String())
		}
	}
	if s := fmt.Sprint(Secret("")); s != "" {
		t.Errorf("an empty secret is %q", s)
	}
}

// Whatever is wrong with a secret or with a value beside it, no error shows the secret.
func TestErrorsShowNoSecrets(t *testing.T) {
	values := []string{
		"X", `"X"`, "${S}", `"${S}"`, "[X]", "{X: 1}", "{a: X}", "X: 1", "*X", "&X", "!X", "!!int X", "@X", "%X", "|X", "`X", "- X",
		`"\qX"`, `"X`, "${X", "${X-}", "${X:-${Y}}", "${NOT_SET}${S}", "$${S}${", "redis://:X@h:port", "redis://u:X/@h", "redis+cluster://:X@h",
		`"redis+cluster://h:1,X"`, "redis+cluster://X/y@h:1", "redis+cluster://:X%@h:1", "redis+cluster://X@", "redis+cluster:X",
		"redis+sentinel://:X@h:1", "redis+sentinel://:X@h:1/main/X", "redis+sentinel://:X@h:1/main?X",
		"X://h", "unix://X/y", "redis://h?X=1", "redis://:X?@h", "unix:///y?X", "unix:///y#X", "embedded://X", "redis://h/X", "redis://X/a/b", "rediss://h:6379#X", "http://X@h", "http://u:X@h:1x", "-1X",
	}
	// Each of these is followed by a value.
	fields := []string{
		"auth: { jwt: { secret: ", "auth: { jwt: { secret_file: ", "store: { url: ", "store: { url_file: ",
		"admin: { token: ", "admin: { token_file: ", "admin: { token: 0123456789abcdef, viewer_token: ", "upstreams: { api: { tls: { key_file: ",
		"notify: { secret: ", "notify: { secret_file: ", "notify:\n  secret: ",
		"tracing: { headers: ", "tracing: { headers_file: ", "tracing: { headers: a=", "tracing:\n  headers: ",
		"auth:\n  jwt:\n    secret: ", "auth:\n  jwt:\n    secret_file: ", "store:\n  url: ", "store:\n  url_file: ",
	}
	beside := "\nlisten: ${S}\nwarn_at: ${S}\nupgrade_url: http://u:${S}@\nstore2: ${S}\ntimezone: ${S}\ndefault_plan: ${S}\n"
	for _, secret := range []string{"hunter2", planted} {
		for _, f := range fields {
			for _, v := range values {
				text := f + strings.ReplaceAll(v, "X", secret)
				if open := strings.Count(f, "{"); open > 0 {
					text += strings.Repeat(" }", open)
				}
				text += beside
				cfg, err := Parse("x.yaml", []byte(text), func(name string) (string, bool) { return secret, name == "S" })
				var faults Errors
				if cfg != nil || !errors.As(err, &faults) {
					t.Fatalf("%s\naccepted: %v", text, err)
				}
				if strings.Contains(err.Error(), "hunter2") {
					t.Errorf("%s\nshown:\n%v", text, err)
				}
			}
		}
	}
}
