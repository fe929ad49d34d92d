package config

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestRedactedIsTheConfigurationWithoutSecrets(t *testing.T) {
	files, _ := filepath.Glob("testdata/good/*.yaml")
	for _, file := range append(files, "../gateway.yaml") {
		t.Run(filepath.Base(file), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want, err := Parse(file, data, func(name string) (string, bool) {
				if name == "JWT_SECRET" {
					return planted, true
				}
				return environment(name)
			})
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(want.Redacted())
			if err != nil {
				t.Fatal(err)
			}
			signing := want.Auth.JWT[0].Secret
			if len(want.Auth.JWT) > 1 {
				signing = want.Auth.JWT[1].Secret
			}
			for _, secret := range []Secret{signing, want.Admin.Token, want.Store.URL} {
				if secret != "" && strings.Contains(string(text), string(secret)) {
					t.Errorf("shows %q: %s", string(secret), text)
				}
			}
			// The secrets are put back as files.
			secrets := map[string]string{
				"secret": string(signing), "token": string(want.Admin.Token), "url": string(want.Store.URL),
			}
			if want.Tracing != nil {
				secrets["headers"] = string(want.Tracing.Headers)
				if strings.Contains(string(text), "Bearer") {
					t.Errorf("shows tracing.headers: %s", text)
				}
			}
			again := strings.ReplaceAll(string(text), "?[redacted]", "?p=1") // of jwks_url and notify.url
			if n := want.Notify; n != nil {
				if strings.Contains(string(text), string(n.Secret)) {
					t.Errorf("shows notify.secret: %s", text)
				}
				before, after, _ := strings.Cut(again, `"notify":`)
				again = before + `"notify":` + strings.Replace(after, `"[redacted]"`, `"`+string(n.Secret)+`"`, 1)
			}
			for key, secret := range secrets {
				name := filepath.Join(t.TempDir(), key)
				if err := os.WriteFile(name, []byte(secret), 0o600); err != nil {
					t.Fatal(err)
				}
				again = strings.ReplaceAll(again, `"`+key+`":"[redacted]"`, `"`+key+`_file":"`+name+`"`)
			}
			got, err := Parse("gateway.yaml", []byte(again), func(string) (string, bool) { return "", false })
			if err != nil {
				t.Fatalf("%v\n%s", err, again)
			}
			if diff := cmp.Diff(want, got, append(compare, cmpopts.EquateEmpty(), cmpopts.IgnoreFields(Config{}, "Files"), cmpopts.IgnoreFields(Route{}, "Line"), cmpopts.IgnoreFields(MaxInFlight{}, "Automatic"))...); diff != "" {
				t.Errorf("-file +shown:\n%s", diff)
			}
		})
	}
}
